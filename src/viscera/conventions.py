"""Conventions: which value of a label map means which organ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from viscera.errors import InputError
from viscera.organs import BY_NAME, ORGANS, Organ
from viscera.volume import Labels

_UNKNOWN = 255
_ENOUGH = 100
HIGHEST = 65535  # of the values that a label map may hold


@dataclass(frozen=True)
class Convention:
    """What the values of a label map mean.

    Attributes:
        name: of the convention, or of its file.
        values: organ names and the values that make each of them.
        others: values that are known and mean none of the thirteen.
    """

    name: str
    values: Mapping[str, tuple[int, ...]]
    others: frozenset[int] = frozenset()

    @property
    def organs(self) -> tuple[Organ, ...]:
        """The organs it can express, in label order."""
        return tuple(organ for organ in ORGANS if organ.name in self.values)

    def to_organs(
        self, values: NDArray[np.generic], *, where: object = None, lenient: bool = False
    ) -> Labels:
        """Our own labels, 0 to 13.

        Args:
            values: [i, j, k] whole numbers of any real type.
            where: file or case, for messages.
            lenient: take unknown values for background.

        Returns:
            [i, j, k] uint8; the array itself where nothing had to change.

        Raises:
            InputError: a value is not whole, or unknown; the message lists them.
        """
        if self == FLARE and values.dtype == np.uint8 and values.max(initial=0) <= len(ORGANS):
            return values.astype(np.uint8, copy=False)
        table = np.full(HIGHEST + 1, _UNKNOWN, dtype=np.uint8)
        table[[0, *self.others]] = 0
        for name, sources in self.values.items():
            table[list(sources)] = BY_NAME[name].id
        labels = np.empty(values.shape, dtype=np.uint8, order="F")
        unknown: set[float] = set()
        for k in range(values.shape[-1]):
            plane = values[..., k].astype(np.float64)
            with np.errstate(invalid="ignore"):
                index = np.clip(plane, 0, HIGHEST).astype(np.uint16)
            found = table[index]
            wrong = (found == _UNKNOWN) | (index != plane)
            labels[..., k] = np.where(wrong, 0, found)
            if not lenient and wrong.any():
                unknown.update(np.unique(plane[wrong]).tolist())
                if len(unknown) > _ENOUGH:  # this is no label map at all
                    break
        if unknown:
            raise InputError(
                f"labels of the convention {self.name}, {self._range()}",
                found=_listed(sorted(unknown)),
                remedy="name the convention they follow, or a mapping file",
                where=where,
            )
        return labels

    def _range(self) -> str:
        known = sorted({0, *self.others}.union(*self.values.values()))
        whole = known == list(range(len(known)))
        return f"0 to {known[-1]}" if whole else ", ".join(map(str, known))


def _listed(values: list[float], most: int = 8) -> str:
    values = list({str(value): value for value in values}.values())  # NaN is no NaN's equal
    shown = ", ".join(f"{value:g}" for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"


def _in_order(name: str, organs: str) -> Convention:
    """A convention that numbers its organs from 1; '-' is none of ours."""
    names = organs.split()
    values = {organ: (n,) for n, organ in enumerate(names, 1) if organ != "-"}
    others = (n for n, organ in enumerate(names, 1) if organ == "-")
    return Convention(name, values, frozenset(others))


FLARE = Convention("flare", {organ.name: (organ.id,) for organ in ORGANS})
# Version 2: 117 classes; what is not listed is none of ours.
_TOTALSEGMENTATOR = {
    "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gallbladder": 4, "liver": 5, "stomach": 6,
    "pancreas": 7, "adrenal_gland_right": 8, "adrenal_gland_left": 9, "esophagus": 15,
    "duodenum": 19, "aorta": 52, "inferior_vena_cava": 63,
}  # fmt: skip
BUILT_IN: dict[str, Convention] = {
    "flare": FLARE,
    "totalsegmentator": Convention(
        "totalsegmentator",
        {name: (value,) for name, value in _TOTALSEGMENTATOR.items()},
        frozenset(range(1, 118)) - frozenset(_TOTALSEGMENTATOR.values()),
    ),
    "amos": _in_order(
        "amos",
        "spleen kidney_right kidney_left gallbladder esophagus liver stomach aorta "
        "inferior_vena_cava pancreas adrenal_gland_right adrenal_gland_left duodenum - -",
    ),
    # The tenth is the portal and splenic vein; there is no duodenum.
    "btcv": _in_order(
        "btcv",
        "spleen kidney_right kidney_left gallbladder esophagus liver stomach aorta "
        "inferior_vena_cava - pancreas adrenal_gland_right adrenal_gland_left",
    ),
}
