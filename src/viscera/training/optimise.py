"""Optimiser, learning rate and moving average, as a recipe names them."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from viscera.nets.blocks import Depthwise3d
from viscera.training.settings import OptimisationSettings


def make_optimiser(network: nn.Module, settings: OptimisationSettings) -> torch.optim.Optimizer:
    """AdamW or Adam over the trainable tensors; vectors (biases, normalisations) do not decay.

    Args:
        network: to train.
        settings: of the recipe.
    """
    for module in network.modules():
        if isinstance(module, Depthwise3d):
            module.requires_grad_(settings.depthwise)
    learnt = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in learnt if p.dim() > 1]
    vectors = [p for p in learnt if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate)


def learning_rate(step: int, steps: int, settings: OptimisationSettings) -> float:
    """The rate of one step: a linear rise, then half a cosine down to 0, or constant.

    Args:
        step: counted from 0.
        steps: of the whole training.
        settings: of the recipe.
    """
    rise = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / steps)) if settings.schedule == "cosine" else 1.0
    return settings.learning_rate * rise * fall


class WeightAverage:
    """An exponential moving average of a network's weights; its statistics are copied."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with the weights as they are."""
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """Take in the weights after one step.

        Early steps count more, so that the random start is forgotten.

        Args:
            network: after the step.
            step: counted from 0.
        """
        decay = min(self._decay, (step + 1) / (step + 10))
        for averaged, new in zip(self.network.parameters(), network.parameters(), strict=True):
            averaged.lerp_(new, 1 - decay)
        for averaged, new in zip(self.network.buffers(), network.buffers(), strict=True):
            averaged.copy_(new)
