"""A recipe proposed from data: structures, grid, HU window, patch and steps, each with its reason.

The rules aim at a network that a laptop trains in an hour. They are a beginning: what the recipe
says may be changed before the training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from viscera.bundle.read import packaged_bundles, read_bundle, weights_to_train
from viscera.bundle.spec import Bundle
from viscera.bundle.structures import structure_rows
from viscera.bundle.toml_schema import dump_toml
from viscera.core.organs import FLARE13, LabelTable, organ_pairs
from viscera.errors import InputError, UsageError, option
from viscera.findings import Finding
from viscera.io.label_scheme_files import read_label_table
from viscera.nets.cost import network_cost
from viscera.nets.registry import architecture
from viscera.runtime.resources import available_mb, thread_count
from viscera.training.data.cases import TrainingCase, find_cases
from viscera.training.loop import new_network, training_step_seconds
from viscera.training.recipe import Recipe, read_recipe_text
from viscera.training.survey import DataSurvey, survey_data

_VOXELS_ACROSS = 6.0  # of the thinnest structure
_FINEST_MM, _COARSEST_MM = 1.5, 3.0
_Z_SHARE = 1.28  # of z to x spacing, as the packaged weights know it
_THICKEST = 2.0  # the same at most, where slices are thick
_WIDEST_WINDOW_HU = 1600.0  # a cache has 255 levels for it
# Voxels of a patch that two cores learn from in one to two seconds.
_PATCH_VOXELS = {"dwnet16": 900_000, "visceranet": 1_200_000}
_FLATTEST = 0.75  # depth of a patch beside its width, in mm
_MEMORY_SHARE = 0.5  # of what is free, for activations
_TRAINING_SHARE = 0.8  # of the time; caching and validations take what is left
_EPOCHS = 20
_LEAST_STEPS, _MOST_STEPS = 200, 20_000
_FOLDS = 5


@dataclass(frozen=True)
class Proposal:
    """A recipe for a data set.

    Attributes:
        recipe: as it reads.
        text: TOML with a comment on each choice.
        survey: of the data.
        step_s: seconds of a step on this machine, measured.
        findings: what is odd about the data.
    """

    recipe: Recipe
    text: str
    survey: DataSurvey
    step_s: float
    findings: tuple[Finding, ...]


def propose_recipe(
    data: Sequence[Path],
    *,
    init: str | None = "default",
    label_table: str | Path | None = None,
    minutes: float = 60.0,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _completed, _all: None,
) -> Proposal:
    """A recipe for these data, to be trained in so many minutes on this machine.

    Args:
        data: folders and lists, see `viscera.training.data.cases`.
        init: bundle whose weights the training will begin with; None for none.
        label_table: what labels mean, see `viscera.io.label_scheme_files.read_label_table`; that of
            the data's dataset.json where not given.
        minutes: of the whole training.
        threads: CPU threads; all that the process may use where None.
        on_progress: takes how many cases were looked at, and of how many.

    Raises:
        InputError: data that cannot be read.
        UsageError: no such table, or an hour too short.
        BundleError: the bundle has no weights to begin with.
    """
    if not minutes > 0:
        raise UsageError(f"{option('minutes')} above 0", found=f"{minutes:g}", remedy="choose more")
    begin = _begin(init)
    table, names = _labels(data, label_table)
    cases, findings = find_cases(data, table=table)
    labels = ("background", *names)
    survey = survey_data(cases, table, labels, on_progress=on_progress)
    torch.set_num_threads(thread_count(threads))
    draft = _Draft(begin, table, labels, survey, cases)
    recipe = read_recipe_text(draft.text(_LEAST_STEPS))
    while _activations_mb(recipe) > _MEMORY_SHARE * available_mb() and draft.can_shrink:
        draft = replace(draft, patch_voxels=draft.patch_voxels // 2)
        recipe = read_recipe_text(draft.text(_LEAST_STEPS))
    step_s = training_step_seconds(recipe)
    steps = round(minutes * 60 * _TRAINING_SHARE / step_s)
    draft = replace(draft, minutes=minutes, step_s=step_s)
    text = draft.text(min(max(steps, _LEAST_STEPS), _MOST_STEPS))
    return Proposal(
        read_recipe_text(text), text, survey, step_s, (*findings, *_survey_findings(draft))
    )


def _begin(init: str | None) -> Bundle | None:
    """The bundle to begin with.

    Raises:
        UsageError: neither a bundle nor none.
        BundleError: it has no weights to begin with.
    """
    if init is None:
        return None
    if init not in packaged_bundles() and not (Path(init) / "bundle.toml").is_file():
        raise UsageError(
            f"a bundle for {option('init')}, or none",
            found=repr(init),
            remedy="default is packaged",
        )
    bundle = read_bundle(init)
    weights_to_train(bundle)
    if bundle.patch is None:
        raise UsageError(
            f"a bundle of a 3-D network for {option('init')}", found=bundle.name, remedy="default"
        )
    return bundle


def _labels(
    data: Sequence[Path], label_table: str | Path | None
) -> tuple[LabelTable, tuple[str, ...]]:
    """The table of the data's labels, and those of its structures that the data have.

    Raises:
        InputError: several tables that differ.
    """
    if label_table is not None:
        scheme = read_label_table(label_table)
        return scheme.table, tuple(organ.name for organ in scheme.organs)
    described = [path for source in data for path in _dataset_files(source)]
    if not described:
        return FLARE13, tuple(organ.name for organ in FLARE13.organs)
    schemes = [read_label_table(path) for path in described]
    for path, scheme in zip(described, schemes, strict=True):
        if scheme.table.organs != schemes[0].table.organs:
            raise InputError(
                "data sets with the same labels",
                found=f"others than those of {described[0]}",
                remedy=f"name one table of labels by {option('label_table')}",
                where=path,
            )
    table = schemes[0].table
    names = tuple(organ.name for organ in schemes[0].organs)
    if not table.regions and all(name in FLARE13.by_name for name in names):
        return FLARE13, names
    return table, names


def _dataset_files(source: Path) -> list[Path]:
    return [source / "dataset.json"] if (source / "dataset.json").is_file() else []


def _activations_mb(recipe: Recipe) -> float:
    """Memory that a step takes beside the weights."""
    assert recipe.patch is not None
    cost = network_cost(new_network(recipe), (1, *recipe.patch.size[::-1]))
    return 2 * recipe.optimisation.batch * cost.activations_mb  # as much again for gradients


@dataclass(frozen=True)
class _Draft:
    """A recipe while it is made.

    Attributes:
        begin: bundle whose weights it begins with.
        table: of the labels.
        labels: of the network.
        survey: of the data.
        cases: of the data.
        patch_voxels: of a patch; by the architecture where 0.
        minutes: of the whole training.
        step_s: seconds of a step.
    """

    begin: Bundle | None
    table: LabelTable
    labels: tuple[str, ...]
    survey: DataSurvey
    cases: tuple[TrainingCase, ...]
    patch_voxels: int = 0
    minutes: float = 0.0
    step_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.patch_voxels:
            voxels = _PATCH_VOXELS[self.architecture]
            object.__setattr__(self, "patch_voxels", voxels)

    @property
    def architecture(self) -> str:
        """Of the network."""
        return self.begin.name.partition(".")[0] if self.begin else "visceranet"

    @property
    def can_shrink(self) -> bool:
        """Whether half the patch is still one."""
        return self.patch_voxels >= 2 * 32**3

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Such that the thinnest structure has six voxels across, within limits."""
        thin = self.thinnest[1] / _VOXELS_ACROSS
        fine = round(min(max(thin, _FINEST_MM), _COARSEST_MM), 1)
        slices_mm = self.survey.spacing_mm[2]
        z = min(max(fine * _Z_SHARE, slices_mm), fine * _THICKEST)
        return fine, fine, round(z, 1)

    @property
    def thinnest(self) -> tuple[str, float]:
        """The structure with the least thickness, and that in mm."""
        sizes = {name: each.thickness_mm for name, each in self.survey.structures.items()}
        name = min(sizes, key=lambda each: sizes[each])
        return name, sizes[name]

    @property
    def patch(self) -> tuple[int, int, int]:
        """Voxels x, y, z: as wide as deep in mm or wider, and no larger than the body."""
        stride = architecture(self.architecture).stride(len(architecture(self.architecture).widths))
        x_mm, _, z_mm = self.spacing_mm
        depth = int(min(self.survey.size_mm[2] / z_mm + stride, 128))
        wide = (self.patch_voxels * z_mm / (_FLATTEST * x_mm)) ** (1 / 3)
        z = _multiple(min(wide * _FLATTEST * x_mm / z_mm, depth), stride)
        xy = _multiple(min((self.patch_voxels / z) ** 0.5, 400 / x_mm), stride)
        return xy, xy, z

    @property
    def window(self) -> tuple[tuple[float, float], float, float]:
        """The HU window, and mean and deviation of the normalisation."""
        low, high = (float(round(value)) for value in self.survey.foreground_hu)
        if self.begin is None:
            low, high = min(low, -160.0), max(high, 240.0)
            high = min(high, low + _WIDEST_WINDOW_HU)
            return (low, high), round(self.survey.mean_hu, 1), round(self.survey.std_hu, 1)
        known_low, known_high = self.begin.input.window_hu
        low, high = min(low, known_low), max(high, known_high)
        high = max(known_high, min(high, low + _WIDEST_WINDOW_HU))
        offset, divisor = self.begin.input.scale
        return (low, high), offset, divisor

    def text(self, steps: int) -> str:
        """The recipe as TOML."""
        survey, (window, mean, std) = self.survey, self.window
        name, thick_mm = self.thinnest
        patients = survey.patients
        folds = 0 if patients < 2 else min(_FOLDS, patients)
        has_pairs = len(organ_pairs([self.table.by_name[n] for n in self.labels[1:]])) > 0
        is_symmetric = has_pairs and not any(n in FLARE13.by_name for n in self.labels)
        per_epoch = max(1, round(steps / _EPOCHS))
        lines = [
            f"# Proposed by 'viscera recipe' from {survey.surveyed} of {survey.cases} cases of "
            f"{patients} patients: {_triple(survey.spacing_mm)} mm, {_triple(survey.size_mm)} mm.",
            "# Change what you know better; docs/training.md and docs/bundles.md describe all keys.",
            f'name = "{self.architecture}.own"',
            "",
            f"labels = {_toml(list(self.labels))}",
            "",
            "[network]",
            f'architecture = "{self.architecture}"'
            + (
                f"  # that of {self.begin.name}, whose weights it begins with" if self.begin else ""
            ),
            "",
            "[input]",
            f"# Six voxels across the thinnest structure, {name} of about {thick_mm:.0f} mm,",
            f"# from {_FINEST_MM:g} to {_COARSEST_MM:g} mm.",
            f"spacing_mm = {_toml(list(self.spacing_mm))}",
            "# The structures' HU are from "
            f"{survey.foreground_hu[0]:.0f} to {survey.foreground_hu[1]:.0f} (percentiles .5, 99.5)"
            + (", and the weights know their own." if self.begin else "."),
            f"window_hu = {_toml(list(window))}",
            f"mean_hu = {mean!r}"
            + ("  # as the weights expect" if self.begin else "  # of the structures"),
            f"std_hu = {std!r}",
            'interpolation = "area"',
            'crop = "body"',
            "",
            "[patch]",
            f"# {_triple([n * mm for n, mm in zip(self.patch, self.spacing_mm, strict=True)])} mm; "
            "half of the memory that is free holds a step.",
            f"size = {_toml(list(self.patch))}",
            "overlap = 0.4",
            'extend_z = "mirror"',
            "",
            "[data]",
            "organ_share = 0.67  # of patches around a structure",
            "",
            "[split]",
            f"folds = {folds}"
            + ("  # one patient: nobody is held back" if not folds else "  # one is held back"),
            "",
            "[augment]",
            "rotate_deg = 15.0",
            "scale = 0.2",
            "shift = 0.05",
            "in_plane_loss = 0.15",
            "slice_loss = 0.3",
            "slice_mm = [2.0, 8.0]",
            "contrast = 0.2",
            "window = 0.3",
            "noise = 0.3",
            "blur = 0.2",
            "field_of_view = 0.1",
            "z_crop = 0.15",
            f"mirror = {0.4 if is_symmetric else 0.0}"
            + ("" if is_symmetric else "  # above 0 only if bodies may be seen in a mirror"),
            "",
            "[loss]",
            "dice = 1.0",
            "cross_entropy = 1.0",
            "",
            "[optimisation]",
            *(
                [
                    f"# {self.step_s:.1f} s a step on this machine: {self.minutes:g} minutes with "
                    "caching and validation."
                ]
                if self.step_s
                else []
            ),
            f"epochs = {_EPOCHS}",
            f"steps_per_epoch = {per_epoch}",
            "batch = 1",
            "learning_rate = 1e-3",
            f"warmup_steps = {min(100, per_epoch)}",
            "weight_decay = 1e-2",
            "clip_norm = 5.0",
            "ema = 0.995",
            'precision = "bf16"',
            f"validate_every = {_EPOCHS // 2}",
            "",
            "[about]",
            'training_data = ""  # say what it was trained on, and under which licence it goes',
            'licence = ""',
        ]
        text = "\n".join(lines) + "\n"
        if self.table != FLARE13:
            tables = {"structures": structure_rows(self.table)}
            if self.table.regions:
                tables["regions"] = [
                    {
                        "name": region.name,
                        "title": region.title,
                        "structures": list(region.structures),
                        "tolerance_mm": float(region.tolerance_mm),
                    }
                    for region in self.table.regions
                ]
            text += (
                "\n# What labels mean. snomed (with meaning) is the SNOMED CT code that a DICOM SEG\n"
                "# needs; laterality and partner make a pair; tolerance_mm is of the surface DSC.\n"
                + dump_toml(tables).lstrip()
            )
        return text


def _survey_findings(draft: _Draft) -> list[Finding]:
    """What a user should know of the data before the training."""
    findings = []
    absent = [name for name in draft.labels[1:] if name not in draft.survey.structures]
    if absent:
        message = f"no case that was looked at shows {', '.join(absent)}"
        findings.append(Finding("warning", "never-shown", message, "leave it out of labels"))
    if draft.table != FLARE13 and any(organ.snomed is None for organ in draft.table.organs):
        message = "some structures have no SNOMED CT code: no DICOM SEG can be made of them"
        hint = "add snomed and meaning to their [[structures]]"
        findings.append(Finding("info", "no-codes", message, hint))
    if draft.survey.patients < 5:
        message = f"{draft.survey.patients} patients are few to learn from"
        findings.append(Finding("warning", "few-patients", message, "label more scans if you can"))
    return findings


def _multiple(value: float, stride: int) -> int:
    """The nearest multiple, at least two of it."""
    return max(2 * stride, round(value / stride) * stride)


def _triple(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)


def _toml(value: object) -> str:
    """A value as TOML writes it."""
    return dump_toml({"v": value}).removeprefix("v = ").strip()
