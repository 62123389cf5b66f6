"""Two layers of 3-D networks for a GPU, where torch computes their gradients slowly.

Of a training step of dwnet16 (two windows of 160x160x96 on an H200, 133 ms) torch's own instance
normalisation takes 28 ms, one thread block a channel, and the gradient of depthwise kernels 46 ms
even as 27 sums of products. These kernels read each tensor a few times and nothing more. Triton
comes with torch for GPUs on Linux.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024  # voxels that a program holds at a time
_CHUNKS = 16  # of these that it sums
_ROWS = 64  # of a volume that one program of the kernel's gradient sums


@triton.jit
def _products(
    x, gradient, sums, channels, depth, height, width, x_depth, x_height, x_width,
    stride_z: tl.constexpr, stride_y: tl.constexpr, stride_x: tl.constexpr,
    rows: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Add to sums (C, 3, 3, 3) the three places along x that belong to one place along z and y."""
    plane = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1)
    first = tl.program_id(2) * rows
    column = tl.arange(0, block)
    inside = column < width
    at = column * stride_x
    before = tl.zeros([block], tl.float32)
    centre = tl.zeros([block], tl.float32)
    after = tl.zeros([block], tl.float32)
    for step in range(rows):
        row = first + step
        z = (row // height) * stride_z + place // 3 - 1
        y = (row % height) * stride_y + place % 3 - 1
        seen = (
            inside & (row < depth * height) & (z >= 0) & (z < x_depth) & (y >= 0) & (y < x_height)
        )
        g = tl.load(gradient + (plane * depth * height + row) * width + column, seen, 0.0)
        g = g.to(tl.float32)
        line = x + ((plane * x_depth + z) * x_height + y) * x_width + at
        before += g * tl.load(line - 1, seen & (at >= 1), 0.0).to(tl.float32)
        centre += g * tl.load(line, seen & (at < x_width), 0.0).to(tl.float32)
        after += g * tl.load(line + 1, seen & (at + 1 < x_width), 0.0).to(tl.float32)
    target = sums + (plane % channels) * 27 + place * 3
    tl.atomic_add(target, tl.sum(before))
    tl.atomic_add(target + 1, tl.sum(centre))
    tl.atomic_add(target + 2, tl.sum(after))


def depthwise_kernel_gradient(gradient: Tensor, x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """(C, 1, 3, 3, 3) float32: the gradient of a depthwise kernel, with a border of one voxel.

    Args:
        gradient: (N, C, z, y, x) of the convolution's result.
        x: (N, C, ...) what was convolved.
        stride: along z, y, x.
    """
    gradient, x = gradient.contiguous(), x.contiguous()
    count, channels, depth, height, width = gradient.shape
    sums = torch.zeros(channels, 1, 3, 3, 3, device=x.device)
    grid = (count * channels, 9, triton.cdiv(depth * height, _ROWS))
    _products[grid](
        x, gradient, sums, channels, depth, height, width, *x.shape[2:], *stride, _ROWS,
        triton.next_power_of_2(width),
    )  # fmt: skip
    return sums


@triton.jit
def _moments(x, sums, voxels, block: tl.constexpr, chunks: tl.constexpr):
    """Add to sums (planes, 2) the sum and the sum of squares."""
    plane = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * block * chunks + tl.arange(0, block)
    total = tl.zeros([block], tl.float32)
    squares = tl.zeros([block], tl.float32)
    for chunk in range(chunks):
        at = first + chunk * block
        v = tl.load(x + plane * voxels + at, at < voxels, 0.0).to(tl.float32)
        total += v
        squares += v * v
    tl.atomic_add(sums + plane * 2, tl.sum(total))
    tl.atomic_add(sums + plane * 2 + 1, tl.sum(squares))


@triton.jit
def _normalise(x, y, scale, shift, slope, voxels, block: tl.constexpr):
    """Write leaky(x scale + shift)."""
    plane = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    v = tl.load(x + plane * voxels + at, at < voxels, 0.0).to(tl.float32)
    v = v * tl.load(scale + plane) + tl.load(shift + plane)
    tl.store(y + plane * voxels + at, tl.where(v > 0, v, v * slope), at < voxels)


@triton.jit
def _gradient_sums(
    x, gradient, sums, scale, shift, slope, voxels, block: tl.constexpr, chunks: tl.constexpr
):
    """Add to sums (planes, 2) those of the gradient before the leak, alone and times x."""
    plane = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * block * chunks + tl.arange(0, block)
    a, b = tl.load(scale + plane), tl.load(shift + plane)
    total = tl.zeros([block], tl.float32)
    products = tl.zeros([block], tl.float32)
    for chunk in range(chunks):
        at = first + chunk * block
        v = tl.load(x + plane * voxels + at, at < voxels, 0.0).to(tl.float32)
        g = tl.load(gradient + plane * voxels + at, at < voxels, 0.0).to(tl.float32)
        g = tl.where(v * a + b > 0, g, g * slope)
        total += g
        products += g * v
    tl.atomic_add(sums + plane * 2, tl.sum(total))
    tl.atomic_add(sums + plane * 2 + 1, tl.sum(products))


@triton.jit
def _input_gradient(
    x, gradient, result, scale, shift, times_x, constant, slope, voxels, block: tl.constexpr
):
    """Write scale g + times_x x + constant, g the gradient before the leak."""
    plane = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * block + tl.arange(0, block)
    a, b = tl.load(scale + plane), tl.load(shift + plane)
    v = tl.load(x + plane * voxels + at, at < voxels, 0.0).to(tl.float32)
    g = tl.load(gradient + plane * voxels + at, at < voxels, 0.0).to(tl.float32)
    g = tl.where(v * a + b > 0, g, g * slope)
    value = a * g + tl.load(times_x + plane) * v + tl.load(constant + plane)
    tl.store(result + plane * voxels + at, value, at < voxels)


def normalised_leaky(
    x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, slope: float
) -> Tensor:
    """Instance normalisation and leaky ReLU, in as few passes as it takes.

    Args:
        x: (N, C, z, y, x).
        weight: (C,) of the normalisation.
        bias: (C,) of it.
        epsilon: added to variances.
        slope: of leaky ReLU below 0.
    """
    result: Tensor = _NormalisedLeaky.apply(x, weight, bias, epsilon, slope)
    return result


class _NormalisedLeaky(torch.autograd.Function):
    """`normalised_leaky` with its gradient.

    With scale a = weight / deviation, means over a plane of V voxels, and g the gradient before
    the leak: dx = a (g - mean(g) - n mean(g n)), n = (x - mean) / deviation.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, slope: float
    ) -> Tensor:
        x = x.contiguous()
        planes, voxels = x.shape[0] * x.shape[1], x[0, 0].numel()
        sums = torch.zeros(planes, 2, device=x.device)
        _moments[(planes, triton.cdiv(voxels, _BLOCK * _CHUNKS))](x, sums, voxels, _BLOCK, _CHUNKS)
        mean = sums[:, 0] / voxels
        inverse = (sums[:, 1] / voxels - mean**2).clamp(min=0).add(epsilon).rsqrt()
        scale = (weight.float().repeat(x.shape[0]) * inverse).contiguous()
        shift = (bias.float().repeat(x.shape[0]) - mean * scale).contiguous()
        y = torch.empty_like(x)
        _normalise[(planes, triton.cdiv(voxels, _BLOCK))](x, y, scale, shift, slope, voxels, _BLOCK)
        ctx.save_for_backward(x, weight, mean, inverse, scale, shift)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, scale, shift = ctx.saved_tensors
        gradient = outer[0].contiguous()
        planes, voxels = len(mean), x[0, 0].numel()
        sums = torch.zeros(planes, 2, device=x.device)
        _gradient_sums[(planes, triton.cdiv(voxels, _BLOCK * _CHUNKS))](
            x, gradient, sums, scale, shift, ctx.slope, voxels, _BLOCK, _CHUNKS
        )
        total = sums[:, 0]
        of_normalised = (sums[:, 1] - mean * total) * inverse  # the sum of g n
        times_x = -scale * inverse * of_normalised / voxels
        constant = -scale * total / voxels - times_x * mean
        result = torch.empty_like(x)
        _input_gradient[(planes, triton.cdiv(voxels, _BLOCK))](
            x, gradient, result, scale, shift, times_x, constant, ctx.slope, voxels, _BLOCK
        )
        shape = (x.shape[0], -1)
        of_weight, of_bias = of_normalised.view(shape).sum(0), total.view(shape).sum(0)
        return result, of_weight.to(weight.dtype), of_bias.to(weight.dtype), None, None
