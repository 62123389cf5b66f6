"""`viscera pseudo-label`."""

from __future__ import annotations

from pathlib import Path

import click

from viscera.cli._shared.options import BUNDLE, PATH
from viscera.cli._shared.terminal import echo
from viscera.errors import VisceraError, command_line_wording
from viscera.io.case_names import scans_by_case
from viscera.io.failure_list import FailureList
from viscera.io.scan_files import find_volumes


@click.command()
@click.argument("scans", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the new data set.")
@BUNDLE
@click.option(
    "--agreement", type=float, default=0.85, show_default=True, help="Least DSC between views."
)
@click.option(
    "--largest",
    type=float,
    default=0.9,
    show_default=True,
    help="Least share of an organ in its largest component.",
)
@click.option("--flip", is_flag=True, help="Also segment mirrored scans.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--overwrite", is_flag=True, help="Replace labels of another origin.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    scans: tuple[Path, ...],
    output: Path,
    bundle: str,
    agreement: float,
    largest: float,
    flip: bool,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Label scans with a bundle, and check every organ.

    SCANS are volumes or folders of them. Beside the labels, cases.csv lists them as `viscera train`
    takes them: organs that are not accepted are ignored there, they are not learnt as background.
    quality.csv gives the reasons. A second call does only what is missing.
    """
    from viscera.io.content_digest import content_digest
    from viscera.io.read import read_volume
    from viscera.predictor import Predictor
    from viscera.training.pseudo_labels.data_set import PseudoLabelSet
    from viscera.training.pseudo_labels.quality import QualityCriteria, pseudo_label

    criteria = QualityCriteria(agreement, largest, ("shift", "flip") if flip else ("shift",))
    sources = scans_by_case([file for entry in scans for file in find_volumes(entry)])
    predictor = Predictor(bundle, threads=threads)
    data_set = PseudoLabelSet(output, overwrite=overwrite)
    failures = FailureList(output / "failures.csv", command_line_wording)
    for case, source in sources.items():
        signature = predictor.signature([content_digest(source), criteria])
        try:
            qualities = data_set.finished(case, signature)
            if qualities is None:
                data_set.outputs(case, signature).check(source, predictor.bundle.organs)
                segmentation, qualities = pseudo_label(predictor, read_volume(source), criteria)
                data_set.add(case, source, segmentation, qualities, signature)
        except VisceraError as error:
            echo(f"viscera: {error.message(command_line_wording)}", err=True)
            failures.add(source.name, error)
            continue
        data_set.list_cases()
        if not quiet:
            organs = sum(quality.volume_ml > 0 for quality in qualities)
            accepted = sum(quality.accepted for quality in qualities)
            echo(f"{source.name}: {organs} organs found, {accepted} accepted", err=True)
    failures.write()
    if batch := failures.error(len(sources)):
        raise batch
