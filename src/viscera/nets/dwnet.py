"""The default bundle's network: a 3-D U-Net of depthwise separable convolutions throughout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from viscera.nets.blocks import scores_layer, separable_3d
from viscera.nets.registry import Norm

_HALF = (2, 2, 2)
_LAST = (1, 2, 2)  # the deepest level is only coarser in plane
_FINE = 2  # levels with one convolution in the encoder; the decoder has one at all the others


class DwNet(nn.Module):
    """Depthwise separable 3-D U-Net, laid out as nnU-Net's plain one of the same depth.

    Its layout is that of the network which `tools/published_weights.py` reads, so that training
    can begin where that one ended, with the instance normalisation that it ended with.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], norm: Norm) -> None:
        super().__init__()
        self.encode = nn.ModuleList([nn.Sequential(separable_3d(channels, widths[0], norm))])
        strides = [_HALF] * (len(widths) - 2) + [_LAST]
        for level, (a, b) in enumerate(pairwise(widths), start=1):
            stage = nn.Sequential(separable_3d(a, b, norm, stride=strides[level - 1]))
            if level >= _FINE:
                stage.append(separable_3d(b, b, norm))
            self.encode.append(stage)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(b, a, stride, stride)
            for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.decode = nn.ModuleList()
        for level, width in enumerate(widths[:-1]):
            stage = nn.Sequential(separable_3d(2 * width, width, norm))
            if level < _FINE:
                stage.append(separable_3d(width, width, norm))
            self.decode.append(stage)
        self.score = scores_layer(widths[0], classes, rank=3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, z, y, x) in, (N, classes, z, y, x) scores out.

        Sizes are divisible by 16 with five widths.
        """
        skips = []
        for encode in self.encode:
            x = encode(x)
            skips.append(x)
        skips.pop()
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            x = decode(torch.cat((up(x), skips.pop()), dim=1))
        return self.score(x)
