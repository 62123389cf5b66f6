"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

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
