"""The streamed path: voxels that stay in their file, windows that fit, memory that holds."""

import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

import viscera
from tests.networks import nearest_bundle, nearest_net, slices_body, write_bundle
from viscera.bundle.spec import Patch
from viscera.core.volume import LazyVoxels, Slab
from viscera.engine.machine_cache import cache_folder, read_network, store_network
from viscera.engine.protocol import batch_shape
from viscera.engine.select import open_engine
from viscera.inference.sliding_window import fit_axis_windows
from viscera.inference.windows import fit_window_size
from viscera.io.read import open_volume, read_volume
from viscera.io.write import write_volume


@pytest.mark.parametrize(
    ("kind", "slope", "inter"), [("<i2", 1, 0), (">i2", 1, 0), ("<u2", 1, -1024), ("u1", 2.5, -7)]
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_opened_volume_is_the_one_that_is_read(tmp_path, kind, slope, inter, suffix):
    values = np.random.default_rng(0).integers(0, 200, (30, 21, 19)).astype(kind)
    header = nib.Nifti1Header(endianness=">" if kind[0] == ">" else "<")
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values, np.diag([-1.0, -1.0, 3.0, 1.0]), header)
    image.header.set_slope_inter(slope, inter)
    path = tmp_path / f"scan{suffix}"
    nib.save(image, path)
    opened, read = open_volume(path), read_volume(path)
    assert not isinstance(opened.voxels, np.ndarray)
    assert opened.resident_mb == 0
    np.testing.assert_array_equal(
        np.concatenate([slab.hu for slab in opened.slabs()], axis=2), read.data
    )
    np.testing.assert_array_equal(opened.shifted(5).data, read.shifted(5).data)
    np.testing.assert_array_equal(opened.data, read.data)
    assert opened.name == read.name


def test_floats_are_read_whole(tmp_path):
    image = nib.Nifti1Image(np.zeros((9, 8, 7), np.float32), np.diag([-3.0, -3.0, 3.0, 1.0]))
    nib.save(image, tmp_path / "scan.nii.gz")
    assert isinstance(open_volume(tmp_path / "scan.nii.gz").voxels, np.ndarray)


def test_damage_at_the_end_of_an_opened_file_is_found(tmp_path, small_phantom, nearest):
    write_volume(tmp_path / "ct.nii.gz", small_phantom[0])
    content = (tmp_path / "ct.nii.gz").read_bytes()
    (tmp_path / "ct.nii.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(viscera.VisceraError, match=r"cut off|damaged|truncated|ends"):
        viscera.Predictor(nearest).segment(tmp_path / "ct.nii.gz")


class Forgetful:
    """Stored voxels that note how much of them is held at once."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.shape, self.dtype = data.shape, data.dtype
        self.walks = 0

    def slabs(self):
        self.walks += 1
        yield from (Slab(self.data[..., k : k + 4]) for k in range(0, self.shape[2], 4))

    def shifted(self, offset_hu) -> LazyVoxels:
        return Forgetful(self.data + np.int16(offset_hu))


def test_a_scan_is_walked_over_once_and_never_held(nearest, small_phantom):
    volume = small_phantom[0]
    voxels = Forgetful(volume.data)
    stored = viscera.Volume(voxels, volume.affine)
    found = viscera.Predictor(nearest).segment(stored)
    assert voxels.walks == 1
    assert stored.resident_mb == 0
    expected = viscera.Predictor(nearest).segment(volume)
    np.testing.assert_array_equal(found.labels, expected.labels)


# Windows


def windows_of(shape, patch):
    return np.prod([len(axis.starts) for axis in fit_axis_windows(shape, patch)])


@pytest.mark.parametrize("shape", [(80, 150, 190), (170, 158, 208), (96, 144, 176), (20, 30, 40)])
def test_fitted_windows_cover_a_grid_at_no_more_than_the_bundles_cost(shape):
    patch = Patch(size=(176, 144, 96), overlap=0.25, multiple=(16, 16, 8))
    own = fit_window_size(patch, shape)
    assert all(n % m == 0 for n, m in zip(own.size, patch.multiple, strict=True))
    assert np.prod(own.size) <= 1.35 * np.prod(patch.size)
    assert own.size[2] >= patch.size[2]  # never shallower
    before, after = (windows_of(shape, one) * np.prod(one.size) for one in (patch, own))
    assert after <= before
    assert fit_window_size(Patch(size=(176, 144, 96)), shape).size == (176, 144, 96)


# What is remembered of a machine


def test_a_compiled_network_is_kept_under_its_own_key_and_damage_is_forgotten(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("VISCERA_CACHE", str(tmp_path / "cache"))
    assert read_network("key") is None
    store_network("key", b"network")
    assert read_network("key") == b"network"
    assert read_network("other") is None
    (kept,) = (tmp_path / "cache").iterdir()
    store_network("other", b"another network")
    (other,) = set((tmp_path / "cache").iterdir()) - {kept}
    kept.write_bytes(other.read_bytes())  # another network under this name
    assert read_network("key") is None
    store_network("key", b"network")
    kept.write_bytes(kept.read_bytes()[:-1] + b"K")
    assert read_network("key") is None
    kept.unlink()
    kept.symlink_to(other)
    assert read_network("key") is None
    monkeypatch.setenv("VISCERA_CACHE", "off")
    assert cache_folder() is None
    assert read_network("other") is None


def test_the_newest_networks_stay_and_nothing_of_others_is_removed(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VISCERA_CACHE", str(folder))
    folder.mkdir(mode=0o700)
    (folder / "letter.txt").write_text("mine")
    for number in range(30):
        store_network(f"key {number}", b"network")
        os.utime(
            max(folder.glob("*.network"), key=lambda p: p.stat().st_ctime_ns), (number, number)
        )
    assert len(list(folder.iterdir())) == 25
    assert read_network("key 29") == b"network"
    assert read_network("key 0") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes of POSIX")
@pytest.mark.parametrize("fault", ["group", "others", "link", "owner"])
def test_a_cache_that_others_can_write_is_not_used(tmp_path, monkeypatch, fault):
    """A compiled network is code: whoever can write it decides what the labels are."""
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("VISCERA_CACHE", str(folder))
    assert cache_folder() == folder
    if fault == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif fault == "owner":
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    else:
        folder.chmod(0o720 if fault == "group" else 0o702)
    assert cache_folder() is None
    store_network("key", b"network")
    assert list(folder.iterdir()) == []


def test_a_network_from_the_cache_gives_the_same_scores(tmp_path, monkeypatch, nearest):
    monkeypatch.setenv("VISCERA_CACHE", str(tmp_path / "cache"))
    bundle = viscera.read_bundle(nearest)
    batch = np.random.default_rng(0).normal(size=batch_shape(bundle)).astype(np.float32)
    scores = [open_engine(bundle, "openvino", threads=1).run(batch).copy() for _ in range(2)]
    assert list((tmp_path / "cache").iterdir())
    np.testing.assert_array_equal(*scores)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch, nearest):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VISCERA_CACHE", str(tmp_path / "file" / "cache"))
    assert cache_folder() is None
    bundle = viscera.read_bundle(nearest)
    engine = open_engine(bundle, threads=1)
    scores = engine.run(np.zeros(batch_shape(bundle), np.float32))
    assert scores.shape[1] == len(bundle.labels)


def test_a_damaged_compiled_network_is_compiled_again(tmp_path, monkeypatch, nearest):
    monkeypatch.setenv("VISCERA_CACHE", str(tmp_path))
    bundle = viscera.read_bundle(nearest)
    batch = np.random.default_rng(0).normal(size=batch_shape(bundle)).astype(np.float32)
    expected = open_engine(bundle, "openvino", threads=1).run(batch).copy()
    for blob in tmp_path.iterdir():
        blob.write_bytes(blob.read_bytes()[: blob.stat().st_size // 2])
    again = open_engine(bundle, "openvino", threads=1)
    np.testing.assert_array_equal(again.run(batch), expected)


def test_lanes_side_by_side_give_what_one_gives(tmp_path, small_phantom):
    names = nearest_net(tmp_path / "model.onnx", rank=2, stack=3)
    bundle = write_bundle(tmp_path, body=slices_body(3, (40, 48)), labels=names)
    one = viscera.Predictor(bundle, threads=1).segment(small_phantom[0])
    several = viscera.Predictor(bundle, threads=3).segment(small_phantom[0])
    np.testing.assert_array_equal(one.labels, several.labels)


def test_an_engine_at_rest_runs_again(tmp_path):
    bundle = viscera.read_bundle(nearest_bundle(tmp_path))
    batch = np.random.default_rng(0).normal(size=batch_shape(bundle)).astype(np.float32)
    for name in ("openvino", "onnxruntime"):
        engine = open_engine(bundle, name, threads=1)
        expected = engine.run(batch).copy()
        engine.release_memory()
        np.testing.assert_array_equal(engine.run(batch), expected)


# Memory


def has_bf16():
    from viscera.engine.privacy import disable_telemetry

    disable_telemetry()
    import openvino

    return openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name() == "bf16"


@pytest.mark.hostile(36)
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="uses /proc")
@pytest.mark.parametrize(
    ("bundle", "limit_mb", "limit_f32_mb"),
    [("paper", 800, 950), ("fast", 950, 1500), ("default", 1300, 1900)],
)
def test_fifteen_hundred_slices_stay_within_a_limit(tmp_path, bundle, limit_mb, limit_f32_mb):
    """A body of 512 x 512 x 1500 under a limit, by the kernel's own count.

    Statistics, preview and report are made too. Without bf16 the networks take more.
    """
    limit_mb = limit_mb if has_bf16() else limit_f32_mb
    plane = np.full((512, 512), -1000, np.int16)
    x, y = np.ogrid[:512, :512]
    plane[((x - 256) / 200) ** 2 + ((y - 256) / 140) ** 2 < 1] = 50
    noise = np.random.default_rng(0).integers(-9, 9, (512, 512, 8)).astype(np.int16)
    data = np.empty((512, 512, 1500), np.int16, order="F")
    for k in range(1500):
        data[..., k] = plane + noise[..., k % 8]
    image = nib.Nifti1Image(data, np.diag([-0.9, -0.9, 0.8, 1.0]))
    nib.save(image, tmp_path / "ct.nii.gz")
    del data, image
    script = (
        "import sys; from viscera.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) * 1024 / 1e6)\n"
    )
    call = ["segment", str(tmp_path / "ct.nii.gz"), "-o", str(tmp_path / "labels.nii.gz")]
    call += ["-b", bundle, "--memory-limit", f"{limit_mb}M", "-q", "-s", "-p", "--report"]
    done = subprocess.run(
        [sys.executable, "-c", script, *call], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[-1]) <= limit_mb
