"""The gate of an export: the bundle must give the labels that the trained network gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from viscera.errors import TrainingError
from viscera.metrics.overlap import count_voxels, dice
from viscera.predictor import Predictor
from viscera.training.data.cache import CachedCase
from viscera.training.recipe import Recipe
from viscera.training.validation import TorchEngine

LEAST_EQUAL = 0.999  # share of voxels with the same label


@dataclass(frozen=True)
class Parity:
    """How a bundle's labels compare with the trained network's.

    Attributes:
        equal_share: share of equal voxels, the least of all cases.
        dsc: each organ's DSC with the truth: in torch and in the bundle, means over cases.
        cases: how many were compared.
    """

    equal_share: float
    dsc: dict[str, tuple[float, float]]
    cases: int

    @property
    def passed(self) -> bool:
        """Whether the labels are those of the trained network."""
        return self.equal_share >= LEAST_EQUAL

    @property
    def largest_loss(self) -> tuple[str, float]:
        """The organ whose DSC falls most, and by how much (0 where none falls)."""
        losses = {name: a - b for name, (a, b) in self.dsc.items()} or {"": 0.0}
        worst = max(losses, key=lambda name: losses[name])
        return worst, max(0.0, losses[worst])

    def require(self, what: str) -> None:
        """Stop an export that is not what was trained.

        Raises:
            TrainingError: it is not.
        """
        if not self.passed:
            organ, loss = self.largest_loss
            raise TrainingError(
                f"{what} with at least {LEAST_EQUAL:.1%} of the trained network's labels",
                found=f"{self.equal_share:.3%} on the worst of {self.cases} cases, {organ} loses "
                f"{loss:.4f} DSC",
                remedy="export in single precision, or train a network with batch normalisation",
            )


def compare_with_torch(
    network: nn.Module,
    recipe: Recipe,
    exported: Mapping[str, Predictor],
    cases: Sequence[CachedCase],
) -> dict[str, Parity]:
    """Segment cases with the network in torch and with what was exported, through the same path.

    Args:
        network: as trained, on the CPU.
        recipe: of the training.
        exported: predictors of the bundle, by arithmetic.
        cases: real ones, whole volumes.
    """
    engine = TorchEngine(network, torch.device("cpu"), "f32")
    trained = Predictor(recipe.bundle(), engine=engine)
    equal = dict.fromkeys(exported, 1.0)
    rows: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in exported}
    for case in cases:
        volume = case.volume(recipe.input.window_hu)
        truth, counted = case.truth(trained.bundle.label_ids)
        labels = trained.segment(volume).labels
        highest = max(trained.bundle.label_ids)
        counts = count_voxels(np.where(counted, labels, 0), truth, highest=highest)
        for name, predictor in exported.items():
            bundle_labels = predictor.segment(volume).labels
            equal[name] = min(equal[name], float((labels == bundle_labels).mean()))
            compared = np.where(counted, bundle_labels, 0)
            bundle_counts = count_voxels(compared, truth, highest=highest)
            for organ in predictor.bundle.organs:
                if organ.name in case.voxels:
                    pair = dice(counts, organ.id), dice(bundle_counts, organ.id)
                    rows[name].setdefault(organ.name, []).append(pair)
    return {
        name: Parity(equal[name], {o: _mean(pairs) for o, pairs in by_organ.items()}, len(cases))
        for name, by_organ in rows.items()
    }


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    in_torch, in_bundle = np.mean(pairs, axis=0).tolist()
    return in_torch, in_bundle
