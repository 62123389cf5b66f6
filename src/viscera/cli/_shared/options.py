"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from viscera.runtime.paths import checked_path

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


class _NonEmptyPath(click.Path):
    """A path; an empty one would mean the current folder, and is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        return super().convert(checked_path(value), param, ctx)


class NameChoice(click.Choice[str]):
    """Names that are printed as they are written; hyphens are taken for underscores."""

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The name with underscores.

        Args:
            choice: a name.
            ctx: not used.
        """
        return str(choice).replace("-", "_")


PATH = _NonEmptyPath(path_type=Path)


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


def organ_names(subset: tuple[str, ...]) -> list[str]:
    """The names of all --roi-subset options, each of which may list several."""
    return [name for group in subset for name in group.split(",")]
