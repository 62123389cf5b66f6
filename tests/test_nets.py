"""Networks: what the paper states of them, and what a cost is."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

from torch import nn  # noqa: E402

from viscera.errors import UsageError  # noqa: E402
from viscera.nets.blocks import (  # noqa: E402
    ChannelAttention,
    Depthwise3d,
    InstanceNormLeaky3d,
    conv,
    kernel_gradient_by_place,
    separable,
)
from viscera.nets.cost import network_cost  # noqa: E402
from viscera.nets.registry import ARCHITECTURES, build_network  # noqa: E402
from viscera.training.export.fold import fold_for_export  # noqa: E402


def test_the_papers_network_has_its_parameters_and_flops():
    """Table 2: 0.405 M, 1.29 G at 3x192x192, within 1 %; thop's rule is in the docstring."""
    network = build_network("dsunet16", channels=3, classes=14)
    cost = network_cost(network, (3, 192, 192))
    assert cost.parameters == sum(p.numel() for p in network.parameters()) == 406_476
    assert abs(cost.parameters / 0.405e6 - 1) < 0.01
    assert abs(cost.thop_flops / 1.29e9 - 1) < 0.01
    # As thop 0.1.1 counts the same module.
    assert cost.thop_flops == pytest.approx(1.287992272e9, rel=1e-5)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert sum(isinstance(m, nn.GroupNorm) for m in network.modules()) > 10


def test_the_original_unet_is_the_usual_one():
    cost = network_cost(build_network("unet64", channels=3, classes=14), (3, 192, 192))
    assert cost.parameters / 1e6 == pytest.approx(31.04, abs=0.02)
    assert cost.thop_flops / 1e9 == pytest.approx(30.8, rel=0.01)
    assert cost.multiply_adds / 1e9 == pytest.approx(27.2, rel=0.01)


@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (32, 3), (64, 3), (128, 5), (256, 5)])
def test_attention_adapts_its_kernel(channels, kernel):
    """k = |log2(C) / 2 + 1 / 2|, odd: 2.5, 3, 3.5, 4 and 4.5 become these."""
    attention = ChannelAttention(channels)
    assert attention.across.kernel_size == (kernel,)
    x = torch.randn(2, channels, 5, 7)
    gate = torch.sigmoid(
        torch.nn.functional.conv1d(
            x.mean((2, 3))[:, None], attention.across.weight, padding=kernel // 2
        )
    )[:, 0]
    assert torch.allclose(attention(x), x * gate[:, :, None, None])


def test_a_separable_convolution_is_one_of_each_kind():
    block = separable(8, 16, "batch")
    assert [m.groups for m in block if isinstance(m, nn.Conv2d)] == [8, 1]
    assert [m.kernel_size for m in block if isinstance(m, nn.Conv2d)] == [(3, 3), (1, 1)]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_scores_come_on_the_inputs_grid(name):
    known = ARCHITECTURES[name]
    network = build_network(name, channels=known.shape[0], classes=5, widths=[4, 8, 8, 16]).eval()
    size = (32,) * known.rank
    with torch.no_grad():
        assert network(torch.zeros(2, known.shape[0], *size)).shape == (2, 5, *size)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_receptive_field_is_what_gradients_reach(name):
    """Through convolutions: gates and normalisations aside, all weights positive."""
    known = ARCHITECTURES[name]
    channels = known.shape[0]
    widths = [2, 2, 2] if known.rank == 3 else [2, 2, 2, 2]
    network = build_network(name, channels=channels, classes=2, widths=widths, norm="batch")

    def plain(module):
        for key, child in module.named_children():
            if isinstance(child, (nn.BatchNorm2d, nn.BatchNorm3d, ChannelAttention, nn.ReLU,
                                  nn.LeakyReLU)):  # fmt: skip
                setattr(module, key, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                setattr(module, key, nn.AvgPool2d(2))
            else:
                plain(child)

    field = network_cost(network, (channels, *[64] * known.rank)).receptive_field
    plain(network)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    size = 224 if known.rank == 2 else 128
    widest = [0] * known.rank
    for shift in range(8 if known.rank == 2 else 4):
        x = torch.ones(1, channels, *[size] * known.rank, dtype=torch.float64, requires_grad=True)
        at = (size // 2 + shift,) * known.rank
        network.double().eval()(x)[(0, 0, *at)].backward()
        for axis in range(known.rank):
            along = x.grad[0, 0].movedim(axis, 0).flatten(1).abs().sum(1).numpy()
            reached = np.flatnonzero(along)
            widest[axis] = max(widest[axis], int(reached[-1] - reached[0] + 1))
    assert tuple(widest) == field


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
def test_quick_depthwise_gradients_are_torchs_own(stride):
    torch.manual_seed(0)
    layer = Depthwise3d(4, stride).train()
    x = torch.randn(2, 4, 6, 8, 10, requires_grad=True)
    y = layer(x)
    outer = torch.randn_like(y)
    own = torch.autograd.grad(y, [x, layer.weight], outer)
    plain = torch.nn.functional.conv3d(x, layer.weight, stride=stride, padding=1, groups=4)
    for a, b in zip(own, torch.autograd.grad(plain, [x, layer.weight], outer), strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert torch.equal(y, plain)
    assert layer(x.detach()).grad_fn is not None
    layer.weight.requires_grad_(False)
    assert torch.autograd.grad(layer(x), x, outer)[0].shape == x.shape


@pytest.mark.slow
def test_the_published_weights_give_the_published_scores():
    """The default network's layout is that of the network it was taught by."""
    path = Path(__file__).parents[2] / "shared/models/flare25_dw/model.onnx"
    if not path.exists():
        pytest.skip("needs ../shared/models")
    pytest.importorskip("onnx", reason="needs the extra 'train'")
    import onnxruntime
    from tools.published_weights import published

    x = torch.randn(1, 1, 96, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours = published(path).eval()(x).numpy()
    theirs = onnxruntime.InferenceSession(str(path)).run(None, {"input": x.numpy()})[0]
    assert np.abs(ours - theirs).max() < 0.02
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.9999


def test_only_some_networks_can_be_supervised():
    network = build_network("visceranet", channels=1, classes=3, widths=[4, 4, 8], supervised=True)
    levels = network.train()(torch.zeros(1, 1, 16, 16, 32))
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 16, 32), (8, 8, 16), (4, 4, 8)]
    assert network.eval()(torch.zeros(1, 1, 16, 16, 32)).shape == (1, 3, 16, 16, 32)
    with pytest.raises(UsageError, match="visceranet for deep supervision"):
        build_network("unet64", channels=3, classes=3, supervised=True)


def test_an_unknown_architecture_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'dsunet16'"):
        build_network("dsunet", channels=3, classes=3)


@pytest.mark.parametrize("rank", [2, 3])
def test_folding_changes_nothing_but_the_layers(rank):
    name, channels = (("unet64", 3), ("visceranet", 1))[rank - 2]
    network = build_network(name, channels=channels, classes=4, widths=[4, 8, 8])
    x = torch.randn(2, channels, *[16] * rank)
    for _ in range(3):
        network.train()(x)  # statistics that are not the identity
    network.eval()
    fewer = fold_for_export(network)
    kinds = (nn.BatchNorm2d, nn.BatchNorm3d)
    assert any(isinstance(m, kinds) for m in network.modules())
    assert not any(isinstance(m, kinds) for m in fewer.modules())
    with torch.no_grad():
        assert torch.allclose(network(x), fewer(x), atol=1e-4)


def test_a_strided_convolution_halves_sizes():
    assert conv(1, 2, "group", rank=3, stride=2)(torch.zeros(1, 1, 8, 8, 8)).shape[2:] == (4, 4, 4)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
def test_the_gradient_of_a_depthwise_kernel_is_torchs(stride):
    """Summed place by place, and by our own kernels where Triton is installed."""
    x, kernel = torch.randn(2, 3, 8, 10, 12), torch.randn(3, 1, 3, 3, 3, requires_grad=True)
    result = nn.functional.conv3d(x, kernel, stride=stride, padding=1, groups=3)
    gradient = torch.randn_like(result)
    result.backward(gradient)
    ours = kernel_gradient_by_place(gradient, x, stride)
    assert torch.allclose(ours, kernel.grad, atol=1e-4)


_WITH_TRITON = """
import torch
from torch.nn import functional as F
from viscera.nets.gpu_kernels import depthwise_kernel_gradient, normalised_leaky
torch.manual_seed(0)
for stride in ((1, 1, 1), (2, 2, 2), (1, 2, 2)):
    x, kernel = torch.randn(2, 3, 8, 10, 12), torch.randn(3, 1, 3, 3, 3, requires_grad=True)
    y = F.conv3d(x, kernel, stride=stride, padding=1, groups=3)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    assert torch.allclose(depthwise_kernel_gradient(gradient, x, stride), kernel.grad, atol=1e-4)
x = (3 * torch.randn(2, 3, 8, 10, 32) + 1).requires_grad_()
weight, bias = torch.randn(2, 3).unbind()
weight, bias = weight.requires_grad_(), bias.requires_grad_()
gradient, found = torch.randn_like(x), []
for layer in (
    lambda: F.leaky_relu(F.instance_norm(x, weight=weight, bias=bias, eps=1e-5), 0.01),
    lambda: normalised_leaky(x, weight, bias, 1e-5, 0.01),
):
    x.grad = weight.grad = bias.grad = None
    y = layer()
    y.backward(gradient)
    found.append([y, x.grad, weight.grad, bias.grad])
assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(*found, strict=True))
"""


def test_gpu_kernels_are_torchs_layers():
    """In Triton's interpreter, which needs no GPU."""
    pytest.importorskip("triton", reason="Triton comes with torch for GPUs on Linux only")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", _WITH_TRITON], env=environment, check=True)


def test_instance_normalisation_and_leak_are_torchs():
    layer = InstanceNormLeaky3d(3)
    x = torch.randn(2, 3, 4, 5, 6)
    plain = nn.functional.leaky_relu(nn.functional.instance_norm(x), 0.01)
    for mode in (layer.train(), layer.eval()):
        assert torch.allclose(mode(x), plain, atol=1e-6)
    assert list(layer.state_dict()) == ["weight", "bias"]
