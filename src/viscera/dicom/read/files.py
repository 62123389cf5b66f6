"""The files of a folder or of a zip archive, and which of them are DICOM."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from viscera.errors import InputError, ResourceError

_REMEDY = "unpack it and name the folder"
_MOST_FILES = 50_000
_MOST_MB, _MOST_RATIO = 8_000, 200  # of an archive: what it may inflate to, in all and by how much
_MOST_MEMBER_MB = 1_000  # of a file in it, which is inflated in memory
_SYMLINK = 0o120000
_COMPRESSIONS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz"}
_ZIP = b"PK\x03\x04"
HEAD_BYTES = 136  # that tell DICOM from other files


@dataclass(frozen=True)
class SourceFile:
    """One file, on disk or in an archive.

    Attributes:
        path: the file, or the archive that holds it.
        member: its entry in the archive; it is read from there and never unpacked to disk.
        stamp: size and time of change, by which one sees that it is still being written.
        archive: the archive, opened.
    """

    path: Path
    member: zipfile.ZipInfo | None = None
    stamp: tuple[int, int] = (0, 0)
    archive: zipfile.ZipFile | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.member.filename}" if self.member else str(self.path)

    def head(self) -> bytes:
        """The first bytes, which tell what it is; raises OSError or BadZipFile."""
        if self.archive is not None and self.member is not None:
            with self.archive.open(self.member) as file:
                return file.read(HEAD_BYTES)
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)

    def open(self) -> BinaryIO:
        """The content, to be read; raises OSError or BadZipFile."""
        if self.archive is not None and self.member is not None:
            return io.BytesIO(self.archive.read(self.member))
        return self.path.open("rb")

    def changed(self) -> bool:
        """Whether the file is another than when it was found."""
        return self.archive is None and file_stamp(self.path) != self.stamp


def file_stamp(path: Path) -> tuple[int, int]:
    """Size and time of change; zeros where there is nothing."""
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def list_files(source: Path) -> list[SourceFile]:
    """All files of a folder and its subfolders, of an archive, or the file itself, by name.

    Links to files count, as data sets that keep their content elsewhere have them; those to folders
    are not followed, so that none is walked twice.

    Raises:
        InputError: an archive that is damaged, encrypted, or holds links or odd names.
        ResourceError: more files, or more bytes, than any study has.
    """
    if source.is_dir():
        paths: list[Path] = []
        for folder, folders, names in os.walk(source):
            folders.sort()
            inside = (Path(folder) / name for name in sorted(names))
            paths += [path for path in inside if is_regular_file(path)]
            _check_count(len(paths), source)
        return [SourceFile(path, stamp=file_stamp(path)) for path in paths]
    if not is_archive(source):
        return [SourceFile(source, stamp=file_stamp(source))]
    try:
        archive = zipfile.ZipFile(source)  # closed with the last of its items
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(
            "a zip archive", found=f"damage ({error})", remedy=_REMEDY, where=source
        ) from error
    members = [entry for entry in archive.infolist() if not entry.is_dir()]
    _check_count(len(members), source)
    _check_members(members, source)
    members.sort(key=lambda entry: entry.filename)
    return [SourceFile(source, m, (m.file_size, m.CRC), archive) for m in members]


def is_regular_file(path: Path) -> bool:
    """Whether this is a file; not where even that may not be asked."""
    try:
        return path.is_file()
    except OSError:
        return False


def _check_members(members: list[zipfile.ZipInfo], source: Path) -> None:
    """Judge an archive by its table of contents, before anything is inflated."""
    inflated = sum(entry.file_size for entry in members)
    size = max(1, source.stat().st_size)
    bomb = inflated > 256e6 and inflated / size > _MOST_RATIO
    if bomb or inflated > _MOST_MB * 1e6:
        raise ResourceError(
            f"an archive that inflates by at most {_MOST_RATIO} times and to {_MOST_MB} MB",
            found=f"{inflated / 1e6:.0f} MB declared in {size / 1e6:.2f} MB",
            remedy="make sure that this is a study and not a hostile file, or unpack it yourself",
            where=source,
        )
    for entry in members:
        if entry.file_size > _MOST_MEMBER_MB * 1e6:
            raise ResourceError(
                f"files of at most {_MOST_MEMBER_MB} MB in an archive",
                found=f"one of {entry.file_size / 1e6:.0f} MB",
                remedy="unpack it and name the folder",
                where=source,
            )
        if entry.flag_bits & 1:
            raise InputError(
                "an archive without password",
                found="an encrypted one",
                remedy=_REMEDY,
                where=source,
            )
        if entry.external_attr >> 16 & 0o170000 == _SYMLINK:
            raise InputError(
                "an archive of plain files", found="a link in it", remedy=_REMEDY, where=source
            )
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Others inflate by any factor, slowly, or not at all here.
            raise InputError(
                "an archive that is stored or deflated",
                found=f"another compression ({_COMPRESSIONS.get(entry.compress_type, 'unknown')})",
                remedy=_REMEDY,
                where=source,
            )
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0]:
            raise InputError(
                "names within the archive",
                found="a path outside it",
                remedy=_REMEDY,
                where=source,
            )


def is_archive(path: Path) -> bool:
    """Whether a file begins as zip archives do."""
    return read_head(path).startswith(_ZIP)


def check_no_archive(file: SourceFile, head: bytes) -> None:
    """Refuse archives within an archive, given a file's first bytes: they can nest without end.

    Args:
        file: the file within an archive.
        head: its first bytes.

    Raises:
        InputError: it is one.
    """
    if file.archive is not None and head.startswith(_ZIP):
        raise InputError(
            "an archive of plain files", found="an archive in it", remedy=_REMEDY, where=file
        )


def looks_like_dicom(path: Path) -> bool:
    """Whether a path is for this room: a folder, an archive, or a DICOM file."""
    try:
        folder = path.is_dir()
    except (OSError, ValueError):  # a name that no file system holds
        return False
    return folder or is_archive(path) or begins_as_dicom(read_head(path))


def begins_as_dicom(head: bytes) -> bool:
    """Whether the first 136 bytes are DICOM's, with its preamble or, as of old, without."""
    if head[128:132] == b"DICM":
        return True
    # Without: group 0008 (or 0002) comes first, an element of it that opens a data set, and a
    # short value or two capital letters that name its kind.
    group, element = head[:2], int.from_bytes(head[2:4], "little")
    if group not in (b"\x08\x00", b"\x02\x00") or element > 0x0020 or len(head) < HEAD_BYTES:
        return False
    names_vr = head[4:6].isalpha() and head[4:6].isupper()
    return names_vr or int.from_bytes(head[4:8], "little") < 256


def read_head(path: Path) -> bytes:
    """The first bytes of a regular file, which tell what it is; none where it cannot be read."""
    try:
        if not path.is_file():  # a FIFO would block
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def _check_count(count: int, source: Path) -> None:
    if count > _MOST_FILES:
        raise ResourceError(
            f"at most {_MOST_FILES} files",
            found="more",
            remedy="name the folder of one study",
            where=source,
        )
