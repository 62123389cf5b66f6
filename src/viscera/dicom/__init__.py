"""DICOM in: the CT series in whatever one is given, as a volume. Needs the extra `dicom`."""

from viscera.dicom.files import looks_like_dicom
from viscera.dicom.open import find_series, open_series

__all__ = ["find_series", "looks_like_dicom", "open_series"]
