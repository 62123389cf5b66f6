import csv
import io

import numpy as np
import pytest

import viscera
from viscera.core.volume import Volume
from viscera.report.organ_statistics import measure_organs, statistics_csv


def case():
    labels = np.zeros((12, 10, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = 1
    labels[8, 8, 6] = 1
    labels[0, 0:3, 0] = 5
    rng = np.random.default_rng(0)
    hu = rng.integers(-100, 200, labels.shape).astype(np.int16)
    volume = Volume(hu, viscera.Affine(np.diag([-2.0, -2.0, 5.0, 1.0])), "case")
    return viscera.Segmentation(labels, volume, viscera.ORGANS)


def test_statistics_are_numpys():
    segmentation = case()
    rows = {row.organ: row for row in measure_organs(segmentation)}
    liver = segmentation.volume.data[segmentation.labels == 1].astype(float)
    assert rows["liver"].n_voxels == 65
    assert rows["liver"].volume_ml == pytest.approx(65 * 0.02)
    assert rows["liver"].mean_hu == pytest.approx(liver.mean(), abs=0.01)
    assert rows["liver"].std_hu == pytest.approx(liver.std(), abs=0.01)
    assert (rows["liver"].components, rows["liver"].touches_border) == (2, False)
    assert (rows["aorta"].components, rows["aorta"].touches_border) == (1, True)
    assert rows["spleen"].as_dict() == {
        "volume_ml": 0.0, "mean_hu": None, "std_hu": None, "n_voxels": 0, "components": 0,
        "touches_border": False, "verdict": None, "estimated_dsc": None, "estimated_low": None,
        "estimated_high": None, "reasons": "",
    }  # fmt: skip
    assert [row.organ for row in measure_organs(segmentation)] == [o.name for o in viscera.ORGANS]


def test_csv_is_long():
    rows = list(csv.DictReader(io.StringIO(statistics_csv("case", measure_organs(case())))))
    assert len(rows) == 13 * 11
    values = {(r["organ"], r["metric"]): r["value"] for r in rows}
    assert values["aorta", "touches_border"] == "1"
    assert values["liver", "components"] == "2"
    assert values["spleen", "mean_hu"] == ""
    assert {r["case"] for r in rows} == {"case"}


def test_an_empty_segmentation():
    segmentation = case()
    segmentation.labels[...] = 0
    assert {row.n_voxels for row in measure_organs(segmentation)} == {0}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_memory_layout_does_not_matter(order):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (9, 8, 7)).astype(np.uint8).transpose(order)
    volume = Volume(np.zeros(labels.shape, np.int16), viscera.Affine(np.eye(4)))
    counts = {r.organ: r.components for r in measure_organs(
        viscera.Segmentation(np.asfortranarray(labels), volume, viscera.ORGANS)
    )}  # fmt: skip
    segmentation = viscera.Segmentation(labels, volume, viscera.ORGANS)
    assert {r.organ: r.components for r in measure_organs(segmentation)} == counts
