"""Which process of which machine left something, and whether it still runs."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path


def this_machine() -> str:
    """A name for this machine as long as it runs: process numbers mean something on it only."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with suppress(OSError):  # containers on one machine count their processes separately
        boot += str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {boot}".strip()


def process_is_alive(machine: str, pid: int) -> bool:
    """Whether a process may still run; true where this machine cannot tell.

    Args:
        machine: as `this_machine` called it.
        pid: number of the process.
    """
    if machine != this_machine() or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
