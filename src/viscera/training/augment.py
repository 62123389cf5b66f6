"""Augmentation of a batch, on the device it lies on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from viscera.organs import PAIRS
from viscera.training.cache import IGNORED
from viscera.training.geometry import (
    cut_field,
    cut_stack,
    mirrored_sides,
    moved_image,
    moved_labels,
    moved_points,
)
from viscera.training.intensity import (
    coarser_in_plane,
    other_contrast,
    other_kernel,
    other_window,
    thicker_slices,
    with_noise,
)
from viscera.training.recipe import Recipe
from viscera.training.sampling import Batch


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch on its device.

    Attributes:
        image: (N, D, y, x) float32, shares of the window.
        labels: (N, d, y, x) uint8.
        annotated: (N, classes) bool.
        weight: (N,).
        spacing_mm: (N, 3) z, y, x, on the CPU.
        teacher: (N, 3, d, y, x) uint8 or None.
    """

    image: Tensor
    labels: Tensor
    annotated: Tensor
    weight: Tensor
    spacing_mm: Tensor
    teacher: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Samples:
        """A sampler's batch, moved to a device."""
        return cls(
            torch.from_numpy(batch.image).to(device).float() / 255,
            torch.from_numpy(batch.labels).to(device),
            torch.from_numpy(batch.annotated).to(device),
            torch.from_numpy(batch.weight).to(device),
            torch.from_numpy(batch.spacing_mm),
            None if batch.teacher is None else torch.from_numpy(batch.teacher).to(device),
        )


def augmented(samples: Samples, recipe: Recipe, generator: torch.Generator) -> Samples:
    """Varied samples.

    Args:
        samples: as they lie in the cache.
        recipe: magnitudes and shares, network and labels.
        generator: of the samples' device; the same state gives the same result.
    """
    how = recipe.augment
    count = len(samples.image)
    width_hu = recipe.input.window_hu[1] - recipe.input.window_hu[0]

    def chosen(share: float) -> Tensor:
        draw = torch.rand(count, generator=generator, device=generator.device)
        return draw < share

    if how.rotate_deg or how.scale or how.shift or how.elastic:
        samples = _moved(samples, recipe, generator)
    if how.mirror:
        samples = _mirrored(samples, recipe, chosen(how.mirror))
    image, labels, teacher = samples.image, samples.labels, samples.teacher
    if how.contrast:
        other = other_contrast(image, labels, len(recipe.labels), width_hu, generator)
        image = _where(chosen(how.contrast), other, image)
    image = _each(image, chosen(how.in_plane_loss), lambda _n, x: coarser_in_plane(x, generator))
    if recipe.patch is not None:  # a stack of three slices has no thickness to lose
        image = _each(
            image,
            chosen(how.slice_loss),
            lambda n, x: thicker_slices(
                x, float(samples.spacing_mm[n, 0]), how.slice_mm, generator
            ),
        )
    if how.blur:
        image = _where(chosen(how.blur), other_kernel(image, generator), image)
    if how.window:
        image = _where(chosen(how.window), other_window(image, width_hu, generator), image)
    if how.noise:
        image = _where(chosen(how.noise), with_noise(image, width_hu, generator), image)
    image = image.clamp(0, 1)
    if how.field_of_view:
        seen = cut_field(image, chosen(how.field_of_view), generator)
        image = torch.where(seen, image, 0.0)
        labels = torch.where(seen | (labels == IGNORED), labels, torch.zeros_like(labels))
        if teacher is not None:
            teacher = torch.where(seen[:, None], teacher, IGNORED)
    if how.z_crop and recipe.patch is not None:
        image, labels = image.clone(), labels.clone()
        teacher = teacher if teacher is None else teacher.clone()
        mirror = recipe.patch.extend_z == "mirror"
        for n in torch.nonzero(chosen(how.z_crop)).flatten().tolist():
            image[n], beyond = cut_stack(image[n], generator, mirror=mirror)
            # No prediction there is ever used, so none is learnt.
            labels[n, beyond] = IGNORED
            if teacher is not None:
                teacher[n, :, beyond] = IGNORED
    return replace(samples, image=image, labels=labels, teacher=teacher)


def _moved(samples: Samples, recipe: Recipe, generator: torch.Generator) -> Samples:
    sizes = samples.image.shape[1:] if recipe.patch is not None else samples.image.shape[2:]
    points = moved_points(sizes, samples.spacing_mm, recipe.augment, generator)
    teacher = samples.teacher
    if teacher is not None:
        teacher = torch.stack([moved_labels(part, points) for part in teacher.unbind(1)], dim=1)
    return replace(
        samples,
        image=moved_image(samples.image, points),
        labels=moved_labels(samples.labels, points),
        teacher=teacher,
    )


def _mirrored(samples: Samples, recipe: Recipe, which: Tensor) -> Samples:
    index = {name: channel for channel, name in enumerate(recipe.labels)}
    pairs = [(index.get(right.name), index.get(left.name)) for right, left in PAIRS]
    known = [(right, left) for right, left in pairs if right is not None and left is not None]
    image, labels = mirrored_sides(samples.image, samples.labels, which, known)
    annotated = samples.annotated.clone()
    for right, left in known:
        annotated[which, right] = samples.annotated[which, left]
        annotated[which, left] = samples.annotated[which, right]
    teacher = samples.teacher
    if teacher is not None:
        _, classes = mirrored_sides(samples.image, teacher[:, :2], which, known)
        shares = torch.where(which.view(-1, 1, 1, 1, 1), teacher[:, 2:].flip(-1), teacher[:, 2:])
        teacher = torch.cat((classes, shares), dim=1)
    return replace(samples, image=image, labels=labels, annotated=annotated, teacher=teacher)


def _where(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(which.view(-1, 1, 1, 1), new, old)


def _each(image: Tensor, which: Tensor, change: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Change some samples one by one, where no two have the same size on the way."""
    numbers = torch.nonzero(which).flatten().tolist()
    if not numbers:
        return image
    image = image.clone()
    for n in numbers:
        image[n] = change(n, image[n])
    return image
