"""Strict TOML: tables into frozen dataclasses, where an unknown key or a wrong type is an error.

And back: tables as TOML.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from viscera.errors import BundleError

T = TypeVar("T")
_MOST = 1e12


def build(kind: type[T], table: Any, where: Path, at: str = "", *, skip: tuple[str, ...] = ()) -> T:
    """A dataclass from a table, its nested tables included.

    Args:
        kind: the dataclass; fields without default are required.
        table: what TOML gave.
        where: the file, for messages.
        at: dotted place within the file.
        skip: fields that the file may not set.

    Raises:
        BundleError: unknown or missing key, wrong type, or a value that the dataclass refuses.
    """
    if not isinstance(table, dict):
        raise _refuse(f"a table at [{at}]", repr(table), where)
    hints = typing.get_type_hints(kind)
    every = dataclasses.fields(kind)  # type: ignore[arg-type]
    fields = {f.name: f for f in every if f.name not in skip}
    prefix = f"{at}." if at else ""
    for key in table:
        if key not in fields:
            near = get_close_matches(key, fields, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
            raise BundleError("a known key", found=f"'{prefix}{key}'", remedy=remedy, where=where)
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], where, prefix + name)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise _refuse(f"the key '{prefix}{name}'", "none", where)
    try:
        return kind(**values)
    except ValueError as error:
        expected, _, found = str(error).partition(", found ")
        place = f" in [{at}]" if at else ""
        raise _refuse(expected + place, found or "something else", where) from error


def _convert(hint: Any, value: Any, where: Path, at: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        hint = next(option for option in inner if option is not type(None))
        return _convert(hint, value, where, at)
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where, at)  # type: ignore[arg-type]
    if origin is tuple:
        wanted = len(inner) if inner[-1] is not Ellipsis else None
        if not isinstance(value, list) or wanted not in (None, len(value)):
            length = f"{wanted} values" if wanted else "a list"
            raise _refuse(f"{length} at '{at}'", repr(value), where)
        return tuple(_convert(inner[0], item, where, at) for item in value)
    if origin is typing.Literal:
        if value not in inner:
            raise _refuse(f"one of {', '.join(map(repr, inner))} at '{at}'", repr(value), where)
        return value
    if hint is float and type(value) in (int, float) and abs(value) < _MOST:
        return float(value)
    if hint is float:  # NaN and infinity are TOML, but nothing here means them
        raise _refuse(f"float at '{at}'", repr(value)[:40], where)
    if hint is not Any and type(value) is not hint:
        raise _refuse(f"{hint.__name__} at '{at}'", repr(value), where)
    return value


def _refuse(expected: str, found: str, where: Path) -> BundleError:
    return BundleError(expected, found=found, remedy="mend the file", where=where)


def written(table: dict[str, Any]) -> str:
    """A table as TOML: what `tomllib` reads and does not write."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not _nested(value)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *(f"{k} = {_value(v)}" for k, v in value.items())]
        elif _nested(value):
            for each in value:
                lines += ["", f"[[{key}]]", *(f"{k} = {_value(v)}" for k, v in each.items())]
    return "\n".join(lines) + "\n"


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return repr(value)
