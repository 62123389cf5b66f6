"""The fields of NIfTI headers, against nibabel's."""

import nibabel as nib
import numpy as np
import pytest

from viscera.io.nifti.fields import DATA_TYPES, load_header, new_header

KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}


def random_header(kind, endianness, seed):
    """A header with something different in every field."""
    random = np.random.default_rng(seed)
    header = kind(endianness=endianness)
    fields = header.structarr
    for name in fields.dtype.names:
        if name in ("sizeof_hdr", "magic", "eol_check"):
            continue
        field = fields[name]
        if field.dtype.kind == "S":
            fields[name] = bytes(random.integers(65, 90, field.dtype.itemsize).tolist())
        elif field.dtype.kind == "f":
            fields[name] = random.normal(size=field.shape)
        else:
            fields[name] = random.integers(0, 100, field.shape)
    return header


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("size", [348, 540])
def test_every_field_is_nibabels(size, endianness):
    theirs = random_header(KINDS[size], endianness, size)
    ours = load_header(theirs.binaryblock)
    for name in theirs:
        if name == "eol_check":  # the second half of a magic string
            continue
        mine = name
        if name.startswith("intent_p"):
            assert ours["intent_p"][int(name[-1]) - 1] == theirs[name]
            continue
        if name == "magic":
            assert bytes(ours[mine]).startswith(bytes(theirs[name]))
            continue
        np.testing.assert_array_equal(ours[mine], theirs[name], err_msg=name)
    assert ours.tobytes() == theirs.as_byteswapped("<").binaryblock


def test_data_types_are_nibabels():
    codes = nib.nifti1.data_type_codes
    named = {code: codes.label[code] for code in codes.value_set() if code not in (0, 255)}
    assert named == DATA_TYPES


@pytest.mark.parametrize("seed", range(60))
def test_forms_of_a_new_header_are_nibabels(seed):
    """Any rotation, mirrored or not, by 180 degrees too."""
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    if seed % 2:
        rotation = np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * random.uniform(0.3, 5, 3)
    matrix[:3, 3] = random.normal(size=3) * 100
    ours = nib.Nifti1Header(new_header(matrix, has_right_angles=True).tobytes(), check=False)
    theirs = nib.Nifti1Header()
    theirs.set_sform(matrix, code=1)
    theirs.set_qform(matrix, code=1)
    np.testing.assert_allclose(ours.get_qform(), theirs.get_qform(), atol=2e-4)
    np.testing.assert_allclose(ours.get_sform(), theirs.get_sform())
    np.testing.assert_allclose(ours["pixdim"], theirs["pixdim"], rtol=1e-6)


def test_a_sheared_affine_has_no_qform():
    matrix = np.eye(4)
    matrix[1, 2] = 0.3
    header = nib.Nifti1Header(new_header(matrix, has_right_angles=False).tobytes(), check=False)
    assert int(header["qform_code"]) == 0
    np.testing.assert_allclose(header.get_sform(), matrix, atol=1e-6)
