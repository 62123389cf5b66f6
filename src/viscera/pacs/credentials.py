"""Credentials of a DICOMweb server: from the environment or a file, never from a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from viscera.errors import UsageError
from viscera.runtime.small_files import read_toml_file

USER, PASSWORD, TOKEN = "VISCERA_PACS_USER", "VISCERA_PACS_PASSWORD", "VISCERA_PACS_TOKEN"
_KEYS = ("user", "password", "token")


@dataclass(frozen=True)
class Credentials:
    """Who calls a server; no part of it is shown where the object is printed.

    Attributes:
        user: for HTTP Basic, with `password`.
        password: of the user.
        token: for HTTP Bearer.
    """

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.token)


def read_credentials(
    path: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Credentials:
    """Credentials of a file, or else of the environment.

    Args:
        path: a TOML file with `user` and `password`, or with `token`.
        environment: with VISCERA_PACS_USER and VISCERA_PACS_PASSWORD, or VISCERA_PACS_TOKEN.

    Raises:
        UsageError: the file is none of these, or a part is missing.
    """
    if path is None:
        values = {key: environment.get(f"VISCERA_PACS_{key.upper()}", "") for key in _KEYS}
    else:
        values = _read_file(path)
    credentials = Credentials(**values)
    if not (credentials.token.isascii() and credentials.token.isprintable()):
        raise UsageError(
            "a token of letters, digits and signs",
            found="one with other characters, such as the end of a line",
            remedy="correct it",
            where=path,
        )
    is_half = bool(credentials.user) != bool(credentials.password)
    if is_half or (credentials.user and credentials.token):
        raise UsageError(
            "user and password, or a token",
            found=", ".join(key for key in _KEYS if values.get(key)),
            remedy=f"set {USER} and {PASSWORD}, or {TOKEN}" if path is None else "correct it",
            where=path,
        )
    return credentials


def _read_file(path: Path) -> dict[str, str]:
    remedy = "write a TOML file with user and password, or with token"
    expected = "a file of credentials"
    try:
        table = read_toml_file(path)
    except OSError as error:
        problem = error.strerror or "a file that cannot be read"
        raise UsageError(expected, found=problem, remedy=remedy, where=path) from error
    except ValueError:  # its text may hold what nobody may read
        raise UsageError(expected, found="no TOML", remedy=remedy, where=path) from None
    unknown = [key for key, value in table.items() if key not in _KEYS or type(value) is not str]
    if unknown or not table:
        problem = f"the key {unknown[0]!r}" if unknown else "an empty one"
        raise UsageError(expected, found=problem, remedy=remedy, where=path)
    return table
