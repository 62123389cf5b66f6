"""Stages: seconds and peak memory of each step of the path, for the report and the progress bar."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_STATUS = Path("/proc/self/status")

# Called with the stage's name and how much of it is done, 0 to 1.
Progress = Callable[[str, float], None]


def _memory_mb() -> tuple[float, float]:
    """Resident memory of this process, now and at its highest, in MB (10^6 bytes)."""
    with suppress(OSError, ValueError, IndexError):
        status = _STATUS.read_text(encoding="ascii")
        now, highest = (
            int(status.split(f"{name}:")[1].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM")
        )
        return now, highest
    import psutil  # where there is no /proc

    memory = psutil.Process().memory_info()
    now = memory.rss / 1e6
    try:
        import resource
    except ImportError:  # Windows has no such module, and says it elsewhere
        return now, getattr(memory, "peak_wset", memory.rss) / 1e6
    # ru_maxrss counts bytes on macOS, kilobytes elsewhere.
    unit = 1 if sys.platform == "darwin" else 1024
    return now, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@dataclass
class Stages:
    """What each stage cost.

    Attributes:
        seconds: wall-clock seconds by stage, in the order they ran.
        peaks_mb: peak resident memory by stage, MB. Exact for a stage that went higher than all
            before it; for the others, the more of what was resident at its start and at its end.
            (The kernel's peak is never reset: that would falsify what others measure of us.)
        on_progress: takes the name of the running stage and its share done.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    peaks_mb: dict[str, float] = field(default_factory=dict)
    on_progress: Progress | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Measure a stage; yields a function that takes the share done, 0 to 1."""
        on_progress = self.on_progress or (lambda _name, _share: None)
        before_mb, highest_mb = _memory_mb()
        start = time.perf_counter()
        on_progress(name, 0.0)
        try:
            yield lambda share: on_progress(name, share)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            after_mb, new_highest_mb = _memory_mb()
            peak_mb = max(before_mb, after_mb)
            if new_highest_mb > highest_mb:
                peak_mb = new_highest_mb
            self.peaks_mb[name] = max(self.peaks_mb.get(name, 0.0), peak_mb)
        on_progress(name, 1.0)
