"""What this process may use: CPU threads and memory, container limits included."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from viscera.errors import ResourceError, UsageError, option

# Where a container's memory limit and use stand: cgroup v2, then v1.
_CGROUP_MEMORY = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")
_MEMINFO = Path("/proc/meminfo")
_SPARE_DISK_BYTES = 1_000_000_000
_UNITS_MB = {"": 1e-6, "K": 1e-3, "M": 1.0, "G": 1e3, "T": 1e6}


def thread_count(requested: int | None = None) -> int:
    """Threads to use: as requested, else OMP_NUM_THREADS, else the CPUs this process may run on.

    CPU affinity and a cgroup's quota both count.

    Raises:
        UsageError: fewer than one was requested.
    """
    if requested is not None:
        if requested < 1:
            raise UsageError(
                "at least one thread", found=f"{requested}", remedy="choose another value"
            )
        return requested
    with suppress(KeyError, ValueError):
        from_environment = int(os.environ["OMP_NUM_THREADS"].split(",")[0])
        if from_environment > 0:
            return from_environment
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(usable or 1, _cgroup_cpus()))


def available_mb() -> float:
    """Memory that can still be taken without swapping, in MB (10^6 bytes)."""
    free = float("inf")
    with suppress(OSError, ValueError, IndexError):
        info = _MEMINFO.read_text(encoding="ascii")
        free = int(info.split("MemAvailable:")[1].split()[0]) * 1024 / 1e6
    if free == float("inf"):
        import psutil  # where there is no /proc

        free = psutil.virtual_memory().available / 1e6
    for folder, most, now in _CGROUP_MEMORY:
        with suppress(OSError, ValueError, IndexError):  # cgroup v2 writes "max" for no limit
            limit = int((folder / most).read_text(encoding="ascii"))
            used = int((folder / now).read_text(encoding="ascii"))
            # Cached files count as used, but the kernel gives them back on demand.
            cached = (folder / "memory.stat").read_text(encoding="ascii").split("inactive_file ")[1]
            free = min(free, (limit - used + int(cached.split()[0])) / 1e6)
    return min(free, _address_space_left_mb())


def require_addresses(need_mb: float, what: str) -> None:
    """Stop where a limit on addresses (ulimit -v) leaves too few for native code.

    Native code may crash where it gets none, which no handler can turn into a sentence.

    Args:
        need_mb: addresses that it reserves.
        what: needs them, for the message.

    Raises:
        ResourceError: the limit leaves less; the message names it.
    """
    left_mb = _address_space_left_mb()
    if left_mb < need_mb:
        raise ResourceError(
            f"a limit on addresses (ulimit -v) that leaves {need_mb:.0f} MB of memory to {what}",
            found=f"{left_mb:.0f} MB",
            remedy="raise that limit",
        )


def _address_space_left_mb() -> float:
    """What a limit on this process's addresses (ulimit -v) leaves; no limit is infinity.

    Libraries reserve addresses that they never touch, so that less than this can be used.
    """
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            taken = int(status.split("VmSize:")[1].split()[0]) * 1024
            return max(0.0, (limit - taken) / 1e6)
    return float("inf")


def disk_is_nearly_full(folder: Path, needs_bytes: int = 0) -> bool:
    """Whether a disk has less than 1 GB left, which belongs to others.

    Args:
        folder: on the disk.
        needs_bytes: that are to be written.
    """
    return shutil.disk_usage(folder).free < _SPARE_DISK_BYTES + needs_bytes


def means_no_memory(error: BaseException) -> bool:
    """Whether an error of a library says that memory could not be had, in whatever words."""
    words = ("bad_alloc", "bad allocation", "cannot allocate memory", "out of memory",
             "failed to allocate", "not enough memory", "failed to map segment",
             "can't start new thread")  # fmt: skip
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


def no_memory_error(where: object = None) -> ResourceError:
    """The error of a process that got no more memory.

    Args:
        where: file or case.
    """
    return ResourceError(
        "enough memory",
        found="none left for this process",
        remedy=f"close other programs, raise the limit, or pass {option('memory_limit_mb')}",
        where=where,
    )


def parse_memory(text: str) -> float:
    """MB of a size such as ``800M`` or ``1.5G`` (powers of ten).

    Raises:
        UsageError: not such a size.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)I?B?", text.strip().upper())
    if not match or float(match[1]) <= 0:
        raise UsageError(
            "a memory size such as 800M or 1.5G", found=repr(text), remedy="choose another value"
        )
    return float(match[1]) * _UNITS_MB[match[2]]


def require_memory(
    need_mb: float, limit_mb: float, *, what: str, remedy: str = "", where: object = None
) -> None:
    """Stop before allocating what is not there.

    Args:
        need_mb: estimate of what will be allocated.
        limit_mb: most that may be.
        what: needs it, for the message.
        remedy: what else would do, ahead of the usual remedy.
        where: file or case, for the message.

    Raises:
        ResourceError: the need is above the limit; the message names it.
    """
    if need_mb > limit_mb:
        raise ResourceError(
            f"a memory limit of at least {need_mb:.0f} MB for {what}",
            found=f"{limit_mb:.0f} MB",
            remedy=(
                f"{remedy}raise {option('memory_limit_mb')}, close other programs, or crop the "
                "volume"
            ),
            where=where,
        )


def _cgroup_cpus() -> int:
    """CPUs that a cgroup's quota allows, rounded up; many where there is no quota."""
    with suppress(OSError, ValueError):
        quota, period = _CGROUP_CPU.read_text(encoding="ascii").split()
        return max(1, -(-int(quota) // int(period)))
    with suppress(OSError, ValueError):
        v1 = Path("/sys/fs/cgroup/cpu")
        quota_us = int((v1 / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        if quota_us > 0:
            return max(1, -(-quota_us // int((v1 / "cpu.cfs_period_us").read_text())))
    return 1 << 16
