"""The folder of an evaluation: its tables and pictures, made anew from the scores each time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.cohort import Outcome, Pair, Rules
from viscera.errors import InputError, VisceraError
from viscera.evaluation import Evaluation
from viscera.grid.equivalent import on_grid_of
from viscera.io import read_volume
from viscera.io.atomic import atomic_write, write_text
from viscera.io.claim import claim
from viscera.matching import match
from viscera.report.boxplot import boxplot_png
from viscera.report.cases import cases_csv
from viscera.report.examples import Example, Row, best_and_worst, cut_open, examples_png
from viscera.report.tables import tables
from viscera.volume import keep_labels

_NAMES = ("cases", "cases.csv", "table.md", "boxplot.png", "examples.png", "summary.json")


@dataclass(frozen=True)
class EvaluationFolder:
    """Where an evaluation's files go."""

    path: Path

    @property
    def memory(self) -> Path:
        """Holds a file a case, from which a later call goes on."""
        return self.path / "cases"

    def claim(self, rules: Rules, *, overwrite: bool) -> None:
        """Prove before the work that nothing of others, or by other rules, will be replaced.

        Raises:
            OutputError: not writable, or it holds something else.
        """
        claim(self.path / "evaluation.json", rules.identity(), _NAMES, overwrite=overwrite)

    def write(
        self,
        summary: dict[str, Any],
        outcomes: Mapping[str, Outcome],
        groups: Mapping[str, str] | None,
        rules: Rules,
    ) -> None:
        """Write cases.csv, table.md, boxplot.png and summary.json.

        Raises:
            OutputError: disk full or not writable.
        """
        done = [found for found in outcomes.values() if isinstance(found, Evaluation)]
        write_text(self.path / "cases.csv", cases_csv(done, groups), overwrite=True)
        write_text(self.path / "table.md", tables(summary), overwrite=True)
        columns = [
            (
                title,
                [[getattr(e[o.name], metric) for e in done] for o in rules.organs],
            )
            for metric, title in (("dsc", "DSC"), ("nsd", "NSD"))
        ]
        title = f"{len(done)} cases, protocol {rules.protocol}"
        with atomic_write(self.path / "boxplot.png", overwrite=True) as file:
            file.write(boxplot_png(columns, rules.organs, title))
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(self.path / "summary.json", text, overwrite=True)

    def write_examples(
        self, pairs: Sequence[Pair], outcomes: Mapping[str, Outcome], rules: Rules
    ) -> list[str]:
        """Write examples.png, the best and the worst cases that have a CT and a prediction.

        Where there is none, an earlier call's picture is removed.

        Returns:
            What kept a case from being drawn.
        """
        of = {pair.case: pair for pair in pairs if pair.image and pair.prediction}
        means = {
            case: found.mean()
            for case, found in outcomes.items()
            if isinstance(found, Evaluation) and case in of
        }
        best, worst = best_and_worst(means)
        rows, problems = [], []
        for word, cases in (("best", best), ("worst", worst)):
            for case in cases:
                title = f"{case}   {word}, mean DSC {means[case]:.3f}"
                try:
                    rows.append(_row(of[case], rules, title))
                except VisceraError as error:
                    problems.append(str(error))
        picture = self.path / "examples.png"
        if rows:
            with atomic_write(picture, overwrite=True) as file:
                file.write(examples_png(rows, rules.organs))
        else:
            picture.unlink(missing_ok=True)  # that of an earlier call shows other labels
        return problems


def _row(pair: Pair, rules: Rules, title: str) -> Row:
    """One case of the picture; only one slice of it stays in memory."""
    assert pair.image is not None
    found, true = match(
        pair.prediction,
        pair.truth,
        protocol=rules.protocol,
        prediction_labels=rules.prediction_labels,
        truth_labels=rules.truth_labels,
    )
    volume = read_volume(pair.image)
    hu = on_grid_of(volume.data, volume.affine, shape=true.values.shape, target=true.affine)
    if hu is None:
        raise InputError(
            "a CT on the truth's grid",
            found=f"{volume!r}",
            remedy="the picture was made without it",
            where=pair.image,
        )
    ct = replace(volume, voxels=np.asarray(hu), affine=true.affine, nifti_header=None)
    ids = [organ.id for organ in rules.organs]
    expected, predicted = (keep_labels(labels.values, ids) for labels in (true, found))
    return cut_open(Example(title, ct, expected, predicted))
