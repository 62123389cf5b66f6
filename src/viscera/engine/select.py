"""Choose an engine, and fall back on the next where one is absent or breaks."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle, Precision
from viscera.engine.protocol import Engine
from viscera.engine.scores import Scores, all_finite
from viscera.errors import BundleError, EngineError, UsageError, VisceraError, option
from viscera.findings import Finding
from viscera.runtime.resources import (
    means_no_memory,
    no_memory_error,
    require_addresses,
    thread_count,
)

# Fastest first, as measured in benchmarks/speed.py; `auto` tries them in this order. The second is
# an extra: one engine is enough, and each takes a hundred megabytes.
ENGINES = ("openvino", "onnxruntime")
# What the libraries of an engine reserve, with the smallest packaged network, by VmSize.
_LEAST_ADDRESSES_MB = 500.0


def open_engine(
    bundle: Bundle,
    name: str = "auto",
    *,
    threads: int | None = None,
    precision: Precision | None = None,
) -> FallbackEngine:
    """Load a bundle's network.

    Args:
        bundle: a checked bundle.
        name: one of `ENGINES`, or ``auto`` for the first that works.
        threads: CPU threads; all that the process may use where not given.
        precision: f32 or bf16; the fastest that the bundle and the CPU allow where not given.

    Raises:
        UsageError: an unknown engine.
        BundleError: the network is not what the bundle says, or no engine can read it.
        EngineError: the engine asked for is not installed or failed.
        ResourceError: a limit on addresses leaves too few for any engine.
    """
    require_addresses(_LEAST_ADDRESSES_MB, "an engine")
    if name not in ("auto", *ENGINES):
        remedy = "choose auto, " + " or ".join(ENGINES)
        raise UsageError("a known engine", found=repr(name), remedy=remedy)
    candidates = ENGINES if name == "auto" else (name,)
    return FallbackEngine(bundle, candidates, thread_count(threads), precision)


class FallbackEngine:
    """The first of several engines that works; when it fails during a run, the next one takes over.

    Attributes:
        findings: what was tried and failed.
    """

    def __init__(
        self,
        bundle: Bundle,
        candidates: tuple[str, ...],
        threads: int,
        precision: Precision | None,
    ) -> None:
        self.findings: list[Finding] = []
        self._untried = list(candidates)
        self._bundle, self._threads, self._precision = bundle, threads, precision
        self._last_error: Exception | None = None
        self._changing = Lock()
        self._next()

    @property
    def name(self) -> str:
        """The running engine's name."""
        return self._engine.name

    @property
    def version(self) -> str:
        """The running engine's version."""
        return self._engine.version

    @property
    def precision(self) -> Precision:
        """The running engine's arithmetic."""
        return self._engine.precision

    @property
    def parallel_requests(self) -> int:
        """Parallel requests of the running engine."""
        return self._engine.parallel_requests

    def run(self, batch: NDArray[np.float32], out: Scores | None = None) -> Scores:
        """See `Engine.run`.

        Args:
            batch: the network's input.
            out: an earlier result that nobody needs any more.
        """
        while True:
            engine = self._engine
            try:
                scores = engine.run(batch, out)
            except Exception as error:  # engines raise their own kinds
                if means_no_memory(error):  # the next engine would not get it either
                    raise no_memory_error(self._bundle.model_path) from error
                with self._changing:
                    if engine is self._engine:  # or else another lane has met the same error
                        self._note(engine.name, error)
                        self._next()
            else:
                return self._checked(scores, batch)

    def release_memory(self) -> None:
        """See `Engine.release_memory`."""
        self._engine.release_memory()

    def _checked(self, scores: Scores, batch: NDArray[np.float32]) -> Scores:
        """The scores, if they have a bundle's shape and all are finite."""
        expected = (len(batch), len(self._bundle.labels), *batch.shape[2:])
        problem = f"{scores.shape}"
        if scores.shape == expected:
            if all_finite(scores):
                return scores
            problem = "values that are not finite"
        raise BundleError(
            f"finite scores of shape {expected}",
            found=problem,
            remedy="export the network again",
            where=self._bundle.model_path,
        )

    def _next(self) -> None:
        while self._untried:
            kind = self._untried.pop(0)
            try:
                self._engine: Engine = _load(kind)(
                    self._bundle, threads=self._threads, precision=self._precision
                )
                return
            except VisceraError:
                raise  # no other engine would correct it
            except Exception as error:  # absent, or an error type of that engine
                if means_no_memory(error):
                    raise no_memory_error(self._bundle.model_path) from error
                self._note(kind, error)
        reasons = "; ".join(finding.raw_message for finding in self.findings)
        if isinstance(self._last_error, ImportError):
            remedy = f"run pip install 'viscera[onnxruntime]', or pass {option('engine', 'auto')}"
            raise EngineError("a working engine", found=reasons, remedy=remedy)
        raise BundleError(
            "a network that an engine can run",
            found=reasons,
            remedy=f"export the network again, or try another {option('engine')}",
            where=self._bundle.model_path,
        ) from self._last_error

    def _note(self, kind: str, error: Exception) -> None:
        self._last_error = error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = f"{type(error).__name__}: {lines[-1][:160] if lines else ''}"
        if isinstance(error, ImportError):
            reason = "not installed"
        message = f"engine {kind} failed ({reason})"
        self.findings.append(
            Finding("warning", "engine-fallback", message, "the next one was used")
        )


def _load(kind: str) -> Callable[..., Engine]:
    if kind == "openvino":
        from viscera.engine.openvino import OpenVinoEngine

        return OpenVinoEngine
    from viscera.engine.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine
