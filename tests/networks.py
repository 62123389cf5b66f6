"""Small ONNX networks whose answers are known in advance, and bundles around them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from viscera.core.organs import ORGANS

LABELS = ["background", *(organ.name for organ in ORGANS)]
# Mean HU of what lies in a phantom; "other" is everything that is no organ.
NEAREST_HU = {
    "other": (-100, 55, 320),
    "liver": (112,),
    "spleen": (126,),
    "aorta": (162,),
    "kidney_right": (182,),
    "gallbladder": (8,),
}


def write_onnx(path: Path, nodes, weights: dict, rank: int, channels: int, classes: int) -> None:
    spatial = [f"s{n}" for n in range(rank)]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", channels, *spatial])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", classes, *spatial])],
        [numpy_helper.from_array(np.asarray(w, np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


def random_net(path: Path, *, rank: int = 3, channels: int = 1, seed: int = 0) -> None:
    """Two convolutions with random, lopsided kernels: any flip of the input shows in the output."""
    rng = np.random.default_rng(seed)
    kernel = (3,) * rank
    weights = {
        "w1": rng.normal(size=(8, channels, *kernel)),
        "w2": rng.normal(size=(len(LABELS), 8, *(1,) * rank)),
        "b2": rng.normal(size=len(LABELS)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], pads=[1] * (2 * rank)),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2", "b2"], ["output"]),
    ]
    write_onnx(path, nodes, weights, rank, channels, len(LABELS))


def nearest_net(path: Path, *, rank: int = 3, stack: int = 1) -> list[str]:
    """One 1x1 convolution that names each voxel by the nearest mean HU; sees HU / 1000.

    |x - m|^2 is least where 2 m x - m^2 is greatest, which is linear in x.
    """
    names, means = ["background"], [-1000.0]
    for name, values in NEAREST_HU.items():
        names += [name] * len(values)
        means += values
    mean = np.array(means) / 1000
    kernel = np.zeros((len(names), stack, *(1,) * rank))
    kernel[:, stack // 2] = (2 * mean).reshape(-1, *(1,) * rank)
    nodes = [helper.make_node("Conv", ["input", "w", "b"], ["output"])]
    write_onnx(path, nodes, {"w": kernel, "b": -(mean**2)}, rank, stack, len(names))
    return names


def write_bundle(folder: Path, *, body: str, labels: list[str], format_: int = 1) -> Path:
    """bundle.toml around the model.onnx that lies in the folder."""
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    text = f"""format = {format_}
name = "test.net"
labels = {labels!r}
[model]
file = "model.onnx"
sha256 = "{digest}"
run_peak_mb = 50.0
{body}
"""
    (folder / "bundle.toml").write_text(text)
    return folder


PATCH_BODY = """
[input]
orientation = "LPS"
spacing_mm = [8.0, 8.0, 8.0]
window_hu = [-1000.0, 1000.0]
mean_hu = 0.0
std_hu = 1000.0
[patch]
size = [24, 24, 16]
overlap = 0.25
"""


def nearest_bundle(folder: Path, body: str = PATCH_BODY) -> Path:
    labels = nearest_net(folder / "model.onnx")
    return write_bundle(folder, body=body, labels=labels)


def random_bundle(folder: Path, body: str = PATCH_BODY, **options) -> Path:
    random_net(folder / "model.onnx", **options)
    return write_bundle(folder, body=body, labels=LABELS)


def slices_body(stack: int, size: tuple[int, int], extra: str = "") -> str:
    return f"""
[input]
window_hu = [-160.0, 300.0]
{extra}
[slices]
stack = {stack}
size = {list(size)}
batch = 3
"""
