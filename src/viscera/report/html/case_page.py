"""The page of one case: pictures, volumes with verdicts, findings, and the organs in 3-D."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from viscera._version import __version__
from viscera.core.organs import Organ
from viscera.errors import Wording, python_wording
from viscera.report.html.case_record import CaseRecord
from viscera.report.html.page import LIBRARY, read_part, render
from viscera.report.html.surfaces import organ_surfaces
from viscera.report.organ_statistics import OrganStatistics
from viscera.report.pictures.organ_strip import organ_strip
from viscera.report.pictures.preview import PreviewCuts
from viscera.report.scan_pass import ScanPass
from viscera.runtime.resources import thread_count
from viscera.segmentation import Segmentation

_STEP_MM = 0.1  # to which points of surfaces are rounded
_JPEG_QUALITY = 80


def case_page(
    segmentation: Segmentation,
    scan: ScanPass,
    cuts: Mapping[str, PreviewCuts],
    statistics: Sequence[OrganStatistics],
    preview: bytes,
    *,
    wording: Wording = python_wording,
) -> str:
    """One self-contained page; it opens offline and asks for nothing.

    Args:
        segmentation: the result.
        scan: of a pass over the scan through all cuts.
        cuts: of each organ that was found.
        statistics: of each organ.
        preview: a PNG, see `preview_png`.
        wording: how options are spelled in findings.
    """
    organs = [organ for organ in segmentation.organs if organ.name in cuts]
    with ThreadPoolExecutor(thread_count()) as pool:
        strips = pool.map(
            lambda organ: _jpeg(organ_strip(segmentation, cuts[organ.name], scan, organs)), organs
        )
        surfaces = _surfaces_json(segmentation, organs)
        pictures = dict(zip((organ.name for organ in organs), strips, strict=True))
    by_organ = {row.organ: row for row in statistics}
    bundle = segmentation.provenance.get("bundle", {})
    library, viewer = read_part(LIBRARY), read_part("viewer.js")
    return render(
        "case.html.j2",
        scripts=[library, viewer],
        values={
            "name": segmentation.volume.name,
            "version": __version__,
            "network": bundle.get("name", "unknown"),
            "summary": quality_summary(segmentation),
            "patient": segmentation.provenance.get("patient") or {},
            "organs": [
                _organ_row(segmentation, organ, by_organ[organ.name], pictures)
                for organ in segmentation.organs
            ],
            "scan": _scan_rows(segmentation),
            "findings": [
                {
                    "level": finding.level,
                    "style": "check" if finding.level == "warning" else "dim",
                    "text": finding.text(wording),
                }
                for finding in segmentation.findings
            ],
            "making": _making_rows(segmentation),
            "record": CaseRecord.of(segmentation).to_json(),
            "preview": base64.b64encode(preview).decode(),
            "surfaces": surfaces,
            "library": library,
            "viewer": viewer,
        },
    )


def quality_summary(segmentation: Segmentation) -> str:
    """One sentence on all verdicts."""
    verdicts = [quality.verdict for quality in segmentation.quality.values()]
    if not verdicts:
        return "No verdict was made."
    counts = {verdict: verdicts.count(verdict) for verdict in ("good", "check", "fail")}
    parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    return f"Verdicts on {len(verdicts)} organs: {', '.join(parts)}."


def volume_text(volume_ml: float, *, is_cut: bool) -> str:
    """Millilitres for people.

    Args:
        volume_ml: 0 where the organ was not found.
        is_cut: the scan cuts it, so that this is a lower bound.
    """
    if not volume_ml:
        return "none"
    text = f"{volume_ml:,.0f}" if volume_ml >= 10 else f"{volume_ml:.1f}"
    return f"> {text}" if is_cut else text


def _organ_row(
    segmentation: Segmentation, organ: Organ, row: OrganStatistics, pictures: Mapping[str, str]
) -> dict[str, Any]:
    quality = segmentation.quality.get(organ.name)
    estimate = ""
    if quality is not None and quality.estimated_dsc is not None and row.n_voxels:
        estimate = f"{quality.estimated_dsc:.2f}"
        if quality.interval is not None:
            estimate += f" [{quality.interval[0]:.2f}, {quality.interval[1]:.2f}]"
    return {
        "name": organ.name,
        "title": organ.title,
        "colour": organ.colour,
        "found": row.n_voxels > 0,
        "volume": volume_text(row.volume_ml, is_cut=row.touches_border),
        "hu": "" if row.mean_hu is None else f"{row.mean_hu:.0f}",
        "estimate": estimate,
        "verdict": "" if quality is None else quality.verdict,
        "reasons": () if quality is None else quality.reasons,
        "strip": pictures.get(organ.name, ""),
    }


def _scan_rows(segmentation: Segmentation) -> dict[str, str]:
    volume, examination = segmentation.volume, segmentation.examination
    spacing = " x ".join(f"{mm:.3g}" for mm in volume.affine.spacing_mm)
    rows = {
        "voxels": f"{' x '.join(map(str, volume.shape))} of {spacing} mm, {volume.affine.axcodes}"
    }
    if examination is not None:
        rows["shows"] = ", ".join(examination.body_parts) or "no body part that is known"
        rows["contrast"] = examination.phase or "unknown"
        if examination.noise_hu is not None:
            rows["noise"] = f"{examination.noise_hu:.0f} HU"
        for how in ("cut", "not seen", "outside"):
            names = [n for n, coverage in examination.coverage.items() if coverage == how]
            if names:
                rows[f"organs {how}"] = ", ".join(names)
    return rows


def _making_rows(segmentation: Segmentation) -> dict[str, str]:
    provenance, stages = segmentation.provenance, segmentation.stages
    bundle, engine = provenance.get("bundle", {}), provenance.get("engine", {})
    rows = {
        "signature": segmentation.signature,
        "network": f"{bundle.get('name', '')}, sha256 {str(bundle.get('sha256', ''))[:16]}",
        "licence of its weights": str(bundle.get("licence", "")),
        "engine": " ".join(str(engine.get(key, "")) for key in ("name", "version", "precision")),
    }
    if stages is not None:
        seconds = ", ".join(f"{name} {s:.2f} s" for name, s in stages.seconds.items())
        rows["time"] = f"{seconds}; {sum(stages.seconds.values()):.1f} s in all"
    return rows


def _surfaces_json(segmentation: Segmentation, organs: Sequence[Organ]) -> str:
    """Surfaces around their common middle, as numbers in base64."""
    labels, affine = segmentation.labels, segmentation.affine
    by_id = organ_surfaces(labels, affine, [organ.id for organ in organs])
    surfaces = {organ: by_id[organ.id] for organ in organs if len(by_id[organ.id].triangles)}
    if not surfaces:
        return json.dumps({"organs": [], "step_mm": _STEP_MM, "radius_mm": 100})
    points_mm = np.concatenate([surface.points_mm for surface in surfaces.values()])
    middle = (points_mm.min(axis=0) + points_mm.max(axis=0)) / 2
    radius_mm = float(np.linalg.norm(points_mm - middle, axis=1).max())
    # 16 bits reach 3.2 m at a tenth of a millimetre.
    table = []
    for organ, surface in surfaces.items():
        is_wide = len(surface.points_mm) > 65_535
        short = np.rint((surface.points_mm - middle) / _STEP_MM).astype("<i2")
        table.append(
            {
                "name": organ.name,
                "colour": organ.colour,
                "wide": is_wide,
                "points": _base64(short),
                "triangles": _base64(surface.triangles.astype("<u4" if is_wide else "<u2")),
            }
        )
    return json.dumps({"organs": table, "step_mm": _STEP_MM, "radius_mm": round(radius_mm, 1)})


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _jpeg(picture: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(file.getvalue()).decode()
