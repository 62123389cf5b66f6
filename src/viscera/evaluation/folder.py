"""The folder of an evaluation: its tables and pictures, made anew from the scores each time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.core.volume import keep_labels
from viscera.errors import InputError, VisceraError
from viscera.evaluation.case import Evaluation
from viscera.evaluation.cohort import CaseOutcome, CasePair, EvaluationRules
from viscera.evaluation.match import match_labels
from viscera.evaluation.metrics_csv import metrics_csv
from viscera.evaluation.tables import evaluation_tables
from viscera.grid.reorient import reorient_to
from viscera.io.output_folder import reserve_output_folder
from viscera.io.read import read_volume
from viscera.report.charts.boxplot import boxplot_png
from viscera.report.pictures.examples import (
    ExampleCase,
    ExampleRow,
    best_and_worst,
    example_row,
    examples_png,
)
from viscera.runtime.atomic_files import atomic_write, write_text

_NAMES = ("cases", "cases.csv", "table.md", "boxplot.png", "examples.png", "summary.json")


@dataclass(frozen=True)
class EvaluationFolder:
    """Where the files of an evaluation go.

    Attributes:
        path: of the folder.
    """

    path: Path

    @property
    def cache_folder(self) -> Path:
        """Holds a file a case, from which a later call continues."""
        return self.path / "cases"

    def reserve(self, rules: EvaluationRules, *, overwrite: bool) -> None:
        """Check before the work that no other files, and none by other rules, will be replaced.

        Args:
            rules: of this evaluation.
            overwrite: replace an evaluation by other rules.

        Raises:
            OutputError: not writable, or it holds something else.
        """
        reserve_output_folder(
            self.path / "evaluation.json", rules.identity(), _NAMES, overwrite=overwrite
        )

    def write(
        self,
        summary: dict[str, Any],
        outcomes: Mapping[str, CaseOutcome],
        groups: Mapping[str, str] | None,
        rules: EvaluationRules,
    ) -> None:
        """Write cases.csv, table.md, boxplot.png and summary.json.

        Args:
            summary: of `summarise_cohort`.
            outcomes: by case.
            groups: case to group, where there are groups.
            rules: how the cases were evaluated.

        Raises:
            OutputError: disk full or not writable.
        """
        evaluations = [outcome for outcome in outcomes.values() if isinstance(outcome, Evaluation)]
        write_text(self.path / "cases.csv", metrics_csv(evaluations, groups), overwrite=True)
        write_text(self.path / "table.md", evaluation_tables(summary), overwrite=True)
        panels = [
            (
                title,
                [[getattr(e[organ.name], metric) for e in evaluations] for organ in rules.compared],
            )
            for metric, title in (("dsc", "DSC"), ("nsd", "NSD"))
        ]
        title = f"{len(evaluations)} cases, protocol {rules.protocol}"
        with atomic_write(self.path / "boxplot.png", overwrite=True) as file:
            file.write(boxplot_png(panels, rules.compared, title))
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(self.path / "summary.json", text, overwrite=True)

    def write_examples(
        self,
        pairs: Sequence[CasePair],
        outcomes: Mapping[str, CaseOutcome],
        rules: EvaluationRules,
    ) -> list[VisceraError]:
        """Write examples.png, the best and the worst cases that have a CT and a prediction.

        Where there is none, the picture of an earlier call is removed.

        Args:
            pairs: the cases.
            outcomes: by case.
            rules: how the cases were evaluated.

        Returns:
            What kept a case from being drawn.

        Raises:
            OutputError: disk full or not writable.
        """
        drawable = {pair.case: pair for pair in pairs if pair.image and pair.prediction}
        means = {
            case: outcome.mean()
            for case, outcome in outcomes.items()
            if isinstance(outcome, Evaluation) and case in drawable
        }
        best, worst = best_and_worst(means)
        rows, problems = [], []
        for word, cases in (("best", best), ("worst", worst)):
            for case in cases:
                title = f"{case}   {word}, mean DSC {means[case]:.3f}"
                try:
                    rows.append(_example_row(drawable[case], rules, title))
                except VisceraError as error:
                    problems.append(error)
        picture = self.path / "examples.png"
        if rows:
            with atomic_write(picture, overwrite=True) as file:
                file.write(examples_png(rows, rules.organs))
        else:
            picture.unlink(missing_ok=True)  # that of an earlier call shows other labels
        return problems


def _example_row(pair: CasePair, rules: EvaluationRules, title: str) -> ExampleRow:
    """One case of the picture; only one slice of it stays in memory."""
    assert pair.image is not None
    assert pair.prediction is not None
    prediction_map, truth_map = match_labels(
        pair.prediction,
        pair.truth,
        protocol=rules.protocol,
        prediction_labels=rules.prediction_labels,
        truth_labels=rules.truth_labels,
    )
    volume = read_volume(pair.image)
    hu = reorient_to(
        volume.data, volume.affine, shape=truth_map.values.shape, target=truth_map.affine
    )
    if hu is None:
        raise InputError(
            "a CT on the truth's grid",
            found=f"{volume!r}",
            remedy="the picture was made without it",
            where=pair.image,
        )
    ct = replace(volume, voxels=np.asarray(hu), affine=truth_map.affine, nifti_header=None)
    ids = [organ.id for organ in rules.organs]
    true_labels, predicted_labels = (
        keep_labels(label_map.values, ids) for label_map in (truth_map, prediction_map)
    )
    return example_row(ExampleCase(title, ct, true_labels, predicted_labels))
