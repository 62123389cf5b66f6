"""Recipes: all that decides a training, as strict TOML.

The tables `input`, `slices` or `patch`, `labels` and `postprocess` are those of a bundle, so that
training and `viscera segment` see a scan through the same settings.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from viscera.bundle import FORMAT, About, Bundle, Input, Model, Patch, Slices, Step
from viscera.errors import BundleError, InputError, UsageError
from viscera.nets.registry import architecture
from viscera.organs import ORGANS, PAIRS
from viscera.schema import build, written
from viscera.training.settings import Augment, Data, Loss, Network, Optimisation, Split

_ORGANS = ("background", *(organ.name for organ in ORGANS))


@dataclass(frozen=True)
class Recipe:
    """A training, described whole.

    Attributes:
        name: architecture.weights, as the bundle will be called.
    """

    name: str
    network: Network
    input: Input
    slices: Slices | None = None
    patch: Patch | None = None
    labels: tuple[str, ...] = _ORGANS
    postprocess: tuple[Step, ...] = ()
    data: Data = field(default_factory=Data)
    split: Split = field(default_factory=Split)
    augment: Augment = field(default_factory=Augment)
    loss: Loss = field(default_factory=Loss)
    optimisation: Optimisation = field(default_factory=Optimisation)
    about: About = field(default_factory=About)

    def __post_init__(self) -> None:
        self.bundle()  # refuses what a bundle would
        if "other" in self.labels:
            raise ValueError("labels that are organs, found 'other'")
        try:
            known = architecture(self.network.architecture)
        except UsageError as error:
            raise ValueError(f"{error.expected}, found {error.found}") from error
        rank, widths = known.rank, self.network.widths or known.widths
        if min(widths) < 1 or len(widths) < 2:
            raise ValueError(f"two widths and more, above 0, found {list(widths)}")
        size = self.patch.size if self.patch else self.slices.size if self.slices else ()
        stride = known.stride(len(widths))
        if any(n % stride for n in size):
            raise ValueError(f"sizes divisible by {stride} with {len(widths)} widths, found "
                             f"{list(size)}")  # fmt: skip
        if self.loss.deep_supervision and not known.supervises:
            raise ValueError(f"no deep_supervision for {known.name}, found some")
        if self.augment.mirror:
            self._check_mirror()
        if (self.augment.slice_loss or self.augment.z_crop) and (
            rank == 2 or self.input.orientation[2] not in "SI"
        ):
            raise ValueError("slice_loss and z_crop with [patch] and slices along z only, found "
                             "them elsewhere")  # fmt: skip
        if (rank == 3) != (self.patch is not None):
            wanted = "[patch]" if rank == 3 else "[slices]"
            raise ValueError(f"{wanted} for {self.network.architecture}, found the other")
        if self.patch is not None and self.optimisation.steps_per_epoch is None:
            raise ValueError("optimisation.steps_per_epoch for [patch], found none")
        if self.data.labelled_slices_only and self.slices is None:
            raise ValueError("labelled_slices_only for [slices] only, found it for [patch]")

    def _check_mirror(self) -> None:
        """Mirroring swaps sides along x, and needs both organs of a pair."""
        if self.input.orientation[0] not in "LR":
            found = self.input.orientation
            raise ValueError(f"an orientation whose x is L or R for mirror, found {found}")
        for right, left in PAIRS:
            if (right.name in self.labels) != (left.name in self.labels):
                found = right.name if right.name in self.labels else left.name
                raise ValueError(f"both sides of a pair for mirror, found {found} alone")

    def bundle(self, folder: Path = Path(), model: Model | None = None) -> Bundle:
        """The bundle that this training ends in; its weights do not exist yet where not given."""
        return Bundle(
            format=FORMAT,
            name=self.name,
            model=model or Model("model.onnx", ""),
            input=self.input,
            labels=self.labels,
            patch=self.patch,
            slices=self.slices,
            postprocess=self.postprocess,
            about=self.about,
            folder=folder,
        )

    @property
    def grid_mark(self) -> str:
        """A mark of all that shapes cached volumes."""
        seen = replace(self.input, crop="none")  # what is cached is cropped whatever this says
        parts = (seen, self.slices and self.slices.size, self.labels)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    @property
    def mark(self) -> str:
        """A mark of all that shapes the weights, for resuming a training."""
        optimisation = replace(self.optimisation, checkpoint_minutes=0.0, validate_every=0)
        shaping = replace(self, about=About(), postprocess=(), optimisation=optimisation)
        return hashlib.sha256(repr(shaping).encode()).hexdigest()[:16]


def read_recipe(path: Path, settings: tuple[str, ...] = ()) -> tuple[Recipe, str]:
    """A recipe from its file, with single settings changed.

    Args:
        path: a TOML file.
        settings: ``table.key=value``, the value as TOML writes it; a bare word is a string.

    Returns:
        The recipe, and the TOML that gives it again.

    Raises:
        InputError: unreadable, an unknown key, a wrong value.
        UsageError: a setting that is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        remedy = "check the path" if isinstance(error, OSError) else "mend it"
        raise InputError("a recipe in TOML", found=found, remedy=remedy, where=path) from error
    changes: dict[tuple[str, ...], Any] = {}
    for setting in settings:
        left, _, value = setting.partition("=")
        keys = left.strip().split(".")
        try:
            changes[tuple(keys)] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[tuple(keys)] = value.strip()
        if not value.strip() or not all(keys):
            remedy = "write it so"
            raise UsageError("--set table.key=value", found=repr(setting), remedy=remedy)
    for place, value in changes.items():
        inner = table
        for key in place[:-1]:
            inner = inner.setdefault(key, {})
            if not isinstance(inner, dict):
                found = f"'{key}', which is no table"
                raise UsageError("a table's key", found=found, remedy="see the recipe")
        inner[place[-1]] = value
    try:
        return build(Recipe, table, path), written(table)
    except BundleError as error:
        raise InputError(
            error.expected, found=error.found, remedy=error.remedy, where=error.where
        ) from error
