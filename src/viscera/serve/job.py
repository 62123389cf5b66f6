"""A job: one scan on its way from upload to result."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["receiving", "waiting", "running", "finished", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"finished", "failed", "cancelled"})
# Results by the name that they have for users: suffix of the file beside the labels.
RESULTS = {
    "labels.nii.gz": ".nii.gz",
    "labels.seg.nrrd": ".seg.nrrd",
    "statistics.json": "_statistics.json",
    "statistics.csv": "_statistics.csv",
    "report.json": "_report.json",
    "report.html": ".html",
    "preview.png": "_preview.png",
    "seg.dcm": "_seg.dcm",
    "rtstruct.dcm": "_rtstruct.dcm",
}
SCAN = "scan.nii.gz"  # the CT itself, for a viewer


@dataclass(eq=False)
class Job:
    """One scan on its way.

    Attributes:
        id: names it in addresses.
        name: what the user calls it; text, never a path.
        bundle: of the network.
        folder: holds its files.
        source: a scan below the folder that the server may read; empty for an upload.
        state: where it stands.
        stage: what is being done.
        share: how much of that stage is done.
        error: why it failed, in words.
        exit_code: what the command line would end in.
        report: of the finished run.
        scan: the CT as .nii.gz, once it is finished.
        received_bytes: of all files.
        received_files: how many.
        open_uploads: that are still coming in.
        uploads: that have begun, failed ones included.
        changed_s: when something last happened, on the monotonic clock.
        version: grows with each change.
        is_unwanted: the user has deleted it.
    """

    id: str
    name: str
    bundle: str
    folder: Path
    source: str = ""
    state: State = "receiving"
    stage: str = ""
    share: float = 0.0
    error: str = ""
    exit_code: int = 0
    report: dict[str, Any] | None = None
    scan: Path | None = None
    received_bytes: int = 0
    received_files: int = 0
    open_uploads: int = 0
    uploads: int = 0
    changed_s: float = field(default_factory=time.monotonic)
    version: int = 0
    is_unwanted: bool = False

    def change(self, **values: Any) -> None:
        """Set attributes; whoever watches sees it."""
        for name, value in values.items():
            setattr(self, name, value)
        self.changed_s = time.monotonic()
        self.version += 1

    @property
    def input_folder(self) -> Path:
        """Where uploads go."""
        return self.folder / "input"

    def results(self) -> dict[str, Path]:
        """The files that a finished job has, by the name that users see."""
        if self.state != "finished":
            return {}
        base = self.folder / "results" / "labels"
        paths = {name: base.with_name(base.name + suffix) for name, suffix in RESULTS.items()}
        if self.scan is not None:
            paths[SCAN] = self.scan
        return {name: path for name, path in paths.items() if path.is_file()}

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "id": self.id,
            "name": self.name,
            "bundle": self.bundle,
            "state": self.state,
            "stage": self.stage,
            "share": round(self.share, 3),
            "error": self.error,
            "exit_code": self.exit_code,
            "files": self.received_files,
            "bytes": self.received_bytes,
            "results": list(self.results()),
            "report": self.report,
        }
