"""Losses: soft Dice and cross-entropy that ignore what nobody labelled; distillation.

A case that does not annotate an organ shows it as background. There, background and all organs
that are not annotated count as one class, whose probability is their sum, so that finding such an
organ costs nothing (the marginal loss of Shi et al., Medical Image Analysis 2021).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from viscera.training.augment.batch import DeviceBatch
from viscera.training.data.cache import IGNORED
from viscera.training.settings import LossSettings

_PARTS = 512  # of each class's sum: a GPU adds to one number only in turn
_SMOOTH = 1.0  # voxels added to both sides of Dice: an organ that is absent and not found is 1


class LossWeights(NamedTuple):
    """Weights of soft Dice and of cross-entropy."""

    dice: float
    cross_entropy: float


def training_loss(
    scores: Tensor | list[Tensor], batch: DeviceBatch, settings: LossSettings
) -> Tensor:
    """The recipe's loss: each sample times its weight, the mean of them.

    Args:
        scores: (N, C, ...) or, for deep supervision, a list of them, each level half as fine.
        batch: the truth.
        settings: weights of the parts.
    """
    levels = scores if isinstance(scores, list) else [scores]
    weights = LossWeights(settings.dice, settings.cross_entropy)
    total = torch.zeros((), device=batch.image.device)
    level_weight, sum_of_weights = 1.0, 0.0
    for level in levels:
        labels = _labels_at_size(batch.labels, level.shape[2:])
        loss = dice_cross_entropy(level, labels, batch.annotated, batch.weight, weights)
        total = total + level_weight * loss
        sum_of_weights += level_weight
        level_weight *= settings.deep_supervision
    total = total / sum_of_weights
    if settings.distillation and batch.teacher is not None:
        total = total + settings.distillation * distillation(levels[0].float(), batch)
    return total


def _labels_at_size(labels: Tensor, size: torch.Size) -> Tensor:
    """Labels (N, d, y, x) at a level's size (y, x) or (z, y, x), the nearest voxels'."""
    if len(size) == 2:
        labels = labels[:, 0]
    if labels.shape[1:] == size:
        return labels.long()
    steps = [n // m for n, m in zip(labels.shape[1:], size, strict=True)]
    return labels[(slice(None), *(slice(step // 2, None, step) for step in steps))].long()


def dice_cross_entropy(
    scores: Tensor, labels: Tensor, annotated: Tensor, sample_weight: Tensor, weights: LossWeights
) -> Tensor:
    """Weighted sum of soft Dice and cross-entropy: each sample times its weight, the mean of them.

    Cross-entropy is a mean over a sample's voxels that are not ignored. Dice is 1 - (2 I + 1) /
    (T + 1) of each class, with the overlaps I and sums T of the whole batch, samples by their
    weights: a class that is absent from one of them does not depend there on a few voxels. Every
    sample carries the mean over background and the organs it annotates.

    Args:
        scores: (N, C, ...).
        labels: (N, ...) int64, 255 ignored.
        annotated: (N, C) bool, background always.
        sample_weight: (N,).
        weights: of both parts.
    """
    loss: Tensor = _DiceCrossEntropy.apply(scores, labels, annotated, sample_weight, weights)
    return loss


class _Target(NamedTuple):
    """The truth of a batch, voxels in one row.

    Attributes:
        label: (N, V, 1) int64, 0 where ignored.
        counted: (N, V, 1) 1 where a loss looks, 0 where ignored.
        annotated: (N, C) bool.
    """

    label: Tensor
    counted: Tensor
    annotated: Tensor

    @classmethod
    def of(cls, labels: Tensor, annotated: Tensor) -> _Target:
        flat = labels.flatten(1).unsqueeze(-1)
        ignored = flat == IGNORED
        return cls(torch.where(ignored, 0, flat), (~ignored).float(), annotated)


class _DiceSums(NamedTuple):
    """Overlaps and sums of the whole batch by class, and how much each class counts.

    Attributes:
        overlap: (C,) I, probability at voxels of the class.
        total: (C,) T, probability and voxels of the class.
        class_share: (N, C) share of a sample's Dice that each class carries.
    """

    overlap: Tensor
    total: Tensor
    class_share: Tensor

    def loss_of_class(self) -> Tensor:
        """(C,) 1 - (2 I + 1) / (T + 1)."""
        return 1 - (2 * self.overlap + _SMOOTH) / (self.total + _SMOOTH)


class _DiceCrossEntropy(torch.autograd.Function):
    """`dice_cross_entropy` with its gradient written out.

    Left to autograd it takes four times as long, and most of a training step: all of it is
    passes over memory, and the formula needs few of them. With probabilities P, Q those where
    what is not annotated was added to background, and q = Q[label]:

        dLoss/dQ[c, v] = B[c] + E[v] where c is v's label, B[c] elsewhere
        B[c] = k[c] (2 I + 1) / (T + 1)^2,  E[v] = -2 k[label] / (T + 1) - u[v] / q[v]
        dLoss/dscore = P (dLoss/dP - sum over classes of P dLoss/dP)
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        labels: Tensor,
        annotated: Tensor,
        sample_weight: Tensor,
        weights: LossWeights,
    ) -> Tensor:
        count = len(scores)
        probability = _probabilities(scores)
        target = _Target.of(labels, annotated)
        of_label = _probability_of_label(probability, target)
        sums = _dice_sums(probability, of_label, target, sample_weight)

        voxels = target.counted.sum((1, 2)).clamp(min=1)
        per_voxel = weights.cross_entropy * sample_weight / count / voxels
        dice_of_sample = sums.class_share @ sums.loss_of_class()
        loss = weights.dice * (sample_weight / count * dice_of_sample).sum()
        loss = loss - (per_voxel * (of_label.log() * target.counted).sum((1, 2))).sum()

        k = weights.dice * (sample_weight / count) @ sums.class_share
        rising = k * (2 * sums.overlap + _SMOOTH) / (sums.total + _SMOOTH) ** 2
        falling = -2 * k / (sums.total + _SMOOTH)
        # What is not annotated acts as background.
        b = torch.where(annotated, rising, rising[:1]) * sample_weight.unsqueeze(1)
        e = falling[target.label] * sample_weight.view(-1, 1, 1)
        e = (e - per_voxel.view(-1, 1, 1) / of_label) * target.counted
        ctx.save_for_backward(probability, of_label, *target, b, e)
        ctx.dtype, ctx.shape = scores.dtype, scores.shape
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        probability, of_label, label, counted, annotated, b, e = ctx.saved_tensors
        expected = probability @ b.unsqueeze(-1) + e * of_label
        gradient = b.unsqueeze(1) - expected
        gradient.scatter_add_(-1, label, e)
        if not bool(annotated.all()):
            gradient += e * (label == 0) * ~annotated.unsqueeze(1)
        gradient *= probability
        gradient *= counted * outer[0]
        channels_last = (ctx.shape[0], *ctx.shape[2:], ctx.shape[1])
        gradient = gradient.to(ctx.dtype).view(channels_last).movedim(-1, 1)
        return gradient, None, None, None, None


def _probabilities(scores: Tensor) -> Tensor:
    """(N, V, C) softmax of (N, C, ...): sums over voxels or classes become matrix products."""
    rows = scores.movedim(1, -1).reshape(len(scores), -1, scores.shape[1])
    probability = rows.float() - rows.amax(dim=-1, keepdim=True)
    probability.exp_()  # torch's own softmax takes twice as long over so few classes
    probability /= probability.sum(dim=-1, keepdim=True)
    return probability


def _probability_of_label(probability: Tensor, target: _Target) -> Tensor:
    """(N, V, 1) q: at the label; at background, what is not annotated is added."""
    of_label = probability.gather(-1, target.label)
    if not bool(target.annotated.all()):
        unannotated = probability @ (1 - target.annotated.float()).unsqueeze(-1)
        of_label = torch.where(target.label == 0, of_label + unannotated, of_label)
    return of_label.clamp(min=torch.finfo(of_label.dtype).tiny)


def _dice_sums(
    probability: Tensor, of_label: Tensor, target: _Target, sample_weight: Tensor
) -> _DiceSums:
    """The sums of soft Dice over the batch, samples by their weights."""
    annotated = target.annotated.float()
    sums = (target.counted.mT @ probability)[:, 0]
    sums[:, 0] += (sums * (1 - annotated)).sum(1)
    count, voxels_of_sample = target.label.shape[:2]
    part = torch.arange(voxels_of_sample, device=sums.device) % _PARTS
    index = target.label[..., 0] * _PARTS + part
    overlap, voxels = (
        sums.new_zeros(count, sums.shape[1] * _PARTS)
        .scatter_add_(1, index, values[..., 0])
        .view(*sums.shape, _PARTS)
        .sum(2)
        for values in (of_label * target.counted, target.counted)
    )
    weight = annotated * sample_weight.unsqueeze(1)
    return _DiceSums(
        overlap=(overlap * weight).sum(0),
        total=((sums + voxels) * weight).sum(0),
        class_share=annotated / annotated.sum(1, keepdim=True),
    )


def distillation(scores: Tensor, batch: DeviceBatch) -> Tensor:
    """Cross-entropy with the teacher's soft scores, its best two classes.

    Where the labels ignore a voxel the teacher still counts: its soft scores are a guess that the
    labels do not make.

    Args:
        scores: (N, C, ...) float32.
        batch: with the teacher's scores, see `viscera.training.data.teacher`.
    """
    assert batch.teacher is not None
    teacher = batch.teacher if scores.dim() == 5 else batch.teacher[:, :, 0]
    best, second, share = teacher.unbind(1)
    has_teacher = (best != IGNORED).float()
    probability = share.float() / 255
    log_probability = scores.log_softmax(dim=1)

    def at_channel(channel: Tensor) -> Tensor:
        index = torch.where(channel == IGNORED, 0, channel).long().unsqueeze(1)
        return log_probability.gather(1, index)[:, 0]

    loss = -(probability * at_channel(best) + (1 - probability) * at_channel(second)) * has_teacher
    mean = loss.flatten(1).sum(1) / has_teacher.flatten(1).sum(1).clamp(min=1)
    return (mean * batch.weight).mean()
