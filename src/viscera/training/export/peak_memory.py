"""Peak memory of one run of a bundle's network, measured in a process of its own."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from viscera.bench.process import run_and_measure
from viscera.bundle.spec import Precision
from viscera.errors import EngineError
from viscera.inference.memory_plan import BASE_MB

_LEAST_MB = 30
_STEP_MB = 5
_CODE = """
import sys
import numpy
from viscera.bundle.read import read_bundle
from viscera.engine.protocol import batch_shape
from viscera.engine.select import open_engine
bundle = read_bundle(sys.argv[1])
engine = open_engine(bundle, precision=sys.argv[2])
for _ in range(5):
    engine.run(numpy.zeros(batch_shape(bundle), dtype=numpy.float32))
"""


def run_peak_mb(folder: Path, precision: Precision = "f32") -> float:
    """What a run takes in MB beyond interpreter, libraries and an engine's code.

    Args:
        folder: of a whole bundle.
        precision: in which it runs.

    Raises:
        EngineError: it cannot be run.
    """
    log = folder / "log.txt"
    run = run_and_measure([sys.executable, "-c", _CODE, str(folder), precision], log=log)
    printed = log.read_text(encoding="utf-8", errors="replace").splitlines()
    log.unlink()
    if run.exit_code != 0 or run.peak_mb is None:
        problem = printed[-1] if printed else f"exit code {run.exit_code}"
        remedy = "see whether onnxruntime or openvino is installed"
        raise EngineError("a network that runs", found=problem, remedy=remedy, where=folder)
    above = run.peak_mb - BASE_MB
    return float(max(_LEAST_MB, math.ceil(above / _STEP_MB) * _STEP_MB))
