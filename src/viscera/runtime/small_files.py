"""Files that are read whole, settings and weights: only regular ones, only up to a size.

A FIFO would block, a device never end, a file of gigabytes fill the memory. Whatever is wrong comes
as OSError or ValueError, whose text says it in a few words; callers name the file and the remedy.
"""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

MOST_TEXT_BYTES = 16_000_000
MOST_WEIGHTS_BYTES = 2_000_000_000


def read_file_bytes(path: Path, *, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        most_bytes: that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: no regular file, or a larger one.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("a folder" if stat.S_ISDIR(state.st_mode) else "no regular file")
    if state.st_size > most_bytes:
        raise ValueError(f"more than {most_bytes / 1e6:g} MB")
    with path.open("rb") as file:
        return file.read(state.st_size)


def read_text_file(path: Path, *, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """The text of a regular file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        most_bytes: that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: no such file, or no UTF-8.
    """
    try:
        return read_file_bytes(path, most_bytes=most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"bytes that are no UTF-8, from byte {error.start} on") from error


def read_json_file(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: no such file, or no JSON.
    """
    text = read_text_file(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("values nested too deep") from error


def parse_toml(text: str) -> dict[str, Any]:
    """A TOML text as a table.

    Raises:
        ValueError: no TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("values nested too deep") from error


def read_toml_file(path: Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        OSError: it cannot be read.
        ValueError: no such file, or no TOML.
    """
    return parse_toml(read_text_file(path))
