"""A folder of results that is ours: what stands in it was made by the same work, or nothing is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from viscera.errors import OutputError
from viscera.io.atomic import check_absent, check_writable, write_text

# Kinds of work whose files have names in common: each needs a folder of its own.
MARKERS = ("evaluation.json", "bench.json")


def claim(
    marker: Path, content: dict[str, Any], names: Sequence[str], *, overwrite: bool = False
) -> None:
    """Prove that nothing of others, or of other work, will be replaced; then leave a marker.

    The marker comes first, so that work which is cut off anywhere can go on.

    Args:
        marker: a file of the folder, JSON.
        content: says what work this is.
        names: all that will be written into the folder.
        overwrite: replace other work.

    Raises:
        OutputError: not writable, or it holds something else.
    """
    check_writable(marker)
    for other in MARKERS:
        if other != marker.name and marker.with_name(other).exists():
            raise OutputError(
                "a folder of one kind of work",
                found="the marker of another kind",
                remedy="choose another -o",
                where=marker.with_name(other),
            )
    try:
        before = json.loads(marker.read_text(encoding="utf-8"))
    except FileNotFoundError:
        for name in names:
            check_absent(marker.with_name(name), overwrite=overwrite)
        before = content
    except (OSError, ValueError):
        before = None
    if before != content and not overwrite:
        raise OutputError(
            "a new folder, or one of the same work",
            found="a marker of other work",
            remedy="choose another -o, or pass --overwrite",
            where=marker,
        )
    write_text(marker, json.dumps(content, indent=1), overwrite=True)
