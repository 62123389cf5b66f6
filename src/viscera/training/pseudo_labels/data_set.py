"""The data set that pseudo-labelling writes, ready for training.

``labelsTr/CASE.nii.gz`` holds the labels, ``quality/CASE.json`` the quality of every organ,
``cases.csv`` the list that `viscera train` takes, ``quality.csv`` why an organ was accepted or not.
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

from viscera.batch.outputs import CaseOutputs, OutputOptions
from viscera.core.organs import ORGANS_BY_NAME
from viscera.errors import InputError
from viscera.runtime.atomic_files import write_text
from viscera.runtime.digests import file_sha256
from viscera.runtime.small_files import read_json_file
from viscera.runtime.stages import Stages
from viscera.segmentation import Segmentation
from viscera.training.pseudo_labels.quality import LabelQuality, case_weight

CASE_LIST, QUALITY_LIST = "cases.csv", "quality.csv"


@dataclass(frozen=True)
class _CaseQuality:
    """The content of a case's JSON."""

    signature: str
    image: str
    qualities: tuple[LabelQuality, ...]
    labels_sha256: str


@dataclass(frozen=True)
class PseudoLabelSet:
    """The folder of such a data set.

    Attributes:
        folder: where it lies.
        overwrite: replace labels of another origin.
    """

    folder: Path
    overwrite: bool = False

    def outputs(self, case: str, signature: str) -> CaseOutputs:
        """Where a case's labels go.

        Args:
            case: its name.
            signature: digest of the scan, the bundle and all settings.
        """
        path = self.folder / "labelsTr" / f"{case}.nii.gz"
        return CaseOutputs(path, OutputOptions(overwrite=self.overwrite), signature)

    def finished(self, case: str, signature: str) -> tuple[LabelQuality, ...] | None:
        """The organ qualities of a finished case, None unless all of it is there and up to date.

        Args:
            case: its name.
            signature: digest of the scan, the bundle and all settings.
        """
        try:
            stored = self._read(self._quality_path(case))
        except InputError:
            return None
        labels_path = self.outputs(case, signature).labels_path
        is_same = stored.signature == signature and labels_path.is_file()
        is_whole = is_same and file_sha256(labels_path) == stored.labels_sha256
        return stored.qualities if is_whole else None

    def add(
        self,
        case: str,
        source: Path,
        segmentation: Segmentation,
        qualities: Sequence[LabelQuality],
        signature: str,
    ) -> None:
        """Write a case's labels and organ qualities.

        Args:
            case: its name.
            source: its scan.
            segmentation: the labels.
            qualities: of every organ.
            signature: digest of the scan, the bundle and all settings.

        Raises:
            OutputError: not writable, or labels of another origin exist.
        """
        outputs = self.outputs(case, signature)
        outputs.write(segmentation, Stages())
        organs = [asdict(quality) for quality in qualities]
        image = os.path.relpath(source, self.folder)
        content = {
            "made_by": signature,
            "image": image,
            "labels_sha256": file_sha256(outputs.labels_path),
            "organs": organs,
        }
        path = self._quality_path(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content, indent=1), overwrite=True)

    def list_cases(self) -> None:
        """Write both lists, of all cases that were ever labelled into this folder.

        A case without an accepted organ stands in the second only.

        Raises:
            InputError: a file of qualities is damaged.
        """
        case_rows: list[dict[str, Any]] = []
        quality_rows: list[dict[str, Any]] = []
        for path in sorted(self.folder.glob("quality/*.json")):
            case, stored = path.stem, self._read(path)
            accepted = {quality.organ for quality in stored.qualities if quality.accepted}
            if weight := case_weight(stored.qualities):
                # Also what this network cannot find is not to be taught as background.
                names = [quality.organ for quality in stored.qualities]
                if all(name in ORGANS_BY_NAME for name in names):
                    names = [*ORGANS_BY_NAME]
                ignored = " ".join(name for name in names if name not in accepted)
                case_rows.append(
                    {
                        "case": case,
                        "image": stored.image,
                        "labels": f"labelsTr/{case}.nii.gz",
                        "patient": case,
                        "weight": weight,
                        "ignore": ignored,
                        "pseudo": "yes",
                    }
                )
            quality_rows += [
                {"case": case, **asdict(quality), "accepted": "yes" if quality.accepted else "no"}
                for quality in stored.qualities
            ]
        columns = ("case", "image", "labels", "patient", "weight", "ignore", "pseudo")
        self._write_table(CASE_LIST, columns, case_rows)
        columns = (
            "case",
            "organ",
            "accepted",
            "confidence",
            "volume_ml",
            "largest_share",
            "reason",
        )
        self._write_table(QUALITY_LIST, columns, quality_rows)

    def _read(self, path: Path) -> _CaseQuality:
        try:
            content = read_json_file(path)
            qualities = tuple(LabelQuality(**entry) for entry in content["organs"])
            return _CaseQuality(
                content["made_by"],
                content["image"],
                qualities,
                content.get("labels_sha256", ""),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            remedy = "remove it and label the scan again"
            raise InputError(
                "organ qualities", found=str(error), remedy=remedy, where=path
            ) from error

    def _quality_path(self, case: str) -> Path:
        return self.folder / "quality" / f"{case}.json"

    def _write_table(
        self, name: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]
    ) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(shown)
        write_text(self.folder / name, text.getvalue(), overwrite=True)
