"""Augmentation of a batch, on the device it lies on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from viscera.training.augment.geometry import (
    deform_image,
    deform_labels,
    deformation_points,
    field_of_view_mask,
    mirror_left_right,
    truncate_stack,
)
from viscera.training.augment.intensity import (
    add_noise,
    change_kernel,
    coarsen_in_plane,
    shift_contrast,
    stretch_window,
    thicken_slices,
)
from viscera.training.data.cache import IGNORED
from viscera.training.data.sampling import SampleBatch
from viscera.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class DeviceBatch:
    """A batch on its device.

    Attributes:
        image: (N, D, y, x) float32, shares of the window.
        labels: (N, d, y, x) uint8.
        annotated: (N, classes) bool.
        weight: (N,).
        spacing_mm: (N, 3) z, y, x, on the CPU.
        size: y, x or z, y, x that the network shall see.
        teacher: (N, 3, d, y, x) uint8 or None.
    """

    image: Tensor
    labels: Tensor
    annotated: Tensor
    weight: Tensor
    spacing_mm: Tensor
    size: tuple[int, ...]
    teacher: Tensor | None = None

    @classmethod
    def of(cls, batch: SampleBatch, device: torch.device) -> DeviceBatch:
        """A sampler's batch, moved to a device.

        Args:
            batch: numpy arrays of one step.
            device: where the network is.
        """
        return cls(
            torch.from_numpy(batch.image).to(device).float() / 255,
            torch.from_numpy(batch.labels).to(device),
            torch.from_numpy(batch.annotated).to(device),
            torch.from_numpy(batch.weight).to(device),
            torch.from_numpy(batch.spacing_mm),
            batch.size,
            None if batch.teacher is None else torch.from_numpy(batch.teacher).to(device),
        )


def augment_batch(samples: DeviceBatch, recipe: Recipe, generator: torch.Generator) -> DeviceBatch:
    """Varied samples.

    Args:
        samples: as they lie in the cache.
        recipe: magnitudes and shares, network and labels.
        generator: of the samples' device; the same state gives the same result.
    """
    settings = recipe.augment
    count = len(samples.image)
    width_hu = recipe.input.window_hu[1] - recipe.input.window_hu[0]

    def chosen(share: float) -> Tensor:
        draw = torch.rand(count, generator=generator, device=generator.device)
        return draw < share

    moves = settings.rotate_deg or settings.scale or settings.shift or settings.elastic
    if moves or samples.size != _image_size(samples):
        samples = _deform_batch(samples, recipe, generator)
    if settings.mirror:
        samples = _mirror_batch(samples, recipe, chosen(settings.mirror))
    image, labels, teacher = samples.image, samples.labels, samples.teacher
    if settings.contrast:
        other = shift_contrast(image, labels, len(recipe.labels), width_hu, generator)
        image = _where(chosen(settings.contrast), other, image)
    image = _change_each(
        image, chosen(settings.in_plane_loss), lambda _n, x: coarsen_in_plane(x, generator)
    )
    if recipe.patch is not None:  # a stack of three slices has no thickness to lose
        image = _change_each(
            image,
            chosen(settings.slice_loss),
            lambda n, x: thicken_slices(
                x, float(samples.spacing_mm[n, 0]), settings.slice_mm, generator
            ),
        )
    if settings.blur:
        image = _where(chosen(settings.blur), change_kernel(image, generator), image)
    if settings.window:
        image = _where(chosen(settings.window), stretch_window(image, width_hu, generator), image)
    if settings.noise:
        image = _where(chosen(settings.noise), add_noise(image, width_hu, generator), image)
    image = image.clamp(0, 1)
    if settings.field_of_view:
        in_view = field_of_view_mask(image, chosen(settings.field_of_view), generator)
        image = torch.where(in_view, image, 0.0)
        labels = torch.where(in_view | (labels == IGNORED), labels, torch.zeros_like(labels))
        if teacher is not None:
            teacher = torch.where(in_view[:, None], teacher, IGNORED)
    if settings.z_crop and recipe.patch is not None:
        image, labels = image.clone(), labels.clone()
        teacher = teacher if teacher is None else teacher.clone()
        mirror = recipe.patch.extend_z == "mirror"
        for n in torch.nonzero(chosen(settings.z_crop)).flatten().tolist():
            image[n], beyond = truncate_stack(image[n], generator, mirror=mirror)
            # No prediction there is ever used, so none is learnt.
            labels[n, beyond] = IGNORED
            if teacher is not None:
                teacher[n, :, beyond] = IGNORED
    return replace(samples, image=image, labels=labels, teacher=teacher)


def _image_size(samples: DeviceBatch) -> tuple[int, ...]:
    """Sizes of the images along as many axes as the network sees."""
    return tuple(samples.image.shape[-len(samples.size) :])


def _deform_batch(samples: DeviceBatch, recipe: Recipe, generator: torch.Generator) -> DeviceBatch:
    factors = [n / size for n, size in zip(_image_size(samples), samples.size, strict=True)]
    spacing_mm = samples.spacing_mm.clone()
    spacing_mm[:, -len(factors) :] *= torch.tensor(factors)
    points = deformation_points(samples.size, spacing_mm, recipe.augment, generator)
    teacher = samples.teacher
    if teacher is not None:
        teacher = torch.stack([deform_labels(part, points) for part in teacher.unbind(1)], dim=1)
    return replace(
        samples,
        image=deform_image(samples.image, points),
        labels=deform_labels(samples.labels, points),
        spacing_mm=spacing_mm,
        teacher=teacher,
    )


def _mirror_batch(samples: DeviceBatch, recipe: Recipe, which: Tensor) -> DeviceBatch:
    channel_pairs = recipe.channel_pairs
    image, labels = mirror_left_right(samples.image, samples.labels, which, channel_pairs)
    annotated = samples.annotated.clone()
    for right, left in channel_pairs:
        annotated[which, right] = samples.annotated[which, left]
        annotated[which, left] = samples.annotated[which, right]
    teacher = samples.teacher
    if teacher is not None:
        _, classes = mirror_left_right(samples.image, teacher[:, :2], which, channel_pairs)
        shares = torch.where(which.view(-1, 1, 1, 1, 1), teacher[:, 2:].flip(-1), teacher[:, 2:])
        teacher = torch.cat((classes, shares), dim=1)
    return replace(samples, image=image, labels=labels, annotated=annotated, teacher=teacher)


def _where(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(which.view(-1, 1, 1, 1), new, old)


def _change_each(image: Tensor, which: Tensor, change: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Change some samples one by one, where no two have the same size on the way."""
    numbers = torch.nonzero(which).flatten().tolist()
    if not numbers:
        return image
    image = image.clone()
    for n in numbers:
        image[n] = change(n, image[n])
    return image
