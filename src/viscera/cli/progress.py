"""The progress bar: one line on a terminal's stderr with case, stage and time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from viscera.stages import Progress

# How much of a case's time each stage takes, roughly; only the bar's smoothness hangs on it.
_SHARES = {"read": 5, "grid": 1, "load": 4, "network": 80, "postprocess": 4}
_AFTER = {"write": 2, "statistics": 2, "preview": 2}


@contextmanager
def progress_bar(case: str, *, quiet: bool) -> Iterator[Progress | None]:
    """A bar for one case; None where stderr is no terminal or quiet is wished."""
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
        task = bar.add_task("read", total=sum(shares.values()), case=case)

        def tell(stage: str, done: float) -> None:
            names = list(shares)
            if stage in shares:
                before = sum(shares[name] for name in names[: names.index(stage)])
                bar.update(task, description=stage, completed=before + done * shares[stage])

        yield tell


@contextmanager
def cases_bar(cases: int, *, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar over many cases; None where stderr is no terminal or quiet is wished."""
    if quiet or cases < 2 or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=32), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cases", total=cases)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def steps_bar(*, quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar over steps, told what is done, how much of it, and all of it; on terminals only."""
    if quiet or not sys.stderr.isatty():
        yield lambda _what, _done, _all: None
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
        yield lambda what, done, whole: bar.update(
            task, description=what, completed=done, total=whole
        )
