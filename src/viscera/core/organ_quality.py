"""How far one organ of a result can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["good", "check", "fail"]
VERDICTS: tuple[Verdict, ...] = ("good", "check", "fail")


@dataclass(frozen=True)
class OrganQuality:
    """A verdict on one organ, and why.

    Attributes:
        organ: its name.
        verdict: ``good``, ``check`` (look at it), or ``fail`` (do not use it).
        estimated_dsc: the DSC with labels drawn by a person that is to be expected, from 0 to 1;
            of an organ that was not found, how likely it is that there is none. None where it
            cannot be estimated.
        interval: four of five true values lie within; None without an estimate.
        reasons: what speaks against it or explains the verdict, in words.
        measures: what the estimate was made from, see `viscera.quality.features`.
    """

    organ: str
    verdict: Verdict
    estimated_dsc: float | None = None
    interval: tuple[float, float] | None = None
    reasons: tuple[str, ...] = ()
    measures: Mapping[str, float | bool | None] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, without the organ's name."""
        table = asdict(self)
        del table["organ"]
        table["interval"] = None if self.interval is None else list(self.interval)
        table["reasons"] = list(self.reasons)
        return table
