"""Conventions by name, or from a user's file.

The file is TOML:

    other = [14, 15]              # values that stand for nothing of ours
    [labels]
    liver = 6
    stomach = [7, 16]             # several values may make one organ

or a nnU-Net ``dataset.json``, whose names are recognised where they can be.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from viscera.conventions import BUILT_IN, HIGHEST, Convention
from viscera.errors import InputError, UsageError
from viscera.io.read import stands
from viscera.organs import select

# Names that data sets use for our organs, beside ours.
_ALIASES = {
    "ivc": "inferior_vena_cava", "postcava": "inferior_vena_cava",
    "rk": "kidney_right", "lk": "kidney_left",
    "rag": "adrenal_gland_right", "lag": "adrenal_gland_left",
    "right_adrenal_gland": "adrenal_gland_right", "left_adrenal_gland": "adrenal_gland_left",
    "gall_bladder": "gallbladder", "oesophagus": "esophagus",
}  # fmt: skip


def open_convention(name_or_file: str | Path | Convention) -> Convention:
    """A built-in convention by name, or one from a file.

    Raises:
        UsageError: neither.
        InputError: a file that is no mapping.
    """
    if isinstance(name_or_file, Convention):
        return name_or_file
    if str(name_or_file).lower() in BUILT_IN:
        return BUILT_IN[str(name_or_file).lower()]
    path = Path(name_or_file)
    if not stands(path):
        names = ", ".join(BUILT_IN)
        found = repr(str(name_or_file))
        remedy = "name one of these, or a mapping file"
        raise UsageError(f"{names}, or a file", found=found, remedy=remedy)
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() == ".json"
        content = json.loads(text) if is_json else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise _refuse("TOML or JSON", str(error), path) from error
    return _from_table(content, path, named_by_us=not is_json)


def _from_table(content: Any, path: Path, *, named_by_us: bool) -> Convention:
    """The mapping of a file; names that are none of ours are an error in our own format only."""
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise _refuse("a table 'labels' of organ names and values", "none", path)
    if named_by_us and (extra := set(content) - {"labels", "other"}):
        raise _refuse("the keys 'labels' and 'other' only", repr(min(extra)), path)
    if not named_by_us and all(str(key).isdigit() for key in content["labels"]):
        # The first version of nnU-Net's file has it the other way round.
        turned = {str(name): int(value) for value, name in content["labels"].items()}
        content = {**content, "labels": turned}
    values: dict[str, tuple[int, ...]] = {}
    others = set(_whole(content.get("other", []), "other", path)) if named_by_us else set()
    for name, value in content["labels"].items():
        sources = _whole(value, name, path)
        try:
            key = _ALIASES.get(str(name).strip().lower().replace(" ", "_").replace("-", "_"), name)
            (organ,) = select([key])
        except UsageError as error:
            if named_by_us:
                raise _refuse("an organ's name", repr(name), path, error.remedy) from error
            others.update(sources)
            continue
        values[organ.name] = values.get(organ.name, ()) + sources
    every = [value for sources in values.values() for value in sources] + sorted(others)
    if twice := {value for value in every if every.count(value) > 1}:
        raise _refuse("one meaning a value", f"several of {min(twice)}", path)
    if 0 in every:
        if named_by_us or any(0 in sources for sources in values.values()):
            raise _refuse("0 to be background", "a meaning for it", path)
        others.discard(0)
    if not values:
        raise _refuse("at least one of the thirteen organs", "none", path)
    return Convention(path.name, values, frozenset(others))


def _whole(value: Any, name: str, path: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not all(type(v) is int and 0 <= v <= HIGHEST for v in values):
        raise _refuse(f"whole numbers from 0 to {HIGHEST} for '{name}'", repr(value), path)
    return tuple(values)


def _refuse(expected: str, found: str, path: Path, remedy: str = "mend the file") -> InputError:
    return InputError(expected, found=found, remedy=remedy, where=path)
