"""Our own network: 3-D, residual, on a grid of millimetres, small enough for a laptop's CPU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from viscera.nets.blocks import Residual, conv, scores_layer, upsampling
from viscera.nets.registry import Norm


class VisceraNet(nn.Module):
    """Residual encoder, lean decoder, dense 3x3x3 convolutions, all of it below a stride-2 stem.

    The choices are measurements (`benchmarks/networks.py`): dense convolutions reach the CPU's
    peak where depthwise ones wait for memory; batch normalisation folds away at export; the stem's
    stride saves the finest level, which costs most and sees least; one convolution a decoder level
    is enough.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int],
        norm: Norm,
        *,
        supervised: bool = False,
    ) -> None:
        super().__init__()
        self.stem = conv(channels, widths[0], norm, rank=3, stride=2)
        self.encode = nn.ModuleList([Residual(widths[0], widths[0], norm, rank=3)])
        for a, b in pairwise(widths):
            deeper = Residual(a, b, norm, rank=3, stride=2), Residual(b, b, norm, rank=3)
            self.encode.append(nn.Sequential(*deeper))
        self.up = nn.ModuleList(upsampling(b, a, rank=3) for a, b in pairwise(widths))
        self.decode = nn.ModuleList(conv(2 * a, a, norm, rank=3) for a in widths[:-1])
        # The last step up ends in the scores themselves: a full level there would cost the most.
        self.score = upsampling(widths[0], classes, rank=3)
        self.coarse = nn.ModuleList(
            scores_layer(width, classes, rank=3) for width in widths[:-1] if supervised
        )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(N, channels, z, y, x) in, (N, classes, z, y, x) scores out; sizes divisible by 16.

        While a supervised network trains: a list of scores, each of half the size before.
        """
        x = self.stem(x)
        skips = []
        for encode in self.encode:
            x = encode(x)
            skips.append(x)
        x = skips.pop()
        levels = []
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            x = decode(torch.cat((skips.pop(), up(x)), dim=1))
            levels.append(x)
        scores = self.score(x)
        if not (self.training and len(self.coarse)):
            return scores
        return [
            scores,
            *(head(level) for head, level in zip(self.coarse, levels[::-1], strict=True)),
        ]
