"""Layers rewritten in the form that engines run fastest; the function stays the same."""

from __future__ import annotations

import copy
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CONV = (nn.Conv2d, nn.Conv3d)
_BATCH = (nn.BatchNorm2d, nn.BatchNorm3d)


def fold_for_export(network: nn.Module) -> nn.Module:
    """A copy of a network, in evaluation, for export.

    Batch normalisations go into the convolutions before them, and pointwise convolutions into those
    of a single channel: they must stand right behind in a Sequential, as `viscera.nets.blocks` puts
    them. Group normalisations of images become `PlainGroupNorm`.
    """
    result = copy.deepcopy(network).eval()
    for module in list(result.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, PlainGroupNorm(child))
        if not isinstance(module, nn.Sequential):
            continue
        for number in range(len(module) - 1):
            conv, following = module[number], module[number + 1]
            if isinstance(conv, _CONV) and isinstance(following, _BATCH):
                module[number] = fuse_conv_bn_eval(conv, following)
                module[number + 1] = nn.Identity()
            if isinstance(conv, nn.Conv3d) and _pointwise_on_one(conv, following):
                module[number], module[number + 1] = (
                    nn.Identity(),
                    _merge_convolutions(conv, following),
                )
    return result


def _pointwise_on_one(conv: nn.Conv3d, following: nn.Module) -> TypeGuard[nn.Conv3d]:
    """Whether a convolution has one channel in and out, and only pointwise weights behind it."""
    plain = conv.in_channels == conv.out_channels == 1 and conv.bias is None
    return plain and isinstance(following, nn.Conv3d) and following.kernel_size == (1, 1, 1)


def _merge_convolutions(conv: nn.Conv3d, pointwise: nn.Conv3d) -> nn.Conv3d:
    """One convolution that does what these two do."""
    result = copy.deepcopy(conv)
    result.out_channels, result.bias = pointwise.out_channels, pointwise.bias
    with torch.no_grad():
        result.weight = nn.Parameter(
            pointwise.weight * conv.weight
        )  # (out, 1, 1...) x (1, 1, z...)
    return result


class PlainGroupNorm(nn.Module):
    """GroupNorm of (N, C, y, x) without a reshape.

    An engine keeps the channels of a pixel together; to normalise groups by reshaping, it first has
    to put every image apart and then together again: a third of the paper's network (77 ms against
    56 for four slices, OpenVINO, bf16). Here a 1x1 convolution averages the channels' means over
    each group.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        count = norm.num_channels // norm.num_groups
        group = torch.block_diag(*[torch.full((count, count), 1 / count)] * norm.num_groups)
        self.register_buffer("average", group[:, :, None, None])
        self.register_buffer("gain", norm.weight.detach()[:, None, None])
        self.register_buffer("shift", norm.bias.detach()[:, None, None])
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, y, x) in and out."""
        centred = x - F.conv2d(x.mean((2, 3), keepdim=True), self.average)
        variance = F.conv2d((centred * centred).mean((2, 3), keepdim=True), self.average)
        return centred * (self.gain / torch.sqrt(variance + self.eps)) + self.shift
