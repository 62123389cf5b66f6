"""Many cases evaluated side by side, each result kept, so that no case is evaluated twice."""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from viscera._version import __version__
from viscera.core.label_schemes import FLARE, LabelScheme
from viscera.core.organs import FLARE13, Organ, Region
from viscera.errors import ResourceError, VisceraError, option
from viscera.evaluation.case import Evaluation, evaluate, evaluate_missing
from viscera.io.content_digest import content_digest
from viscera.io.read import label_map_size
from viscera.metrics.organ_metrics import Protocol
from viscera.runtime.atomic_files import write_text
from viscera.runtime.digests import digest_of
from viscera.runtime.resources import available_mb, require_memory
from viscera.runtime.small_files import read_json_file

# A voxel of both maps as our labels, of one protocol's copy of either, of the map of surfaces, and
# the surfaces themselves; the larger map as it is stored, libraries and the rest come on top.
_BYTES_A_VOXEL, _BASE_MB = 5, 150


@dataclass(frozen=True)
class CasePair:
    """The files of one case.

    Attributes:
        case: its name.
        truth: its true labels.
        prediction: the labels to evaluate, None where there are none.
        image: its CT, for pictures.
    """

    case: str
    truth: Path
    prediction: Path | None
    image: Path | None = None


@dataclass(frozen=True)
class EvaluationRules:
    """How every case of a cohort is evaluated.

    Attributes:
        organs: which to compare.
        protocol: ``standard`` or ``flare24``.
        prediction_labels, truth_labels: label schemes.
        memory_limit_mb: most memory for all parallel cases together; None: what is free.
        regions: which to compare too.
    """

    organs: tuple[Organ, ...]
    protocol: Protocol = "standard"
    prediction_labels: LabelScheme = FLARE
    truth_labels: LabelScheme = FLARE
    memory_limit_mb: float | None = None
    regions: tuple[Region, ...] = ()

    @property
    def compared(self) -> tuple[Organ | Region, ...]:
        """Organs and regions."""
        return (*self.organs, *self.regions)

    def as_dict(self) -> dict[str, Any]:
        """What shapes the metrics, JSON-ready."""
        table: dict[str, Any] = {
            "protocol": self.protocol,
            "organs": [organ.name for organ in self.organs],
            "prediction_labels": self.prediction_labels.name,
            "truth_labels": self.truth_labels.name,
        }
        if self.truth_labels.table != FLARE13:
            table["label_table"] = self.truth_labels.table.name
            table["regions"] = [region.name for region in self.regions]
        return table

    def identity(self) -> dict[str, Any]:
        """All of it, JSON-ready: a mapping file may keep its name and change what it says."""
        values = [
            [sorted(map(list, scheme.values.items())), sorted(scheme.others)]
            for scheme in (self.prediction_labels, self.truth_labels)
        ]
        identity = {**self.as_dict(), "values": json.loads(json.dumps(values))}
        if self.truth_labels.table != FLARE13:
            schemes = (self.prediction_labels, self.truth_labels)
            identity["unlabelled"] = [sorted(scheme.unlabelled) for scheme in schemes]
            identity["tolerances_mm"] = [each.tolerance_mm for each in self.compared]
            identity["parts"] = [list(region.structures) for region in self.regions]
        return identity

    def cache_key(self, pair: CasePair) -> str | None:
        """A digest of all that decides a case's metrics: both files' bytes and these rules.

        None where a file cannot be read.
        """
        digests = [content_digest(path) if path else None for path in (pair.prediction, pair.truth)]
        if "" in digests:
            return None
        return digest_of(__version__, self.identity(), digests)


# The outcome of a case: its metrics, or the error that prevented them.
CaseOutcome = Evaluation | VisceraError


def evaluate_pairs(
    pairs: Sequence[CasePair],
    rules: EvaluationRules,
    *,
    cache_folder: Path | None = None,
    jobs: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, CaseOutcome]:
    """Evaluate every pair; one that is refused does not stop the others.

    Args:
        pairs: the cases.
        rules: how to evaluate them.
        cache_folder: keeps each finished case, so that a later call does only what is missing or
            has changed.
        jobs: processes; fewer are used where memory does not allow so many.
        on_progress: takes the number of cases done.

    Returns:
        By case, in the order of the pairs, its metrics or the error that prevented them.

    Raises:
        OutputError: `cache_folder` cannot be written.
        ResourceError: a process was killed, most likely for want of memory.
    """
    outcomes: dict[str, CaseOutcome] = {}
    # Digests come first: a file that changes during its evaluation must not pass as evaluated.
    keys = {pair.case: rules.cache_key(pair) for pair in pairs} if cache_folder else {}
    for pair in pairs:
        cached = _read_cached(cache_folder, pair.case, keys.get(pair.case))
        if cached is not None:
            outcomes[pair.case] = cached
    if on_progress:
        on_progress(len(outcomes))
    missing = [pair for pair in pairs if pair.case not in outcomes]
    for pair, outcome in _evaluate_in_processes(missing, rules, jobs):
        outcomes[pair.case] = outcome
        key = keys.get(pair.case)
        if cache_folder is not None and key is not None and isinstance(outcome, Evaluation):
            content = {"made_by": key, **outcome.as_dict()}
            text = json.dumps(content, indent=1, allow_nan=False)
            write_text(cache_folder / f"{pair.case}.json", text, overwrite=True)
        if on_progress:
            on_progress(len(outcomes))
    return {pair.case: outcomes[pair.case] for pair in pairs}


def _evaluate_in_processes(
    pairs: Sequence[CasePair], rules: EvaluationRules, jobs: int
) -> Iterator[tuple[CasePair, CaseOutcome]]:
    """Outcomes as they come."""
    memory_limit_mb = available_mb() if rules.memory_limit_mb is None else rules.memory_limit_mb
    needs_mb = [_needed_mb(pair) for pair in pairs]
    jobs = min(jobs, len(pairs), int(memory_limit_mb // max(needs_mb, default=1)))
    rules = replace(rules, memory_limit_mb=memory_limit_mb)
    if jobs <= 1:
        for pair, need_mb in zip(pairs, needs_mb, strict=True):
            yield pair, _evaluate_pair(pair, rules, need_mb)
        return
    # Fresh processes: a fork of one that runs threads may hang.
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_ignore_interruption
    )
    other_children = set(multiprocessing.active_children())
    try:
        with _interruption_ignored():
            pending = {
                pool.submit(_evaluate_pair, pair, rules, need_mb): pair
                for pair, need_mb in zip(pairs, needs_mb, strict=True)
            }
        for future in as_completed(pending):
            yield pending[future], future.result()
    except BaseException as error:
        # Nobody waits for what is still being evaluated.
        for worker in set(multiprocessing.active_children()) - other_children:
            worker.kill()
        if isinstance(error, BrokenProcessPool):
            raise ResourceError(
                f"{jobs} processes to finish",
                found="one that was killed, most likely for want of memory",
                remedy=f"run again with fewer {option('jobs')}; finished cases are kept",
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interruption_ignored() -> Iterator[None]:
    """Processes that begin here inherit that Ctrl-C is ignored."""
    try:
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone may set it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _ignore_interruption() -> None:
    """Leave Ctrl-C to the parent, which ends what has begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _evaluate_pair(pair: CasePair, rules: EvaluationRules, need_mb: float) -> CaseOutcome:
    try:
        assert rules.memory_limit_mb is not None
        require_memory(need_mb, rules.memory_limit_mb, what="both label maps", where=pair.truth)
        if pair.prediction is None:
            return evaluate_missing(
                pair.case,
                pair.truth,
                rules.organs,
                truth_labels=rules.truth_labels,
                regions=rules.regions,
            )
        evaluation = evaluate(
            pair.prediction,
            pair.truth,
            protocol=rules.protocol,
            organs=(*rules.organs, *(region.name for region in rules.regions)),
            prediction_labels=rules.prediction_labels,
            truth_labels=rules.truth_labels,
            memory_limit_mb=rules.memory_limit_mb,
        )
        return replace(evaluation, case=pair.case)
    except VisceraError as error:
        return error


def _needed_mb(pair: CasePair) -> float:
    """Memory that evaluating this pair takes, from its headers; a broken file is refused later."""
    try:
        sizes = [label_map_size(path) for path in (pair.truth, pair.prediction) if path]
        voxels, bytes_a_voxel = max(n for n, _ in sizes), max(size for _, size in sizes)
    except VisceraError:
        return _BASE_MB
    return voxels * (_BYTES_A_VOXEL + bytes_a_voxel) / 1e6 + _BASE_MB


def _read_cached(cache_folder: Path | None, case: str, key: str | None) -> Evaluation | None:
    """The result of an earlier run for the same files by the same rules."""
    if cache_folder is None or key is None:
        return None
    try:
        content = read_json_file(cache_folder / f"{case}.json")
        return Evaluation.from_dict(content) if content["made_by"] == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: evaluated again
        return None
