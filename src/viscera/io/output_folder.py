"""A folder of results that is ours: what stands in it was made by the same work, or nothing is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from viscera.errors import OutputError, option
from viscera.runtime.atomic_files import check_absent, check_writable, write_text
from viscera.runtime.small_files import read_json_file

# Kinds of work whose files have names in common: each needs a folder of its own.
MARKERS = ("evaluation.json", "bench.json")


def reserve_output_folder(
    marker: Path, content: dict[str, Any], names: Sequence[str], *, overwrite: bool = False
) -> None:
    """Check that nothing of others, or of other work, will be replaced; then leave a marker.

    The marker is written first, so that interrupted work can continue.

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
                remedy=f"choose another {option('output')}",
                where=marker.with_name(other),
            )
    try:
        earlier = read_json_file(marker)
    except FileNotFoundError:
        for name in names:
            check_absent(marker.with_name(name), overwrite=overwrite)
        earlier = content
    except (OSError, ValueError):
        earlier = None
    if earlier != content and not overwrite:
        raise OutputError(
            "a new folder, or one of the same work",
            found="a marker of other work",
            remedy=f"choose another {option('output')}, or pass {option('overwrite')}",
            where=marker,
        )
    write_text(marker, json.dumps(content, indent=1), overwrite=True)
