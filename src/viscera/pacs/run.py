"""Series of a DICOMweb server, segmented one after another, their results stored beside them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from viscera.batch.batch_files import FAILURES
from viscera.batch.finished import STATE_FOLDER
from viscera.errors import UnexpectedError, VisceraError
from viscera.io.failure_list import FailureList
from viscera.pacs.dicomweb import DicomWebServer
from viscera.pacs.ledger import Ledger, LedgerEntry
from viscera.pacs.segment_series import SeriesOptions, files_to_send, segment_series
from viscera.pacs.series_filter import RemoteSeries, SeriesFilter
from viscera.predictor import Predictor
from viscera.runtime.leases import LeaseFolder
from viscera.runtime.resources import means_no_memory, no_memory_error

SCANS = "scans"
LEDGER = "pacs"  # in the folder of a batch's state


@dataclass(frozen=True)
class SeriesResult:
    """The outcome of a series.

    Attributes:
        series: of the server.
        state: sent, fetched, done before, held (another process does it), found or failed.
        error: why it failed.
    """

    series: RemoteSeries
    state: str
    error: VisceraError | None = None


@dataclass(frozen=True)
class PacsOptions:
    """What is done with the series of a server.

    Attributes:
        wanted: which series.
        each: what is made of each.
        keep_scans: fetched images stay.
        is_dry: series are listed, and nothing is done.
    """

    wanted: SeriesFilter = field(default_factory=SeriesFilter)
    each: SeriesOptions = field(default_factory=SeriesOptions)
    keep_scans: bool = False
    is_dry: bool = False


def pull_series(
    server: DicomWebServer,
    folder: Path,
    wanted: SeriesFilter,
    *,
    is_dry: bool = False,
    on_result: Callable[[SeriesResult], None] = lambda _result: None,
) -> list[SeriesResult]:
    """Fetch series into folders that are called after their UIDs; what is there stays.

    Args:
        server: that has them.
        folder: made where it is missing.
        wanted: which series.
        is_dry: they are listed only.
        on_result: takes each outcome.

    Raises:
        PeerError: the server does not list its series.
        OutputError: not writable.
    """
    results = []
    for series in server.find(wanted):
        place, error = folder / series.uid, None
        state = "found" if is_dry else "fetched"
        if place.exists():
            state = "done before"
        elif not is_dry:
            try:
                server.fetch(series, place)
            except VisceraError as problem:
                state, error = "failed", problem
        results.append(SeriesResult(series, state, error))
        on_result(results[-1])
    return results


def run_pacs(
    server: DicomWebServer,
    folder: Path,
    predictor: Predictor,
    options: PacsOptions,
    *,
    on_result: Callable[[SeriesResult], None] = lambda _result: None,
) -> list[SeriesResult]:
    """Fetch, segment and store; a second call does only what is missing.

    Results lie in the folder, called after the UIDs of their series; ``failures.csv`` names what
    failed. Several processes may share the folder: each series is done by one of them.

    Args:
        server: that has the series and takes the results.
        folder: made where it is missing.
        predictor: the network.
        options: which series, and what is done with them.
        on_result: takes each outcome.

    Raises:
        PeerError: the server does not list its series.
        OutputError: not writable.
    """
    options.each.check(predictor)
    results: list[SeriesResult] = []
    if options.is_dry:
        for series in server.find(options.wanted):
            results.append(SeriesResult(series, "found"))
            on_result(results[-1])
        return results
    failures = FailureList(folder / FAILURES, options.each.batch.outputs.wording)
    leases = LeaseFolder(folder / STATE_FOLDER)
    ledger = Ledger(folder / STATE_FOLDER / LEDGER)
    try:
        for series in server.find(options.wanted):
            result = _run_series(series, server, folder, predictor, options, ledger, leases)
            if result.error is not None:
                failures.add(series.uid, result.error)
            results.append(result)
            on_result(result)
    finally:
        failures.write()
    return results


def _run_series(
    series: RemoteSeries,
    server: DicomWebServer,
    folder: Path,
    predictor: Predictor,
    options: PacsOptions,
    ledger: Ledger,
    leases: LeaseFolder,
) -> SeriesResult:
    """One series; whatever it does, the next one is not hindered."""
    uid, scan = series.uid, folder / SCANS / series.uid
    lease = leases.take(f"series-{uid}")
    if lease is None:
        return SeriesResult(series, "held")
    with lease:
        try:
            earlier = ledger.get(uid)
            is_same = earlier is not None and series.images in (0, earlier.images)
            if earlier is not None and earlier.state == "sent" and is_same:
                return SeriesResult(series, "done before")
            paths = files_to_send(uid, folder, options.each)
            is_made = earlier is not None and earlier.state == "segmented" and is_same
            if not (is_made and all(path.exists() for path in paths)):
                if not is_same:
                    shutil.rmtree(scan, ignore_errors=True)
                images = _count_images(scan) or server.fetch(series, scan)
                segment_series(
                    scan, uid, folder, predictor, options.each, overwrite=earlier is not None
                )
                ledger.note(uid, LedgerEntry("segmented", series.images or images))
            for path in paths:
                server.store(path)
            ledger.note_sent(uid)
        except VisceraError as error:
            return SeriesResult(series, "failed", error)
        except Exception as error:  # of this series; the next is another
            problem = no_memory_error(uid) if means_no_memory(error) else UnexpectedError.of(error)
            return SeriesResult(series, "failed", problem)
        finally:
            if not options.keep_scans:
                shutil.rmtree(scan, ignore_errors=True)
    return SeriesResult(series, "sent")


def _count_images(folder: Path) -> int:
    """How many images lie in the folder of a fetched series; 0 where there is none."""
    return sum(1 for _ in folder.glob("*.dcm")) if folder.is_dir() else 0
