"""Augmentation of geometry: image and labels move together. Tensors live on any device.

Images are (N, D, y, x) in [0, 1]; labels are (N, d, y, x) uint8. Slice networks (rank 2) move
their slices in plane, patch networks (rank 3) move in all directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from viscera.training.data.cache import IGNORED
from viscera.training.settings import AugmentSettings

_COARSE = 6  # knots of the elastic field along each axis


def deformation_points(
    sizes: Sequence[int],
    spacing_mm: Tensor,
    augment: AugmentSettings,
    generator: torch.Generator,
) -> Tensor:
    """Where each voxel of the results comes from: (N, *sizes, rank), -1 to 1 along x, y, z.

    Args:
        sizes: y, x or z, y, x.
        spacing_mm: (N, 3) z, y, x; rotations are rigid in millimetres.
        augment: magnitudes of the affine map and of the elastic field.
        generator: of the device on which the points shall lie.
    """
    count, rank, device = len(spacing_mm), len(sizes), generator.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device) * 2 - 1

    angles = uniform(count, 3) * math.radians(augment.rotate_deg)
    matrix = torch.diag_embed(1 + uniform(count, rank) * augment.scale)
    # Rotation about z turns x and y; the others tilt the stack, and stay smaller.
    planes = ((0, 1, 1.0),) if rank == 2 else ((0, 1, 1.0), (1, 2, 0.5), (0, 2, 0.5))
    for number, (a, b, share) in enumerate(planes):
        turn = torch.eye(rank, device=device).repeat(count, 1, 1)
        cos, sin = torch.cos(angles[:, number] * share), torch.sin(angles[:, number] * share)
        turn[:, a, a], turn[:, b, b], turn[:, a, b], turn[:, b, a] = cos, cos, -sin, sin
        matrix = turn @ matrix
    # From millimetres to -1 to 1, whose unit differs by axis.
    voxels = torch.tensor(list(sizes[::-1]), dtype=torch.float32, device=device)
    extent_mm = voxels * spacing_mm.to(device).flip(1)[:, :rank]
    matrix = matrix * extent_mm[:, None] / extent_mm[:, :, None]
    shift = uniform(count, rank, 1) * augment.shift * 2
    theta = torch.cat((matrix, shift), dim=2)
    points = F.affine_grid(theta, [count, 1, *sizes], align_corners=False)
    if augment.elastic:
        knots = uniform(count, rank, *[_COARSE] * rank) * (2 * augment.elastic)
        mode = "bicubic" if rank == 2 else "trilinear"
        field = F.interpolate(knots, list(sizes), mode=mode, align_corners=True)
        field = field / voxels.view(1, rank, *[1] * rank)
        points = points + field.movedim(1, -1)
    return points


def deform_image(image: Tensor, points: Tensor) -> Tensor:
    """The image at these points, interpolated linearly; beyond its borders their values continue.

    Args:
        image: (N, D, y, x).
        points: (N, y, x, 2) for stacks of slices, (N, z, y, x, 3) for patches, as
            `torch.nn.functional.grid_sample` has them.
    """
    if points.shape[-1] == 2:  # a stack's slices are channels that move alike
        return F.grid_sample(image, points, padding_mode="border", align_corners=False)
    moved = F.grid_sample(image[:, None], points, padding_mode="border", align_corners=False)
    return moved[:, 0]


def deform_labels(labels: Tensor, points: Tensor) -> Tensor:
    """The labels of the nearest voxels; beyond the borders voxels are ignored.

    Args:
        labels: (N, D, y, x) uint8, 255 ignored.
        points: as `deform_image` takes them.
    """
    shifted = labels.float() + 1  # so that what grid_sample fills in, 0, is none of them
    if points.shape[-1] == 3:
        shifted = shifted[:, None]
    moved = F.grid_sample(shifted, points, mode="nearest", align_corners=False).round() - 1
    moved = torch.where(moved < 0, IGNORED, moved).to(torch.uint8)
    return moved[:, 0] if points.shape[-1] == 3 else moved


def mirror_left_right(
    image: Tensor, labels: Tensor, which: Tensor, pairs: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """These samples mirrored left to right, and their right and left organs swapped with them.

    Args:
        image: (N, D, y, x).
        labels: (N, ..., y, x).
        which: (N,) bool.
        pairs: channels of right and left organs.
    """
    table = torch.arange(256, dtype=torch.uint8, device=labels.device)
    for right, left in pairs:
        table[right], table[left] = left, right
    turned = table[labels.flip(-1).long()]
    image = torch.where(which.view(-1, 1, 1, 1), image.flip(-1), image)
    return image, torch.where(which.view(-1, *[1] * (labels.dim() - 1)), turned, labels)


def field_of_view_mask(image: Tensor, which: Tensor, generator: torch.Generator) -> Tensor:
    """A mask (N, 1, y, x) of what a narrow, elliptic field of view shows; all of it elsewhere.

    Args:
        image: (N, D, y, x), for its shape.
        which: (N,) bool, samples that are cut.
        generator: of randomness.
    """
    count, _, height, width = image.shape
    y = torch.linspace(-1, 1, height, device=image.device).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width, device=image.device).view(1, 1, 1, -1)
    random = torch.rand(3, count, 1, 1, 1, generator=generator, device=generator.device)
    radius, dy, dx = 0.6 + 0.35 * random[0], 0.4 * random[1] - 0.2, 0.4 * random[2] - 0.2
    inside = (y - dy) ** 2 + (x - dx) ** 2 < radius**2
    return inside | ~which.view(-1, 1, 1, 1)


def truncate_stack(
    image: Tensor, generator: torch.Generator, *, mirror: bool
) -> tuple[Tensor, Tensor]:
    """One sample (D, y, x) as if its scan ended within it: slices beyond mirrored, or empty.

    Args:
        image: (D, y, x).
        generator: of random numbers.
        mirror: fill slices beyond the end by mirroring, as the bundle will; else with air.

    Returns:
        The image, and which of its slices (D,) lie beyond.
    """
    depth = image.shape[0]
    random = torch.rand(2, generator=generator, device=generator.device).tolist()
    length = max(2, round(depth * (0.3 + 0.6 * random[0])))
    start = round((depth - length) * random[1])
    index = torch.arange(depth, device=image.device) - start
    beyond = (index < 0) | (index >= length)
    period = 2 * (length - 1)
    mirrored = index.abs() % period
    mirrored = torch.minimum(mirrored, period - mirrored) + start
    image = image[mirrored] if mirror else torch.where(beyond.view(-1, 1, 1), 0.0, image)
    return image, beyond
