"""Lists of scans: text files with a path a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from viscera.errors import InputError
from viscera.io.scan_files import is_dir
from viscera.runtime.small_files import read_text_file

SUFFIX = ".txt"


def is_scan_list(path: Path) -> bool:
    """Whether an input is a list of scans.

    Args:
        path: of the input.
    """
    return path.suffix.lower() == SUFFIX and not is_dir(path)


def expand_lists(inputs: Iterable[Path]) -> list[Path]:
    """The inputs, each list of scans replaced by what it names.

    Relative paths are those below the list's folder. Empty lines, and those that begin with ``#``,
    are left out.

    Args:
        inputs: scans, folders, and lists; names of lists end in ``.txt``.

    Raises:
        InputError: a list that cannot be read, or names nothing.
    """
    paths = []
    for entry in inputs:
        if not is_scan_list(entry):
            paths.append(entry)
            continue
        try:
            lines = [line.strip() for line in read_text_file(entry).splitlines()]
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            raise InputError(
                "a list of scans, a path a line", found=problem, remedy="check it", where=entry
            ) from error
        named = [entry.parent / line for line in lines if line and not line.startswith("#")]
        if not named:
            raise InputError(
                "a list of scans, a path a line", found="none", remedy="add some", where=entry
            )
        paths += named
    return paths
