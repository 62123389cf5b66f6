"""Findings: what a check noticed about an input, and what was done about it.

A check never repairs in silence. It returns findings, and they travel with the volume into the
run's report.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["info", "fixed", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check noticed.

    Attributes:
        level: ``info`` needs no action, ``fixed`` was repaired, ``warning`` deserves a look.
        code: short stable name, such as ``affine-from-qform``.
        message: what was found, in one sentence.
        hint: what the user can do about it; empty where nothing needs doing.
    """

    level: Level
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def as_dict(self) -> dict[str, str]:
        """The finding as a JSON-ready dictionary."""
        return asdict(self)
