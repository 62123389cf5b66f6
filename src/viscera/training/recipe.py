"""Recipes: all that decides a training, as strict TOML.

The tables `input`, `slices` or `patch`, `labels`, `look` and `postprocess` are those of a bundle,
so that training and `viscera segment` see a scan through the same settings.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from viscera.bundle.spec import (
    FORMAT,
    Bundle,
    BundleInfo,
    LookSettings,
    ModelFile,
    NetworkInput,
    Patch,
    PostprocessStep,
    Slices,
)
from viscera.bundle.structures import (
    RegionSettings,
    StructureSettings,
    region_rows,
    structure_rows,
)
from viscera.bundle.toml_schema import dump_toml, load_dataclass
from viscera.core.organs import FLARE13, ORGANS, organ_pairs
from viscera.errors import InputError, UsageError, option
from viscera.nets.registry import architecture
from viscera.runtime.digests import digest_of
from viscera.runtime.small_files import parse_toml, read_toml_file
from viscera.training.settings import (
    AugmentSettings,
    DataSettings,
    LossSettings,
    NetworkSettings,
    OptimisationSettings,
    SplitSettings,
)

_REMEDY = "choose another value"
_ORGANS = ("background", *(organ.name for organ in ORGANS))


@dataclass(frozen=True)
class Recipe:
    """The complete description of a training.

    Attributes:
        name: architecture.weights, as the bundle will be called.
    """

    name: str
    network: NetworkSettings
    input: NetworkInput
    slices: Slices | None = None
    patch: Patch | None = None
    labels: tuple[str, ...] = _ORGANS
    structures: tuple[StructureSettings, ...] = ()
    regions: tuple[RegionSettings, ...] = ()
    look: LookSettings | None = None
    postprocess: tuple[PostprocessStep, ...] = ()
    data: DataSettings = field(default_factory=DataSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimisation: OptimisationSettings = field(default_factory=OptimisationSettings)
    about: BundleInfo = field(default_factory=BundleInfo)

    def __post_init__(self) -> None:
        self.bundle()  # refuses what a bundle would
        if "other" in self.labels:
            raise UsageError("labels that are organs", found="'other'", remedy=_REMEDY)
        architecture_ = architecture(self.network.architecture)
        rank, widths = architecture_.rank, self.network.widths or architecture_.widths
        if min(widths) < 1 or len(widths) < 2:
            raise UsageError(
                "two widths and more, above 0", found=f"{list(widths)}", remedy=_REMEDY
            )
        size = self.patch.size if self.patch else self.slices.size if self.slices else ()
        stride = architecture_.stride(len(widths))
        for each in (size, *self.data.patch_sizes):
            if min(each, default=1) < 1 or any(n % stride for n in each):
                raise UsageError(
                    f"sizes divisible by {stride} with {len(widths)} widths",
                    found=f"{list(each)}",
                    remedy=_REMEDY,
                )
        if self.loss.deep_supervision and not architecture_.supervises:
            raise UsageError(
                f"no deep_supervision for {architecture_.name}", found="some", remedy=_REMEDY
            )
        if self.augment.mirror:
            self._check_mirror()
        if (self.augment.slice_loss or self.augment.z_crop) and (
            rank == 2 or self.input.orientation[2] not in "SI"
        ):
            raise UsageError(
                "slice_loss and z_crop with [patch] and slices along z only",
                found="them elsewhere",
                remedy=_REMEDY,
            )
        if (rank == 3) != (self.patch is not None):
            expected = "[patch]" if rank == 3 else "[slices]"
            raise UsageError(
                f"{expected} for {self.network.architecture}", found="the other", remedy=_REMEDY
            )
        if self.patch is not None and self.optimisation.steps_per_epoch is None:
            raise UsageError(
                "optimisation.steps_per_epoch for [patch]", found="none", remedy=_REMEDY
            )
        if self.patch is None and (self.data.patch_sizes or self.data.coarsest > 1):
            raise UsageError(
                "patch_sizes and coarsest for [patch] only",
                found="them for [slices]",
                remedy=_REMEDY,
            )
        if self.data.labelled_slices_only and self.slices is None:
            raise UsageError(
                "labelled_slices_only for [slices] only", found="it for [patch]", remedy=_REMEDY
            )

    def _check_mirror(self) -> None:
        """Mirroring swaps sides along x, and needs both organs of a pair."""
        if self.input.orientation[0] not in "LR":
            problem = self.input.orientation
            raise UsageError(
                "an orientation whose x is L or R for mirror", found=f"{problem}", remedy=_REMEDY
            )
        for organ in self.bundle().organs:
            if organ.partner is not None and organ.partner not in self.labels:
                raise UsageError(
                    "both sides of a pair for mirror", found=f"{organ.name} alone", remedy=_REMEDY
                )

    def bundle(self, folder: Path = Path(), model: ModelFile | None = None) -> Bundle:
        """The bundle that this training ends in; its weights do not exist yet where not given.

        Args:
            folder: where the bundle lies or will lie.
            model: its weights; unknown if not given.
        """
        return Bundle(
            format=FORMAT,
            name=self.name,
            model=model or ModelFile("model.onnx", ""),
            input=self.input,
            labels=self.labels,
            patch=self.patch,
            slices=self.slices,
            look=self.look,
            postprocess=self.postprocess,
            structures=self.structures,
            regions=self.regions,
            about=self.about,
            folder=folder,
        )

    @cached_property
    def channel_pairs(self) -> tuple[tuple[int, int], ...]:
        """Outputs of the network that are right and left of a pair."""
        pairs = organ_pairs(self.bundle().organs)
        return tuple((self.labels.index(r.name), self.labels.index(le.name)) for r, le in pairs)

    @property
    def grid_digest(self) -> str:
        """A digest of all that shapes cached volumes."""
        network_input = replace(
            self.input, crop="none"
        )  # what is cached is cropped whatever this says
        parts = (network_input, self.slices and self.slices.size, self.labels)
        return digest_of(*parts)[:16]

    @property
    def digest(self) -> str:
        """A digest of all that shapes the weights, for resuming a training."""
        optimisation = replace(self.optimisation, checkpoint_minutes=0.0, validate_every=0)
        shaping = asdict(
            replace(self, about=BundleInfo(), look=None, postprocess=(), optimisation=optimisation)
        )
        # Of structures only what mirroring swaps: titles, colours and codes shape no weights.
        del shaping["structures"], shaping["regions"]
        if self.structures:
            shaping["channel_pairs"] = self.channel_pairs
        return digest_of(shaping)[:16]


def read_recipe(path: Path, settings: tuple[str, ...] = ()) -> tuple[Recipe, str]:
    """A recipe from its file, with single settings changed.

    Its key ``label_table`` names a table of structures, see
    `viscera.io.label_table_files.read_label_table`, in place of the structures themselves.

    Args:
        path: a TOML file.
        settings: ``table.key=value``, the value as TOML writes it; a bare word is a string.

    Returns:
        The recipe, and the TOML that gives it again.

    Raises:
        InputError: unreadable, an unknown key, a wrong value.
        UsageError: a setting of another form.
    """
    try:
        table = read_toml_file(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            "a recipe in TOML", found=reason, remedy="check the path", where=path
        ) from error
    except ValueError as error:
        raise InputError(
            "a recipe in TOML", found=str(error), remedy="correct the file", where=path
        ) from error
    for setting in settings:
        _apply_setting(table, setting)
    if "label_table" in table:
        _include_label_table(table, path)
    return load_dataclass(Recipe, table, path, error=InputError), dump_toml(table)


def read_recipe_text(text: str) -> Recipe:
    """A recipe from TOML itself.

    Args:
        text: whole; it names no label table.

    Raises:
        InputError: it is none.
    """
    return load_dataclass(Recipe, parse_toml(text), Path("recipe"), error=InputError)


def _include_label_table(table: dict[str, Any], path: Path) -> None:
    """Put the structures of a label table into a recipe's table, in place.

    Raises:
        InputError: the recipe says what they are itself, or there is no such table.
    """
    from viscera.io.label_table_files import read_label_table  # training from a cache needs none

    if clash := {"labels", "structures", "regions"} & set(table):
        problem = f"'{min(clash)}' as well"
        raise InputError("label_table alone", found=problem, remedy="leave one out", where=path)
    name = table.pop("label_table")
    if not isinstance(name, str):
        problem = repr(name)
        raise InputError("text at 'label_table'", found=problem, remedy=_REMEDY, where=path)
    beside = path.parent / name
    labels = read_label_table(beside if beside.exists() else name).table
    table["labels"] = ["background", *(organ.name for organ in labels.organs)]
    if labels != FLARE13:
        table["structures"] = structure_rows(labels)
        table["regions"] = region_rows(labels)


def _apply_setting(table: dict[str, Any], setting: str) -> None:
    """Change one value of a recipe's table, in place.

    Raises:
        UsageError: not ``table.key=value``, or its table is none.
    """
    left, _, text = setting.partition("=")
    keys = left.strip().split(".")
    if not text.strip() or not all(keys):
        raise UsageError(
            option("settings", "table.key=value"), found=repr(setting), remedy="write it like this"
        )
    try:
        value = parse_toml(f"value = {text}")["value"]
    except (ValueError, KeyError):
        value = text.strip()
    inner = table
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            problem = f"'{key}', which is not a table"
            raise UsageError("the key of a table", found=problem, remedy="see the recipe")
    inner[keys[-1]] = value
