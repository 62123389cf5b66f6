"""ONNX Runtime: runs wherever Python does, and steps in where OpenVINO is absent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle, Precision
from viscera.engine.privacy import disable_telemetry
from viscera.engine.protocol import Shape, check_network, parallel_requests_for
from viscera.engine.scores import Scores
from viscera.errors import UsageError, option


class OnnxRuntimeEngine:
    """A network in an ONNX Runtime session, always in f32."""

    name = "onnxruntime"
    precision: Precision = "f32"

    def __init__(self, bundle: Bundle, *, threads: int, precision: Precision | None) -> None:
        """Load the network.

        Args:
            bundle: a checked bundle.
            threads: CPU threads.
            precision: f32 or None.

        Raises:
            UsageError: bf16 was asked for.
        """
        if precision == "bf16":
            remedy = f"leave out {option('precision')}, or install openvino"
            raise UsageError("f32 for onnxruntime", found="bf16", remedy=remedy)
        disable_telemetry()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        self.parallel_requests = parallel_requests_for(bundle, threads)
        options.intra_op_num_threads = threads // self.parallel_requests
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors come as exceptions
        self._session = onnxruntime.InferenceSession(
            bundle.model_path, options, providers=["CPUExecutionProvider"]
        )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        check_network(bundle, _shapes(inputs), _shapes(outputs))
        self.version = str(onnxruntime.__version__)
        self._input = inputs[0].name

    def run(self, batch: NDArray[np.float32], out: Scores | None = None) -> Scores:  # noqa: ARG002
        """See `Engine.run`.

        Args:
            batch: the network's input.
            out: an earlier result that nobody needs any more; not used.
        """
        scores: NDArray[np.float32] = self._session.run(None, {self._input: batch})[0]
        return scores

    def release_memory(self) -> None:
        """Nothing: the runtime keeps its memory while a network is loaded."""


def _shapes(ports: list[Any]) -> list[Shape]:
    return [tuple(n if isinstance(n, int) else None for n in port.shape) for port in ports]
