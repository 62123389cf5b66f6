"""Abdominal organs in CT, as a module of 3D Slicer.

It runs `viscera segment` in a separate process on this machine, and loads the .seg.nrrd that it
writes: segments with names, colours and SNOMED CT codes. Nothing leaves the machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

BUNDLES = ("default", "fast", "paper")
PACKAGE = "viscera"


class Viscera(ScriptedLoadableModule):
    """What the list of modules shows."""

    def __init__(self, parent):
        """Describe the module.

        Args:
            parent: of the module, given by Slicer.
        """
        super().__init__(parent)
        parent.title = "Viscera"
        parent.categories = ["Segmentation"]
        parent.contributors = ["The viscera authors"]
        parent.helpText = (
            "Finds thirteen abdominal organs in a CT, on this machine's CPU, in seconds. "
            "Research use only; not a medical device."
        )
        parent.acknowledgementText = "Code: Apache-2.0. Packaged weights: CC BY-NC-SA 4.0."


class VisceraWidget(ScriptedLoadableModuleWidget):
    """The panel: a volume, a network, a button."""

    def setup(self):
        """Make the panel."""
        import ctk
        import qt

        super().setup()
        self.logic = VisceraLogic()
        box = ctk.ctkCollapsibleButton()
        box.text = "Segment"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        form.addRow("CT", self.volume)
        self.bundle = qt.QComboBox()
        self.bundle.editable = True  # a bundle's folder may be written too
        self.bundle.addItems(list(BUNDLES))
        form.addRow("Network", self.bundle)
        self.button = qt.QPushButton("Find organs")
        self.button.connect("clicked()", self.on_clicked)
        form.addRow(self.button)
        self.message = qt.QLabel("Research use only; not a medical device.")
        self.message.wordWrap = True
        form.addRow(self.message)
        self.layout.addStretch(1)

    def on_clicked(self):
        """Segment the chosen volume, and say what came of it."""
        node = self.volume.currentNode()
        if node is None:
            self.message.text = "Choose a CT first."
            return
        if not self.logic.is_installed():
            question = f"The Python package {PACKAGE} is not installed in Slicer. Install it now?"
            if not slicer.util.confirmOkCancelDisplay(question):
                return
            try:
                self.logic.install()
            except Exception as error:  # pip's, in its own words
                self.message.text = f"{PACKAGE} could not be installed: {error}"
                return
        self.message.text = "Working ..."
        slicer.app.processEvents()
        try:
            with slicer.util.WaitCursor():
                _, report = self.logic.segment(node, self.bundle.currentText)
        except VisceraError as error:
            self.message.text = str(error)
            return
        self.message.text = summary(report)


class VisceraError(Exception):
    """What viscera said of a scan that it could not segment."""


class VisceraLogic(ScriptedLoadableModuleLogic):
    """The work, for scripts too: VisceraLogic().segment(volume_node)."""

    def is_installed(self):
        """Whether Slicer's Python has viscera."""
        from importlib.util import find_spec

        return find_spec(PACKAGE) is not None

    def install(self):
        """Install it from the package index; only when somebody asks for it."""
        slicer.util.pip_install(PACKAGE)

    def segment(self, volume_node, bundle="default"):
        """Segment a volume.

        Args:
            volume_node: vtkMRMLScalarVolumeNode with a CT in HU.
            bundle: name of a packaged network, or the folder of another.

        Returns:
            The segmentation's node, and viscera's report.

        Raises:
            VisceraError: viscera refused the scan.
        """
        with tempfile.TemporaryDirectory(prefix="viscera-slicer-") as folder:
            scan = Path(folder) / "ct.nrrd"
            labels = Path(folder) / "organs.nii.gz"
            if not slicer.util.exportNode(volume_node, str(scan)):
                raise VisceraError("The volume could not be saved for viscera.")
            call = ["-m", PACKAGE, "segment", str(scan), "-o", str(labels), "-b", bundle]
            self._run([*call, "-ot", "seg_nrrd", "--report", "--quiet"])
            report = json.loads((Path(folder) / "organs_report.json").read_text(encoding="utf-8"))
            node = slicer.util.loadSegmentation(str(Path(folder) / "organs.seg.nrrd"))
        node.SetName(f"{volume_node.GetName()} organs")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        node.CreateClosedSurfaceRepresentation()
        return node, report

    def _run(self, arguments):
        """Run Slicer's own Python; its error ends with viscera's sentence."""
        command = [python_of_slicer(), *arguments]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            lines = [line for line in process.stderr.splitlines() if line.startswith("viscera: ")]
            sentence = lines[-1].removeprefix("viscera: ") if lines else "viscera did not run"
            raise VisceraError(f"{sentence} (exit code {process.returncode})")


class VisceraTest(ScriptedLoadableModuleTest):
    """What Slicer's own test runner runs: a phantom, segmented with the phantom's network."""

    def runTest(self):  # noqa: N802, the name that Slicer calls
        """Segment a generated scan, and find its liver."""
        slicer.mrmlScene.Clear()
        with tempfile.TemporaryDirectory() as folder:
            scan = Path(folder) / "phantom.nii.gz"
            subprocess.run([python_of_slicer(), "-m", PACKAGE, "phantom", str(scan)], check=True)
            volume = slicer.util.loadVolume(str(scan))
        _, report = VisceraLogic().segment(volume, "phantom")
        assert report["volumes_ml"]["liver"] > 500


def python_of_slicer():
    """Slicer's Python as a program; sys.executable is Slicer itself.

    Raises:
        VisceraError: it is not where Slicer puts it.
    """
    python = shutil.which("PythonSlicer")
    if python is None:
        raise VisceraError("PythonSlicer, which comes with Slicer, is not on its path.")
    return python


def summary(report):
    """One sentence for people on volumes and verdicts."""
    verdicts = [quality["verdict"] for quality in report["quality"].values()]
    doubtful = [n for n, q in report["quality"].items() if q["verdict"] != "good"]
    shown = sum(1 for ml in report["volumes_ml"].values() if ml)
    text = f"{shown} of {len(verdicts)} structures found in {report['seconds']:.1f} s."
    return text + (f" Look at: {', '.join(doubtful)}." if doubtful else "")
