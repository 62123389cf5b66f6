"""Optional extras: packages that only some commands need."""

from __future__ import annotations

from importlib import import_module

from viscera.errors import MissingExtraError

# Packages by the extra that brings them.
_EXTRA_OF = {
    "distributed": "cluster",
    "pyarrow": "cluster",
    "contourpy": "dicom",
    "highdicom": "dicom",
    "pydicom": "dicom",
    "dicomweb_client": "pacs",
    "pynetdicom": "pacs",
    "scipy": "evaluate",
    "onnx": "train",
    "onnxscript": "train",
    "safetensors": "train",
    "torch": "train",
    "starlette": "web",
    "uvicorn": "web",
}


def require_extra(*packages: str, where: object = None) -> None:
    """Import packages of an extra, so that nothing fails on them later.

    Args:
        packages: such as pydicom.
        where: file or case, for the message.

    Raises:
        MissingExtraError: one is not installed.
    """
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise MissingExtraError(
                f"the package {package}",
                found="none that can be imported",
                remedy=f"run pip install 'viscera[{_EXTRA_OF[package]}]'",
                where=where,
            ) from error
