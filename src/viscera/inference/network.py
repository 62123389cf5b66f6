"""A bundle's network: opened once, run over the planes of many scans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle, Patch, Precision
from viscera.engine.protocol import Engine
from viscera.engine.select import open_engine
from viscera.grid.slab_windows import ScoreSlab
from viscera.inference.slice_stacks import predict_slice_stacks
from viscera.inference.sliding_window import predict_windows


class Network:
    """A bundle's network; several threads may share it.

    Attributes:
        bundle: describes it.
    """

    def __init__(
        self, bundle: Bundle, engine: str | Engine, *, threads: int, precision: Precision | None
    ) -> None:
        """Nothing is loaded yet.

        Args:
            bundle: a checked bundle.
            engine: auto, openvino or onnxruntime; or a network that is loaded already.
            threads: CPU threads.
            precision: f32 or bf16; None for the fastest.
        """
        self.bundle = bundle
        self._name = engine if isinstance(engine, str) else engine.name
        self._engine: Engine | None = None if isinstance(engine, str) else engine
        self._threads, self._precision = threads, precision
        self._opening = Lock()

    def load(self) -> Engine:
        """The engine with the network, loaded at the first call.

        Raises:
            UsageError: an unknown engine, or bf16 on a CPU without it.
            BundleError: the weights cannot be run.
            EngineError: the engine asked for is not installed.
            ResourceError: not enough memory.
        """
        with self._opening:
            if self._engine is None:
                self._engine = open_engine(
                    self.bundle, self._name, threads=self._threads, precision=self._precision
                )
            return self._engine

    def scores(
        self,
        planes: NDArray[np.float32],
        patch: Patch | None,
        *,
        air_value: float,
        pool: Executor,
        on_progress: Callable[[float], None] = lambda _share: None,
    ) -> Iterator[ScoreSlab]:
        """Scores of planes, as slabs along z.

        Args:
            planes: (Z, Y, X) as `Grid.forward` makes them.
            patch: the windows as they are fitted to the planes; None for slice networks.
            air_value: the network's value of air.
            pool: works on classes or slices side by side.
            on_progress: takes the share done.
        """
        engine = self.load()
        if patch is not None:
            return predict_windows(
                planes, engine, patch, air_value=air_value, pool=pool, on_progress=on_progress
            )
        assert self.bundle.slices is not None  # Bundle has one or the other
        return predict_slice_stacks(
            planes,
            engine,
            self.bundle.slices,
            air_value=air_value,
            pool=pool,
            on_progress=on_progress,
        )
