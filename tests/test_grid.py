"""Geometry, against SimpleITK and against doing it the slow way."""

from itertools import count

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.networks import LABELS
from tests.test_affine import all_orientations, oriented
from viscera.bundle.spec import Bundle, ModelFile, NetworkInput, Patch, Slices
from viscera.core.affine import Affine
from viscera.core.hu import AIR_HU
from viscera.core.volume import Volume
from viscera.grid.grid import Grid
from viscera.grid.orientation import Orientation, ScanPlane
from viscera.grid.resample import Taps
from viscera.grid.shear import labels_to_sheared, straighten
from viscera.grid.slab_windows import ScoreSlab
from viscera.grid.upsample import ClassSlice, upsample_classes


def bundle(spacing=(2.0, 2.5, 3.0), align="centre", interpolation="linear", slices=None):
    grid_input = NetworkInput(
        window_hu=(-2000.0, 3000.0),
        spacing_mm=spacing,
        mean_hu=0.0,
        std_hu=1.0,
        align=align,
        interpolation=interpolation,
    )
    patch = None if slices else Patch((16, 16, 16))
    return Bundle(1, "t", ModelFile("m", "0"), grid_input, tuple(LABELS), patch, slices)


@pytest.mark.parametrize(("order", "signs"), list(all_orientations()))
def test_every_orientation_shows_the_same_anatomy(order, signs):
    """World coordinates painted into a volume come out in LPS order whatever its storage."""
    shape = tuple((7, 6, 5)[world] for world in order)
    matrix = oriented(order, signs, spacing=(1.0, 1.0, 1.0))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = index @ matrix[:3, :3].T + matrix[:3, 3]
    view = Orientation.fit(Affine(matrix), "LPS")
    assert (np.diff(view.view(world[..., 0]), axis=2) == -1).all()  # x runs to the left
    assert (np.diff(view.view(world[..., 1]), axis=1) == -1).all()  # y runs to the back
    assert (np.diff(view.view(world[..., 2]), axis=0) == 1).all()  # z runs up
    changed = np.zeros(shape)
    view.view(changed)[...] = view.view(world[..., 0])
    np.testing.assert_array_equal(changed, world[..., 0])


@pytest.mark.parametrize("spacing", [(2.0, 2.5, 3.0), (0.6, 0.5, 1.1), (7.0, 1.0, 2.0)])
def test_resampling_is_simpleitks(spacing):
    rng = np.random.default_rng(1)
    hu = np.asfortranarray(rng.integers(-1000, 1000, (24, 20, 14)).astype(np.int16))
    source_mm = (0.9, 1.1, 2.3)
    affine = Affine(np.diag([-source_mm[0], -source_mm[1], source_mm[2], 1.0]))
    grid = Grid.fit(hu.shape, affine, bundle(spacing, align="first"))
    image = sitk.GetImageFromArray(hu.T.astype(np.float32))
    image.SetSpacing(source_mm)
    target = sitk.Image(*grid.shape[::-1], sitk.sitkFloat32)
    target.SetSpacing(spacing)
    nearest_border = sitk.ResampleImageFilter()
    nearest_border.SetReferenceImage(target)
    nearest_border.SetInterpolator(sitk.sitkLinear)
    nearest_border.SetUseNearestNeighborExtrapolator(True)
    expected = sitk.GetArrayFromImage(nearest_border.Execute(image))
    found = grid.forward(map(ScanPlane, count(), grid.orientation.view(hu)))
    inside = tuple(
        slice(0, int((n - 1) * s / t) + 1)
        for n, s, t in zip(hu.shape[::-1], source_mm[::-1], spacing[::-1], strict=True)
    )
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-2)


def test_centred_grids_commute_with_mirroring():
    hu = np.random.default_rng(2).integers(-500, 500, (15, 12, 9)).astype(np.int16)
    affine = Affine(np.diag([-1.3, -0.9, 2.0, 1.0]))
    grid = Grid.fit(hu.shape, affine, bundle())
    straight, mirrored = (
        grid.forward(map(ScanPlane, count(), grid.orientation.view(stored)))
        for stored in (hu, hu[::-1])
    )
    np.testing.assert_allclose(straight[:, :, ::-1], mirrored, atol=1e-3)


def test_area_keeps_the_mean():
    row = np.random.default_rng(3).normal(size=(1, 1, 60)).astype(np.float32)
    taps = Taps.area(60, 20, 1.0, 3.0)
    np.testing.assert_allclose(taps.columns(row)[0, 0], row.reshape(20, 3).mean(axis=1), atol=1e-6)
    fine = Taps.area(10, 20, -0.25, 0.5)
    np.testing.assert_array_equal(fine.index, Taps.linear(10, 20, -0.25, 0.5).index)


@given(
    st.integers(2, 9), st.integers(2, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99)
)
@settings(max_examples=80)
def test_upsampled_labels_equal_interpolating_every_class(old_y, old_x, new_y, new_x, seed):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(5, 1, 1)) * 2  # so that some neighbours agree
    low, high = ((smooth + rng.normal(size=(5, old_y, old_x))).astype(np.float32) for _ in range(2))
    share = np.float32(rng.choice([0.0, 0.3, 0.77]))
    if not share:
        high = low
    y = Taps.linear(old_y, new_y, rng.uniform(-1, 1), old_y / new_y)
    x = Taps.linear(old_x, new_x, rng.uniform(-1, 1), old_x / new_x)
    full = x.columns(y.rows(low * (1 - share) + high * share))
    best = np.sort(full, axis=0)
    clear = best[-1] - best[-2] > 1e-5  # ties may go either way
    below = ClassSlice.of(low)
    found = upsample_classes(below, ClassSlice.of(high) if share else below, share, y, x)
    classes = np.zeros((new_y, new_x), np.uint8)
    if found is not None:
        classes[found.part] = found.classes
    np.testing.assert_array_equal(classes[clear], full.argmax(axis=0)[clear])


@pytest.mark.parametrize("spacing", [(2.0, 2.5, 3.0), (0.6, 0.5, 1.1), (3.0, 3.0, 0.7)])
@pytest.mark.parametrize("slab", [1, 3, 50])
def test_streamed_labels_equal_doing_it_at_once(spacing, slab):
    rng = np.random.default_rng(4)
    shape = (18, 16, 11)
    affine = Affine(oriented((2, 0, 1), (1, -1, 1), (1.2, 0.9, 2.0)))
    grid = Grid.fit(shape, affine, bundle(spacing))
    scores = rng.normal(size=(14, *grid.shape)).astype(np.float32)
    out = np.zeros(shape, np.uint8)
    slices = list(np.ascontiguousarray(scores.transpose(1, 0, 2, 3)))
    slabs = (ScoreSlab(z, slices[z : z + slab]) for z in range(0, grid.shape[0], slab))
    grid.undo(slabs, tuple(range(14)), out)
    z, y, x = (axis.to_scan for axis in grid.axes)
    full = x.columns(y.rows(z.rows(scores.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)))
    best = np.sort(full, axis=0)
    clear = best[-1] - best[-2] > 1e-5
    found = grid.orientation.view(out)
    np.testing.assert_array_equal(found[clear], full.argmax(axis=0)[clear])


def test_slices_keep_the_scans_own_slices():
    affine = Affine(np.diag([-0.8, -0.8, 5.0, 1.0]))
    grid = Grid.fit((64, 48, 7), affine, bundle(None, slices=Slices(3, (32, 24))))
    assert grid.shape == (7, 24, 32)
    grid = Grid.fit((64, 48, 7), affine, bundle((1.6, 1.6), slices=Slices(3, (32, 24))))
    assert grid.shape == (7, 24, 32)
    assert grid.spacing_mm == pytest.approx((5.0, 1.6, 1.6))


def test_straightening_a_sheared_scan_puts_it_upright():
    """A tilted gantry: a rod along the patient's z axis must be upright again."""
    matrix = np.diag([-2.0, -2.0, 4.0, 1.0])
    matrix[1, 2] = 4.0 * np.tan(np.deg2rad(14))
    volume = Volume(np.full((30, 40, 20), -1000, np.int16), Affine(matrix))
    for k in range(20):
        j = (-30 - matrix[1, 2] * k) / -2.0  # the row at world y = -30
        volume.data[12:18, round(j) - 2 : round(j) + 3, k] = 500
    upright = straighten(volume)
    assert upright.affine.shear_deg < 1e-6
    assert upright.affine.spacing_mm == pytest.approx(volume.affine.spacing_mm, rel=0.05)
    at = np.argwhere(upright.data > 0)
    world = at @ upright.affine.matrix[:3, :3].T + upright.affine.matrix[:3, 3]
    for z in np.unique(at[:, 2])[1:-1]:
        assert world[at[:, 2] == z, 1].mean() == pytest.approx(-30, abs=1.5)
    labels = labels_to_sheared((upright.data > 0).astype(np.uint8), upright.affine, volume)
    truth = volume.data > 0
    overlap = 2 * (labels & truth).sum() / (labels.sum() + truth.sum())
    assert overlap > 0.9


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_straightening_is_scipys(dtype):
    """There and back, voxel by voxel; ndimage rounds halves away from zero."""
    rng = np.random.default_rng(5)
    matrix = np.diag([-2.0, -1.5, 4.0, 1.0])
    matrix[1, 2] = 4.0 * np.tan(np.deg2rad(21))
    matrix[0, 2] = 0.4
    hu = np.asfortranarray(rng.integers(-900, 900, (14, 17, 12)).astype(dtype))
    volume = Volume(hu, Affine(matrix))
    upright = straighten(volume)
    there = np.linalg.inv(matrix) @ upright.affine.matrix
    expected = ndimage.affine_transform(
        hu, there, output_shape=upright.shape, order=1, mode="constant", cval=AIR_HU
    )
    np.testing.assert_allclose(upright.data, expected, atol=1 if dtype == np.int16 else 2e-3)
    assert upright.data.dtype == dtype
    labels = rng.integers(0, 14, upright.shape).astype(np.uint8)
    back = np.linalg.inv(there)
    expected = ndimage.affine_transform(
        labels, back, output_shape=volume.shape, order=0, mode="constant", cval=0
    )
    found = labels_to_sheared(labels, upright.affine, volume)
    assert (found == expected).mean() > 0.995  # what lies half-way may go either way


def test_a_cropped_volume_lies_where_it_lay():
    rng = np.random.default_rng(0)
    matrix = np.eye(4)
    matrix[:3] = rng.normal(size=(3, 4))
    volume = Volume(np.arange(60, dtype=np.int16).reshape(5, 4, 3), Affine(matrix))
    part = volume.cropped((slice(1, 4), slice(2, None), slice(None)))
    assert np.shares_memory(part.data, volume.data)
    np.testing.assert_allclose(
        part.affine.matrix @ [1, 1, 2, 1], volume.affine.matrix @ [2, 3, 2, 1]
    )
