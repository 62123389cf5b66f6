"""What is fuzzed: for each kind of input, whole files, and the reader that gets them damaged."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk

from tests.fuzz.mutate import mutate
from tests.networks import nearest_bundle
from viscera.bundle.onnx_check import names_external_data
from viscera.bundle.read import read_bundle
from viscera.core.label_map import LabelMap
from viscera.core.organs import ORGANS
from viscera.errors import VisceraError
from viscera.evaluation.match import read_organ_labels
from viscera.io.csv_tables import read_csv
from viscera.io.label_scheme_files import read_label_scheme
from viscera.io.read import open_volume, read_labels, read_volume
from viscera.io.seg_nrrd import write_seg_nrrd

Reader = Callable[[Path], object]
_AFFINE = np.diag([-8.0, -8.0, 9.0, 1.0])


@dataclass(frozen=True)
class Target:
    """One kind of input.

    Attributes:
        name: of the kind.
        seeds: whole files; their names' endings matter.
        read: gives a damaged one to its reader.
        needs: a package without which it is left out.
        has_company: other files that lie beside a seed belong to it.
    """

    name: str
    seeds: Callable[[Path], list[Path]]
    read: Reader
    needs: str = "numpy"
    has_company: bool = False

    @property
    def is_possible(self) -> bool:
        """Whether what it needs is installed."""
        return importlib.util.find_spec(self.needs) is not None


def _hu() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (12, 10, 8)).astype(np.int16)


def _nifti(folder: Path) -> list[Path]:
    image = nib.Nifti1Image(_hu(), _AFFINE)
    image.header.set_qform(_AFFINE, 1)
    nib.save(image, folder / "a.nii")
    nib.save(image, folder / "b.nii.gz")
    scaled = nib.Nifti1Image(_hu().astype(np.uint8), _AFFINE)
    scaled.header.set_slope_inter(2.5, -1024)
    nib.save(scaled, folder / "c.nii")
    nib.save(nib.Nifti2Image(_hu().astype(np.float32), _AFFINE), folder / "d.nii")
    return [folder / name for name in ("a.nii", "b.nii.gz", "c.nii", "d.nii")]


def _nrrd(folder: Path) -> list[Path]:
    header = {"space": "left-posterior-superior", "space directions": _AFFINE[:3, :3],
              "space origin": [0, 0, 0], "encoding": "raw"}  # fmt: skip
    nrrd.write(str(folder / "a.nrrd"), _hu(), header)
    nrrd.write(str(folder / "b.nrrd"), _hu(), {**header, "encoding": "gzip"})
    return [folder / "a.nrrd", folder / "b.nrrd"]


def _metaimage(folder: Path) -> list[Path]:
    image = sitk.GetImageFromArray(_hu())
    image.SetSpacing((8, 8, 9))
    sitk.WriteImage(image, str(folder / "a.mha"))
    sitk.WriteImage(image, str(folder / "b.mha"), useCompression=True)
    return [folder / "a.mha", folder / "b.mha"]


def _dicom(folder: Path) -> list[Path]:
    import pydicom

    from tests.dicom_series import write_series

    plain = write_series(folder / "plain", _hu().transpose(2, 1, 0))
    packed = write_series(folder / "packed", _hu().transpose(2, 1, 0))
    for path in packed:
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    return [*plain[:8], packed[3]]  # each decoder takes its time to start


def _label_maps(folder: Path) -> list[Path]:
    labels = np.random.default_rng(0).integers(0, 14, (12, 10, 8)).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, _AFFINE), folder / "a.nii.gz")
    source = read_volume(_nifti(folder)[0])
    (folder / "b.seg.nrrd").unlink(missing_ok=True)
    write_seg_nrrd(folder / "b.seg.nrrd", np.asfortranarray(labels), source, ORGANS)
    return [folder / "a.nii.gz", folder / "b.seg.nrrd"]


def _bundle(folder: Path) -> list[Path]:
    return [nearest_bundle(folder / "bundle") / "bundle.toml"]


def _onnx(folder: Path) -> list[Path]:
    import onnx

    path = nearest_bundle(folder) / "model.onnx"
    model = onnx.load(path)
    external = folder / "external.onnx"
    for tensor in model.graph.initializer:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
    external.write_bytes(model.SerializeToString())
    return [path, external]


def _recipes(_folder: Path) -> list[Path]:
    return sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def _lists(folder: Path) -> list[Path]:
    rows = "case,image,labels,weight,ignore\na,a.nii,b.nii,0.5,liver\nb,c.nii,d.nii,1,\n"
    (folder / "cases.csv").write_text(rows)
    (folder / "semicolons.csv").write_text("\ufeff" + rows.replace(",", ";"))
    return [folder / "cases.csv", folder / "semicolons.csv"]


def _mappings(folder: Path) -> list[Path]:
    (folder / "a.toml").write_text("other = [14, 15]\n[labels]\nliver = 6\nstomach = [7, 16]\n")
    labels = {"background": 0, "liver": 1, "rkid": 2, "bladder": 3}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return [folder / "a.toml", folder / "dataset.json"]


def _read_scan(path: Path) -> None:
    for _ in open_volume(path).slabs():
        pass
    read_volume(path)


def _read_series(path: Path) -> None:
    for _ in open_volume(path.parent).slabs():
        pass


def _read_label_map(path: Path) -> None:
    label_map = read_labels(path)
    assert isinstance(label_map, LabelMap)
    read_organ_labels(path, read_label_scheme("flare"))


def _read_model(path: Path) -> None:
    """The walk of the bytes must see external data wherever onnx itself does."""
    import onnx

    content = path.read_bytes()
    external = names_external_data(content)
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # no model for onnx either
        return
    tensors = [*model.graph.initializer]
    tensors += [a.t for node in model.graph.node for a in node.attribute]
    named = any(t.data_location == onnx.TensorProto.EXTERNAL or t.external_data for t in tensors)
    assert external or not named, "onnx sees weights in another file, viscera does not"
    # The checksum is no hindrance to somebody who mends it.
    toml = path.with_name("bundle.toml")
    kept = [
        line for line in toml.read_text().splitlines() if not line.startswith(("sha256", "file"))
    ]
    at = kept.index("[model]") + 1
    kept[at:at] = [
        f'file = "{path.name}"',
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"',
    ]
    toml.write_text("\n".join(kept) + "\n")
    read_bundle(path.parent)


def _read_recipe(path: Path) -> None:
    from viscera.training.recipe import read_recipe

    recipe, text = read_recipe(path)
    assert recipe.name
    assert text


def _read_cases(path: Path) -> None:
    read_csv(path, needs=("case", "image", "labels"))
    from viscera.training.data.cases import find_cases

    find_cases([path])


TARGETS = (
    Target("NIfTI", _nifti, _read_scan),
    Target("NRRD", _nrrd, _read_scan),
    Target("MetaImage", _metaimage, _read_scan),
    Target("DICOM", _dicom, _read_series, needs="pydicom", has_company=True),
    Target("label map", _label_maps, _read_label_map),
    Target("bundle.toml", _bundle, lambda path: read_bundle(path.parent), has_company=True),
    Target("ONNX", _onnx, _read_model, needs="onnx", has_company=True),
    Target("recipe", _recipes, _read_recipe, needs="torch"),
    Target("list", _lists, _read_cases, needs="torch"),
    Target("mapping", _mappings, read_label_scheme),
)


class Fuzzer:
    """Makes the damaged files of one target."""

    def __init__(self, target: Target, folder: Path, *, seed: int) -> None:
        """Write the whole files.

        Args:
            target: the kind of input.
            folder: to work in.
            seed: the same seed gives the same files.
        """
        self.target, self._seed = target, seed
        self._whole, self._work = folder / "whole", folder / "work"
        self._whole.mkdir()
        self._seeds = target.seeds(self._whole)

    def damaged(self, number: int) -> Path:
        """The damaged file of this number, with the files that lay beside it."""
        random_ = random.Random(f"{self.target.name} {self._seed} {number}")
        source = random_.choice(self._seeds)
        shutil.rmtree(self._work, ignore_errors=True)
        if self.target.has_company:
            shutil.copytree(source.parent, self._work)
        else:
            self._work.mkdir()
        content = source.read_bytes()
        # Damage of what is inside: most readers stop a damaged stream at its checksum.
        if content[:2] == b"\x1f\x8b" and random_.random() < 0.7:
            content = gzip.compress(mutate(gzip.decompress(content), random_), 1)
        else:
            content = mutate(content, random_)
        path = self._work / source.name
        path.write_bytes(content)
        return path


def try_one(target: Target, path: Path) -> VisceraError | None:
    """Give a file to its reader: None if it was read, the refusal if it was refused.

    Args:
        target: the kind of input.
        path: the damaged file.
    """
    try:
        target.read(path)
    except VisceraError as error:
        return error
    return None
