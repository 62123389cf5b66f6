import numpy as np
import pytest

from tests.networks import (
    LABELS,
    nearest_bundle,
    random_bundle,
    random_net,
    slices_body,
    write_bundle,
)
from viscera.bundles import read_bundle
from viscera.engine import ENGINES, open_engine
from viscera.engine.protocol import batch_shape
from viscera.errors import BundleError, UsageError


def test_engines_agree(tmp_path):
    bundle = read_bundle(random_bundle(tmp_path))
    batch = np.random.default_rng(0).normal(size=batch_shape(bundle)).astype(np.float32)
    first, second = (open_engine(bundle, name, threads=2).run(batch).copy() for name in ENGINES)
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_the_first_engine_that_works_is_used_and_said(tmp_path):
    engine = open_engine(read_bundle(nearest_bundle(tmp_path)), threads=1)
    assert engine.name == ENGINES[0]
    assert engine.precision == "f32"
    assert engine.findings == []


def test_a_crash_in_mid_run_falls_back(tmp_path):
    bundle = read_bundle(random_bundle(tmp_path))
    batch = np.random.default_rng(0).normal(size=batch_shape(bundle)).astype(np.float32)
    engine = open_engine(bundle, threads=1)
    expected = engine.run(batch).copy()

    class Broken:
        name = "openvino"

        def run(self, _):
            raise RuntimeError("illegal instruction")

    engine._engine = Broken()
    np.testing.assert_allclose(engine.run(batch), expected, atol=1e-3)
    assert engine.name == "onnxruntime"
    assert "illegal instruction" in engine.findings[0].message


def test_a_crash_without_another_engine_is_an_error(tmp_path):
    bundle = read_bundle(random_bundle(tmp_path))
    engine = open_engine(bundle, "onnxruntime", threads=1)
    with pytest.raises(BundleError, match="a network that an engine can run"):
        engine.run(np.zeros((1, 1, 2), np.float32))


def test_unknown_engines_and_impossible_precisions(tmp_path):
    bundle = read_bundle(random_bundle(tmp_path))
    with pytest.raises(UsageError, match="openvino or onnxruntime"):
        open_engine(bundle, "tensorrt")
    with pytest.raises(UsageError, match="f32 for onnxruntime"):
        open_engine(bundle, "onnxruntime", precision="bf16")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_that_is_not_the_bundles_is_refused(tmp_path, engine):
    random_net(tmp_path / "model.onnx", rank=2, channels=5)
    folder = write_bundle(tmp_path, body=slices_body(3, (32, 32)), labels=LABELS)
    with pytest.raises(BundleError, match=r"one input of shape .N, 3, 32, 32., found .N, 5, N, N."):
        open_engine(read_bundle(folder), engine)
    folder = write_bundle(tmp_path, body=slices_body(5, (32, 32)), labels=LABELS[:-1])
    with pytest.raises(BundleError, match=r"one output of shape .N, 13"):
        open_engine(read_bundle(folder), engine)
