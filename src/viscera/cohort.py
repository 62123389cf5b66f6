"""A cohort: many cases evaluated side by side, each remembered, none of them twice."""

from __future__ import annotations

import hashlib
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

from viscera import __version__
from viscera.conventions import FLARE, Convention
from viscera.errors import ResourceError, VisceraError
from viscera.evaluation import Evaluation, evaluate, unpredicted
from viscera.io import fingerprint, stored_size
from viscera.io.atomic import write_text
from viscera.metrics import Protocol
from viscera.organs import Organ
from viscera.resources import available_mb, require

# A voxel of both maps as our labels, of one protocol's copy of either, of the map of surfaces, and
# the surfaces themselves; the larger map as it is stored, libraries and the rest come on top.
_BYTES_A_VOXEL, _BASE_MB = 5, 150


@dataclass(frozen=True)
class Pair:
    """One case's files.

    Attributes:
        case: its name.
        truth: its true labels.
        prediction: the labels to judge, None where there are none.
        image: its CT, for pictures.
    """

    case: str
    truth: Path
    prediction: Path | None
    image: Path | None = None


@dataclass(frozen=True)
class Rules:
    """How every case of a cohort is judged.

    Attributes:
        protocol: ``standard`` or ``flare24``.
        organs: which to score.
        prediction_labels, truth_labels: conventions of the label values.
        limit_mb: most memory for all cases at work together; None: what is free.
    """

    organs: tuple[Organ, ...]
    protocol: Protocol = "standard"
    prediction_labels: Convention = FLARE
    truth_labels: Convention = FLARE
    limit_mb: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """What shapes the scores, JSON-ready."""
        return {
            "protocol": self.protocol,
            "organs": [organ.name for organ in self.organs],
            "prediction_labels": self.prediction_labels.name,
            "truth_labels": self.truth_labels.name,
        }

    def identity(self) -> dict[str, Any]:
        """All of it, JSON-ready: a mapping file may keep its name and change what it says."""
        sides = (self.prediction_labels, self.truth_labels)
        values = [[sorted(map(list, s.values.items())), sorted(s.others)] for s in sides]
        return {**self.as_dict(), "values": json.loads(json.dumps(values))}

    def mark(self, pair: Pair) -> str | None:
        """A checksum of all that decides a case's scores: both files' bytes and these rules.

        None where a file cannot be read.
        """
        files = [fingerprint(path) if path else None for path in (pair.prediction, pair.truth)]
        if "" in files:
            return None
        told = repr([__version__, self.identity(), files])
        return hashlib.sha256(told.encode()).hexdigest()


# What became of a case: its scores, or why there are none.
Outcome = Evaluation | VisceraError


def evaluate_all(
    pairs: Sequence[Pair],
    rules: Rules,
    *,
    memory: Path | None = None,
    jobs: int = 1,
    tell: Callable[[int], None] | None = None,
) -> dict[str, Outcome]:
    """Judge every pair; one that is refused does not stop the others.

    Args:
        pairs: the cases.
        rules: how to judge them.
        memory: a folder that keeps each finished case, so that a later call does only what is
            missing or has changed.
        jobs: processes; fewer are used where memory does not allow so many.
        tell: called with the number of cases done.

    Returns:
        By case, in the order of the pairs, scores or the error that prevented them.

    Raises:
        OutputError: `memory` cannot be written.
        ResourceError: a process was killed, most likely for want of memory.
    """
    outcomes: dict[str, Outcome] = {}
    todo = []
    # Marked before they are read: a file that changes meanwhile must not pass as judged.
    marks = {pair.case: rules.mark(pair) for pair in pairs} if memory else {}
    for pair in pairs:
        known = _remembered(memory, pair.case, marks.get(pair.case))
        if known is None:
            todo.append(pair)
        else:
            outcomes[pair.case] = known
    if tell:
        tell(len(outcomes))
    for pair, outcome in _judged(todo, rules, jobs):
        outcomes[pair.case] = outcome
        mark = marks.get(pair.case)
        if memory is not None and mark is not None and isinstance(outcome, Evaluation):
            content = {"made_by": mark, **outcome.as_dict()}
            text = json.dumps(content, indent=1, allow_nan=False)
            write_text(memory / f"{pair.case}.json", text, overwrite=True)
        if tell:
            tell(len(outcomes))
    return {pair.case: outcomes[pair.case] for pair in pairs}


def _judged(pairs: Sequence[Pair], rules: Rules, jobs: int) -> Iterator[tuple[Pair, Outcome]]:
    """Outcomes as they come."""
    limit_mb = available_mb() if rules.limit_mb is None else rules.limit_mb
    needs_mb = [_need_mb(pair) for pair in pairs]
    jobs = min(jobs, len(pairs), int(limit_mb // max(needs_mb, default=1)))
    rules = replace(rules, limit_mb=limit_mb)
    if jobs <= 1:
        for pair, need_mb in zip(pairs, needs_mb, strict=True):
            yield pair, _judge(pair, rules, need_mb)
        return
    # Fresh processes: a fork of one that runs threads may hang.
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context("spawn"), initializer=_ignore_interruption
    )
    others = set(multiprocessing.active_children())
    try:
        with _uninterrupted():
            waiting = {
                pool.submit(_judge, pair, rules, need_mb): pair
                for pair, need_mb in zip(pairs, needs_mb, strict=True)
            }
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BaseException as error:
        # Nobody waits for what is still being judged.
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        if isinstance(error, BrokenProcessPool):
            raise ResourceError(
                f"{jobs} processes to finish",
                found="one that was killed, most likely for want of memory",
                remedy="run again with fewer --jobs; finished cases are kept",
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that begin here inherit that Ctrl-C is ignored."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which alone may say so
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore_interruption() -> None:
    """Leave Ctrl-C to the parent, which ends what has begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _judge(pair: Pair, rules: Rules, need_mb: float) -> Outcome:
    try:
        assert rules.limit_mb is not None
        require(need_mb, rules.limit_mb, what="both label maps", where=pair.truth)
        if pair.prediction is None:
            return unpredicted(pair.case, pair.truth, rules.organs, labels=rules.truth_labels)
        evaluation = evaluate(
            pair.prediction,
            pair.truth,
            protocol=rules.protocol,
            organs=rules.organs,
            prediction_labels=rules.prediction_labels,
            truth_labels=rules.truth_labels,
            limit_mb=rules.limit_mb,
        )
        return replace(evaluation, case=pair.case)
    except VisceraError as error:
        return error


def _need_mb(pair: Pair) -> float:
    """Memory that judging this pair takes, from its headers; a broken file is judged later."""
    try:
        paths = [path for path in (pair.truth, pair.prediction) if path]
        sizes = [stored_size(path) for path in paths]
        voxels, bytes_a_voxel = max(n for n, _ in sizes), max(size for _, size in sizes)
    except VisceraError:
        return _BASE_MB
    return voxels * (_BYTES_A_VOXEL + bytes_a_voxel) / 1e6 + _BASE_MB


def _remembered(memory: Path | None, case: str, mark: str | None) -> Evaluation | None:
    """What an earlier run found for the same files by the same rules."""
    if memory is None or mark is None:
        return None
    try:
        content = json.loads((memory / f"{case}.json").read_text(encoding="utf-8"))
        return Evaluation.from_dict(content) if content["made_by"] == mark else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # damaged: judged again
        return None
