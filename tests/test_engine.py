import numpy as np
import onnx
import pytest
from onnx import helper

from tests.networks import (
    LABELS,
    PATCH_BODY,
    nearest_bundle,
    random_bundle,
    random_net,
    slices_body,
    write_bundle,
    write_onnx,
)
from viscera.bundle.read import read_bundle
from viscera.engine.protocol import batch_shape
from viscera.engine.select import ENGINES, open_engine
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


@pytest.mark.hostile(79)
def test_a_crash_in_mid_run_falls_back(tmp_path):
    bundle = read_bundle(random_bundle(tmp_path))
    batch = np.random.default_rng(0).normal(size=batch_shape(bundle)).astype(np.float32)
    engine = open_engine(bundle, threads=1)
    expected = engine.run(batch).copy()

    class Broken:
        name = "openvino"
        lanes = 1

        def run(self, _batch, _out=None):
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
    with pytest.raises(BundleError, match=r"one input of shape .3, 3, 32, 32., found .N, 5, N, N."):
        open_engine(read_bundle(folder), engine)
    folder = write_bundle(tmp_path, body=slices_body(5, (32, 32)), labels=LABELS[:-1])
    with pytest.raises(BundleError, match=r"one output of shape .3, 13"):
        open_engine(read_bundle(folder), engine)


def test_a_network_of_another_output_size_is_refused(tmp_path):
    """Open dimensions hide it until the first run."""
    weights = {"w": np.zeros((14, 1, 3, 3, 3)), "b": np.zeros(14)}
    node = helper.make_node("Conv", ["input", "w", "b"], ["output"])  # no padding
    write_onnx(tmp_path / "model.onnx", [node], weights, 3, 1, 14)
    folder = write_bundle(tmp_path, body=PATCH_BODY, labels=LABELS)
    bundle = read_bundle(folder)
    batch = np.zeros(batch_shape(bundle), np.float32)
    for name in ENGINES:
        with pytest.raises(BundleError, match=r"finite scores of shape|one output of shape"):
            open_engine(bundle, name).run(batch)


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    random_net(tmp_path / "model.onnx")
    bundle = read_bundle(write_bundle(tmp_path, body=PATCH_BODY, labels=LABELS))
    batch = np.full(batch_shape(bundle), np.nan, np.float32)
    with pytest.raises(BundleError, match="not finite"):
        open_engine(bundle, "onnxruntime").run(batch)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_one_score_that_is_no_number_is_found_among_all(tmp_path, odd):
    """A network may break at one voxel, and its organ would silently be missing there."""
    random_net(tmp_path / "model.onnx")
    bundle = read_bundle(write_bundle(tmp_path, body=PATCH_BODY, labels=LABELS))
    batch = np.zeros(batch_shape(bundle), np.float32)
    engine = open_engine(bundle, "onnxruntime")
    good = engine.run(batch)

    class Broken:
        name = version = "broken"

        def run(self, _batch, _out=None):
            scores = good.copy()
            scores[0, 3, 1, 2, 3] = odd
            return scores

    engine._engine = Broken()
    with pytest.raises(BundleError, match="not finite"):
        engine.run(batch)


def test_weights_outside_the_checksum_are_refused(tmp_path):
    random_net(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.save(
        model, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin",
        size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    folder = write_bundle(tmp_path, body=PATCH_BODY, labels=LABELS)
    with pytest.raises(BundleError, match="weights in one ONNX file"):
        read_bundle(folder)


def test_a_failure_is_named_by_its_last_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no network" * 20)
    bundle = read_bundle(write_bundle(tmp_path, body=PATCH_BODY, labels=LABELS))
    with pytest.raises(BundleError) as caught:
        open_engine(bundle)
    assert "cpp:" not in caught.value.found.split(";")[0]


@pytest.mark.hostile(77)
def test_the_limits_of_a_container_are_respected(tmp_path, monkeypatch):
    from viscera.runtime import resources

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(resources, "_CGROUP_CPU", tmp_path / "cpu.max")
    monkeypatch.setattr(resources, "_CGROUP_MEMORY", ((tmp_path, "memory.max", "memory.current"),))
    usable = resources.thread_count()
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert resources.thread_count() == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert resources.thread_count() == usable
    (tmp_path / "memory.max").write_text("900000000\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000000\n")
    assert resources.available_mb() == pytest.approx(500.0)
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.available_mb() > 500
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert resources.thread_count() == 1
