"""`viscera phantom`."""

from __future__ import annotations

from pathlib import Path

import click

from viscera.cli._shared.options import PATH
from viscera.cli._shared.terminal import echo
from viscera.errors import OutputError


@click.command()
@click.argument("output", type=PATH)
@click.option("--labels", type=PATH, help="Also write the true labels here.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which phantom.")
@click.option("--shape", nargs=3, type=click.IntRange(1), default=(160, 120, 72), show_default=True)
@click.option(
    "--spacing", nargs=3, type=float, default=(2.4, 2.4, 4.0), show_default=True, help="In mm."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(
    output: Path,
    labels: Path | None,
    seed: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    overwrite: bool,
) -> None:
    """Generate a CT-like phantom, to try viscera without a patient.

    It is geometry with noise, no anatomy: nothing found on it says anything about patients.
    OUTPUT is a .nii.gz or .nii file.
    """
    from viscera.core.organs import ORGANS
    from viscera.core.phantom import make_phantom
    from viscera.io.nifti.write import check_nifti_name
    from viscera.io.write import write_volume
    from viscera.runtime.atomic_files import check_absent
    from viscera.segmentation import Segmentation

    if min(spacing) <= 0:
        raise click.BadParameter("each spacing must be above 0", param_hint="--spacing")
    if labels is not None and labels == output:
        raise OutputError("two files", found="one name", remedy="rename one", where=output)
    for path in (output, *([labels] if labels else [])):
        check_nifti_name(path)
        check_absent(path, overwrite=overwrite)
    volume, truth = make_phantom(seed, shape=shape, spacing_mm=spacing)
    write_volume(output, volume, overwrite=overwrite)
    echo(f"{output}: written; a generated phantom, not a patient", err=True)
    if labels is not None:
        Segmentation(truth, volume, ORGANS).save(str(labels), overwrite=overwrite)
