"""Bytes of a file, inflated when they are gzip: never more than asked for, never past an error.

No library at hand inflates with a bound, tells trailing bytes from damage and stops at the first
wrong checksum; isal does the inflating, this module the accounting.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from isal import isal_zlib

from viscera.errors import InputError

_CHUNK = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB = 31, 15


class ByteReader:
    """Reads a file from its start, through gzip where its content is gzip.

    Attributes:
        path: the file.
        size: bytes on disk.
        is_gzip: whether the content is inflated on the way.
        trailing: bytes that follow the last gzip member and were ignored, known after `finish`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open_regular(path)
        self.size = os.fstat(self._file.fileno()).st_size
        self.trailing = 0
        head = self._file.read(2)
        self._file.seek(0)
        self.is_gzip = head == _GZIP_MAGIC
        self._inflater = isal_zlib.decompressobj(_GZIP) if self.is_gzip else None
        self._pending = b""
        self._ended = False

    def __enter__(self) -> ByteReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def inflate_from_here(self) -> None:
        """Treat the bytes from the present offset on as gzip or zlib, as NRRD and MetaImage do."""
        if self._inflater is not None:
            raise InputError(
                "voxels compressed once",
                found="gzip within gzip",
                remedy="decompress the file once",
                where=self.path,
            )
        head = self._file.read(2)
        self._file.seek(-len(head), os.SEEK_CUR)
        self._inflater = isal_zlib.decompressobj(_GZIP if head == _GZIP_MAGIC else _ZLIB)

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; fewer only at the end."""
        buffer = bytearray(count)
        return bytes(memoryview(buffer)[: self.readinto(memoryview(buffer))])

    def readline(self, limit: int) -> bytes:
        """A line of plain bytes with its end, at most `limit` bytes long; headers only."""
        return self._file.readline(limit)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer from here on; returns how many bytes there were.

        Raises:
            InputError: the compressed stream is damaged.
        """
        if self._inflater is None:
            got = 0
            while got < len(buffer) and (step := self._file.readinto(buffer[got:])):  # type: ignore[attr-defined]
                got += step
            return got
        got = 0
        while got < len(buffer) and not self._ended:
            part = self._inflate(min(len(buffer) - got, 4 * _CHUNK))
            buffer[got : got + len(part)] = part
            got += len(part)
        return got

    def finish(self, most: int = 1 << 24) -> int:
        """Read on to the end, so that the checksum is verified; returns bytes that were left over.

        Args:
            most: give up after this many inflated bytes.
        """
        extra = 0
        while extra < most and (part := self.read(min(_CHUNK, most - extra))):
            extra += len(part)
        return extra

    def _inflate(self, most: int) -> bytes:
        """The next bytes of the gzip stream; empty at its end (`_ended`)."""
        assert self._inflater is not None
        while True:
            chunk = self._pending or self._file.read(_CHUNK)
            try:
                part: bytes = self._inflater.decompress(chunk, most)
            except isal_zlib.error as error:  # type: ignore[misc]
                raise self._damaged(f"damage in the compressed stream ({error})") from error
            self._pending = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._next_member(self._inflater.unused_data)
            elif not chunk and not part:
                raise self._damaged("the stream cut off before its end")
            if part or self._ended:
                return part

    def _next_member(self, following: bytes) -> None:
        following = following or self._file.read(_CHUNK)
        if len(following) == 1:
            following += self._file.read(_CHUNK)
        if following.startswith(_GZIP_MAGIC):
            self._inflater = isal_zlib.decompressobj(_GZIP)
            self._pending = following
            return
        self.trailing = len(following) + self.size - self._file.tell()
        self._ended = True

    def _damaged(self, damage: str) -> InputError:
        return InputError(
            "an intact compressed file",
            found=damage,
            remedy="copy or export it again",
            where=self.path,
        )


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a FIFO or device would block or never end.

    Raises:
        InputError: missing, not a regular file, unreadable, or empty.
    """

    def refuse(problem: str) -> InputError:
        remedy = "give the path of an existing file"
        return InputError("a readable file", found=problem, remedy=remedy, where=path)

    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise refuse("a folder" if stat.S_ISDIR(status.st_mode) else "no regular file")
        if status.st_size == 0:
            raise refuse("an empty file")
        return path.open("rb")
    except (OSError, ValueError) as error:
        raise refuse(getattr(error, "strerror", None) or str(error)) from error
