"""The metrics against an independent implementation, and in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from surface_distance import lookup_tables

from tests import oracle
from viscera.core.organs import ORGANS, ORGANS_BY_ID, ORGANS_BY_NAME
from viscera.metrics.areas import CORNERS, areas_mm2
from viscera.metrics.compare import compare_labels
from viscera.metrics.distances import find_distances
from viscera.metrics.surface import find_surfaces

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (0.6, 1.3, 2.5), (3.1, 3.1, 7.5), (1.5, 1.5, 0.4)]


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def check(prediction, truth, spacing_mm):
    """All four metrics of every organ that both maps have, against the oracle."""
    for found in compare_labels(prediction, truth, spacing_mm=spacing_mm):
        organ = ORGANS_BY_NAME[found.organ]
        a, b = prediction == organ.id, truth == organ.id
        mine = (found.dsc, found.nsd, found.hd95_mm, found.assd_mm)
        if a.any() and b.any():
            same(mine, oracle.four_metrics(a, b, spacing_mm, organ.tolerance_mm))
        elif a.any() or b.any():
            assert mine == (0, 0, np.inf, np.inf)
        else:
            same(mine, (1, 1, np.nan, np.nan))


def blobs(seed, shape=(24, 20, 13), labels=13, smooth=2.0):
    """Random touching organs."""
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=(labels + 1, *shape)), (0, *(smooth,) * 3))
    fields[0] += fields.std() * 0.8
    return np.asfortranarray(fields.argmax(axis=0).astype(np.uint8))


def test_areas_of_all_codes_are_the_oracles():
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    theirs_of = [
        sum(int(kernel[c]) for n, c in enumerate(CORNERS) if code >> n & 1) for code in range(256)
    ]
    for spacing_mm in SPACINGS:
        theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm)
        np.testing.assert_allclose(areas_mm2(spacing_mm), theirs[theirs_of], rtol=1e-12)


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("seed", range(4))
def test_touching_blobs(seed, spacing_mm):
    truth = blobs(seed)
    prediction = np.where(np.random.default_rng(seed).random(truth.shape) < 0.04, 0, truth)
    check(np.roll(prediction, seed, axis=seed % 3).astype(np.uint8), truth, spacing_mm)
    check(blobs(seed + 100), truth, spacing_mm)


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 2.5, 5.0])] * 3),
    st.sampled_from([0.02, 0.3, 0.7]),
)
def test_any_small_masks(seed, shape, spacing_mm, density):
    """Isolated voxels, one slice, full volumes, organs cut by the border on all sides."""
    rng = np.random.default_rng(seed)
    truth, prediction = ((rng.random(shape) < density).astype(np.uint8) * 6 for _ in range(2))
    check(prediction, truth, spacing_mm)


def test_one_voxel_organs():
    truth = np.zeros((9, 8, 7), np.uint8)
    prediction = truth.copy()
    truth[4, 4, 3], prediction[4, 4, 5] = 4, 4
    check(prediction, truth, (0.7, 0.7, 5.0))
    check(truth, truth, (0.7, 0.7, 5.0))


def test_one_slice_organs():
    truth = np.zeros((30, 30, 4), np.uint8)
    prediction = truth.copy()
    truth[5:20, 5:20, 1], prediction[8:25, 5:20, 1] = 11, 11
    check(prediction, truth, (0.7, 0.7, 5.0))


def test_two_planes_are_as_far_apart_as_they_are():
    truth = np.zeros((40, 40, 30), np.uint8)
    truth[:, :, :10] = 1
    prediction = np.zeros_like(truth)
    prediction[:, :, :12] = 1
    (liver,) = compare_labels(prediction, truth, spacing_mm=(1, 1, 3), organs=[ORGANS_BY_ID[1]])
    assert liver.hd95_mm == 6  # two slices of 3 mm
    assert liver.dsc == pytest.approx(2 * 10 / 22)


@pytest.mark.parametrize("spacing_mm", [(0.7, 0.7, 5.0), (1.0, 1.0, 1.0)])
def test_far_apart_surfaces_and_a_stray_voxel(spacing_mm):
    truth = blobs(1, (60, 50, 20), labels=2, smooth=5)
    prediction = np.zeros_like(truth)
    prediction[:, 12:] = truth[:, :-12]
    prediction[0, 0, 0] = prediction[-1, -1, -1] = 2
    check(prediction, truth, spacing_mm)


def test_a_step_over_the_border_never_meets_the_other_side():
    shape = (6, 5, 4)
    truth, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    truth[0, 2, 2], prediction[-1, 1, 2] = 3, 3  # neighbours in memory, far apart in space
    check(prediction, truth, (1.0, 1.0, 1.0))


def test_distances_are_exact_at_a_tolerance():
    """0.6 mm times five steps is 3 mm, within a tolerance of 3 mm."""
    truth = np.zeros((40, 6, 6), np.uint8, order="F")
    prediction = truth.copy()
    truth[:11], prediction[:16] = 2, 2
    a, b = find_surfaces(truth), find_surfaces(prediction)
    assert find_distances(b, a, (0.6, 0.6, 0.6))[2].max() == 3
    check(prediction, truth, (0.6, 0.6, 0.6))


def test_memory_order_and_strides_do_not_matter():
    truth, prediction = blobs(3), blobs(4)
    expected = compare_labels(prediction, truth, spacing_mm=(1, 2, 3))
    assert compare_labels(prediction.copy("C"), truth.copy("C"), spacing_mm=(1, 2, 3)) == expected
    turned = compare_labels(
        prediction.transpose(2, 0, 1)[::-1], truth.transpose(2, 0, 1)[::-1], spacing_mm=(3, 1, 2)
    )
    for one, other in zip(turned, expected, strict=True):
        same([one.dsc, one.nsd, one.hd95_mm], [other.dsc, other.nsd, other.hd95_mm])


@pytest.mark.parametrize("spacing_mm", SPACINGS)
@pytest.mark.parametrize("seed", range(6))
def test_flare24_is_the_script_to_the_fourth_decimal(seed, spacing_mm):
    truth, prediction = blobs(seed), blobs(seed + (seed % 2) * 50)
    rng = np.random.default_rng(seed)
    prediction[rng.random(truth.shape) < 0.15] = 0
    truth[truth == 2 + seed] = 0  # absent from the truth
    prediction[prediction == 3 + seed] = 0  # absent from the prediction
    prediction[prediction == 8], truth[truth == 8] = 0, 0  # absent from both
    found = compare_labels(prediction, truth, spacing_mm=spacing_mm, protocol="flare24")
    for organ, mine in zip(ORGANS, found, strict=True):
        same((mine.dsc, mine.nsd), oracle.flare24(prediction, truth, spacing_mm, organ))


def flare24_of(prediction, truth, name):
    (found,) = compare_labels(
        prediction, truth, spacing_mm=(1, 1, 1), organs=[ORGANS_BY_NAME[name]], protocol="flare24"
    )
    expected = oracle.flare24(prediction, truth, (1, 1, 1), ORGANS_BY_NAME[name])
    same((found.dsc, found.nsd), expected)
    return found


def tube(label, first, last):
    """A tube along the third axis, its last slice excluded."""
    labels = np.zeros((12, 12, 14), np.uint8)
    labels[4:8, 4:8, first:last] = label
    return labels


@pytest.mark.parametrize("name", ["aorta", "inferior_vena_cava", "esophagus"])
def test_flare24_never_scores_the_last_slice_of_a_long_organ(name):
    label = ORGANS_BY_NAME[name].id
    truth, longer = tube(label, 3, 9), tube(label, 0, 14)
    assert flare24_of(longer, truth, name).dsc == 1
    damaged = truth.copy()
    damaged[:, :, 8] = 0  # the last slice of the truth
    assert flare24_of(damaged, truth, name).dsc == 1
    damaged[:, :, 7] = 0
    assert flare24_of(damaged, truth, name).dsc < 1
    (plain,) = compare_labels(longer, truth, spacing_mm=(1, 1, 1), organs=[ORGANS_BY_NAME[name]])
    assert plain.dsc < 1


def test_flare24_has_no_number_for_a_long_organ_of_one_slice():
    found = flare24_of(tube(5, 3, 9), tube(5, 4, 5), "aorta")
    assert np.isnan([found.dsc, found.nsd, found.hd95_mm]).all()
    assert flare24_of(tube(6, 3, 9), tube(5, 4, 5), "aorta").dsc == 0  # nothing predicted


def test_flare24_scores_short_organs_whole():
    assert flare24_of(tube(4, 0, 14), tube(4, 3, 9), "pancreas").dsc < 1


def test_flare24_gives_no_nsd_below_a_dsc_of_a_fifth():
    truth, prediction = tube(12, 3, 9), tube(12, 8, 14)  # one slice of six in common: 1/6
    assert flare24_of(prediction, truth, "duodenum").nsd == 0
    (plain,) = compare_labels(
        prediction, truth, spacing_mm=(1, 1, 1), organs=[ORGANS_BY_NAME["duodenum"]]
    )
    assert plain.nsd > 0.9
    assert flare24_of(tube(12, 7, 13), truth, "duodenum").nsd > 0.9  # 1/3


def test_inputs_are_left_as_they_are():
    truth, prediction = blobs(1), blobs(2)
    kept = truth.copy(), prediction.copy()
    compare_labels(prediction, truth, spacing_mm=(1, 1, 1), protocol="flare24")
    assert (truth == kept[0]).all()
    assert (prediction == kept[1]).all()


def test_organs_that_only_one_map_has_cost_no_surface(monkeypatch):
    """An untrained network's noise of twelve organs beside a truth of one."""
    from viscera.metrics import compare as room

    truth = np.zeros((20, 20, 10), np.uint8)
    truth[5:15, 5:15, 2:8] = 1
    noise = np.random.default_rng(0).integers(0, 14, truth.shape, dtype=np.uint8)
    seen = []
    real = room.find_surfaces
    monkeypatch.setattr(room, "find_surfaces", lambda labels: seen.append(labels) or real(labels))
    check(noise, truth, (1, 1, 1))
    assert {int(label) for labels in seen for label in np.unique(labels)} == {0, 1}


@pytest.mark.parametrize("protocol", ["standard", "flare24"])
def test_noise_taken_organ_by_organ_scores_the_same(monkeypatch, protocol):
    from viscera.metrics import compare as room

    truth, noise = blobs(2), blobs(3, smooth=0.5)
    together = compare_labels(noise, truth, spacing_mm=(1, 2, 3), protocol=protocol)
    monkeypatch.setattr(room, "_MANY_CHANGES", 0)
    for one, other in zip(
        compare_labels(noise, truth, spacing_mm=(1, 2, 3), protocol=protocol), together, strict=True
    ):
        same([one.dsc, one.nsd, one.hd95_mm, one.assd_mm],
             [other.dsc, other.nsd, other.hd95_mm, other.assd_mm])  # fmt: skip
