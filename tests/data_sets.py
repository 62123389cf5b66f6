"""Small data sets to train on: phantoms in the folder layouts that users have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from viscera.core.organs import ORGANS
from viscera.core.phantom import make_phantom
from viscera.segmentation import Segmentation

SHAPE, SPACING_MM = (40, 32, 20), (9.0, 9.0, 14.0)


def phantom_pair(seed: int, **options):
    """A coarse phantom and its labels."""
    options = {"shape": SHAPE, "spacing_mm": SPACING_MM, "noise_hu": 8, **options}
    return make_phantom(seed, **options)


def write_pair(
    folder: Path, name: str, seed: int, *, images="imagesTr", labels="labelsTr", edit=None
):
    """A phantom as CASE_0000.nii.gz and CASE.nii.gz."""
    import nibabel

    volume, truth = phantom_pair(seed)
    truth = truth.copy(order="F")
    if edit is not None:
        truth = edit(truth)
    (folder / images).mkdir(parents=True, exist_ok=True)
    (folder / labels).mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(volume.data, volume.affine.matrix)
    nibabel.save(image, folder / images / f"{name}_0000.nii.gz")
    if truth.dtype == np.uint8 and truth.max() <= 13:
        path = folder / labels / f"{name}.nii.gz"
        Segmentation(truth, volume, ORGANS).save(path, overwrite=True)
    else:
        nibabel.save(
            nibabel.Nifti1Image(truth, volume.affine.matrix), folder / labels / f"{name}.nii.gz"
        )
    return volume, truth


def nnunet_folder(folder: Path, count: int = 4, *, labels: dict | None = None, **options) -> Path:
    for number in range(count):
        write_pair(folder, f"case_{number:03d}", 200 + number, **options)
    names = labels or {"background": 0, **{organ.name: organ.id for organ in ORGANS}}
    description = {
        "channel_names": {"0": "CT"},
        "labels": names,
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


# Steps enough for a network of either rank to find a phantom's liver.
LEARNS = {
    2: ("optimisation.epochs=12", "optimisation.learning_rate=1e-2"),
    3: (
        "optimisation.epochs=50",
        "optimisation.learning_rate=1e-2",
        "loss.deep_supervision=0.5",
        "data.organ_share=0.5",
    ),
}


def recipe_file(path: Path, *, rank: int = 2) -> Path:
    """A recipe that is done in seconds."""
    tables = {
        "network": 'architecture = "dsunet16"\nwidths = [4, 8, 8, 8]',
        "input": "window_hu = [-160.0, 300.0]",
        "slices": "stack = 3\nsize = [32, 32]",
        "optimisation": 'epochs = 2\nbatch = 4\nprecision = "f32"\nvalidate_every = 1',
        "split": "folds = 4",
    }
    if rank == 3:
        tables["network"] = 'architecture = "visceranet"\nwidths = [16, 32, 32]'
        tables["input"] += "\nspacing_mm = [10.0, 10.0, 10.0]"
        del tables["slices"]
        tables["patch"] = "size = [32, 32, 16]"
        tables["optimisation"] = (
            'epochs = 2\nsteps_per_epoch = 3\nbatch = 2\nprecision = "f32"\nvalidate_every = 1'
        )
    text = 'name = "tiny.phantom"\n'
    text += "\n".join(f"[{table}]\n{lines}" for table, lines in tables.items())
    path.write_text(text + "\n")
    return path
