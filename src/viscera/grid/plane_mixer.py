"""Planes of a scan on their way to a network's slices, each of which is made of several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from viscera.grid.resample import Taps


class WeightedPlane(NamedTuple):
    """A resampled plane [y, x], and how much it counts in a slice of the network's grid."""

    image: NDArray[np.float32]
    weight: float


class PlaneMixer:
    """Keeps resampled planes of a scan until the last network slice made of them is complete."""

    def __init__(self, taps: Taps) -> None:
        self._weights = [taps.weights_of(number) for number in range(len(taps))]
        self._users: dict[int, list[int]] = defaultdict(list)
        for number, weights in enumerate(self._weights):
            for source in weights:
                self._users[source].append(number)
        self._missing = [len(weights) for weights in self._weights]
        self._images: dict[int, NDArray[np.float32]] = {}

    def needs(self, source: int) -> bool:
        """Whether some network slice is made of this plane of the scan."""
        return source in self._users

    def add(
        self, source: int, image: NDArray[np.float32]
    ) -> Iterator[tuple[int, list[WeightedPlane]]]:
        """Take a plane; yields the network slices it completes, and what they are made of.

        Args:
            source: number of the plane along z of the scan.
            image: [y, x] as `Grid.resample_in_plane` gives it.
        """
        self._images[source] = image
        for number in self._users[source]:
            self._missing[number] -= 1
            if not self._missing[number]:
                weights = self._weights[number].items()
                yield number, [WeightedPlane(self._images[s], w) for s, w in weights]
        neighbours = {s for number in self._users[source] for s in self._weights[number]}
        for other in neighbours & self._images.keys():
            if not any(self._missing[number] for number in self._users[other]):
                del self._images[other]
