"""Losses: soft Dice and cross-entropy that ignore what nobody labelled; distillation.

A case that does not annotate an organ shows it as background. There, background and all organs
that are not annotated count as one class, whose probability is their sum, so that finding such an
organ costs nothing (the marginal loss of Shi et al., Medical Image Analysis 2021).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from viscera.training.augment import Samples
from viscera.training.cache import IGNORED
from viscera.training.settings import Loss

_SMOOTH = 1.0  # voxels added to both sides of Dice: an organ that is absent and not found is 1


def loss_of(scores: Tensor | list[Tensor], samples: Samples, how: Loss) -> Tensor:
    """The recipe's loss: each sample times its weight, the mean of them.

    Args:
        scores: (N, C, ...) or, for deep supervision, a list of them, each level half as fine.
        samples: the truth.
        how: what is weighed how.
    """
    levels = scores if isinstance(scores, list) else [scores]
    total = torch.zeros((), device=samples.image.device)
    weight, sum_of_weights = 1.0, 0.0
    for level in levels:
        labels = _at(samples.labels, level.shape[2:])
        total = total + weight * dice_cross_entropy(
            level, labels, samples.annotated, samples.weight, how.dice, how.cross_entropy
        )
        sum_of_weights += weight
        weight *= how.deep_supervision
    total = total / sum_of_weights
    if how.distillation and samples.teacher is not None:
        total = total + how.distillation * distillation(levels[0].float(), samples)
    return total


def _at(labels: Tensor, size: torch.Size) -> Tensor:
    """Labels (N, d, y, x) at a level's size (y, x) or (z, y, x), the nearest voxels'."""
    if len(size) == 2:
        labels = labels[:, 0]
    if labels.shape[1:] == size:
        return labels.long()
    steps = [n // m for n, m in zip(labels.shape[1:], size, strict=True)]
    return labels[(slice(None), *(slice(s // 2, None, s) for s in steps))].long()


def dice_cross_entropy(
    scores: Tensor,
    labels: Tensor,
    annotated: Tensor,
    weight: Tensor,
    dice: float,
    cross_entropy: float,
) -> Tensor:
    """Weighted sum of soft Dice and cross-entropy: each sample times its weight, the mean of them.

    Cross-entropy is a mean over a sample's voxels that are not ignored. Dice is 1 - (2 I + 1) /
    (T + 1) of each class, with the overlaps I and sums T of the whole batch, samples by their
    weights: a class that is absent from one of them is not judged there by a few voxels. Every
    sample carries the mean
    over background and the organs it annotates.

    Args:
        scores: (N, C, ...).
        labels: (N, ...) int64, 255 ignored.
        annotated: (N, C) bool, background always.
        weight: (N,) of samples.
        dice: weight of Dice.
        cross_entropy: weight of cross-entropy.
    """
    loss: Tensor = _DiceCrossEntropy.apply(scores, labels, annotated, weight, (dice, cross_entropy))
    return loss


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
        weight: Tensor,
        how: tuple[float, float],
    ) -> Tensor:
        dice, cross_entropy = how
        count, classes = scores.shape[:2]
        # (N, voxels, C): sums over voxels or classes are then products of matrices.
        lying = scores.movedim(1, -1).reshape(count, -1, classes)
        shares = lying.float() - lying.amax(dim=-1, keepdim=True)
        shares.exp_()  # torch's own softmax takes twice as long over so few classes
        shares /= shares.sum(dim=-1, keepdim=True)
        flat = labels.flatten(1).unsqueeze(-1)
        counted = (flat != IGNORED).float()
        index = torch.where(flat == IGNORED, 0, flat)
        speaks = annotated.float()

        # Q at the label, and its sums over voxels.
        own = shares.gather(-1, index)
        partly = not bool(annotated.all())
        if partly:
            unspoken = shares @ (1 - speaks).unsqueeze(-1)
            own = torch.where(index == 0, own + unspoken, own)
        own = own.clamp(min=torch.finfo(own.dtype).tiny)
        sums = (counted.mT @ shares)[:, 0]
        sums[:, 0] += (sums * (1 - speaks)).sum(1)
        overlap, voxels = (
            torch.zeros_like(sums).scatter_add_(1, index[..., 0], each[..., 0])
            for each in (own * counted, counted)
        )
        counts = speaks * weight.unsqueeze(1)
        inter = (overlap * counts).sum(0)
        total = ((sums + voxels) * counts).sum(0)

        # The loss itself.
        each = 1 - (2 * inter + _SMOOTH) / (total + _SMOOTH)
        judged = speaks / speaks.sum(1, keepdim=True)
        per_voxel = cross_entropy * weight / count / counted.sum((1, 2)).clamp(min=1)
        loss = dice * (weight / count * (judged @ each)).sum()
        loss = loss - (per_voxel * (own.log() * counted).sum((1, 2))).sum()

        k = dice * (weight / count) @ judged
        rising = k * (2 * inter + _SMOOTH) / (total + _SMOOTH) ** 2
        falling = -2 * k / (total + _SMOOTH)
        share = weight.view(-1, 1, 1)
        b = torch.where(annotated, rising, rising[:1])  # what is unspoken acts as background
        b = b * weight.unsqueeze(1)
        e = (falling[index] * share - per_voxel.view(-1, 1, 1) / own) * counted
        ctx.save_for_backward(shares, own, index, counted, annotated, b, e)
        ctx.partly, ctx.kind, ctx.form = partly, scores.dtype, scores.shape
        return loss

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        shares, own, index, counted, annotated, b, e = ctx.saved_tensors
        inner = shares @ b.unsqueeze(-1) + e * own
        gradient = b.unsqueeze(1) - inner
        gradient.scatter_add_(-1, index, e)
        if ctx.partly:
            gradient += e * (index == 0) * ~annotated.unsqueeze(1)
        gradient *= shares
        gradient *= counted * outer[0]
        form = (ctx.form[0], *ctx.form[2:], ctx.form[1])
        return gradient.to(ctx.kind).view(form).movedim(-1, 1), None, None, None, None


def distillation(scores: Tensor, samples: Samples) -> Tensor:
    """Cross-entropy with the teacher's soft scores, its best two classes; see `training.teacher`.

    Where the labels ignore a voxel the teacher is still heard: its soft scores are a guess that
    the labels do not make.
    """
    assert samples.teacher is not None
    teacher = samples.teacher if scores.dim() == 5 else samples.teacher[:, :, 0]
    best, second, share = teacher.unbind(1)
    heard = (best != IGNORED).float()
    part = share.float() / 255
    log_shares = scores.log_softmax(dim=1)

    def of(channel: Tensor) -> Tensor:
        index = torch.where(channel == IGNORED, 0, channel).long().unsqueeze(1)
        return log_shares.gather(1, index)[:, 0]

    each = -(part * of(best) + (1 - part) * of(second)) * heard
    mean = each.flatten(1).sum(1) / heard.flatten(1).sum(1).clamp(min=1)
    return (mean * samples.weight).mean()
