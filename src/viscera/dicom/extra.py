"""The packages of the extra `dicom`."""

from __future__ import annotations

from importlib import import_module

from viscera.errors import InputError


def need(package: str, *, where: object = None) -> None:
    """Prove that a package of the extra is there.

    Args:
        package: such as pydicom.
        where: for messages.

    Raises:
        InputError: it is not.
    """
    try:
        import_module(package)
    except ImportError as error:
        raise InputError(
            "the extra 'dicom'",
            found=f"{package} not installed",
            remedy="run pip install 'viscera[dicom]'",
            where=where,
        ) from error
