"""`viscera train`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from viscera.bundles import read_bundle
from viscera.cli.options import DATA, PATH, need_torch
from viscera.cli.progress import steps_bar
from viscera.errors import UsageError

if TYPE_CHECKING:
    from viscera.training.loop import Training
    from viscera.training.recipe import Recipe
    from viscera.training.validation import Validation


@click.command()
@click.argument("recipe", type=PATH)
@DATA
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the training.")
@click.option("--cache", type=PATH, help="Folder of the cache; default: cache in the output.")
@click.option("--prepare", is_flag=True, help="Fill the cache and end.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint, if there is one.")
@click.option("--minutes", type=float, help="Stop at a checkpoint after this time.")
@click.option("--init", type=PATH, help="Begin with these weights, a .safetensors file.")
@click.option("--fold", type=int, help="Hold this fold back; short for --set split.fold=N.")
@click.option(
    "--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="Change the recipe."
)
@click.option("--teacher", metavar="BUNDLE", help="Bundle whose soft scores are learnt from too.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard's files.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(recipe: Path, data: tuple[Path, ...], output: Path, **options: Any) -> int:
    """Train a network from folders of scans and labels.

    RECIPE is a TOML file such as configs/paper.toml. DATA are nnU-Net folders, FLARE's folders, or
    CSV lists of cases. Several processes train together under torchrun.
    """
    # Threads that spin while they wait make a shared CPU many times slower; read at the import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    need_torch()
    import torch

    from viscera.resources import thread_count
    from viscera.training.distributed import joined
    from viscera.training.recipe import read_recipe
    from viscera.training.run_folder import check_new, open_run

    settings = options["settings"]
    if options["fold"] is not None:
        settings = (*settings, f"split.fold={options['fold']}")
    settled, text = read_recipe(recipe, settings)
    _check(settled, options)
    if not options["prepare"]:
        check_new(output, resume=options["resume"])
    torch.set_num_threads(thread_count(options["threads"]))
    cache = options["cache"] or output / "cache"
    with joined(options["device"]) as processes:
        quiet = options["quiet"] or not processes.first
        if processes.first:  # the others find everything done
            gathered = _gather(data, settled, cache, options["teacher"], quiet=quiet)
        processes.wait()
        if not processes.first:
            gathered = _gather(data, settled, cache, options["teacher"], quiet=True)
        if options["prepare"]:
            return 0
        if processes.first:
            open_run(
                output,
                settled,
                text,
                gathered.train,
                gathered.held,
                cache=cache,
                resume=options["resume"],
            )
        processes.wait()
        from viscera.training.loop import Training

        training = Training(
            settled,
            gathered.train,
            gathered.held,
            output,
            processes,
            init=options["init"],
            tensorboard=options["tensorboard"],
        )
        return _run(training, settled, output, options, quiet=quiet, first=processes.first)


def _check(recipe: Recipe, options: dict[str, Any]) -> None:
    """What contradicts itself before any work is done."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    batch = recipe.optimisation.batch
    if batch % world:
        remedy = "change optimisation.batch, or start another number"
        found = f"{batch} for {world} processes"
        raise UsageError("a batch that all processes share evenly", found=found, remedy=remedy)
    if (recipe.loss.distillation > 0) != (options["teacher"] is not None):
        found = f"loss.distillation = {recipe.loss.distillation:g} "
        found += f"{'with' if options['teacher'] else 'without'} one"
        remedy = "pass --teacher BUNDLE, or --set loss.distillation=0"
        raise UsageError("--teacher for distillation", found=found, remedy=remedy)
    if options["teacher"] is not None:
        read_bundle(options["teacher"])
    minutes = options["minutes"]
    if minutes is not None and not minutes >= 0:
        raise UsageError("--minutes of 0 and more", found=f"{minutes:g}", remedy="choose another")


def _gather(
    data: tuple[Path, ...], recipe: Recipe, cache: Path, teacher: str | None, *, quiet: bool
) -> Any:
    from viscera.training.gather import gather

    with steps_bar(quiet=quiet) as tell:
        gathered = gather(data, recipe, cache, teacher=teacher, tell=tell)
    if not quiet:
        for finding in gathered.findings:
            click.echo(f"{finding.level}: {finding}", err=True)
        train, held = gathered.train, gathered.held
        patients = len({case.patient for case in train}), len({case.patient for case in held})
        click.echo(
            f"training on {len(train)} cases of {patients[0]} patients, "
            f"holding back {len(held)} of {patients[1]}",
            err=True,
        )
    return gathered


def _run(
    training: Training,
    recipe: Recipe,
    output: Path,
    options: dict[str, Any],
    *,
    quiet: bool,
    first: bool,
) -> int:
    from viscera.io.atomic import atomic_write
    from viscera.report.curves import curves_png
    from viscera.report.examples import cut_open, examples_png
    from viscera.training.journal import read_journal
    from viscera.training.loop import Watch

    def curves() -> None:
        if journal := read_journal(output):
            with atomic_write(output / "curves.png", overwrite=True) as file:
                file.write(curves_png(journal, recipe.name))

    def validated(step: int, found: Validation) -> None:
        curves()
        organs = recipe.bundle().organs
        with atomic_write(output / "validation.png", overwrite=True) as file:
            file.write(examples_png([cut_open(found.example)], organs))
        if not quiet:
            click.echo(f"step {step}: DSC {found.mean_dsc:.4f} of cases held back", err=True)

    if not quiet and training.reached.step:
        click.echo(f"going on from step {training.reached.step}", err=True)
    with steps_bar(quiet=quiet) as tell, stopping_softly() as received:
        done = training.run(
            minutes=options["minutes"],
            watch=Watch(
                step=lambda step, steps, loss: tell(f"loss {loss:.4f}", step, steps),
                validation=validated,
                stop=lambda: bool(received),
            ),
        )
    if not first:
        return 0
    curves()
    code = 128 + received[0] if received and not done else 0
    if quiet:
        return code
    reached = training.reached
    where = f"step {reached.step} of {training.steps}, {reached.seconds / 60:.1f} minutes in all"
    if done:
        click.echo(f"{output}: done; {where}; viscera export {output} -o BUNDLE", err=True)
    else:
        click.echo(f"{output}: {where}; --resume goes on", err=True)
    return code


@contextmanager
def stopping_softly() -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM is noted, to end in a checkpoint; a second one ends at once."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _frame: object) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)
        click.echo("viscera: stopping at a checkpoint", err=True)

    for number in numbers:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
