"""Scans of any number of slices, made from a real one: what the speed benchmarks run on.

Every scan shows the same abdomen, 512 x 512 pixels and 421 mm from end to end, with so many slices;
long ones show it up and down again. A trunk shows the 160 mm with most organs up, down and up again:
nothing in it can be left out. Noise of 12 HU stands for what interpolation takes away, so that the
files compress as scans do.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared/data/tcia_acrin_flt_breast/001_abdomen/ct.nii.gz"
_NOISE_HU = 12.0
_LONGEST = 600  # slices of one abdomen
_TRUNK_MM = (200.0, 360.0)  # of the source, from its lowest slice
_TRUNK_BODIES = 3


def write_scan(path: Path, slices: int, *, trunk: bool = False) -> None:
    """Write a scan of so many slices, unless it stands there."""
    if path.exists():
        return
    image = nib.load(SOURCE)
    hu = np.asarray(image.dataobj, dtype=np.float32)
    if trunk:
        low, high = (round(mm / image.header.get_zooms()[2]) for mm in _TRUNK_MM)
        hu = hu[:, :, low:high]
    bodies = _TRUNK_BODIES if trunk else -(-slices // _LONGEST)
    each = -(-slices // bodies)
    at = np.linspace(0, hu.shape[2] - 1, each)
    random = np.random.default_rng(slices)
    planes = []
    for number in range(slices):
        body, place = divmod(number, each)
        z = at[each - 1 - place if body % 2 else place]
        low = min(int(z), hu.shape[2] - 2)
        plane = hu[..., low] * (low + 1 - z) + hu[..., low + 1] * (z - low)
        noise = ndimage.gaussian_filter(random.normal(size=plane.shape), 0.7, mode="wrap")
        plane += noise * (_NOISE_HU / noise.std()) * (plane > -1000)
        planes.append(np.rint(plane).clip(-1024, 3071).astype(np.int16))
    affine = image.affine.copy()
    affine[:3, 2] *= (hu.shape[2] - 1) / (each - 1)
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(np.stack(planes, axis=2), affine, header), path)
