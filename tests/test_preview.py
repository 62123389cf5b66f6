"""The preview's promises: right is right, proportions are true, colours are the organs'."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import viscera
from viscera.core.volume import Volume
from viscera.io.read import open_volume
from viscera.io.write import write_volume
from viscera.report.organ_statistics import measure_organs
from viscera.report.pictures.preview import choose_cuts, preview_png, upright_cuts
from viscera.report.scan_pass import scan_pass


def case(codes="LPS", spacing=(2.0, 2.0, 4.0)):
    """A right kidney on the patient's right, stored in LPS or RAS."""
    labels = np.zeros((60, 50, 40), np.uint8)  # LPS: i to the left
    labels[8:18, 20:30, 10:30] = 2
    labels[40:55, 10:25, 10:30] = 3
    hu = np.where(labels > 0, 120, -100).astype(np.int16)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    if codes == "RAS":
        labels, hu = labels[::-1, ::-1], hu[::-1, ::-1]
        affine = np.diag([*spacing, 1.0])
    volume = Volume(np.asfortranarray(hu), viscera.Affine(affine), "case")
    return viscera.Segmentation(np.asfortranarray(labels), volume, viscera.ORGANS)


def planes_of(segmentation):
    cuts = choose_cuts(segmentation.labels, segmentation.affine)
    scan = scan_pass(segmentation.volume, segmentation.labels, [cuts.at])
    return upright_cuts(segmentation, cuts, scan)


@pytest.mark.parametrize("codes", ["LPS", "RAS"])
def test_the_patients_right_is_on_the_left(codes):
    axial, coronal, sagittal = planes_of(case(codes))
    for plane in (axial, coronal):
        columns = {organ: np.argwhere(plane.labels == organ)[:, 1].mean() for organ in (2, 3)}
        assert columns[2] < columns[3]
        assert plane.ends[:2] == ("R", "L")
    rows = {organ: np.argwhere(axial.labels == organ)[:, 0].mean() for organ in (2, 3)}
    assert rows[2] > rows[3]  # the kidney lies further back, so lower
    assert axial.ends[2:] == ("A", "P")
    assert sagittal.ends == ("A", "P", "S", "I")


def test_proportions_are_those_in_millimetres():
    thin, thick = (planes_of(case(spacing=(2.0, 2.0, dz)))[1].size_mm for dz in (1.0, 6.0))
    assert thin[0] < thick[0]
    assert thin[1] == thick[1]


def test_the_picture_is_a_png_with_the_organs_colours():
    picture = Image.open(io.BytesIO(preview_png(case())))
    assert picture.format == "PNG"
    pixels = np.asarray(picture).reshape(-1, 3).astype(int)
    for organ in viscera.ORGANS[1:3]:
        assert (abs(pixels - organ.colour).max(axis=1) < 12).sum() > 200
    assert not picture.info, "a picture carries no text"


def test_nothing_found_still_gives_a_picture():
    segmentation = case()
    segmentation.labels[...] = 0
    assert Image.open(io.BytesIO(preview_png(segmentation))).width > 600


def test_storage_does_not_change_the_picture():
    assert preview_png(case("LPS")) == preview_png(case("RAS"))


def test_a_scan_that_stays_in_its_file_gives_the_same(tmp_path):
    """One pass in slabs gives picture and statistics; the scan is never resident."""
    resident = case()
    write_volume(tmp_path / "case.nii.gz", resident.volume)
    lazy = replace(resident, volume=open_volume(tmp_path / "case.nii.gz"))
    assert not lazy.volume.is_resident
    assert preview_png(lazy) == preview_png(resident)
    assert measure_organs(lazy) == measure_organs(resident)
    assert not lazy.volume.is_resident


def test_one_slice_gives_a_picture():
    volume = Volume(np.zeros((40, 40, 1), np.int16), viscera.Affine(np.diag([-1.0, -1, 5, 1])))
    labels = np.zeros((40, 40, 1), np.uint8)
    labels[5:20, 5:20] = 1
    segmentation = viscera.Segmentation(labels, volume, viscera.ORGANS)
    assert Image.open(io.BytesIO(preview_png(segmentation))).height > 300
