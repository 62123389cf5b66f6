"""Digests: one name for everything that decides a result, independent of the names in our code."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

_MOST_BYTES, _BLOCK_BYTES = 2_000_000_000, 1 << 22


def digest_of(*values: object) -> str:
    """SHA-256 of values as JSON: dataclasses as their fields, all else unknown as text.

    Args:
        *values: all that decides a result.

    Returns:
        64 hexadecimal digits.
    """
    text = json.dumps(values, default=_as_json, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_sha256(path: Path) -> str:
    """Checksum of a file: of its first 2 GB and its size, so that none takes for ever.

    Args:
        path: a regular file.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(0, min(size, _MOST_BYTES), _BLOCK_BYTES):
            digest.update(file.read(_BLOCK_BYTES))
    if size > _MOST_BYTES:
        digest.update(str(size).encode())
    return digest.hexdigest()


def _as_json(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value)
