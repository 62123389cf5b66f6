"""`viscera segment`."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from viscera.batch.plan import plan_batch
from viscera.bundle.read import read_bundle
from viscera.cli._shared.options import BUNDLE, PATH, NameChoice, organ_names, subset
from viscera.cli._shared.progress import progress_bar
from viscera.cli._shared.terminal import echo
from viscera.errors import UsageError, command_line_wording, option
from viscera.io.failure_list import batch_error
from viscera.runtime.resources import parse_memory

if TYPE_CHECKING:
    from viscera.batch.options import BatchOptions, CaseResult
    from viscera.batch.plan import BatchPlan

_MOST_NAMED = 20  # passed-over files on the screen; failures.csv names all


@click.command()
@click.argument("inputs", nargs=-1, type=PATH)
@click.option("-i", "--input", "more", type=PATH, multiple=True, help="Same as an argument.")
@click.option("-o", "--output", type=PATH, help="Label file; a folder for several scans.")
@BUNDLE
@click.option("--fast", is_flag=True, help="Short for --bundle fast: a coarser grid.")
@click.option(
    "-ot",
    "--output-type",
    type=NameChoice(["nifti", "dicom_seg", "dicom_rtstruct", "seg_nrrd"]),
    multiple=True,
    help="Also write these beside the NIfTI; may be repeated.",
)
@click.option("--labelmap", is_flag=True, help="DICOM SEG in its newer form, one label a pixel.")
@subset("Keep")
@click.option("--masks", is_flag=True, help="Also write a file per organ.")
@click.option("-s", "--statistics", is_flag=True, help="Also write volumes and HU, JSON and CSV.")
@click.option("-p", "--preview", is_flag=True, help="Also write a picture.")
@click.option("--report", is_flag=True, help="Also write what was done, as JSON.")
@click.option("--html", is_flag=True, help="Also write a page with pictures, volumes, verdicts.")
@click.option("--tables", is_flag=True, help="Also write ITK-SNAP's and Slicer's label tables.")
@click.option(
    "--cohort",
    type=NameChoice(["csv", "parquet"]),
    multiple=True,
    help="Also write one table of all cases; may be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing results.")
@click.option("--strict", is_flag=True, help="Refuse scans that need an assumption or a warning.")
@click.option(
    "--volume", "volume_index", type=int, metavar="N", help="Volume N of a 4-D file, from 0."
)
@click.option("--series", metavar="UID", help="DICOM: this series, not the likeliest.")
@click.option("--allow-bad-slices", is_flag=True, help="DICOM: fill slices that are damaged.")
@click.option(
    "--keep-phi", is_flag=True, help="DICOM: reports and result names may identify the patient."
)
@click.option("--hu-offset", type=float, default=0.0, help="Add this to every voxel first.")
@click.option("--engine", default="auto", show_default=True, help="auto, openvino or onnxruntime.")
@click.option(
    "--precision",
    type=click.Choice(["f32", "bf16"]),
    help="Arithmetic; default: bf16 where bundle and CPU have it.",
)
@click.option("--overlap", type=float, help="Share of a patch that neighbours share, 0 to <1.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
@click.option("--low-memory", is_flag=True, help="Smaller windows; labels then differ a little.")
@click.option("--cluster", type=NameChoice(["local"]), help="A worker for every two CPUs, on Dask.")
@click.option("--workers", type=click.IntRange(1), help="How many; with --cluster local.")
@click.option("--scheduler", metavar="ADDRESS", help="Workers of this Dask scheduler.")
@click.option("--list-classes", is_flag=True, help="List what the network finds, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports as JSON to stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Print seconds and memory of each stage.")
def command(
    inputs: tuple[Path, ...],
    more: tuple[Path, ...],
    output: Path | None,
    bundle: str,
    fast: bool,
    output_type: tuple[str, ...],
    labelmap: bool,
    subset: tuple[str, ...],
    masks: bool,
    statistics: bool,
    preview: bool,
    report: bool,
    html: bool,
    tables: bool,
    cohort: tuple[str, ...],
    overwrite: bool,
    strict: bool,
    volume_index: int | None,
    series: str | None,
    allow_bad_slices: bool,
    keep_phi: bool,
    hu_offset: float,
    engine: str,
    precision: Any,
    overlap: float | None,
    threads: int | None,
    memory_limit: str | None,
    low_memory: bool,
    cluster: str | None,
    workers: int | None,
    scheduler: str | None,
    list_classes: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Find the organs in CT scans.

    INPUTS are NIfTI, NRRD or MetaImage files, DICOM series (a folder, a zip archive, or a file),
    or folders in which such scans lie at any depth. The labels lie on the grid of each scan. A
    second call does only what is missing; several may share one output folder.
    """
    bundle = _chosen_bundle(bundle, fast=fast)
    if list_classes:
        _list_classes(bundle, as_json=as_json)
        return
    plan = plan_batch([*inputs, *more], output, series=series, keep_phi=keep_phi)
    # Imported once the call is known to make sense: the libraries take time.
    from viscera.batch.batch_files import FAILURES
    from viscera.batch.cluster import ClusterOptions, PredictorSettings, run_batch_on_cluster
    from viscera.batch.options import BatchCallbacks, BatchOptions, ReadOptions
    from viscera.batch.outputs import OutputOptions
    from viscera.batch.run import run_batch, segment_case

    names = organ_names(subset)
    organs = read_bundle(bundle).label_table.select(names) if names else ()
    options = BatchOptions(
        organs=organs,
        read=ReadOptions(
            volume_index=volume_index,
            series=series,
            allow_bad_slices=allow_bad_slices,
            hu_offset=hu_offset,
            strict=strict,
        ),
        outputs=OutputOptions(
            masks=masks,
            statistics=statistics,
            preview=preview,
            report=report,
            html=html,
            tables=tables,
            output_types=output_type,
            labelmap=labelmap,
            cohort=cohort,
            overwrite=overwrite,
            wording=command_line_wording,
        ),
        keep_phi=keep_phi,
    )
    settings = PredictorSettings(
        bundle,
        engine=engine,
        threads=threads,
        memory_limit_mb=parse_memory(memory_limit) if memory_limit else None,
        precision=precision,
        overlap=overlap,
        low_memory=low_memory,
    )
    pace = _Pace(len(plan.cases))

    def show(result: CaseResult) -> None:
        if result.error is not None:
            echo(f"viscera: {result.error.message(command_line_wording)}", err=True)
        elif not quiet and result.was_finished:
            echo(f"{result.case.shown}: finished already", err=True)
        elif not quiet:
            for line in _result_lines(result, verbose=verbose):
                echo(line, err=True)
        if not quiet and (line := pace.after(result)):
            echo(line, err=True)

    if plan.folder is None:
        if cluster or scheduler:
            raise UsageError(
                f"several scans for {option('cluster')} and {option('scheduler')}",
                found="one",
                remedy="leave them out",
            )
        (case,) = plan.cases
        predictor = settings.open()
        with progress_bar(case.shown, quiet=quiet) as on_progress:
            result = segment_case(case, predictor, options, on_progress=on_progress)
        show(result)
        _show_passed_over(plan, options, quiet=quiet)
        if as_json:
            _print_json(result.report)
        return
    callbacks = BatchCallbacks(lambda case: progress_bar(case.shown, quiet=quiet), show)
    if cluster and scheduler:
        raise UsageError(
            f"{option('cluster')} or {option('scheduler')}", found="both", remedy="pass one of them"
        )
    if cluster or scheduler:
        place = ClusterOptions(scheduler or "", workers)
        connected = partial(_show_cluster, quiet=quiet)
        results = run_batch_on_cluster(
            plan, settings, options, callbacks, place, on_connect=connected
        )
    else:
        if workers is not None:
            raise UsageError(
                f"{option('cluster', 'local')} beside {option('workers')}",
                found="none",
                remedy="add it",
            )
        results = run_batch(plan, settings.open(), options, callbacks)
    if as_json:
        _print_json([result.report for result in results if result.report is not None])
    _show_passed_over(plan, options, quiet=quiet)
    if not quiet:
        echo(_summary(results, len(plan.passed_over)), err=True)
    failed = sum(result.error is not None for result in results)
    if error := batch_error(failed, len(results), plan.folder / FAILURES):
        raise error


def _result_lines(result: CaseResult, *, verbose: bool) -> list[str]:
    """What people read about a finished case."""
    case, report = result.case, result.report
    assert report is not None
    lines = []
    if case.is_renamed:
        lines.append(
            "a series: its name identifies the patient, so the results are called "
            f"{case.name}; --keep-phi keeps the name"
        )
    for finding in report["findings"]:
        if finding["level"] != "info" or verbose:
            hint = f"; {finding['hint']}" if finding["hint"] else ""
            lines.append(f"{case.shown}: {finding['level']}: {finding['message']}{hint}")
    if verbose:
        lines += [
            f"  {name:12} {cost['seconds']:8.2f} s  {cost['peak_mb']:7.0f} MB"
            for name, cost in report["stages"].items()
        ]
    for name, volume_ml in report["volumes_ml"].items():
        volume = f"{volume_ml:9.1f} ml" if volume_ml >= 0.05 else "     <0.1 ml"
        quality = report["quality"].get(name)
        notes = quality["reasons"] if quality else ()
        verdict = f"  {quality['verdict']:5}" if quality else ""
        text = f"  {name:20} {volume if volume_ml else '     none':12}{verdict}"
        lines.append(f"{text}  {'; '.join(notes)}".rstrip())
    return [*lines, f"{case.labels_path}: written in {report['seconds']:.1f} s"]


class _Pace:
    """How quickly a batch goes on."""

    def __init__(self, cases: int) -> None:
        self._cases, self._seen, self._segmented = cases, 0, 0
        self._begun_s = time.monotonic()

    def after(self, result: CaseResult) -> str:
        """A line on how far it is, after each case that took time; empty for a single case."""
        self._seen += 1
        self._segmented += not result.was_finished
        if self._cases < 2 or result.was_finished:
            return ""
        seconds = (time.monotonic() - self._begun_s) / self._segmented
        left_s = seconds * (self._cases - self._seen)
        pace = f"{self._seen} of {self._cases}, {3600 / max(seconds, 0.001):.0f} an hour"
        return f"{pace}, {_duration(left_s)} left" if left_s else pace


def _duration(seconds: float) -> str:
    """Roughly how long, in words."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _show_cluster(dashboard: str, workers: int, *, quiet: bool) -> None:
    if not quiet:
        echo(f"{_counted(workers, 'worker')}; Dask's dashboard: {dashboard}", err=True)


def _summary(results: tuple[CaseResult, ...], passed_over: int) -> str:
    """One line on a batch."""
    finished = sum(result.was_finished for result in results)
    failed = sum(result.error is not None for result in results)
    counts = {
        "segmented": len(results) - finished - failed,
        "done before": finished,
        "failed": failed,
    }
    words = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    files = f"; {_counted(passed_over, 'file')} passed over, see failures.csv"
    return f"{_counted(len(results), 'case')}: {words}{files if passed_over else ''}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _show_passed_over(plan: BatchPlan, options: BatchOptions, *, quiet: bool) -> None:
    """Name the files among the scans that are none."""
    if quiet:
        return
    for item in plan.passed_over[:_MOST_NAMED]:
        shown = item.shown(keep_phi=options.keep_phi)
        echo(f"{shown}: passed over: {item.reason}", err=True)
    if len(plan.passed_over) > _MOST_NAMED:
        echo(f"... and {len(plan.passed_over) - _MOST_NAMED} files more", err=True)


def _print_json(content: Any) -> None:
    echo(json.dumps(content, indent=2, ensure_ascii=False))


def _chosen_bundle(bundle: str, *, fast: bool) -> str:
    """The bundle of --bundle, or the one that --fast stands for.

    Raises:
        UsageError: both are given, and differ.
    """
    if not fast or bundle == "fast":
        return bundle
    source = click.get_current_context().get_parameter_source("bundle")
    if source is ParameterSource.COMMANDLINE:
        raise UsageError(
            f"{option('fast', True)} or {option('bundle')}",
            found=f"{option('fast', True)} and {option('bundle', bundle)}",
            remedy="pass one of them",
        )
    return "fast"


def _list_classes(bundle: str, *, as_json: bool) -> None:
    organs = read_bundle(bundle).organs
    if as_json:
        _print_json({organ.id: organ.name for organ in organs})
        return
    for organ in organs:
        echo(f"{organ.id:2d} {organ.name}")
