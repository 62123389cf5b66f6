"""What a scan shows, and in what state it is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from viscera.findings import Finding

Coverage = Literal["whole", "cut", "outside", "not seen"]
Phase = Literal["unenhanced", "arterial", "portal venous", "late"]


@dataclass(frozen=True)
class ScanExamination:
    """What a scan shows, and in what state it is.

    Attributes:
        body_parts: chest, abdomen and pelvis, those of which it shows a good part.
        coverage: of each organ: whole; cut by the scan; outside, as its usual place lies beyond
            the scan; or not seen, though it should be there or nothing tells where it should be.
        phase: of the contrast; None where nothing tells.
        median_hu: of the organs that tell the phase, by name.
        noise_hu: standard deviation in the liver, or in what is as grey; None without either.
        slices: how many there are.
        slice_mm: distance of their planes.
        findings: what is unusual.
    """

    body_parts: tuple[str, ...]
    coverage: dict[str, Coverage]
    phase: Phase | None
    median_hu: dict[str, float]
    noise_hu: float | None
    slices: int
    slice_mm: float
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    def only(self, organs: Collection[str]) -> ScanExamination:
        """The same with the coverage of these organs alone.

        Args:
            organs: names.
        """
        coverage = {name: how for name, how in self.coverage.items() if name in organs}
        return replace(self, coverage=coverage)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, without the findings."""
        table = asdict(self)
        del table["findings"]
        table["body_parts"] = list(self.body_parts)
        return table
