"""Which of NIfTI's matrices is the affine, and whether they contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine, affine_problem
from viscera.errors import InputError
from viscera.findings import Finding
from viscera.io.nifti.fields import HeaderFields

Matrix = NDArray[np.float64]

# xyzt_units code to millimetres (nifti1.h, NIFTI_UNITS_METER, _MM, _MICRON).
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_PLAUSIBLE_SPACING_MM = (0.05, 30.0)
_LONGEST_QUATERNION = 1.01  # beyond this it is damage, not rounding
_LEAST_REAL_SQUARE = 1e-7  # below this nifti1_io.c takes the real part for 0


class ChosenAffine(NamedTuple):
    """The affine of a header.

    Attributes:
        affine: voxel indices to RAS millimetres.
        sform_is_broken: the header has an sform that is not an affine, so it cannot be used.
        findings: what was noticed.
    """

    affine: Affine
    sform_is_broken: bool
    findings: tuple[Finding, ...]


def choose_affine(header: HeaderFields, where: Path, *, strict: bool) -> ChosenAffine:
    """The sform, else the qform, else an assumption.

    Args:
        header: its fields.
        where: the file, for messages.
        strict: refuse where the orientation would have to be assumed.

    Raises:
        InputError: no usable form.
    """
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    sform, qform = _read_sform(header), _read_qform(header)
    sform_problem = None if sform is None else affine_problem(sform)
    findings: list[Finding] = []
    if sform is not None and sform_problem is None:
        matrix = sform
        if qform is not None:
            findings += _compare_forms(sform, qform, header)
    elif qform is not None:
        matrix = qform
        if sform_problem is not None:
            message = f"the sform has {sform_problem}; the qform was used"
            findings.append(Finding("fixed", "affine-from-qform", message))
    elif sform_problem is not None:
        raise InputError(
            "a valid sform or qform",
            found=f"{sform_problem} and no qform",
            remedy="set one",
            where=where,
        )
    else:
        is_damaged = int(header["qform_code"]) > 0
        problem = "no sform and a damaged qform" if is_damaged else "neither sform nor qform"
        matrix, assumption = _assume_ras(pixdim, problem, where, strict=strict)
        findings.append(assumption)
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    if not np.allclose(spacing, pixdim, rtol=0.01, atol=1e-3):
        message = f"pixdim {_product(pixdim)} contradicts the affine's spacing {_product(spacing)}"
        findings.append(Finding("warning", "pixdim-differs", message, "the affine was used"))
    matrix, unit_findings = _in_mm(matrix, int(header["xyzt_units"]) & 7)
    findings += unit_findings
    return ChosenAffine(Affine(matrix), sform_problem is not None, tuple(findings))


def _read_sform(header: HeaderFields) -> Matrix | None:
    if int(header["sform_code"]) <= 0:
        return None
    sform = np.eye(4)
    sform[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    return sform


def _read_qform(header: HeaderFields) -> Matrix | None:
    """The qform by the rules of nifti1.h, method 2; None where the header has none that is usable.

    nibabel is stricter: it refuses a quaternion that rounding made longer than 1, and a qfac of 0.
    Then left and right would have to be assumed though the header states them.
    """
    if int(header["qform_code"]) <= 0:
        return None
    names = ("quatern_b", "quatern_c", "quatern_d")
    vector = np.array([float(header[name]) for name in names])
    length = float(np.linalg.norm(vector))
    if not length <= _LONGEST_QUATERNION:  # also where it is not finite
        return None
    square = 1.0 - length * length
    if square < _LEAST_REAL_SQUARE:
        vector, square = vector / length, 0.0
    real = np.sqrt(square)
    qfac = -1.0 if header["pixdim"][0] < 0 else 1.0
    steps = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64)) * (1.0, 1.0, qfac)
    qform = np.eye(4)
    qform[:3, :3] = _rotation(real, *vector) * steps
    qform[:3, 3] = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    return None if affine_problem(qform) else qform


def _rotation(a: float, b: float, c: float, d: float) -> Matrix:
    """The rotation of a unit quaternion (nifti1.h)."""
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def _assume_ras(
    pixdim: Matrix, problem: str, where: Path, *, strict: bool
) -> tuple[Matrix, Finding]:
    """An affine of the voxel size alone, with a finding that says so.

    Raises:
        InputError: strict, or there is no voxel size either.
    """
    if strict or not np.isfinite(pixdim).all() or (pixdim == 0).any():
        raise InputError(
            "an sform or qform",
            found=problem,
            remedy="set one with the true orientation",
            where=where,
        )
    message = f"the header has {problem}; spacing was taken from pixdim and RAS was assumed"
    hint = "check left and right, or set an sform"
    finding = Finding("warning", "orientation-assumed", message, hint)
    return np.diag([*pixdim, 1.0]), finding


def _compare_forms(sform: Matrix, qform: Matrix, header: HeaderFields) -> list[Finding]:
    last = np.append(np.asarray(header["dim"][1:4], dtype=np.float64) - 1, 1.0)
    corners = np.array(np.meshgrid(*[(0.0, n) for n in last[:3]], [1.0])).reshape(4, -1)
    distance_mm = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    s, q = (m[:3, :3] / np.sqrt((m[:3, :3] ** 2).sum(axis=0)) for m in (sform, qform))
    angle_deg = np.degrees(np.arccos(np.clip((s * q).sum(axis=0), -1, 1))).max()
    if distance_mm <= 1 and angle_deg <= 1:
        return []
    message = f"sform and qform disagree by {distance_mm:.1f} mm and {angle_deg:.1f} degrees"
    return [Finding("warning", "forms-disagree", message, "the sform was used")]


def _in_mm(matrix: Matrix, unit: int) -> tuple[Matrix, list[Finding]]:
    factor = _UNIT_MM.get(unit, 1.0)
    if factor == 1.0:
        return matrix, []
    spacing_mm = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0)) * factor
    name = "metres" if factor > 1 else "micrometres"
    low, high = _PLAUSIBLE_SPACING_MM
    if spacing_mm.min() < low or spacing_mm.max() > high:
        message = f"the header says {name}, which would make voxels of {_product(spacing_mm)} mm"
        return matrix, [Finding("warning", "units-ignored", message, "millimetres were assumed")]
    message = f"the header's {name} were converted to millimetres"
    scaled = np.asarray(matrix * np.array([[factor]] * 3 + [[1.0]]))
    return scaled, [Finding("fixed", "units-converted", message)]


def _product(values: Matrix) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
