"""Label schemes by name, or from a user's file.

The file is TOML:

    other = [14, 15]              # values that stand for nothing of ours
    [labels]
    liver = 6
    stomach = [7, 16]             # several values may make one organ

or a nnU-Net ``dataset.json``, whose names are recognised where they can be.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from viscera.core.label_map import LabelMap
from viscera.core.label_schemes import FLARE, LABEL_SCHEMES, LabelScheme
from viscera.core.organs import FLARE13, LabelTable
from viscera.errors import InputError, UsageError
from viscera.io.dataset_json import DatasetLabels, dataset_labels, label_values
from viscera.io.organ_names import is_organ, recognise_organ, structure_names
from viscera.io.read import path_exists
from viscera.runtime.small_files import read_json_file, read_toml_file

_REMEDY = "correct the file"


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
    content = read_mapping_file(path)
    if path.suffix.lower() == ".json":
        return scheme_of_dataset(dataset_labels(content, path), path, table)
    return _scheme_of_mapping(content, path, table)


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


def read_mapping_file(path: Path) -> Any:
    """The content of a TOML or JSON file.

    Raises:
        InputError: it is neither.
    """
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


def scheme_of_dataset(labels: DatasetLabels, path: Path, table: LabelTable) -> LabelScheme:
    """What a data set's values mean in a table; names that it lacks are background, and named.

    Args:
        labels: of its dataset.json.
        path: of that file.
        table: the organs that values are to mean.

    Raises:
        InputError: nothing of the table is there, or values contradict each other.
    """
    if labels.regions and table == FLARE13:
        raise InputError(
            "labels that do not overlap",
            found="regions of several labels (regions_class_order)",
            remedy="map each value to one organ in a TOML file with the table 'labels', and name "
            "that instead",
            where=path,
        )
    names = structure_names([*labels.values, *labels.regions])
    values: dict[str, tuple[int, ...]] = {}
    unrecognised: list[str] = []
    others: set[int] = set()
    for name, sources in labels.values.items():
        organ = table.by_name.get(names[name])
        if organ is None and is_organ(name, table):
            organ = recognise_organ(name, table)
        if organ is None:
            others.update(sources)
            unrecognised.append(name)
        else:
            values[organ.name] = values.get(organ.name, ()) + sources
    every = [value for sources in values.values() for value in sources]
    every += [0 for name in labels.background if is_organ(name, table)]
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
