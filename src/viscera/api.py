"""The one-call API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from viscera.predictor import Predictor
from viscera.segmentation import Segmentation


def segment(
    source: Any,
    affine: Any = None,
    *,
    bundle: str | Path = "default",
    strict: bool = False,
    **options: Any,
) -> Segmentation:
    """Find the organs in one scan; for many scans, keep a `Predictor`.

    Args:
        source: a path, a Volume, a nibabel image, or an [i, j, k] array of HU.
        affine: (4, 4) matrix to RAS millimetres; for arrays only.
        bundle: a bundle's folder or the name of a packaged one.
        strict: raise where something would be assumed or nothing is found.
        **options: passed on to `Predictor`.

    Returns:
        The labels on the scan's own grid.
    """
    return Predictor(bundle, **options).segment(source, affine, strict=strict)
