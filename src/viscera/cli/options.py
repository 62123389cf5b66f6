"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from viscera.errors import EngineError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

BUNDLE: Decorator = click.option(
    "-b",
    "--bundle",
    default="default",
    envvar="VISCERA_BUNDLE",
    show_default=True,
    show_envvar=True,
    help="Network: a bundle's folder, or the name of a packaged one.",
)

PATH = click.Path(path_type=Path)
DATA: Decorator = click.argument("data", nargs=-1, required=True, type=PATH)


def need_torch() -> None:
    """Say what to install before anything fails on it.

    Raises:
        EngineError: the extra `train` is not installed.
    """
    for name in ("torch", "safetensors"):
        if find_spec(name) is None:
            remedy = "pip install 'viscera[train]'"
            raise EngineError(f"{name}, which this command needs", found="none", remedy=remedy)


def subset(what: str) -> Decorator:
    """--roi-subset, as TotalSegmentator calls it; `what` says what is done with these organs."""
    return click.option(
        "-rs",
        "--roi-subset",
        "subset",
        multiple=True,
        metavar="ORGAN[,ORGAN]",
        help=f"{what} these organs only; may be repeated.",
    )
