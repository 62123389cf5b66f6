"""`viscera pseudo-label`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from viscera.cli.cases import by_case, volume_files
from viscera.cli.failures import Failures
from viscera.cli.options import BUNDLE, PATH
from viscera.errors import VisceraError


@click.command()
@click.argument("scans", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the new data set.")
@BUNDLE
@click.option(
    "--agreement", type=float, default=0.85, show_default=True, help="Least DSC between views."
)
@click.option(
    "--largest", type=float, default=0.9, show_default=True, help="Least share in one piece."
)
@click.option("--flip", is_flag=True, help="Look at mirrored scans too.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(scans: tuple[Path, ...], output: Path, bundle: str, **options: Any) -> None:
    """Label scans with a bundle, and say which organs to believe.

    SCANS are volumes or folders of them. Beside the labels stands a list, cases.csv, that `viscera
    train` takes as it is: organs that are not believed are ignored there, not taught as
    background. trust.csv says why. A call that is repeated does only what is missing.
    """
    from viscera.io import fingerprint, read_volume
    from viscera.predictor import Predictor
    from viscera.training.pseudo import Filter, pseudo_label
    from viscera.training.pseudo_set import PseudoSet

    views = ("shift", "flip") if options["flip"] else ("shift",)
    demand = Filter(options["agreement"], options["largest"], views)
    sources = by_case([file for entry in scans for file in volume_files(entry)])
    predictor = Predictor(bundle, threads=options["threads"])
    made, failures = PseudoSet(output), Failures(output / "failures.csv")
    for case, source in sources.items():
        made_by = predictor.made_by(repr([fingerprint(source), demand]))
        try:
            trusts = made.finished(case, source, made_by)
            if trusts is None:
                made.results(case, made_by).check(source, predictor.bundle.organs)
                segmentation, trusts = pseudo_label(predictor, read_volume(source), demand)
                made.add(case, source, segmentation, trusts, made_by)
        except VisceraError as error:
            click.echo(f"viscera: {error}", err=True)
            failures.note(source.name, error)
            continue
        made.list_cases()
        if not options["quiet"]:
            found = [trust for trust in trusts if trust.volume_ml]
            believed = sum(trust.believed for trust in found)
            message = f"{source.name}: {len(found)} organs found, {believed} of them believed"
            click.echo(message, err=True)
    failures.conclude(len(sources))
