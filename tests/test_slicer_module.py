"""The module of 3D Slicer, tested without Slicer: Slicer's interfaces are replaced."""

import importlib.util
import shutil
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import viscera
from tests.conftest import ROOT
from tests.test_structures import own_bundle

MODULE = ROOT / "integrations" / "slicer" / "Viscera" / "Viscera.py"


class Node:
    """What the module asks of a node."""

    def __init__(self, name, path=None):
        self.name, self.path, self.calls = name, path, []

    def GetName(self):
        return self.name

    def SetName(self, name):
        self.name = name

    def SetReferenceImageGeometryParameterFromVolumeNode(self, node):
        self.calls.append(node)

    def CreateClosedSurfaceRepresentation(self):
        self.calls.append("surfaces")


@pytest.fixture
def slicer(tmp_path, monkeypatch):
    """A module `slicer` that saves and loads files, and whose Python is this one."""
    programs = tmp_path / "Slicer" / "bin"
    programs.mkdir(parents=True)
    (programs / "PythonSlicer").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(programs))
    kept = tmp_path / "loaded.seg.nrrd"

    def export(node, path):
        return bool(shutil.copyfile(node.path, path))

    def load(path):
        return Node("loaded", shutil.copyfile(path, kept))

    fake = ModuleType("slicer")
    fake.util = SimpleNamespace(exportNode=export, loadSegmentation=load)
    scripted = ModuleType("slicer.ScriptedLoadableModule")
    for kind in ("", "Logic", "Test", "Widget"):
        name = f"ScriptedLoadableModule{kind}"
        setattr(scripted, name, type(name, (), {"__init__": lambda self, *a: None}))
    monkeypatch.setitem(sys.modules, "slicer", fake)
    monkeypatch.setitem(sys.modules, "slicer.ScriptedLoadableModule", scripted)
    # A symlink to Python does not find the environment's packages by itself.
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    return fake


@pytest.fixture
def module(slicer):
    spec = importlib.util.spec_from_file_location("Viscera", MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scan(tmp_path, small_phantom):
    """As Slicer saves a volume."""
    import nrrd

    volume, _ = small_phantom
    matrix = np.diag([-1.0, -1, 1, 1]) @ volume.affine.matrix
    header = {"space": "left-posterior-superior", "space directions": matrix[:3, :3].T,
              "space origin": matrix[:3, 3], "kinds": ["domain"] * 3}  # fmt: skip
    nrrd.write(str(tmp_path / "ct.nrrd"), np.asarray(volume.data), header)
    return Node("CT", tmp_path / "ct.nrrd")


def test_a_volume_becomes_a_segmentation(tmp_path, module, scan, small_phantom):
    bundle = own_bundle(tmp_path / "own")
    node, report = module.VisceraLogic().segment(scan, str(bundle))
    assert node.name == "CT organs"
    assert node.calls == [scan, "surfaces"]
    labels = viscera.as_label_map(node.path)
    expected = viscera.segment(small_phantom[0], bundle=bundle)
    np.testing.assert_array_equal(np.asarray(labels.values), expected.labels)
    assert report["volumes_ml"]["liver"] == pytest.approx(expected.volumes_ml()["liver"], abs=1e-3)
    assert "of 6 structures found" in module.summary(report)


def test_what_viscera_says_is_shown(tmp_path, module, scan):
    with pytest.raises(module.VisceraError, match=r"a bundle: .* \(exit code 8\)"):
        module.VisceraLogic().segment(scan, str(tmp_path / "none"))
    scan.path = tmp_path / "text.nrrd"
    scan.path.write_text("no scan")
    with pytest.raises(module.VisceraError, match=r"\(exit code 3\)"):
        module.VisceraLogic().segment(scan, "phantom")


def test_the_module_offers_what_is_packaged(module):
    from viscera.bundle.read import packaged_bundles

    assert set(module.BUNDLES) <= set(packaged_bundles())
    assert module.VisceraLogic().is_installed()
    parent = SimpleNamespace()
    module.Viscera(parent)
    assert parent.title == "Viscera"
    assert "not a medical device" in parent.helpText
