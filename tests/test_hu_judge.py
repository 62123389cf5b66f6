"""The judge of intensities: what is no HU is named, and no CT is."""

from functools import cache
from itertools import islice

import numpy as np
import pytest
from click.testing import CliRunner

import viscera
from tests.conftest import SHARED, needs_shared
from viscera.bundle.read import read_bundle
from viscera.cli.main import viscera as command
from viscera.core.phantom import make_phantom
from viscera.core.volume import Volume
from viscera.errors import InputError
from viscera.grid.grid import Grid
from viscera.io.read import open_volume
from viscera.io.write import write_volume
from viscera.localise.hu_judge import judge_intensities
from viscera.localise.overview import Overview

RNG_SEED = 3
FAULTS = {
    "offset 1024": (lambda hu: hu + 1024.0, "+1024 off", "shifted(-1024)"),
    "offset 1000": (lambda hu: hu + 1000.0, "+1000 off", "shifted(-1000)"),
    "offset 2048": (lambda hu: hu + 2048.0, "+2048 off", "shifted(-2048)"),
    "offset, padded": (lambda hu: border(hu + 1024.0, -2000), "+1024 off", "shifted(-1024)"),
    "offset, clipped": (lambda hu: np.clip(hu + 1024.0, 0, 4095), "+1024 off", "shifted(-1024)"),
    "intercept twice": (lambda hu: hu - 1024.0, "-1024 off", "shifted(1024)"),
    "negated": (lambda hu: -hu, "inverted", "in HU"),
    "ten times": (lambda hu: hu * 10.0, "10 times HU", "in HU"),
    "a tenth": (lambda hu: hu / 10.0, "0.1 times HU", "in HU"),
    "half": (lambda hu: hu / 2.0, "0.5 times HU", "in HU"),
    "double": (lambda hu: hu * 2.0, "2 times HU", "in HU"),
    "standard scores": (lambda hu: (hu - hu.mean()) / hu.std(), "are no HU", "in HU"),
    "0 to 1, wide": (lambda hu: (np.clip(hu, -1000, 1000) + 1000) / 2000, "are no HU", "in HU"),
    "wide window": (lambda hu: np.clip(hu, -400, 400), "clipped at -400", "without a window"),
    "windowed": (lambda hu: np.clip(hu, -160, 240), "windowed", "without a window"),
    "8 bits": (lambda hu: np.rint((np.clip(hu, -160, 240) + 160) / 400 * 255), "windowed", ""),
    "0 to 1": (lambda hu: (np.clip(hu, -160, 240) + 160) / 400, "windowed", ""),
    "0 to 100": (lambda hu: np.clip(hu, 0, 100), "windowed", ""),
    "clipped above": (lambda hu: np.minimum(hu, 60), "clipped", "without a window"),
    "zeros around": (lambda hu: np.where(hu < -900, 0, hu), "exactly 0", "-1024"),
    "ring of 32767": (lambda hu: border(hu, 32767), "32767", "-1024"),
    "noise": (lambda hu: np.random.default_rng(1).normal(0, 400, hu.shape), "noise", ""),
    "magnetic": (lambda hu: np.where(hu < -300, 3, 0.6 * (hu + 1024)), "HU", ""),
}  # fmt: skip


def border(hu, value):
    """The outermost columns, which a round field of view leaves empty."""
    result = np.asarray(hu, dtype=np.float64).copy()
    edge = hu.shape[-1] // 6
    result[..., :edge] = result[..., -edge:] = value
    return result


def messages(hu):
    return " | ".join(str(finding) for finding in judge_intensities(hu))


@cache
def phantom_hu():
    volume, _ = make_phantom(5, shape=(80, 64, 40), spacing_mm=(4.5, 4.5, 7.0), noise_hu=8)
    return volume.data.T


@pytest.mark.hostile(37)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_done_to_the_values_is_named(fault):
    change, what, remedy = FAULTS[fault]
    text = messages(change(phantom_hu().astype(np.float64)).astype(np.float32))
    assert what in text
    assert remedy in text


def test_hu_are_hu():
    assert judge_intensities(phantom_hu()) == []
    assert judge_intensities(np.full((5, 5, 5), -1000, np.int16)) == [], "air"
    assert "all voxels are 40" in messages(np.full((5, 5, 5), 40, np.int16))
    outside = border(phantom_hu(), -3024)
    assert judge_intensities(outside) == [], "the padding of scanners"


def shared_overviews():
    orientation = None
    for path in [*sorted(SHARED.glob("data/*/*/ct.nii.gz"))]:
        volume = open_volume(path)
        orientation = Grid.fit(volume.shape, volume.affine, read_bundle("default")).orientation
        yield path, Overview.of(volume, orientation).hu


@pytest.mark.hostile(37)
@needs_shared
@pytest.mark.slow
def test_no_false_alarm_on_any_shared_ct_at_any_crop_or_dose():
    rng = np.random.default_rng(RNG_SEED)
    for path, hu in shared_overviews():
        assert judge_intensities(hu) == [], path
        for _ in range(60):
            size = [int(rng.integers(min(n, 8), n + 1)) for n in hu.shape]
            start = [int(rng.integers(0, n - s + 1)) for n, s in zip(hu.shape, size, strict=True)]
            part = hu[tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))]
            noise = rng.normal(0, rng.choice([0, 15, 30, 60]), part.shape)
            noisy = np.rint(np.clip(part + noise, -1024, 3071)).astype(np.int16)
            noisy[..., : size[2] // 8] = rng.choice([-1024, -2000, -3024])
            assert judge_intensities(noisy) == [], (path, start, size)


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "clipped above"])
def test_faults_are_seen_on_shared_cts(fault):
    change, _, _ = FAULTS[fault]
    for path, hu in islice(shared_overviews(), 0, None, 3):
        assert judge_intensities(change(hu.astype(np.float64)).astype(np.float32)), path


@pytest.mark.hostile(37)
def test_segment_says_it_and_strict_refuses(tmp_path):
    volume, _ = make_phantom(5, shape=(80, 64, 40), spacing_mm=(4.5, 4.5, 7.0), noise_hu=8)
    shifted = volume.shifted(1024)
    codes = [f.code for f in viscera.segment(shifted, bundle="phantom").findings]
    assert "not-hu" in codes
    with pytest.raises(InputError, match="leave out strict"):
        viscera.segment(shifted, bundle="phantom", strict=True)
    assert viscera.segment(volume, bundle="phantom", strict=True).labels.any()
    plain = Volume(shifted.data, volume.affine)
    write_volume(tmp_path / "ct.nii.gz", plain)
    call = ["segment", str(tmp_path / "ct.nii.gz"), "-b", "phantom", "-o"]
    result = CliRunner().invoke(command, [*call, str(tmp_path / "o.nii.gz")])
    assert "try --hu-offset -1024" in result.stderr
    result = CliRunner().invoke(
        command, [*call, str(tmp_path / "p.nii.gz"), "--hu-offset", "-1024", "--strict"]
    )
    assert result.exit_code == 0, result.output
