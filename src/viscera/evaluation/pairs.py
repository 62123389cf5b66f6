"""Which prediction belongs to which truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from viscera.errors import InputError, UsageError, option
from viscera.evaluation.cohort import CasePair
from viscera.io.case_names import scans_by_case
from viscera.io.csv_tables import read_csv
from viscera.io.read import case_name, path_exists
from viscera.io.scan_files import find_volumes, is_dir


@dataclass(frozen=True)
class CohortPairs:
    """The cases of one evaluation.

    Attributes:
        pairs: by the truth's names.
        surplus: predictions without a truth.
        single: two files were named, no folders.
    """

    pairs: tuple[CasePair, ...]
    surplus: tuple[str, ...] = ()
    single: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """Cases without a prediction."""
        return tuple(pair.case for pair in self.pairs if pair.prediction is None)


def pair_cases(
    prediction: Path | None, truth: Path | None, listed: Path | None, images: Path | None
) -> CohortPairs:
    """Resolve two files, two folders, or a list, to pairs.

    In folders, files belong together by their case's name: ``CASE.nii.gz`` and
    ``CASE_0000.nii.gz`` are of one case.

    Args:
        prediction: a label map or a folder of them.
        truth: the same kind.
        listed: CSV with the columns case, prediction, truth and, if wished, image; instead of both.
        images: a CT or a folder of CTs, for pictures.

    Raises:
        UsageError: not two files, two folders or a list, or two files of one case.
        NothingToSegmentError: a folder without any label map.
        InputError: a list that lacks a column or names what is not there.
    """
    if listed is not None:
        beside = prediction or images
        if beside is not None:
            problem = f"{beside} beside {option('pairs')}"
            raise UsageError(
                f"either two paths or {option('pairs')}", found=problem, remedy="leave one out"
            )
        return CohortPairs(tuple(_listed_pairs(listed)))
    if prediction is None or truth is None:
        remedy = f"name predictions, then truth, or pass {option('pairs')}"
        raise UsageError("two files or two folders", found="fewer", remedy=remedy)
    if is_dir(prediction) != is_dir(truth):
        remedy = "name two files or two folders"
        raise UsageError("two files or two folders", found="one of each", remedy=remedy)
    if images is not None and not path_exists(images):
        remedy = "check the path"
        raise UsageError(
            f"a folder of CTs for {option('images')}", found="nothing", remedy=remedy, where=images
        )
    cts = {} if images is None else scans_by_case(find_volumes(images))
    if not is_dir(truth):
        name = case_name(truth)
        image = cts.get(name) or (next(iter(cts.values())) if len(cts) == 1 else None)
        return CohortPairs((CasePair(name, truth, prediction, image),), single=True)
    predictions, truths = (
        scans_by_case(find_volumes(prediction)),
        scans_by_case(find_volumes(truth)),
    )
    pairs = (
        CasePair(case, file, predictions.get(case), cts.get(case)) for case, file in truths.items()
    )
    return CohortPairs(tuple(pairs), tuple(case for case in predictions if case not in truths))


def _listed_pairs(path: Path) -> list[CasePair]:
    """The rows of a CSV with the columns case, prediction, truth and, if wished, image.

    A prediction that is not there is one that somebody's method failed to make.
    """
    pairs: dict[str, CasePair] = {}
    for number, row in enumerate(read_csv(path, needs=("case", "prediction", "truth")), 2):
        case = row["case"]
        if not case or case in pairs or "/" in case or "\\" in case:
            expected = "a name of its own for each case, without slashes"
            raise InputError(expected, found=repr(case), remedy="correct the list", where=path)
        if not row["truth"]:
            expected = f"a truth in row {number}"
            raise InputError(expected, found="none", remedy="correct the list", where=path)
        # Relative paths start where the list lies.
        truth, prediction, image = (
            path.parent / row[key] if row.get(key) else None
            for key in ("truth", "prediction", "image")
        )
        assert truth is not None
        existing = prediction if prediction and path_exists(prediction) else None
        pairs[case] = CasePair(case, truth, existing, image)
    if not pairs:
        raise InputError("at least one pair", found="none", remedy="add rows", where=path)
    return list(pairs.values())
