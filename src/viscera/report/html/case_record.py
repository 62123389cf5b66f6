"""What the page of a case says to programs: the part from which a cohort's page is made."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from viscera.runtime.small_files import read_text_file
from viscera.segmentation import Segmentation

_BLOCK = re.compile(r'<script type="application/json" id="case-record">(.*?)</script>', re.DOTALL)
_MOST_BYTES = 50_000_000


@dataclass(frozen=True)
class CaseRecord:
    """One case in a cohort.

    Attributes:
        name: of the case.
        phase: of its contrast; empty where it is unknown.
        volumes_ml: by organ.
        verdicts: by organ.
        deviations_sd: of the volumes that are whole, in standard deviations, by organ.
        cut: organs that the scan cuts.
        warnings: texts of its warnings.
        titles: for people, by organ.
        colours: red, green, blue, by organ.
    """

    name: str
    phase: str
    volumes_ml: dict[str, float]
    verdicts: dict[str, str]
    deviations_sd: dict[str, float]
    cut: list[str]
    warnings: list[str]
    titles: dict[str, str] = field(default_factory=dict)
    colours: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, segmentation: Segmentation) -> CaseRecord:
        """The record of a result."""
        examination, cut = segmentation.examination, segmentation.cut_organs()
        volumes_ml = segmentation.volumes_ml()
        return cls(
            segmentation.volume.name,
            (examination.phase or "") if examination else "",
            {name: round(volume_ml, 3) for name, volume_ml in volumes_ml.items()},
            {name: quality.verdict for name, quality in segmentation.quality.items()},
            {
                name: round(float(quality.measures["volume_sd"] or 0), 2)
                for name, quality in segmentation.quality.items()
                if volumes_ml[name] and name not in cut
            },
            list(cut),
            [f.message for f in segmentation.findings if f.level == "warning"],
            {organ.name: organ.title for organ in segmentation.organs},
            {organ.name: list(organ.colour) for organ in segmentation.organs},
        )

    @property
    def rank(self) -> tuple[float, ...]:
        """What deserves a look first comes first."""
        verdicts = list(self.verdicts.values())
        strangest = max((abs(value) for value in self.deviations_sd.values()), default=0.0)
        return -verdicts.count("fail"), -verdicts.count("check"), -len(self.warnings), -strangest

    def to_json(self) -> str:
        """As it stands in a page; no tag can begin in it."""
        return json.dumps(asdict(self), ensure_ascii=False).replace("<", "\\u003c")


_EMPTY = CaseRecord("", "", {}, {}, {}, [], [])


def read_case_record(page: Path) -> CaseRecord | None:
    """The record in a page of a case; None where it is no such page.

    Args:
        page: an HTML file.
    """
    try:
        match = _BLOCK.search(read_text_file(page, most_bytes=_MOST_BYTES))
        table: Any = json.loads(match[1]) if match else None
        record = CaseRecord(**table) if isinstance(table, dict) else None
        is_whole = record is not None and all(
            isinstance(value, type(getattr(_EMPTY, name))) for name, value in vars(record).items()
        )
        return record if is_whole else None
    except (OSError, ValueError, TypeError):
        return None
