"""What networks are built of. Tensors are (N, C, y, x) or (N, C, z, y, x)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from viscera.nets.registry import Norm

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
# Channels of one group: the paper names GroupNorm, not its groups. Eight groups at most keep two
# channels in each of the narrowest level's.
_MOST_GROUPS = 8


def normalisation(norm: Norm, channels: int, rank: int) -> nn.Module:
    """BatchNorm, or GroupNorm with up to eight groups."""
    if norm == "batch":
        return _BATCH[rank](channels)
    return nn.GroupNorm(math.gcd(channels, _MOST_GROUPS), channels)


def conv(
    inside: int, out: int, norm: Norm, *, rank: int = 2, stride: int = 1, active: bool = True
) -> nn.Sequential:
    """Standard 3x3(x3) convolution, normalisation and, if active, ReLU."""
    layers = [
        _CONV[rank](inside, out, 3, stride=stride, padding=1, bias=False),
        normalisation(norm, out, rank),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


def separable(inside: int, out: int, norm: Norm) -> nn.Sequential:
    """Depthwise 3x3, then pointwise 1x1 convolution, normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False),
        nn.Conv2d(inside, out, 1, bias=False),
        normalisation(norm, out, 2),
        nn.ReLU(inplace=True),
    )


def upsampling(inside: int, out: int, *, rank: int = 2) -> nn.Module:
    """Transposed 2x2(x2) convolution, which doubles every size."""
    return _TRANSPOSED[rank](inside, out, 2, stride=2)


def scoring(inside: int, classes: int, *, rank: int = 2) -> nn.Module:
    """Pointwise convolution to class scores."""
    return _CONV[rank](inside, classes, 1)


class ChannelAttention(nn.Module):
    """Efficient Channel Attention (Wang et al., CVPR 2020; paper, network section).

    Each channel is scaled by a gate in (0, 1): the mean of every channel, a 1-D convolution over
    neighbouring channels, a sigmoid. The kernel k = |log2(C) / 2 + 1 / 2| is made odd by taking
    the next odd number above an even one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        kernel = int(abs(math.log2(channels) / 2 + 0.5))
        kernel += 1 - kernel % 2
        self.across = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, y, x) in and out."""
        gate = torch.sigmoid(self.across(x.mean(dim=(2, 3)).unsqueeze(1)))
        return x * gate.transpose(1, 2).unsqueeze(-1)


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the first may stride, the shortcut then does so too."""

    def __init__(self, inside: int, out: int, norm: Norm, *, rank: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(inside, out, norm, rank=rank, stride=stride),
            conv(out, out, norm, rank=rank, active=False),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inside != out:
            straight = _CONV[rank](inside, out, stride, stride=stride, bias=False)
            self.shortcut = nn.Sequential(straight, normalisation(norm, out, rank))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inside, ...) in, (N, out, ...) out."""
        return torch.relu(self.body(x) + self.shortcut(x))
