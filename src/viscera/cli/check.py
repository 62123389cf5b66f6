"""`viscera check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from viscera.cli._shared.options import PATH
from viscera.cli._shared.terminal import echo
from viscera.errors import BatchError, DoubtfulResultError, command_line_wording
from viscera.runtime.resources import parse_memory

if TYPE_CHECKING:
    from viscera.batch.check_scans import ScanCheck


@click.command()
@click.argument("scans", nargs=-1, type=PATH, required=True)
@click.option("-o", "--output", type=PATH, help="Also write the table, as CSV.")
@click.option("--overwrite", is_flag=True, help="Replace an existing table.")
@click.option("--strict", is_flag=True, help="End in exit code 4 if a scan has a warning.")
@click.option(
    "--volume", "volume_index", type=int, metavar="N", help="Volume N of a 4-D file, from 0."
)
@click.option("--series", metavar="UID", help="DICOM: this series, not the likeliest.")
@click.option("--allow-bad-slices", is_flag=True, help="DICOM: fill slices that are damaged.")
@click.option("--keep-phi", is_flag=True, help="DICOM: names may identify the patient.")
@click.option("--hu-offset", type=float, default=0.0, help="Add this to every voxel first.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    scans: tuple[Path, ...],
    output: Path | None,
    overwrite: bool,
    strict: bool,
    volume_index: int | None,
    series: str | None,
    allow_bad_slices: bool,
    keep_phi: bool,
    hu_offset: float,
    threads: int | None,
    memory_limit: str | None,
    as_json: bool,
) -> None:
    """Say what scans show and what is unusual about them.

    A coarse network looks at them; nothing is segmented finely, and no labels are written. SCANS
    are files, DICOM series, or folders that are searched to the bottom. Of each scan: body
    parts, contrast phase, slices, noise; which organs are whole, cut or outside; and findings, each
    with what to do.
    """
    # Imported once the call is known to make sense: the libraries take time.
    from viscera.batch.check_scans import LOOK, check_scans, checks_csv
    from viscera.batch.options import ReadOptions
    from viscera.predictor import Predictor
    from viscera.runtime.atomic_files import check_absent, check_writable, write_text

    if output is not None:
        check_absent(output, overwrite=overwrite)
        check_writable(output)
    predictor = Predictor(
        LOOK,
        threads=threads,
        memory_limit_mb=parse_memory(memory_limit) if memory_limit else None,
    )

    def show(check: ScanCheck) -> None:
        if not as_json:
            for line in _lines(check):
                echo(line)

    checked = check_scans(
        scans,
        read=ReadOptions(volume_index, series, allow_bad_slices, hu_offset),
        predictor=predictor,
        keep_phi=keep_phi,
        on_check=show,
    )
    checks = checked.checks
    if as_json:
        tables = [check.as_dict(command_line_wording) for check in checks]
        echo(json.dumps(tables, indent=2, ensure_ascii=False))
    for item in checked.passed_over:
        echo(f"{item.shown(keep_phi=keep_phi)}: passed over: {item.reason}", err=True)
    if output is not None:
        write_text(output, checks_csv(checks, command_line_wording), overwrite=overwrite)
    failures = [check.error for check in checks if check.error is not None]
    if failures and len(checks) == 1:
        raise failures[0]
    if failures:
        raise BatchError(
            f"all {len(checks)} scans to be readable",
            found=f"{len(failures)} that are not",
            remedy="see what is said of them",
        )
    doubtful = sum(bool(check.warnings) for check in checks)
    if strict and doubtful:
        raise DoubtfulResultError(
            "scans without a warning",
            found=f"{doubtful} of {len(checks)} with one",
            remedy="see what is said of them",
        )


def _lines(check: ScanCheck) -> list[str]:
    """What people read about a scan."""
    examination = check.examination
    if examination is None:
        assert check.error is not None
        return [f"{check.name}: {check.error.message(command_line_wording)}"]
    noise = "" if examination.noise_hu is None else f"; noise {examination.noise_hu:.0f} HU"
    lines = [
        f"{check.name}: {', '.join(examination.body_parts) or 'no body part that is known'}; "
        f"{examination.phase or 'phase unknown'}; {examination.slices} slices, "
        f"{examination.slice_mm:.3g} mm apart{noise}",
        f"  {'x'.join(map(str, check.shape))} voxels of "
        f"{' x '.join(f'{mm:.3g}' for mm in check.spacing_mm)} mm, {check.orientation}",
    ]
    for how in ("whole", "cut", "not seen", "outside"):
        if organs := check.organs(how):
            lines.append(f"  {how:9}{', '.join(organs)}")
    lines += [f"  {f.level}: {f.text(command_line_wording)}" for f in check.findings]
    return lines
