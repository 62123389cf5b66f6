"""Jobs: scans that are uploaded, wait, are segmented one after another, and are deleted again."""

from __future__ import annotations

import queue
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from viscera.batch.options import BatchOptions
from viscera.batch.outputs import OutputOptions
from viscera.batch.plan import BatchCase
from viscera.batch.run import segment_case
from viscera.dicom.read.files import looks_like_dicom
from viscera.errors import (
    NothingToSegmentError,
    ResourceError,
    UsageError,
    VisceraError,
    command_line_wording,
    option,
)
from viscera.io.case_names import result_name
from viscera.io.scan_files import find_scans
from viscera.io.write import write_volume
from viscera.predictor import Predictor
from viscera.runtime.resources import means_no_memory, no_memory_error
from viscera.serve.job import ENDED, SCAN, Job
from viscera.serve.security import log_bug
from viscera.serve.settings import ServerSettings

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 100
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(10))}
)


class UnknownSourceError(UsageError):
    """No scan of that name lies below the folder that may be read."""


class JobStateError(Exception):
    """A job is not in the state for what is asked."""


class JobCancelledError(Exception):
    """The user no longer wants a job."""


class JobStore:
    """All jobs of a server. One thread segments them in turn, another deletes what is old.

    Attributes:
        settings: of the server.
        folder: holds a folder of each job.
        networks: where each network that is offered lies, by its name.
        is_stopping: set when the server ends.
    """

    def __init__(
        self,
        settings: ServerSettings,
        folder: Path,
        *,
        make_predictor: Callable[[str], Predictor] = Predictor,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            settings: of the server.
            folder: holds a folder of each job.
            make_predictor: gives the network of a bundle's name; called once for each.
        """
        self.settings, self.folder, self.networks = settings, folder, settings.networks
        self._make_predictor = make_predictor
        self._jobs: dict[str, Job] = {}
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._predictors: dict[str, Predictor] = {}
        self._lock = threading.Lock()
        self.is_stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._running_id = ""
        self.finished_count = self.failed_count = 0

    def start(self) -> None:
        """Begin to work."""
        for work in (self._work, self._expire):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End: what runs is cancelled, and nothing is kept."""
        self.is_stopping.set()
        self._waiting.put(None)
        for job in self.all():
            job.is_unwanted = True
        for thread in self._threads:
            thread.join(timeout=20)

    def all(self) -> list[Job]:
        """All jobs, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def get(self, job_id: str) -> Job | None:
        """The job of this id."""
        with self._lock:
            return self._jobs.get(job_id)

    def add(self, name: str, bundle: str, source: str = "") -> Job:
        """A new job, which waits for its files, or for `submit` where a source is named.

        Args:
            name: what the user calls it.
            bundle: name of the network, see `ServerSettings.networks`.
            source: a scan below the folder that the server may read; empty for an upload.

        Raises:
            UsageError: no such bundle.
            UnknownSourceError: no source that may be read.
            ResourceError: there are too many jobs.
        """
        if bundle not in self.networks:
            raise UsageError(
                "the name of a network of this server",
                found=repr(bundle),
                remedy=f"choose among {', '.join(self.networks)}",
            )
        if source:
            self._allowed_source(source)
        with self._lock:
            if len(self._jobs) >= self.settings.most_jobs:
                raise ResourceError(
                    f"at most {self.settings.most_jobs} jobs",
                    found="as many",
                    remedy="delete one, or wait until one is deleted",
                )
            job_id = secrets.token_urlsafe(9)
            job = Job(job_id, name[:200] or "scan", bundle, self.folder / job_id, source)
            job.input_folder.mkdir(parents=True)
            self._jobs[job_id] = job
        return job

    def _allowed_source(self, source: str) -> Path:
        """A scan below the folder that may be read, links followed.

        Raises:
            UnknownSourceError: no such scan, or none that may be read.
        """
        refusal = UnknownSourceError(
            f"a scan below the folder of {option('data')}",
            found=repr(source),
            remedy="choose another",
        )
        if self.settings.data is None:
            raise refusal
        try:
            root = self.settings.data.resolve(strict=True)
            path = (root / source).resolve(strict=True)
        except (OSError, ValueError) as error:
            raise refusal from error
        if root not in (path, *path.parents):
            raise refusal
        return path

    def begin_upload(self, job: Job, name: str) -> BinaryIO:
        """A new file of a job; its name is the user's as far as that is harmless.

        Args:
            job: that receives it.
            name: of the file.

        Raises:
            JobStateError: the job takes no more files.
            OSError: the file cannot be made.
        """
        safe = _UNSAFE.sub("_", Path(name).name).lstrip(".")[-_LONGEST_NAME:] or "file"
        if safe.partition(".")[0].lower() in _DEVICES:  # of Windows
            safe = f"_{safe}"
        with self._lock:
            if job.state != "receiving" or job.source or job.is_unwanted:
                raise JobStateError(f"the job is {job.state} and takes no more files")
            job.uploads += 1
            path = job.input_folder / safe
            if path.exists():
                path = job.input_folder / f"{job.uploads}_{safe}"
            file = path.open("xb")
            job.open_uploads += 1
            job.change(received_files=job.received_files + 1)
        return file

    def end_upload(self, job: Job, file: BinaryIO, *, is_whole: bool, received: int) -> None:
        """Close a file of a job; one that is not whole is removed.

        Args:
            job: that receives it.
            file: from `begin_upload`.
            is_whole: all of it came.
            received: bytes of it that were counted.
        """
        file.close()
        with self._lock:
            job.open_uploads -= 1
            if not is_whole:
                Path(file.name).unlink(missing_ok=True)
                job.change(
                    received_files=job.received_files - 1,
                    received_bytes=job.received_bytes - received,
                )

    def submit(self, job: Job) -> None:
        """Put a job that has its files into the queue.

        Raises:
            JobStateError: it has none, or not all yet, or was submitted before.
        """
        with self._lock:
            if job.state != "receiving":
                raise JobStateError(f"the job is {job.state} already")
            if job.open_uploads:
                raise JobStateError("the upload has not ended")
            if not (job.source or job.received_files):
                raise JobStateError("the job has no files; upload the scan first")
            job.change(state="waiting")
        self._waiting.put(job)

    def remove(self, job: Job) -> None:
        """Cancel a job and delete its files."""
        with self._lock:
            job.is_unwanted = True
            self._jobs.pop(job.id, None)
            is_running = job.state == "running"  # then its own thread deletes the files
            if not is_running:
                job.change(state="cancelled")
        if not is_running:
            shutil.rmtree(job.folder, ignore_errors=True)

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        states = [job.state for job in self.all()]
        return {state: states.count(state) for state in dict.fromkeys(states)}

    def _expire(self) -> None:
        while not self.is_stopping.wait(1.0):
            now = time.monotonic()
            for job in self.all():
                age_s = now - job.changed_s
                if (job.state in ENDED and age_s > self.settings.keep_s) or (
                    job.state == "receiving" and age_s > self.settings.idle_s
                ):
                    self.remove(job)
            self._remove_strays()

    def _remove_strays(self) -> None:
        """Remove folders of no job: on Windows an open file keeps its folder at first."""
        folders = list(self.folder.iterdir())  # before the jobs, so that none is younger
        with self._lock:
            kept = set(self._jobs)
        for folder in folders:
            is_running = folder.name == self._running_id
            if folder.is_dir() and folder.name not in kept and not is_running:
                shutil.rmtree(folder, ignore_errors=True)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            with self._lock:
                if job.is_unwanted or self.is_stopping.is_set():
                    continue
                self._running_id = job.id
                job.change(state="running", stage="load", share=0.0)
            try:
                self._segment(job)
                self.finished_count += 1
            except JobCancelledError:
                job.change(state="cancelled")
            except VisceraError as error:
                self._fail(job, error)
            except Exception as error:  # the server goes on, whatever a scan does
                problem = no_memory_error() if means_no_memory(error) else None
                if problem is None:
                    log_bug("a job", error)
                self._fail(job, problem)
            self._running_id = ""
            if job.is_unwanted:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _fail(self, job: Job, error: VisceraError | None) -> None:
        self.failed_count += 1
        if error is None:
            job.change(state="failed", error="an error in viscera", exit_code=1)
            return
        # No path of the server's folder leaves it.
        text = command_line_wording(
            f"expected {error.expected}, found {error.found}; {error.remedy}"
        ).replace(str(self.folder), "")
        job.change(state="failed", error=text, exit_code=error.exit_code)

    def _segment(self, job: Job) -> None:
        end_s = time.monotonic() + self.settings.most_run_s
        if job.bundle not in self._predictors:
            place = str(self.networks[job.bundle])
            self._predictors[job.bundle] = self._make_predictor(place)
        predictor = self._predictors[job.bundle]
        # Asked again: links may have changed since.
        source = self._allowed_source(job.source) if job.source else None
        source = source or _uploaded_scan(job.input_folder)
        types = ["seg_nrrd"]
        if looks_like_dicom(source):
            types.append("dicom_rtstruct")
            if all(organ.snomed is not None for organ in predictor.bundle.organs):
                types.append("dicom_seg")
        results = job.folder / "results"
        results.mkdir()
        options = BatchOptions(
            outputs=OutputOptions(
                statistics=True,
                preview=True,
                report=True,
                html=True,
                output_types=tuple(types),
            )
        )

        def on_progress(stage: str, share: float) -> None:
            if job.is_unwanted or self.is_stopping.is_set():
                raise JobCancelledError
            if time.monotonic() > end_s:
                raise ResourceError(
                    f"a run of at most {self.settings.most_run_s / 60:.0f} minutes",
                    found="a longer one",
                    remedy="take a smaller scan, or a faster machine",
                )
            job.change(stage=stage, share=share)

        case = BatchCase(source, results / "labels.nii.gz", result_name(source))
        report = segment_case(case, predictor, options, on_progress=on_progress).report
        on_progress("view", 0.0)
        scan = results / SCAN
        if source.name.lower().endswith(".nii.gz"):
            shutil.copyfile(source, scan)
        else:
            write_volume(scan, options.read.open(source, predictor, name=case.name))
        job.change(state="finished", stage="", share=1.0, report=report, scan=scan)


def _uploaded_scan(folder: Path) -> Path:
    """The one scan of an upload: its file, or the folder of a DICOM series.

    Raises:
        NothingToSegmentError: none, or several.
    """
    scans = find_scans(folder).scans
    if len(scans) != 1:
        raise NothingToSegmentError(
            "one scan",
            found=f"{len(scans)} among {sum(1 for _ in folder.iterdir())} files",
            remedy="upload a NIfTI, NRRD or MetaImage file, or all files of one DICOM series",
        )
    return scans[0]
