"""A peer's pipeline with random weights: what its time and memory would be here. No accuracy.

    python benchmarks/peer.py CT OUTPUT

The architecture and settings of TotalSegmentator's fast model (nnU-Net v2, plain U-Net of 5 stages,
32 to 320 channels, two convolutions a stage, instance normalisation, patches of 112 x 112 x 128
voxels at 3 mm, overlap 0.5, 118 outputs, no mirroring), written plainly in PyTorch, nibabel and
scipy: resampling to 3 mm by cubic splines as nnU-Net does, Gaussian windows, labels back by nearest
voxel. Its own package does more (cropping models, statistics), never less.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

SPACING_MM, PATCH, CLASSES = 3.0, (112, 112, 128), 118
WIDTHS = (32, 64, 128, 256, 320)


def stage(inside: int, out: int, stride: int) -> nn.Sequential:
    """Two convolutions, each with instance normalisation and leaky ReLU."""
    layers: list[nn.Module] = []
    for n in range(2):
        layers += [
            nn.Conv3d(inside if n == 0 else out, out, 3, stride if n == 0 else 1, padding=1),
            nn.InstanceNorm3d(out, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        ]
    return nn.Sequential(*layers)


class PlainUnet(nn.Module):
    """nnU-Net's PlainConvUNet."""

    def __init__(self) -> None:
        super().__init__()
        before = (1, *WIDTHS)
        self.encode = nn.ModuleList(
            stage(a, b, 1 if n == 0 else 2) for n, (a, b) in enumerate(itertools.pairwise(before))
        )
        pairs = list(itertools.pairwise(WIDTHS))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2) for a, b in pairs)
        self.decode = nn.ModuleList(stage(2 * a, a, 1) for a, _ in pairs)
        self.score = nn.Conv3d(WIDTHS[0], CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(1, 1, *patch) in, (1, 118, *patch) out."""
        skips = []
        for encode in self.encode:
            x = encode(x)
            skips.append(x)
        skips.pop()
        for up, decode in zip(self.up, self.decode, strict=True):
            x = decode(torch.cat((up(x), skips.pop()), dim=1))
        return self.score(x)


def starts(length: int, size: int) -> list[int]:
    """First voxels of windows that overlap by half."""
    count = int(np.ceil((length - size) / (size / 2))) + 1
    return [int(s) for s in np.rint(np.linspace(0, length - size, max(1, count)))]


def main() -> None:
    image = nib.load(Path(sys.argv[1]))
    hu = image.get_fdata(dtype=np.float32)
    zoom = np.array(image.header.get_zooms()[:3]) / SPACING_MM
    small = ndimage.zoom(hu, zoom, order=3, mode="nearest")
    small = (small - small.mean()) / small.std()
    padded = np.pad(small, [(0, max(0, p - n)) for n, p in zip(small.shape, PATCH, strict=True)])
    bell = np.ones(())
    for size in PATCH:
        one = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (size / 8)) ** 2)
        bell = np.multiply.outer(bell, one)
    weight = torch.from_numpy(bell.astype(np.float32))
    scores = torch.zeros((CLASSES, *padded.shape), dtype=torch.half)
    total = torch.zeros(padded.shape)
    network = PlainUnet().eval()
    with torch.inference_mode():
        for at in itertools.product(*map(starts, padded.shape, PATCH)):
            box = tuple(slice(s, s + size) for s, size in zip(at, PATCH, strict=True))
            result = network(torch.from_numpy(padded[box])[None, None])[0]
            scores[:, *box] += (result * weight).half()
            total[box] += weight
        for one in scores:
            one /= total
        labels = scores.argmax(dim=0).to(torch.uint8).numpy()
    labels = labels[tuple(slice(0, n) for n in small.shape)]
    back = ndimage.zoom(labels, np.array(hu.shape) / labels.shape, order=0, mode="nearest")
    nib.save(nib.Nifti1Image(back, image.affine), sys.argv[2])


if __name__ == "__main__":
    main()
