"""A recipe proposed from data: structures, grid, HU window, patch and steps, each with its reason.

The rules aim at a network that a laptop trains in an hour. They are a beginning: what the recipe
says may be changed before the training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import torch

from viscera.bundle.read import packaged_bundles, read_bundle, weights_to_train
from viscera.bundle.spec import Bundle
from viscera.bundle.structures import region_rows, structure_rows
from viscera.bundle.toml_schema import dump_toml
from viscera.core.organs import FLARE13, LabelTable, organ_pairs
from viscera.errors import InputError, UsageError, option
from viscera.findings import Finding
from viscera.io.label_table_files import read_label_table
from viscera.nets.cost import network_cost
from viscera.nets.registry import Architecture, architecture
from viscera.runtime.resources import available_mb, thread_count
from viscera.training.data.cases import find_cases
from viscera.training.loop import new_network, training_step_seconds
from viscera.training.recipe import Recipe, read_recipe_text
from viscera.training.survey import DataSurvey, survey_data

_TEMPLATE = Path(__file__).with_name("proposal.toml.template")
_WITHOUT_WEIGHTS = "visceranet"  # a step of it is quickest
_VOXELS_ACROSS = 6.0  # of the thinnest structure
_FINEST_MM, _COARSEST_MM = 1.5, 3.0
_Z_SHARE = 1.28  # of z to x spacing, as the packaged weights know it
_THICKEST_SHARE = 2.0  # the same at most, where slices are thick
_SOFT_TISSUE_HU = (-160.0, 240.0)  # what a window shows at least
_WIDEST_WINDOW_HU = 1600.0  # a cache has 255 levels for it
_PATCH_VOXELS = 900_000  # two cores learn from so many in a second or two
_DEPTH_SHARE = 0.75  # of a patch beside its width, in mm
_LARGEST_MM = 400.0  # no body is wider
_DEEPEST_VOXELS = 128
_SMALLEST_PATCH_VOXELS = 32**3
_MEMORY_SHARE = 0.5  # of what is free, for a step
_TRAINING_SHARE = 0.8  # of the time; caching and validations take the other part
_STRUCTURES_COMMENT = """\
# What labels mean. A DICOM SEG needs snomed, a SNOMED CT code, and meaning, what the code stands
# for; laterality and partner make a pair; tolerance_mm is that of NSD."""
_EPOCHS = 20
_LEAST_STEPS, _MOST_STEPS = 200, 20_000
_FOLDS = 5
_FEW_PATIENTS = 5


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
        init: bundle whose weights the training will begin with; None for random ones.
        label_table: what labels mean, see `viscera.io.label_table_files.read_label_table`; what
            the data's dataset.json says where not given.
        minutes: of the whole training.
        threads: CPU threads; all that the process may use where None.
        on_progress: takes how many cases were looked at, and of how many.

    Raises:
        InputError: data that cannot be read.
        UsageError: no such table or bundle, or no time.
        BundleError: the bundle has no weights to begin with.
    """
    if not minutes > 0:
        raise UsageError(f"{option('minutes')} above 0", found=f"{minutes:g}", remedy="choose more")
    begin = None if init is None else _bundle_to_begin_with(init)
    table, names = _label_table(data, label_table)
    cases, findings = find_cases(data, table=table)
    labels = ("background", *names)
    survey = survey_data(cases, table, labels, on_progress=on_progress)
    torch.set_num_threads(thread_count(threads))
    values = {
        **_network_values(begin),
        "name": _weights_name(table, data),
        **_survey_values(survey),
        **_label_values(labels, table, survey),
        **_grid_values(survey),
        **_window_values(survey, begin),
        **_step_values(_LEAST_STEPS, step_s=0),
        "step_mb": 0,
    }
    values |= _patch_values(values, table)
    step_s = training_step_seconds(_recipe(values, table))
    steps = round(minutes * 60 * _TRAINING_SHARE / step_s)
    values |= _step_values(steps, step_s=step_s)
    if steps < _LEAST_STEPS:
        few = f"{minutes:g} minutes are enough for {steps} steps only; {_LEAST_STEPS} were written"
        hint = f"they take about {values['minutes']} minutes"
        findings = (*findings, Finding("warning", "few-steps", few, hint))
    return Proposal(
        _recipe(values, table),
        _text(values, table),
        survey,
        step_s,
        (*findings, *_survey_findings(labels, table, survey)),
    )


def _bundle_to_begin_with(init: str) -> Bundle:
    """The bundle whose weights a training begins with.

    Raises:
        UsageError: no such bundle, or one of a network over slices.
        BundleError: it has no weights to begin with.
    """
    if init not in packaged_bundles() and not (Path(init) / "bundle.toml").is_file():
        raise UsageError(
            f"a bundle for {option('init')}", found=repr(init), remedy="default is packaged"
        )
    bundle = read_bundle(init)
    weights_to_train(bundle)
    if bundle.patch is None:
        problem = f"{bundle.name}, of a network over slices"
        raise UsageError(
            f"a bundle of a 3-D network for {option('init')}", found=problem, remedy="take default"
        )
    return bundle


def _label_table(
    data: Sequence[Path], label_table: str | Path | None
) -> tuple[LabelTable, tuple[str, ...]]:
    """The table of the data's labels, and which of its structures they have.

    Raises:
        InputError: data sets that mean different things by their labels.
    """
    if label_table is not None:
        scheme = read_label_table(label_table)
        return scheme.table, tuple(organ.name for organ in scheme.organs)
    descriptions = [d / "dataset.json" for d in data if (d / "dataset.json").is_file()]
    if not descriptions:
        return FLARE13, tuple(organ.name for organ in FLARE13.organs)
    schemes = [read_label_table(path) for path in descriptions]
    for path, scheme in zip(descriptions, schemes, strict=True):
        if scheme.table.organs != schemes[0].table.organs:
            raise InputError(
                "data sets with the same labels",
                found=f"others than in {descriptions[0]}",
                remedy=f"name one table of labels by {option('label_table')}",
                where=path,
            )
    table = schemes[0].table
    names = tuple(organ.name for organ in schemes[0].organs)
    # Organs of ours under our numbers need no table; others keep the numbers that the data have.
    is_ours = all(
        organ.name in FLARE13.by_name and FLARE13.by_name[organ.name].id == organ.id
        for organ in schemes[0].organs
    )
    return (FLARE13, names) if is_ours and not table.regions else (table, names)


def _weights_name(table: LabelTable, data: Sequence[Path]) -> str:
    """What the weights are called: as the data are, since servers tell bundles by their names."""
    name = data[0].resolve().stem if table == FLARE13 else table.name
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "own"


def _network_values(begin: Bundle | None) -> dict[str, Any]:
    """Which network, and why."""
    if begin is None:
        return {"architecture": _WITHOUT_WEIGHTS, "network_reason": "quick to train on a CPU"}
    name = begin.name.partition(".")[0]
    return {"architecture": name, "network_reason": f"its weights begin as those of {begin.name}"}


def _survey_values(survey: DataSurvey) -> dict[str, Any]:
    """What the data are like."""
    return {
        "surveyed": survey.surveyed,
        "cases": survey.cases,
        "patients": survey.patients,
        "voxel_mm": _triple(survey.spacing_mm),
        "field_mm": _triple(survey.size_mm),
        "field_z_mm": survey.size_mm[2],
    }


def _label_values(labels: Sequence[str], table: LabelTable, survey: DataSurvey) -> dict[str, Any]:
    """What is learnt, from how many folds, and whether a body may be mirrored."""
    folds = min(_FOLDS, survey.patients) if survey.patients > 1 else 0
    pairs = organ_pairs([table.by_name[name] for name in labels[1:]])
    # Livers and hearts lie on one side; a pair of lungs or femurs looks the same in a mirror.
    may_mirror = 2 * len(pairs) == len(labels) - 1
    return {
        "labels": _toml(list(labels)),
        "folds": folds,
        "folds_reason": "one of them is held back" if folds else "one patient: none is held back",
        "mirror": 0.4 if may_mirror else 0.0,
    }


def _grid_values(survey: DataSurvey) -> dict[str, Any]:
    """The grid on which the thinnest structure has six voxels across, within limits."""
    thickness_mm = {name: each.thickness_mm for name, each in survey.structures.items()}
    thinnest = min(thickness_mm, key=lambda name: thickness_mm[name])
    wanted = thickness_mm[thinnest] / _VOXELS_ACROSS
    x_mm = round(min(max(wanted, _FINEST_MM), _COARSEST_MM), 1)
    z_mm = round(min(max(x_mm * _Z_SHARE, survey.spacing_mm[2]), x_mm * _THICKEST_SHARE), 1)
    return {
        "thinnest": thinnest,
        "thinnest_mm": f"{thickness_mm[thinnest]:.0f}",
        "finest_mm": _FINEST_MM,
        "coarsest_mm": _COARSEST_MM,
        "spacing_mm": [x_mm, x_mm, z_mm],
    }


def _window_values(survey: DataSurvey, begin: Bundle | None) -> dict[str, Any]:
    """The HU window and its normalisation: of the structures, and what the weights know."""
    low, high = (float(round(value)) for value in survey.foreground_hu)
    least_low, least_high = _SOFT_TISSUE_HU if begin is None else begin.input.window_hu
    window_low = min(low, least_low)
    window_high = min(max(high, least_high), max(least_high, window_low + _WIDEST_WINDOW_HU))
    if begin is None:
        mean_hu, std_hu = round(survey.mean_hu, 1), round(survey.std_hu, 1)
    else:
        mean_hu, std_hu = begin.input.scale
    return {
        "low_hu": f"{low:.0f}",
        "high_hu": f"{high:.0f}",
        "window_reason": "" if begin is None else ", the weights know theirs",
        "window_hu": [window_low, window_high],
        "mean_hu": mean_hu,
        "std_hu": std_hu,
        "scale_reason": "of the structures" if begin is None else "as the weights expect",
    }


def _patch_values(values: dict[str, Any], table: LabelTable) -> dict[str, Any]:
    """The largest patch, within limits, whose step fits into half of the memory that is free."""
    kind, field_z_mm = architecture(values["architecture"]), values["field_z_mm"]
    voxels = _PATCH_VOXELS
    while True:
        patch = _patch(voxels, values["spacing_mm"], field_z_mm, kind)
        size_mm = [n * mm for n, mm in zip(patch, values["spacing_mm"], strict=True)]
        chosen = {"patch": list(patch), "patch_mm": _triple(size_mm)}
        recipe = _recipe({**values, **chosen}, table)
        cost = network_cost(new_network(recipe), (1, *patch[::-1]))
        step_mb = 2 * cost.activations_mb  # as much again for gradients
        if step_mb <= _MEMORY_SHARE * available_mb() or voxels < 2 * _SMALLEST_PATCH_VOXELS:
            return {**chosen, "step_mb": f"{step_mb:.0f}"}
        voxels //= 2


def _patch(
    voxels: int, spacing_mm: Sequence[float], field_z_mm: float, kind: Architecture
) -> tuple[int, int, int]:
    """Voxels x, y, z of a patch that is a little wider than deep, and no larger than a body."""
    stride, (x_mm, _, z_mm) = kind.stride(len(kind.widths)), spacing_mm
    depth = (voxels * (_DEPTH_SHARE * x_mm / z_mm) ** 2) ** (1 / 3)
    z = _multiple(min(depth, field_z_mm / z_mm + stride, _DEEPEST_VOXELS), stride)
    xy = _multiple(min((voxels / z) ** 0.5, _LARGEST_MM / x_mm), stride)
    return xy, xy, z


def _step_values(steps: int, *, step_s: float) -> dict[str, Any]:
    """How many steps are made in the time that there is, and what they take."""
    steps_per_epoch = round(min(max(steps, _LEAST_STEPS), _MOST_STEPS) / _EPOCHS)
    minutes = steps_per_epoch * _EPOCHS * step_s / 60 / _TRAINING_SHARE
    return {
        "step_s": f"{step_s:.1f}",
        "minutes": f"{minutes:.0f}",
        "epochs": _EPOCHS,
        "steps_per_epoch": steps_per_epoch,
        "warmup_steps": min(100, steps_per_epoch),
        "validate_every": _EPOCHS // 2,
    }


def _recipe(values: dict[str, Any], table: LabelTable) -> Recipe:
    return read_recipe_text(_text(values, table))


def _text(values: dict[str, Any], table: LabelTable) -> str:
    """The recipe as TOML, with the structures where they are not the thirteen organs."""
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(values)
    if table == FLARE13:
        return text
    tables = {"structures": structure_rows(table), "regions": region_rows(table)}
    rows = dump_toml({key: rows for key, rows in tables.items() if rows}).lstrip()
    return f"{text}\n{_STRUCTURES_COMMENT}\n{rows}"


def _survey_findings(labels: Sequence[str], table: LabelTable, survey: DataSurvey) -> list[Finding]:
    """What a user should know of the data before the training."""
    findings = []
    if absent := [name for name in labels[1:] if name not in survey.structures]:
        message = f"no case that was looked at shows {', '.join(absent)}"
        findings.append(Finding("warning", "never-shown", message, "leave it out of labels"))
    if any(table.by_name[name].snomed is None for name in labels[1:]):
        message = "some structures have no SNOMED CT code: no DICOM SEG can be made of them"
        hint = "add snomed and meaning to their [[structures]]"
        findings.append(Finding("info", "no-codes", message, hint))
    if survey.patients < _FEW_PATIENTS:
        message = f"{survey.patients} patients are few to learn from"
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
