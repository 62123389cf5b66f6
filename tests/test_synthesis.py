"""Synthetic CT from label maps: what is in them is where the labels say, as CT would show it."""

import numpy as np
import pytest
from scipy import ndimage

from viscera.core.organs import ORGANS_BY_NAME
from viscera.core.phantom import make_phantom
from viscera.training.synthesis.anatomy import add_body, anatomy_from_labels, deform, swap_organ
from viscera.training.synthesis.scanner import Scanner
from viscera.training.synthesis.synthesise import paint_tissues, synthesise
from viscera.training.synthesis.tissues import (
    PHASES,
    TISSUE_HU,
    TOTALSEGMENTATOR_TISSUES,
    Textures,
    draw_tissue_hu,
)

SPACING_MM = 4.0


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(7, shape=(100, 80, 70), spacing_mm=(SPACING_MM,) * 3)


@pytest.fixture(scope="module")
def patient(phantom):
    return anatomy_from_labels(np.ascontiguousarray(phantom[1].T), None, SPACING_MM)


@pytest.fixture(scope="module")
def textures(phantom):
    volume, labels = phantom
    return Textures.of(volume.data.T, labels.T)


def test_the_same_seed_gives_the_same_scan(patient, textures):
    one, same, other = (synthesise(patient, textures, seed) for seed in (3, 3, 4))
    assert np.array_equal(one.volume.data, same.volume.data)
    assert np.array_equal(one.labels, same.labels)
    assert one.volume.shape != other.volume.shape or not np.array_equal(one.labels, other.labels)


@pytest.mark.parametrize("seed", range(4))
def test_a_scan_shows_what_its_labels_say(patient, textures, seed):
    made = synthesise(patient, textures, seed, scanner=Scanner(noise_hu=(1, 4), field_of_view=0))
    phase = PHASES.index(made.description.split(", ")[0])
    assert made.volume.shape == made.labels.shape
    assert made.volume.data.dtype == np.int16
    for name in ("liver", "spleen", "kidney_right"):
        inner = ndimage.binary_erosion(made.labels == ORGANS_BY_NAME[name].id)
        if inner.sum() < 20:
            continue
        drawn = TISSUE_HU[name][phase], TISSUE_HU[name][3]
        assert abs(made.volume.data[inner].mean() - drawn[0]) < 4 * drawn[1] + 10
    assert np.median(made.volume.data[0, 0]) < -900  # air beside the body
    assert f"{made.volume.affine.spacing_mm[2]:g} mm" in made.description


def test_a_map_without_skin_is_given_a_body(patient):
    rng = np.random.default_rng(0)
    grown = add_body(patient, rng)
    body = ndimage.binary_fill_holes((HU_OF[grown.tissues] > -300).any(axis=0))
    assert ((grown.organs > 0).any(axis=0) & ~body).sum() == 0
    shown = grown.organs > 0
    assert (HU_OF[grown.tissues[shown]] > -300).all()
    around = ndimage.binary_dilation(shown.any(axis=0), iterations=2) & ~shown.any(axis=0)
    middle = grown.tissues[grown.tissues.shape[0] // 2]
    assert set(np.unique(HU_OF[middle[around]])) - {-1000.0}  # wall or fat, not air alone


HU_OF = np.array([row[0] for row in TISSUE_HU.values()], dtype=float)


def test_an_organ_comes_from_another_patient(patient):
    _, labels = make_phantom(8, shape=(100, 80, 70), spacing_mm=(SPACING_MM,) * 3)
    donor = anatomy_from_labels(np.ascontiguousarray(labels.T), None, SPACING_MM)
    organ = ORGANS_BY_NAME["spleen"]
    mixed = swap_organ(patient, donor, organ)
    own, new = patient.organs == organ.id, mixed.organs == organ.id
    assert new.any()
    assert not np.array_equal(own, new)
    others = (patient.organs > 0) & ~own
    assert np.array_equal(mixed.organs[others], patient.organs[others])
    assert np.linalg.norm(np.argwhere(own).mean(0) - np.argwhere(new).mean(0)) < 3


def test_bending_keeps_labels_labels(patient):
    bent = deform(patient, 8.0, np.random.default_rng(1))
    assert set(np.unique(bent.organs)) <= set(np.unique(patient.organs))
    assert not np.array_equal(bent.organs, patient.organs)
    sizes = [(a.organs == 1).sum() for a in (patient, bent)]
    assert 0.7 < sizes[1] / sizes[0] < 1.4


def test_hollow_organs_hold_gas_or_contents(patient):
    stomach = ORGANS_BY_NAME["stomach"].id
    grown = add_body(patient, np.random.default_rng(0))
    held = [
        paint_tissues(grown, Textures(), np.random.default_rng(seed))[0][grown.organs == stomach]
        for seed in range(12)
    ]
    assert any((hu < -900).any() for hu in held)
    assert any((hu > 110).mean() > 0.3 for hu in held)


def test_both_kidneys_of_a_patient_are_alike():
    for seed in range(20):
        hu = draw_tissue_hu("portal", np.random.default_rng(seed))
        assert abs(hu["kidney_left"] - hu["kidney_right"]) < 20
    arterial, plain = (draw_tissue_hu(p, np.random.default_rng(0))["aorta"] for p in PHASES[1::-1])
    assert arterial > plain + 150


def test_textures_are_rough_and_without_a_mean(textures, phantom):
    assert "liver" in textures.cubes
    assert "stomach" not in textures.cubes  # it holds who knows what
    tile = textures.tile("liver", (30, 30, 30), np.random.default_rng(0))
    assert tile.shape == (30, 30, 30)
    assert abs(tile.mean()) < 3
    assert 2 < tile.std() < 40
    assert not textures.tile("bone", (4, 4, 4), np.random.default_rng(0)).any()


def test_every_class_of_totalsegmentator_has_a_tissue():
    assert set(TOTALSEGMENTATOR_TISSUES.values()) <= set(TISSUE_HU)
    total = np.arange(118, dtype=np.uint8).reshape(1, 1, -1)
    assert anatomy_from_labels(np.zeros_like(total), total, 1.5).tissues.max() < len(TISSUE_HU)
