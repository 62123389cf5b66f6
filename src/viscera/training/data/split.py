"""Splits by patient, checked for leakage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from viscera.errors import InputError
from viscera.training.settings import SplitSettings


class Splittable(Protocol):
    """What a split goes by; see `viscera.training.data.cases.TrainingCase`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def patient(self) -> str: ...  # noqa: D102
    @property
    def pseudo(self) -> bool: ...  # noqa: D102
    @property
    def part(self) -> str: ...  # noqa: D102


C = TypeVar("C", bound=Splittable)


def split_cases(cases: Sequence[C], split: SplitSettings) -> tuple[tuple[C, ...], tuple[C, ...]]:
    """Training cases and validation cases.

    Where the data names validation cases itself, these are taken. Else patients with labels drawn
    by people are shuffled and dealt into folds, and one fold is the validation set. Cases that the
    data names as training cases stay out of it, and of both sets where their patient is in it.

    Args:
        cases: all of them.
        split: how many folds, which one, and the seed.

    Raises:
        InputError: a patient on both sides, or nothing to train on.
    """
    named_cases = [case for case in cases if case.part == "validation"]
    if named_cases:
        validation_patients = {case.patient for case in named_cases}
        validation = tuple(named_cases)
        train = tuple(case for case in cases if case.part != "validation")
        if network := [case.name for case in named_cases if case.pseudo]:
            remedy = "move it to the cases to train on"
            problem = f"{network[0]!r}, labelled by a network"
            raise InputError(
                "labels drawn by people for the validation set", found=problem, remedy=remedy
            )
        if shared := sorted({case.patient for case in train} & validation_patients):
            raise _leak(f"patient {shared[0]!r} on both sides")
    else:
        free = (case for case in cases if not case.pseudo and case.part != "train")
        patients = sorted({case.patient for case in free})
        np.random.default_rng(split.seed).shuffle(patients)
        validation_patients = set(patients[split.fold :: split.folds]) if split.folds else set()
        validation = tuple(
            case
            for case in cases
            if case.patient in validation_patients and not case.pseudo and case.part != "train"
        )
        # Other cases of a patient in the validation set are in neither set.
        train = tuple(case for case in cases if case.patient not in validation_patients)
    if not train:
        remedy = "add data, or hold fewer back: split.folds"
        problem = f"{len(cases)} cases, {len(validation)} of them for validation"
        raise InputError("cases to train on", found=problem, remedy=remedy)
    return train, validation


def check_leakage(train: Sequence[Splittable], validation: Sequence[Splittable],
                  scan_digests: Mapping[str, str]) -> None:  # fmt: skip
    """Check that no scan is on both sides under two names.

    Args:
        train: cases to train on.
        validation: cases of the validation set.
        scan_digests: of each case's scan.

    Raises:
        InputError: one does.
    """
    trained_scans = {scan_digests[case.name]: case.name for case in train}
    for case in validation:
        if scan_digests[case.name] in trained_scans:
            raise _leak(
                f"the same scan as {trained_scans[scan_digests[case.name]]!r} and {case.name!r}"
            )


def _leak(problem: str) -> InputError:
    return InputError(
        "patients in the training set or in the validation set, not in both",
        found=problem,
        remedy="take one of them out, or give both the same patient in a list",
    )
