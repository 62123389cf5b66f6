"""Content digest: a checksum of the bytes that make a volume."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from viscera.dicom.read.files import SourceFile, begins_as_dicom, list_files
from viscera.dicom.read.header import read_meta
from viscera.dicom.read.slices import CT_CLASSES
from viscera.io.nifti.read import PAIR_HEADERS, nifti_header_path, nifti_image_path
from viscera.runtime.digests import file_sha256


def content_digest(path: Path) -> str:
    """A checksum of the bytes that make a volume, both files of a pair; empty if unreadable.

    Of a folder, the content of its CT images counts: what else lies there makes no volume.

    Raises:
        InputError: an archive that is damaged.
        ResourceError: more files than any study has.
    """
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for item in list_files(path):
                if _may_be_ct(item):
                    name = str(item.path.relative_to(path))
                    digest.update(repr((name, file_sha256(item.path))).encode())
            return digest.hexdigest()
        header = nifti_header_path(path)
        pair = [nifti_image_path(header)] if header.name.lower().endswith(PAIR_HEADERS) else []
        if not all(part.is_file() for part in (header, *pair)):  # a FIFO would block
            return ""
        if not pair:
            return file_sha256(header)
        for part in (header, *pair):
            digest.update(file_sha256(part).encode())
    except OSError:
        return ""
    return digest.hexdigest()


def _may_be_ct(file: SourceFile) -> bool:
    """Whether a file is DICOM of a class that a CT has, or of none."""
    with suppress(Exception):  # pydicom raises many kinds; damaged files count
        if not begins_as_dicom(file.head()):
            return False
        with file.open() as stream:
            return read_meta(stream)[1] in (*CT_CLASSES, "")
    return True
