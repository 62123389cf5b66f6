"""The original U-Net, the paper's baseline (Ronneberger et al., MICCAI 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from viscera.nets.blocks import conv, scores_layer, upsampling
from viscera.nets.registry import Norm


class Unet(nn.Module):
    """U-Net of standard convolutions, padded, with max-pooling; 31.0 M parameters at 64 to 1024.

    FLOPs by the rule of `viscera.nets.dsunet`: 30.8 G at 3x192x192.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], norm: Norm) -> None:
        super().__init__()

        def double(inside: int, out: int) -> nn.Sequential:
            return nn.Sequential(conv(inside, out, norm), conv(out, out, norm))

        self.encode = nn.ModuleList(double(a, b) for a, b in pairwise((channels, *widths)))
        self.down = nn.MaxPool2d(2)
        self.up = nn.ModuleList(upsampling(b, a) for a, b in pairwise(widths))
        self.decode = nn.ModuleList(double(2 * width, width) for width in widths[:-1])
        self.score = scores_layer(widths[0], classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, y, x) in, (N, classes, y, x) scores out; sizes divisible by 16."""
        x = self.encode[0](x)
        skips = []
        for encode in list(self.encode)[1:]:
            skips.append(x)
            x = encode(self.down(x))
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            x = decode(torch.cat((skips.pop(), up(x)), dim=1))
        return self.score(x)
