"""cases.csv: the scores of a run in long form, out and in again."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from viscera.errors import InputError
from viscera.evaluation import Evaluation
from viscera.io.read import stands
from viscera.metrics import Protocol
from viscera.metrics.scores import METRICS
from viscera.summary import Scores

_COLUMNS = ("case", "organ", "metric", "value")
_HIGHEST = 1e6  # no distance within a body is longer, in mm
_VOLUMES = ("truth_ml", "prediction_ml")


def read_scores(path: Path, protocol: Protocol) -> Scores:
    """The scores of another run, from its cases.csv or the folder that holds it.

    Args:
        path: either one.
        protocol: that of this run; a folder tells whether it is the other one's.

    Raises:
        InputError: no such file, or another protocol.
    """
    if stands(path) and path.is_dir():
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
                    value = float(row["value"] or "nan")
                    if math.isfinite(value) and abs(value) > _HIGHEST:
                        raise ValueError(f"the value {value:g}")
                    values[METRICS.index(row["metric"])] = value
    except (OSError, KeyError, ValueError, csv.Error) as error:
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


def cases_csv(done: Sequence[Evaluation], groups: Mapping[str, str] | None) -> str:
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
