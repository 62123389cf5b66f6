"""A DICOM node: takes CT series by C-STORE (PS3.4 B), segments them, sends the results on."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from viscera.batch.batch_files import FAILURES
from viscera.batch.finished import STATE_FOLDER
from viscera.errors import (
    OutputError,
    PeerError,
    UnexpectedError,
    UsageError,
    VisceraError,
    option,
)
from viscera.io.failure_list import FailureList
from viscera.pacs.dicom_json import is_uid
from viscera.pacs.ledger import Ledger, LedgerEntry
from viscera.pacs.run import LEDGER
from viscera.pacs.segment_series import SeriesOptions, files_to_send, segment_series
from viscera.pacs.send import DicomNode, NodeAwayError, is_title, send_files
from viscera.pacs.tls import TlsFiles
from viscera.predictor import Predictor
from viscera.runtime.atomic_files import atomic_write
from viscera.runtime.extras import require_extra
from viscera.runtime.resources import disk_is_nearly_full, means_no_memory

INCOMING = "incoming"
# CT, enhanced CT, and enhanced CT made of older images (PS3.4 B.5).
_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LOOK_S = 0.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 600.0
_MOST_IMAGE_BYTES = 500_000_000
# Deflated data sets unfold to any size in memory.
_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")
_SUCCESS, _NO_SPACE, _NOT_OF_CLASS, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
_HEADER = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True)
class ListenOptions:
    """A node.

    Attributes:
        title: AE title, by which others call it.
        host: address that it listens on.
        port: of TCP; 0 for any free one.
        allow: AE titles of those who may call; nobody else.
        target: takes the results; none: they stay in the folder.
        quiet_s: a series is complete when no image of it has come for so long.
        keep_s: images are deleted so long after the last of their series came.
        most_associations: at a time.
        tls: of all associations; plain where not given.
        each: what is made of each series.
    """

    title: str = "VISCERA"
    host: str = "127.0.0.1"
    port: int = 11112
    allow: tuple[str, ...] = ()
    target: DicomNode | None = None
    quiet_s: float = 30.0
    keep_s: float = 3600.0
    most_associations: int = 10
    tls: TlsFiles | None = None
    each: SeriesOptions = field(default_factory=SeriesOptions)

    def check(self) -> None:
        """Check before a port is opened.

        Raises:
            UsageError: others could call, and none is named; a title that is none.
        """
        for title in (self.title, *self.allow):
            if not is_title(title):
                raise UsageError(
                    "AE titles of at most 16 ASCII characters",
                    found=repr(title),
                    remedy="choose another",
                )
        if not self.allow and self.host not in _LOOPBACK:
            raise UsageError(
                "the titles of those who may call",
                found=f"none, at an address that other machines reach, {self.host}",
                remedy=f"pass {option('allow', 'TITLE')} for each",
            )


class ListeningNode:
    """The node. All that it knows lies in its folder, so that it goes on after any end."""

    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        options: ListenOptions,
        *,
        on_event: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Nothing listens yet.

        Args:
            folder: of images, results and the list of what was done.
            predictor: the network.
            options: of the node.
            on_event: takes a line about each step; none holds more of a patient than UIDs.

        Raises:
            UsageError: options that contradict each other.
            MissingExtraError: a package of the extra `pacs` is not installed.
            OutputError: the folder is not writable.
        """
        require_extra("pynetdicom", "pydicom")
        options.check()
        options.each.check(predictor)
        self._folder, self._predictor, self._options = folder, predictor, options
        self._on_event = on_event
        FailureList(folder / FAILURES, options.each.batch.outputs.wording)  # may be written
        self._ledger = Ledger(folder / STATE_FOLDER / LEDGER)
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._server: Any = None
        self._unsent = set(self._ledger.of_state("segmented"))
        self._pauses = _Pauses()
        self._keeping = threading.Lock()
        # Bytes of the object that each association is sending.
        self._receiving: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen, and begin to work.

        Raises:
            UsageError: the address cannot be listened on.
        """
        from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt

        options = self._options
        entity = AE(ae_title=options.title)
        syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax not in _DEFLATED]
        for sop_class in _CLASSES:
            entity.add_supported_context(sop_class, syntaxes)
        entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
        entity.require_called_aet = True
        entity.require_calling_aet = list(options.allow)
        entity.maximum_associations = options.most_associations
        context = options.tls.context(is_server=True) if options.tls else None
        (self._folder / INCOMING).mkdir(parents=True, exist_ok=True)
        try:
            self._server = entity.start_server(
                (options.host, options.port),
                block=False,
                ssl_context=context,
                evt_handlers=[
                    (evt.EVT_C_STORE, self._take),
                    (evt.EVT_PDU_RECV, self._count_bytes),
                ],
            )
        except OSError as error:
            raise UsageError(
                "an address of this machine that is free",
                found=f"{options.host}:{options.port}: {error.strerror}",
                remedy=f"choose another {option('port')}",
            ) from error
        self._worker.start()

    def stop(self) -> None:
        """End: associations are closed; a series that is being segmented is finished first."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        if self._worker.is_alive():
            self._worker.join()

    # ---- what comes in

    def _count_bytes(self, event: Any) -> None:
        """End an association that sends an object without end, which lies in memory until then."""
        association = event.assoc
        parts = getattr(event.pdu, "presentation_data_value_items", ())
        received = self._receiving.get(association, 0)
        received += sum(len(part.presentation_data_value) for part in parts)
        self._receiving[association] = received
        if received > _MOST_IMAGE_BYTES:
            association.abort()

    def _take(self, event: Any) -> int:
        """Keep one image; what this answers is the status (PS3.4 B.2.3)."""
        from pydicom import dcmread

        self._receiving.pop(event.assoc, None)
        try:
            content = event.encoded_dataset()
            header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=list(_HEADER))
            sop_class, sop_uid, series, study = (str(header.get(key, "")) for key in _HEADER)
        except Exception:  # whatever a sender makes of it must not end the node
            return _CANNOT_UNDERSTAND
        if not all(map(is_uid, (sop_class, sop_uid, series, study))):
            return _CANNOT_UNDERSTAND
        if sop_class != str(event.request.AffectedSOPClassUID):
            return _NOT_OF_CLASS
        folder = self._folder / INCOMING / series
        try:
            if disk_is_nearly_full(self._folder, len(content)):
                return _NO_SPACE
            with self._keeping:  # no folder is deleted meanwhile
                # On the disk before the sender is told so: it may delete its own.
                with atomic_write(folder / f"{sop_uid}.dcm", overwrite=True) as file:
                    file.write(content)
                _sync_folder(folder)
        except (OSError, VisceraError):
            return _NO_SPACE
        return _SUCCESS

    # ---- what is done with it

    def _work(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                for folder in sorted((self._folder / INCOMING).iterdir()):
                    if is_uid(folder.name):
                        self._try_step(self._look_at, folder.name)
                if self._options.target is not None:
                    for uid in sorted(self._unsent):
                        self._try_step(self._send, uid)
            except (VisceraError, OSError) as error:  # the folder's own
                self._on_event(f"the folder: {error}")
                self._stopping.wait(_FIRST_PAUSE_S)

    def _try_step(self, step: Callable[[str], None], uid: str) -> None:
        """A step of one series; if it fails for now, it is tried again later, ever more rarely."""
        if self._stopping.is_set() or not self._pauses.is_over(uid):
            return
        try:
            step(uid)
        except (OutputError, PeerError, UsageError, OSError) as error:
            seconds = self._pauses.begin(uid)
            self._on_event(f"series {uid}: tried again in {seconds:.0f} s: {error}")
            if isinstance(error, NodeAwayError):  # others would fare no better
                for other in self._unsent:
                    self._pauses.begin(other, seconds)
        except Exception as error:  # the node goes on, whatever a scan does
            if means_no_memory(error):
                seconds = self._pauses.begin(uid)
                self._on_event(f"series {uid}: tried again in {seconds:.0f} s: out of memory")
                return
            problem = error if isinstance(error, VisceraError) else UnexpectedError.of(error)
            self._fail(uid, problem)

    def _images_of(self, uid: str) -> list[Path]:
        return list((self._folder / INCOMING / uid).glob("[0-9]*.dcm"))

    def _look_at(self, uid: str) -> None:
        """Segment a series that is complete; delete the images of one that is done long since."""
        images = self._images_of(uid)
        if not images:
            return
        age_s = time.time() - max(path.stat().st_mtime for path in images)
        earlier = self._ledger.get(uid)
        if earlier is not None and len(images) <= earlier.images:
            # Fewer: the others are deleted already; a part of it must not replace the whole.
            is_done = earlier.state != "segmented" or self._options.target is None
            if age_s > self._options.keep_s and is_done:
                self._delete_images(uid, len(images))
                if earlier.state == "failed":  # sent again, it is tried again
                    self._ledger.note(uid, replace(earlier, images=0))
            return
        if 0 <= age_s < self._options.quiet_s:
            return
        begun_s = time.monotonic()
        segment_series(
            self._folder / INCOMING / uid, uid, self._folder, self._predictor,
            self._options.each, overwrite=earlier is not None,
        )  # fmt: skip
        self._ledger.note(uid, LedgerEntry("segmented", len(images)))
        self._unsent.add(uid)
        self._pauses.end(uid)
        seconds = time.monotonic() - begun_s
        self._on_event(f"series {uid}: {len(images)} images, segmented in {seconds:.1f} s")

    def _delete_images(self, uid: str, count: int) -> None:
        """Delete the images of a series, unless some have come meanwhile."""
        with self._keeping:
            if len(self._images_of(uid)) == count:
                shutil.rmtree(self._folder / INCOMING / uid, ignore_errors=True)

    def _send(self, uid: str) -> None:
        """Send the results of a series."""
        target, options = self._options.target, self._options
        assert target is not None
        paths = files_to_send(uid, self._folder, options.each)
        send_files(paths, target, title=options.title, tls=options.tls)
        self._ledger.note_sent(uid)
        self._unsent.discard(uid)
        self._pauses.end(uid)
        self._on_event(f"series {uid}: sent to {target}")

    def _fail(self, uid: str, error: VisceraError) -> None:
        """Note a failure that another try would not mend."""
        wording = self._options.each.batch.outputs.wording
        self._ledger.note(uid, LedgerEntry.of_failure(len(self._images_of(uid)), error))
        self._unsent.discard(uid)
        failures = FailureList(self._folder / FAILURES, wording)
        for failed, entry in self._ledger.of_state("failed").items():
            failures.add(failed, entry.error())
        failures.write()
        self._on_event(f"series {uid}: failed: {error.message(wording)}")


class _Pauses:
    """How long each series is left alone after a step that failed for now."""

    def __init__(self) -> None:
        self._ends_s: dict[str, float] = {}  # on the monotonic clock
        self._lengths_s: dict[str, float] = {}

    def is_over(self, uid: str) -> bool:
        return time.monotonic() >= self._ends_s.get(uid, 0.0)

    def begin(self, uid: str, seconds: float | None = None) -> float:
        """Begin a pause, twice as long as the one before it unless told; its seconds."""
        if seconds is None:
            seconds = min(2 * self._lengths_s.get(uid, _FIRST_PAUSE_S / 2), _LONGEST_PAUSE_S)
        self._lengths_s[uid] = seconds
        self._ends_s[uid] = time.monotonic() + seconds
        return seconds

    def end(self, uid: str) -> None:
        self._ends_s.pop(uid, None)
        self._lengths_s.pop(uid, None)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; Windows keeps them without being asked."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
