"""Stages: seconds and peak memory of each step of the path, for the report and the progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

# Called with the stage's name and how much of it is done, 0 to 1.
Progress = Callable[[str, float], None]


def peak_mb() -> float:
    """Highest resident memory of this process since the last `_reset_peak`, in MB."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    try:
        import resource
    except ImportError:  # Windows has no such module
        return float("nan")
    # ru_maxrss counts bytes on macOS, kilobytes elsewhere.
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _reset_peak() -> None:
    """Let the kernel forget the peak so far, where it can (Linux: proc(5), clear_refs)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@dataclass
class Stages:
    """What each stage cost.

    Attributes:
        seconds: wall-clock seconds by stage, in the order they ran.
        peaks_mb: peak resident memory by stage; where the system cannot reset the peak, the
            highest so far.
        progress: told how far the running stage is.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    peaks_mb: dict[str, float] = field(default_factory=dict)
    progress: Progress | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Measure a stage; yields a function that takes how much of it is done, 0 to 1."""
        tell = self.progress or (lambda _name, _done: None)
        _reset_peak()
        start = time.perf_counter()
        tell(name, 0.0)
        try:
            yield lambda done: tell(name, done)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self.peaks_mb[name] = max(self.peaks_mb.get(name, 0.0), peak_mb())
        tell(name, 1.0)
