"""What networks are built of. Tensors are (N, C, y, x) or (N, C, z, y, x)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from viscera.nets.registry import Norm

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
# Channels of one group: the paper names GroupNorm, not its groups. Eight groups at most keep two
# channels in each of the narrowest level's.
_MOST_GROUPS = 8
_LEAK = 0.01  # slope of leaky ReLU below 0


def normalisation(norm: Norm, channels: int, rank: int) -> nn.Module:
    """BatchNorm, InstanceNorm, or GroupNorm with up to eight groups.

    Args:
        norm: which of the three.
        channels: of the tensor.
        rank: 2 for (N, C, H, W), 3 for (N, C, D, H, W).
    """
    if norm == "batch":
        return _BATCH[rank](channels)
    if norm == "instance":
        return _INSTANCE[rank](channels, affine=True)
    return nn.GroupNorm(math.gcd(channels, _MOST_GROUPS), channels)


def conv(
    inside: int, out: int, norm: Norm, *, rank: int = 2, stride: int = 1, active: bool = True
) -> nn.Sequential:
    """Standard 3x3(x3) convolution, normalisation and, if active, ReLU.

    Args:
        inside: channels in.
        out: channels out.
        norm: which normalisation.
        rank: 2 or 3 spatial axes.
        stride: along each spatial axis.
        active: end in ReLU.
    """
    layers = [
        _CONV[rank](inside, out, 3, stride=stride, padding=1, bias=False),
        normalisation(norm, out, rank),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if active else []))


def separable(inside: int, out: int, norm: Norm) -> nn.Sequential:
    """Depthwise 3x3, then pointwise 1x1 convolution, normalisation, ReLU.

    Args:
        inside: channels in.
        out: channels out.
        norm: which normalisation.
    """
    return nn.Sequential(
        nn.Conv2d(inside, inside, 3, padding=1, groups=inside, bias=False),
        nn.Conv2d(inside, out, 1, bias=False),
        normalisation(norm, out, 2),
        nn.ReLU(inplace=True),
    )


def separable_3d(
    inside: int, out: int, norm: Norm, *, stride: tuple[int, int, int] = (1, 1, 1)
) -> nn.Sequential:
    """Depthwise 3x3x3, which may stride, then pointwise convolution, normalisation, leaky ReLU.

    Args:
        inside: channels in.
        out: channels out.
        norm: which normalisation.
        stride: along z, y, x.
    """
    layers = [Depthwise3d(inside, stride), nn.Conv3d(inside, out, 1, bias=False)]
    if norm == "instance":
        return nn.Sequential(*layers, InstanceNormLeaky3d(out))
    return nn.Sequential(*layers, normalisation(norm, out, 3), nn.LeakyReLU(_LEAK, inplace=True))


@cache
def _gpu_kernels() -> Any:
    """`viscera.nets.gpu_kernels`; None where torch came without Triton."""
    return import_module("viscera.nets.gpu_kernels") if find_spec("triton") else None


class InstanceNormLeaky3d(nn.InstanceNorm3d):
    """Instance normalisation and leaky ReLU; in training on a GPU both in one."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, z, y, x) in and out."""
        if self.training and input.is_cuda and (kernels := _gpu_kernels()):
            result: Tensor = kernels.normalised_leaky(
                input, self.weight, self.bias, self.eps, _LEAK
            )
            return result
        return F.leaky_relu(super().forward(input), _LEAK, inplace=True)


class Depthwise3d(nn.Conv3d):
    """A 3x3x3 convolution of every channel on its own, quick to train.

    Torch's own backward pass takes most of a training step (on a CPU 2.7 of 7.4 s for 32 channels
    of a million voxels, batch 2). The gradient of the input is a convolution as well, whose forward
    pass is fast. That of the kernel is three times as fast in 32 bits as in 16 on a CPU; on a GPU
    it is summed place by place.
    """

    def __init__(self, channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__(
            channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, z, y, x) in, each size divided by its stride out."""
        # One channel is an ordinary convolution; evaluation and export see torch's own layer.
        if not (self.training and torch.is_grad_enabled()) or self.groups == 1:
            return super().forward(input)
        kernel = self.weight
        if torch.is_autocast_enabled(input.device.type):
            kind = torch.get_autocast_dtype(input.device.type)
            input, kernel = input.to(kind), kernel.to(kind)
        result: Tensor = _Depthwise.apply(input, kernel, self.stride)
        return result


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution; its gradients as `Depthwise3d` says."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.stride = stride
        return F.conv3d(x, kernel, stride=stride, padding=1, groups=len(kernel))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, kernel) = outer, ctx.saved_tensors
        of_x = of_kernel = None
        if ctx.needs_input_grad[0]:
            z, y, x_ = ctx.stride
            spread = gradient
            if max(ctx.stride) > 1:  # what a stride passed over had no part in the result
                spread = torch.zeros_like(x)
                spread[:, :, ::z, ::y, ::x_] = gradient
            of_x = F.conv3d(spread, kernel.flip(2, 3, 4), padding=1, groups=len(kernel))
        if ctx.needs_input_grad[1] and x.is_cuda:
            kernels = _gpu_kernels()
            sums = kernels.depthwise_kernel_gradient if kernels else kernel_gradient_by_place
            of_kernel = sums(gradient, x, ctx.stride).to(kernel.dtype)
        elif ctx.needs_input_grad[1]:
            ones, none, groups = [1, 1, 1], [0, 0, 0], len(kernel)
            of_kernel = torch.ops.aten.convolution_backward(
                gradient.float(), x.float(), kernel.float(), None, list(ctx.stride), ones, ones,
                False, none, groups, [False, True, False],
            )[1].to(kernel.dtype)  # fmt: skip
        return of_x, of_kernel, None


def kernel_gradient_by_place(gradient: Tensor, x: Tensor, stride: Sequence[int]) -> Tensor:
    """The gradient of a depthwise 3x3x3 kernel: for each of its 27 places one sum of products.

    Args:
        gradient: (N, C, z, y, x) of the convolution's result.
        x: (N, C, ...) what was convolved, with a border of one voxel.
        stride: along z, y, x.

    Returns:
        (C, 1, 3, 3, 3) float32.
    """
    padded = F.pad(x, (1,) * 6)
    sums = []
    for place in product(range(3), repeat=3):
        seen = padded[
            (..., *(
                slice(first, first + step * (length - 1) + 1, step)
                for first, step, length in zip(place, stride, gradient.shape[2:], strict=True)
            ))
        ]  # fmt: skip
        sums.append((seen * gradient).sum((0, 2, 3, 4), dtype=torch.float32))
    return torch.stack(sums, dim=1).view(-1, 1, 3, 3, 3)


def upsampling(inside: int, out: int, *, rank: int = 2) -> nn.Module:
    """Transposed 2x2(x2) convolution, which doubles every size.

    Args:
        inside: channels in.
        out: channels out.
        rank: 2 or 3 spatial axes.
    """
    return _TRANSPOSED[rank](inside, out, 2, stride=2)


def scores_layer(inside: int, classes: int, *, rank: int = 2) -> nn.Module:
    """Pointwise convolution to class scores.

    Args:
        inside: channels in.
        classes: channels out, background included.
        rank: 2 or 3 spatial axes.
    """
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
