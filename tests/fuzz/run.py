"""Give damaged files to every reader: python -m tests.fuzz.run [--seconds 60] [--seed 0]

A reader must read a file or refuse it with a sentence: no other exception, no hang, no heap of
memory.
A failure names target, seed and number; `--only TARGET --number N` runs that one again.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.targets import TARGETS, Fuzzer, Target, try_one

LONGEST_S = 10.0  # for one file of a few kB
MOST_MB = 600.0  # by which the process may grow


@dataclass
class Outcome:
    """What came of one target.

    Attributes:
        inputs: damaged files that were tried.
        refused: how many got a sentence; the others were read.
        failures: what else happened.
    """

    inputs: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


class TookTooLongError(Exception):
    """A reader did not come to an end."""


@contextmanager
def time_limit(seconds: float):
    """Raise `TookTooLongError` in a block that takes longer."""

    def stop(_number: int, _frame: object) -> None:
        raise TookTooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(target: Target, *, seed: int, seconds: float, first: int = 0) -> Outcome:
    """Try damaged files of one target for a while, ten at least.

    Args:
        target: the kind of input.
        seed: decides the damage.
        seconds: after which no other file is begun.
        first: number of the first file.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fuzzer = Fuzzer(target, Path(name), seed=seed)
        end, most_mb = time.monotonic() + seconds, _peak_mb() + MOST_MB
        number = first
        while outcome.inputs < 10 or time.monotonic() < end:
            path = fuzzer.damaged(number)
            try:
                with time_limit(LONGEST_S):
                    refusal = try_one(target, path)
                outcome.refused += refusal is not None
                if refusal is not None and "; " not in str(refusal):
                    outcome.failures.append(f"{number}: no remedy in: {refusal}")
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                where = traceback.extract_tb(error.__traceback__)[-1]
                outcome.failures.append(
                    f"{number}: {type(error).__name__}: {error} at {where.filename}:{where.lineno}"
                )
            if _peak_mb() > most_mb:
                outcome.failures.append(f"{number}: {_peak_mb():.0f} MB")
                return outcome
            outcome.inputs += 1
            number += 1
    return outcome


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> int:
    """Fuzz all targets, or one, and say what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one target")
    parser.add_argument("--number", type=int, default=0, help="the first file")
    options = parser.parse_args()
    chosen = [t for t in TARGETS if options.only in (None, t.name)]
    failed = False
    for target in chosen:
        if not target.is_possible:
            print(f"{target.name:12} left out: needs {target.needs}")
            continue
        seconds = options.seconds / len(chosen)
        outcome = fuzz(target, seed=options.seed, seconds=seconds, first=options.number)
        print(f"{target.name:12} {outcome.inputs:6} tried, {outcome.refused:6} refused, "
              f"{len(outcome.failures)} failures", flush=True)  # fmt: skip
        for failure in outcome.failures[:20]:
            print(f"    seed {options.seed}, number {failure}")
        failed |= bool(outcome.failures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
