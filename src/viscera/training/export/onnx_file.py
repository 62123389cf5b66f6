"""Weights to an ONNX file, in single precision or in 8-bit integers."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from viscera.bundle.spec import Bundle
from viscera.engine.privacy import disable_telemetry
from viscera.engine.protocol import batch_shape
from viscera.runtime.extras import require_extra
from viscera.training.export.fold import fold_for_export
from viscera.training.export.split_concatenations import split_concatenations

_OPSET = 18


class BestClassNetwork(nn.Module):
    """A network whose result is the best class of each voxel, uint8, not its scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) in, (N, ...) out."""
        return self.network(x).argmax(dim=1).to(torch.uint8)


def write_onnx(network: nn.Module, bundle: Bundle, path: Path) -> None:
    """Write a network, batch normalisations folded, its weights inside the file.

    Args:
        network: gives scores, or classes if wrapped in `BestClassNetwork`.
        bundle: for the shape of one run.
        path: the file.

    Raises:
        MissingExtraError: a package of the extra `train` is not installed.
    """
    require_extra("onnx", "onnxscript")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        with warnings.catch_warnings():  # the exporter's own, about packages it can do without
            warnings.simplefilter("ignore")
            logger.setLevel(logging.ERROR)
            torch.onnx.export(
                fold_for_export(network.cpu()),
                (torch.zeros(batch_shape(bundle)),),
                str(path),
                input_names=["input"],
                output_names=["output"],
                opset_version=_OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    import onnx

    model = split_concatenations(onnx.load(path))
    _remove_traces(model)
    if bundle.slices is not None:
        _open(model, {0: "n"})
    elif bundle.patch is not None and bundle.patch.multiple:
        _open(model, {2: "z", 3: "y", 4: "x"})
    onnx.save(model, path)


def _remove_traces(model: Any) -> None:
    """Remove the exporter's notes, which contain paths of this machine, in place."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info,
                 *graph.input, *graph.output):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""


def _open(model: Any, axes: dict[int, str]) -> None:
    """Let a network of convolutions take any length along these axes, in place."""
    for port in (*model.graph.input, *model.graph.output):
        for axis, name in axes.items():
            port.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]


def write_int8(source: Path, path: Path, batches: Iterable[NDArray[np.float32]]) -> None:
    """Quantise an ONNX file to 8-bit integers after training.

    Weights are scaled by channel, activations by what they reach on real samples. Networks with
    GroupNorm lose more than those whose batch normalisation was folded.

    Args:
        source: in single precision.
        path: the new file.
        batches: inputs to calibrate on, as the network sees them.

    Raises:
        MissingExtraError: a package of the extra `train` is not installed.
    """
    disable_telemetry()
    require_extra("onnx")  # onnxruntime quantises with it
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.float32]] = iter(batches)

        def get_next(self) -> Any:
            batch = next(self._batches, None)
            return None if batch is None else {"input": batch}

    logger = logging.getLogger()
    level = logger.level
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        try:
            logger.setLevel(logging.ERROR)
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(path),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                op_types_to_quantize=["Conv", "ConvTranspose"],
            )
        finally:
            logger.setLevel(level)
