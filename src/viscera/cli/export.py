"""`viscera export`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from viscera.bundle import About
from viscera.cli.options import PATH, need_torch


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the new bundle.")
@click.option(
    "--weights", default="best", show_default=True, help="best, last, or a .safetensors file."
)
@click.option("--int8", is_flag=True, help="In 8-bit integers, calibrated on the training's cases.")
@click.option("--argmax", is_flag=True, help="Also write labels.onnx, which gives classes.")
@click.option("--name", help="architecture.weights; default: the recipe's.")
@click.option("--licence", help="Licence of the weights, for the model card.")
@click.option("--training-data", help="What they were trained on, for the model card.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--overwrite", is_flag=True, help="Replace a bundle that stands there.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(run: Path, output: Path, **options: Any) -> None:
    """Turn a training into a bundle that gives the same labels.

    RUN is the folder of a training. Its cases that were held back are segmented with PyTorch and
    with the bundle; nothing is written unless 99.9 % of the voxels of each are labelled alike.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    need_torch()
    import torch

    from viscera.resources import thread_count
    from viscera.training.export import export
    from viscera.training.run_folder import read_run

    torch.set_num_threads(thread_count(options["threads"]))
    said = {key: options[key] for key in ("licence", "training_data") if options[key]}
    about: About | None = replace(read_run(run)[0].about, **said) if said else None
    exported = export(
        run,
        output,
        weights=options["weights"],
        arithmetic="int8" if options["int8"] else "f32",
        name=options["name"],
        about=about,
        classes=options["argmax"],
        overwrite=options["overwrite"],
    )
    if options["quiet"]:
        return
    for arithmetic, parity in exported.parities.items():
        organ, loss = parity.largest_loss
        worst = f"{organ} loses most, {loss:.4f} DSC" if loss else "no organ loses"
        used = "" if arithmetic in ("f32", "int8") or parity.passed else "; not used"
        click.echo(
            f"{arithmetic}: {parity.equal:.3%} of voxels as in PyTorch or more on {parity.cases} "
            f"cases; {worst}{used}",
            err=True,
        )
    size_mb = exported.bundle.model_path.stat().st_size / 1e6
    click.echo(f"{output}: {exported.bundle.name}, {size_mb:.1f} MB", err=True)
