"""Reading DICOM series and writing DICOM results, beside other readers.

    python benchmarks/dicom.py [--slices 500] [--rounds 5]

Needs the extra `dicom`; SimpleITK and dcm2niix are measured where they are installed. The series are
made: pixels of noise over a phantom, 512 x 512, under the header of pydicom's CT_small.dcm, a real
scanner's with 256 elements. All readers take turns in one process on one warm disk cache; dcm2niix is
a process of its own. Writes benchmarks/results/dicom.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from scipy import ndimage

from viscera.core.organs import ORGANS
from viscera.core.phantom import make_phantom
from viscera.io.read import open_volume
from viscera.segmentation import Segmentation

ROOT = Path(__file__).resolve().parents[1]
COMPRESSED = {
    "RLE": "RLELossless",
    "JPEG lossless": "JPEGLosslessProcess14_1",
    "JPEG-LS": "JPEGLSLossless",
    "JPEG 2000": "JPEG2000Lossless",
}
COMPRESSED_SLICES = 60


def phantom(slices: int) -> tuple[np.ndarray, np.ndarray]:
    """HU and labels [slice, row, column], the phantom's voxels enlarged to 512 x 512."""
    scale = 4
    shape = (128, 128, -(-slices // scale))
    ct, labels = make_phantom(3, shape=shape, spacing_mm=(2.8, 2.8, 320 / shape[2]))
    enlarged = [
        part.T.repeat(scale, 0).repeat(scale, 1).repeat(scale, 2)[:slices]
        for part in (ct.data, labels)
    ]
    return enlarged[0], enlarged[1]


def write_series(folder: Path, hu: np.ndarray) -> None:
    """Uncompressed files of these slices."""
    folder.mkdir()
    data = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    data.Rows, data.Columns = hu.shape[1:]
    data.PixelSpacing, data.SliceThickness = [0.7, 0.7], 0.64
    data.RescaleIntercept, data.RescaleSlope = -1024, 1
    del data["DataSetTrailingPadding"]
    random = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(random.normal(size=(600, 600)), 0.7, mode="wrap") * 25
    for k, plane in enumerate(hu):
        dy, dx = random.integers(0, 600 - plane.shape[0], 2)
        own = noise[dy : dy + plane.shape[0], dx : dx + plane.shape[1]]
        stored = np.clip(plane + own + 1024, 0, 4095).astype("<i2")
        data.ImagePositionPatient = [-179, -179, -160 + 0.64 * k]
        data.InstanceNumber = k + 1
        uid = f"1.2.826.0.1.3680043.8.498.5.{k + 1}"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
        data.PixelData = stored.tobytes()
        data.save_as(folder / f"{k:04d}.dcm")


def compress(source: Path, target: Path, syntax: str) -> None:
    """The same files in another transfer syntax, by GDCM."""
    target.mkdir()
    for path in sorted(source.iterdir())[:COMPRESSED_SLICES]:
        reader, change, writer = (
            gdcm.ImageReader(),
            gdcm.ImageChangeTransferSyntax(),
            gdcm.ImageWriter(),
        )
        reader.SetFileName(str(path))
        reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        change.Change()
        writer.SetFileName(str(target / path.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()


def viscera(folder: Path) -> None:
    """Found, sorted, checked, and every slice walked over as HU."""
    for _ in open_volume(folder).slabs():
        pass


def pydicom_files(folder: Path) -> None:
    """Each file read and its pixels decoded: no sorting, no HU."""
    for path in folder.iterdir():
        _ = pydicom.dcmread(path).pixel_array


def pydicom_decoding(folder: Path) -> float:
    """Seconds of `pixel_array` alone; reading the files is not counted."""
    total = 0.0
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        start = time.perf_counter()
        _ = data.pixel_array
        total += time.perf_counter() - start
    return total


def simpleitk(folder: Path) -> None:
    """Sorted by its own rule, read whole."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.Execute()


def dcm2niix(folder: Path) -> float | None:
    """Sorted, read, and written as NIfTI, uncompressed."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(["dcm2niix", "-o", out, folder], check=False, capture_output=True)
    if done.returncode:
        return float("nan")  # Debian's knows no JPEG-LS
    return None


def seconds(work: Callable[[Path], float | None], folder: Path) -> float:
    start = time.perf_counter()
    own = work(folder)
    return time.perf_counter() - start if own is None else own


def readers() -> dict[str, Callable[[Path], float | None]]:
    found: dict[str, Callable[[Path], float | None]] = {
        "viscera": viscera,
        "pydicom, files read and decoded": pydicom_files,
        "pydicom, `pixel_array` alone": pydicom_decoding,
    }
    try:
        import SimpleITK  # noqa: F401

        found["SimpleITK"] = simpleitk
    except ImportError:
        pass
    if shutil.which("dcm2niix"):
        found["dcm2niix"] = dcm2niix
    return found


def read_table(folders: dict[str, Path], rounds: int) -> str:
    own = readers()
    lines = ["| series | " + " | ".join(f"{name}, s" for name in own) + " | ratio |"]
    lines.append("|---" * (len(own) + 2) + "|")
    for name, folder in folders.items():
        taken: dict[str, list[float]] = {each: [] for each in own}
        for _ in range(rounds):
            for each, work in own.items():
                taken[each].append(seconds(work, folder))
        medians = {each: statistics.median(times) for each, times in taken.items()}
        ratio = medians["viscera"] / medians["pydicom, files read and decoded"]
        cells = " | ".join("-" if m != m else f"{m:.2f}" for m in medians.values())
        lines.append(f"| {name} | {cells} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def write_table(folder: Path, labels: np.ndarray, rounds: int) -> str:
    segmentation = Segmentation(np.asfortranarray(labels.T), open_volume(folder), ORGANS)
    kinds = {
        "NIfTI": ("a.nii.gz", None),
        ".seg.nrrd": ("a.seg.nrrd", None),
        "DICOM SEG": ("a.dcm", "dicom_seg"),
        "RTSTRUCT": ("b.dcm", "dicom_rtstruct"),
    }
    lines = ["| result | s | MB |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as out:
        for name, (file, kind) in kinds.items():
            taken = []
            for _ in range(rounds):
                start = time.perf_counter()
                segmentation.save(Path(out) / file, output_type=kind, overwrite=True)
                taken.append(time.perf_counter() - start)
            size_mb = (Path(out) / file).stat().st_size / 1e6
            lines.append(f"| {name} | {statistics.median(taken):.2f} | {size_mb:.1f} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as made:
        base = Path(made) / "plain"
        hu, labels = phantom(args.slices)
        write_series(base, hu)
        del hu
        folders = {f"{args.slices} slices, uncompressed": base}
        for name, syntax in COMPRESSED.items():
            folders[f"{COMPRESSED_SLICES} slices, {name}"] = Path(made) / syntax
            compress(base, Path(made) / syntax, syntax)
        reading = read_table(folders, args.rounds)
        writing = write_table(base, labels, args.rounds)
    text = f"""# DICOM: reading series, writing results

Made by `python benchmarks/dicom.py`. Medians of {args.rounds}, readers in turn. viscera finds the
series, sorts and checks it and gives HU; pydicom only decodes pixels in any order. `ratio` is
viscera's time over pydicom's for reading the files and decoding them.

- machine: {platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}
- pydicom {pydicom.__version__}, GDCM {gdcm.Version.GetVersion()}, numpy {np.__version__}

{reading}

Results of a {args.slices}-slice series with all 13 organs of a phantom, 512 x 512, written:

{writing}
"""
    (ROOT / "benchmarks/results/dicom.md").write_text(text)


if __name__ == "__main__":
    main()
