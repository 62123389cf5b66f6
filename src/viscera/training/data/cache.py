"""The cache: every case on the network's grid, as bytes, mapped into memory while training.

A folder with, for each case, ``CASE.image.npy`` (uint8 [z, y, x], the window from 0 to 255),
``CASE.labels.z`` (the same shape, channels of the network's scores, compressed),
``CASE.points.npy`` (random voxels of each organ), and one ``cache.json``. Nothing else is needed to
train.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.core.affine import Affine
from viscera.core.volume import Labels, Volume
from viscera.errors import InputError, OutputError, option
from viscera.runtime.atomic_files import write_text
from viscera.runtime.small_files import read_json_file

IGNORED = 255  # voxels that no loss looks at
LEVELS = 255  # of the window
_REMEDY = "remove the folder; it can be made again"


@dataclass(frozen=True)
class CachedCase:
    """One case of a cache.

    Attributes:
        name, patient, weight, pseudo, part, use_teacher: as in `TrainingCase`.
        scan_digest: of the bytes of the scan.
        digest: of all that shaped the case.
        shape: [z, y, x] voxels.
        spacing_mm: of z, y, x.
        affine: of the voxels [x, y, z], row by row.
        annotated: organs of the network that these labels annotate, present or not.
        voxels: of each organ that is present.
        labelled_slices: numbers z of slices with any organ.
        corner: y, x on the whole grid at which the kept part begins.
        teacher: digest of the teacher whose soft scores are cached; empty without one.
        folder: where its files lie.
    """

    name: str
    patient: str
    weight: float
    pseudo: bool
    part: str
    scan_digest: str
    digest: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: tuple[float, ...]
    annotated: tuple[str, ...]
    voxels: dict[str, int]
    labelled_slices: tuple[int, ...]
    corner: tuple[int, int] = (0, 0)
    teacher: str = ""
    use_teacher: bool = True
    folder: Path = Path()

    def file(self, kind: str) -> Path:
        """One of its files."""
        return self.folder / f"{self.name}.{kind}"

    def image(self) -> NDArray[np.uint8]:
        """[z, y, x], mapped from its file."""
        array: NDArray[np.uint8] = np.load(self.file("image.npy"), mmap_mode="r")
        return array

    def labels(self) -> Labels:
        """[z, y, x] channels of the network's scores; 255 is ignored."""
        return self.unpacked("labels.z")

    def unpacked(self, kind: str) -> NDArray[np.uint8]:
        """A compressed array of this shape, or several of them one after another."""
        values = np.frombuffer(zlib.decompress(self.file(kind).read_bytes()), dtype=np.uint8)
        return values.reshape(-1, *self.shape) if values.size > np.prod(self.shape) else (
            values.reshape(self.shape)
        )  # fmt: skip

    def truth(self, label_ids: Sequence[int]) -> tuple[Labels, NDArray[np.bool_]]:
        """Organs' labels [i, j, k], and which voxels count.

        Args:
            label_ids: of each channel.
        """
        channels = self.labels().T
        ids = np.zeros(256, dtype=np.uint8)
        ids[: len(label_ids)] = label_ids
        return ids[channels], channels != IGNORED

    def points(self) -> NDArray[np.uint16]:
        """(n, 4) random voxels: channel, z, y, x."""
        array: NDArray[np.uint16] = np.load(self.file("points.npy"))
        return array

    def volume(self, window_hu: tuple[float, float]) -> Volume:
        """What was cached, as a CT that `viscera segment` could be given."""
        low, high = window_hu
        data = self.image().astype(np.float32) * ((high - low) / LEVELS) + low
        return Volume(data.T, Affine(np.reshape(self.affine, (4, 4))), self.name)


@dataclass(frozen=True)
class TrainingCache:
    """All cases of a cache.

    Attributes:
        folder: where it lies.
        grid_digest: of the recipe's grid, see `Recipe.grid_digest`.
        cases: by name.
    """

    folder: Path
    grid_digest: str
    cases: tuple[CachedCase, ...] = ()

    def save(self) -> None:
        """Write cache.json; cases that it lists beside these stay."""
        cases = {case.name: case for case in open_cache(self.folder, self.grid_digest).cases}
        cases |= {case.name: case for case in self.cases}
        entries = []
        for case in cases.values():
            entry = asdict(case)
            del entry["folder"]
            entries.append(entry)
        text = json.dumps({"grid": self.grid_digest, "cases": entries}, indent=1)
        write_text(self.folder / "cache.json", text, overwrite=True)

    def only(self, names: Sequence[str]) -> TrainingCache:
        """The cache with these cases only."""
        return replace(self, cases=tuple(case for case in self.cases if case.name in set(names)))


def open_cache(folder: Path, grid_digest: str) -> TrainingCache:
    """The cache in a folder; an empty one where there is none yet.

    Args:
        folder: of the cache.
        grid_digest: of the recipe's grid.

    Raises:
        InputError: damaged.
        OutputError: made for another grid.
    """
    path = folder / "cache.json"
    if not path.exists():
        return TrainingCache(folder, grid_digest)
    try:
        content = read_json_file(path)
        cases = tuple(_entry(entry, folder) for entry in content["cases"])
    except (OSError, ValueError) as error:
        raise InputError("a cache", found=str(error), remedy=_REMEDY, where=path) from error
    except (KeyError, TypeError) as error:
        problem = "one of another version of viscera"
        raise InputError("a cache", found=problem, remedy=_REMEDY, where=path) from error
    if content["grid"] != grid_digest:
        raise OutputError(
            "a cache of this recipe's grid",
            found="one of another grid, window or set of labels",
            remedy=f"choose another {option('cache')}",
            where=path,
        )
    return TrainingCache(folder, grid_digest, cases)


def _entry(entry: dict[str, Any], folder: Path) -> CachedCase:
    lists = ("shape", "spacing_mm", "affine", "annotated", "labelled_slices", "corner")
    return CachedCase(**{**entry, **{key: tuple(entry[key]) for key in lists}, "folder": folder})
