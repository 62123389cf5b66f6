"""Losses: soft Dice and cross-entropy that ignore what nobody labelled; distillation.

A case that does not annotate an organ shows it as background. There, background and all organs
that are not annotated count as one class, whose probability is their sum, so that finding such an
organ costs nothing (the marginal loss of Shi et al., Medical Image Analysis 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from viscera.training.augment import Samples
from viscera.training.cache import IGNORED
from viscera.training.settings import Loss

_SMOOTH = 1.0  # voxels added to both sides of Dice: an organ that is absent and not found is 1


def loss_of(scores: Tensor | list[Tensor], samples: Samples, how: Loss) -> Tensor:
    """The recipe's loss, a mean over samples by their weights.

    Args:
        scores: (N, C, ...) or, for deep supervision, a list of them, each level half as fine.
        samples: the truth.
        how: what is weighed how.
    """
    levels = scores if isinstance(scores, list) else [scores]
    total = torch.zeros((), device=samples.image.device)
    weight, sum_of_weights = 1.0, 0.0
    for level in levels:
        size = level.shape[2:]
        labels = _at(samples.labels, size)
        total = total + weight * _level(level.float(), labels, samples, how)
        sum_of_weights += weight
        weight *= how.deep_supervision
    total = total / sum_of_weights
    if how.distillation and samples.teacher is not None:
        total = total + how.distillation * distillation(levels[0].float(), samples)
    return total


def _level(scores: Tensor, labels: Tensor, samples: Samples, how: Loss) -> Tensor:
    shares = marginal(scores.softmax(dim=1), samples.annotated)
    # (N,) each: a sample counts by its own weight.
    loss = how.cross_entropy * cross_entropy(scores, shares, labels)
    loss = loss + how.dice * dice(shares, labels, samples.annotated)
    return (loss * samples.weight).mean()


def _at(labels: Tensor, size: torch.Size) -> Tensor:
    """Labels (N, d, y, x) at a level's size (y, x) or (z, y, x), the nearest voxels'."""
    if len(size) == 2:
        labels = labels[:, 0]
    if labels.shape[1:] == size:
        return labels.long()
    steps = [n // m for n, m in zip(labels.shape[1:], size, strict=True)]
    return labels[(slice(None), *(slice(s // 2, None, s) for s in steps))].long()


def marginal(shares: Tensor, annotated: Tensor) -> Tensor:
    """Probabilities with those of organs that are not annotated moved to background.

    Args:
        shares: (N, C, ...).
        annotated: (N, C).
    """
    if bool(annotated.all()):
        return shares
    speaks = annotated.view(*annotated.shape, *[1] * (shares.dim() - 2)).to(shares.dtype)
    background = shares[:, :1] + (shares * (1 - speaks)).sum(dim=1, keepdim=True)
    return torch.cat((background, shares[:, 1:] * speaks[:, 1:]), dim=1)


def cross_entropy(scores: Tensor, shares: Tensor, labels: Tensor) -> Tensor:
    """(N,) mean over the voxels that are not ignored; 0 where all are.

    Args:
        scores: (N, C, ...), from which organs' log-probabilities are taken.
        shares: (N, C, ...) of `marginal`, from which background's is taken.
        labels: (N, ...).
    """
    counted = labels != IGNORED
    index = torch.where(counted, labels, 0).unsqueeze(1)
    organ = scores.log_softmax(dim=1).gather(1, index)[:, 0]
    background = shares[:, 0].clamp(min=torch.finfo(shares.dtype).tiny).log()
    each = -torch.where(labels == 0, background, organ) * counted
    return each.flatten(1).sum(dim=1) / counted.flatten(1).sum(dim=1).clamp(min=1)


def dice(shares: Tensor, labels: Tensor, annotated: Tensor) -> Tensor:
    """(N,) 1 - soft Dice, mean over background and annotated organs.

    Args:
        shares: (N, C, ...) probabilities.
        labels: (N, ...), 255 ignored.
        annotated: (N, C).

    Overlaps are summed over the batch before they are divided, so that an organ that is absent
    from one sample does not decide that sample's loss by a few voxels.
    """
    counted = (labels != IGNORED).unsqueeze(1)
    truth = torch.zeros_like(shares).scatter_(1, torch.where(counted, labels.unsqueeze(1), 0), 1.0)
    shares, truth = shares * counted, truth * counted
    speaks = annotated.float()
    axes = tuple(range(2, shares.dim()))
    overlap = ((shares * truth).sum(axes) * speaks).sum(0)
    total = ((shares + truth).sum(axes) * speaks).sum(0)
    each = 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)
    # Every sample carries the same loss, over the organs that it speaks of.
    return (each * speaks).sum(1) / speaks.sum(1).clamp(min=1)


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
