"""What is exported computes what was trained, put the way engines like it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

import onnxruntime  # noqa: E402

from viscera.bundle.spec import Patch, Slices  # noqa: E402
from viscera.nets.registry import build_network  # noqa: E402
from viscera.training.export.fold import fold_for_export  # noqa: E402
from viscera.training.export.onnx_file import write_onnx  # noqa: E402


class Described:
    """What of a bundle an export needs."""

    def __init__(self, patch=None, slices=None):
        self.patch, self.slices = patch, slices


CUBE = Described(patch=Patch(size=(32, 32, 16), multiple=(16, 16, 8)))
STACK = Described(slices=Slices(stack=3, size=(48, 32)))


def trained(name, channels, norm=None):
    """A network whose normalisations have something to say."""
    torch.manual_seed(0)
    network = build_network(name, channels=channels, classes=14, norm=norm)
    with torch.no_grad():
        for part in network.parameters():
            part += 0.1 * torch.randn_like(part)
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer += 0.2 * torch.rand_like(buffer)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "described", "shape"),
    [
        ("dsunet16", None, STACK, (2, 3, 32, 48)),
        ("dsunet16", "batch", STACK, (3, 3, 32, 48)),
        ("dwnet16", None, CUBE, (1, 1, 16, 48, 32)),
        ("dwnet16", "batch", CUBE, (1, 1, 24, 32, 32)),
    ],
)
def test_an_exported_graph_is_the_same_function(tmp_path, name, norm, described, shape):
    network = trained(name, shape[1], norm)
    x = torch.randn(shape)
    with torch.inference_mode():
        expected = network(x).numpy()
        np.testing.assert_allclose(
            fold_for_export(network)(x).numpy(), expected, rtol=1e-3, atol=1e-3
        )
    path = tmp_path / "model.onnx"
    write_onnx(network, described, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert "BatchNormalization" not in kinds
    if name == "dwnet16":  # both sides of every join are convolved on their own
        assert "Concat" not in kinds
        assert kinds.count("Sum") == 4
    else:
        assert "Reshape" not in kinds
        assert kinds.count("Concat") == 3  # standard convolutions gain nothing
