"""The fields of both NIfTI headers, as nifti1.h and nifti2.h lay them out.

They are read and written here and not by nibabel: to import it takes a fifth of a second, a tenth
of a whole run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# A header in little-endian order: an array without axes; its fields are got and set by name.
HeaderFields = NDArray[np.void]

_TRANSFORM_FIELDS_1: list[Any] = [
    ("qform_code", "<i2"), ("sform_code", "<i2"),
    ("quatern_b", "<f4"), ("quatern_c", "<f4"), ("quatern_d", "<f4"),
    ("qoffset_x", "<f4"), ("qoffset_y", "<f4"), ("qoffset_z", "<f4"),
    ("srow_x", "<f4", 4), ("srow_y", "<f4", 4), ("srow_z", "<f4", 4),
]  # fmt: skip
_NIFTI_1 = np.dtype(
    [
        ("sizeof_hdr", "<i4"), ("data_type", "S10"), ("db_name", "S18"), ("extents", "<i4"),
        ("session_error", "<i2"), ("regular", "S1"), ("dim_info", "u1"), ("dim", "<i2", 8),
        ("intent_p", "<f4", 3), ("intent_code", "<i2"), ("datatype", "<i2"), ("bitpix", "<i2"),
        ("slice_start", "<i2"), ("pixdim", "<f4", 8), ("vox_offset", "<f4"),
        ("scl_slope", "<f4"), ("scl_inter", "<f4"), ("slice_end", "<i2"), ("slice_code", "u1"),
        ("xyzt_units", "u1"), ("cal_max", "<f4"), ("cal_min", "<f4"), ("slice_duration", "<f4"),
        ("toffset", "<f4"), ("glmax", "<i4"), ("glmin", "<i4"), ("descrip", "S80"),
        ("aux_file", "S24"), *_TRANSFORM_FIELDS_1, ("intent_name", "S16"), ("magic", "S4"),
    ]
)  # fmt: skip
_NIFTI_2 = np.dtype(
    [
        ("sizeof_hdr", "<i4"), ("magic", "S8"), ("datatype", "<i2"), ("bitpix", "<i2"),
        ("dim", "<i8", 8), ("intent_p", "<f8", 3), ("pixdim", "<f8", 8), ("vox_offset", "<i8"),
        ("scl_slope", "<f8"), ("scl_inter", "<f8"), ("cal_max", "<f8"), ("cal_min", "<f8"),
        ("slice_duration", "<f8"), ("toffset", "<f8"), ("slice_start", "<i8"),
        ("slice_end", "<i8"), ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "<i4"),
        ("sform_code", "<i4"), ("quatern_b", "<f8"), ("quatern_c", "<f8"), ("quatern_d", "<f8"),
        ("qoffset_x", "<f8"), ("qoffset_y", "<f8"), ("qoffset_z", "<f8"), ("srow_x", "<f8", 4),
        ("srow_y", "<f8", 4), ("srow_z", "<f8", 4), ("slice_code", "<i4"), ("xyzt_units", "<i4"),
        ("intent_code", "<i4"), ("intent_name", "S16"), ("dim_info", "u1"), ("unused_str", "S15"),
    ]
)  # fmt: skip
NIFTI_1_BYTES, NIFTI_2_BYTES = _NIFTI_1.itemsize, _NIFTI_2.itemsize
# Names of the types by their codes; those that numpy knows by another name are not numbers to us.
DATA_TYPES = {
    1: "binary", 2: "uint8", 4: "int16", 8: "int32", 16: "float32", 32: "complex64",
    64: "float64", 128: "RGB", 256: "int8", 512: "uint16", 768: "uint32", 1024: "int64",
    1280: "uint64", 1536: "float128", 1792: "complex128", 2048: "complex256", 2304: "RGBA",
}  # fmt: skip
_MILLIMETRES = 2
_SCANNER_ANAT = 1


def load_header(block: bytes) -> HeaderFields:
    """The fields of a header of either version and byte order, unchecked.

    Args:
        block: 348 or 540 bytes.
    """
    kind = _NIFTI_1 if len(block) == NIFTI_1_BYTES else _NIFTI_2
    fields = np.frombuffer(block, dtype=kind).reshape(())
    if int(fields["sizeof_hdr"]) != len(block):
        fields = fields.view(kind.newbyteorder(">"))
    return fields.astype(kind)  # a copy in any case: these may be changed


def new_header(matrix: NDArray[np.float64], *, has_right_angles: bool) -> HeaderFields:
    """A NIfTI-1 header that says an affine in its forms.

    Args:
        matrix: (4, 4), voxel indices to RAS millimetres.
        has_right_angles: a qform, which can say nothing else, is written too.
    """
    header = np.zeros((), dtype=_NIFTI_1)
    header["sizeof_hdr"], header["magic"] = NIFTI_1_BYTES, b"n+1"
    header["xyzt_units"] = _MILLIMETRES
    header["pixdim"] = 1
    header["pixdim"][1:4] = np.linalg.norm(matrix[:3, :3], axis=0)
    header["sform_code"] = _SCANNER_ANAT
    header["srow_x"], header["srow_y"], header["srow_z"] = matrix[:3]
    if has_right_angles:
        header["qform_code"] = _SCANNER_ANAT
        rotation = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
        if np.linalg.det(rotation) < 0:
            header["pixdim"][0] = -1  # qfac
            rotation[:, 2] *= -1
        b, c, d = _quaternion(rotation)
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = b, c, d
        header["qoffset_x"], header["qoffset_y"], header["qoffset_z"] = matrix[:3, 3]
    return header


def _quaternion(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """b, c, d of the unit quaternion with a >= 0 of a rotation, whatever its angle.

    The quaternion is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack
    2000), which is stable where rounding has made the rotation inexact.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, yx + xy, zx + xz],
            [xz - zx, yx + xy, yy - xx - zz, zy + yz],
            [yx - xy, zx + xz, zy + yz, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    a_positive: NDArray[np.float64] = quaternion[1:] * (-1 if quaternion[0] < 0 else 1)
    return a_positive
