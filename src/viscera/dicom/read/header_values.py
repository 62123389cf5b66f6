"""Values of a header as the numbers they mean, or as none where they make no sense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.read.header import DicomHeader

HIGHEST_VALUE = 1e6  # of any number: HU, millimetres


@dataclass(frozen=True)
class FrameValues:
    """Values of one frame: its own, those of all frames, or the image's (PS3.3 C.7.6.16).

    Attributes:
        header: of the image.
        frame, shared: functional groups of the frame and of all frames, as pydicom data sets; None
            where the image has none.
    """

    header: DicomHeader
    frame: Any = None
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
            ValueError: not numbers.
        """
        for level in (self.frame, self.shared):
            items = level.get(group) if level is not None else None
            value = items[0].get(keyword) if items else None
            if value is not None:
                values = value if hasattr(value, "__iter__") else [value]
                return tuple(float(number) for number in values)
        return self.header.numbers(keyword) if image is None else image


def optional_numbers(header: DicomHeader, keyword: str) -> tuple[float, ...]:
    """Numbers that one can do without: none where they are damaged.

    Args:
        header: a slice's header.
        keyword: the element's DICOM keyword.
    """
    try:
        numbers = header.numbers(keyword)
    except ValueError:
        return ()
    return numbers if all(abs(number) < HIGHEST_VALUE for number in numbers) else ()


def parse_vector(numbers: tuple[float, ...], count: int) -> NDArray[np.float64] | None:
    """This many numbers of a plausible size, or None.

    Args:
        numbers: as the header gives them.
        count: how many there must be.
    """
    vector = np.array(numbers)
    return vector if len(vector) == count and (np.abs(vector) < HIGHEST_VALUE).all() else None


def parse_cosines(numbers: tuple[float, ...]) -> NDArray[np.float64] | None:
    """Two directions at right angles of length 1, as well as text holds them; else None."""
    vector = parse_vector(numbers, 6)
    if vector is None:
        return None
    cosines = vector.reshape(2, 3)
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > 1e-3:
        return None
    row = cosines[0] / np.linalg.norm(cosines[0])
    column = cosines[1] - (cosines[1] @ row) * row
    return np.stack([row, column / np.linalg.norm(column)])


def parse_spacing(numbers: tuple[float, ...]) -> tuple[float, float] | None:
    """Millimetres between rows and between columns; None where they are of no use."""
    vector = parse_vector(numbers, 2)
    if vector is None or vector.min() <= 0:
        return None
    return float(vector[0]), float(vector[1])


def parse_padding(header: DicomHeader, *, signed: bool) -> tuple[int, int] | None:
    """Lowest and highest stored value that are not measurements (PS3.3 C.7.5.1.1.2).

    Args:
        header: a slice's header.
        signed: the pixels are signed; the element's bits are read as they are, whatever type it
            claims.
    """
    if not header.values.get("PixelPaddingValue"):
        return None
    try:
        first = header.integer("PixelPaddingValue", signed=signed)
        second = header.integer("PixelPaddingRangeLimit", first, signed=signed)
    except ValueError:
        return None
    return min(first, second), max(first, second)
