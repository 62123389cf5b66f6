"""Hostile and odd inputs. Each builder writes into a folder and returns the path to give viscera.

A builder is named in expected.toml, optionally with arguments: ``builder = "dtype:int8"``.
"""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np

from viscera.core.phantom import make_phantom

_AFFINE = np.diag([-7.5, -7.0, 10.0, 1.0])


def ct(shape=(48, 40, 28)) -> np.ndarray:
    volume, _ = make_phantom(7, shape=shape, spacing_mm=(7.5, 7.0, 10.0), noise_hu=5)
    return volume.data


def save(folder: Path, data=None, affine=_AFFINE, name="ct.nii.gz", edit=None, kind=None) -> Path:
    """A NIfTI of these voxels whose header bytes may be edited afterwards."""
    path = folder / name
    data = ct() if data is None else data
    image = (kind or nib.Nifti1Image)(data, affine, dtype=data.dtype)
    image.set_qform(affine, code=1) if np.isfinite(affine).all() else None
    nib.save(image, path)
    if edit:
        raw = path.read_bytes()
        packed = raw[:2] == b"\x1f\x8b"
        head = bytearray(gzip.decompress(raw) if packed else raw)
        edit(head)
        path.write_bytes(gzip.compress(bytes(head), 1) if packed else bytes(head))
    return path


def put(offset: int, code: str, *values):
    """An edit that packs values at an offset of the header."""
    return lambda head: struct.pack_into("<" + code, head, offset, *values)


def together(*edits):
    def edit(head):
        for each in edits:
            each(head)

    return edit


# Offsets in a NIfTI-1 header.
DIM, DATATYPE, PIXDIM, SLOPE, INTER, UNITS = 40, 70, 76, 112, 116, 123
QFORM_CODE, SFORM_CODE, QUATERN_B, SROW = 252, 254, 256, 280
NO_QFORM, NO_SFORM = put(QFORM_CODE, "h", 0), put(SFORM_CODE, "h", 0)


def good(folder, name="ct.nii.gz"):
    return save(folder, name=name)


def empty_file(folder):
    (folder / "ct.nii.gz").touch()
    return folder / "ct.nii.gz"


def text(folder):
    (folder / "ct.nii.gz").write_text("this is not a scan\n" * 40)
    return folder / "ct.nii.gz"


def header_cut(folder):
    path = save(folder, name="ct.nii")
    path.write_bytes(path.read_bytes()[:200])
    return path


def voxels_cut(folder):
    path = save(folder, name="ct.nii")
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def gzip_cut(folder):
    path = save(folder)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def gzip_flip(folder):
    path = save(folder)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    return path


def gzip_crc(folder):
    path = save(folder)
    raw = bytearray(path.read_bytes())
    raw[-6] ^= 1
    path.write_bytes(raw)
    return path


def gzip_trailing(folder):
    path = save(folder)
    path.write_bytes(path.read_bytes() + b"left over" * 100)
    return path


def gzip_members(folder):
    path = save(folder)
    raw = gzip.decompress(path.read_bytes())
    cut = len(raw) // 3
    path.write_bytes(gzip.compress(raw[:cut]) + gzip.compress(raw[cut:]))
    return path


def misnamed(folder, content="nii"):
    if content == "nii":
        return save(folder, name="ct.nii").rename(folder / "ct.nii.gz")
    return save(folder, name="ct.nii.gz").rename(folder / "ct.nii")


def gzip_bomb(folder):
    """300 MB of zeros in 0.3 MB."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((512, 512, 600))
    header.set_sform(_AFFINE, 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with gzip.open(folder / "ct.nii.gz", "wb", compresslevel=6) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(300):
            file.write(bytes(1 << 20))
    return folder / "ct.nii.gz"


def dims(folder, text="48,40,28"):
    values = [int(n) for n in text.split(",")]
    return save(folder, edit=put(DIM, f"{len(values) + 1}h", len(values), *values))


def dims_huge(folder):
    return save(folder, edit=put(DIM, "4h", 3, 32767, 32767, 32767))


def one_volume_4d(folder):
    return save(folder, ct()[..., None])


def series_4d(folder):
    return save(folder, np.stack([ct(), ct()], axis=-1))


def five_d(folder):
    return save(folder, np.stack([ct(), ct()], axis=-1)[:, :, :, None])


def colour(folder, kind="rgb"):
    names = "RGB" if kind == "rgb" else "RGBA"
    dtype = np.dtype([(c, "u1") for c in names])
    return save(folder, np.zeros((48, 40, 28), dtype))


def dtype(folder, name="int16"):
    """HU in every type that can hold them; narrow types are scaled by their header."""
    data = ct()
    kind = np.dtype(name)
    if kind.kind == "c":
        return save(folder, data.astype(name))
    if kind.itemsize == 1:
        # The window of abdominal CT in 8 bits: slope 8.
        stored = np.clip(np.rint(data / 8), *((-128, 127) if kind.kind == "i" else (0, 255)))
        edit = put(SLOPE, "2f", 8.0, 0.0)
        return save(folder, stored.astype(name), edit=edit)
    if kind.kind == "u":
        edit = put(SLOPE, "2f", 1.0, -1024.0)
        return save(folder, (data.astype(np.int64) + 1024).clip(0).astype(name), edit=edit)
    return save(folder, data.astype(name))


def big_endian(folder):
    header = nib.Nifti1Header(endianness=">")
    image = nib.Nifti1Image(ct(), _AFFINE, header=header)
    image.header.set_data_dtype(">i2")
    nib.save(image, folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


def nifti2(folder):
    return save(folder, kind=nib.Nifti2Image)


def pair(folder, give="hdr"):
    nib.save(nib.Nifti1Pair(ct(), _AFFINE), folder / "ct.img")
    return folder / f"ct.{give}"


def datatype_unknown(folder):
    return save(folder, edit=put(DATATYPE, "h", 777))


def slope(folder, value="0"):
    return save(folder, edit=put(SLOPE, "2f", float(value), 0.0))


def inter_nan(folder):
    return save(folder, edit=put(SLOPE, "2f", 1.0, float("nan")))


def nan_voxels(folder, share="0.1"):
    data = ct().astype(np.float32)
    chosen = np.random.default_rng(0).random(data.shape) < float(share)
    data[chosen] = np.nan
    data[0, 0, 0] = np.inf
    return save(folder, data)


def bad_sform(folder, what="nan,qform"):
    value, rest = what.split(",")
    row = [float("nan")] * 4 if value == "nan" else [0.0] * 4
    edits = [put(SROW, "4f", *row)]
    if rest == "alone":
        edits.append(NO_QFORM)
    return save(folder, edit=together(*edits))


def no_forms(folder):
    return save(folder, edit=together(NO_QFORM, NO_SFORM))


def forms_disagree(folder):
    return save(folder, edit=put(SROW + 12, "f", 50.0))


def pixdim_differs(folder):
    return save(folder, edit=together(NO_QFORM, put(PIXDIM + 4, "3f", 1.0, 1.0, 1.0)))


def left_handed(folder):
    return save(folder, affine=np.diag([7.5, -7.0, 10.0, 1.0]))


def permuted(folder):
    data = np.ascontiguousarray(ct().transpose(2, 0, 1)[::-1])
    affine = np.zeros((4, 4))
    affine[:, 0], affine[:, 1], affine[:, 2] = -_AFFINE[:, 2], _AFFINE[:, 0], _AFFINE[:, 1]
    affine[:, 3] = _AFFINE[:, 3] + _AFFINE[:, 2] * (data.shape[0] - 1)
    return save(folder, data, affine)


def oblique(folder, degrees="20"):
    turn = np.deg2rad(float(degrees))
    rotation = np.eye(4)
    rotation[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return save(folder, affine=rotation @ _AFFINE)


def sheared(folder):
    affine = _AFFINE.copy()
    affine[1, 2] = 10 * np.tan(np.deg2rad(12))
    path = folder / "ct.nii.gz"
    image = nib.Nifti1Image(ct(), None)
    image.set_sform(affine, code=1)
    nib.save(image, path)
    return path


def units(folder, what="metres"):
    factor, code = (1e-3, 1) if what == "metres" else (1e3, 3)
    affine = np.diag([*np.diag(_AFFINE)[:3] * factor, 1.0])
    return save(folder, affine=affine, edit=put(UNITS, "b", code))


def spacing(folder, text="0.5,0.5,10", shape="48,40,28"):
    values = [float(v) for v in text.split(",")]
    size = tuple(int(n) for n in shape.split("x")) if "x" in shape else (48, 40, 28)
    return save(folder, ct(size), np.diag([-values[0], -values[1], values[2], 1.0]))


def shape(folder, text="48,40,1"):
    return save(folder, ct(tuple(int(n) for n in text.split(","))))


def long_scan(folder):
    """512 x 512 x 1500, one millimetre apart: 786 MB of voxels."""
    volume, _ = make_phantom(7, shape=(512, 512, 3), spacing_mm=(0.7, 0.7, 60.0), noise_hu=5)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((512, 512, 1500))
    header.set_sform(np.diag([-0.7, -0.7, 1.0, 1.0]), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    with (folder / "ct.nii").open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for k in range(1500):
            file.write(volume.data[:, :, k // 500].tobytes(order="F"))
    return folder / "ct.nii"


def windowed(folder, high="255"):
    unit = np.clip((ct() + 160.0) / 400, 0, 1) * float(high)
    return save(folder, unit.astype(np.float32) if high == "1" else np.rint(unit).astype(np.int16))


def offset_unsigned(folder):
    return save(folder, (ct().astype(np.int32) + 1024).clip(0).astype(np.uint16))


def air(folder):
    rng = np.random.default_rng(0)
    return save(folder, rng.normal(-1000, 8, (48, 40, 28)).astype(np.int16))


def labels(folder):
    _, truth = make_phantom(7, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
    return save(folder, truth)


def fifo(folder):
    os.mkfifo(folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


def folder_without_volumes(folder):
    (folder / "scans").mkdir()
    (folder / "scans" / "notes.txt").write_text("nothing here")
    return folder / "scans"


def unicode_name(folder):
    deep = folder / "Bauch – größe 腹部"
    deep.mkdir()
    return save(deep, name="patient é 1.nii.gz")


def long_path(folder):
    deep = folder
    for n in range(4):
        deep = deep / (f"{n}" * 70)
    deep.mkdir(parents=True)
    return save(deep)


def missing(folder):
    return folder / "no_such_file.nii.gz"


def symlink_loop(folder):
    (folder / "ct.nii.gz").symlink_to(folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


def extension(folder, size="2147483632"):
    path = save(folder, name="ct.nii")
    raw = path.read_bytes()
    head = bytearray(raw[:348])
    struct.pack_into("<f", head, 108, 368.0)
    block = struct.pack("<ii", int(size), 6) + bytes(8)
    path.write_bytes(bytes(head) + b"\1\0\0\0" + block + raw[352:])
    return path


def offset_huge(folder):
    return save(folder, name="ct.nii", edit=put(108, "f", 2.0e9))
