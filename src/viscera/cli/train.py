"""`viscera train`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from viscera.cli._shared.options import PATH
from viscera.cli._shared.progress import steps_bar
from viscera.cli._shared.terminal import echo
from viscera.errors import command_line_wording
from viscera.runtime.extras import require_extra

_PACE_EVERY_S = 60.0

if TYPE_CHECKING:
    from viscera.training.checkpoint import TrainingState
    from viscera.training.data.prepare import TrainingData
    from viscera.training.train import TrainResult
    from viscera.training.validation import Validation


@click.command()
@click.argument("recipe", type=PATH)
@click.argument("data", nargs=-1, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the training.")
@click.option("--cache", type=PATH, help="Folder of the cache; default: cache in the output.")
@click.option("--prepare", is_flag=True, help="Fill the cache and end.")
@click.option("--resume", is_flag=True, help="Continue from the last checkpoint, if there is one.")
@click.option("--minutes", type=float, help="Stop at a checkpoint after this time.")
@click.option(
    "--init",
    metavar="WEIGHTS",
    help="Begin with a bundle's weights (default), or a .safetensors file; what they do not know "
    "gets a new last layer.",
)
@click.option("--fold", type=int, help="Validate on this fold; short for --set split.fold=N.")
@click.option(
    "--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="Change the recipe."
)
@click.option("--teacher", metavar="BUNDLE", help="Learn from this bundle's soft scores too.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard's files.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    recipe: Path,
    data: tuple[Path, ...],
    output: Path,
    cache: Path | None,
    prepare: bool,
    resume: bool,
    minutes: float | None,
    init: str | None,
    fold: int | None,
    settings: tuple[str, ...],
    teacher: str | None,
    device: str,
    threads: int | None,
    tensorboard: bool,
    quiet: bool,
) -> int:
    """Train a network from folders of scans and labels.

    RECIPE is a TOML file such as configs/paper.toml. DATA are nnU-Net folders, FLARE's folders, or
    CSV lists of cases; without any, the network is trained on what --cache holds. Several
    processes train together under torchrun.
    """
    # Threads that spin while they wait make a shared CPU many times slower; read at the import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    require_extra("torch", "safetensors")
    from viscera.training.loop import TrainingCallbacks
    from viscera.training.recipe import read_recipe
    from viscera.training.train import TrainOptions, TrainReporter, train

    if fold is not None:
        settings = (*settings, f"split.fold={fold}")
    described, recipe_toml = read_recipe(recipe, settings)
    options = TrainOptions(
        cache=cache,
        prepare=prepare,
        resume=resume,
        minutes=minutes,
        init=init,
        teacher=teacher,
        device=device,
        threads=threads,
        tensorboard=tensorboard,
    )
    quiet = quiet or os.environ.get("RANK", "0") != "0"

    def show_data(prepared: TrainingData) -> None:
        for line in () if quiet else _data_lines(prepared):
            echo(line, err=True)

    def show_validation(step: int, validation: Validation) -> None:
        if not quiet:
            echo(f"step {step}: DSC {validation.mean_dsc:.4f} on the validation set", err=True)

    def show_new_labels(labels: Sequence[str]) -> None:
        if not quiet:
            echo(f"new to the weights of {init}: {', '.join(labels)}", err=True)

    received: list[int] = []
    pace = _StepPace()
    with steps_bar(quiet=quiet) as on_progress, ExitStack() as handlers:

        def show_start(state: TrainingState, _steps: int) -> None:
            if not quiet and state.step:
                echo(f"continuing from step {state.step}", err=True)
            pace.begin(state.step)
            # From here on there is a checkpoint to stop at.
            handlers.enter_context(stopping_softly(received))

        def show_step(step: int, steps: int, loss: float) -> None:
            on_progress(f"loss {loss:.4f}", step, steps)
            if not quiet and (line := pace.line(step, steps, loss)):
                echo(line, err=True)

        callbacks = TrainingCallbacks(
            step=show_step,
            validation=show_validation,
            stop=lambda: bool(received),
        )
        reporter = TrainReporter(
            preparation=on_progress,
            data=show_data,
            start=show_start,
            new_labels=show_new_labels,
            callbacks=callbacks,
        )
        result = train(described, recipe_toml, data, output, options, reporter)
    if result is None or not result.is_first:
        return 0
    if not quiet:
        echo(f"{output}: {_result_text(result, output)}", err=True)
    return 128 + received[0] if received and not result.is_done else 0


class _StepPace:
    """Where there is no bar: a line a minute with the loss and the time that is left."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self.begin(0)

    def begin(self, step: int) -> None:
        """Count from here."""
        self._first, self._start = step, time.monotonic()
        self._next_s = _PACE_EVERY_S

    def line(self, step: int, steps: int, loss: float) -> str:
        """What to print after this step; empty for nothing."""
        elapsed_s = time.monotonic() - self._start
        if self._is_terminal or elapsed_s < self._next_s or step >= steps:
            return ""
        self._next_s = elapsed_s + _PACE_EVERY_S
        step_s = elapsed_s / max(step - self._first, 1)
        left = (steps - step) * step_s / 60
        return (
            f"step {step} of {steps}, loss {loss:.3f}, {step_s:.1f} s a step, {left:.0f} min left"
        )


def _data_lines(data: TrainingData) -> list[str]:
    """What people read about the data of a training."""
    findings = [f"{f.level}: {f.text(command_line_wording)}" for f in data.findings]
    train, validation = data.train, data.validation_cases
    patients = len({case.patient for case in train}), len({case.patient for case in validation})
    return [
        *findings,
        f"training on {len(train)} cases of {patients[0]} patients, "
        f"validation on {len(validation)} of {patients[1]}",
    ]


def _result_text(result: TrainResult, output: Path) -> str:
    """The position of a training, and what to do next."""
    state = result.state
    progress = f"step {state.step} of {result.steps}, {state.seconds / 60:.1f} minutes in all"
    if result.is_done:
        return f"done; {progress}; viscera export {output} -o BUNDLE"
    return f"{progress}; --resume continues"


@contextmanager
def stopping_softly(received: list[int]) -> Iterator[None]:
    """The first SIGINT or SIGTERM is noted, to end in a checkpoint; a second one ends at once.

    Args:
        received: takes the number of the signal.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        for signal_number, handler in handlers.items():
            signal.signal(signal_number, handler)
        echo("viscera: stopping at a checkpoint", err=True)

    for number in numbers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
