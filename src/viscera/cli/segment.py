"""`viscera segment`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from viscera.cli.cases import Case, Plan, plan_cases
from viscera.cli.failures import Failures
from viscera.cli.options import BUNDLE, subset
from viscera.cli.progress import progress_bar
from viscera.errors import UsageError, VisceraError
from viscera.io import fingerprint
from viscera.organs import ORGANS, Organ, select
from viscera.resources import parse_memory

if TYPE_CHECKING:
    from viscera.predictor import Predictor
    from viscera.results import Results

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("inputs", nargs=-1, type=_PATH)
@click.option("-i", "--input", "more", type=_PATH, multiple=True, help="Same as an argument.")
@click.option("-o", "--output", type=_PATH, help="Label file; a folder for several scans.")
@BUNDLE
@click.option(
    "-ot",
    "--output-type",
    type=click.Choice(["nifti", "dicom_seg", "dicom_rtstruct", "seg_nrrd"]),
    multiple=True,
    help="Also write these beside the NIfTI; may be repeated.",
)
@click.option("--labelmap", is_flag=True, help="DICOM SEG in its newer form, a number a pixel.")
@subset("Keep")
@click.option("--masks", is_flag=True, help="Also write a file per organ.")
@click.option("-s", "--statistics", is_flag=True, help="Also write volumes and HU, JSON and CSV.")
@click.option("-p", "--preview", is_flag=True, help="Also write a picture.")
@click.option("--report", is_flag=True, help="Also write what was done, as JSON.")
@click.option("--tables", is_flag=True, help="Also write ITK-SNAP's and Slicer's label tables.")
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@click.option("--strict", is_flag=True, help="Refuse what would else be assumed with a warning.")
@click.option("--volume", "index", type=int, metavar="N", help="Volume N of a 4-D file, from 0.")
@click.option("--series", metavar="UID", help="DICOM: this series, not the likeliest.")
@click.option("--allow-bad-slices", is_flag=True, help="DICOM: fill slices that are damaged.")
@click.option("--keep-phi", is_flag=True, help="DICOM: reports and names may tell the patient.")
@click.option("--hu-offset", type=float, default=0.0, help="Add this to every voxel first.")
@click.option("--engine", default="auto", show_default=True, help="auto, openvino or onnxruntime.")
@click.option(
    "--precision", type=click.Choice(["f32", "bf16"]), help="Arithmetic; default: the fastest."
)
@click.option("--overlap", type=float, help="Share of a patch that neighbours share, 0 to <1.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
@click.option("--list-classes", is_flag=True, help="List the organs and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print seconds and memory of each stage.")
def command(
    inputs: tuple[Path, ...],
    more: tuple[Path, ...],
    output: Path | None,
    list_classes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the organs in CT scans.

    INPUTS are NIfTI, NRRD or MetaImage files, or folders of them; or one DICOM series: its folder,
    a zip archive, or a file. The labels come out on the very
    grid of each scan. A batch that is run again does only what is missing.
    """
    if list_classes:
        _list_classes(as_json=as_json)
        return
    plan = plan_cases([*inputs, *more], output, keep_phi=options["keep_phi"])
    with ThreadPoolExecutor(1) as beside:
        first = beside.submit(fingerprint, plan.cases[0].source)
        # Meanwhile the libraries that take time to import.
        from viscera.predictor import Predictor
        from viscera.results import Results

    limit = options["memory_limit"]
    wanted = select(name for group in options["subset"] for name in group.split(","))
    predictor = Predictor(
        options["bundle"],
        engine=options["engine"],
        threads=options["threads"],
        memory_limit_mb=parse_memory(limit) if limit else None,
        precision=options["precision"],
        overlap=options["overlap"],
    )
    named = ("masks", "statistics", "preview", "report", "tables", "overwrite")
    kinds = (*named, "output_type", "labelmap")
    missing = [organ.name for organ in wanted if organ not in predictor.bundle.organs]
    if missing:
        found = f"{missing[0]!r}, which {predictor.bundle.name} does not find"
        raise UsageError("organs of this bundle", found=found, remedy="see 'viscera info'")
    results = Results(Path(), **{kind: options[kind] for kind in kinds})
    if plan.folder is None:
        case = plan.cases[0]
        own = results.at(case.labels, made_by=_made_by(first.result(), predictor, wanted, options))
        report = _segment(case, predictor, own, wanted, options)
        if as_json:
            _print_json(report)
        return
    listing = Failures(plan.folder / "failures.csv")
    reports = _batch(plan, predictor, results, wanted, options, listing)
    if as_json:
        _print_json(reports)
    listing.conclude(len(plan.cases))


def _segment(
    case: Case,
    predictor: Predictor,
    results: Results,
    wanted: tuple[Organ, ...],
    options: dict[str, Any],
) -> dict[str, Any]:
    """One case from file to files."""
    from viscera.dicom.identity import identity_of
    from viscera.io import open_volume
    from viscera.stages import Stages

    organs = wanted or predictor.bundle.organs
    results.check(case.source, organs)
    with progress_bar(case.shown, quiet=options["quiet"]) as tell:
        stages = Stages(progress=tell)
        with stages.stage("read"):
            volume = open_volume(
                case.source,
                index=options["index"],
                strict=options["strict"],
                series=options["series"],
                allow_bad_slices=options["allow_bad_slices"],
                limit_mb=predictor.memory_limit_mb,
                threads=options["threads"],
            ).shifted(options["hu_offset"])
            volume = replace(volume, name=case.name)
        results.check_volume(volume)
        segmentation = predictor.segment(volume, strict=options["strict"], stages=stages)
        if wanted:
            segmentation = segmentation.only(wanted)
        if options["keep_phi"]:
            told = {**segmentation.provenance, "patient": identity_of(volume)}
            segmentation = replace(segmentation, provenance=told)
        report = results.write(segmentation, stages)
    _tell_people(case, report, options)
    return report


def _batch(
    plan: Plan,
    predictor: Predictor,
    results: Results,
    wanted: tuple[Organ, ...],
    options: dict[str, Any],
    failures: Failures,
) -> list[dict[str, Any]]:
    """All cases; what is finished is left, what fails is noted."""
    reports = []
    organs = wanted or predictor.bundle.organs
    for case in plan.cases:
        mark = _made_by(fingerprint(case.source), predictor, wanted, options)
        own = results.at(case.labels, made_by=mark)
        if not own.overwrite:
            ours = own.ours(case.source)
            if ours and own.complete(organs):
                _say(f"{case.shown}: finished already", options)
                continue
            # What an interrupted run left is done again; what others made is not touched.
            own = replace(own, overwrite=ours)
        try:
            reports.append(_segment(case, predictor, own, wanted, options))
        except UsageError:
            raise
        except VisceraError as error:
            click.echo(f"viscera: {error}", err=True)
            failures.note(case.shown, error)
    return reports


def _made_by(
    digest: str, predictor: Predictor, wanted: tuple[Organ, ...], options: dict[str, Any]
) -> str:
    """The mark of a result: the scan's bytes, the bundle, and all options that shape labels."""
    named = ("index", "series", "allow_bad_slices", "hu_offset", "engine", "precision")
    settings = [[organ.id for organ in wanted], *(options[name] for name in named)]
    return predictor.made_by(repr([digest, *settings]))


def _tell_people(case: Case, report: dict[str, Any], options: dict[str, Any]) -> None:
    if case.shown != case.source.name:
        told = "its name tells the patient, so that results are called"
        _say(f"a series: {told} {case.name}; --keep-phi keeps it", options)
    for finding in report["findings"]:
        if finding["level"] != "info" or options["verbose"]:
            hint = f"; {finding['hint']}" if finding["hint"] else ""
            _say(f"{case.shown}: {finding['level']}: {finding['message']}{hint}", options)
    if options["verbose"]:
        for name, cost in report["stages"].items():
            _say(f"  {name:12} {cost['seconds']:8.2f} s  {cost['peak_mb']:7.0f} MB", options)
    for name, volume_ml in report["volumes_ml"].items():
        shown = f"{volume_ml:9.1f} ml" if volume_ml >= 0.05 else "     <0.1 ml"
        cut = "  cut by the scan" if name in report["cut_organs"] else ""
        _say(f"  {name:20} {shown if volume_ml else '     none'}{cut}", options)
    _say(f"{case.labels}: written in {report['seconds']:.1f} s", options)


def _say(text: str, options: dict[str, Any]) -> None:
    if not options["quiet"]:
        click.echo(text, err=True)


def _print_json(content: Any) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))


def _list_classes(*, as_json: bool) -> None:
    if as_json:
        _print_json({organ.id: organ.name for organ in ORGANS})
        return
    for organ in ORGANS:
        click.echo(f"{organ.id:2d} {organ.name}")
