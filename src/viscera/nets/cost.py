"""What a network costs: parameters, multiply-adds by layer, memory, receptive field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
# Kernel and stride by axis, and whether it is transposed.
_ConvStep = tuple[tuple[int, ...], tuple[int, ...], bool]
_POOLED = (nn.MaxPool2d, nn.MaxPool3d)


@dataclass(frozen=True)
class LayerCost:
    """One layer with weights.

    Attributes:
        name: where it stands in the module.
        kind: of layer, with its kernel.
        output: shape of what it gives, without the batch.
        parameters: weights and biases.
        multiply_adds: that it takes for one input; normalisations count none, they fold away.
        thop_flops: the same by the rule of the tool thop, see `viscera.nets.dsunet`.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    thop_flops: int


@dataclass(frozen=True)
class NetworkCost:
    """What one run of a network costs.

    Attributes:
        layers: in the order they run.
        parameters: of all layers.
        activations_mb: outputs of all layers together in 32 bits: about what training keeps.
        peak_mb: an input and an output of one layer, where their sum is largest, plus weights: the
            least that a run needs.
        receptive_field: voxels along each axis that can reach one score through convolutions.
    """

    layers: tuple[LayerCost, ...]
    parameters: int
    activations_mb: float
    peak_mb: float
    receptive_field: tuple[int, ...]

    @property
    def multiply_adds(self) -> int:
        """Of all layers."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def thop_flops(self) -> int:
        """Of all layers, by the rule of the tool thop."""
        return sum(layer.thop_flops for layer in self.layers)


def network_cost(network: nn.Module, shape: Sequence[int]) -> NetworkCost:
    """Run a network once on zeros and count.

    Args:
        network: of `viscera.nets`; it is set to evaluation while it runs.
        shape: (C, ...) of one input.
    """
    layers: list[LayerCost] = []
    steps: list[_ConvStep] = []
    sizes: list[tuple[int, int]] = []  # values in, values out
    names = {module: name for name, module in network.named_modules()}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append((inputs[0].numel(), output.numel()))
        if isinstance(module, (*_PLAIN, *_TRANSPOSED)):
            layers.append(_layer(names[module], module, inputs[0], output))
            kernel, stride = tuple(module.kernel_size), tuple(module.stride)
            transposed = isinstance(module, _TRANSPOSED)
            # Gates of attention see everything; strided shortcuts less than what they pass by.
            if not isinstance(module, nn.Conv1d) and (
                transposed or kernel != stride or max(stride) == 1
            ):
                steps.append((kernel, stride, transposed))
        elif isinstance(module, _POOLED):
            rank = len(shape) - 1
            steps.append(((module.kernel_size,) * rank, (module.stride,) * rank, False))
        elif parameters := sum(p.numel() for p in module.parameters()):
            form = tuple(output.shape[1:])
            layers.append(LayerCost(names[module], type(module).__name__, form, parameters, 0, 0))

    leaves = [m for m in network.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    parameters = sum(p.numel() for p in network.parameters())
    # Half the sum: normalisation and activation work in place on a convolution's output.
    activations = sum(math.prod(layer.output) for layer in layers)
    peak = max(a + b for a, b in sizes) + parameters
    field = tuple(
        _receptive_field([(kernel[axis], stride[axis], up) for kernel, stride, up in steps])
        for axis in range(len(shape) - 1)
    )
    return NetworkCost(tuple(layers), parameters, activations * 4e-6, peak * 4e-6, field)


def _layer(name: str, module: nn.Module, x: Tensor, output: Tensor) -> LayerCost:
    taps = math.prod(module.kernel_size)
    values = output.numel()
    if isinstance(module, _TRANSPOSED):
        multiply_adds = x.numel() * (module.out_channels // module.groups) * taps
        thop_flops = values * (module.in_channels // module.groups) * taps
    else:
        multiply_adds = thop_flops = values * (module.in_channels // module.groups) * taps
    size = "x".join(map(str, module.kernel_size))
    depthwise = "depthwise " if module.groups == module.in_channels > 1 else ""
    kind = f"{depthwise}{type(module).__name__} {size}"
    parameters = sum(p.numel() for p in module.parameters())
    return LayerCost(name, kind, tuple(output.shape[1:]), parameters, multiply_adds, thop_flops)


def _receptive_field(steps: list[tuple[int, int, bool]]) -> int:
    """Voxels of one axis of the input that reach one score, the most over all its positions.

    Layers run from the finest level down and up again, so the longest way goes through all of
    them, and what skips some reaches less far.
    """
    period = math.prod(stride for _, stride, transposed in steps if not transposed)
    widest = 0
    for position in range(period):
        low = high = position + 64 * period
        for kernel, stride, transposed in reversed(steps):
            if transposed:
                low, high = low // stride, high // stride
            else:
                reach = (kernel - 1) // 2
                low, high = low * stride - reach, high * stride + kernel - 1 - reach
        widest = max(widest, high - low + 1)
    return widest
