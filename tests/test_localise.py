"""The overview: where the abdomen lies. It may leave out air, legs and heads, never an organ."""

import numpy as np
import pytest

import viscera
from tests.conftest import needs_shared
from viscera.core.affine import Affine
from viscera.core.phantom import make_phantom
from viscera.core.volume import Volume
from viscera.grid.orientation import Orientation
from viscera.localise.outside_body import clear_outside_body
from viscera.localise.overview import Overview

SPACING_MM = (4.0, 4.0, 5.0)
AFFINE = Affine(np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0]))


def box_of(volume):
    orientation = Orientation.fit(volume.affine, "LPS")
    return orientation, Overview.of(volume, orientation).box()


def ellipse(shape, middle, half):
    x, y = np.ogrid[: shape[0], : shape[1]]
    return ((x - middle[0]) / half[0]) ** 2 + ((y - middle[1]) / half[1]) ** 2 <= 1


def person(*, legs=160, trunk=140, shoulders=20, head=60, arms=False):
    """A body of two legs, a trunk and a head, of so many slices of 5 mm; feet first."""
    shape = (128, 100)
    empty = np.full(shape, -1000, np.int16)
    slices = []
    for _ in range(legs):
        plane = empty.copy()
        for x in (44, 84):
            plane[ellipse(shape, (x, 50), (17, 20))] = 40
        if arms:
            for x in (10, 118):
                plane[ellipse(shape, (x, 50), (6, 6))] = 40
        slices.append(plane)
    for _ in range(trunk + shoulders):
        plane = empty.copy()
        plane[ellipse(shape, (64, 50), (46, 28))] = 40
        slices.append(plane)
    for _ in range(head):
        plane = empty.copy()
        plane[ellipse(shape, (64, 50), (18, 22))] = 40
        slices.append(plane)
    return Volume(np.asfortranarray(np.stack(slices, axis=2)), AFFINE)


@pytest.mark.parametrize("arms", [False, True])
def test_legs_and_head_are_left_out_with_wide_margins(arms):
    _, (z, _, _) = box_of(person(arms=arms))
    begun_mm, ended_mm = (160 - z.start) * 5, (z.stop - 320) * 5
    assert 40 <= begun_mm <= 80
    assert 80 <= ended_mm <= 120


@pytest.mark.parametrize(
    "parts",
    [
        {"legs": 0, "head": 0},
        {"legs": 0, "head": 8},  # a short neck is kept
        {"legs": 10, "head": 0},  # so are legs within the margin
        {"legs": 160, "trunk": 0, "shoulders": 0, "head": 0},  # no trunk to tell legs from
        {"legs": 0, "trunk": 0, "shoulders": 0, "head": 60},
    ],
)
def test_what_is_in_doubt_stays(parts):
    volume = person(**parts)
    _, (z, _, _) = box_of(volume)
    assert z == slice(0, volume.shape[2])


def test_an_upside_down_scan_gives_the_same_box():
    volume = person()
    turned = AFFINE.matrix.copy()
    turned[2, 2] = -5.0
    turned[2, 3] = 5.0 * (volume.shape[2] - 1)
    flipped = Volume(np.asfortranarray(volume.data[..., ::-1]), Affine(turned))
    assert box_of(flipped)[1] == box_of(volume)[1]


def test_the_box_of_a_body_leaves_the_table_and_the_air_out():
    volume, labels = make_phantom(3, shape=(260, 240, 30), spacing_mm=(2.4, 2.4, 6.0))
    orientation, box = box_of(volume)
    inside = orientation.view(labels)[box]
    assert (inside > 0).sum() == (labels > 0).sum()
    assert box[0] == slice(0, 30)
    assert np.prod(inside.shape) < 0.65 * labels.size


def test_a_scan_of_air_keeps_its_whole_field():
    volume = Volume(np.full((40, 30, 5), -1000, np.int16), Affine(np.diag([2.0, 2, 5, 1])))
    assert box_of(volume)[1] == (slice(0, 5), slice(0, 30), slice(0, 40))


def test_a_child_before_a_cushion_and_two_bodies_are_kept_whole():
    data = np.full((120, 100, 20), -1000, np.int16)
    data[45:75, 20:45] = 40  # a child of 60 x 50 mm
    data[10:110, 70:90] = -100  # a cushion
    two = np.full((200, 100, 10), -1000, np.int16)
    two[10:80, 20:80] = two[110:190, 20:80] = 40
    for hu in (data, two):
        orientation, box = box_of(Volume(hu, Affine(np.diag([-2.0, -2, 5, 1]))))
        assert (orientation.view(hu)[box] == 40).sum() == (hu == 40).sum()


@needs_shared
def test_the_overview_holds_every_label_of_the_shared_cases():
    """A margin of 5 mm around every label is within the box, or the scan ends there."""
    from tools.list_shared_cases import rows

    for row in rows():
        labels = viscera.read_labels(row["labels"])
        volume = viscera.read_volume(row["image"])
        orientation, box = box_of(volume)
        found = orientation.view(labels.values) > 0
        spacing = orientation.reorder(volume.affine.spacing_mm)
        for axis, (part, mm) in enumerate(zip(box, spacing, strict=True)):
            others = tuple(a for a in range(3) if a != axis)
            filled = np.flatnonzero(found.any(axis=others))
            margin = round(5 / mm)
            assert part.start <= max(0, filled[0] - margin), (row["case"], axis)
            assert part.stop >= min(found.shape[axis], filled[-1] + 1 + margin), (row["case"], axis)


# What lies outside the body


def dark_and_bright(volume):
    """Labels of all that is dark, in the body and around it, and of all that is bright."""
    labels = np.where(np.asarray(volume.data) < -500, 1, 0).astype(np.uint8)
    labels[np.asarray(volume.data) > 90] = 2
    return np.asfortranarray(labels)


@pytest.mark.parametrize("axcodes", ["LPS", "RAI", "PSL"])
def test_labels_in_the_air_around_go_and_those_in_lungs_stay(axcodes):
    volume = person(legs=60)
    data = np.asarray(volume.data).copy(order="F")
    lungs = np.zeros(data.shape, bool)
    for x in (44, 84):
        lungs |= (
            ellipse(data.shape[:2], (x, 50), (14, 18))[..., None]
            & (np.arange(data.shape[2]) > 100)
            & (np.arange(data.shape[2]) < 200)
        )
    data[lungs] = -850
    volume = Volume(data, AFFINE)
    labels = dark_and_bright(volume)
    expected = np.where(lungs | (labels == 2), labels, 0)
    overview = Overview.of(volume, Orientation.fit(volume.affine, axcodes))
    air = int(((labels == 1) & ~lungs).sum())
    removed = clear_outside_body(labels, overview)
    assert removed[1] > 0.9 * air  # all but a rim of some millimetres
    assert removed[2] == 0
    assert (labels[expected > 0] == expected[expected > 0]).all()
    assert (labels[:4] == 0).all()


def test_where_no_body_is_seen_nothing_is_removed():
    volume = Volume(np.full((40, 40, 20), -1000, np.int16, order="F"), AFFINE)
    labels = np.ones(volume.shape, np.uint8, order="F")
    overview = Overview.of(volume, Orientation.fit(AFFINE, "LPS"))
    assert clear_outside_body(labels, overview).sum() == 0
    assert labels.all()


def test_a_network_of_other_structures_sees_heads_and_legs():
    volume = person()
    orientation = Orientation.fit(volume.affine, "LPS")
    z, y, x = Overview.of(volume, orientation).box(whole_length=True)
    assert (z.start, z.stop) == (0, volume.shape[2])
    _, (_, trunk_y, trunk_x) = box_of(volume)
    assert (y, x) == (trunk_y, trunk_x)
