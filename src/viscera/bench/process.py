"""The cost of a whole process, as FLARE measures it: start to end, children included."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import psutil

INTERVAL_S = 0.1  # FLARE samples at this pace
_POLL_S = 0.005  # how closely the end is met


@dataclass(frozen=True)
class ResourceSample:
    """One sample of a process and its children.

    Attributes:
        time_s: since the start.
        memory_mb: resident memory, MB (10^6 bytes); pages that processes share count in each.
        cpu_s: CPU time used up to now.
    """

    time_s: float
    memory_mb: float
    cpu_s: float


@dataclass(frozen=True)
class ProcessRun:
    """The cost of one run.

    Attributes:
        seconds: wall clock, start to end.
        cpu_s: CPU time of the process and all its children.
        peak_mb: highest resident memory; None for a process too short to be seen.
        exit_code: negative for a signal; None where it ran out of time and was ended.
        samples: one each 0.1 s.
    """

    seconds: float
    cpu_s: float
    peak_mb: float | None
    exit_code: int | None
    samples: tuple[ResourceSample, ...]

    @property
    def memory_area_mb_s(self) -> float:
        """Area under the memory-time curve, by trapezoids from 0 at the start to 0 at the end."""
        curve = [(0.0, 0.0), *((s.time_s, s.memory_mb) for s in self.samples), (self.seconds, 0.0)]
        return sum(
            (later - earlier) * (earlier_mb + later_mb) / 2
            for (earlier, earlier_mb), (later, later_mb) in pairwise(curve)
        )

    @property
    def cpu_area_percent_s(self) -> float:
        """Area under the curve of CPU use in percent of one CPU; what it used in all, times 100."""
        return 100 * self.cpu_s

    def cpu_percent(self) -> list[float]:
        """CPU use between each sample and the one before it, in percent of one CPU."""
        looks = [ResourceSample(-INTERVAL_S, 0.0, 0.0), *self.samples]
        return [
            max(0.0, 100 * (later.cpu_s - earlier.cpu_s) / (later.time_s - earlier.time_s))
            for earlier, later in pairwise(looks)
        ]


def run_and_measure(
    command: Sequence[str], *, log: Path, timeout_s: float | None = None
) -> ProcessRun:
    """Run a command to its end and measure it.

    Args:
        command: program and arguments; no shell is involved.
        log: receives what it prints.
        timeout_s: it is ended after this.

    Raises:
        OSError: the program cannot be started.
    """
    with log.open("wb") as printed:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT
        )
        watched = psutil.Process(process.pid)
        samples: list[ResourceSample] = []
        try:
            while (ended := _exit_account(process)) is None:
                now = time.perf_counter() - start
                if timeout_s is not None and now > timeout_s:
                    _kill_tree(watched)
                    process.wait()
                    return _process_run(samples, now, None)
                if now >= INTERVAL_S * len(samples):
                    samples.append(_take_sample(watched, now))
                time.sleep(_POLL_S)
        except BaseException:
            _kill_tree(watched)
            process.wait()
            raise
        seconds = time.perf_counter() - start
    code, cpu_s, peak_mb = ended
    run = _process_run(samples, seconds, code)
    # The kernel's own account is complete; samples miss what happens between them.
    highest_mb = max(run.peak_mb or 0.0, peak_mb) or None
    return replace(run, cpu_s=max(run.cpu_s, cpu_s), peak_mb=highest_mb)


def _process_run(samples: list[ResourceSample], seconds: float, code: int | None) -> ProcessRun:
    return ProcessRun(
        seconds,
        max((s.cpu_s for s in samples), default=0.0),
        max((s.memory_mb for s in samples), default=0.0) or None,
        code,
        tuple(samples),
    )


def _exit_account(process: subprocess.Popen[bytes]) -> tuple[int, float, float] | None:
    """Exit code, CPU seconds and peak MB by the kernel's account, None while it runs.

    Where there is no such account, it says 0.
    """
    if sys.platform == "win32":
        code = process.poll()
        return None if code is None else (code, 0.0, 0.0)
    import resource

    number, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not number:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    # The account begins before the command does, with the memory of this very process: what does
    # not exceed that tells nothing.
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts bytes there
    peak_mb = usage.ru_maxrss * unit / 1e6 if usage.ru_maxrss > own_peak else 0.0
    return process.returncode, usage.ru_utime + usage.ru_stime, peak_mb


def _take_sample(process: psutil.Process, now: float) -> ResourceSample:
    memory_bytes, cpu_s = 0, 0.0
    with suppress(psutil.Error):
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):  # it ended meanwhile
                times = member.cpu_times()
                memory_bytes += member.memory_info().rss
                # Children that ended count with the parent that waited for them.
                cpu_s += times.user + times.system + times.children_user + times.children_system
    return ResourceSample(now, memory_bytes / 1e6, cpu_s)


def _kill_tree(process: psutil.Process) -> None:
    """End a process and all it started."""
    with suppress(psutil.Error):
        for member in (*process.children(recursive=True), process):
            with suppress(psutil.Error):
                member.kill()
