"""Files that belong together appear together: written aside, then moved."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from viscera.runtime.atomic_files import not_writable, part_path, remove_abandoned_parts


@contextmanager
def staging_folder(beside: Path) -> Iterator[Path]:
    """A hidden folder in the folder of a file, gone with all that is in it when the block ends.

    Args:
        beside: a file that need not exist; its folder is made.

    Raises:
        OutputError: not writable, or the disk is full.
    """
    folder = part_path(beside.parent)
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned_parts(beside.parent)
        folder.mkdir()
    except OSError as error:
        raise not_writable(beside, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_together(moves: Sequence[tuple[Path, Path]]) -> None:
    """Move files to their final names; if one cannot be moved, those before it are taken back.

    Args:
        moves: from where to where, on one file system; what exists is replaced.

    Raises:
        OutputError: a file cannot be moved.
    """
    moved: list[Path] = []
    for source, target in moves:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        except OSError as error:
            for path in moved:
                with suppress(OSError):
                    path.unlink()
            raise not_writable(target, error) from error
        moved.append(target)
