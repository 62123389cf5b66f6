"""Augmentation of intensities: what scanners, kernels, doses and contrast phases change.

Images are (N, D, y, x) in [0, 1], shares of the window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from viscera.training.data.cache import IGNORED

# Limits. What is in HU is taken as a share of the window.
_CONTRAST_HU, _STRETCH, _SHIFT_HU, _NOISE_HU = 60.0, 0.10, 25.0, 25.0


def _uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """From -1 to 1."""
    return torch.rand(*shape, generator=generator, device=generator.device) * 2 - 1


def _blur(image: Tensor) -> Tensor:
    """Each slice smoothed by the kernel 1 2 1."""
    kernel = torch.tensor([1.0, 2.0, 1.0], device=image.device)
    kernel = (kernel[:, None] * kernel / 16).view(1, 1, 3, 3)
    depth = image.shape[1]
    return F.conv2d(
        F.pad(image, (1, 1, 1, 1), mode="replicate"),
        kernel.expand(depth, 1, 3, 3),
        groups=depth,
    )


def shift_contrast(
    image: Tensor, labels: Tensor, classes: int, width_hu: float, generator: torch.Generator
) -> Tensor:
    """Each organ brighter or darker by its own amount, softly at its border.

    Args:
        image: (N, D, y, x).
        labels: (N, d, y, x); of a stack's centre slice if d is 1.
        classes: channels of the network's scores.
        width_hu: of the window.
        generator: of randomness.
    """
    table = torch.zeros(len(image), 256, device=image.device)
    table[:, 1:classes] = _uniform((len(image), classes - 1), generator)
    table *= _CONTRAST_HU / width_hu
    table[:, IGNORED] = 0
    offset = table.gather(1, labels.flatten(1).long()).view(labels.shape)
    return image + _blur(offset)


def stretch_window(image: Tensor, width_hu: float, generator: torch.Generator) -> Tensor:
    """Contrast stretched about the middle of the HU window, and shifted.

    Args:
        image: normalised.
        width_hu: of the HU window.
        generator: of random numbers.
    """
    stretch, shift = _uniform((2, len(image), 1, 1, 1), generator)
    return (image - 0.5) * (1 + stretch * _STRETCH) + 0.5 + shift * (_SHIFT_HU / width_hu)


def add_noise(image: Tensor, width_hu: float, generator: torch.Generator) -> Tensor:
    """Noise of random strength, as fine as voxels or as coarse as a soft kernel makes it.

    Args:
        image: normalised.
        width_hu: of the HU window.
        generator: of random numbers.
    """
    strength, coarse = _uniform((2, len(image), 1, 1, 1), generator).abs()
    noise = torch.randn(image.shape, generator=generator, device=generator.device)
    soft = _blur(noise) * 2.667  # restores the standard deviation: 16 / 6
    return image + strength * (_NOISE_HU / width_hu) * torch.where(coarse > 0.5, soft, noise)


def change_kernel(image: Tensor, generator: torch.Generator) -> Tensor:
    """A softer or a sharper reconstruction kernel.

    Args:
        image: one sample.
        generator: of random numbers.
    """
    sharper = _uniform((len(image), 1, 1, 1), generator)
    return image + sharper * (image - _blur(image))


def coarsen_in_plane(image: Tensor, generator: torch.Generator) -> Tensor:
    """One sample (D, y, x) as if its pixels had been 1.3 to 3 times as large.

    Args:
        image: (D, y, x).
        generator: of random numbers.
    """
    factor = 2.15 + 0.85 * float(_uniform((1,), generator))
    size = [max(2, round(n / factor)) for n in image.shape[1:]]
    small = F.interpolate(image[None], size, mode="area")
    return F.interpolate(small, list(image.shape[1:]), mode="bilinear", align_corners=False)[0]


def thicken_slices(
    image: Tensor, spacing_mm: float, slice_mm: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """One sample (D, y, x) as if its slices had been averaged over a random thickness.

    Args:
        image: (D, y, x).
        spacing_mm: between slices.
        slice_mm: least and greatest thickness.
        generator: of random numbers.
    """
    low, high = slice_mm
    thickness_mm = low + (high - low) * float(_uniform((1,), generator).abs())
    depth = image.shape[0]
    count = max(2, round(depth * spacing_mm / thickness_mm))
    if count >= depth:
        return image
    columns = image.flatten(1).T[None]  # (1, y x, D)
    thick = F.interpolate(columns, count, mode="area")
    restored = F.interpolate(thick, depth, mode="linear", align_corners=False)
    return restored[0].T.reshape(image.shape)
