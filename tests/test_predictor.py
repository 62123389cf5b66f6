"""The path itself: orientation, streaming and both kinds of network."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import viscera
from tests.networks import (
    LABELS,
    PATCH_BODY,
    nearest_net,
    random_bundle,
    random_net,
    slices_body,
    write_bundle,
)
from tests.test_affine import all_orientations, rotation
from viscera.core.volume import Volume
from viscera.engine.scores import as_float32
from viscera.errors import InputError, NothingToSegmentError, ResourceError
from viscera.grid.grid import Grid
from viscera.grid.orientation import ScanPlane


@pytest.fixture(scope="module")
def lopsided(tmp_path_factory):
    """A 3-D network that answers differently to any flip."""
    folder = random_bundle(tmp_path_factory.mktemp("lopsided"))
    return viscera.Predictor(folder, threads=2, precision="f32")


@pytest.fixture(scope="module")
def lopsided_cropped(tmp_path_factory):
    """The same, which looks at the body only."""
    body = PATCH_BODY.replace("[input]", '[input]\ncrop = "body"')
    folder = random_bundle(tmp_path_factory.mktemp("cropped"), body)
    return viscera.Predictor(folder, threads=2, precision="f32")


@pytest.fixture(scope="module")
def lopsided_slices(tmp_path_factory):
    folder = random_bundle(
        tmp_path_factory.mktemp("slices"), slices_body(3, (40, 32)), rank=2, channels=3
    )
    return viscera.Predictor(folder, threads=2, precision="f32")


def noise(seed, shape):
    rng = np.random.default_rng(seed)
    return np.asfortranarray(rng.integers(-1000, 1000, shape).astype(np.int16))


def stored_as(data, affine, order, signs):
    """The same scan stored with other axes: array and affine changed together."""
    turned = data.transpose(order)[tuple(slice(None, None, s) for s in signs)]
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        change[old, new] = sign
        change[old, 3] = 0 if sign > 0 else data.shape[old] - 1
    return np.asfortranarray(turned), affine @ change


def undone(labels, order, signs):
    return labels[tuple(slice(None, None, s) for s in signs)].transpose(np.argsort(order))


@pytest.mark.hostile(29)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lopsided", "lopsided_cropped", "lopsided_slices"])
@pytest.mark.parametrize("tilt", [0, 17])
def test_all_48_storages_give_the_same_labels(request, kind, tilt):
    predictor = request.getfixturevalue(kind)
    affine = np.eye(4)
    affine[:3, :3] = rotation(tilt) @ np.diag([-6.0, -7.5, 9.0])
    affine[:3, 3] = (30, -40, 900)
    data = noise(1, (31, 26, 14))
    if kind == "lopsided_cropped":  # a body of noise, off the middle, in air
        air = np.full_like(data, -1000)
        air[4:22, 9:24] = np.abs(data[4:22, 9:24])
        data = air
    expected = predictor.segment(data, affine).labels
    assert len(np.unique(expected)) > 5
    for order, signs in all_orientations():
        turned, matrix = stored_as(data, affine, order, signs)
        found = predictor.segment(turned, matrix)
        assert found.labels.shape == turned.shape
        np.testing.assert_array_equal(undone(found.labels, order, signs), expected)


@given(
    st.tuples(st.integers(3, 40), st.integers(3, 40), st.integers(3, 30)),
    st.tuples(st.floats(3.1, 14), st.floats(3.1, 14), st.floats(3.1, 14)),
    st.sampled_from(list(all_orientations())),
    st.floats(-20, 20),
    st.integers(0, 2),
    st.integers(0, 1000),
)
@settings(max_examples=40)
def test_any_storage_of_any_grid_gives_the_same_labels(
    lopsided, shape, spacing, storage, degrees, axis, seed
):
    extent_mm = max(n * s for n, s in zip(shape, spacing, strict=True))
    assume(extent_mm >= 25)  # smaller ones are refused as too small for a scan
    affine = np.eye(4)
    affine[:3, :3] = rotation(degrees, axis) @ np.diag(spacing)
    data = noise(seed, shape)
    expected = lopsided.segment(data, affine).labels
    turned, matrix = stored_as(data, affine, *storage)
    np.testing.assert_array_equal(
        undone(lopsided.segment(turned, matrix).labels, *storage), expected
    )


@pytest.mark.parametrize("shape", [(50, 41, 37), (12, 60, 9)])
def test_streamed_patches_equal_blending_all_at_once(lopsided, shape):
    """Slabs and what is kept of the one before, against one full-size float64 sum."""
    from viscera.inference.sliding_window import fit_axis_windows
    from viscera.inference.windows import mirror_indices

    data, affine = noise(2, shape), np.diag([-6.0, -7.5, 9.0, 1.0])
    found = lopsided.segment(data, affine).labels
    volume, bundle = Volume.of(data, affine), lopsided.bundle
    grid = Grid.fit(volume.shape, volume.affine, bundle)
    windows = fit_axis_windows(grid.shape, bundle.patch)
    sizes = bundle.patch.size[::-1]
    padded = [max(n, s) for n, s in zip(grid.shape, sizes, strict=True)]
    full = np.full(padded, -1.0, np.float32)  # the window's lower end, normalised
    planes = mirror_indices(np.arange(padded[0]) - windows[0].padding, grid.shape[0])
    y, x = (
        slice(w.padding, w.padding + n) for w, n in zip(windows[1:], grid.shape[1:], strict=True)
    )
    full[:, y, x] = grid.forward(map(ScanPlane, count(), grid.orientation.view(volume.data)))[
        planes
    ]
    scores = np.zeros((14, *padded))
    for a, wa in zip(windows[0].starts, windows[0].weights, strict=True):
        for b, wb in zip(windows[1].starts, windows[1].weights, strict=True):
            for c, wc in zip(windows[2].starts, windows[2].weights, strict=True):
                box = tuple(slice(s, s + n) for s, n in zip((a, b, c), sizes, strict=True))
                result = as_float32(lopsided._network.load().run(full[box][None, None].copy()))[0]
                scores[:, *box] += result * np.einsum("i,j,k", wa, wb, wc)
    z = slice(windows[0].padding, windows[0].padding + grid.shape[0])
    zt, yt, xt = (axis.to_scan for axis in grid.axes)
    scores = scores[:, z, y, x].astype(np.float32)
    fine = xt.columns(yt.rows(zt.rows(scores.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)))
    expected = np.zeros(shape, np.uint8)
    grid.orientation.view(expected)[...] = fine.argmax(axis=0)
    assert (found == expected).mean() > 0.998  # half precision moves a few ties


def test_slices_see_their_neighbours(tmp_path):
    """A network that copies the slice above shifts the labels by one slice."""
    names = nearest_net(tmp_path / "model.onnx", rank=2, stack=3)
    folder = write_bundle(tmp_path, body=slices_body(3, (24, 20)), labels=names)
    text = (folder / "bundle.toml").read_text()
    (folder / "bundle.toml").write_text(text.replace(
        "window_hu = [-160.0, 300.0]",
        "window_hu = [-1000.0, 1000.0]\nmean_hu = 0.0\nstd_hu = 1000.0",
    ))  # fmt: skip
    data = np.full((24, 20, 7), -1000, np.int16)
    for k in range(7):
        data[5:15, 5:15, k] = 112 if k % 2 else 162
    labels = viscera.segment(data, np.diag([-9.0, -9, 5, 1]), bundle=folder).labels
    assert [int(labels[10, 10, k]) for k in range(7)] == [5, 1, 5, 1, 5, 1, 5]
    assert (labels > 0).sum() == 700


@pytest.mark.parametrize(("spacing", "fits"), [(9.0, True), (4.0, False)])
def test_slices_with_spacing_are_cut_or_padded_about_the_middle(tmp_path, spacing, fits):
    names = nearest_net(tmp_path / "model.onnx", rank=2, stack=1)
    body = slices_body(1, (30, 28), f"spacing_mm = [{spacing}, {spacing}]").replace(
        "[-160.0, 300.0]", "[-1000.0, 1000.0]\nmean_hu = 0.0\nstd_hu = 1000.0"
    )
    folder = write_bundle(tmp_path, body=body, labels=names)
    data = np.full((24, 20, 4), 112, np.int16)
    labels = viscera.segment(data, np.diag([-9.0, -9, 5, 1]), bundle=folder).labels
    assert (labels == 1).all() == fits
    assert labels[12, 10, 2] == 1


def test_sheared_scans_come_back_on_their_own_grid(nearest):
    """A ball in world coordinates, scanned with a tilted gantry, is labelled where it lies."""
    affine = np.diag([-4.0, -4.0, 5.0, 1.0])
    affine[1, 2] = 5 * np.tan(np.deg2rad(12))
    shape = (60, 80, 50)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = index @ affine[:3, :3].T
    distance = np.linalg.norm(world - world[30, 40, 25], axis=-1)
    data = np.where(distance < 60, 182, 162).astype(np.int16)
    data[0] = -1000  # some air, or it would look like a label map
    found = viscera.segment(data, affine, bundle=nearest)
    assert found.labels.shape == shape
    assert "sheared" in [f.code for f in found.findings]
    ball, truth = found.mask("kidney_right"), distance < 60
    assert 2 * (ball & truth).sum() / (ball.sum() + truth.sum()) > 0.9
    shift = np.argwhere(ball).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    assert abs(shift).max() < 0.2


def test_takes_paths_images_arrays_and_volumes(tmp_path, nearest, small_phantom):
    volume, _ = small_phantom
    image = nib.Nifti1Image(volume.data, volume.affine.matrix)
    nib.save(image, tmp_path / "ct.nii.gz")
    predictor = viscera.Predictor(nearest)
    expected = predictor.segment(volume).labels
    for source in (tmp_path / "ct.nii.gz", str(tmp_path / "ct.nii.gz"), image):
        np.testing.assert_array_equal(predictor.segment(source).labels, expected)
    found = predictor.segment(volume.data, volume.affine.matrix)
    np.testing.assert_array_equal(found.labels, expected)
    assert predictor.segment(image).volume.nifti_header == image.header.binaryblock


def test_the_same_scan_gives_the_same_labels(nearest, small_phantom):
    runs = [viscera.segment(small_phantom[0], bundle=nearest).labels for _ in range(2)]
    np.testing.assert_array_equal(*runs)


@pytest.mark.hostile(76)
def test_memory_shapes_no_labels_it_only_refuses(tmp_path, small_phantom):
    """Windows follow from bundle and scan. Smaller ones must be asked for."""
    body = PATCH_BODY.replace("[patch]", "[patch]\nmultiple = [8, 8, 8]")
    folder = random_bundle(tmp_path, body)
    volume = small_phantom[0]
    ample = viscera.Predictor(folder, precision="f32").segment(volume)
    need_mb = ample.provenance["planned_mb"]
    close = viscera.Predictor(folder, precision="f32", memory_limit_mb=need_mb + 1).segment(volume)
    np.testing.assert_array_equal(close.labels, ample.labels)
    assert close.signature == ample.signature
    window = ample.provenance["grid"]["window_xyz"]
    assert f" f32 t{viscera.Predictor(folder).threads} {'x'.join(map(str, window))} " in (
        ample.signature
    )
    small = viscera.Predictor(folder, precision="f32", low_memory=True).segment(volume)
    assert small.provenance["grid"]["window_xyz"] != window
    assert small.signature.split()[2] != ample.signature.split()[2]
    least_mb = small.provenance["planned_mb"]
    assert least_mb < need_mb
    short = viscera.Predictor(folder, precision="f32", memory_limit_mb=least_mb + 0.6)
    with pytest.raises(ResourceError, match=r"pass low_memory=True, .*raise memory_limit_mb"):
        short.segment(volume)


@pytest.mark.hostile(76)
def test_the_need_is_named_before_anything_is_allocated(nearest, small_phantom):
    predictor = viscera.Predictor(nearest, memory_limit_mb=50)
    with pytest.raises(ResourceError, match=r"at least [0-9]+ MB"):
        predictor.segment(small_phantom[0])
    assert predictor._network._engine is None


def test_strictness(nearest):
    air = np.random.default_rng(0).normal(-1000, 5, (40, 40, 20)).astype(np.int16)
    found = viscera.Predictor(nearest).segment(air, np.diag([-8.0, -8, 8, 1]))
    assert not found.labels.any()
    assert [f.code for f in found.findings if f.level == "warning"] == ["no-abdomen"]
    with pytest.raises(NothingToSegmentError):
        viscera.Predictor(nearest).segment(air, np.diag([-8.0, -8, 8, 1]), strict=True)


def test_segmentation_answers(nearest, small_phantom):
    found = viscera.segment(small_phantom[0], bundle=nearest)
    liver_ml = (found.labels == 1).sum() * found.affine.voxel_ml
    assert found.volumes_ml()["liver"] == pytest.approx(liver_ml)
    assert (found.mask("liver") == (found.labels == 1)).all()
    assert (found.mask(1) == found.mask("liver")).all()
    with pytest.raises(viscera.errors.UsageError):
        found.mask("heart")
    only = found.only([o for o in viscera.ORGANS if o.name == "liver"])
    assert set(np.unique(only.labels)) == {0, 1}
    assert [o.name for o in only.organs] == ["liver"]
    np.testing.assert_array_equal(found.only(["liver"]).labels, only.labels)
    assert "Segmentation of <Volume 'phantom' (48, 40, 28)" in repr(found)
    assert "aorta" in found.cut_organs()
    assert set(found.stages.seconds) == {"read", "load", "network", "postprocess", "quality"}


def test_progress_runs_from_nothing_to_all(nearest, small_phantom):
    told = []
    viscera.Predictor(nearest).segment(
        small_phantom[0], on_progress=lambda stage, done: told.append((stage, done))
    )
    assert told[0] == ("read", 0.0)
    network = [done for stage, done in told if stage == "network"]
    assert network == sorted(network)
    assert (network[0], network[-1]) == (0.0, 1.0)


def test_label_maps_and_absurd_sizes_are_refused(nearest, small_phantom):
    volume, truth = small_phantom
    with pytest.raises(InputError, match="label map"):
        viscera.segment(truth, volume.affine.matrix, bundle=nearest)
    with pytest.raises(InputError, match="mm in size"):
        viscera.segment(volume.data, np.diag([-900.0, -900, 900, 1]), bundle=nearest)


def test_patch_overlap_can_be_chosen(tmp_path):
    random_net(tmp_path / "model.onnx")
    folder = write_bundle(tmp_path, body=PATCH_BODY, labels=LABELS)
    assert viscera.Predictor(folder, overlap=0.5).bundle.patch.overlap == 0.5


@pytest.mark.parametrize(
    "options", [{"overlap": 1.5}, {"threads": 0}, {"threads": -1}, {"precision": "int8"}]
)
def test_options_out_of_range(nearest, options):
    with pytest.raises(viscera.errors.UsageError):
        viscera.Predictor(nearest, **options)


def test_an_affine_beside_a_source_that_has_one(tmp_path, nearest, small_phantom):
    with pytest.raises(viscera.errors.UsageError, match="leave affine out"):
        viscera.segment(small_phantom[0], np.eye(4), bundle=nearest)


@pytest.mark.parametrize("planes", [391, 782])
def test_a_ct_is_not_judged_by_one_column(planes):
    """Sizes at which a plain stride would only meet the first column, where there is air."""
    from viscera.localise.ct_checks import check_volume

    plane = np.random.default_rng(0).normal(40, 25, (512, 512)).astype(np.int16)
    data = np.asfortranarray(np.broadcast_to(plane[..., None], (512, 512, planes)))
    data[:60] = -1000
    data[60:100, :, ::3] = 700
    volume = Volume(data, viscera.Affine(np.diag([-0.8, -0.8, 1.0, 1.0])))
    assert check_volume(volume) == []


def test_sheared_scans_are_planned_before_they_are_straightened(nearest, small_phantom):
    volume, _ = small_phantom
    affine = volume.affine.matrix.copy()
    affine[1, 2] = 5
    predictor = viscera.Predictor(nearest, memory_limit_mb=100)
    with pytest.raises(ResourceError, match="straightening"):
        predictor.segment(volume.data, affine)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("body", ["patches", "slices"])
def test_threads_share_one_predictor(tmp_path, small_phantom, engine, body):
    names = nearest_net(tmp_path / "model.onnx", rank=2, stack=3) if body == "slices" else None
    bundle = (
        write_bundle(tmp_path, body=slices_body(3, (40, 48)), labels=names)
        if body == "slices"
        else random_bundle(tmp_path)
    )
    predictor = viscera.Predictor(bundle, engine=engine, threads=2, precision="f32")
    volume = small_phantom[0]
    expected = viscera.Predictor(bundle, engine=engine, threads=2, precision="f32").segment(volume)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: predictor.segment(volume).labels, range(8)))
    for labels in found:
        np.testing.assert_array_equal(labels, expected.labels)
