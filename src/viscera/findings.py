"""Findings: what a check noticed about an input, and what was done about it.

A check never repairs in silence. It returns findings, and they travel with the volume into the
run's report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from viscera.errors import Wording, python_wording

Level = Literal["info", "fixed", "warning"]


@dataclass(frozen=True, slots=True, repr=False)
class Finding:
    """One thing a check noticed.

    Attributes:
        level: ``info`` needs no action, ``fixed`` was repaired, ``warning`` deserves a look.
        code: short stable name, such as ``affine-from-qform``.
        raw_message: what was found, in one sentence; options in it are not spelled out yet.
        raw_hint: what the user can do about it, likewise; empty where nothing needs doing.
    """

    level: Level
    code: str
    raw_message: str
    raw_hint: str = ""

    @property
    def message(self) -> str:
        """What was found, in one sentence."""
        return python_wording(self.raw_message)

    @property
    def hint(self) -> str:
        """What the user can do about it; empty where nothing needs doing."""
        return python_wording(self.raw_hint)

    def __repr__(self) -> str:
        return f"<Finding {self.level} {self.code}: {self.text()}>"

    def __str__(self) -> str:
        return self.text()

    def text(self, wording: Wording = python_wording) -> str:
        """Message and hint in one line.

        Args:
            wording: how options are spelled.
        """
        hint = f"; {self.raw_hint}" if self.raw_hint else ""
        return wording(self.raw_message + hint)

    def as_dict(self, wording: Wording = python_wording) -> dict[str, str]:
        """The finding as a JSON-ready dictionary.

        Args:
            wording: how options are spelled.
        """
        return {
            "level": self.level,
            "code": self.code,
            "message": wording(self.raw_message),
            "hint": wording(self.raw_hint),
        }
