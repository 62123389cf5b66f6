import pytest

from viscera.core.organs import ORGANS, PAIRED_ORGANS, select_organs
from viscera.errors import UsageError

# FLARE's label order and the NSD tolerances of its evaluation script.
FLARE = [
    ("liver", 5), ("kidney_right", 3), ("spleen", 3), ("pancreas", 5), ("aorta", 2),
    ("inferior_vena_cava", 2), ("adrenal_gland_right", 2), ("adrenal_gland_left", 2),
    ("gallbladder", 2), ("esophagus", 3), ("stomach", 5), ("duodenum", 7), ("kidney_left", 3),
]  # fmt: skip


def test_order_and_tolerances_are_flares():
    assert [(o.name, o.tolerance_mm) for o in ORGANS] == FLARE
    assert [o.id for o in ORGANS] == list(range(1, 14))


def test_each_organ_can_be_told_apart():
    assert len({o.colour for o in ORGANS}) == len({o.title for o in ORGANS}) == 13


def test_pairs_are_right_then_left():
    assert [(r.laterality, left.laterality) for r, left in PAIRED_ORGANS] == [("right", "left")] * 2


def test_select_sorts_and_forgives_spelling():
    assert [o.name for o in select_organs(["Kidney-Left", " liver"])] == ["liver", "kidney_left"]
    assert [o.name for o in select_organs(["Left kidney", "right_adrenal"])] == [
        "adrenal_gland_right", "kidney_left"
    ]  # fmt: skip


def test_select_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'spleen'"):
        select_organs(["spleeen"])
