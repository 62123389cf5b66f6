"""Digests: one name for everything that decides a result, independent of the names in our code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, is_dataclass
from typing import Any


def digest_of(*values: object) -> str:
    """SHA-256 of values as JSON: dataclasses as their fields, all else unknown as text.

    Args:
        *values: all that decides a result.

    Returns:
        64 hexadecimal digits.
    """
    text = json.dumps(values, default=_as_json, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _as_json(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value)
