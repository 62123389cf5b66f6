import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from viscera.core.affine import Affine
from viscera.errors import InputError


def rotation(degrees, axis=0):
    turn = np.deg2rad(degrees)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(turn)
    matrix[a, b], matrix[b, a] = -np.sin(turn), np.sin(turn)
    return matrix


def all_orientations():
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            yield order, signs


_UPRIGHT = np.eye(3)


def oriented(order, signs, spacing=(0.7, 0.9, 5.0), tilt=_UPRIGHT):
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for voxel, (world, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[world, voxel] = sign * spacing[voxel]
    matrix[:3, :3] = tilt @ matrix[:3, :3]
    matrix[:3, 3] = (12.5, -80.0, 410.0)
    return matrix


@pytest.mark.parametrize(("order", "signs"), list(all_orientations()))
@pytest.mark.parametrize("degrees", [0, 20])
def test_axcodes_agree_with_nibabel(order, signs, degrees):
    matrix = oriented(order, signs, tilt=rotation(degrees))
    assert Affine(matrix).axcodes == "".join(nib.aff2axcodes(matrix))


@given(st.tuples(*[st.floats(0.1, 20)] * 3), st.floats(-40, 40), st.integers(0, 2))
def test_spacing_and_volume_survive_rotation(spacing, degrees, axis):
    affine = Affine(oriented((0, 1, 2), (1, 1, 1), spacing, rotation(degrees, axis)))
    np.testing.assert_allclose(affine.spacing_mm, spacing, rtol=1e-9)
    assert affine.voxel_ml == pytest.approx(np.prod(spacing) / 1000)
    assert affine.shear_deg == pytest.approx(0, abs=1e-4)
    assert affine.obliquity_deg == pytest.approx(abs(degrees), abs=1e-4)


def test_shear():
    sheared = np.eye(4)
    sheared[1, 2] = np.tan(np.deg2rad(12))
    assert Affine(sheared).shear_deg == pytest.approx(12)


@pytest.mark.parametrize(
    ("matrix", "found"),
    [
        (np.eye(3), "shape"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag([1, 1, 0, 1]), "singular"),
        (np.ones((4, 4)), "singular"),
        (np.diag([1, 1, 1, 2]), "last row"),
    ],
)
def test_refuses_what_is_no_affine(matrix, found):
    with pytest.raises(InputError, match=found):
        Affine(matrix)


def test_tiny_voxels_are_not_singular():
    assert Affine(np.diag([1e-4, 1e-4, 1e-4, 1])).spacing_mm == (1e-4, 1e-4, 1e-4)


def test_is_a_value():
    assert Affine(np.eye(4)) == Affine(np.eye(4))
    assert len({Affine(np.eye(4)), Affine(np.eye(4))}) == 1
    with pytest.raises(ValueError, match="read-only"):
        Affine(np.eye(4)).matrix[0, 0] = 2
