"""Hostile and odd DICOM. As in builders.py: each writes into a folder and returns what to give."""

from __future__ import annotations

import io
import stat
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tests.attacks.builders import ct
from tests.dicom_series import (
    CORONAL,
    FEET_FIRST,
    NEGATED,
    SAGITTAL,
    enhanced,
    write_series,
)  # fmt: skip

PRONE = ((-1, 0, 0), (0, -1, 0))
DECUBITUS = ((0, 1, 0), (-1, 0, 0))


def series(folder: Path, edit=None, name="study", **more) -> Path:
    """The coarse phantom as an axial series."""
    values = np.ascontiguousarray(ct().transpose(2, 1, 0))
    given = {"spacing_mm": (7.0, 7.5), "step_mm": (0, 0, 10.0), **more}
    write_series(folder / name, values, edit=edit, **given)
    return folder / name


def dicom_good(folder):
    return series(folder)


def dicom_file(folder):
    """One file of a series: a volume of one slice."""
    return next(iter(sorted(series(folder).iterdir())))


def dicom_none(folder):
    """An MR and nothing else."""

    def edit(data, k):
        data.SOPClassUID, data.Modality = "1.2.840.10008.5.1.4.1.1.4", "MR"
        return k < 2

    return series(folder, edit)


def dicom_scouts_alone(folder):
    def edit(data, k):
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        return k < 2

    return series(folder, edit)


def dicom_mixed(folder):
    study = series(folder)
    (study / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(400))
    (study / "notes.txt").write_text("a patient's letter")
    (study / "dose.json").write_text("{}")
    (study / "empty.dcm").touch()
    meta = b"\x02\0\x02\0UI\x1a\0" + b"1.2.840.10008.1.3.10\0".ljust(26, b"\0")
    (study / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + meta)
    return study


def dicom_several(folder, alike="no"):
    series(folder, name="study/a", uid="1.2.3.1")
    fewer = None if alike == "alike" else lambda _data, k: k < 20
    series(folder, fewer, name="study/b", uid="1.2.3.2")
    return folder / "study"


def dicom_patients(folder):
    def other(data, _k):
        data.PatientID, data.StudyInstanceUID = "SECRET-2", "1.2.9"

    series(folder, name="study/a", uid="1.2.3.1")
    series(folder, other, name="study/b", uid="1.2.3.2")
    return folder / "study"


def dicom_patients_in_one_folder(folder):
    study = dicom_patients(folder)
    for path in [p for p in study.rglob("*") if p.is_file()]:
        path.rename(study / f"{path.parent.name}_{path.name}")
    for name in ("a", "b"):
        (study / name).rmdir()
    return study


def dicom_scout(folder):
    def edit(data, k):
        if k == 0:
            data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    return series(folder, edit)


def dicom_twice(folder, pixels="same"):
    study = series(folder)
    path = sorted(study.iterdir())[3]
    content = path.read_bytes()
    (study / "copy").write_bytes(content if pixels == "same" else content[:-200] + bytes(200))
    return study


def dicom_gap(folder, missing="2"):
    return series(folder, lambda _data, k: not 10 <= k < 10 + int(missing))


def dicom_uneven(folder):
    along = np.arange(28) * 10.0
    along[14:] += 5
    return series(folder, positions_mm=[(-40, -30, z) for z in along])


def dicom_numbers(folder, what="absent"):
    def edit(data, _k):
        if what == "absent":
            del data.InstanceNumber
        else:
            data.InstanceNumber = 1

    return series(folder, edit)


def dicom_tilt(folder):
    return series(folder, step_mm=(0, 2.2, 9.8))


def dicom_lying(folder, how="negated"):
    ways = {"negated": NEGATED, "feet first": FEET_FIRST, "prone": PRONE, "decubitus": DECUBITUS}
    if how in ways:
        return series(folder, cosines=ways[how])
    cosines, step = {"coronal": (CORONAL, (0, 10.0, 0)), "sagittal": (SAGITTAL, (10.0, 0, 0))}[how]
    return series(folder, cosines=cosines, step_mm=step)


def dicom_directions(folder):
    def edit(data, k):
        if k == 5:
            data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]

    return series(folder, edit)


def dicom_without(folder, keyword="ImagePositionPatient"):
    def edit(data, k):
        if k == 5:
            delattr(data, keyword)

    return series(folder, edit)


def dicom_detector(folder):
    def edit(data, _k):
        data.ImagerPixelSpacing = data.PixelSpacing
        del data.PixelSpacing

    return series(folder, edit)


def dicom_rescale(folder, how="by slice"):
    values = ct().transpose(2, 1, 0).astype(np.int64)

    def edit(data, k):
        if how == "by slice":
            data.RescaleIntercept = -1024 - k
            data.PixelData = (values[k] + 1024 + k).astype("<i2").tobytes()
        elif how == "absent":
            del data.RescaleIntercept
            del data.RescaleSlope
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data.RescaleSlope = how

    return series(folder, edit)


def dicom_padding(folder):
    def edit(data, _k):
        pixels = np.frombuffer(data.PixelData, "<i2").reshape(data.Rows, data.Columns).copy()
        pixels[:4] = -2000
        pixels[-4:] = -3024
        data.PixelData, data.PixelPaddingValue = pixels.tobytes(), -2000

    return series(folder, edit)


def dicom_overlay(folder):
    def edit(data, _k):
        pixels = np.frombuffer(data.PixelData, "<i2").astype(np.int64) + 1024
        data.PixelData = (pixels.clip(0, 4095) | 0xA000).astype("<u2").tobytes()
        data.PixelRepresentation, data.BitsStored, data.HighBit = 0, 12, 11
        data.RescaleIntercept = -1024

    return series(folder, edit)


def dicom_inverted(folder):
    def edit(data, _k):
        pixels = 4095 - (np.frombuffer(data.PixelData, "<i2").astype(np.int64) + 1024)
        data.PixelData = pixels.clip(0, 4095).astype("<u2").tobytes()
        data.PixelRepresentation, data.BitsStored, data.HighBit = 0, 12, 11
        data.RescaleIntercept, data.PhotometricInterpretation = -1024, "MONOCHROME1"

    return series(folder, edit)


def dicom_syntax(folder, name="jpeg lossless"):
    from tests.test_dicom_peers import SYNTAXES

    study = series(folder)
    SYNTAXES[name](study)
    return study


def dicom_syntax_unknown(folder, uid="1.2.840.10008.1.2.4.100"):

    def edit(data, _k):
        data.file_meta.TransferSyntaxUID = uid
        data.PixelData = (
            b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\4\0\0\0abcd\xfe\xff\xdd\xe0\0\0\0\0"
        )
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True

    return series(folder, edit)


def dicom_enhanced(folder):
    enhanced(series(folder, name="single"), folder / "ct.dcm")
    return folder / "ct.dcm"


def dicom_damaged(folder, how="cut"):
    study = series(folder)
    path = sorted(study.iterdir())[12]
    content = path.read_bytes()
    path.write_bytes(content[:-500] if how == "cut" else content[:300])
    return study


def dicom_codestream(folder):
    """Compressed pixels of one slice are noise."""
    study = dicom_syntax(folder, "jpeg 2000")
    path = sorted(study.iterdir())[12]
    content = bytearray(path.read_bytes())
    at = content.index(b"\xff\x4f\xff\x51") + 60
    content[at:-20] = np.random.default_rng(0).bytes(len(content) - at - 20)
    path.write_bytes(content)
    return study


def dicom_deadly(folder, syntax="jpeg lossless"):
    """A number of bits in one slice's codestream of which GDCM 3.2 dies."""
    study = dicom_syntax(folder, syntax)
    path = sorted(study.iterdir())[12]
    content = bytearray(path.read_bytes())
    if syntax == "jpeg lossless":
        content[content.index(b"\xff\xd8\xff\xc3") + 6] = 0xFF
    else:
        content[content.index(b"\xff\x4f\xff\x51") + 42] = 0x63
    path.write_bytes(content)
    return study


def dicom_bare(folder, syntax="implicit"):
    """No preamble and no meta group, as files of old have it."""
    from pydicom import dcmread
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    study = series(folder)
    for path in study.iterdir():
        data = dcmread(path)
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = True, syntax == "implicit"
        write_dataset(out, data)
        path.write_bytes(out.getvalue())
    return study


def dicom_odd(folder):
    """A private element of an unknown kind, and a group length that is wrong."""
    from pydicom import dcmread

    study = series(folder)
    odd = b"\x09\0\x10\0LO\4\0ODD " + b"\x09\0\x01\x10ZZ\6\0strange"[:14]
    length = b"\x08\0\0\0UL\4\0" + struct.pack("<I", 999_999)
    for path in study.iterdir():
        content = path.read_bytes()
        first = content.index(b"\x08\0\x08\0CS")  # ImageType opens the data set
        group10 = content.index(b"\x10\0\x10\0PN")
        path.write_bytes(
            content[:first] + length + content[first:group10] + odd + content[group10:]
        )
        dcmread(path, stop_before_pixels=True)
    return study


def _with_bytes(folder: Path, extra: bytes) -> Path:
    """A series whose first file holds an element of these bytes before its pixels."""
    study = series(folder)
    path = sorted(study.iterdir())[0]
    content = path.read_bytes()
    at = content.index(b"\xe0\x7f\x10\0OW")
    path.write_bytes(content[:at] + extra + content[at:])
    return study


def dicom_nested(folder, depth="100000"):
    """A sequence within a sequence, and so on, none of them closed."""
    sequence = b"\x40\0\x75\x02SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    return _with_bytes(folder, sequence * int(depth))


def dicom_length(folder):
    """An element that says it has 4 GB."""
    return _with_bytes(folder, b"\x40\0\x75\x02UN\0\0\xf0\xff\xff\xff")


def dicom_deflate_bomb(folder):
    """0.4 MB that inflate to 400 MB."""
    study = series(folder)
    path = sorted(study.iterdir())[0]
    content = path.read_bytes()
    syntax, deflated = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    at = content.index(b"\x08\0\x08\0CS")
    meta = content[:at]
    place = meta.index(syntax)
    meta = meta[: place - 2] + struct.pack("<H", len(deflated)) + deflated + meta[place + 20 :]
    meta = meta[:140] + struct.pack("<I", len(meta) - 144) + meta[144:]
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = b"\x09\0\x10\x10UN\0\0" + struct.pack("<I", 400_000_000)
    parts = [engine.compress(content[at : content.index(b"\x10\0\x10\0PN")] + head)]
    parts += [engine.compress(bytes(1_000_000)) for _ in range(400)]
    path.write_bytes(meta + b"".join(parts) + engine.flush())
    return study


def dicom_pixels_declared(folder):
    def edit(data, k):
        if k == 3:
            data.Rows = data.Columns = 65535

    return series(folder, edit)


def dicom_frames_declared(folder):
    def edit(data, _k):
        data.NumberOfFrames = 2_000_000_000

    return series(folder, edit)


def dicom_program(folder):
    study = series(folder)
    path = sorted(study.iterdir())[0]
    path.write_bytes(b"MZ\x90\0" + path.read_bytes()[4:])
    return study


# Archives


def dicom_zip(folder, how="good"):
    study = series(folder, name="made")
    target = folder / "study.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(study.iterdir()):
            archive.write(path, f"study/{path.name}")
        if how == "slip":
            archive.writestr("../../slipped.txt", "out of the folder")
        elif how == "link":
            entry = zipfile.ZipInfo("study/link")
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
        elif how == "nested":
            inner = io.BytesIO()
            with zipfile.ZipFile(inner, "w") as more:
                more.writestr("a", b"b")
            archive.writestr("study/more.zip", inner.getvalue())
        elif how == "many":
            for n in range(100_000):
                archive.writestr(zipfile.ZipInfo(f"{n}"), b"")
        elif how == "burst":
            with archive.open("study/zeros", "w") as file:
                for _ in range(400):
                    file.write(bytes(1_000_000))
    if how == "encrypted":
        content = bytearray(target.read_bytes())
        for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            at = content.find(mark)
            while at >= 0:
                content[at + offset] |= 1
                at = content.find(mark, at + 4)
        target.write_bytes(content)
    elif how == "cut":
        target.write_bytes(target.read_bytes()[:-5000])
    elif how == "flip":
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 0x55
        target.write_bytes(content)
    return target
