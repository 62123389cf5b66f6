"""The first look: where organs are, and what the fine network sees of a scan then."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import viscera
from tests.networks import PATCH_BODY, nearest_net, slices_body, write_bundle
from viscera.bundle.read import read_bundle, read_look
from viscera.bundle.spec import LookSettings, Patch
from viscera.core.affine import Affine
from viscera.core.boxes import widened
from viscera.core.organs import ORGANS_BY_NAME
from viscera.errors import BundleError
from viscera.grid.grid import Grid
from viscera.grid.slab_windows import ScoreSlab
from viscera.inference.sliding_window import fit_axis_windows
from viscera.inference.windows import fit_window_size, widen_to_windows
from viscera.localise.organs_seen import OrgansSeen

AFFINE = Affine(np.diag([-2.0, -2.0, 4.0, 1.0]))  # LPS: z towards the head
LIVER = ORGANS_BY_NAME["liver"].id


def seen_in(labels, affine=AFFINE, part=None, spacing=(4.0, 4.0, 4.0)):
    """What scores on the grid of a packaged look show, if they say these labels [z, y, x]."""
    bundle = read_bundle("look")
    bundle = replace(bundle, input=replace(bundle.input, spacing_mm=spacing))
    grid = Grid.fit((80, 60, 40), affine, bundle)
    full = np.zeros(grid.shape, np.uint8)
    full[: labels.shape[0], : labels.shape[1], : labels.shape[2]] = labels
    part = part or tuple(slice(0, n) for n in grid.shape)
    scores = (np.arange(len(bundle.labels))[:, None, None] == full[part][:, None]).astype(
        np.float32
    )
    slabs = [ScoreSlab(0, list(scores[:10])), ScoreSlab(10, list(scores[10:]))]
    return OrgansSeen.of(slabs, grid, part, bundle.label_ids), grid


def test_the_box_is_what_is_seen_and_its_margins():
    labels = np.zeros((40, 30, 40), np.uint8)
    labels[20:24, 10:13, 18:22] = LIVER
    labels[2, 2, 2:4] = LIVER  # two voxels are noise
    seen, grid = seen_in(labels)
    box = seen.box(LookSettings("look", margin_mm=8.0, above_mm=20.0))
    for part, axis, low, high, mm in zip(
        box, grid.axes, (20, 10, 18), (24, 13, 22), (4.0, 2.0, 2.0), strict=True
    ):
        ends = [(axis.first + (n - 0.5) * axis.step) * mm for n in (low, high)]
        above_mm = 20.0 if axis is grid.axes[0] else 8.0
        assert part.start * mm <= ends[0] - 8.0 < (part.start + 1) * mm
        assert (part.stop - 2) * mm <= ends[1] + above_mm <= (part.stop - 1) * mm


def test_a_part_that_was_searched_keeps_its_place():
    labels = np.zeros((40, 30, 40), np.uint8)
    labels[20:24, 10:13, 18:22] = LIVER
    settings = LookSettings("look", margin_mm=0.0, above_mm=0.0)
    whole = seen_in(labels)[0].box(settings)
    part = slice(15, 30), slice(5, 20), slice(10, 30)
    assert seen_in(labels, part=part)[0].box(settings) == whole


def test_nothing_seen_is_said_and_nothing_is_left_out():
    seen, _ = seen_in(np.zeros((40, 30, 40), np.uint8))
    assert seen.box(LookSettings("look")) is None
    assert [f.code for f in seen.findings()] == ["nothing-seen"]


def no_organs(shape):
    """HU that the networks of these tests know as no organ's."""
    return np.random.default_rng(0).integers(50, 60, shape).astype(np.int16)


def look_bundle(folder, look, fine_body=PATCH_BODY, rank=3):
    """A bundle, and beside it the one that looks first for it."""
    for name, body, axes in (("fine", fine_body, rank), ("coarse", PATCH_BODY, 3)):
        (folder / name).mkdir()
        names = nearest_net(folder / name / "model.onnx", rank=axes)
        write_bundle(folder / name, body=body, labels=names)
    path = folder / "fine" / "bundle.toml"
    path.write_text(
        path.read_text() + f'\n[look]\nbundle = "{look}"\nmargin_mm = 30.0\nshortest_mm = 150.0\n'
    )
    return folder / "fine"


def test_a_look_that_is_missing_or_looks_itself_is_refused(tmp_path):
    folder = look_bundle(tmp_path, look="nowhere")
    with pytest.raises(BundleError, match="nowhere"):
        viscera.Predictor(folder)
    path = folder / "bundle.toml"
    path.write_text(path.read_text().replace('"nowhere"', '"../fine"'))
    with pytest.raises(BundleError, match="no \\[look\\]"):
        viscera.Predictor(folder)
    path.write_text(path.read_text().replace('"../fine"', '"../coarse"'))
    assert read_look(read_bundle(folder)).folder.name == "coarse"


def test_the_fine_network_sees_the_box_and_its_labels_are_the_same(tmp_path):
    """Networks that name each voxel by its HU find the same with less to look at."""
    body = PATCH_BODY.replace("[patch]", 'crop = "body"\n[patch]')
    fine = viscera.Predictor(look_bundle(tmp_path, look="../coarse", fine_body=body))
    plain = viscera.Predictor(replace(fine.bundle, look=None))
    hu = no_organs((60, 50, 30))
    hu[25:35, 20:30, 12:18] = 112
    affine = np.diag([-6.0, -6.0, 8.0, 1.0])
    looked, whole = fine.segment(hu, affine), plain.segment(hu, affine)
    assert set(np.unique(whole.labels)) == {0, LIVER}
    np.testing.assert_array_equal(looked.labels, whole.labels)
    z, y, x = looked.provenance["grid"]["looked_at_zyx"]
    assert z == [2, 30]  # 30 mm below the block and 96 above it, and what two windows cover anyway
    assert y[1] - y[0] >= 215 / 8
    assert 285 / 8 <= x[1] - x[0] < 360 / 8  # of the body
    assert "look" in looked.stages.seconds
    assert "look" not in whole.stages.seconds
    assert fine.signature() != plain.signature()


def test_where_nothing_is_seen_all_of_the_body_is_searched(tmp_path):
    fine = viscera.Predictor(look_bundle(tmp_path, look="../coarse"))
    hu = no_organs((60, 50, 30))
    found = fine.segment(hu, np.diag([-6.0, -6.0, 8.0, 1.0]))
    assert found.provenance["grid"]["looked_at_zyx"][0] == [0, 30]
    assert {f.code for f in found.findings} >= {"nothing-seen", "no-abdomen"}


def test_a_slice_network_sees_whole_slices_of_the_box(tmp_path):
    body = slices_body(1, (30, 28)).replace(
        "[-160.0, 300.0]", "[-1000.0, 1000.0]\nmean_hu = 0.0\nstd_hu = 1000.0"
    )
    folder = look_bundle(tmp_path, look="../coarse", fine_body=body, rank=2)
    hu = no_organs((60, 50, 40))
    hu[25:35, 20:30, 12:18] = 112
    found = viscera.segment(hu, np.diag([-6.0, -6.0, 8.0, 1.0]), bundle=folder)
    z, y, x = found.provenance["grid"]["looked_at_zyx"]
    assert z == [7, 31]
    assert (y, x) == ([0, 28], [0, 30])


def test_a_short_body_is_seen_whole(tmp_path):
    fine = viscera.Predictor(look_bundle(tmp_path, look="../coarse"))
    hu = no_organs((60, 50, 18))  # 144 mm
    hu[25:35, 20:30, 6:12] = 112
    found = fine.segment(hu, np.diag([-6.0, -6.0, 8.0, 1.0]))
    assert found.provenance["grid"]["looked_at_zyx"][0] == [0, 18]
    assert not {f.code for f in found.findings} & {"nothing-seen"}


def test_a_body_with_organs_at_its_very_end_is_seen_whole(tmp_path):
    fine = viscera.Predictor(look_bundle(tmp_path, look="../coarse"))
    hu = no_organs((60, 50, 40))
    hu[25:35, 20:30, 36:] = 112  # 32 mm, and 30 mm below
    found = fine.segment(hu, np.diag([-6.0, -6.0, 8.0, 1.0]))
    assert found.provenance["grid"]["looked_at_zyx"] == [[0, 40], [0, 38], [0, 45]]


@pytest.mark.parametrize(
    ("part", "length", "expected"),
    [
        ((10, 20), 5, (10, 20)),
        ((10, 20), 40, (10, 50)),  # towards the middle of 0 to 100
        ((70, 80), 40, (40, 80)),
        ((45, 55), 40, (30, 70)),
        ((2, 8), 200, (0, 100)),
    ],
)
def test_a_part_is_widened_towards_the_middle(part, length, expected):
    assert widened(slice(*part), slice(0, 100), length) == slice(*expected)


@pytest.mark.parametrize("low_memory", [False, True])
@given(st.tuples(*[st.integers(1, 400)] * 3), st.tuples(*[st.integers(0, 300)] * 3))
def test_widening_costs_no_window(low_memory, lengths, more):
    patch = Patch((144, 176, 112), overlap=0.25, multiple=(16, 16, 8))
    body = tuple(slice(0, n + m) for n, m in zip(lengths, more, strict=True))
    box = tuple(slice(m // 2, m // 2 + n) for n, m in zip(lengths, more, strict=True))
    wide = widen_to_windows(box, body, patch, low_memory=low_memory)

    def cost(part):
        shape = tuple(p.stop - p.start for p in part)
        fitted = fit_window_size(patch, shape, low_memory=low_memory)
        counts = [len(axis.starts) for axis in fit_axis_windows(shape, fitted)]
        return np.prod(counts) * np.prod(fitted.size)

    assert cost(wide) <= cost(box)
    for inner, outer, whole in zip(box, wide, body, strict=True):
        assert whole.start <= outer.start <= inner.start
        assert inner.stop <= outer.stop <= whole.stop
