"""viscera: abdominal organs in CT, on a laptop's CPU, in seconds, offline.

    import viscera
    segmentation = viscera.segment("ct.nii.gz", bundle="path/to/bundle")
    segmentation.volumes_ml()["liver"]

Names are imported when they are first used, so that `import viscera` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viscera.affine import Affine
    from viscera.api import segment
    from viscera.bundle import Bundle
    from viscera.bundles import read_bundle
    from viscera.errors import VisceraError
    from viscera.evaluation import Evaluation, evaluate
    from viscera.findings import Finding
    from viscera.io import read_labels, read_volume, write_labels, write_masks
    from viscera.labelmap import LabelMap
    from viscera.metrics import OrganScore
    from viscera.organs import ORGANS, Organ
    from viscera.phantom import make_phantom
    from viscera.predictor import Predictor
    from viscera.segmentation import Segmentation
    from viscera.volume import Volume

__version__ = "0.1.0"

_HOMES = {
    "Affine": "affine",
    "Bundle": "bundle",
    "Evaluation": "evaluation",
    "Finding": "findings",
    "LabelMap": "labelmap",
    "ORGANS": "organs",
    "Organ": "organs",
    "OrganScore": "metrics",
    "Predictor": "predictor",
    "Segmentation": "segmentation",
    "VisceraError": "errors",
    "Volume": "volume",
    "evaluate": "evaluation",
    "make_phantom": "phantom",
    "read_bundle": "bundles",
    "read_labels": "io",
    "read_volume": "io",
    "segment": "api",
    "write_labels": "io",
    "write_masks": "io",
}

__all__ = [
    "ORGANS",
    "Affine",
    "Bundle",
    "Evaluation",
    "Finding",
    "LabelMap",
    "Organ",
    "OrganScore",
    "Predictor",
    "Segmentation",
    "VisceraError",
    "Volume",
    "evaluate",
    "make_phantom",
    "read_bundle",
    "read_labels",
    "read_volume",
    "segment",
    "write_labels",
    "write_masks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'viscera' has no attribute {name!r}")
    value = getattr(import_module(f"viscera.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
