"""The progress bar: one line on a terminal's stderr with case, stage and time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from viscera.cli._shared.terminal import printable
from viscera.runtime.stages import Progress

# How much of a case's time each stage takes, roughly; only the bar's smoothness hangs on it.
_SHARES = {"read": 5, "grid": 1, "load": 4, "network": 80, "postprocess": 4}
_AFTER = {"write": 2, "statistics": 2, "preview": 2}


@contextmanager
def progress_bar(case: str, *, quiet: bool) -> Iterator[Progress | None]:
    """A bar for one case; None without a terminal, or with quiet.

    Args:
        case: the case's name, shown beside the bar.
        quiet: show none.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    shares = {**_SHARES, **_AFTER}
    columns = (
        TextColumn("{task.fields[case]}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("read", total=sum(shares.values()), case=printable(case))

        def on_progress(stage: str, share: float) -> None:
            names = list(shares)
            if stage in shares:
                finished = sum(shares[name] for name in names[: names.index(stage)])
                bar.update(task, description=stage, completed=finished + share * shares[stage])

        yield on_progress


@contextmanager
def cases_bar(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar over cases; takes how many are completed, and how many there are. Terminals only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _completed, _cases: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=32), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cases", total=None)
        yield lambda completed, cases: bar.update(task, completed=completed, total=cases)


@contextmanager
def steps_bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar over steps; takes a description, how much is completed, and all. Terminals only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _description, _completed, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda description, completed, total: bar.update(
            task, description=description, completed=completed, total=total
        )
