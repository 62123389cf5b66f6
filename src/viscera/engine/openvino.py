"""OpenVINO: the fastest engine measured on x86, with bf16 where the CPU has it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.bundle import Bundle, Precision
from viscera.engine.privacy import silence
from viscera.engine.protocol import Shape, batch_shape, check_network
from viscera.errors import UsageError


class OpenVinoEngine:
    """A network compiled by OpenVINO for this CPU."""

    name = "openvino"

    def __init__(self, bundle: Bundle, *, threads: int, precision: Precision | None) -> None:
        """Compile the network.

        Args:
            bundle: a checked bundle.
            threads: CPU threads.
            precision: f32 or bf16; None takes bf16 where both the CPU and the bundle allow it.

        Raises:
            UsageError: bf16 was asked for and this CPU has none.
        """
        silence()
        import openvino

        core = openvino.Core()
        model = core.read_model(bundle.model_path)
        check_network(bundle, _shapes(model.inputs), _shapes(model.outputs))
        model.reshape(list(batch_shape(bundle)))
        # Where the CPU lacks bf16 it would be emulated, ten times slower.
        capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision is None:
            precision = "bf16" if capable and "bf16" in bundle.model.precisions else "f32"
        if precision == "bf16" and not capable:
            raise UsageError("a CPU with bf16", found="none", remedy="leave out --precision")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
        }
        self.precision: Precision = precision
        self.version = str(openvino.__version__).split("-")[0]
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        result = self._request.infer({0: batch}, share_inputs=True, share_outputs=True)
        scores: NDArray[np.float32] = result[0]
        return scores


def _shapes(ports: list[Any]) -> list[Shape]:
    return [
        tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
        for port in ports
    ]
