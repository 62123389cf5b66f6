from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.networks import nearest_bundle
from viscera.core.phantom import make_phantom

# CI sets this, and vendors' telemetry stays silent under it: what a test then proves is nothing.
os.environ.pop("CI", None)
# Torch's threads spin while they wait, which makes a shared CPU many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What is remembered of a machine stays within one run of the tests.
os.environ["VISCERA_CACHE"] = tempfile.mkdtemp(prefix="viscera-cache-")

# The same examples every time, however slow the machine: a failure must be reproducible.
settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"
EXAMPLE_BUNDLE = ROOT / "examples" / "bundles" / "flare25_dw"

needs_shared = pytest.mark.skipif(
    not (SHARED / "models" / "flare25_dw" / "model.onnx").exists(),
    reason="needs the CTs and the network in ../shared, which are not part of the repository",
)


@pytest.fixture(scope="session")
def small_phantom():
    """A coarse phantom of 360 x 280 x 280 mm and its labels."""
    return make_phantom(7, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0), noise_hu=5)


@pytest.fixture(scope="session")
def nearest(tmp_path_factory):
    """A 3-D bundle that names voxels by their HU."""
    return nearest_bundle(tmp_path_factory.mktemp("nearest"))
