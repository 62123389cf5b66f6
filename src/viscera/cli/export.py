"""`viscera export`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from viscera.cli._shared.options import PATH
from viscera.cli._shared.terminal import echo
from viscera.runtime.extras import require_extra


@click.command()
@click.argument("run", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the new bundle.")
@click.option(
    "--weights", default="best", show_default=True, help="best, last, or a .safetensors file."
)
@click.option(
    "--int8", is_flag=True, help="Quantise to 8-bit integers, calibrated on training cases."
)
@click.option("--argmax", is_flag=True, help="Also write labels.onnx, which gives classes.")
@click.option("--name", help="architecture.weights; default: the recipe's.")
@click.option("--licence", help="Licence of the weights, for the model card.")
@click.option("--training-data", help="What they were trained on, for the model card.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    run: Path,
    output: Path,
    weights: str,
    int8: bool,
    argmax: bool,
    name: str | None,
    licence: str | None,
    training_data: str | None,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn a training into a bundle that gives the same labels.

    RUN is the folder of a training. Its validation cases are segmented with PyTorch and
    with the bundle; nothing is written unless 99.9 % of the voxels of each have the same label.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    require_extra("torch", "safetensors", "onnx", "onnxscript")
    import torch

    from viscera.runtime.resources import thread_count
    from viscera.training.export.export import export_bundle
    from viscera.training.run_folder import read_run

    torch.set_num_threads(thread_count(threads))
    about = None
    if licence or training_data:
        about = read_run(run)[0].about
        about = replace(
            about,
            licence=licence or about.licence,
            training_data=training_data or about.training_data,
        )
    result = export_bundle(
        run,
        output,
        weights=weights,
        arithmetic="int8" if int8 else "f32",
        name=name,
        about=about,
        classes=argmax,
        overwrite=overwrite,
    )
    if quiet:
        return
    for arithmetic, parity in result.parities.items():
        organ, loss = parity.largest_loss
        worst = f"{organ} loses most, {loss:.4f} DSC" if loss else "no organ loses"
        unused = "" if arithmetic in ("f32", "int8") or parity.passed else "; not used"
        echo(
            f"{arithmetic}: {parity.equal_share:.3%} of voxels as in PyTorch or more on "
            f"{parity.cases} cases; {worst}{unused}",
            err=True,
        )
    size_mb = result.bundle.model_path.stat().st_size / 1e6
    echo(f"{output}: {result.bundle.name}, {size_mb:.1f} MB", err=True)
