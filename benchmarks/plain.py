"""A bundle's steps done plainly: nibabel, scipy and PyTorch, everything at full size.

    python benchmarks/plain.py BUNDLE CT OUTPUT [--report REPORT] [--engine openvino --precision bf16]

What a competent user writes in an afternoon with the field's usual tools, and the oracle for the
streamed path: the whole scan as floating-point numbers, `scipy.ndimage` to the network's grid, the
ONNX graph by torch's own functions, all scores interpolated to the scan's size, every organ closed
and labelled on the whole volume. With --engine the network runs as `viscera segment` runs it.
Which part is looked at and which windows are laid comes from the report of a run, if one is given.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from scipy import ndimage
from torch.nn import functional as F  # noqa: N812

from viscera.bundle.read import read_bundle
from viscera.core.affine import Affine
from viscera.inference.sliding_window import fit_axis_windows
from viscera.postprocess.chain import postprocess

Network = Callable[[np.ndarray], np.ndarray]


def torch_network(path: Path) -> Network:
    """An ONNX graph, node by node, by torch's functions in single precision."""
    graph = onnx.load(path).graph
    fixed = {one.name: torch.tensor(numpy_helper.to_array(one)) for one in graph.initializer}

    def convolved(node: dict, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        rank = x.ndim - 2
        kind = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
        settings = {"stride": node["strides"], "padding": node["pads"][:rank]}
        return kind(x, *weights, **settings, groups=node["group"])

    def transposed(node: dict, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        kind = {2: F.conv_transpose2d, 3: F.conv_transpose3d}[x.ndim - 2]
        return kind(x, *weights, stride=node["strides"])

    def unsqueezed(_: dict, x: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
        rank = x.ndim + axes.numel()
        for axis in sorted(int(a) % rank for a in axes.reshape(-1)):
            x = x.unsqueeze(axis)
        return x

    does = {
        "Conv": convolved,
        "ConvTranspose": transposed,
        "InstanceNormalization": lambda n, x, w, b: F.instance_norm(
            x, weight=w, bias=b, eps=n.get("epsilon", 1e-5)
        ),
        "LeakyRelu": lambda n, x: F.leaky_relu(x, n.get("alpha", 0.01)),
        "Relu": lambda _, x: x.relu(),
        "Sigmoid": lambda _, x: x.sigmoid(),
        "Sqrt": lambda _, x: x.sqrt(),
        "Concat": lambda n, *x: torch.cat(x, n["axis"]),
        "Sum": lambda _, *x: sum(x),
        "Add": lambda _, a, b: a + b,
        "Sub": lambda _, a, b: a - b,
        "Mul": lambda _, a, b: a * b,
        "Div": lambda _, a, b: a / b,
        "ReduceMean": lambda n, x, axes: x.mean(axes.tolist(), keepdim=bool(n["keepdims"])),
        "Unsqueeze": unsqueezed,
        "Transpose": lambda n, x: x.permute(*n["perm"]),
    }
    nodes = [
        (one, {a.name: helper.get_attribute_value(a) for a in one.attribute}) for one in graph.node
    ]

    def run(batch: np.ndarray) -> np.ndarray:
        values = {graph.input[0].name: torch.from_numpy(batch)}
        for one, settings in nodes:
            found = [values[name] if name in values else fixed[name] for name in one.input]
            values[one.output[0]] = does[one.op_type](settings, *found)
        return values[graph.output[0].name].numpy()

    return run


def engine_network(bundle, name: str, precision: str) -> Network:
    """The network as `viscera segment` runs it."""
    from viscera.engine.scores import as_float32
    from viscera.engine.select import open_engine

    engine = open_engine(bundle, name, precision=precision)
    return lambda batch: as_float32(engine.run(batch)).copy()


def mean_over(old: int, new: int, first: float, step: float) -> np.ndarray:
    """(new, old) weights of the mean over each new voxel's extent, borders repeated."""
    weights = np.zeros((new, old))
    for row in range(new):
        low, high = first + row * step - step / 2, first + row * step + step / 2
        for sample in range(int(np.floor(low + 0.5)), int(np.ceil(high + 0.5))):
            share = min(sample + 0.5, high) - max(sample - 0.5, low)
            weights[row, min(max(sample, 0), old - 1)] += max(share, 0)
    return weights / weights.sum(axis=1, keepdims=True)


def zoomed(volume: np.ndarray, shape, first, step) -> np.ndarray:
    """Linear interpolation at `shape` points, from `first` on and `step` apart."""
    return ndimage.affine_transform(
        volume, np.asarray(step), np.asarray(first), tuple(shape), order=1, mode="nearest"
    )


def scores_of(small: np.ndarray, bundle, network: Network, outside: float) -> np.ndarray:
    """All scores (C, z, y, x) of one array."""
    if bundle.slices:
        reach = bundle.slices.stack // 2
        padded = np.pad(small, ((reach, reach), (0, 0), (0, 0)), mode="edge")
        stacks = [padded[k : k + bundle.slices.stack] for k in range(len(small))]
        return np.stack([network(stack[None])[0] for stack in stacks], axis=1)
    windows = fit_axis_windows(small.shape, bundle.patch)
    size = bundle.patch.size[::-1]
    sides = [
        (w.padding, max(n, s) - n - w.padding)
        for w, n, s in zip(windows, small.shape, size, strict=True)
    ]
    padded = np.pad(small, (sides[0], (0, 0), (0, 0)), mode="reflect")
    padded = np.pad(padded, ((0, 0), *sides[1:]), constant_values=outside)
    bells = [
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (bundle.patch.sigma * n)) ** 2) for n in size
    ]
    bell = np.einsum("i,j,k->ijk", *bells)
    scores = np.zeros((len(bundle.labels), *padded.shape))
    total = np.zeros(padded.shape)
    for corner in itertools.product(*(w.starts for w in windows)):
        box = tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))
        scores[:, *box] += network(np.ascontiguousarray(padded[box])[None, None])[0] * bell
        total[box] += bell
    scores /= total
    inner = tuple(slice(a, a + n) for (a, _), n in zip(sides, small.shape, strict=True))
    return scores[:, *inner].astype(np.float32)


def cleaned(labels: np.ndarray, bundle, affine: Affine) -> np.ndarray:
    """The bundle's steps on labels [i, j, k]; every organ on the whole volume."""
    cube = np.ones((3, 3, 3))
    for step in bundle.postprocess:
        organs = [n for n, name in zip(bundle.label_ids, bundle.labels, strict=True) if n]
        named = dict(zip(bundle.labels, bundle.label_ids, strict=True))
        organs = [named[name] for name in step.organs] if step.organs else sorted(organs)
        before = labels.copy()
        for organ in organs:
            mask = before == organ
            if step.step == "closing":
                grown = ndimage.binary_dilation(mask, cube)
                closed = ndimage.binary_erosion(grown, cube, border_value=1)
                labels[closed & (before == 0)] = organ
            elif step.step == "largest_component" and mask.any():
                pieces, _ = ndimage.label(mask, cube)
                sizes = np.bincount(pieces.ravel())
                labels[mask & (pieces != sizes[1:].argmax() + 1)] = 0
            elif step.step == "strays" and mask.any():
                pieces, _ = ndimage.label(mask, cube)
                sizes = np.bincount(pieces.ravel())
                labels[(sizes < step.share * sizes[1:].max())[pieces] & mask] = 0
        if step.step == "sides":
            postprocess(labels, affine, [step])  # renames pieces, moves no border
    return labels


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("ct", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--engine", default="torch")
    parser.add_argument("--precision", default="f32")
    args = parser.parse_args()
    bundle = read_bundle(args.bundle)
    told = json.loads(args.report.read_text())["grid"] if args.report else {}
    if told.get("window_xyz"):
        patch = replace(bundle.patch, size=tuple(told["window_xyz"]))
        bundle = replace(bundle, patch=patch)
    torch.set_grad_enabled(False)

    image = nib.load(args.ct)
    there = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(bundle.input.orientation)
    )
    stored = image.get_fdata()
    hu = nib.orientations.apply_orientation(stored, there).transpose(2, 1, 0)
    zooms = np.asarray(image.header.get_zooms()[:3])
    spacing = np.array([zooms[int(np.flatnonzero(there[:, 0] == axis)[0])] for axis in (2, 1, 0)])
    settings = bundle.input
    if settings.spacing_mm is None:
        shape = np.array([hu.shape[0], *bundle.slices.size[::-1]])
        step = np.array(hu.shape) / shape
    else:
        step = np.array(settings.spacing_mm[::-1]) / spacing
        shape = np.maximum(1, np.rint(np.array(hu.shape) / step).astype(int))
    first = (np.array(hu.shape) - 1 - (shape - 1) * step) / 2

    small = np.clip(hu, *settings.window_hu)
    if settings.interpolation == "area":
        for axis in range(3):
            if step[axis] > 1:
                weights = mean_over(hu.shape[axis], shape[axis], first[axis], step[axis])
                small = np.moveaxis(np.tensordot(weights, small, (1, axis)), 0, axis)
            else:
                sizes, starts, steps = list(small.shape), [0.0] * 3, [1.0] * 3
                sizes[axis], starts[axis], steps[axis] = shape[axis], first[axis], step[axis]
                small = zoomed(small, sizes, starts, steps)
    else:
        small = zoomed(small, shape, first, step)
    offset, divisor = settings.scale
    small = ((small - offset) / divisor).astype(np.float32)
    outside = (settings.window_hu[0] - offset) / divisor

    box = tuple(slice(*part) for part in told.get("looked_at_zyx", [[0, n] for n in shape]))
    if args.engine == "torch":
        network = torch_network(bundle.model_path)
    else:
        network = engine_network(bundle, args.engine, args.precision)
    seen = scores_of(small[box], bundle, network, outside)
    scores = np.zeros((len(seen), *shape), np.float32)
    scores[0] = 1e-3  # what is not looked at is background
    scores[:, *box] = seen
    full = np.stack([zoomed(channel, hu.shape, -first / step, 1 / step) for channel in scores])
    found = np.asarray(bundle.label_ids, np.uint8)[full.argmax(axis=0)]

    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(bundle.input.orientation), nib.io_orientation(image.affine)
    )
    labels = nib.orientations.apply_orientation(found.transpose(2, 1, 0), back)
    labels = cleaned(np.asfortranarray(labels), bundle, Affine(image.affine))
    nib.save(nib.Nifti1Image(labels, image.affine, image.header, dtype=np.uint8), args.output)


if __name__ == "__main__":
    main()
