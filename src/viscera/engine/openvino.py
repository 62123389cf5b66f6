"""OpenVINO: the fastest engine measured on x86, with bf16 where the CPU has it."""

from __future__ import annotations

import sys
import time
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle, Precision
from viscera.engine.machine_cache import cache_folder, read_fact, remove_oldest, store_fact
from viscera.engine.privacy import disable_telemetry
from viscera.engine.protocol import Shape, batch_shape, check_network, parallel_requests_for
from viscera.errors import UsageError, option

_PROBES = 3  # runs of which the fastest tells
_KEPT = 24  # compiled networks in the cache, 1 to 3 MB each: windows have many shapes


class OpenVinoEngine:
    """A network compiled by OpenVINO for this CPU, and for the batches it meets."""

    name = "openvino"

    def __init__(self, bundle: Bundle, *, threads: int, precision: Precision | None) -> None:
        """Read the network, and compile it where all its batches have one shape.

        Args:
            bundle: a checked bundle.
            threads: CPU threads.
            precision: f32 or bf16; None takes the faster one that bundle and CPU allow.

        Raises:
            UsageError: bf16 was asked for and this CPU has none.
        """
        openvino = _import_openvino()
        self.version = str(openvino.__version__).split("-")[0]
        self._core, self._threads = openvino.Core(), threads
        self.parallel_requests = parallel_requests_for(bundle, threads)
        if folder := cache_folder():
            compiled = folder / "compiled"
            remove_oldest(compiled, most=_KEPT)
            self._core.set_property({"CACHE_DIR": str(compiled)})
        self._model = self._core.read_model(bundle.model_path)
        check_network(bundle, _shapes(self._model.inputs), _shapes(self._model.outputs))
        self._compiled: Any = None
        self._idle: SimpleQueue[Any] = SimpleQueue()  # requests that nobody waits for
        self._shape: tuple[int, ...] = ()
        # Where the CPU lacks bf16 it would be emulated, ten times slower.
        capable = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and not capable:
            raise UsageError(
                "a CPU with bf16", found="none", remedy=f"leave out {option('precision')}"
            )
        if precision is None:
            may = capable and "bf16" in bundle.model.precisions
            precision = self._faster(bundle) if may else "f32"
        self.precision: Precision = precision
        if not (bundle.patch and bundle.patch.multiple):
            self._compile(batch_shape(bundle), self.precision)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        if batch.shape != self._shape:
            self._compile(batch.shape, self.precision)
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        result = request.infer(
            {0: batch}, share_inputs=True, share_outputs=self.parallel_requests == 1
        )
        self._idle.put(request)
        scores: NDArray[np.float32] = result[0]
        return scores

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
        self._model.reshape(list(shape))
        self._compiled = self._core.compile_model(self._model, "CPU", settings)
        self._shape = shape

    def _faster(self, bundle: Bundle) -> Precision:
        """bf16 or f32, as measured once on this machine; bf16 where nothing can be kept."""
        cpu = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        key = f"{bundle.model.sha256[:16]} {self.version} {cpu} {self._threads} threads"
        fact = read_fact(key)
        if fact in ("f32", "bf16"):
            return fact  # type: ignore[return-value]
        if cache_folder() is None:
            return "bf16"
        batch = np.zeros(_probe_shape(bundle), dtype=np.float32)
        best_s: dict[Precision, float] = {}
        kinds: tuple[Precision, ...] = ("f32", "bf16")
        for precision in kinds:
            self._compile(batch.shape, precision)
            times = []
            for _ in range(_PROBES):
                start = time.perf_counter()
                self.run(batch)
                times.append(time.perf_counter() - start)
            best_s[precision] = min(times)
        faster = min(kinds, key=lambda kind: best_s[kind])
        store_fact(key, faster)
        return faster


def _probe_shape(bundle: Bundle) -> tuple[int, ...]:
    """One run's input, or an eighth of it where the network takes that: it tells as much."""
    shape = batch_shape(bundle)
    if not (bundle.patch and bundle.patch.multiple):
        return shape
    sizes = zip(shape[2:], bundle.patch.multiple[::-1], strict=True)
    return (*shape[:2], *(max(1, n // (2 * multiple)) * multiple for n, multiple in sizes))


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
