"""`viscera recipe`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from viscera.cli._shared.options import PATH
from viscera.cli._shared.progress import cases_bar
from viscera.cli._shared.terminal import echo
from viscera.errors import command_line_wording
from viscera.runtime.atomic_files import check_absent, write_text
from viscera.runtime.extras import require_extra

if TYPE_CHECKING:
    from viscera.training.propose import Proposal


@click.command()
@click.argument("data", nargs=-1, type=PATH, required=True)
@click.option("-o", "--output", type=PATH, required=True, help="The recipe, a TOML file.")
@click.option(
    "--init",
    default="default",
    show_default=True,
    metavar="BUNDLE",
    help="Weights that the training will begin with; none for random ones.",
)
@click.option(
    "--label-table",
    metavar="TABLE",
    help="What labels mean, where no dataset.json says it: a bundle, or a TOML table.",
)
@click.option(
    "--minutes",
    type=float,
    default=60,
    show_default=True,
    help="How long the training may take on this machine.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--overwrite", is_flag=True, help="Replace an existing recipe.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    data: tuple[Path, ...],
    output: Path,
    init: str,
    label_table: str | None,
    minutes: float,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Propose a recipe from data, for `viscera train`.

    DATA are what `viscera train` takes: nnU-Net folders with dataset.json, FLARE's folders, or CSV
    lists. Up to twenty cases are looked at, and a step of the network is timed.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    require_extra("torch", "safetensors")
    from viscera.training.propose import propose_recipe

    check_absent(output, overwrite=overwrite)
    with cases_bar(quiet=quiet) as on_progress:
        proposal = propose_recipe(
            data,
            init=None if init == "none" else init,
            label_table=label_table,
            minutes=minutes,
            threads=threads,
            on_progress=on_progress,
        )
    write_text(output, proposal.text, overwrite=overwrite)
    if quiet:
        return
    for line in _lines(proposal):
        echo(line, err=True)
    sources = " ".join(map(str, data))
    begin = "" if init == "none" else f" --init {init}"
    echo(f"{output}: written; viscera train {output} {sources}{begin} -o RUN", err=True)


def _lines(proposal: Proposal) -> list[str]:
    """What people read about the data and the recipe."""
    recipe, survey = proposal.recipe, proposal.survey
    assert recipe.patch is not None
    assert recipe.input.spacing_mm is not None
    rows = [f"{f.level}: {f.text(command_line_wording)}" for f in proposal.findings]
    rows.append(f"{survey.cases} cases of {survey.patients} patients; {survey.surveyed} looked at")
    for name, each in survey.structures.items():
        rows.append(
            f"  {name}: in {each.cases}, {each.volume_ml:.3g} ml, about {each.thickness_mm:.0f} mm "
            f"thick, {each.mean_hu:.0f} HU"
        )
    spacing = " x ".join(f"{mm:g}" for mm in recipe.input.spacing_mm)
    patch = " x ".join(map(str, recipe.patch.size))
    steps = recipe.optimisation.epochs * (recipe.optimisation.steps_per_epoch or 0)
    rows.append(f"grid of {spacing} mm, patches of {patch} voxels")
    rows.append(f"{steps} steps of {proposal.step_s:.1f} s")
    return rows
