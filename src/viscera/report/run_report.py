"""The report of a run: everything that was done to one case, JSON-ready.

It names the case as its file does, and nothing else about the patient: no path, no date, no text
from the header.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from viscera._version import __version__
from viscera.errors import Wording, python_wording
from viscera.segmentation import Segmentation


def run_report(segmentation: Segmentation, wording: Wording = python_wording) -> dict[str, Any]:
    """Versions, bundle, engine, grids, findings, labels, volumes, and what each stage cost.

    Args:
        segmentation: the result.
        wording: how options are spelled in the findings.
    """
    volume, stages = segmentation.volume, segmentation.stages
    report: dict[str, Any] = {
        "case": volume.name,
        "viscera": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        **segmentation.provenance,
        "source": {
            "shape_ijk": list(volume.shape),
            "spacing_mm_ijk": [round(s, 6) for s in volume.affine.spacing_mm],
            "orientation": volume.affine.axcodes,
            "dtype": volume.voxels.dtype.name,
        },
        "findings": [finding.as_dict(wording) for finding in segmentation.findings],
        "labels": [
            {"id": o.id, "name": o.name, "title": o.title, "colour": list(o.colour)}
            for o in segmentation.organs
        ],
        "volumes_ml": {name: round(ml, 3) for name, ml in segmentation.volumes_ml().items()},
        "cut_organs": list(segmentation.cut_organs()),
        "quality": {name: quality.as_dict() for name, quality in segmentation.quality.items()},
    }
    if segmentation.examination is not None:
        report["examination"] = segmentation.examination.as_dict()
    if stages is not None:
        report["stages"] = {
            name: {"seconds": round(seconds, 3), "peak_mb": round(stages.peaks_mb[name], 1)}
            for name, seconds in stages.seconds.items()
        }
        report["seconds"] = round(sum(stages.seconds.values()), 3)
    return report
