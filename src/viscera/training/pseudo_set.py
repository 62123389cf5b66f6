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

from viscera.errors import InputError
from viscera.io.atomic import write_text
from viscera.organs import ORGANS
from viscera.results import Results
from viscera.segmentation import Segmentation
from viscera.stages import Stages
from viscera.training.pseudo import Trust, weight_of

LIST, TRUST = "cases.csv", "trust.csv"


@dataclass(frozen=True)
class _Judged:
    """What stands in a case's JSON."""

    made_by: str
    image: str
    trusts: tuple[Trust, ...]


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
            judged = self._read(self._judgement(case))
        except InputError:
            return None
        same = judged.made_by == made_by and self.results(case, made_by).ours(source)
        return judged.trusts if same else None

    def add(
        self,
        case: str,
        source: Path,
        segmentation: Segmentation,
        trusts: Sequence[Trust],
        made_by: str,
    ) -> None:
        """Write a case's labels and what was judged of them.

        Raises:
            OutputError: not writable, or labels that something else made stand there.
        """
        self.results(case, made_by).write(segmentation, Stages())
        organs = [asdict(trust) for trust in trusts]
        image = os.path.relpath(source, self.folder)
        content = {"made_by": made_by, "image": image, "organs": organs}
        self._judgement(case).parent.mkdir(parents=True, exist_ok=True)
        write_text(self._judgement(case), json.dumps(content, indent=1), overwrite=True)

    def list_cases(self) -> None:
        """Write both lists, of all cases that were ever labelled into this folder.

        A case in which nothing is believed stands in the second only.

        Raises:
            InputError: a judgement is damaged.
        """
        rows: list[dict[str, Any]] = []
        reasons: list[dict[str, Any]] = []
        for path in sorted(self.folder.glob("trust/*.json")):
            case, judged = path.stem, self._read(path)
            trusts = judged.trusts
            # Also what this network cannot find is not to be taught as background.
            believed = {trust.organ for trust in trusts if trust.believed}
            if weight := weight_of(trusts):
                rows.append(
                    {
                        "case": case,
                        "image": judged.image,
                        "labels": f"labelsTr/{case}.nii.gz",
                        "patient": case,
                        "weight": weight,
                        "ignore": " ".join(o.name for o in ORGANS if o.name not in believed),
                        "pseudo": "yes",
                    }
                )
            reasons += [
                {"case": case, **asdict(trust), "believed": "yes" if trust.believed else "no"}
                for trust in trusts
            ]
        columns = ("case", "image", "labels", "patient", "weight", "ignore", "pseudo")
        self._table(LIST, columns, rows)
        columns = ("case", "organ", "believed", "confidence", "volume_ml", "largest", "reason")
        self._table(TRUST, columns, reasons)

    def _read(self, path: Path) -> _Judged:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            trusts = tuple(Trust(**entry) for entry in content["organs"])
            return _Judged(content["made_by"], content["image"], trusts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            remedy = "remove it and label the scan again"
            raise InputError("a judgement", found=str(error), remedy=remedy, where=path) from error

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
