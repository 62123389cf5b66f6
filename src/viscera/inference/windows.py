"""Where windows stand along an axis, and how much each of them counts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Patch
from viscera.core.boxes import Box, widened

# A fitted window may be larger than the bundle's by this: one that holds a whole body spares its
# neighbours, and the network sees all of it at once.
_GROWTH = 1.35
_MOST_WINDOWS = 16  # along an axis that one would bother to fit


@dataclass(frozen=True, eq=False)
class AxisWindows:
    """The windows along one axis.

    Attributes:
        padding: voxels put before the axis so that it fills one window at least.
        starts: first voxel of each window, on the padded axis.
        weights: (windows, size) float32; where windows overlap, their weights sum to 1.
    """

    padding: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    @classmethod
    def fit(
        cls, length: int, size: int, overlap: float, *, gaussian: bool, sigma: float
    ) -> AxisWindows:
        """The fewest evenly spaced windows that cover an axis with at least this overlap.

        Args:
            length: voxels of the grid along this axis.
            size: voxels of the window.
            overlap: least share of a window that its neighbour covers too.
            gaussian: weight voxels by a Gaussian around the window's centre, instead of equally.
            sigma: of that Gaussian, as a share of the size.
        """
        padded = max(length, size)
        step = max(1.0, size * (1 - overlap))
        count = math.ceil((padded - size) / step) + 1
        starts = np.rint(np.linspace(0, padded - size, count)).astype(int)
        bell = np.ones(size)
        if gaussian:
            bell = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (sigma * size)) ** 2)
        total = np.zeros(padded)
        for start in starts:
            total[start : start + size] += bell
        weights = np.stack([bell / total[s : s + size] for s in starts]).astype(np.float32)
        return cls((padded - length) // 2, tuple(starts.tolist()), weights)


def fit_window_size(patch: Patch, shape: tuple[int, ...], *, low_memory: bool = False) -> Patch:
    """The patch whose windows cover a grid (Z, Y, X) at the least cost.

    It follows from patch and grid alone, never from the machine: windows shape labels.

    Along x and y it is as small as the grid allows, or so large that fewer windows do; along z it
    never becomes shallower: short stacks would lose what the network knows a body by.

    Args:
        patch: the bundle's; without a `multiple` it is left as it is.
        shape: of the grid.
        low_memory: no window is larger than the bundle's.
    """
    if patch.multiple is None:
        return patch
    most = (1.0 if low_memory else _GROWTH) * math.prod(patch.size)
    axes = [
        _window_candidates(n, size, multiple, patch.overlap, shrink=axis < 2)
        for axis, (n, size, multiple) in enumerate(
            zip(shape[::-1], patch.size, patch.multiple, strict=True)
        )
    ]
    best = min(
        (
            (math.prod(counts) * math.prod(sizes), math.prod(sizes), sizes)
            for counts, sizes in (zip(*choice, strict=True) for choice in product(*axes))
            if math.prod(sizes) <= most
        ),
        default=None,
    )
    return patch if best is None else replace(patch, size=best[2])


def _window_candidates(
    length: int, size: int, multiple: int, overlap: float, *, shrink: bool
) -> set[tuple[int, int]]:
    """Numbers of windows along an axis, and the least size that each of them needs."""
    least = min(size, -(-length // multiple) * multiple) if shrink else size
    candidates = {
        (math.ceil((max(length, size) - size) / max(1.0, size * (1 - overlap))) + 1, size)
    }
    for count in range(1, _MOST_WINDOWS + 1):
        covering_size = math.ceil(length / (count - (count - 1) * overlap))
        candidates.add((count, max(least, -(-covering_size // multiple) * multiple)))
    return candidates


def widen_to_windows(box: Box, body: Box, patch: Patch, *, low_memory: bool = False) -> Box:
    """The box that the windows of a smaller one cover anyway, as far as the body reaches.

    Args:
        box: [z, y, x] voxels of the network's grid that must be seen.
        body: [z, y, x] that there are, the box among them.
        patch: the bundle's.
        low_memory: no window is larger than the bundle's.
    """
    lengths = tuple(part.stop - part.start for part in box)
    fitted = fit_window_size(patch, lengths, low_memory=low_memory)
    z, y, x = (
        widened(part, whole, _covered(length, size, patch.overlap))
        for part, whole, length, size in zip(box, body, lengths, fitted.size[::-1], strict=True)
    )
    return z, y, x


def _covered(length: int, size: int, overlap: float) -> int:
    """Voxels that the windows which an axis needs cover with no more than this overlap."""
    count = len(AxisWindows.fit(length, size, overlap, gaussian=False, sigma=1.0).starts)
    return size + int((count - 1) * size * (1 - overlap))


def mirror_indices(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Positions beyond an axis reflected back into it as often as needed, borders not repeated.

    Args:
        index: positions, from below 0 to beyond the length.
        length: of the axis.
    """
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    phase = np.abs(index) % period
    return np.asarray(np.minimum(phase, period - phase))
