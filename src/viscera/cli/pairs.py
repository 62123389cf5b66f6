"""Which prediction belongs to which truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from viscera.cli.cases import by_case, is_dir, volume_files
from viscera.cohort import Pair
from viscera.errors import InputError, UsageError
from viscera.io.csvfile import read_csv
from viscera.io.read import case_name, stands


@dataclass(frozen=True)
class PairPlan:
    """The cases of one evaluation.

    Attributes:
        pairs: by the truth's names.
        surplus: predictions without a truth.
        single: two files were named, no folders.
    """

    pairs: tuple[Pair, ...]
    surplus: tuple[str, ...] = ()
    single: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Cases without a prediction."""
        return tuple(pair.case for pair in self.pairs if pair.prediction is None)


def plan_pairs(
    prediction: Path | None, truth: Path | None, listed: Path | None, images: Path | None
) -> PairPlan:
    """Resolve two files, two folders, or a list, to pairs.

    In folders, files belong together by their case's name: ``CASE.nii.gz`` and
    ``CASE_0000.nii.gz`` are of one case.

    Raises:
        UsageError: not two files, two folders or a list, or two files of one case.
        NothingToSegmentError: a folder without any label map.
        InputError: a list that lacks a column or names what is not there.
    """
    if listed is not None:
        beside = prediction or images
        if beside is not None:
            found = f"{beside} beside --pairs"
            raise UsageError("either two paths or --pairs", found=found, remedy="leave one out")
        return PairPlan(tuple(_listed(listed)))
    if prediction is None or truth is None:
        remedy = "name predictions, then truth, or pass --pairs"
        raise UsageError("two files or two folders", found="fewer", remedy=remedy)
    if is_dir(prediction) != is_dir(truth):
        remedy = "name two files or two folders"
        raise UsageError("two files or two folders", found="one of each", remedy=remedy)
    if images is not None and not stands(images):
        remedy = "check the path"
        raise UsageError(
            "a folder of CTs for --images", found="nothing", remedy=remedy, where=images
        )
    cts = {} if images is None else by_case(volume_files(images))
    if not is_dir(truth):
        name = case_name(truth)
        image = cts.get(name) or (next(iter(cts.values())) if len(cts) == 1 else None)
        return PairPlan((Pair(name, truth, prediction, image),), single=True)
    predicted, true = by_case(volume_files(prediction)), by_case(volume_files(truth))
    pairs = (Pair(case, file, predicted.get(case), cts.get(case)) for case, file in true.items())
    return PairPlan(tuple(pairs), tuple(case for case in predicted if case not in true))


def _listed(path: Path) -> list[Pair]:
    """The rows of a CSV with the columns case, prediction, truth and, if wished, image.

    A prediction that is not there is one that somebody's method failed to make.
    """
    pairs: dict[str, Pair] = {}
    for number, row in enumerate(read_csv(path, needs=("case", "prediction", "truth")), 2):
        case = row["case"]
        if not case or case in pairs or "/" in case or "\\" in case:
            expected = "a name of its own for each case, without slashes"
            raise InputError(expected, found=repr(case), remedy="mend the list", where=path)
        if not row["truth"]:
            expected = f"a truth in row {number}"
            raise InputError(expected, found="none", remedy="mend the list", where=path)
        # Relative paths start where the list lies.
        truth, prediction, image = (
            path.parent / row[key] if row.get(key) else None
            for key in ("truth", "prediction", "image")
        )
        assert truth is not None
        there = prediction if prediction and stands(prediction) else None
        pairs[case] = Pair(case, truth, there, image)
    if not pairs:
        raise InputError("at least one pair", found="none", remedy="add rows", where=path)
    return list(pairs.values())
