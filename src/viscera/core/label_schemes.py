"""Label schemes: which value of a label map means which organ of a label table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from viscera.core.organs import FLARE13, ORGANS, LabelTable, Organ
from viscera.core.volume import Labels
from viscera.errors import InputError
from viscera.findings import Finding

UNLABELLED = 255  # a voxel that nobody labelled, in a map of our own labels
_UNKNOWN = -1
_MOST_UNKNOWN = 100
HIGHEST_LABEL = 65535  # of the values that a label map may hold


@dataclass(frozen=True)
class LabelScheme:
    """What the values of a label map mean.

    Attributes:
        name: of the scheme, or of its file.
        values: organ names and the values that make each of them.
        others: values that are known and mean none of the table's.
        unrecognised: names in its file that are none of the table's.
        table: the organs; the thirteen, or others.
        unlabelled: values of voxels that nobody labelled.
    """

    name: str
    values: Mapping[str, tuple[int, ...]]
    others: frozenset[int] = frozenset()
    unrecognised: tuple[str, ...] = ()
    table: LabelTable = FLARE13
    unlabelled: frozenset[int] = frozenset()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The names that were not recognised, each with the organ it may stand for."""
        if not self.unrecognised:
            return ()
        names = []
        for name in self.unrecognised:
            near = get_close_matches(name.lower(), self.table.by_name, n=1, cutoff=0.7)
            names.append(f"{name} ({near[0]}?)" if near else name)
        meant = "our organs" if self.table == FLARE13 else f"the structures of {self.table.name}"
        message = f"{self.name} names labels that are none of {meant}: {', '.join(names)}"
        hint = "correct the names of those that are"
        return (Finding("info", "names-not-recognised", message, hint),)

    @property
    def organs(self) -> tuple[Organ, ...]:
        """The organs it can express, in label order."""
        return tuple(organ for organ in self.table.organs if organ.name in self.values)

    def to_organs(
        self, values: NDArray[np.generic], *, where: object = None, lenient: bool = False
    ) -> Labels:
        """The labels of the table.

        Args:
            values: [i, j, k] whole numbers of any real type.
            where: file or case, for messages.
            lenient: take unknown values for background.

        Returns:
            [i, j, k] uint8, 255 where nobody labelled; the array itself where nothing had to
            change.

        Raises:
            InputError: a value is not whole, or unknown; the message lists them.
        """
        if self == FLARE and values.dtype == np.uint8 and int(values.max(initial=0)) <= len(ORGANS):
            return values.astype(np.uint8, copy=False)
        table = np.full(HIGHEST_LABEL + 1, _UNKNOWN, dtype=np.int16)
        table[[0, *self.others]] = 0
        table[list(self.unlabelled)] = UNLABELLED
        for name, sources in self.values.items():
            table[list(sources)] = self.table.by_name[name].id
        labels = np.empty(values.shape, dtype=np.uint8, order="F")
        unknown: set[float] = set()
        for k in range(values.shape[-1]):
            plane = values[..., k].astype(np.float64)
            with np.errstate(invalid="ignore"):
                index = np.clip(plane, 0, HIGHEST_LABEL).astype(np.uint16)
            plane_labels = table[index]
            is_unknown = (plane_labels == _UNKNOWN) | (index != plane)
            labels[..., k] = np.where(is_unknown, 0, plane_labels)
            if not lenient and is_unknown.any():
                unknown.update(np.unique(plane[is_unknown]).tolist())
                if len(unknown) > _MOST_UNKNOWN:  # not a label map at all
                    break
        if unknown:
            raise InputError(
                f"labels of the scheme {self.name}, {self._range()}",
                found=_format_values(sorted(unknown)),
                remedy="name their label scheme, or a mapping file",
                where=where,
            )
        return labels

    def _range(self) -> str:
        values = sorted({0, *self.others}.union(*self.values.values()))
        is_range = values == list(range(len(values)))
        return f"0 to {values[-1]}" if is_range else ", ".join(map(str, values))


def _format_values(values: list[float], most: int = 8) -> str:
    values = list({str(value): value for value in values}.values())  # NaN is no NaN's equal
    text = ", ".join(f"{value:g}" for value in values[:most])
    return text if len(values) <= most else f"{text} and {len(values) - most} more"


def _numbered_scheme(name: str, organs: str) -> LabelScheme:
    """A scheme that numbers its organs from 1; '-' is not one of the thirteen."""
    names = organs.split()
    values = {organ: (n,) for n, organ in enumerate(names, 1) if organ != "-"}
    others = (n for n, organ in enumerate(names, 1) if organ == "-")
    return LabelScheme(name, values, frozenset(others))


FLARE = LabelScheme("flare", {organ.name: (organ.id,) for organ in ORGANS})
# Version 2: 117 classes; what is not listed is none of ours.
_TOTALSEGMENTATOR = {
    "spleen": 1, "kidney_right": 2, "kidney_left": 3, "gallbladder": 4, "liver": 5, "stomach": 6,
    "pancreas": 7, "adrenal_gland_right": 8, "adrenal_gland_left": 9, "esophagus": 15,
    "duodenum": 19, "aorta": 52, "inferior_vena_cava": 63,
}  # fmt: skip
LABEL_SCHEMES: dict[str, LabelScheme] = {
    "flare": FLARE,
    "totalsegmentator": LabelScheme(
        "totalsegmentator",
        {name: (value,) for name, value in _TOTALSEGMENTATOR.items()},
        frozenset(range(1, 118)) - frozenset(_TOTALSEGMENTATOR.values()),
    ),
    "amos": _numbered_scheme(
        "amos",
        "spleen kidney_right kidney_left gallbladder esophagus liver stomach aorta "
        "inferior_vena_cava pancreas adrenal_gland_right adrenal_gland_left duodenum - -",
    ),
    # The tenth is the portal and splenic vein; there is no duodenum.
    "btcv": _numbered_scheme(
        "btcv",
        "spleen kidney_right kidney_left gallbladder esophagus liver stomach aorta "
        "inferior_vena_cava - pancreas adrenal_gland_right adrenal_gland_left",
    ),
}
