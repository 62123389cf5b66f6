"""cases.csv: the metrics of a run in long form, written and read again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from viscera.errors import InputError
from viscera.evaluation.case import Evaluation
from viscera.evaluation.summary import MetricValues
from viscera.io.read import path_exists
from viscera.metrics.organ_metrics import METRIC_NAMES, Protocol
from viscera.runtime.small_files import read_json_file, read_text_file

_COLUMNS = ("case", "organ", "metric", "value")
_HIGHEST = 1e6  # no distance within a body is longer, in mm
_VOLUMES = ("truth_ml", "prediction_ml")


def read_metrics_csv(path: Path, protocol: Protocol) -> MetricValues:
    """The metrics of another run, from its cases.csv or the folder that holds it.

    Args:
        path: either one.
        protocol: of this run; a folder tells whether the other run used it too.

    Raises:
        InputError: no such file, or another protocol.
    """
    if path_exists(path) and path.is_dir():
        _check_protocol(path / "summary.json", protocol)
        path = path / "cases.csv"
    scores: dict[tuple[str, str], list[float]] = {}
    try:
        for row in csv.DictReader(read_text_file(path, most_bytes=1 << 30).splitlines()):
            if row["metric"] in METRIC_NAMES:
                values = scores.setdefault(
                    (row["case"], row["organ"]), [math.nan] * len(METRIC_NAMES)
                )
                value = float(row["value"] or "nan")
                if math.isfinite(value) and abs(value) > _HIGHEST:
                    raise ValueError(f"the value {value:g}")
                values[METRIC_NAMES.index(row["metric"])] = value
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
        other_protocol = read_json_file(summary)["protocol"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "the folder of another 'viscera evaluate'",
            found="none of its summary.json",
            remedy="name its folder, or its cases.csv",
            where=summary.parent,
        ) from error
    if other_protocol != protocol:
        raise InputError(
            f"an evaluation by the protocol {protocol}",
            found=other_protocol,
            remedy="evaluate both by the same protocol",
            where=summary,
        )


def metrics_csv(evaluations: Sequence[Evaluation], groups: Mapping[str, str] | None) -> str:
    """The long form; no value where a metric does not exist, inf where an organ was missed.

    Args:
        evaluations: of the cases.
        groups: case to group, where there are groups.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *(["group"] if groups is not None else [])])
    for evaluation in evaluations:
        group = [] if groups is None else [groups.get(evaluation.case, "")]
        for metrics in evaluation.metrics:
            for name in (*METRIC_NAMES, *_VOLUMES):
                value = getattr(metrics, name)
                cell = "" if math.isnan(value) else repr(value)  # exact: others compare with it
                writer.writerow([evaluation.case, metrics.organ, name, cell, *group])
    return text.getvalue()
