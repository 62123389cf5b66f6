"""What a network's scores say about its own result, gathered while they pass by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from viscera.grid.grid import Grid, MapFunction
from viscera.grid.slab_windows import ScoreSlab, SliceScores
from viscera.grid.upsample import argmax

_EVERY = 2  # slices: of thin ones, a half says as much as all
_THICK_MM = 3.0
_REACH = 4.0  # where background leads by more, no organ has more than two percent
_LEAST_SHARE = 1e-6  # keeps quotients finite
# Intensities count within these limits, which the windows of the packaged networks cover.
SOFT_TISSUE_HU = (-150.0, 240.0)


@dataclass(frozen=True)
class OrganEvidence:
    """What scores say about one organ.

    Attributes:
        voxels: of the network's grid where the organ wins, of the slices that were looked at.
        expected_dice: the DSC with the truth that the probabilities promise, 0 to 1.
        expected_ml: sum of its probabilities over the scan.
        margin: mean lead over the second best class where it wins, in scores.
        entropy: mean entropy where it wins, in nats.
        border_entropy: the same along its border.
        mean_hu: of the voxels where it wins, each within `SOFT_TISSUE_HU`.
        is_hu_known: there is such a voxel, and the network's HU window covers these limits.
    """

    voxels: float
    expected_dice: float
    expected_ml: float
    margin: float
    entropy: float
    border_entropy: float
    mean_hu: float
    is_hu_known: bool


@dataclass(eq=False)
class _Sums:
    """Sums over voxels, (C,) each, by channel.

    Attributes:
        voxels: where the channel wins.
        won: its probability there.
        all: its probability everywhere.
        margin: lead over the second best where it wins.
        entropy: where it wins.
        border: voxels along the border of where it wins.
        border_entropy: there.
        hu: where it wins, within `SOFT_TISSUE_HU`.
    """

    voxels: NDArray[np.float64]
    won: NDArray[np.float64]
    all: NDArray[np.float64]
    margin: NDArray[np.float64]
    entropy: NDArray[np.float64]
    border: NDArray[np.float64]
    border_entropy: NDArray[np.float64]
    hu: NDArray[np.float64]

    def __iadd__(self, other: _Sums) -> _Sums:
        for name, values in vars(other).items():
            getattr(self, name)[...] += values
        return self


@dataclass(eq=False)
class ScoreWitness:
    """Looks at scores on their way from the network to the scan's grid.

    Attributes:
        grid: the network's on the scan.
        label_ids: label of each channel; the first is background.
    """

    grid: Grid
    label_ids: tuple[int, ...]
    _sums: _Sums | None = field(default=None, init=False)
    _slices: int = field(default=0, init=False)  # that have passed
    _seen: int = field(default=0, init=False)  # that were looked at

    def pass_through(
        self,
        slabs: Iterable[ScoreSlab],
        planes: NDArray[np.float32],
        *,
        map_over: MapFunction = map,
    ) -> Iterator[ScoreSlab]:
        """The same slabs; every slice is looked at, of thin ones every other.

        Args:
            slabs: of scores along z.
            planes: (Z, Y, X) that the network saw.
            map_over: how slices are worked on; a pool's map runs them side by side.
        """
        every = 1 if self.grid.spacing_mm[0] > _THICK_MM else _EVERY
        for slab in slabs:
            numbers = [n for n in range(len(slab.slices)) if (slab.start + n) % every == 0]
            self._slices += len(slab.slices)
            self._seen += len(numbers)
            pairs = [(slab.slices[n], planes[slab.start + n]) for n in numbers]
            for sums in map_over(self._slice_sums, pairs):
                if self._sums is None:
                    self._sums = sums
                else:
                    self._sums += sums
            yield slab
            del slab, pairs  # the memory of these scores before the next are made

    def organs(self) -> dict[int, OrganEvidence]:
        """What there is to say about each label, once all slabs have passed."""
        sums = self._sums
        if sums is None:
            return {}
        voxel_ml = float(np.prod(self.grid.spacing_mm)) / 1000 * self._slices / self._seen
        low, high = self.grid.settings.window_hu
        covers = low <= SOFT_TISSUE_HU[0] and high >= SOFT_TISSUE_HU[1]
        result = {}
        for channel, organ in enumerate(self.label_ids):
            if not organ:
                continue
            voxels, border = sums.voxels[channel], sums.border[channel]
            total = voxels + sums.all[channel]
            result[organ] = OrganEvidence(
                voxels=float(voxels),
                expected_dice=float(2 * sums.won[channel] / max(total, _LEAST_SHARE)),
                expected_ml=float(sums.all[channel] * voxel_ml),
                margin=float(sums.margin[channel] / max(voxels, 1)),
                entropy=float(sums.entropy[channel] / max(voxels, 1)),
                border_entropy=float(sums.border_entropy[channel] / max(border, 1)),
                mean_hu=float(sums.hu[channel] / max(voxels, 1)),
                is_hu_known=covers and voxels > 0,
            )
        return result

    def _slice_sums(self, pair: tuple[SliceScores, NDArray[np.float32]]) -> _Sums:
        """The sums over one slice: only voxels where some organ has a chance are looked at."""
        scores, plane = pair
        count = len(scores)
        at = np.flatnonzero(scores[1:].max(axis=0) > scores[0] - _REACH)
        logits = scores.reshape(count, -1).take(at, axis=1)  # (C, n)
        winner = argmax(logits)
        best = logits.max(axis=0)
        logits -= best
        others = logits.copy()
        others[winner, np.arange(at.size)] = -np.inf
        lead = -others.max(axis=0)
        probability = np.exp(logits)
        total = probability.sum(axis=0)
        probability /= total
        entropy = np.log(total) - np.einsum("cn,cn->n", probability, logits)
        offset, divisor = self.grid.settings.scale
        hu = plane.ravel()[at] * divisor + offset
        is_border = _is_border(at, winner, plane.shape)

        def by_winner(weights: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
            return np.bincount(winner, weights=weights, minlength=count).astype(np.float64)

        return _Sums(
            voxels=by_winner(),
            won=by_winner(1 / total),
            all=probability.sum(axis=1, dtype=np.float64),
            margin=by_winner(lead),
            entropy=by_winner(entropy),
            border=by_winner(is_border.astype(np.float64)),
            border_entropy=by_winner(is_border * entropy),
            hu=by_winner(np.clip(hu, *SOFT_TISSUE_HU)),
        )


def _is_border(
    at: NDArray[np.intp], winner: NDArray[np.uint8], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Which of these pixels have a neighbour in the slice that another class wins."""
    classes = np.zeros(shape, dtype=np.uint8)
    classes.reshape(-1)[at] = winner
    border = np.zeros(shape, dtype=bool)
    for low, high in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = classes[low] != classes[high]
        border[low] |= differs
        border[high] |= differs
    return np.asarray(border.reshape(-1)[at])
