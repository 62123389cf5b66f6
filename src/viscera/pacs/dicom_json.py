"""Values of DICOM JSON (PS3.18 F.2), in which servers describe studies and series."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64


def is_uid(text: str) -> bool:
    """Whether this is a UID (PS3.5 9.1), which is harmless as a file's name.

    Args:
        text: to look at.
    """
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def text_of(answer: dict[str, Any], tag: str) -> str:
    """The value of a tag; empty where there is none.

    Args:
        answer: one of those that a server gave.
        tag: eight hexadecimal digits.

    Raises:
        AttributeError: what came is no DICOM JSON; so do TypeError and LookupError.
    """
    values: Sequence[Any] = answer.get(tag, {}).get("Value", ()) or ("",)
    return "" if values[0] is None else str(values[0])


def uid_of(answer: dict[str, Any], tag: str) -> str:
    """A UID, which is harmless as the name of a folder.

    Args:
        answer: one of those that a server gave.
        tag: eight hexadecimal digits.

    Raises:
        ValueError: it is none.
    """
    text = text_of(answer, tag)
    if not is_uid(text):
        raise ValueError("no UID")
    return text


def count_of(answer: dict[str, Any], tag: str) -> int:
    """A number; 0 where there is none.

    Args:
        answer: one of those that a server gave.
        tag: eight hexadecimal digits.
    """
    text = text_of(answer, tag)
    return int(text) if text.isdecimal() and len(text) < 10 else 0
