"""The main job on a generated phantom, as its user runs it, with no patient data at hand."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner

import viscera
from viscera.cli.main import viscera as command
from viscera.io.write import write_volume


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_phantom_goes_in_and_thirteen_organs_come_out(tmp_path):
    run = CliRunner().invoke
    ct, truth, out = (tmp_path / n for n in ("ct.nii.gz", "truth.nii.gz", "out.nii.gz"))
    call = ["phantom", str(ct), "--labels", str(truth), "--seed", "5"]
    assert run(command, call, catch_exceptions=False).exit_code == 0
    call = ["segment", str(ct), "-o", str(out), "-b", "phantom", "-s", "-p", "--report", "--json"]
    result = run(command, call, catch_exceptions=False)
    assert result.exit_code == 0
    labels, expected = (np.asarray(nib.load(p).dataobj) for p in (out, truth))
    scores = {o.name: dice(labels == o.id, expected == o.id) for o in viscera.ORGANS}
    assert scores["liver"] > 0.9
    assert scores["kidney_right"] > 0.85
    assert scores["kidney_left"] > 0.85
    assert np.mean(list(scores.values())) > 0.8
    report = json.loads(result.stdout)
    assert report["volumes_ml"]["liver"] == pytest.approx(
        (labels == 1).sum() * 2.4 * 2.4 * 4 / 1000, rel=1e-4
    )
    names = {p.name for p in tmp_path.iterdir()}
    assert {"out_statistics.json", "out_statistics.csv", "out_preview.png",
            "out_report.json"} <= names  # fmt: skip


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(tmp_path):
    """With the packaged network, whose windows are fitted to the body."""
    volume, _ = viscera.make_phantom(2, shape=(120, 100, 80), spacing_mm=(3.5, 3.5, 5.0))
    write_volume(tmp_path / "ct.nii.gz", volume)
    call = [sys.executable, "-m", "viscera", "segment", str(tmp_path / "ct.nii.gz"), "-q", "-o"]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        subprocess.run([*call, str(tmp_path / name / "labels.nii.gz")], check=True)
    first, second = ((tmp_path / n / "labels.nii.gz").read_bytes() for n in ("a", "b"))
    assert first == second
    assert np.asarray(nib.load(tmp_path / "a" / "labels.nii.gz").dataobj).any()


def test_the_phantom_is_seeded_and_plausible():
    (a, labels), (b, _), (c, _) = (viscera.make_phantom(s) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.data, b.data)
    assert (a.data != c.data).any()
    assert a.affine.axcodes == "LPS"
    assert set(np.unique(labels)) == set(range(14))
    segmentation = viscera.Segmentation(labels, a, viscera.ORGANS)
    volumes = segmentation.volumes_ml()
    assert 1000 < volumes["liver"] < 2200
    assert 80 < volumes["kidney_left"] < 250
    assert 1 < volumes["adrenal_gland_right"] < 10
    assert a.data[labels == 1].mean() == pytest.approx(112, abs=10)
    world = {n: (np.argwhere(segmentation.mask(n)) @ a.affine.matrix[:3, :3].T
                 + a.affine.matrix[:3, 3]).mean(axis=0)
             for n in ("liver", "spleen", "kidney_right", "kidney_left")}  # fmt: skip
    assert world["liver"][0] > 0 > world["spleen"][0]  # RAS: the liver lies to the right
    assert world["kidney_right"][0] > 0 > world["kidney_left"][0]
