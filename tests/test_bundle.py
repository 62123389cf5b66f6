import hashlib
import os
import shutil

import pytest

from tests.conftest import EXAMPLE_BUNDLE, needs_shared
from tests.networks import LABELS, nearest_bundle, random_bundle, slices_body, write_bundle
from viscera.bundle.onnx_check import names_external_data
from viscera.bundle.read import packaged_bundles, read_bundle
from viscera.errors import BundleError


def edited(folder, old, new):
    bundle = nearest_bundle(folder)
    text = (bundle / "bundle.toml").read_text()
    assert old in text
    (bundle / "bundle.toml").write_text(text.replace(old, new))
    return bundle


def test_reads_a_patch_bundle(tmp_path):
    bundle = read_bundle(nearest_bundle(tmp_path))
    assert bundle.patch.size == (24, 24, 16)
    assert bundle.slices is None
    assert bundle.channels == 1
    assert bundle.input.scale == (0.0, 1000.0)
    assert [o.name for o in bundle.organs][:3] == ["liver", "kidney_right", "spleen"]
    assert bundle.label_ids[:5] == (0, 0, 0, 0, 1)


def test_reads_a_slice_bundle(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    folder = write_bundle(tmp_path, body=slices_body(5, (192, 160)), labels=LABELS)
    bundle = read_bundle(folder)
    assert bundle.channels == 5
    assert bundle.slices.size == (192, 160)
    assert bundle.input.scale == (-160.0, 460.0)  # the window becomes 0 to 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("overlap = 0.25", "overlap = 1.0", "an overlap from 0 to below 1 in .patch., found 1.0"),
        ("overlap = 0.25", "overlap = '0.25'", "expected float at 'patch.overlap'"),
        ("size = [24, 24, 16]", "size = [24, 24]", "3 values at 'patch.size'"),
        ("size = [24, 24, 16]", "size = [24, 0, 16]", "a patch size above 0"),
        ("spacing_mm = [8.0, 8.0, 8.0]", "spacing_mm = [8.0, 8.0]", "along x, y, z"),
        ("spacing_mm = [8.0, 8.0, 8.0]", "spacing_mm = [8.0, nan, 8.0]", "expected float"),
        ("orientation = 'LPS'", "orientation = 'LRS'", "an orientation such as LPS"),
        ("orientation = 'LPS'", "oriëntation = 'LPS'", "expected TOML"),
        ("orientation = 'LPS'", "orientatio = 'LPS'", "did you mean 'orientation'"),
        ("mean_hu = 0.0", "", "mean_hu with a std_hu"),
        ("window_hu = [-1000.0, 1000.0]", "window_hu = [10, 10]", "a rising window_hu"),
        ("window_hu = [-1000.0, 1000.0]", "", "the key 'input.window_hu'"),
        ("'background'", "'backgruond'", "begin with background"),
        ("'liver'", "'spleen'", "each structure once"),
        ("format = 1", "format = 99", "update viscera"),
        ("format = 1", "format = 'one'", "format = 1"),
        ("format = 1", "", "format = 1"),
        ("format = 1", "format = 1\nfolder = '/etc'", "a known key"),
        ("[patch]", "[slices]\nstack = 3\nsize = [4, 4]\n[patch]", "either .patch. or .slices."),
        ("[model]", "[about]\nauthor = 'me'\n[model]", "'about.author'"),
        ("[model]", "[[postprocess]]\nstep = 'opening'\n[model]", "one of 'closing'"),
        ("[model]", "[[postprocess]]\nstep = 'closing'\nsize = 4\n[model]", "an odd size"),
        ("[model]", "[[postprocess]]\nstep = 'closing'\norgans = ['heart']\n[model]", "by name"),
        (
            "[model]",
            "[[postprocess]]\nstep = 'closing'\nml = 3.0\n[model]",
            "minimum_volume and lone only",
        ),
        ("[model]", "[[postprocess]]\nstep = 'sides'\nshare = 0.1\n[model]", "strays only"),
        ("[model]", "[[postprocess]]\nstep = 'strays'\n[model]", "strays only"),
        ("[model]", "[[postprocess]]\nstep = 'strays'\nshare = 1.1\n[model]", "at most 1"),
        ("[model]", "[[postprocess]]\nstep = 'lone'\nml = 1.0\n[model]", "beside for lone only"),
        (
            "[model]",
            "[[postprocess]]\nstep = 'sides'\nbeside = ['liver']\n[model]",
            "for lone only",
        ),
        ("overlap = 0.25", "sigma = 0.001", "a sigma of 0.02 or more"),
        ("[model]", "postprocess = 3\n[model]", "a list at 'postprocess'"),
    ],
)
def test_strict(tmp_path, old, new, message):
    old = old.replace("'LPS'", '"LPS"')
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(edited(tmp_path, old, new))
    assert caught.value.exit_code == 8
    assert "bundle.toml" in str(caught.value)


def test_weights_must_be_the_described_ones(tmp_path):
    bundle = nearest_bundle(tmp_path)
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"!")
    with pytest.raises(BundleError, match="sha256"):
        read_bundle(bundle)
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match="the network's file"):
        read_bundle(bundle)


def test_unknown_bundles_name_the_packaged_ones():
    with pytest.raises(BundleError, match="phantom"):
        read_bundle("no_such_bundle")


@pytest.mark.parametrize("name", packaged_bundles())
def test_packaged_bundles_are_whole_and_have_a_card(name):
    bundle = read_bundle(name)
    assert hashlib.sha256(bundle.model_path.read_bytes()).hexdigest() == bundle.model.sha256
    card = (bundle.folder / "README.md").read_text().lower()
    for said in ("trained on", "licence", "not a medical device"):
        assert said in card


@needs_shared
def test_the_example_bundle_describes_the_published_network():
    bundle = read_bundle(EXAMPLE_BUNDLE)
    assert bundle.label_ids == tuple(range(14))


def test_slices_are_not_cropped(tmp_path):
    body = slices_body(3, (40, 32), extra='crop = "body"')
    random_bundle(tmp_path, body, rank=2, channels=3)
    with pytest.raises(BundleError, match=r"crop for \[patch\] only"):
        read_bundle(tmp_path)


# Small files that are none


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="uses FIFOs")
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "large", "nested", "bytes"])
@pytest.mark.parametrize("file", ["bundle.toml", "model.onnx"])
def test_what_is_no_small_file_is_refused_at_once(tmp_path, kind, file, nearest):
    shutil.copytree(nearest, tmp_path / "b")
    path = tmp_path / "b" / file
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as sparse:
            sparse.truncate(5_000_000_000)
    elif kind == "nested":
        path.write_text("a = " + "[" * 100_000)
    else:
        path.write_bytes(b"a = '\xff\xfe'")
    with pytest.raises(BundleError) as caught:
        read_bundle(tmp_path / "b")
    assert len(str(caught.value)) < 600


def _varint(value, least_bytes=1):
    content = bytearray()
    while value or len(content) < least_bytes:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    content[-1] &= 0x7F
    return bytes(content)


def _field(number, content, least_bytes=1):
    return _varint(number << 3 | 2, least_bytes) + _varint(len(content), least_bytes) + content


@pytest.mark.hostile(78)
@pytest.mark.parametrize(
    "how", ["as written", "value first", "long numbers", "in a branch", "location only"]
)
def test_external_weights_are_seen_however_they_are_spelled(how):
    """Protobuf may order fields as it likes, and spell numbers with more bytes than they need."""
    long = 4 if how == "long numbers" else 1
    key, value = _field(1, b"location", long), _field(2, b"w.bin", long)
    entry = _field(13, value + key if how == "value first" else key + value, long)
    location = _varint(14 << 3) + _varint(1, long)
    tensor = location if how == "location only" else entry + location
    graph = _field(5, tensor, long)
    if how == "in a branch":  # of an If: the attribute of a node holds a graph
        graph = _field(1, _field(5, _field(6, graph)))
    model = _varint(1 << 3) + _varint(8) + _field(7, graph, long)
    assert names_external_data(model)
    plain = _varint(1 << 3) + _varint(8) + _field(7, _field(5, _field(9, bytes(16))))
    assert not names_external_data(plain)
    assert not names_external_data(b"no model")


@pytest.mark.parametrize("text", ["dw\\u0007.net", "a\\u001b[31m.b", "\\u0000"])
def test_texts_hold_no_control_characters(tmp_path, text):
    """They end in names of files and in terminals, and a run could not be read back."""
    with pytest.raises(BundleError, match="without control characters at 'name'"):
        read_bundle(edited(tmp_path, '"test.net"', f'"{text}"'))
