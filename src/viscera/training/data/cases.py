"""Which cases there are to train on: nnU-Net folders, FLARE's folders, or a list, as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from viscera.core.label_schemes import FLARE, UNLABELLED, LabelScheme
from viscera.core.organs import FLARE13, LabelTable
from viscera.errors import InputError, UsageError
from viscera.findings import Finding
from viscera.io.csv_tables import read_csv
from viscera.io.dataset_json import dataset_labels
from viscera.io.label_scheme_files import read_label_scheme
from viscera.io.label_table_files import scheme_of_table
from viscera.io.read import SUFFIXES, case_name, path_exists
from viscera.runtime.small_files import read_json_file


@dataclass(frozen=True)
class TrainingCase:
    """One scan and its labels.

    Attributes:
        name: unique among all cases.
        image: file of the CT.
        labels: file of the labels.
        patient: cases of one patient are never on both sides of a split.
        label_scheme: which value means which organ. An organ that it cannot express is not
            annotated, which differs from absent.
        unlabelled: values of voxels that nobody labelled.
        excluded_organs: organs whose labels are ignored in this case.
        weight: how much a sample of it counts in the loss.
        pseudo: the labels are a network's; such a case is never in the validation set.
        part: side of the split, where the data itself decides it.
        use_teacher: learn from a teacher too; not where the labels are better than the teacher.
    """

    name: str
    image: Path
    labels: Path
    patient: str
    label_scheme: LabelScheme = FLARE
    unlabelled: tuple[int, ...] = (UNLABELLED,)
    excluded_organs: tuple[str, ...] = ()
    weight: float = 1.0
    pseudo: bool = False
    part: str = ""
    use_teacher: bool = True


def find_cases(
    sources: Sequence[Path], *, table: LabelTable = FLARE13, pseudo_weight: float = 1.0
) -> tuple[tuple[TrainingCase, ...], tuple[Finding, ...]]:
    """The cases of data sets, in the order of their names.

    A source is a nnU-Net folder (imagesTr, labelsTr, dataset.json), FLARE's folder
    (train_gt_label, train_pseudo_label, validation) or one of these three, or a CSV list with the
    columns case, image, labels and, where wished, patient, weight, ignore (organs), convention,
    pseudo (yes), part (train or validation), teacher (no: do not learn from it here).

    Args:
        sources: folders or lists.
        table: what their labels are to mean.
        pseudo_weight: weight of a sample with pseudo-labels.

    Returns:
        The cases, and what was left out.

    Raises:
        InputError: a source is none of these, or holds no case.
        UsageError: two cases of one name.
    """
    cases: list[TrainingCase] = []
    findings: list[Finding] = []
    for source in sources:
        if not path_exists(source):
            remedy = "check the path"
            raise InputError("a data set", found="nothing", remedy=remedy, where=source)
        source_cases = list(
            _folder_cases(source, table, findings)
            if source.is_dir()
            else _listed_cases(source, table)
        )
        if not source_cases:
            raise InputError(
                "scans with labels: imagesTr and labelsTr, FLARE's folders, or a CSV list",
                found="none",
                remedy="name the folder that holds them",
                where=source,
            )
        cases += source_cases
    names: dict[str, Path] = {}
    for case in cases:
        if case.name in names and names[case.name] != case.image:
            remedy = "rename one of them"
            problem = f"{case.name!r} twice, {names[case.name]} and {case.image}"
            raise UsageError("one case of a name", found=problem, remedy=remedy)
        if case.name in names:
            problem = f"{case.name!r} twice"
            raise UsageError("each case once", found=problem, remedy="name its source once")
        names[case.name] = case.image
    weighed = (replace(c, weight=c.weight * pseudo_weight) if c.pseudo else c for c in cases)
    return tuple(sorted(weighed, key=lambda case: case.name)), tuple(findings)


def _folder_cases(root: Path, table: LabelTable, findings: list[Finding]) -> Iterator[TrainingCase]:
    """A nnU-Net folder, or FLARE's, or one part of FLARE's."""
    challenge = {
        "train_gt_label": {}, "train_pseudo_label": {"pseudo": True},
        "validation": {"part": "validation"},
    }  # fmt: skip
    parts = [(root / name, fields) for name, fields in challenge.items() if (root / name).is_dir()]
    for folder, fields in parts or [(root, challenge.get(root.name, {}))]:
        images = _subfolder(folder, ("imagesTr", "Validation-Public-Images"), "image")
        labels = _subfolder(folder, ("labelsTr", "Validation-Public-Labels"), "label", "pseudo")
        if images is None or labels is None:
            continue
        description = next((p for p in (folder, root) if (p / "dataset.json").is_file()), None)
        label_scheme = scheme_of_table(table)
        unlabelled: tuple[int, ...] = (UNLABELLED,)
        if description is not None:
            label_scheme, unlabelled = _read_dataset_json(description / "dataset.json", table)
            findings.extend(label_scheme.findings)
        by_case, labelled = _volumes_by_case(images), _volumes_by_case(labels)
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
                label_scheme=label_scheme,
                unlabelled=unlabelled,
                **fields,  # type: ignore[arg-type]
            )


def _subfolder(folder: Path, names: Sequence[str], *words: str) -> Path | None:
    """The first subfolder of these names, else the only one whose name holds one of the words."""
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    near = [p for p in sorted(folder.iterdir()) if p.is_dir()]
    near = [p for p in near if any(word in p.name.lower() for word in words)]
    if len(near) > 1:
        problem = " and ".join(p.name for p in near)
        expected, remedy = f"one folder of {words[0]}s", "make a list of the cases you mean"
        raise InputError(expected, found=problem, remedy=remedy, where=folder)
    return near[0] if near else None


def _volumes_by_case(folder: Path) -> dict[str, Path]:
    """The volume of each case."""
    volumes: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.lower().endswith(SUFFIXES) and path.name[0] != "." and path.is_file():
            name = case_name(path)
            if name in volumes:
                remedy = "remove one of them"
                problem = f"{volumes[name].name} and {path.name}"
                raise InputError("one file a case", found=problem, remedy=remedy, where=folder)
            volumes[name] = path
    return volumes


def _read_dataset_json(path: Path, table: LabelTable) -> tuple[LabelScheme, tuple[int, ...]]:
    """The label scheme of a nnU-Net data set, and the values that mean nobody labelled a voxel.

    Raises:
        InputError: no data set of CT alone, or labels that make no sense.
    """
    label_scheme = read_label_scheme(path, table)
    content = read_json_file(path)
    channels = content.get("channel_names", content.get("modality", {}))
    names = list(channels.values()) if isinstance(channels, dict) else [channels]
    if len(names) > 1 or not all("ct" in str(name).lower() for name in names):
        raise InputError(
            "a data set of CT, with one channel",
            found=", ".join(map(str, names)),
            remedy="leave out the other channels; if it is CT, say so in channel_names",
            where=path,
        )
    return label_scheme, _unlabelled(label_scheme, *dataset_labels(content, path).unlabelled)


def _unlabelled(label_scheme: LabelScheme, *values: int) -> tuple[int, ...]:
    """These values of voxels that nobody labelled, and 255 if the scheme has no meaning for it."""
    meanings = {value for sources in label_scheme.values.values() for value in sources}
    return tuple(value for value in dict.fromkeys((UNLABELLED, *values)) if value not in meanings)


def _listed_scheme(
    name: str, listed: Path, table: LabelTable
) -> tuple[LabelScheme, tuple[int, ...]]:
    """A list's label scheme: that of the table, a built-in one, or a file beside the list."""
    if not name:
        return scheme_of_table(table), (UNLABELLED,)
    file = listed.parent / name
    is_file = path_exists(file) and file.is_file()
    if file.suffix.lower() == ".json" and is_file:
        return _read_dataset_json(file, table)
    label_scheme = read_label_scheme(file if is_file else name, table)
    return label_scheme, _unlabelled(label_scheme)


def _is_only_ours(name: str, table: LabelTable) -> bool:
    return name in FLARE13.by_name and name not in table.by_name


def _listed_cases(path: Path, table: LabelTable) -> Iterator[TrainingCase]:
    """The rows of a CSV; relative paths start where it lies."""
    for number, row in enumerate(read_csv(path, needs=("case", "image", "labels")), 2):
        required = {key: row[key] for key in ("case", "image", "labels")}
        for key, value in required.items():
            if not value or "/" in required["case"]:
                problem = repr(required["case"]) if value else "none"
                remedy = "correct the list"
                expected = f"a {key} in row {number}, names without slashes"
                raise InputError(expected, found=problem, remedy=remedy, where=path)
        part, weight = row.get("part", ""), row.get("weight", "") or "1"
        try:
            share = float(weight)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1 or part not in ("", "train", "validation"):
            expected = (
                f"a weight above 0 up to 1, and train, validation or no part, in row {number}"
            )
            problem = f"{weight!r}, {part!r}"
            raise InputError(expected, found=problem, remedy="correct the list", where=path)
        try:
            names = row.get("ignore", "").replace(";", " ").split()
            # Organs of ours that the table lacks are ignored anyway.
            organs = table.select(n for n in names if not _is_only_ours(n, table))
        except UsageError as error:
            expected = f"{error.expected} under ignore in row {number}"
            raise InputError(
                expected, found=error.found, remedy=error.remedy, where=path
            ) from error
        label_scheme, unlabelled = _listed_scheme(row.get("convention", ""), path, table)
        yield TrainingCase(
            required["case"],
            path.parent / required["image"],
            path.parent / required["labels"],
            row.get("patient", "") or required["case"],
            label_scheme=label_scheme,
            unlabelled=unlabelled,
            excluded_organs=tuple(organ.name for organ in organs),
            weight=share,
            pseudo=row.get("pseudo", "").lower() in ("yes", "true", "1"),
            part=part,
            use_teacher=row.get("teacher", "").lower() not in ("no", "false", "0"),
        )
