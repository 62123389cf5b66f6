"""Label schemes by name, or from a user's file.

The file is TOML:

    other = [14, 15]              # values that stand for nothing of ours
    [labels]
    liver = 6
    stomach = [7, 16]             # several values may make one organ

or a nnU-Net ``dataset.json``, whose names are recognised where they can be.

Where the thirteen organs are not what is meant, a label table says what is: that of a bundle, a
``dataset.json``, or a TOML file:

    [[structures]]
    name = "tumour"
    id = 1
    [[regions]]                   # evaluated as one
    name = "liver_and_tumour"
    structures = ["liver", "tumour"]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from viscera.bundle.read import packaged_bundles, read_bundle
from viscera.bundle.spec import Bundle
from viscera.bundle.structures import (
    HIGHEST_ID,
    LONGEST_TITLE,
    NOT_IN_TITLES,
    RegionSettings,
    StructureSettings,
    is_structure_name,
    make_label_table,
)
from viscera.bundle.toml_schema import load_dataclass
from viscera.core.label_map import LabelMap
from viscera.core.label_schemes import FLARE, LABEL_SCHEMES, UNLABELLED, LabelScheme
from viscera.core.organs import FLARE13, LabelTable, Laterality, Organ
from viscera.errors import InputError, UsageError, option
from viscera.io.dataset_json import DatasetLabels, dataset_labels, label_values
from viscera.io.read import path_exists
from viscera.runtime.small_files import read_json_file, read_toml_file

_REMEDY = "correct the file"
# Names that data sets use for our organs, beside ours.
_ALIASES = {
    "ivc": "inferior_vena_cava", "postcava": "inferior_vena_cava",
    "rk": "kidney_right", "lk": "kidney_left",
    "rag": "adrenal_gland_right", "lag": "adrenal_gland_left",
    "right_adrenal_gland": "adrenal_gland_right", "left_adrenal_gland": "adrenal_gland_left",
    "gall_bladder": "gallbladder", "oesophagus": "esophagus",
    # AMOS's own file spells one name so; BTCV's abbreviates.
    "arota": "aorta", "rkid": "kidney_right", "lkid": "kidney_left", "gall": "gallbladder",
    "eso": "esophagus", "sto": "stomach", "rad": "adrenal_gland_right",
    "lad": "adrenal_gland_left",
}  # fmt: skip
_SIDE = re.compile(r"(?i)(?P<before>^|.*[_ \-])(?P<side>left|right)(?P<after>$|[_ \-].*)")
_OTHER_SIDE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class _TableFile:
    """A label table in a file of its own.

    Attributes:
        structures: the table's.
        regions: of several of them.
    """

    structures: tuple[StructureSettings, ...]
    regions: tuple[RegionSettings, ...] = ()


def read_label_scheme(
    name_or_file: str | Path | LabelScheme, table: LabelTable = FLARE13
) -> LabelScheme:
    """A built-in label scheme by name, or one from a file.

    Args:
        name_or_file: flare, totalsegmentator, amos, btcv; a mapping file or ``dataset.json``.
        table: the organs that values are to mean; what it lacks is taken for background.

    Raises:
        UsageError: neither.
        InputError: the file is not a mapping.
    """
    if isinstance(name_or_file, LabelScheme):
        return name_or_file
    if (scheme := LABEL_SCHEMES.get(str(name_or_file).lower())) is not None:
        return scheme if table == FLARE13 else _with_table(scheme, table)
    path = Path(name_or_file)
    if not path_exists(path):
        names = ", ".join(LABEL_SCHEMES)
        problem = repr(str(name_or_file))
        remedy = "name one of these, or a mapping file"
        raise UsageError(f"{names}, or a file", found=problem, remedy=remedy)
    content = _read_table(path)
    if path.suffix.lower() == ".json":
        return _scheme_of_dataset(dataset_labels(content, path), path, table)
    return _scheme_of_mapping(content, path, table)


def read_label_table(name_or_file: str | Path) -> LabelScheme:
    """A label table, and which value of a label map means which of its structures.

    Args:
        name_or_file: flare13; a bundle's folder or name; a table in TOML; a ``dataset.json``.

    Raises:
        UsageError: none of these.
        InputError: the file is no table.
        BundleError: the bundle is invalid.
    """
    if str(name_or_file) == FLARE13.name:
        return FLARE
    path = Path(name_or_file)
    if str(name_or_file) in packaged_bundles() or (path_exists(path) and path.is_dir()):
        return _scheme_of_bundle(read_bundle(name_or_file))
    if not path_exists(path):
        raise UsageError(
            f"{FLARE13.name}, a bundle, a table in TOML, or a dataset.json",
            found=repr(str(name_or_file)),
            remedy="check the path",
        )
    content = _read_table(path)
    try:
        if path.suffix.lower() == ".json":
            labels = dataset_labels(content, path)
            table = make_label_table(path.parent.name or path.name, *dataset_structures(labels))
            return _scheme_of_dataset(labels, path, table)
        file = load_dataclass(_TableFile, content, path, error=InputError)
        table = make_label_table(path.stem, file.structures, file.regions)
    except UsageError as error:
        raise InputError(
            error.expected, found=error.found, remedy=error.remedy, where=path
        ) from error
    return replace(scheme_of_table(table), name=path.name)


def _scheme_of_bundle(bundle: Bundle) -> LabelScheme:
    """The label scheme of what a bundle finds; of its table's other organs it knows nothing."""
    scheme = scheme_of_table(bundle.label_table)
    values = {organ.name: (organ.id,) for organ in bundle.organs}
    if values == scheme.values:
        return scheme
    others = {organ.id for organ in bundle.label_table.organs if organ.name not in values}
    return replace(scheme, name=bundle.name, values=values, others=frozenset(others))


def scheme_of_table(table: LabelTable) -> LabelScheme:
    """The label scheme whose values are the table's labels; 255 is what nobody labelled."""
    values = {organ.name: (organ.id,) for organ in table.organs}
    if table == FLARE13:
        return FLARE
    return LabelScheme(table.name, values, table=table, unlabelled=frozenset({UNLABELLED}))


def read_label_schemes(
    prediction_labels: str | Path | LabelScheme,
    truth_labels: str | Path | LabelScheme,
    label_table: str | Path | None = None,
) -> tuple[LabelScheme, LabelScheme]:
    """The label schemes of predictions and of the truth.

    Args:
        prediction_labels: see `read_label_scheme`; flare stands for the table's own values.
        truth_labels: the same.
        label_table: see `read_label_table`; the thirteen organs where not given.

    Raises:
        UsageError, InputError, BundleError: see there; or two schemes of different tables.
    """
    default = FLARE if label_table is None else read_label_table(label_table)
    prediction_scheme, truth_scheme = (
        default
        if labels == FLARE or str(labels).lower() == FLARE.name
        else read_label_scheme(labels, default.table)
        for labels in (prediction_labels, truth_labels)
    )
    if prediction_scheme.table != truth_scheme.table:
        raise UsageError(
            "label schemes of one label table",
            found=f"{prediction_scheme.table.name} and {truth_scheme.table.name}",
            remedy=f"name it by {option('label_table')}",
        )
    return prediction_scheme, truth_scheme


def dataset_structures(
    labels: DatasetLabels,
) -> tuple[tuple[StructureSettings, ...], tuple[RegionSettings, ...]]:
    """The structures and regions of a data set, as a recipe or a table describes them.

    Names become file names; those of our organs become ours, with colours, codes and sides. Others
    whose names differ in left and right alone become pairs. Values are kept where they fit.

    Args:
        labels: of its dataset.json.

    Raises:
        UsageError: there are too many.
    """
    names = _structure_names([*labels.values, *labels.regions])
    pairs = _pairs(names.values())
    ids = [min(values) for values in labels.values.values()]
    if len(ids) > HIGHEST_ID:
        raise UsageError(
            f"{HIGHEST_ID} structures at most", found=f"{len(ids)}", remedy="join some of them"
        )
    if max(ids, default=0) > HIGHEST_ID:
        ids = list(range(1, len(ids) + 1))
    structures = []
    for (name, _), number in zip(labels.values.items(), ids, strict=True):
        plain = names[name]
        side, partner = pairs.get(plain, (None, None))
        title = NOT_IN_TITLES.sub(" ", name.replace("_", " ")).strip()[:LONGEST_TITLE]
        title = "" if plain in FLARE13.by_name else title
        structures.append(
            StructureSettings(
                plain,
                id=number,
                title=title[:1].upper() + title[1:],
                laterality=side,
                partner=partner,
            )
        )
    regions = tuple(
        RegionSettings(names[name], tuple(names[part] for part in parts))
        for name, parts in labels.regions.items()
    )
    return tuple(structures), regions


def recognise_organ(name: str, table: LabelTable = FLARE13) -> Organ:
    """The organ of a name as data sets and people spell it.

    Args:
        name: in any spelling.
        table: the organs that there are.

    Raises:
        UsageError: none of them.
    """
    plain = re.sub(r"[\s\-]+", "_", name.strip().lower())
    alias = _ALIASES.get(plain)
    (organ,) = table.select([alias if alias in table.by_name else name])
    return organ


def scheme_of_names(label_map: LabelMap) -> LabelScheme | None:
    """The label scheme that a label map's own names give; None where they do not contradict ours.

    Args:
        label_map: as it was read.
    """
    values: dict[str, tuple[int, ...]] = {}
    unrecognised, others = [], set()
    for value, name in label_map.label_names.items():
        try:
            organ = recognise_organ(name)
        except UsageError:
            unrecognised.append(name)
            others.add(value)
        else:
            values[organ.name] = (*values.get(organ.name, ()), value)
    if all(FLARE.values.get(name) == numbers for name, numbers in values.items()):
        return None
    return LabelScheme("the file's own names", values, frozenset(others), tuple(unrecognised))


def _read_table(path: Path) -> Any:
    """The content of a TOML or JSON file."""
    try:
        is_json = path.suffix.lower() == ".json"
        return read_json_file(path) if is_json else read_toml_file(path)
    except (OSError, ValueError) as error:
        raise InputError("TOML or JSON", found=str(error), remedy=_REMEDY, where=path) from error


def _with_table(scheme: LabelScheme, table: LabelTable) -> LabelScheme:
    """A built-in scheme for another table; what that lacks is background."""
    values = {name: v for name, v in scheme.values.items() if name in table.by_name}
    remaining = {v for name, every in scheme.values.items() if name not in values for v in every}
    return replace(scheme, values=values, others=scheme.others | remaining, table=table)


def _scheme_of_mapping(content: Any, path: Path, table: LabelTable) -> LabelScheme:
    """The mapping of our own format, in which every name must be one of the table's."""
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise InputError(
            "a table 'labels' of organ names and values", found="none", remedy=_REMEDY, where=path
        )
    if extra := set(content) - {"labels", "other"}:
        raise InputError(
            "the keys 'labels' and 'other' only", found=repr(min(extra)), remedy=_REMEDY, where=path
        )
    values: dict[str, tuple[int, ...]] = {}
    for name, value in content["labels"].items():
        try:
            organ = recognise_organ(str(name), table)
        except UsageError as error:
            raise InputError(
                "an organ's name", found=repr(name), remedy=error.remedy, where=path
            ) from error
        values[organ.name] = values.get(organ.name, ()) + label_values(value, name, path)
    others = label_values(content.get("other", []), "other", path)
    every = [value for sources in values.values() for value in sources] + sorted(set(others))
    _check_values(every, values, path)
    return LabelScheme(path.name, values, frozenset(others), table=table)


def _scheme_of_dataset(labels: DatasetLabels, path: Path, table: LabelTable) -> LabelScheme:
    """What a data set's values mean in a table; names that it lacks are background, and named."""
    if labels.regions and table == FLARE13:
        raise InputError(
            "labels that do not overlap",
            found="regions of several labels (regions_class_order)",
            remedy="map each value to one organ in a TOML file with the table 'labels', and name "
            "that instead",
            where=path,
        )
    names = _structure_names([*labels.values, *labels.regions])
    values: dict[str, tuple[int, ...]] = {}
    unrecognised: list[str] = []
    others: set[int] = set()
    for name, sources in labels.values.items():
        try:
            organ = table.by_name.get(names[name]) or recognise_organ(name, table)
        except UsageError:
            others.update(sources)
            unrecognised.append(name)
        else:
            values[organ.name] = values.get(organ.name, ()) + sources
    every = [value for sources in values.values() for value in sources]
    every += [0 for name in labels.background if _is_organ(name, table)]
    _check_values(every, values, path, table)
    return LabelScheme(
        path.name,
        values,
        frozenset(others),
        tuple(unrecognised),
        table,
        frozenset(labels.unlabelled),
    )


def _check_values(
    every: list[int],
    values: dict[str, tuple[int, ...]],
    path: Path,
    table: LabelTable = FLARE13,
) -> None:
    """Refuse a value with several meanings, background with one, and a mapping of nothing."""
    if repeated := {value for value in every if every.count(value) > 1}:
        raise InputError(
            "one meaning a value", found=f"several of {min(repeated)}", remedy=_REMEDY, where=path
        )
    if 0 in every:
        raise InputError("0 to be background", found="a meaning for it", remedy=_REMEDY, where=path)
    if not values:
        least = (
            "one of the thirteen organs" if table == FLARE13 else f"one structure of {table.name}"
        )
        raise InputError(f"at least {least}", found="none", remedy=_REMEDY, where=path)


def _is_organ(name: str, table: LabelTable) -> bool:
    try:
        return bool(recognise_organ(name, table))
    except UsageError:
        return False


def _structure_names(names: Iterable[str]) -> dict[str, str]:
    """For each name of a data set one that can be a file; that of our organ, where it is one."""
    result: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_.+\-]+", "_", name).strip("_-.+")[:60] or "structure"
        try:
            organ = recognise_organ(name).name
        except UsageError:
            organ = plain
        taken = {other.lower() for other in result.values()}
        choices = (organ, plain, *(f"{plain}_{n}" for n in range(2, len(taken) + 4)))
        result[name] = next(
            choice
            for choice in choices
            if choice.lower() not in taken and is_structure_name(choice)
        )
    return result


def _pairs(names: Iterable[str]) -> dict[str, tuple[Laterality, str]]:
    """Side and partner of structures whose names differ in left and right alone."""
    every = {name.lower(): name for name in names}
    pairs: dict[str, tuple[Laterality, str]] = {}
    for name in every.values():
        match = _SIDE.fullmatch(name)
        if match is None or name in FLARE13.by_name:
            continue
        side: Laterality = "left" if match["side"].lower() == "left" else "right"
        other = f"{match['before']}{_OTHER_SIDE[side]}{match['after']}".lower()
        if other in every:
            pairs[name] = side, every[other]
    return pairs
