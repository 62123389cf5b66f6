"""Checkpoints: all that a training needs to continue, in one safetensors file, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_SCORE_LAYERS, _SCORE_BIAS = ("score.", "coarse."), "score.bias"


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
    labels: Sequence[str] = (),
) -> None:
    """Write all of it under its name, or leave the file that was there.

    Args:
        path: the file.
        network: weights and statistics.
        state: how far it is.
        optimiser: its moments, without which the file cannot be resumed from.
        average: moving average of the weights.
        labels: of the network's outputs, so that another training can begin with them.

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
    metadata = {"reached": state.to_json()}
    if labels:
        metadata["labels"] = json.dumps(list(labels))
    content = save(tensors, metadata)
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
    tensors, state, _ = _read(path)
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
    tensors, state, _ = _read(path)
    _fill(network, tensors, _weights_prefix(tensors), path)
    return state


def begin_with_weights(
    path: Path, network: nn.Module, *, labels: Sequence[str], old_labels: Sequence[str] = ()
) -> tuple[str, ...]:
    """Take over a checkpoint's weights for other labels: the last layer of what is new stays new.

    Args:
        path: the safetensors file.
        network: changed in place.
        labels: of its outputs.
        old_labels: of the outputs in the file; what the file says of itself where not given. If it
            says nothing, as many outputs are the same ones, and of another number only background
            is.

    Returns:
        The labels whose weights stay as they were.

    Raises:
        InputError: unreadable, or of another network.
    """
    tensors, _, stored_labels = _read(path)
    old_labels = tuple(old_labels) or stored_labels
    prefix, state = _weights_prefix(tensors), network.state_dict()
    old_count = next(
        (len(v) for k, v in tensors.items() if k.startswith(prefix) and k.endswith(_SCORE_BIAS)), 0
    )
    if not old_labels:
        old_labels = tuple(labels) if old_count == len(labels) else (labels[0],)
    elif len(old_labels) != old_count:
        raise _other_network(f"{old_count} outputs for {len(old_labels)} labels", path)
    if tuple(old_labels) == tuple(labels):
        _fill(network, tensors, prefix, path)
        return ()
    shared = [(labels.index(name), n) for n, name in enumerate(old_labels) if name in labels]
    for key, value in tensors.items():
        name = key.removeprefix(prefix)
        if key.startswith(prefix) and name.startswith(_SCORE_LAYERS) and name in state:
            module = network.get_submodule(name.rpartition(".")[0])
            is_transposed = isinstance(module, _TRANSPOSED) and name.endswith("weight")
            tensors[key] = _new_outputs(value, state[name], shared, int(is_transposed), path)
    _fill(network, tensors, prefix, path)
    return tuple(name for name in labels if name not in old_labels)


def _new_outputs(
    old: Tensor, new: Tensor, shared: Sequence[tuple[int, int]], axis: int, path: Path
) -> Tensor:
    """The new layer with the shared outputs of the old one.

    Args:
        old: of the file.
        new: of the network.
        shared: numbers of outputs, new and old.
        axis: of the outputs: the first, of a transposed convolution the second.
        path: of the file, for messages.

    Raises:
        InputError: the layers differ in more than their outputs.
    """
    sizes = [[n for at, n in enumerate(t.shape) if at != axis] for t in (old, new)]
    if sizes[0] != sizes[1]:
        raise _other_network("a last layer of another form", path)
    result = new.clone()
    for number, old_number in shared:
        result.select(axis, number).copy_(old.select(axis, old_number))
    return result


def _weights_prefix(tensors: dict[str, Tensor]) -> str:
    """Of the moving average where there is one, else of the network itself."""
    return _AVERAGE if any(name.startswith(_AVERAGE) for name in tensors) else _NETWORK


def _names(network: nn.Module, optimiser: torch.optim.Optimizer) -> list[str]:
    """Names of the weights in the order in which the optimiser numbers them."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [names[p] for group in optimiser.param_groups for p in group["params"]]


def _read(path: Path) -> tuple[dict[str, Tensor], TrainingState, tuple[str, ...]]:
    """Tensors, state, and what the outputs are; no labels where the file does not say it."""
    try:
        content = read_file_bytes(path, most_bytes=MOST_WEIGHTS_BYTES)
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
        state = TrainingState.from_json(metadata.get("reached", "{}"))
        labels = tuple(map(str, json.loads(metadata.get("labels", "[]"))))
    except (OSError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "name a .safetensors file of 'viscera train'"
        raise InputError("a checkpoint", found=reason, remedy=remedy, where=path) from error
    return tensors, state, labels


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
        raise _other_network(lines[-1][:160], path) from error


def _other_network(problem: str, path: Path) -> InputError:
    return InputError(
        "weights of this network",
        found=problem,
        remedy="name the recipe that they were trained with",
        where=path,
    )
