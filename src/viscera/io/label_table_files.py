"""Label tables: what labels mean where it is not the thirteen organs, and schemes to read them.

A table is that of a bundle, of a nnU-Net ``dataset.json``, or of a TOML file:

    [[structures]]
    name = "tumour"
    id = 1
    [[regions]]                   # evaluated as one
    name = "liver_and_tumour"
    structures = ["liver", "tumour"]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from viscera.bundle.read import packaged_bundles, read_bundle
from viscera.bundle.spec import Bundle
from viscera.bundle.structures import (
    HIGHEST_ID,
    LONGEST_TITLE,
    NOT_IN_TITLES,
    RegionSettings,
    StructureSettings,
    make_label_table,
)
from viscera.bundle.toml_schema import load_dataclass
from viscera.core.label_schemes import FLARE, UNLABELLED, LabelScheme
from viscera.core.organs import FLARE13, LabelTable
from viscera.errors import InputError, UsageError, option
from viscera.io.dataset_json import DatasetLabels, dataset_labels
from viscera.io.label_scheme_files import read_label_scheme, read_mapping_file, scheme_of_dataset
from viscera.io.organ_names import side_pairs, structure_names
from viscera.io.read import path_exists


@dataclass(frozen=True)
class _TableFile:
    """A label table in a TOML file.

    Attributes:
        structures: the table's.
        regions: of several of them.
    """

    structures: tuple[StructureSettings, ...]
    regions: tuple[RegionSettings, ...] = ()


def read_label_table(name_or_file: str | Path) -> LabelScheme:
    """A label table, and which value of a label map means which of its structures.

    Args:
        name_or_file: flare13; a bundle's folder or name; a table in TOML; a ``dataset.json``.

    Raises:
        UsageError: none of these.
        InputError: the file is no table.
        BundleError: the bundle is invalid.
    """
    if str(name_or_file) == FLARE13.name:
        return FLARE
    path = Path(name_or_file)
    if str(name_or_file) in packaged_bundles() or (path_exists(path) and path.is_dir()):
        return _scheme_of_bundle(read_bundle(name_or_file))
    if not path_exists(path):
        raise UsageError(
            f"{FLARE13.name}, a bundle, a table in TOML, or a dataset.json",
            found=repr(str(name_or_file)),
            remedy="check the path",
        )
    content = read_mapping_file(path)
    try:
        if path.suffix.lower() == ".json":
            labels = dataset_labels(content, path)
            table = make_label_table(path.parent.name or path.name, *dataset_structures(labels))
            return scheme_of_dataset(labels, path, table)
        file = load_dataclass(_TableFile, content, path, error=InputError)
        table = make_label_table(path.stem, file.structures, file.regions)
    except UsageError as error:
        raise InputError(
            error.expected, found=error.found, remedy=error.remedy, where=path
        ) from error
    return replace(scheme_of_table(table), name=path.name)


def scheme_of_table(table: LabelTable) -> LabelScheme:
    """The label scheme whose values are the table's labels; 255 is what nobody labelled."""
    values = {organ.name: (organ.id,) for organ in table.organs}
    if table == FLARE13:
        return FLARE
    return LabelScheme(table.name, values, table=table, unlabelled=frozenset({UNLABELLED}))


def read_label_schemes(
    prediction_labels: str | Path | LabelScheme,
    truth_labels: str | Path | LabelScheme,
    label_table: str | Path | None = None,
) -> tuple[LabelScheme, LabelScheme]:
    """The label schemes of predictions and of the truth.

    Args:
        prediction_labels: see `read_label_scheme`; flare stands for the table's own values.
        truth_labels: the same.
        label_table: see `read_label_table`; the thirteen organs where not given.

    Raises:
        UsageError, InputError, BundleError: see there; or two schemes of different tables.
    """
    default = FLARE if label_table is None else read_label_table(label_table)
    prediction_scheme, truth_scheme = (
        default
        if labels == FLARE or str(labels).lower() == FLARE.name
        else read_label_scheme(labels, default.table)
        for labels in (prediction_labels, truth_labels)
    )
    if prediction_scheme.table != truth_scheme.table:
        raise UsageError(
            "label schemes of one label table",
            found=f"{prediction_scheme.table.name} and {truth_scheme.table.name}",
            remedy=f"name it by {option('label_table')}",
        )
    return prediction_scheme, truth_scheme


def dataset_structures(
    labels: DatasetLabels,
) -> tuple[tuple[StructureSettings, ...], tuple[RegionSettings, ...]]:
    """The structures and regions of a data set, as a recipe or a table describes them.

    Names become file names; those of our organs become ours, with colours, codes and sides. Others
    whose names differ in left and right alone become pairs. Values are kept where they fit.

    Args:
        labels: of its dataset.json.

    Raises:
        UsageError: there are too many.
    """
    names = structure_names([*labels.values, *labels.regions])
    pairs = side_pairs(names.values())
    ids = [min(values) for values in labels.values.values()]
    if len(ids) > HIGHEST_ID:
        raise UsageError(
            f"{HIGHEST_ID} structures at most", found=f"{len(ids)}", remedy="join some of them"
        )
    if max(ids, default=0) > HIGHEST_ID:
        ids = list(range(1, len(ids) + 1))
    structures = []
    for (name, _), number in zip(labels.values.items(), ids, strict=True):
        plain = names[name]
        side, partner = pairs.get(plain, (None, None))
        title = NOT_IN_TITLES.sub(" ", name.replace("_", " ")).strip()[:LONGEST_TITLE]
        title = "" if plain in FLARE13.by_name else title
        structures.append(
            StructureSettings(
                plain,
                id=number,
                title=title[:1].upper() + title[1:],
                laterality=side,
                partner=partner,
            )
        )
    regions = tuple(
        RegionSettings(names[name], tuple(names[part] for part in parts))
        for name, parts in labels.regions.items()
    )
    return tuple(structures), regions


def _scheme_of_bundle(bundle: Bundle) -> LabelScheme:
    """The label scheme of what a bundle finds; of its table's other organs it knows nothing."""
    scheme = scheme_of_table(bundle.label_table)
    values = {organ.name: (organ.id,) for organ in bundle.organs}
    if values == scheme.values:
        return scheme
    others = {organ.id for organ in bundle.label_table.organs if organ.name not in values}
    return replace(scheme, name=bundle.name, values=values, others=frozenset(others))
