"""Turn the published network of the FLARE 2025 laptop task into weights to begin a training with.

    python tools/published_weights.py ../shared/models/flare25_dw/model.onnx flare25.safetensors
    viscera train configs/default.toml cases.csv --init flare25.safetensors -o runs/default

Its layers are those of `viscera.nets.dwnet` with instance normalisation: the result is the very
network. Biases before a normalisation change nothing and are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from viscera.core.organs import ORGANS
from viscera.nets.registry import build_network
from viscera.training.checkpoint import TrainingState, save_checkpoint


def published(path: Path) -> nn.Module:
    """The network of this ONNX file, as one of ours."""
    stored = {
        each.name: torch.from_numpy(numpy_helper.to_array(each).copy())
        for each in onnx.load(path).graph.initializer
    }
    network: nn.Module = build_network("dwnet16", channels=1, classes=len(ORGANS) + 1)
    levels = len(network.encode)  # type: ignore[arg-type]
    taken: dict[str, Tensor] = {}
    for level, stage in enumerate(network.encode):  # type: ignore[arg-type]
        for n in range(len(stage)):
            block = f"encoder.stages.{level}.0.convs.{n}"
            taken |= _separable(stored, block, f"encode.{level}.{n}")
    for level, stage in enumerate(network.decode):  # type: ignore[arg-type]
        theirs = levels - 2 - level  # they count from the coarsest level
        for n in range(len(stage)):
            block = f"decoder.stages.{theirs}.convs.{n}"
            taken |= _separable(stored, block, f"decode.{level}.{n}")
        for kind in ("weight", "bias"):
            taken[f"up.{level}.{kind}"] = stored[f"decoder.transpconvs.{theirs}.{kind}"]
    for kind in ("weight", "bias"):
        taken[f"score.{kind}"] = stored[f"decoder.seg_layers.{levels - 2}.{kind}"]
    network.load_state_dict(taken)
    return network


def _separable(stored: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    return {
        f"{ours}.0.weight": stored[f"{theirs}.conv.depthwise.weight"],
        f"{ours}.1.weight": stored[f"{theirs}.conv.pointwise.weight"],
        f"{ours}.2.weight": stored[f"{theirs}.norm.weight"],
        f"{ours}.2.bias": stored[f"{theirs}.norm.bias"],
    }


if __name__ == "__main__":
    save_checkpoint(Path(sys.argv[2]), published(Path(sys.argv[1])), TrainingState())
