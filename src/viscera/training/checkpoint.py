"""Checkpoints: all that a training needs to go on, in one safetensors file, never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from viscera.errors import InputError
from viscera.io.atomic import atomic_write

LAST, BEST = "last.safetensors", "best.safetensors"
_NETWORK, _AVERAGE, _OPTIMISER = "network.", "average.", "optimiser."


@dataclass
class Reached:
    """How far a training is.

    Attributes:
        step: steps done.
        skipped: of them, those whose gradient was no number.
        best_dsc: highest mean DSC of any validation.
        seconds: trained in all, over all runs.
        recipe_mark: of the recipe, so that no other goes on with it.
    """

    step: int = 0
    skipped: int = 0
    best_dsc: float = -1.0
    seconds: float = 0.0
    recipe_mark: str = ""


def save_checkpoint(
    path: Path,
    network: nn.Module,
    reached: Reached,
    *,
    optimiser: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
) -> None:
    """Write all of it under its name, or leave what stood there.

    Args:
        path: the file.
        network: weights and statistics.
        reached: how far it is.
        optimiser: its moments, without which the file cannot be resumed from.
        average: moving average of the weights.

    Raises:
        OutputError: not writable, or the disk is full.
    """
    tensors = {_NETWORK + name: value for name, value in network.state_dict().items()}
    if average is not None:
        tensors |= {_AVERAGE + name: value for name, value in average.state_dict().items()}
    if optimiser is not None:
        names = _names(network, optimiser)
        for number, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"{_OPTIMISER}{key}.{names[number]}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = save(tensors, {"reached": json.dumps(asdict(reached))})
    with atomic_write(path, overwrite=True) as file:
        file.write(content)


def load_checkpoint(
    path: Path,
    network: nn.Module,
    *,
    optimiser: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
) -> Reached:
    """Put a checkpoint's tensors into place.

    Raises:
        InputError: unreadable, or of another network.
    """
    tensors, reached = _read(path)
    _fill(network, tensors, _NETWORK, path)
    if average is not None:
        _fill(average, tensors, _AVERAGE, path)
    if optimiser is not None:
        names = _names(network, optimiser)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(_OPTIMISER):
                kind, _, name = key.removeprefix(_OPTIMISER).partition(".")
                state.setdefault(names.index(name), {})[kind] = value
        described = optimiser.state_dict()
        optimiser.load_state_dict({**described, "state": state})
    return reached


def load_weights(path: Path, network: nn.Module) -> Reached:
    """A checkpoint's weights alone, the moving average where there is one.

    Raises:
        InputError: unreadable, or of another network.
    """
    tensors, reached = _read(path)
    averaged = any(name.startswith(_AVERAGE) for name in tensors)
    _fill(network, tensors, _AVERAGE if averaged else _NETWORK, path)
    return reached


def _names(network: nn.Module, optimiser: torch.optim.Optimizer) -> list[str]:
    """Names of the weights in the order in which the optimiser numbers them."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[p] for group in optimiser.param_groups for p in group["params"]]


def _read(path: Path) -> tuple[dict[str, Tensor], Reached]:
    try:
        content = path.read_bytes()
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        notes = json.loads(content[8 : 8 + size]).get("__metadata__", {})
        reached = Reached(**json.loads(notes.get("reached", "{}")))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        found = getattr(error, "strerror", None) or str(error)
        remedy = "name a .safetensors file of 'viscera train'"
        raise InputError("a checkpoint", found=found, remedy=remedy, where=path) from error
    return tensors, reached


def _fill(network: nn.Module, tensors: dict[str, Any], prefix: str, path: Path) -> None:
    own = {
        name.removeprefix(prefix): value.float() if value.dtype == torch.float16 else value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(
            "weights of this network",
            found=lines[-1][:160],
            remedy="name the recipe that they were trained with",
            where=path,
        ) from error
