"""OpenVINO: the fastest engine measured on x86, with bf16 where the CPU has it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle, Precision
from viscera.engine.machine_cache import cache_folder, read_network, store_network
from viscera.engine.privacy import disable_telemetry
from viscera.engine.protocol import Shape, batch_shape, check_network, parallel_requests_for
from viscera.engine.scores import Scores
from viscera.errors import UsageError, option


class OpenVinoEngine:
    """A network compiled by OpenVINO for this CPU, and for the batches it meets."""

    name = "openvino"

    def __init__(self, bundle: Bundle, *, threads: int, precision: Precision | None) -> None:
        """Read the network, and compile it where all its batches have one shape.

        Args:
            bundle: a checked bundle.
            threads: CPU threads.
            precision: f32 or bf16; None takes bf16 where the bundle allows it and the CPU
                computes in it. No stopwatch decides: labels follow from what can be named.

        Raises:
            UsageError: bf16 was asked for and this CPU has none.
        """
        openvino = _import_openvino()
        self._full_version = str(openvino.__version__)
        self.version = self._full_version.split("-")[0]
        self._core, self._threads = openvino.Core(), threads
        self.parallel_requests = parallel_requests_for(bundle, threads)
        self._model = self._core.read_model(bundle.model_path)
        self._sha256 = bundle.model.sha256
        check_network(bundle, _shapes(self._model.inputs), _shapes(self._model.outputs))
        self._compiled: Any = None
        self._idle: SimpleQueue[Any] = SimpleQueue()  # requests that nobody waits for
        self._shape: tuple[int, ...] = ()
        # The engine's own choice. Where the CPU lacks bf16 it would be emulated, ten times slower.
        capable = (
            self._core.get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name() == "bf16"
        )
        if precision == "bf16" and not capable:
            raise UsageError(
                "a CPU with bf16", found="none", remedy=f"leave out {option('precision')}"
            )
        if precision is None:
            precision = "bf16" if capable and "bf16" in bundle.model.precisions else "f32"
        self.precision: Precision = precision
        if self.precision == "bf16":
            # As they are computed, in half the memory of float32.
            processor = openvino.preprocess.PrePostProcessor(self._model)
            processor.output().tensor().set_element_type(openvino.Type.bf16)
            self._model = processor.build()
        self._tensor = openvino.Tensor
        if not (bundle.patch and bundle.patch.multiple):
            self._compile(batch_shape(bundle), self.precision)

    def run(self, batch: NDArray[np.float32], out: Scores | None = None) -> Scores:
        """See `Engine.run`.

        Args:
            batch: the network's input.
            out: an earlier result that nobody needs any more.
        """
        if batch.shape != self._shape:
            self._compile(batch.shape, self.precision)
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        port = self._compiled.outputs[0]
        shape, dtype = tuple(port.shape), np.uint16 if self.precision == "bf16" else np.float32
        if out is None or out.shape != shape or out.dtype != dtype:
            out = np.empty(shape, dtype=dtype)
        request.set_output_tensor(self._tensor(out, port.shape, port.element_type))
        request.infer({0: batch}, share_inputs=True, share_outputs=True)
        self._idle.put(request)
        return out

    def release_memory(self) -> None:
        """See `Engine.release_memory`."""
        self._idle = SimpleQueue()
        if self._compiled is not None:
            self._compiled.release_memory()

    def _compile(self, shape: tuple[int, ...], precision: Precision) -> None:
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": self.parallel_requests,
            "INFERENCE_PRECISION_HINT": precision,
        }
        # The memory of the last one first.
        self._shape, self._compiled, self._idle = (), None, SimpleQueue()
        key = self._cache_key(shape, settings)
        if (network := read_network(key)) is not None:
            with suppress(RuntimeError):  # of another build after all
                self._compiled = self._core.import_model(network, "CPU", settings)
        if self._compiled is None:
            self._model.reshape(list(shape))
            self._compiled = self._core.compile_model(self._model, "CPU", settings)
            if cache_folder() is not None:
                with suppress(RuntimeError):  # what cannot be exported is compiled each time
                    store_network(key, self._compiled.export_model().getvalue())
        self._shape = shape

    def _cache_key(self, shape: tuple[int, ...], settings: Mapping[str, object]) -> str:
        """All that a compiled network depends on."""
        cpu = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        scores = self._model.outputs[0].get_element_type().get_type_name()
        network = (self._sha256, self._full_version, scores, shape)
        return repr((*network, cpu, able, sorted(settings.items())))


def _import_openvino() -> Any:
    """OpenVINO without its model converter, which is slow to import and not needed to run one."""
    disable_telemetry()
    converter = "openvino.tools.ovc"
    hidden = "openvino" not in sys.modules and converter not in sys.modules
    if hidden:
        sys.modules[converter] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules[converter]
    return openvino


def _shapes(ports: list[Any]) -> list[Shape]:
    return [
        tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
        for port in ports
    ]
