"""A DICOM node: takes CT series by C-STORE (PS3.4 B), segments them, sends the results on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from viscera.batch.finished import STATE_FOLDER
from viscera.batch.run import FAILURES
from viscera.errors import InputError, PeerError, UsageError, VisceraError, option
from viscera.io.failure_list import FailureList
from viscera.pacs.dicomweb import is_uid
from viscera.pacs.ledger import Ledger, LedgerEntry
from viscera.pacs.run import LEDGER
from viscera.pacs.segment_series import SeriesOptions, files_to_send, segment_series
from viscera.pacs.send import DicomNode, send_files
from viscera.pacs.tls import TlsFiles
from viscera.predictor import Predictor
from viscera.runtime.atomic_files import atomic_write
from viscera.runtime.extras import require_extra
from viscera.runtime.resources import means_no_memory, no_memory_error

INCOMING = "incoming"
# CT, enhanced CT, and enhanced CT made of older images (PS3.4 B.5).
_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LOOK_S = 0.5
_LONGEST_WAIT_S = 600.0
_SPARE_BYTES = 1_000_000_000  # of the disk, left to others
_SUCCESS, _NO_SPACE, _NOT_OF_CLASS, _CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000
_HEADER = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "Modality")


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
            UsageError: others could call, and none is named.
        """
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
        options.each.batch.check(predictor)
        self._folder, self._predictor, self._options = folder, predictor, options
        self._on_event = on_event
        self._failures = FailureList(folder / FAILURES, options.each.batch.outputs.wording)
        self._ledger = Ledger(folder / STATE_FOLDER / LEDGER)
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._server: Any = None
        self._send_again_s = 0.0  # on the monotonic clock
        self._wait_s = _LOOK_S

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
        for sop_class in _CLASSES:
            entity.add_supported_context(sop_class, ALL_TRANSFER_SYNTAXES)
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
                evt_handlers=[(evt.EVT_C_STORE, self._take)],
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

    def _take(self, event: Any) -> int:
        """Keep one image; what this answers is the status (PS3.4 B.2.3)."""
        from pydicom import dcmread

        try:
            content = event.encoded_dataset()
            header = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=list(_HEADER))
            uids = [str(header.get(key, "")) for key in _HEADER[:4]]
        except Exception:  # whatever a sender makes of it must not end the node
            return _CANNOT_UNDERSTAND
        sop_class, sop_uid, series, _ = uids
        if not all(map(is_uid, uids)):
            return _CANNOT_UNDERSTAND
        if sop_class != str(event.request.AffectedSOPClassUID):
            return _NOT_OF_CLASS
        folder = self._folder / INCOMING / series
        try:
            if shutil.disk_usage(self._folder).free < _SPARE_BYTES + len(content):
                return _NO_SPACE
            # On the disk before the sender is told so: it may delete its own.
            with atomic_write(folder / f"{sop_uid}.dcm", overwrite=True) as file:
                file.write(content)
        except (OSError, VisceraError):
            return _NO_SPACE
        return _SUCCESS

    # ---- what is done with it

    def _work(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            try:
                for folder in sorted((self._folder / INCOMING).iterdir()):
                    if self._stopping.is_set():
                        return
                    self._look_at(folder)
                self._send_waiting()
            except (VisceraError, OSError) as error:  # the folder's own: a full disk, say
                self._on_event(f"the folder: {error}")

    def _look_at(self, folder: Path) -> None:
        """Segment a series that is complete; delete the images of one that is done long since."""
        uid = folder.name
        images = [path for path in folder.glob("*.dcm") if not path.name.startswith(".")]
        if not images or not is_uid(uid):
            return
        age_s = time.time() - max(path.stat().st_mtime for path in images)
        earlier = self._ledger.get(uid)
        if earlier is not None and earlier.images == len(images):
            is_done = earlier.state != "segmented" or self._options.target is None
            if age_s > self._options.keep_s and is_done:
                shutil.rmtree(folder, ignore_errors=True)
            return
        if 0 <= age_s < self._options.quiet_s:
            return
        begun_s = time.monotonic()
        try:
            segment_series(
                folder, uid, self._folder, self._predictor, self._options.each,
                overwrite=earlier is not None,
            )  # fmt: skip
        except VisceraError as error:
            self._fail(uid, len(images), error)
        except Exception as error:  # the node goes on, whatever a scan does
            problem = no_memory_error(uid) if means_no_memory(error) else None
            self._fail(uid, len(images), problem or InputError(
                "a series that viscera can take", found=f"an error in viscera, {error!r}",
                remedy="report it", where=uid))  # fmt: skip
        else:
            self._ledger.note(uid, LedgerEntry("segmented", len(images)))
            seconds = time.monotonic() - begun_s
            self._on_event(f"series {uid}: {len(images)} images, segmented in {seconds:.1f} s")

    def _fail(self, uid: str, images: int, error: VisceraError) -> None:
        text = error.message(self._options.each.batch.outputs.wording)
        self._ledger.note(uid, LedgerEntry("failed", images, text))
        self._failures.add(uid, error)
        self._failures.write()
        self._on_event(f"series {uid}: failed: {text}")

    def _send_waiting(self) -> None:
        """Send results that were not sent; while the target refuses, ever more rarely."""
        target = self._options.target
        if target is None or time.monotonic() < self._send_again_s:
            return
        for uid in self._ledger.waiting():
            paths = files_to_send(uid, self._folder, self._options.each)
            try:
                send_files(paths, target, title=self._options.title, tls=self._options.tls)
            except PeerError as error:
                self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
                self._send_again_s = time.monotonic() + self._wait_s
                self._on_event(
                    f"series {uid}: not sent, tried again in {self._wait_s:.0f} s: {error}"
                )
                return
            except InputError as error:  # somebody removed the files
                self._fail(uid, 0, error)
                continue
            self._wait_s = _LOOK_S
            self._ledger.note_sent(uid)
            self._on_event(f"series {uid}: sent to {target}")
