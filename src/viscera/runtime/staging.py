"""Files that belong together appear together: written aside, then moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from viscera.runtime.atomic_files import (
    not_writable,
    part_path,
    remove_abandoned_parts,
    remove_part,
)


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
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            remove_abandoned_parts(beside.parent)
            folder.mkdir()
        except OSError as error:
            raise not_writable(beside, error) from error
        yield folder
    finally:
        remove_part(folder)


def move_together(
    moves: Sequence[tuple[Path, Path]], *, remove: Sequence[Path], keep_in: Path
) -> None:
    """Move files to their final names, and others away; if one cannot be moved, all is as before.

    Args:
        moves: from where to where, on one file system; what exists is replaced.
        remove: files that go first.
        keep_in: a folder of the same file system, made for what is replaced and removed.

    Raises:
        OutputError: a file cannot be moved.
    """
    undo: list[tuple[Path, Path | None]] = []  # a target, and where what was there lies
    targets = [target for _, target in moves]
    kept = [path for path in (*remove, *targets) if path.is_file()]
    try:
        keep_in.mkdir()
        for number, path in enumerate(dict.fromkeys(kept)):
            path.replace(keep_in / str(number))
            undo.append((path, keep_in / str(number)))
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            undo.append((target, None))
    except OSError as error:
        for path, earlier in reversed(undo):
            with suppress(OSError):
                path.unlink() if earlier is None else earlier.replace(path)
        raise not_writable(Path(error.filename2 or error.filename or keep_in), error) from error
