"""Validation on whole volumes, through the very path that `viscera segment` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from viscera.bundle.spec import Precision
from viscera.engine.scores import Scores
from viscera.metrics.overlap import count_voxels, dice
from viscera.predictor import Predictor
from viscera.report.pictures.examples import ExampleCase
from viscera.training.data.cache import CachedCase
from viscera.training.recipe import Recipe


class TorchEngine:
    """A network in torch with the interface of an engine."""

    name = "torch"
    version = str(torch.__version__)
    parallel_requests = 1

    def __init__(self, network: nn.Module, device: torch.device, precision: Precision) -> None:
        """Use a network with its present weights.

        Args:
            network: it is set to evaluation whenever it runs.
            device: on which it lies.
            precision: bf16 runs it in automatic mixed precision.
        """
        self.precision: Precision = precision
        self._network, self._device = network, device

    def run(self, batch: NDArray[np.float32], out: Scores | None = None) -> Scores:  # noqa: ARG002
        """See `viscera.engine.protocol.Engine.run`.

        Args:
            batch: the network's input.
            out: an earlier result that nobody needs any more; not used.
        """
        self._network.eval()
        mixed = torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with torch.inference_mode(), mixed:
            scores = self._network(torch.from_numpy(batch).to(self._device))
        array: NDArray[np.float32] = scores.float().cpu().numpy()
        return array

    def release_memory(self) -> None:
        """Nothing: torch keeps no memory of a run that anyone waits for."""


@dataclass(frozen=True)
class Validation:
    """How well a network does on cases it has not seen.

    Attributes:
        by_case: DSC of each case and organ, where the labels annotate it and either map has it.
        example: the case with most organs, for a picture.
    """

    by_case: dict[str, dict[str, float]]
    example: ExampleCase

    @property
    def by_organ(self) -> dict[str, float]:
        """Mean over cases."""
        names = {name: None for case in self.by_case.values() for name in case}
        return {
            name: float(np.mean([c[name] for c in self.by_case.values() if name in c]))
            for name in names
        }

    @property
    def mean_dsc(self) -> float:
        """Mean over organs; 0 where nothing could be compared."""
        return float(np.mean(list(self.by_organ.values()))) if self.by_organ else 0.0


def validate(
    network: nn.Module, recipe: Recipe, cases: Sequence[CachedCase], device: torch.device
) -> Validation:
    """Segment whole cached volumes and compare, on the network's own grid.

    Organs that a case does not annotate do not count there; nor do voxels that nobody
    labelled. An organ that is absent on both sides is left out, one that is found where there is
    none counts 0.

    Args:
        network: lies on the device.
        recipe: whose grid, labels and post-processing.
        cases: at least one.
        device: of the network.
    """
    engine = TorchEngine(network, device, recipe.optimisation.precision)
    predictor = Predictor(recipe.bundle(), engine=engine)
    by_case: dict[str, dict[str, float]] = {}
    example: ExampleCase | None = None
    most_organs = -1
    for case in cases:
        volume = case.volume(recipe.input.window_hu)
        truth, counted = case.truth(predictor.bundle.label_ids)
        predicted = np.where(counted, predictor.segment(volume).labels, 0)
        counts = count_voxels(predicted, truth, highest=max(predictor.bundle.label_ids))
        by_case[case.name] = {
            organ.name: dice(counts, organ.id)
            for organ in predictor.bundle.organs
            if organ.name in case.annotated
            and (counts[organ.id].any() or counts[:, organ.id].any())
        }
        if len(case.voxels) > most_organs:
            example, most_organs = (
                ExampleCase(case.name, volume, truth, predicted),
                len(case.voxels),
            )
    assert example is not None  # there is at least one case
    return Validation(by_case, example)
