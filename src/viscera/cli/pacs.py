"""`viscera pacs`: pull, push, run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from viscera.cli._shared.options import BUNDLE, PATH
from viscera.cli._shared.terminal import echo
from viscera.errors import UsageError, command_line_wording
from viscera.io.failure_list import batch_error
from viscera.runtime.extras import require_extra
from viscera.runtime.resources import parse_memory

if TYPE_CHECKING:
    from viscera.pacs.dicomweb import DicomWebServer
    from viscera.pacs.run import SeriesResult
    from viscera.pacs.series_filter import SeriesFilter

_ENDINGS = ("_seg.dcm", "_rtstruct.dcm")


def _server_options(function: Callable[..., None]) -> Callable[..., None]:
    """How the server is reached."""
    for decorate in (
        click.option("--tries", type=click.IntRange(1, 20), default=4, show_default=True,
                     help="Of a request that fails."),
        click.option("--plain-http", is_flag=True,
                     help="Send credentials over HTTP to another machine."),
        click.option("--ca-file", type=PATH, help="Certificates to trust, PEM."),
        click.option("--credentials", type=PATH,
                     help="TOML file with user and password, or with token."),
        click.argument("address"),
    ):  # fmt: skip
        function = decorate(function)
    return function


def _filter_options(function: Callable[..., None]) -> Callable[..., None]:
    """Which series are meant."""
    for decorate in (
        click.option("--dry-run", is_flag=True, help="List the series and do nothing."),
        click.option("--least-images", type=click.IntRange(1), default=10, show_default=True,
                     help="Pass over series of fewer, such as scouts."),
        click.option("--modality", default="CT", show_default=True, help="Of the series."),
        click.option("--description", default="", metavar="PATTERN",
                     help="Of series or study, such as '*abdomen*'."),
        click.option("--patient", default="", metavar="ID", help="Patient ID."),
        click.option("--series", default="", metavar="UID", help="This series."),
        click.option("--study", default="", metavar="UID", help="This study."),
        click.option("--date", default="", metavar="RANGE",
                     help="Of the study: 20260131, 20260101-20260131, 20260101-."),
    ):  # fmt: skip
        function = decorate(function)
    return function


@click.group()
def command() -> None:
    """Segment series of a DICOMweb server, store results there.

    ADDRESS is the server's, such as https://pacs.example/dicom-web. Credentials come from
    VISCERA_PACS_USER and VISCERA_PACS_PASSWORD, from VISCERA_PACS_TOKEN, or from a file.
    """
    require_extra("dicomweb_client", "pydicom", "highdicom")


@command.command("pull")
@_server_options
@_filter_options
@click.option("-o", "--output", type=PATH, required=True, help="Folder of the series.")
def _pull(output: Path, **values: Any) -> None:
    """Fetch series into folders named by their UIDs."""
    from viscera.pacs.run import pull_series

    results = pull_series(
        _server(values), output, _wanted(values), is_dry=values["dry_run"], on_result=_show
    )
    _show_counts(results)
    for result in results:
        if result.error is not None:
            raise result.error


@command.command("push")
@_server_options
@click.argument("files", nargs=-1, required=True, type=PATH)
def _push(files: tuple[Path, ...], **values: Any) -> None:
    """Store DICOM files, or all SEG and RTSTRUCT in folders."""
    server = _server(values)
    for path in _files_below(files):
        server.store(path)
        echo(f"{path.name}: stored", err=True)


@command.command("run")
@_server_options
@_filter_options
@click.option("-o", "--output", type=PATH, required=True, help="Folder of results and state.")
@click.option("--keep-scans", is_flag=True, help="Keep the fetched images.")
@BUNDLE
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
def _run(
    output: Path,
    keep_scans: bool,
    bundle: str,
    threads: int | None,
    memory_limit: str | None,
    **values: Any,
) -> None:
    """Fetch series, segment them, store SEG and RTSTRUCT.

    A second call does only what is missing.
    """
    from viscera.batch.batch_files import FAILURES
    from viscera.batch.options import BatchOptions
    from viscera.batch.outputs import OutputOptions
    from viscera.pacs.run import PacsOptions, run_pacs
    from viscera.pacs.segment_series import SeriesOptions
    from viscera.predictor import Predictor

    outputs = OutputOptions(wording=command_line_wording)
    options = PacsOptions(
        wanted=_wanted(values),
        each=SeriesOptions(BatchOptions(outputs=outputs)),
        keep_scans=keep_scans,
        is_dry=values["dry_run"],
    )
    limit_mb = parse_memory(memory_limit) if memory_limit else None
    predictor = Predictor(bundle, threads=threads, memory_limit_mb=limit_mb)
    results = run_pacs(_server(values), output, predictor, options, on_result=_show)
    _show_counts(results)
    failed = sum(result.error is not None for result in results)
    if error := batch_error(failed, len(results), output / FAILURES):
        raise error


def _server(values: dict[str, Any]) -> DicomWebServer:
    from viscera.pacs.credentials import read_credentials
    from viscera.pacs.dicomweb import DicomWebServer, RetryOptions

    return DicomWebServer(
        values["address"],
        credentials=read_credentials(values["credentials"]),
        ca_file=values["ca_file"],
        plain_http=values["plain_http"],
        retry=RetryOptions(tries=values["tries"]),
    )


def _wanted(values: dict[str, Any]) -> SeriesFilter:
    from viscera.pacs.series_filter import SeriesFilter

    names = ("date", "study", "series", "patient", "description", "modality", "least_images")
    return SeriesFilter(**{name: values[name] for name in names})


def _files_below(paths: tuple[Path, ...]) -> list[Path]:
    """The files named, and in folders those that are results for an archive."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(f for f in path.rglob("*.dcm") if f.name.endswith(_ENDINGS))
        else:
            files.append(path)
    if not files:
        raise UsageError(
            "files to store", found="no SEG or RTSTRUCT in the folder", remedy="name files"
        )
    return files


def _show(result: SeriesResult) -> None:
    series = result.series
    about = ", ".join(filter(None, [f"{series.images} images", series.date, series.description]))
    echo(f"{series.uid}: {result.state} ({about})", err=True)
    if result.error is not None:
        echo(f"viscera: {result.error.message(command_line_wording)}", err=True)


def _show_counts(results: list[SeriesResult]) -> None:
    """A line on all."""
    states = [result.state for result in results]
    words = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    echo(f"{len(results)} series{': ' if words else ''}{words}", err=True)
