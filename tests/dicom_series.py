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
