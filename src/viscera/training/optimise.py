"""Optimiser, learning rate and moving average, as a recipe names them."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from viscera.nets.blocks import Depthwise3d
from viscera.training.settings import Optimisation


def make_optimiser(network: nn.Module, how: Optimisation) -> torch.optim.Optimizer:
    """AdamW or Adam over what is to be learnt; vectors (biases, normalisations) do not decay."""
    for module in network.modules():
        if isinstance(module, Depthwise3d):
            module.requires_grad_(how.depthwise)
    learnt = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in learnt if p.dim() > 1]
    vectors = [p for p in learnt if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": how.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if how.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=how.learning_rate)


def learning_rate(step: int, steps: int, how: Optimisation) -> float:
    """Of one step, counted from 0: a linear rise, then half a cosine down to 0, or constant."""
    rise = min(1.0, (step + 1) / how.warmup_steps) if how.warmup_steps else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / steps)) if how.schedule == "cosine" else 1.0
    return how.learning_rate * rise * fall


class Average:
    """An exponential moving average of a network's weights; its statistics are copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with the weights as they are."""
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """Take one step's weights in; early steps count more, so that chance is forgotten."""
        decay = min(self._decay, (step + 1) / (step + 10))
        for own, new in zip(self.network.parameters(), network.parameters(), strict=True):
            own.lerp_(new, 1 - decay)
        for own, new in zip(self.network.buffers(), network.buffers(), strict=True):
            own.copy_(new)
