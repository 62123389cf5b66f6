"""The folder of an evaluation: its tables and pictures, made anew from the scores each time."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from viscera.cohort import Outcome, Pair, Rules
from viscera.errors import InputError, OutputError, VisceraError
from viscera.evaluation import Evaluation
from viscera.grid.equivalent import on_grid_of
from viscera.io import read_volume
from viscera.io.atomic import atomic_write, check_absent, check_writable, write_text
from viscera.matching import match
from viscera.metrics import Protocol
from viscera.metrics.scores import METRICS
from viscera.report.boxplot import boxplot_png
from viscera.report.examples import Example, Row, best_and_worst, cut_open, examples_png
from viscera.report.tables import tables
from viscera.summary import Scores

_COLUMNS = ("case", "organ", "metric", "value")
_VOLUMES = ("truth_ml", "prediction_ml")


@dataclass(frozen=True)
class EvaluationFolder:
    """Where an evaluation's files go."""

    path: Path

    @property
    def memory(self) -> Path:
        """Holds a file a case, from which a later call goes on."""
        return self.path / "cases"

    def check(self, rules: Rules, *, overwrite: bool) -> None:
        """Prove before the work that nothing of others, or by other rules, will be replaced.

        Raises:
            OutputError: not writable, or it holds something else.
        """
        summary = self.path / "summary.json"
        check_writable(summary)
        if overwrite:
            return
        try:
            before = json.loads(summary.read_text(encoding="utf-8"))
        except FileNotFoundError:
            for name in ("cases.csv", "table.md", "boxplot.png", "examples.png"):
                check_absent(self.path / name, overwrite=False)
            return
        except (OSError, ValueError):
            before = None
        wanted = rules.as_dict()
        if not isinstance(before, dict) or any(before.get(k) != v for k, v in wanted.items()):
            raise OutputError(
                "a new folder, or an evaluation by the same rules",
                found="a summary of other rules",
                remedy="choose another -o, or pass --overwrite",
                where=summary,
            )

    def write(
        self,
        summary: dict[str, Any],
        outcomes: Mapping[str, Outcome],
        groups: Mapping[str, str] | None,
        rules: Rules,
    ) -> None:
        """Write cases.csv, table.md, boxplot.png, and last summary.json, which vouches for them.

        Raises:
            OutputError: disk full or not writable.
        """
        done = [found for found in outcomes.values() if isinstance(found, Evaluation)]
        write_text(self.path / "cases.csv", _long(done, groups), overwrite=True)
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
        if rows:
            with atomic_write(self.path / "examples.png", overwrite=True) as file:
                file.write(examples_png(rows, rules.organs))
        return problems


def read_scores(path: Path, protocol: Protocol) -> Scores:
    """The scores of another run, from its cases.csv or the folder that holds it.

    Args:
        path: either one.
        protocol: that of this run; a folder tells whether it is the other one's.

    Raises:
        InputError: no such file, or another protocol.
    """
    if path.is_dir():
        _check_protocol(path / "summary.json", protocol)
        path = path / "cases.csv"
    scores: dict[tuple[str, str], list[float]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                if row["metric"] in METRICS:
                    values = scores.setdefault(
                        (row["case"], row["organ"]), [math.nan] * len(METRICS)
                    )
                    values[METRICS.index(row["metric"])] = float(row["value"] or "nan")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            "the cases.csv of another 'viscera evaluate'",
            found=str(error) or "another file",
            remedy="name its folder",
            where=path,
        ) from error
    return scores


def _check_protocol(summary: Path, protocol: Protocol) -> None:
    try:
        theirs = json.loads(summary.read_text(encoding="utf-8"))["protocol"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "the folder of another 'viscera evaluate'",
            found="none of its summary.json",
            remedy="name its folder, or its cases.csv",
            where=summary.parent,
        ) from error
    if theirs != protocol:
        raise InputError(
            f"an evaluation by the protocol {protocol}",
            found=theirs,
            remedy="evaluate both alike",
            where=summary,
        )


def _long(done: Sequence[Evaluation], groups: Mapping[str, str] | None) -> str:
    """The long form; no value where a metric does not exist, inf where an organ was missed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(["group"] if groups is not None else [])])
    for evaluation in done:
        group = [] if groups is None else [groups.get(evaluation.case, "")]
        for score in evaluation.scores:
            for metric in (*METRICS, *_VOLUMES):
                value = getattr(score, metric)
                shown = "" if math.isnan(value) else repr(value)  # exact: others compare with it
                writer.writerow([evaluation.case, score.organ, metric, shown, *group])
    return text.getvalue()


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
    ct = replace(volume, data=np.asarray(hu), affine=true.affine, nifti_header=None)
    return cut_open(Example(title, ct, true.values, found.values))
