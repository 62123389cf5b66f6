"""The images: built with buildah, and run as FLARE and as careful administrators run them."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import viscera
from tests.conftest import ROOT, SHARED
from viscera.io.read import read_labels
from viscera.io.write import write_volume

sys.path.insert(0, str(ROOT / "tools"))
from build_images import ImageFolder, size_mb

CASES = ("msd_spleen/spleen_8", "btcv_synapse/img0027")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Both images, on a base made here."""
    pytest.importorskip("dicomweb_client", reason="built once, with the environment of all extras")
    for tool in ("buildah", "debootstrap", "unshare"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}, to build images without a registry")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make a base and to mount images")
    folder = ImageFolder(tmp_path_factory.mktemp("images"))
    base = folder.make_base()
    for name in ("flare", "viscera"):
        folder.build(name, base)
    yield folder
    shutil.rmtree(folder.folder, ignore_errors=True)


def phantom(path):
    volume, _ = viscera.make_phantom(7, shape=(48, 40, 28), spacing_mm=(7.5, 7.0, 10.0))
    write_volume(path, volume)
    return path


def confined(tree, folder, *command, user="10001:10001"):
    """A call in an image's files: read-only, without a network but loopback, not as root."""
    script = (
        'set -e; mount --bind "$0" "$0"; mount -o remount,ro,bind "$0"; '
        'mount -t proc proc "$0/proc"; mount --rbind /sys "$0/sys"; mount --rbind /dev "$0/dev"; '
        'mount -t tmpfs tmpfs "$0/tmp"; mkdir "$0/tmp/data"; mount --bind "$1" "$0/tmp/data"; '
        "ip link set lo up 2>/dev/null || true; tree=$0; shift; "
        f'exec chroot --userspec={user} "$tree" /usr/bin/env -i '
        "PATH=/opt/viscera/bin:/usr/bin:/bin HOME=/tmp VISCERA_CACHE=off "
        'VISCERA_TOKEN=a-token-for-the-tests "$@"'
    )
    return ["unshare", "-mn", "sh", "-c", script, str(tree), str(folder), *command]


@pytest.mark.slow
def test_images_are_small_and_say_what_they_are(images):
    with images.tree("viscera-flare") as tree:
        assert size_mb(tree) < 550
    with images.tree("viscera-viscera") as tree:
        assert size_mb(tree) < 550
        assert not list(tree.rglob("pip/__init__.py"))
    settings = images.settings("viscera-viscera")
    assert settings["User"] == "10001:10001"
    assert settings["Entrypoint"] == ["viscera"]
    assert "health.py" in str(settings["Healthcheck"])
    assert settings["Labels"]["org.opencontainers.image.licenses"]


@pytest.mark.slow
def test_flare_runs_one_case_a_start(images, tmp_path):
    """`sh predict.sh` at /workspace, as the challenge calls it; labels equal the command's."""
    sources = [SHARED / "data" / case / "ct.nii.gz" for case in CASES]
    sources = [path for path in sources if path.exists()]
    bundle = "default"
    if not sources:
        sources, bundle = [phantom(tmp_path / "phantom.nii.gz")], "default"
    container = images.buildah("from", "viscera-flare")
    for n, source in enumerate(sources):
        folders = [tmp_path / f"{n}" / name for name in ("inputs", "outputs")]
        for folder in folders:
            folder.mkdir(parents=True)
        shutil.copyfile(source, folders[0] / f"case{n}_0000.nii.gz")
        images.buildah(
            "run", "--isolation", "chroot", "--volume", f"{folders[0]}:/workspace/inputs:ro",
            "--volume", f"{folders[1]}:/workspace/outputs", container, "--",
            "/bin/bash", "-c", "sh predict.sh",
        )  # fmt: skip
        assert [path.name for path in folders[1].iterdir()] == [f"case{n}.nii.gz"]
        expected = viscera.segment(source, bundle=bundle)
        np.testing.assert_array_equal(
            read_labels(folders[1] / f"case{n}.nii.gz").values, expected.labels
        )
    images.buildah("rm", container)


@pytest.mark.slow
def test_read_only_without_network_and_not_as_root(images, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    scan = phantom(folder / "ct.nii.gz")
    folder.chmod(0o777)
    with images.tree("viscera-viscera") as tree:
        call = confined(
            tree, folder, "viscera", "segment", "/tmp/data/ct.nii.gz", "-b", "phantom",
            "-o", "/tmp/data/organs.nii.gz",
        )  # fmt: skip
        done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == 0, done.stderr
        expected = viscera.segment(scan, bundle="phantom").labels
        np.testing.assert_array_equal(read_labels(folder / "organs.nii.gz").values, expected)
        assert (folder / "organs.nii.gz").stat().st_uid == 10001
        code = "import gdcm, highdicom, starlette, uvicorn, pynetdicom, dicomweb_client"
        subprocess.run(confined(tree, folder, "python3", "-c", code), check=True, timeout=90)
        health = "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/api/health')"
        serve = (
            "viscera serve --host 0.0.0.0 & p=$!; for i in 1 2 3 4 5 6 7 8 9; do sleep 1; "
            f'if python3 -c "{health}" 2>/dev/null; then kill -TERM $p; wait $p; exit 7; fi; done'
        )
        done = subprocess.run(
            confined(tree, folder, "sh", "-c", serve),
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 7, done.stderr
