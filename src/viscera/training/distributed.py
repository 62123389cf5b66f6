"""Several processes that train one network, as `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from viscera.errors import UsageError, option

# Longer than a validation on whole volumes, during which all but the first process wait. A process
# that dies closes its connection, which the others notice at once.
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class ProcessGroup:
    """This process among all.

    Attributes:
        rank: its number, from 0.
        world: how many there are.
        device: where it computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether it is the process that writes files and reports progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            distributed.barrier()

    def any(self, condition: bool) -> bool:
        """Whether it holds in any of them; all get the same answer."""
        if self.world == 1:
            return condition
        flag = torch.tensor([float(condition)], device=self.device)
        distributed.all_reduce(flag)
        return bool(flag > 0)


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """This process, joined with the others that torchrun started, if any.

    Args:
        device: auto, cpu, cuda or cuda:N; every process of one machine takes its own GPU.

    Raises:
        UsageError: no such device.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", 0)))
    if world == 1:
        yield ProcessGroup(0, 1, chosen)
        return
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group(backend, timeout=_TIMEOUT)
    try:
        yield ProcessGroup(rank, world, chosen)
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        is_known = device.type in ("cpu", "cuda")
    except RuntimeError:
        is_known = False
    if not is_known:
        remedy = "choose one of these"
        raise UsageError("auto, cpu or cuda", found=repr(name), remedy=remedy)
    if device.type == "cuda" and (device.index or 0) >= gpus:
        remedy = f"pass {option('device', 'cpu')}, or start fewer processes"
        raise UsageError(f"a GPU {name}", found=f"{gpus} GPUs", remedy=remedy)
    return device
