"""The paper's network: a U-Net whose encoder is depthwise separable, with channel attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from viscera.nets.blocks import ChannelAttention, conv, scores_layer, separable, upsampling
from viscera.nets.registry import Norm


class DsUnet(nn.Module):
    """Depthwise separable U-Net; at widths 16 to 128 the paper's (Table 2).

    406,476 parameters and 1.288 GFLOPs at 3x192x192 (paper: 0.405 M, 1.29 G). FLOPs as the tool
    thop counts them: one for each multiply-add of a convolution; a transposed convolution takes
    all k x k taps for every output voxel, though stride k leaves it one; pooling, GroupNorm,
    activations and sums are free. `viscera.nets.cost` gives that figure beside the true one.

    The paper leaves open: decoder, down- and up-sampling, groups. These choices meet both figures:
    the first stage and the second half of the bottleneck are standard convolutions, stages are
    joined by strided standard convolutions, the decoder is standard with transposed convolutions.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int], norm: Norm) -> None:
        super().__init__()
        *stages, deepest = widths
        first = stages[0]
        encode = [nn.Sequential(conv(channels, first, norm), conv(first, first, norm))]
        encode += [
            nn.Sequential(separable(a, b, norm), separable(b, b, norm)) for a, b in pairwise(stages)
        ]
        encode += [
            nn.Sequential(separable(stages[-1], deepest, norm), conv(deepest, deepest, norm))
        ]
        for block, width in zip(encode, widths, strict=True):
            block.append(ChannelAttention(width))
        self.encode = nn.ModuleList(encode)
        self.down = nn.ModuleList(conv(width, width, norm, stride=2) for width in stages)
        self.up = nn.ModuleList(upsampling(b, a) for a, b in pairwise(widths))
        self.decode = nn.ModuleList(
            nn.Sequential(conv(2 * width, width, norm), conv(width, width, norm))
            for width in stages
        )
        self.score = scores_layer(first, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, y, x) in, (N, classes, y, x) scores out; sizes divisible by 8."""
        x = self.encode[0](x)
        skips = []
        for down, encode in zip(self.down, list(self.encode)[1:], strict=True):
            skips.append(x)
            x = encode(down(x))
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            x = decode(torch.cat((skips.pop(), up(x)), dim=1))
        return self.score(x)
