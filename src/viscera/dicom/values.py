"""Values of a header as the numbers they mean, or as none where they make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.header import Header

MOST = 1e6  # of any number: HU, millimetres


@dataclass(frozen=True)
class FrameValues:
    """Values of one frame: its own, those of all frames, or the image's (PS3.3 C.7.6.16).

    Attributes:
        header: of the image.
        own, shared: functional groups of the frame and of all frames, as pydicom data sets; None
            where the image has none.
    """

    header: Header
    own: Any = None
    shared: Any = None

    def numbers(
        self, group: str, keyword: str, image: tuple[float, ...] | None = None
    ) -> tuple[float, ...]:
        """Numbers of an element; none where no level has it.

        Args:
            group: the functional group's keyword.
            keyword: the element's.
            image: the image's own, where they have been read already.

        Raises:
            ValueError: they are no numbers.
        """
        for level in (self.own, self.shared):
            items = level.get(group) if level is not None else None
            value = items[0].get(keyword) if items else None
            if value is not None:
                several = value if hasattr(value, "__iter__") else [value]
                return tuple(float(number) for number in several)
        return self.header.numbers(keyword) if image is None else image


def leniently(header: Header, keyword: str) -> tuple[float, ...]:
    """Numbers that one can do without: none where they are damaged."""
    try:
        numbers = header.numbers(keyword)
    except ValueError:
        return ()
    return numbers if all(abs(number) < MOST for number in numbers) else ()


def vector_of(numbers: tuple[float, ...], count: int) -> NDArray[np.float64] | None:
    """So many numbers of a sensible size, or None."""
    vector = np.array(numbers)
    return vector if len(vector) == count and (np.abs(vector) < MOST).all() else None


def cosines_of(numbers: tuple[float, ...]) -> NDArray[np.float64] | None:
    """Two directions at right angles of length 1, as well as text holds them; else None."""
    vector = vector_of(numbers, 6)
    if vector is None:
        return None
    cosines = vector.reshape(2, 3)
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > 1e-3:
        return None
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - (cosines[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def spacing_of(numbers: tuple[float, ...]) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; None where they are of no use."""
    vector = vector_of(numbers, 2)
    if vector is None or vector.min() <= 0:
        return None
    return float(vector[0]), float(vector[1])


def padding_of(header: Header, *, signed: bool) -> tuple[int, int] | None:
    """Lowest and highest stored value that is no measurement (PS3.3 C.7.5.1.1.2).

    Some write them in another type than the pixels': the bits count.
    """
    if not header.values.get("PixelPaddingValue"):
        return None
    try:
        one = header.integer("PixelPaddingValue", signed=signed)
        other = header.integer("PixelPaddingRangeLimit", one, signed=signed)
    except ValueError:
        return None
    return min(one, other), max(one, other)
