"""CT series made from an array, as DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

AXIAL = ((1, 0, 0), (0, 1, 0))
CORONAL = ((1, 0, 0), (0, 0, -1))
SAGITTAL = ((0, 1, 0), (0, 0, -1))
NEGATED = ((1, 0, 0), (0, -1, 0))  # the column's cosine
FEET_FIRST = ((-1, 0, 0), (0, 1, 0))
OBLIQUE = ((0.96, 0.28, 0.0), (-0.28, 0.96, 0.0))

# How slices lie, and the step from one to the next.
STACKS = {
    "axial": (AXIAL, (0, 0, 3.0)),
    "axial down": (AXIAL, (0, 0, -3.0)),
    "coronal": (CORONAL, (0, 3.0, 0)),
    "sagittal": (SAGITTAL, (-3.0, 0, 0)),
    "negated": (NEGATED, (0, 0, 3.0)),
    "feet first": (FEET_FIRST, (0, 0, 3.0)),
    "oblique": (OBLIQUE, (0, 0, 3.0)),
    "tilted": (AXIAL, (0, 0.8, 3.0)),
}
_RAS = np.diag([-1.0, -1.0, 1.0])


def write_series(
    folder: Path,
    stored: np.ndarray,
    *,
    cosines=AXIAL,
    spacing_mm=(1.5, 2.0),
    step_mm=(0.0, 0.0, 3.0),
    origin_mm=(-40.0, -30.0, 100.0),
    positions_mm=None,
    uid="1.2.826.0.1.3680043.8.498.1",
    edit=None,
) -> list[Path]:
    """Files of slices [k, row, column] of stored values; names and numbers are out of order.

    `edit(dataset, k)` may change a slice before it is written, or return False to leave it out.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(3).permutation(len(stored))
    written = []
    for k, plane in enumerate(stored):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{k + 1}"
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{uid}.{k + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.9", uid
        data.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.8"
        data.Modality, data.PatientID, data.PatientName = "CT", "SECRET-ID", "Secret^Name"
        data.PatientBirthDate, data.StudyDate = "19010203", "19910203"
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.SeriesNumber, data.InstanceNumber = 3, int(order[k])
        data.SliceThickness = float(np.linalg.norm(step_mm))
        data.Rows, data.Columns = plane.shape
        data.PixelSpacing = list(spacing_mm)
        data.ImageOrientationPatient = [float(v) for axis in cosines for v in axis]
        place = np.add(origin_mm, np.multiply(step_mm, k))
        place = place if positions_mm is None else positions_mm[k]
        data.ImagePositionPatient = [round(float(v), 6) for v in place]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelRepresentation = int(plane.dtype.kind == "i")
        data.RescaleSlope, data.RescaleIntercept = 1, 0
        data.PixelData = plane.astype(plane.dtype.newbyteorder("<")).tobytes()
        if edit is not None and edit(data, k) is False:
            continue
        path = folder / f"IM{order[k]:04d}"
        data.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def write_phantom(folder: Path, name: str, *, spacing_mm=(2.5, 2.5), thick=2.0, seed=7, edit=None):
    """A phantom's abdomen scanned as one of `STACKS`, slices `thick` times as far apart as there.

    Returns the true labels [slice, row, column] in the order of the steps.
    """
    from scipy import ndimage

    from viscera.core.phantom import make_phantom

    volume, truth = make_phantom(seed, shape=(160, 112, 84), spacing_mm=(2.4, 2.4, 4.0))
    cosines, step = STACKS[name]
    along = np.array([*cosines, step], dtype=float)  # row, column, slice; in LPS
    along[0] *= spacing_mm[1]
    along[1] *= spacing_mm[0]
    along[2] *= thick
    # A grid around the phantom's middle that holds its trunk.
    size_mm = (380.0, 290.0, 240.0)  # left, posterior, superior
    unit = along / np.linalg.norm(along, axis=1, keepdims=True)
    counts = np.ceil(np.abs(unit) @ size_mm / np.linalg.norm(along, axis=1)).astype(int)
    middle = volume.affine.matrix @ [*(np.array(volume.shape) / 2), 1]
    middle_lps = _RAS @ middle[:3]
    origin = middle_lps - along.T @ ((counts - 1) / 2)
    index = np.indices(counts).reshape(3, -1)
    world = _RAS @ (origin[:, None] + along.T @ index)
    inverse = np.linalg.inv(volume.affine.matrix)
    at = inverse[:3, :3] @ world + inverse[:3, 3:]
    ct = ndimage.map_coordinates(volume.data, at, order=1, cval=-1000).reshape(counts)
    labels = ndimage.map_coordinates(truth, at, order=0, cval=0).reshape(counts)
    write_series(
        folder,
        np.ascontiguousarray(ct.T),
        cosines=cosines,
        spacing_mm=spacing_mm,
        step_mm=tuple(along[2]),
        origin_mm=tuple(origin),
        edit=edit,
    )
    return np.ascontiguousarray(labels.T)


def enhanced(folder: Path, target: Path, *, order=None) -> None:
    """The single frames of a series as one Enhanced CT, its frames in another order.

    Only what a reader of geometry and HU needs (PS3.3 A.38): everything in functional groups.
    """
    from pydicom import dcmread
    from pydicom.dataset import Dataset
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import EnhancedCTImageStorage

    frames = sorted(
        map(dcmread, folder.iterdir()), key=lambda d: list(d.ImagePositionPatient)[::-1]
    )
    frames = [frames[n] for n in (order if order is not None else range(len(frames)))]
    data = frames[0]
    groups = []
    for frame in frames:
        position, transform, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = frame.ImagePositionPatient
        transform.RescaleSlope, transform.RescaleIntercept = (
            frame.RescaleSlope,
            frame.RescaleIntercept,
        )
        transform.RescaleType = "HU"
        group.PlanePositionSequence = [position]
        group.PixelValueTransformationSequence = [transform]
        groups.append(group)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = data.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = data.PixelSpacing, data.SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    if data.file_meta.TransferSyntaxUID.is_compressed:
        own = [next(generate_frames(frame.PixelData, number_of_frames=1)) for frame in frames]
        pixels = encapsulate(own)
    else:
        pixels = b"".join(frame.PixelData for frame in frames)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
                    "SliceThickness", "RescaleSlope", "RescaleIntercept"):  # fmt: skip
        delattr(data, keyword)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    data.NumberOfFrames, data.PixelData = len(frames), pixels
    data["PixelData"].VR = "OW"
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], groups
    data.save_as(target)
