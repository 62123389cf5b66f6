"""Which cases there are to train on: nnU-Net folders, FLARE's folders, or a list, as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from viscera.conventions import FLARE, Convention
from viscera.errors import InputError, UsageError
from viscera.findings import Finding
from viscera.io.conventions import open_convention
from viscera.io.csvfile import read_csv
from viscera.io.read import SUFFIXES, case_name, stands
from viscera.organs import select

UNLABELLED = 255  # the value of voxels that nobody labelled


@dataclass(frozen=True)
class TrainingCase:
    """One scan and its labels.

    Attributes:
        name: unique among all cases.
        image: file of the CT.
        labels: file of the labels.
        patient: cases of one patient never stand on both sides of a split.
        labels_follow: the convention of the labels' values. An organ that it cannot express is not
            annotated, which is something else than absent.
        unlabelled: values of voxels that nobody labelled.
        distrusted: organs whose labels are not to be believed in this case.
        weight: how much a sample of it counts in the loss.
        pseudo: the labels are a network's; such a case is trained on, never validated with.
        part: side of the split, where the data itself decides it.
        taught: whether a teacher is heard beside the labels; labels better than its own say no.
    """

    name: str
    image: Path
    labels: Path
    patient: str
    labels_follow: Convention = FLARE
    unlabelled: tuple[int, ...] = (UNLABELLED,)
    distrusted: tuple[str, ...] = ()
    weight: float = 1.0
    pseudo: bool = False
    part: str = ""
    taught: bool = True


def find_cases(
    sources: Sequence[Path], *, pseudo_weight: float = 1.0
) -> tuple[tuple[TrainingCase, ...], tuple[Finding, ...]]:
    """The cases of data sets, in the order of their names.

    A source is a nnU-Net folder (imagesTr, labelsTr, dataset.json), FLARE's folder
    (train_gt_label, train_pseudo_label, validation) or one of these three, or a CSV list with the
    columns case, image, labels and, where wished, patient, weight, ignore (organs), convention,
    pseudo (yes), part (train or validation), teacher (no: it is not heard).

    Returns:
        The cases, and what was left out.

    Raises:
        InputError: a source is none of these, or holds no case.
        UsageError: two cases of one name.
    """
    cases: list[TrainingCase] = []
    findings: list[Finding] = []
    for source in sources:
        if not stands(source):
            remedy = "check the path"
            raise InputError("a data set", found="nothing", remedy=remedy, where=source)
        found = list(_of_folder(source, findings) if source.is_dir() else _of_list(source))
        if not found:
            raise InputError(
                "scans with labels: imagesTr and labelsTr, FLARE's folders, or a CSV list",
                found="none",
                remedy="name the folder that holds them",
                where=source,
            )
        cases += found
    names: dict[str, Path] = {}
    for case in cases:
        if case.name in names and names[case.name] != case.image:
            remedy = "rename one of them"
            found_twice = f"{case.name!r} twice, {names[case.name]} and {case.image}"
            raise UsageError("one case of a name", found=found_twice, remedy=remedy)
        if case.name in names:
            found_twice = f"{case.name!r} twice"
            raise UsageError("each case once", found=found_twice, remedy="name its source once")
        names[case.name] = case.image
    weighed = (replace(c, weight=c.weight * pseudo_weight) if c.pseudo else c for c in cases)
    return tuple(sorted(weighed, key=lambda case: case.name)), tuple(findings)


def _of_folder(root: Path, findings: list[Finding]) -> Iterator[TrainingCase]:
    """A nnU-Net folder, or FLARE's, or one part of FLARE's."""
    challenge = {
        "train_gt_label": {}, "train_pseudo_label": {"pseudo": True},
        "validation": {"part": "validation"},
    }  # fmt: skip
    parts = [(root / name, how) for name, how in challenge.items() if (root / name).is_dir()]
    for folder, how in parts or [(root, challenge.get(root.name, {}))]:
        images = _subfolder(folder, ("imagesTr", "Validation-Public-Images"), "image")
        labels = _subfolder(folder, ("labelsTr", "Validation-Public-Labels"), "label", "pseudo")
        if images is None or labels is None:
            continue
        description = next((p for p in (folder, root) if (p / "dataset.json").is_file()), None)
        convention = FLARE
        unlabelled: tuple[int, ...] = (UNLABELLED,)
        if description is not None:
            convention, unlabelled = _described(description / "dataset.json")
        by_case, labelled = _volumes(images), _volumes(labels)
        for name in sorted(by_case.keys() | labelled.keys()):
            if name not in by_case or name not in labelled:
                lacking = "labels" if name in by_case else "a scan"
                message = f"{name} in {folder.name} has no {lacking.removeprefix('a ')}: left out"
                findings.append(Finding("warning", "unpaired", message))
                continue
            yield TrainingCase(
                name,
                by_case[name],
                labelled[name],
                name,
                labels_follow=convention,
                unlabelled=unlabelled,
                **how,  # type: ignore[arg-type]
            )


def _subfolder(folder: Path, names: Sequence[str], *words: str) -> Path | None:
    """The first subfolder of these names, else the only one whose name holds one of the words."""
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    near = [p for p in sorted(folder.iterdir()) if p.is_dir()]
    near = [p for p in near if any(word in p.name.lower() for word in words)]
    if len(near) > 1:
        found = " and ".join(p.name for p in near)
        expected, remedy = f"one folder of {words[0]}s", "make a list of the cases you mean"
        raise InputError(expected, found=found, remedy=remedy, where=folder)
    return near[0] if near else None


def _volumes(folder: Path) -> dict[str, Path]:
    """The volume of each case."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(SUFFIXES) and path.name[0] != "." and path.is_file():
            name = case_name(path)
            if name in found:
                remedy = "remove one of them"
                both = f"{found[name].name} and {path.name}"
                raise InputError("one file a case", found=both, remedy=remedy, where=folder)
            found[name] = path
    return found


def _described(path: Path) -> tuple[Convention, tuple[int, ...]]:
    """The convention of a nnU-Net dataset, and the values that mean nobody labelled a voxel."""
    convention = open_convention(path)
    value = json.loads(path.read_text(encoding="utf-8-sig"))["labels"].get("ignore")
    return convention, (UNLABELLED, value) if type(value) is int else (UNLABELLED,)


def _followed(name: str, listed: Path) -> tuple[Convention, tuple[int, ...]]:
    """A list's convention: a built-in one, or a file beside the list."""
    file = listed.parent / name
    if file.suffix.lower() == ".json" and file.is_file():
        return _described(file)
    return open_convention(file if file.is_file() else name), (UNLABELLED,)


def _of_list(path: Path) -> Iterator[TrainingCase]:
    """The rows of a CSV; relative paths start where it lies."""
    for number, row in enumerate(read_csv(path, needs=("case", "image", "labels")), 2):
        wanted = {key: row[key] for key in ("case", "image", "labels")}
        for key, value in wanted.items():
            if not value or "/" in wanted["case"]:
                found = repr(wanted["case"]) if value else "none"
                remedy = "mend the list"
                expected = f"a {key} in row {number}, names without slashes"
                raise InputError(expected, found=found, remedy=remedy, where=path)
        part, weight = row.get("part", ""), row.get("weight", "") or "1"
        try:
            share = float(weight)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1 or part not in ("", "train", "validation"):
            expected = (
                f"a weight above 0 up to 1, and train, validation or no part, in row {number}"
            )
            found = f"{weight!r}, {part!r}"
            raise InputError(expected, found=found, remedy="mend the list", where=path)
        try:
            organs = select(row.get("ignore", "").replace(";", " ").split())
        except UsageError as error:
            expected = f"{error.expected} under ignore in row {number}"
            raise InputError(
                expected, found=error.found, remedy=error.remedy, where=path
            ) from error
        convention, unlabelled = _followed(row.get("convention", "") or "flare", path)
        yield TrainingCase(
            wanted["case"],
            path.parent / wanted["image"],
            path.parent / wanted["labels"],
            row.get("patient", "") or wanted["case"],
            labels_follow=convention,
            unlabelled=unlabelled,
            distrusted=tuple(organ.name for organ in organs),
            weight=share,
            pseudo=row.get("pseudo", "").lower() in ("yes", "true", "1"),
            part=part,
            taught=row.get("teacher", "").lower() not in ("no", "false", "0"),
        )
