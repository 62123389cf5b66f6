"""The same job done plainly, for comparison: nibabel, scipy, ONNX Runtime, full-size float scores.

    python benchmarks/plain_segment.py BUNDLE CT OUTPUT [--overlap 0.25]

What a competent user writes in an afternoon with the field's usual tools: the whole scan as
float64, `scipy.ndimage.zoom` to the network's grid and back, 14 float volumes of the source size.
"""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime
from scipy import ndimage

from viscera.bundles import read_bundle


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("ct", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--overlap", type=float, default=0.25)
    args = parser.parse_args()
    bundle = read_bundle(args.bundle)

    image = nib.load(args.ct)
    canonical = nib.as_closest_canonical(image)
    hu = canonical.get_fdata()[::-1, ::-1].transpose(2, 1, 0)  # RAS to LPS, as z, y, x
    spacing = np.array(canonical.header.get_zooms()[:3])[::-1]
    target = np.array(bundle.input.spacing_mm)[::-1]
    small = ndimage.zoom(hu, spacing / target, order=1)
    small = np.clip(small, *bundle.input.window_hu)
    small = ((small - bundle.input.mean_hu) / bundle.input.std_hu).astype(np.float32)

    size = np.array(bundle.patch.size[::-1])
    shape = small.shape
    small = np.pad(small, [(0, max(0, p - n)) for p, n in zip(size, shape, strict=True)])
    session = onnxruntime.InferenceSession(bundle.model_path, providers=["CPUExecutionProvider"])
    bell = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in size]
    weight = np.einsum("i,j,k->ijk", *bell).astype(np.float32)
    scores = np.zeros((len(bundle.labels), *small.shape), np.float32)
    total = np.zeros(small.shape, np.float32)
    starts = []
    for n, p in zip(small.shape, size, strict=True):
        count = math.ceil((n - p) / (p * (1 - args.overlap))) + 1
        starts.append(np.rint(np.linspace(0, n - p, count)).astype(int))
    for corner in itertools.product(*starts):
        box = tuple(slice(s, s + p) for s, p in zip(corner, size, strict=True))
        (result,) = session.run(None, {session.get_inputs()[0].name: small[box][None, None]})
        scores[:, *box] += result[0] * weight
        total[box] += weight
    scores /= total
    scores = scores[:, : shape[0], : shape[1], : shape[2]]

    factors = [n / m for n, m in zip(hu.shape, shape, strict=True)]
    full = np.stack([ndimage.zoom(channel, factors, order=1) for channel in scores])
    labels = np.asarray(bundle.label_ids, np.uint8)[full.argmax(axis=0)]
    labels = labels.transpose(2, 1, 0)[::-1, ::-1]
    there = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.io_orientation(image.affine)
    )
    labels = nib.orientations.apply_orientation(labels, there)
    nib.save(nib.Nifti1Image(labels, image.affine, image.header, dtype=np.uint8), args.output)


if __name__ == "__main__":
    main()
