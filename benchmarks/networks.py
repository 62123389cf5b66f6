"""What each network costs to run and to train: the figures that `visceranet` was chosen by.

    python benchmarks/networks.py [--seconds 40]

Needs the extra `train`, nothing else: inputs are phantoms. Writes benchmarks/results/networks.md:
milliseconds of one run in OpenVINO on all CPUs, and samples a second of `viscera train`'s own loop,
on the CPU and on a GPU if there is one. Medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import nibabel as nib
import numpy as np
import torch

from viscera.bundle.spec import ModelFile
from viscera.core.organs import ORGANS
from viscera.core.phantom import make_phantom
from viscera.engine.protocol import batch_shape
from viscera.engine.select import open_engine
from viscera.errors import VisceraError
from viscera.nets.cost import network_cost
from viscera.runtime.resources import thread_count
from viscera.segmentation import Segmentation
from viscera.training.data.prepare import prepare_data
from viscera.training.distributed import ProcessGroup
from viscera.training.export.onnx_file import write_onnx
from viscera.training.journal import read_journal
from viscera.training.loop import Training, new_network
from viscera.training.recipe import Recipe, read_recipe

ROOT = Path(__file__).parent.parent
# Name, recipe, changes of it.
NETWORKS = (
    ("dsunet16, the paper's", "paper", ()),
    ("dsunet16 with BatchNorm", "paper", ("network.norm=batch",)),
    ("unet64", "unet64", ()),
    ("visceranet 16-32-64-128", "viscera", ("network.widths=[16, 32, 64, 128]",)),
    ("visceranet 24-48-96-192, the default", "viscera", ()),
    ("visceranet 32-64-128-256", "viscera", ("network.widths=[32, 64, 128, 256]",)),
)


def write_phantoms(folder: Path) -> Path:
    for number in range(3):
        volume, truth = make_phantom(number, shape=(160, 130, 110), spacing_mm=(2.5, 2.5, 3.0))
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(volume.data, volume.affine.matrix)
        nib.save(image, folder / "imagesTr" / f"p{number}_0000.nii.gz")
        Segmentation(truth, volume, ORGANS).save(folder / "labelsTr" / f"p{number}.nii.gz")
    return folder


def milliseconds(recipe: Recipe, folder: Path, precision: str) -> str:
    """One run, a batch of the bundle's size divided by that size."""
    bundle = recipe.bundle(folder, ModelFile("model.onnx", "", ("f32", "bf16")))
    write_onnx(new_network(recipe).eval(), bundle, folder / "model.onnx")
    try:
        engine = open_engine(bundle, "openvino", precision=precision)
    except VisceraError:
        return "none"
    batch = np.random.default_rng(0).random(batch_shape(bundle), dtype=np.float32)
    spent = []
    for _ in range(12):
        begun = time.perf_counter()
        engine.run(batch)
        spent.append(time.perf_counter() - begun)
    return f"{1000 * statistics.median(spent[2:]) / len(batch):.1f}"


def samples_per_s(recipe: Recipe, data: Path, folder: Path, device: str, seconds: float) -> float:
    found = prepare_data([data], recipe, folder / recipe.grid_digest)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        processes = ProcessGroup(0, 1, torch.device(device))
        training = Training(recipe, found.train, [], Path(run), processes)
        training.run(minutes=seconds / 60)
        rates = [line["samples_per_s"] for line in read_journal(Path(run))]
        if not rates:  # fewer than ten steps
            return recipe.optimisation.batch * training.state.step / training.state.seconds
        return statistics.median(rates)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(thread_count())
    devices = ["cpu", *(["cuda:0"] if torch.cuda.is_available() else [])]
    titles = [
        f"{device.split(':')[0]} samples/s, {p}" for device in devices for p in ("bf16", "f32")
    ]
    lines = [
        "# Networks: what they cost to run and to train",
        "",
        "Made by `python benchmarks/networks.py`. A run is one slice of 192 x 192, or one patch of",
        "112 x 112 x 80 voxels, in OpenVINO; a training step is that of the recipe, its augmentation",
        "included, a sample a slice or a patch. Multiply-adds are of one run.",
        "",
        f"- machine: {platform.machine()}, {thread_count()} CPUs, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
        + (f", {torch.cuda.get_device_name()}" if len(devices) > 1 else ", no GPU"),
        f"- seconds of training each: {seconds:g}",
        "",
        "| network | parameters M | multiply-adds G | ms f32 | ms bf16 | "
        + " | ".join(titles)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(titles),
    ]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_phantoms(folder / "data")
        for name, file, changes in NETWORKS:
            recipe, _ = read_recipe(ROOT / "configs" / f"{file}.toml", ("split.folds=0", *changes))
            shape = batch_shape(recipe.bundle())[1:]
            cost = network_cost(new_network(recipe), shape)
            row = [name, f"{cost.parameters / 1e6:.3f}", f"{cost.multiply_adds / 1e9:.2f}"]
            row += [milliseconds(recipe, folder, precision) for precision in ("f32", "bf16")]
            for device in devices:
                for precision in ("bf16", "f32"):
                    how = replace(recipe.optimisation, precision=precision)
                    own = replace(recipe, optimisation=how)
                    row.append(f"{samples_per_s(own, data, folder, device, seconds):.2f}")
            lines.append("| " + " | ".join(row) + " |")
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    (ROOT / "benchmarks" / "results" / "networks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
