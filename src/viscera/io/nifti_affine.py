"""Which of NIfTI's matrices is the affine, and whether they contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.affine import Affine, problem_of
from viscera.errors import InputError
from viscera.findings import Finding

# xyzt_units code to millimetres (nifti1.h, NIFTI_UNITS_METER, _MM, _MICRON).
_UNIT_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_PLAUSIBLE_SPACING_MM = (0.05, 30.0)


def affine_of(header: Any, findings: list[Finding], where: Path, *, strict: bool) -> Affine:
    """The sform, else the qform, else an assumption.

    Args:
        header: nibabel's header; a broken sform is taken out of it.
        findings: what was noticed is added here.
        where: the file, for messages.
        strict: refuse where the orientation would have to be assumed.

    Raises:
        InputError: no usable form.
    """
    pixdim = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    qform = _qform(header)
    matrix = None
    if int(header["sform_code"]) > 0:
        sform = np.eye(4)
        sform[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
        problem = problem_of(sform)
        if problem is None:
            matrix = sform
            if qform is not None:
                _compare_forms(sform, qform, header, findings)
        elif qform is None:
            raise _refuse("a valid sform or qform", f"{problem} and no qform", "set one", where)
        else:
            message = f"the sform has {problem}; the qform was used"
            findings.append(Finding("fixed", "affine-from-qform", message))
            header["sform_code"] = 0
            header["srow_x"] = header["srow_y"] = header["srow_z"] = 0
    if matrix is None:
        matrix = qform
    if matrix is None:
        found = "neither sform nor qform"
        if strict or not np.isfinite(pixdim).all() or (pixdim == 0).any():
            raise _refuse("an sform or qform", found, "set one with the true orientation", where)
        matrix = np.diag([*pixdim, 1.0])
        hint = "check left and right, or set an sform"
        message = f"the header has {found}; spacing was taken from pixdim and RAS was assumed"
        findings.append(Finding("warning", "orientation-assumed", message, hint))
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    if not np.allclose(spacing, pixdim, rtol=0.01, atol=1e-3):
        message = f"pixdim {_list(pixdim)} contradicts the affine's spacing {_list(spacing)}"
        findings.append(Finding("warning", "pixdim-differs", message, "the affine was used"))
    return Affine(_in_mm(matrix, int(header["xyzt_units"]) & 7, findings))


def _qform(header: Any) -> NDArray[np.float64] | None:
    if int(header["qform_code"]) <= 0:
        return None
    try:
        upright = header.copy()
        upright["pixdim"][1:4] = np.abs(header["pixdim"][1:4])  # nibabel refuses negative ones
        qform = np.asarray(upright.get_qform(), dtype=np.float64)
    except Exception:  # nibabel raises several kinds for impossible quaternions
        return None
    return None if problem_of(qform) else qform


def _compare_forms(
    sform: NDArray[np.float64], qform: NDArray[np.float64], header: Any, findings: list[Finding]
) -> None:
    last = np.append(np.asarray(header["dim"][1:4], dtype=np.float64) - 1, 1.0)
    corners = np.array(np.meshgrid(*[(0.0, n) for n in last[:3]], [1.0])).reshape(4, -1)
    apart_mm = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    s, q = (m[:3, :3] / np.sqrt((m[:3, :3] ** 2).sum(axis=0)) for m in (sform, qform))
    angle = np.degrees(np.arccos(np.clip((s * q).sum(axis=0), -1, 1))).max()
    if apart_mm > 1 or angle > 1:
        message = f"sform and qform disagree by {apart_mm:.1f} mm and {angle:.1f} degrees"
        findings.append(Finding("warning", "forms-disagree", message, "the sform was used"))


def _in_mm(matrix: NDArray[np.float64], unit: int, findings: list[Finding]) -> NDArray[np.float64]:
    factor = _UNIT_MM.get(unit, 1.0)
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0)) * factor
    if factor == 1.0:
        return matrix
    name = "metres" if factor > 1 else "micrometres"
    low, high = _PLAUSIBLE_SPACING_MM
    if spacing.min() < low or spacing.max() > high:
        message = f"the header says {name}, which would make voxels of {_list(spacing)} mm"
        findings.append(Finding("warning", "units-ignored", message, "millimetres were assumed"))
        return matrix
    message = f"the header's {name} were converted to millimetres"
    findings.append(Finding("fixed", "units-converted", message))
    return np.asarray(matrix * np.array([[factor]] * 3 + [[1.0]]))


def _list(values: NDArray[np.float64]) -> str:
    return " x ".join(f"{v:.4g}" for v in values)


def _refuse(expected: str, found: str, remedy: str, where: Path) -> InputError:
    return InputError(expected, found=found, remedy=remedy, where=where)
