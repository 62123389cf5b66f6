"""Strict TOML: tables into frozen dataclasses, and tables as TOML again.

An unknown key or a wrong type is an error that names the place and the nearest known key, which no
TOML library at hand does.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from viscera.errors import BundleError, UsageError, VisceraError

T = TypeVar("T")
# They end in terminals, tables and file names; line ends and tabs are text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_HIGHEST_NUMBER = 1e12
_REMEDY = "correct the file"


def load_dataclass(
    kind: type[T],
    table: Any,
    where: Path,
    *,
    skip: tuple[str, ...] = (),
    error: type[VisceraError] = BundleError,
) -> T:
    """A dataclass from a table, its nested tables included.

    Args:
        kind: the dataclass; fields without default are required.
        table: what TOML gave.
        where: the file, for messages.
        skip: fields that the file may not set.
        error: raised where the table does not fit.

    Raises:
        VisceraError: unknown or missing key, wrong type, or a value that the dataclass refuses.
    """
    return _Loader(where, error).load(kind, table, "", skip)


class _Loader:
    """Loads the tables of one file."""

    def __init__(self, where: Path, error: type[VisceraError]) -> None:
        self._where, self._error = where, error

    def load(self, kind: type[T], table: Any, place: str, skip: tuple[str, ...] = ()) -> T:
        """A dataclass from the table at a dotted place within the file."""
        if not isinstance(table, dict):
            raise self._refusal(f"a table at [{place}]", repr(table))
        hints = typing.get_type_hints(kind)
        every_field = dataclasses.fields(kind)  # type: ignore[arg-type]
        fields = {field.name: field for field in every_field if field.name not in skip}
        prefix = f"{place}." if place else ""
        self._check_keys(table, fields, prefix)
        values = {}
        for name, field in fields.items():
            if name in table:
                values[name] = self._convert(hints[name], table[name], prefix + name)
            elif field.default is field.default_factory is dataclasses.MISSING:
                raise self._refusal(f"the key '{prefix}{name}'", "none")
        try:
            return kind(**values)
        except UsageError as refusal:
            within = f" in [{place}]" if place else ""
            raise self._refusal(refusal.expected + within, refusal.found) from refusal

    def _check_keys(self, table: dict[str, Any], fields: Mapping[str, object], prefix: str) -> None:
        for key in table:
            if key not in fields:
                near = get_close_matches(key, fields, n=1)
                remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
                raise self._error(
                    "a known key", found=f"'{prefix}{key}'", remedy=remedy, where=self._where
                )

    def _convert(self, hint: Any, value: Any, place: str) -> Any:
        """A value of TOML as a field's type."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (types.UnionType, typing.Union):
            hint = next(option for option in arguments if option is not type(None))
            return self._convert(hint, value, place)
        if dataclasses.is_dataclass(hint):
            return self.load(hint, value, place)  # type: ignore[arg-type]
        if origin is tuple:
            length = len(arguments) if arguments[-1] is not Ellipsis else None
            if not isinstance(value, list) or length not in (None, len(value)):
                expected = f"{length} values" if length else "a list"
                raise self._refusal(f"{expected} at '{place}'", repr(value))
            return tuple(self._convert(arguments[0], item, place) for item in value)
        if origin is typing.Literal:
            if value not in arguments:
                names = ", ".join(map(repr, arguments))
                raise self._refusal(f"one of {names} at '{place}'", repr(value))
            return value
        if hint is float and type(value) in (int, float) and abs(value) < _HIGHEST_NUMBER:
            return float(value)
        if hint is float:  # NaN and infinity are TOML, but nothing here means them
            raise self._refusal(f"float at '{place}'", repr(value)[:40])
        if hint is not Any and type(value) is not hint:
            raise self._refusal(f"{hint.__name__} at '{place}'", repr(value))
        if type(value) is str and _CONTROL.search(value):
            raise self._refusal(f"text without control characters at '{place}'", repr(value)[:80])
        return value

    def _refusal(self, expected: str, found: str) -> VisceraError:
        return self._error(expected, found=found, remedy=_REMEDY, where=self._where)


def dump_toml(table: dict[str, Any]) -> str:
    """A table as TOML, for what `tomllib` reads and does not write.

    Args:
        table: keys to values, to tables, or to lists of tables; no deeper.
    """
    lines = [f"{key} = {_dump_value(v)}" for key, v in table.items() if not _is_table(v)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *(f"{k} = {_dump_value(v)}" for k, v in value.items())]
        elif _is_table(value):
            for row in value:
                lines += ["", f"[[{key}]]", *(f"{k} = {_dump_value(v)}" for k, v in row.items())]
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list | tuple) and bool(value) and isinstance(value[0], dict)
    )


def _dump_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's; TOML also wants DEL escaped (TOML 1.0, String).
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_dump_value, value)) + "]"
    return repr(value)
