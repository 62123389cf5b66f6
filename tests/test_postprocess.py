"""Post-processing, against scipy's morphology and labelling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from viscera.bundle.spec import PostprocessStep
from viscera.core import components
from viscera.core.affine import Affine
from viscera.core.boxes import organ_box
from viscera.core.components import count_components, find_components
from viscera.core.organs import ORGANS, ORGANS_BY_NAME
from viscera.postprocess.chain import postprocess
from viscera.postprocess.closing import close_organs

UPRIGHT = Affine(np.diag([-1.0, -1.0, 1.0, 1.0]))
SIDES = PostprocessStep("sides")


def blobs(seed, shape=(20, 18, 15), organs=3, density=0.25):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8, order="F")
    for organ in range(1, organs + 1):
        labels[ndimage.gaussian_filter(rng.random(shape), 1) > 1 - density - 0.22] = organ
        labels[rng.random(shape) < 0.1] = organ
    return labels


def closed_by_scipy(labels, ids, size):
    """One organ after another on the untouched labels, claiming background only."""
    result = labels.copy()
    cube = np.ones((size,) * 3, bool)
    for organ in ids:
        padded = np.pad(labels == organ, size, mode="constant")
        grown = ndimage.binary_dilation(padded, cube)[(slice(size, -size),) * 3]
        closed = ndimage.binary_erosion(grown, cube, border_value=1)
        result[closed & (labels == 0)] = organ
    return result


@given(st.integers(0, 10_000), st.sampled_from([3, 5]), st.integers(1, 150))
@settings(max_examples=40)
def test_closing_is_scipys(seed, size, depth):
    labels = blobs(seed, (9, 8, depth), density=0.05)
    ids = [1, 2, 3]
    expected = closed_by_scipy(labels, ids, size)
    close_organs(labels, ids, size)
    np.testing.assert_array_equal(labels, expected)


def test_closing_fills_a_hole_and_spares_neighbours():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2:7, 2:7, 2:7] = 4
    labels[4, 4, 4] = 0
    labels[4, 4, 5] = 9
    close_organs(labels, [4])
    assert labels[4, 4, 4] == 4
    assert labels[4, 4, 5] == 9
    assert (labels > 0).sum() == 125


def test_box():
    labels = np.zeros((6, 7, 8), np.uint8)
    assert organ_box(labels) is None
    labels[1, 2, 3] = labels[4, 2, 6] = 5
    assert organ_box(labels) == (slice(1, 5), slice(2, 3), slice(3, 7))


@pytest.mark.parametrize("slab", [1, 3, 64])
@pytest.mark.parametrize("seed", range(5))
def test_components_are_scipys(seed, slab, monkeypatch):
    monkeypatch.setattr(components, "_SLAB_SLICES", slab)
    labels = blobs(seed)
    found = find_components(labels)
    assert set(found.organ) == {1, 2, 3}
    for organ in (1, 2, 3):
        pieces, count = ndimage.label(labels == organ, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())[1:]
        of_organ = found.organ == organ
        assert sorted(found.voxels[of_organ]) == sorted(sizes)
        centres = ndimage.center_of_mass(labels == organ, pieces, range(1, count + 1))
        own = found.centre[of_organ]
        np.testing.assert_allclose(np.sort(own, axis=0), np.sort(centres, axis=0))
        painted, new = labels.copy(), found.organ.copy()
        new[np.flatnonzero(of_organ)[found.voxels[of_organ].argmin()]] = 9
        found.paint(painted, new)
        assert (painted == 9).sum() == sizes.min()
        assert ((painted == organ) | (painted == 9)).sum() == sizes.sum()
        others = labels != organ
        np.testing.assert_array_equal(painted[others], labels[others])


def after(labels, *steps, affine=UPRIGHT):
    """A map after these steps, and how many findings they leave."""
    result = labels.copy(order="K")
    return result, len(postprocess(result, affine, steps).findings)


def test_keep_largest_and_drop_small():
    labels = np.zeros((20, 10, 10), np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    labels[10:12, 1:3, 1:3] = 1
    labels[15, 5, 5] = 2
    organs = (ORGANS[0].name, ORGANS[1].name)
    largest, _ = after(labels, PostprocessStep("largest_component", organs[:1]))
    assert (largest == 1).sum() == 125
    assert (largest == 2).sum() == 1
    strays, _ = after(labels, PostprocessStep("strays", organs, share=8 / 125))
    assert (strays == labels).all()  # exactly that share stays, and so does an only part
    strays, _ = after(labels, PostprocessStep("strays", organs, share=0.07))
    assert (strays == 1).sum() == 125
    assert (strays == 2).sum() == 1
    large, _ = after(labels, PostprocessStep("minimum_volume", organs, ml=0.005))
    assert (large == 1).sum() == 125 + 8
    assert (large == 2).sum() == 0


@pytest.mark.parametrize("order", ["F", "C"])
def test_lone_organs_go_unless_a_large_one_is_there(order):
    labels = np.zeros((20, 10, 10), np.uint8, order=order)
    labels[2:4, 2:4, 2:4] = ORGANS_BY_NAME["pancreas"].id
    labels[10, 5, 5] = ORGANS_BY_NAME["aorta"].id
    labels[15:17, 5, 9] = ORGANS_BY_NAME["liver"].id  # two voxels of 0.001 ml
    steps = [PostprocessStep("lone", ("pancreas", "liver"), ml=0.002, beside=("liver", "spleen"))]
    affine, before = Affine(np.diag([1.0, 1, 1, 1])), labels.copy()
    postprocess(labels, affine, steps)
    assert (labels == before).all()
    labels[16, 5, 9] = 0
    postprocess(labels, affine, steps)
    assert set(np.unique(labels)) == {0, ORGANS_BY_NAME["aorta"].id}


def kidneys(flip=False):
    """Aorta and cava in the middle, a kidney on each side; x = -i, so high i is left."""
    labels = np.zeros((100, 60, 40), np.uint8, order="F")
    labels[46:50, 30:34, :] = ORGANS_BY_NAME["inferior_vena_cava"].id
    labels[52:56, 30:34, :] = ORGANS_BY_NAME["aorta"].id
    labels[10:25, 25:40, 5:35] = ORGANS_BY_NAME["kidney_right"].id
    labels[75:90, 25:40, 5:35] = ORGANS_BY_NAME["kidney_left"].id
    return labels


def test_sides_are_mended_and_right_ones_left_alone():
    labels = kidneys()
    assert not after(labels, SIDES)[1]
    broken = labels.copy(order="F")
    broken[10:25, 25:40, 5:15] = ORGANS_BY_NAME["kidney_left"].id  # lower third of the right one
    mended, findings = after(broken, SIDES)
    assert findings == 1
    np.testing.assert_array_equal(mended, labels)


def test_sides_follow_the_patient_not_the_storage():
    labels = np.ascontiguousarray(kidneys()[::-1])
    affine = np.diag([1.0, -1.0, 1.0, 1.0])
    assert not after(labels, SIDES, affine=Affine(affine))[1]
    swapped, _ = after(labels, SIDES)  # the same voxels said to be mirrored
    right, left = (ORGANS_BY_NAME[f"kidney_{side}"].id for side in ("right", "left"))
    np.testing.assert_array_equal(swapped == right, labels == left)
    np.testing.assert_array_equal(swapped == left, labels == right)


def test_sides_without_vessels_and_with_one_kidney():
    labels = kidneys()
    labels[(labels == 5) | (labels == 6)] = 0
    assert not after(labels, SIDES)[1]
    labels[labels == ORGANS_BY_NAME["kidney_left"].id] = 0
    assert not after(labels, SIDES)[1]


def test_chain_runs_named_steps_in_order():
    labels = kidneys()
    labels[0, 0, 0] = 2
    labels[10:25, 25:40, 5:15] = 13
    steps = [
        PostprocessStep("sides"),
        PostprocessStep("strays", share=0.5),
        PostprocessStep("largest_component"),
        PostprocessStep("minimum_volume", ml=100.0),
        PostprocessStep("closing", organs=("liver",)),
    ]
    findings = postprocess(labels, UPRIGHT, steps).findings
    assert [f.code for f in findings] == ["sides", "pieces-removed"]
    assert not labels.any()  # no piece has 100 ml


@pytest.mark.parametrize("depth", [1, 63, 64, 65, 200])
def test_counting_components_is_finding_them(depth):
    """Slab by slab, with parts that touch across slabs and parts that do not."""
    random = np.random.default_rng(depth)
    labels = (random.random((24, 20, depth)) < 0.18) * random.integers(1, 4, (24, 20, depth))
    labels = np.asfortranarray(labels.astype(np.uint8))
    organs, counts = np.unique(find_components(labels).organ, return_counts=True)
    assert count_components(labels) == dict(zip(organs.tolist(), counts.tolist(), strict=True))


def test_no_label_no_component():
    labels = np.zeros((5, 6, 7), np.uint8, order="F")
    assert count_components(labels) == {}
    assert find_components(labels).organ.size == 0
    assert not after(labels, SIDES, PostprocessStep("strays", share=0.5))[0].any()
