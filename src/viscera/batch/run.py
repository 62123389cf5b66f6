"""Many scans segmented with one network; finished cases are skipped, failures are listed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from viscera.batch.batch_files import check_batch, finish_batch
from viscera.batch.finished import STATE_FOLDER, record_path, state_name
from viscera.batch.options import BatchCallbacks, BatchOptions, CaseResult, ReadOptions
from viscera.batch.outputs import CaseOutputs, OutputOptions
from viscera.batch.plan import BatchCase, BatchPlan, plan_batch
from viscera.core.organs import Organ
from viscera.dicom.deidentify import patient_identity
from viscera.errors import InputError, OutputError, VisceraError
from viscera.inference.memory_plan import MemoryPlan, preview_peak_mb
from viscera.io.content_digest import content_digest
from viscera.io.read import path_exists
from viscera.predictor import Predictor
from viscera.runtime.leases import Lease, LeaseFolder
from viscera.runtime.paths import checked_path
from viscera.runtime.resources import means_no_memory, no_memory_error
from viscera.runtime.stages import Progress, Stages

_LOOK_AGAIN_S = 1.0  # at cases that other workers hold


class _LeaseLostError(Exception):
    """Another worker took a case over while this one was stopped."""


def segment_batch(
    scans: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    predictor: Predictor | None = None,
    organs: Sequence[Organ | str] = (),
    read: ReadOptions | None = None,
    outputs: OutputOptions | None = None,
    keep_phi: bool = False,
    callbacks: BatchCallbacks | None = None,
) -> tuple[CaseResult, ...]:
    """Segment many scans into one folder; a second call does only what is missing.

    A case that fails does not stop the others; ``failures.csv`` in the folder names it, and what
    was passed over. Several processes may work on one folder at a time.

    Args:
        scans: a file or folder, or several.
        output: the folder, made where it is missing.
        predictor: the network; one with the packaged default where not given.
        organs: to keep, or their names; all where empty.
        read: how scans are read.
        outputs: which files each case leaves.
        keep_phi: DICOM only: names of results and reports may identify the patient.
        callbacks: called on progress.

    Returns:
        The outcome of each case, in order.

    Raises:
        UsageError: options that contradict each other.
        NothingToSegmentError: no scan at all.
        OutputError: the folder is not writable.
    """
    predictor = predictor or Predictor()
    names = (o if isinstance(o, str) else o.name for o in organs)
    selected = predictor.bundle.label_table.select(names)
    options = BatchOptions(
        selected, read or ReadOptions(), outputs or OutputOptions(), keep_phi=keep_phi
    )
    sources = [scans] if isinstance(scans, str | Path) else scans
    plan = plan_batch(
        [checked_path(scan) for scan in sources],
        checked_path(output),
        series=options.read.series,
        keep_phi=keep_phi,
        many=True,
    )
    return run_batch(plan, predictor, options, callbacks or BatchCallbacks())


def run_batch(
    plan: BatchPlan, predictor: Predictor, options: BatchOptions, callbacks: BatchCallbacks
) -> tuple[CaseResult, ...]:
    """Segment the cases of a plan, see `segment_batch`.

    Several workers may share the folder: each case is done by one of them.

    Args:
        plan: the cases and their folder.
        predictor: the network.
        options: what is done with each case.
        callbacks: called on progress.

    Raises:
        UsageError: options that contradict each other.
        OutputError: the folder is not writable.
    """
    options.check(predictor)
    check_batch(plan, options)
    assert plan.folder is not None
    leases = LeaseFolder(plan.folder / STATE_FOLDER)
    results: dict[BatchCase, CaseResult] = {}
    waiting = deque(plan.cases)
    while waiting:
        held_by_others = 0
        while waiting and held_by_others < len(waiting):
            case = waiting.popleft()
            result = _try_case(case, predictor, options, leases, callbacks)
            if result is None:
                waiting.append(case)
                held_by_others += 1
                continue
            held_by_others = 0
            results[case] = result
            callbacks.on_result(result)
        if waiting:
            time.sleep(_LOOK_AGAIN_S)
    finish_batch(plan, results, options)
    return tuple(results[case] for case in plan.cases)


def run_case(
    case: BatchCase,
    predictor: Predictor,
    options: BatchOptions,
    *,
    callbacks: BatchCallbacks | None = None,
) -> CaseResult:
    """Segment one case of a batch unless it is finished; waits while another worker does it.

    Args:
        case: the scan, and where its labels go.
        predictor: the network.
        options: what is done with it.
        callbacks: called on progress.

    Raises:
        UsageError: options that contradict each other.
        OutputError: the folder is not writable.
    """
    options.check(predictor)
    leases = LeaseFolder(case.labels_path.parent / STATE_FOLDER)
    while True:
        result = _try_case(case, predictor, options, leases, callbacks or BatchCallbacks())
        if result is not None:
            return result
        time.sleep(_LOOK_AGAIN_S)


def _try_case(
    case: BatchCase,
    predictor: Predictor,
    options: BatchOptions,
    leases: LeaseFolder,
    callbacks: BatchCallbacks,
) -> CaseResult | None:
    """One case of a batch; None while another worker holds it, or has taken it over."""
    try:
        lease = leases.take(state_name(case.name))
    except OutputError as error:
        return CaseResult(case, error=error)
    if lease is None:
        return None
    with lease:
        return _segment_unless_finished(case, predictor, options, callbacks, lease)


def segment_case(
    case: BatchCase,
    predictor: Predictor,
    options: BatchOptions,
    *,
    on_progress: Progress | None = None,
) -> CaseResult:
    """Segment one scan from file to files.

    Args:
        case: the scan, and where its labels go.
        predictor: the network.
        options: what is done with it.
        on_progress: takes the name of the stage and the share done.

    Raises:
        VisceraError: the case fails.
    """
    options.check(predictor)
    outputs = _outputs(case, predictor, options, is_in_batch=False)
    outputs.check(case.source, options.organs_of(predictor))
    return _segment(case, predictor, options, outputs, on_progress)


def _outputs(
    case: BatchCase, predictor: Predictor, options: BatchOptions, *, is_in_batch: bool
) -> CaseOutputs:
    """The files of a case; signed where earlier results must be told from those of this run."""
    outputs = CaseOutputs(
        case.labels_path,
        options.outputs,
        keep_phi=options.keep_phi,
        record_path=record_path(case.labels_path),
        is_in_batch=is_in_batch,
        strict=options.read.strict,
    )
    assert outputs.record_path is not None
    if options.outputs.overwrite or not path_exists(outputs.record_path):
        return outputs
    digest = content_digest(case.source)
    if not digest:  # it cannot be read: nothing that lies there is known to be its result
        return outputs
    return replace(outputs, signature=_signature(case, predictor, options, digest))


def _segment_unless_finished(
    case: BatchCase,
    predictor: Predictor,
    options: BatchOptions,
    callbacks: BatchCallbacks,
    lease: Lease,
) -> CaseResult | None:
    """One case of a batch; its failure is part of the result. None if the lease was lost."""
    organs = options.organs_of(predictor)
    try:
        outputs = _outputs(case, predictor, options, is_in_batch=True)
        if not options.outputs.overwrite and outputs.is_finished(organs):
            return CaseResult(case)
        outputs.check(case.source, organs)
        with callbacks.progress(case) as on_progress:
            return _segment(case, predictor, options, outputs, on_progress, lease)
    except _LeaseLostError:
        return None
    except VisceraError as error:
        return CaseResult(case, error=error)
    except (MemoryError, RuntimeError) as error:  # of this case; the next may be smaller
        if not means_no_memory(error):
            raise
        return CaseResult(case, error=no_memory_error(case.shown))


def _segment(
    case: BatchCase,
    predictor: Predictor,
    options: BatchOptions,
    outputs: CaseOutputs,
    on_progress: Progress | None,
    lease: Lease | None = None,
) -> CaseResult:
    stages, read = Stages(on_progress=on_progress), options.read
    with stages.stage("read"):
        volume = read.open(case.source, predictor, name=case.name, series=case.series)
    outputs.check_volume(volume)
    preview_mb = preview_peak_mb(volume) if options.outputs.preview else 0.0
    memory_plan = MemoryPlan(predictor.bundle, volume, predictor.memory_limit_mb)
    memory_plan.require(preview_mb, "the preview")
    with ThreadPoolExecutor(1) as hasher:
        # Only now: a header that is refused costs no reading of the whole file.
        digest = hasher.submit(content_digest, case.source)
        segmentation = predictor.segment(volume, strict=read.strict, stages=stages)
    if options.organs:
        segmentation = segmentation.only(options.organs)
    if options.keep_phi:
        provenance = {**segmentation.provenance, "patient": patient_identity(volume)}
        segmentation = replace(segmentation, provenance=provenance)
    planned_mb = max(segmentation.provenance["planned_mb"], round(preview_mb))
    provenance = {**segmentation.provenance, "planned_mb": planned_mb}
    segmentation = replace(segmentation, provenance=provenance)
    if not digest.result():
        raise InputError(
            "a scan that can be read to its end",
            found="files that cannot",
            remedy="check whether they are still there",
            where=case.shown,
        )
    signature = _signature(case, predictor, options, digest.result())
    if lease is not None and not lease.is_held:
        raise _LeaseLostError
    return CaseResult(
        case, report=replace(outputs, signature=signature).write(segmentation, stages)
    )


def _signature(case: BatchCase, predictor: Predictor, options: BatchOptions, digest: str) -> str:
    """Names all that shapes the labels of a case: the scan's bytes, the bundle, all settings."""
    read = options.read
    settings = [
        digest,
        [organ.id for organ in options.organs],
        read.volume_index,
        case.series or read.series,
        read.allow_bad_slices,
        read.hu_offset,
    ]
    return predictor.signature(settings)
