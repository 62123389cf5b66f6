"""Text for people and pipes: file names may hold anything, a terminal must not act on it."""

from __future__ import annotations

import click

_KEPT = (9, 10)  # tabulator, new line
_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if n not in _KEPT}


def printable(text: str) -> str:
    """The text with escapes for control characters and for bytes that are not UTF-8."""
    text = text.translate(_CONTROLS)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a text, made `printable`.

    Args:
        text: one line or several.
        err: to stderr.
    """
    click.echo(printable(text), err=err)
