"""Checkpoints: all that a training needs to continue, in one safetensors file, never a pickle."""

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
from viscera.runtime.atomic_files import atomic_write
from viscera.runtime.small_files import MOST_WEIGHTS_BYTES, read_file_bytes

LAST, BEST = "last.safetensors", "best.safetensors"
_NETWORK, _AVERAGE, _OPTIMISER = "network.", "average.", "optimiser."


@dataclass
class TrainingState:
    """How far a training is.

    Attributes:
        step: steps done.
        skipped: of them, those whose gradient was no number.
        best_dsc: highest mean DSC of any validation.
        seconds: trained in all, over all runs.
        recipe_digest: of the recipe, so that no other recipe continues it.
    """

    step: int = 0
    skipped: int = 0
    best_dsc: float = -1.0
    seconds: float = 0.0
    recipe_digest: str = ""

    def to_json(self) -> str:
        """As it is kept in a checkpoint's metadata."""
        values = asdict(self)
        values["recipe_mark"] = values.pop("recipe_digest")
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> TrainingState:
        """What `to_json` gave.

        Raises:
            TypeError, ValueError: it is something else.
        """
        values = json.loads(text)
        return cls(recipe_digest=values.pop("recipe_mark", ""), **values)


def save_checkpoint(
    path: Path,
    network: nn.Module,
    state: TrainingState,
    *,
    optimiser: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
) -> None:
    """Write all of it under its name, or leave the file that was there.

    Args:
        path: the file.
        network: weights and statistics.
        state: how far it is.
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
        for number, moments in optimiser.state_dict()["state"].items():
            for key, value in moments.items():
                tensors[f"{_OPTIMISER}{key}.{names[number]}"] = torch.as_tensor(value)
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    content = save(tensors, {"reached": state.to_json()})
    with atomic_write(path, overwrite=True) as file:
        file.write(content)


def load_checkpoint(
    path: Path,
    network: nn.Module,
    *,
    optimiser: torch.optim.Optimizer | None = None,
    average: nn.Module | None = None,
) -> TrainingState:
    """Put a checkpoint's tensors into a network, and into its optimiser and average where given.

    Args:
        path: the safetensors file.
        network: changed in place.
        optimiser: changed in place.
        average: changed in place.

    Raises:
        InputError: unreadable, or of another network.
    """
    tensors, state = _read(path)
    _fill(network, tensors, _NETWORK, path)
    if average is not None:
        _fill(average, tensors, _AVERAGE, path)
    if optimiser is not None:
        names = _names(network, optimiser)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(_OPTIMISER):
                kind, _, name = key.removeprefix(_OPTIMISER).partition(".")
                moments.setdefault(names.index(name), {})[kind] = value
        described = optimiser.state_dict()
        optimiser.load_state_dict({**described, "state": moments})
    return state


def load_weights(path: Path, network: nn.Module) -> TrainingState:
    """A checkpoint's weights alone, the moving average where there is one.

    Args:
        path: the safetensors file.
        network: changed in place.

    Raises:
        InputError: unreadable, or of another network.
    """
    tensors, state = _read(path)
    averaged = any(name.startswith(_AVERAGE) for name in tensors)
    _fill(network, tensors, _AVERAGE if averaged else _NETWORK, path)
    return state


def _names(network: nn.Module, optimiser: torch.optim.Optimizer) -> list[str]:
    """Names of the weights in the order in which the optimiser numbers them."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[p] for group in optimiser.param_groups for p in group["params"]]


def _read(path: Path) -> tuple[dict[str, Tensor], TrainingState]:
    try:
        content = read_file_bytes(path, most_bytes=MOST_WEIGHTS_BYTES)
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
        state = TrainingState.from_json(metadata.get("reached", "{}"))
    except (OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "name a .safetensors file of 'viscera train'"
        raise InputError("a checkpoint", found=reason, remedy=remedy, where=path) from error
    return tensors, state


def _fill(network: nn.Module, tensors: dict[str, Any], prefix: str, path: Path) -> None:
    weights = {
        name.removeprefix(prefix): value.float() if value.dtype == torch.float16 else value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise InputError(
            "weights of this network",
            found=lines[-1][:160],
            remedy="name the recipe that they were trained with",
            where=path,
        ) from error
