"""The data set that pseudo-labelling leaves: it trains as it is.

``labelsTr/CASE.nii.gz`` holds the labels, ``trust/CASE.json`` what was judged, ``cases.csv`` the
list that `viscera train` takes, ``trust.csv`` why an organ was believed or not.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from viscera.io.atomic import write_text
from viscera.results import Results
from viscera.stages import Stages
from viscera.training.pseudo import Trust, weight_of
from viscera.volume import Segmentation

LIST, TRUST = "cases.csv", "trust.csv"


@dataclass(frozen=True)
class PseudoSet:
    """One such folder.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    def results(self, case: str, made_by: str) -> Results:
        """Where a case's labels go.

        Args:
            case: its name.
            made_by: mark of the scan, the bundle and all settings.
        """
        return Results(self.folder / "labelsTr" / f"{case}.nii.gz", made_by=made_by)

    def finished(self, case: str, source: Path, made_by: str) -> tuple[Trust, ...] | None:
        """What was judged of a case, None unless all of it stands and was made so."""
        try:
            content = json.loads(self._judgement(case).read_text(encoding="utf-8"))
            trusts = tuple(Trust(**entry) for entry in content["organs"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        ours = content["made_by"] == made_by and self.results(case, made_by).ours(source)
        return trusts if ours else None

    def add(
        self, case: str, segmentation: Segmentation, trusts: Sequence[Trust], made_by: str
    ) -> None:
        """Write a case's labels and what was judged of them.

        Raises:
            OutputError: not writable, or labels that something else made stand there.
        """
        self.results(case, made_by).write(segmentation, Stages())
        content = {"made_by": made_by, "organs": [asdict(trust) for trust in trusts]}
        self._judgement(case).parent.mkdir(parents=True, exist_ok=True)
        write_text(self._judgement(case), json.dumps(content, indent=1), overwrite=True)

    def list_cases(self, judged: dict[str, tuple[Path, Sequence[Trust]]]) -> None:
        """Write both lists; a case in which nothing is believed stands in the second only.

        Args:
            judged: each case's scan and judgement.
        """
        rows: list[dict[str, Any]] = []
        for case, (source, trusts) in judged.items():
            if weight := weight_of(trusts):
                rows.append(
                    {
                        "case": case,
                        "image": os.path.relpath(source, self.folder),
                        "labels": f"labelsTr/{case}.nii.gz",
                        "patient": case,
                        "weight": weight,
                        "ignore": " ".join(trust.organ for trust in trusts if not trust.believed),
                        "pseudo": "yes",
                    }
                )
        columns = ("case", "image", "labels", "patient", "weight", "ignore", "pseudo")
        self._table(LIST, columns, rows)
        reasons = [
            {"case": case, **asdict(trust), "believed": "yes" if trust.believed else "no"}
            for case, (_, trusts) in judged.items()
            for trust in trusts
        ]
        columns = ("case", "organ", "believed", "confidence", "volume_ml", "largest", "reason")
        self._table(TRUST, columns, reasons)

    def _judgement(self, case: str) -> Path:
        return self.folder / "trust" / f"{case}.json"

    def _table(self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(shown)
        write_text(self.folder / name, text.getvalue(), overwrite=True)
