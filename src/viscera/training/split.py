"""Splits by patient, checked for leakage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from viscera.errors import InputError
from viscera.training.settings import Split


class Splittable(Protocol):
    """What a split goes by; see `viscera.training.cases.TrainingCase`."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def patient(self) -> str: ...  # noqa: D102
    @property
    def pseudo(self) -> bool: ...  # noqa: D102
    @property
    def part(self) -> str: ...  # noqa: D102


C = TypeVar("C", bound=Splittable)


def split_cases(cases: Sequence[C], split: Split) -> tuple[tuple[C, ...], tuple[C, ...]]:
    """Cases to train on, and cases held back.

    Where the data names validation cases itself, those are held back. Else patients with labels
    that are no network's are shuffled and dealt into folds, and one fold is held back.

    Raises:
        InputError: a patient on both sides, or nothing to train on.
    """
    named = [case for case in cases if case.part == "validation"]
    if named:
        held = {case.patient for case in named}
        chosen = tuple(named)
        train = tuple(case for case in cases if case.part != "validation")
        if network := [case.name for case in named if case.pseudo]:
            remedy = "move it to the cases to train on"
            found = f"{network[0]!r}, labelled by a network"
            raise InputError("labels of people to validate with", found=found, remedy=remedy)
        if both := sorted({case.patient for case in train} & held):
            raise _leak(f"patient {both[0]!r} on both sides")
    else:
        patients = sorted({case.patient for case in cases if not case.pseudo})
        np.random.default_rng(split.seed).shuffle(patients)
        held = set(patients[split.fold :: split.folds]) if split.folds else set()
        chosen = tuple(case for case in cases if case.patient in held and not case.pseudo)
        # What a network labelled of a patient who is held back is on neither side.
        train = tuple(case for case in cases if case.patient not in held)
    if not train:
        remedy = "add data, or hold fewer back: split.folds"
        found = f"{len(cases)} cases, {len(chosen)} held back"
        raise InputError("cases to train on", found=found, remedy=remedy)
    return train, chosen


def check_leakage(train: Sequence[Splittable], held: Sequence[Splittable],
                  contents: Mapping[str, str]) -> None:  # fmt: skip
    """Prove that no scan stands on both sides under two names.

    Args:
        train: cases to train on.
        held: cases held back.
        contents: checksum of each case's scan.

    Raises:
        InputError: one does.
    """
    known = {contents[case.name]: case.name for case in train}
    for case in held:
        if contents[case.name] in known:
            raise _leak(f"the same scan as {known[contents[case.name]]!r} and {case.name!r}")


def _leak(found: str) -> InputError:
    return InputError(
        "patients that are either trained on or validated with",
        found=found,
        remedy="take one of them out, or give both the same patient in a list",
    )
