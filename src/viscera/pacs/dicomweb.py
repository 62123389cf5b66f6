"""A DICOMweb server: series are found (QIDO-RS), fetched (WADO-RS), results stored (STOW-RS)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from viscera.errors import InputError, PeerError, UsageError
from viscera.pacs.credentials import Credentials
from viscera.pacs.dicom_json import count_of, is_uid, text_of, uid_of
from viscera.pacs.series_filter import RemoteSeries, SeriesFilter
from viscera.pacs.server_address import check_address
from viscera.runtime.atomic_files import not_writable, part_path, remove_part
from viscera.runtime.extras import require_extra
from viscera.runtime.resources import disk_is_nearly_full

_PAGE = 100  # studies of one answer
_MOST_STUDIES = 100_000
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_T = TypeVar("_T")


@dataclass(frozen=True)
class RetryOptions:
    """How often a server is asked again that fails, or cuts the line.

    Attributes:
        tries: in all.
        first_wait_s: before the second; each wait is twice as long as the one before it.
        timeout_s: without any byte.
    """

    tries: int = 4
    first_wait_s: float = 1.0
    timeout_s: float = 60.0


class DicomWebServer:
    """One server. Requests go to its address alone: redirects and proxies are not followed."""

    def __init__(
        self,
        address: str,
        *,
        credentials: Credentials | None = None,
        ca_file: Path | None = None,
        plain_http: bool = False,
        retry: RetryOptions | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            address: such as ``https://pacs.example/dicom-web``.
            credentials: who calls.
            ca_file: certificates to trust instead of those of the requests package, PEM.
            plain_http: credentials may go over plain HTTP to another machine.
            retry: of requests that fail.

        Raises:
            UsageError: no such address, no such file, or credentials that everybody on the way
                could read.
            MissingExtraError: a package of the extra `pacs` is not installed.
        """
        require_extra("dicomweb_client", "pydicom")
        import requests
        from dicomweb_client.api import DICOMwebClient

        check_address(address, credentials, plain_http=plain_http)
        session = requests.Session()
        session.trust_env = False  # no proxy and no netrc that somebody else has set
        session.max_redirects = 0
        if credentials and credentials.token:
            session.headers["Authorization"] = f"Bearer {credentials.token}"
        elif credentials and credentials.user:
            session.auth = (credentials.user.encode(), credentials.password.encode())
        if ca_file is not None:
            if not ca_file.is_file():
                raise UsageError(
                    "a file of certificates, PEM", found="none", remedy="check it", where=ca_file
                )
            session.verify = str(ca_file)
        self.address, self._retry = address.rstrip("/"), retry or RetryOptions()
        self._client = DICOMwebClient(
            self.address, session=session, timeout=self._retry.timeout_s, permissive_uid=True
        )
        self._client.set_http_retry_params(retry=False)  # errors of the line count too: see _try

    def find(self, wanted: SeriesFilter) -> Iterator[RemoteSeries]:
        """The series that a filter takes.

        Args:
            wanted: the filter.

        Raises:
            UsageError: a date that is none.
            PeerError: the server does not answer as it should.
        """
        wanted.check()
        for study in self._studies(wanted):
            search = partial(self._series_of, study)
            for series in self._try("the series of a study", search):
                if wanted.takes(series):
                    yield series

    def _series_of(self, study: RemoteSeries) -> list[RemoteSeries]:
        """All series of a study."""
        answers = self._client.search_for_series(study.study)
        return [
            replace(
                study,
                uid=uid_of(answer, "0020000E"),
                modality=text_of(answer, "00080060"),
                images=count_of(answer, "00201209"),
                description=text_of(answer, "0008103E"),
            )
            for answer in answers
        ]

    def fetch(self, series: RemoteSeries, folder: Path) -> int:
        """Fetch a series into a folder, which appears when all of its images have come.

        Args:
            series: that `find` gave.
            folder: which must not exist.

        Returns:
            How many images there are.

        Raises:
            PeerError: not all of it came, however often it was tried.
            OutputError: not writable.
        """
        return self._try("a series", partial(self._fetch_once, series, folder))

    def store(self, path: Path) -> None:
        """Store a file; one that the server has already is left as it is there.

        Args:
            path: a DICOM file.

        Raises:
            InputError: no DICOM file.
            PeerError: it was not stored.
        """
        from pydicom import dcmread

        try:
            data = dcmread(path)
            study, uid = data.StudyInstanceUID, data.SOPInstanceUID
        except Exception as error:  # damaged files make pydicom raise errors of every kind
            raise InputError(
                "a DICOM file to store", found="another", remedy="name SEG or RTSTRUCT", where=path
            ) from error
        store = partial(self._client.store_instances, [data], str(study))
        answer = self._try("storing", store)
        refused = getattr(answer, "FailedSOPSequence", [])
        stored = [
            str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", [])
        ]
        if refused or str(uid) not in stored:
            reason = (
                f"reason {int(refused[0].get('FailureReason', 0)):#06x}"
                if refused
                else "no word of it"
            )
            raise PeerError(
                "a server that stores the file", found=reason,
                remedy="see the log of the server", where=path.name,
            )  # fmt: skip

    def _studies(self, wanted: SeriesFilter) -> Iterator[RemoteSeries]:
        """Studies, page by page; a server that knows no pages gives all at first."""
        seen: set[str] = set()
        while len(seen) < _MOST_STUDIES:
            page = self._try("the list of studies", partial(self._page, wanted, len(seen)))
            new = [study for study in page if study.study not in seen]
            if not new:
                return
            seen |= {study.study for study in new}
            yield from new

    def _page(self, wanted: SeriesFilter, offset: int) -> list[RemoteSeries]:
        """Some studies, their series not known yet."""
        answers = self._client.search_for_studies(
            search_filters=wanted.study_query(),
            fields=["StudyDescription"],
            limit=_PAGE,
            offset=offset,
        )
        return [
            RemoteSeries(
                study=uid_of(answer, "0020000D"),
                uid="",
                date=text_of(answer, "00080020"),
                study_description=text_of(answer, "00081030"),
            )
            for answer in answers
        ]

    def _fetch_once(self, series: RemoteSeries, folder: Path) -> int:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside = part_path(folder.parent)
            aside.mkdir()
        except OSError as error:
            raise not_writable(folder, error) from error
        try:
            uids = set()
            as_stored = (("application/dicom", "*"),)
            images = self._client.iter_series(series.study, series.uid, media_types=as_stored)
            while (data := _next_image(images)) is not None:
                if disk_is_nearly_full(aside):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                uids.add(_save_image(data, series.uid, aside))
            if not uids or len(uids) < series.images:
                raise _IncompleteError(f"{len(uids)} of {series.images or 'its'} images")
            aside.rename(folder)
        except OSError as error:
            if isinstance(error, _line_errors()):
                raise
            raise not_writable(folder, error) from error
        finally:
            remove_part(aside)
        return len(uids)

    def _try(self, what: str, action: Callable[[], _T]) -> _T:
        """Do it, again where the server or the line fails.

        Raises:
            PeerError: it fails each time, or what is asked is refused.
        """
        problem, wait_s = "", self._retry.first_wait_s
        for attempt in range(1, self._retry.tries + 1):
            try:
                return action()
            except _line_errors() as error:
                problem = _problem(error)
                if not _may_pass(error):
                    raise self._error(what, problem) from None  # its text holds whole addresses
            if attempt < self._retry.tries:
                time.sleep(wait_s)
                wait_s *= 2
        times = f", {self._retry.tries} times" if self._retry.tries > 1 else ""
        raise self._error(what, problem + times)

    def _error(self, what: str, problem: str) -> PeerError:
        return PeerError(
            f"{what} from the server",
            found=problem,
            remedy="check the address, the server and the network, and run again",
            where=self.address,
        )


class _IncompleteError(Exception):
    """What came is not all that there is."""


def _line_errors() -> tuple[type[Exception], ...]:
    """What requests, its parser and ours raise where an answer is none."""
    from pydicom.errors import InvalidDicomError
    from requests import RequestException

    unreadable = (ValueError, LookupError, TypeError, AttributeError)
    return (RequestException, _IncompleteError, InvalidDicomError, *unreadable)


def _next_image(images: Iterator[Any]) -> Any:
    """The next image that comes; None after the last.

    Raises:
        OSError: the line, or the answer's status.
        _IncompleteError: what came cannot be read.
    """
    try:
        return next(images, None)
    except OSError:
        raise
    except Exception as error:  # damaged ones make pydicom raise errors of every kind
        raise _IncompleteError("an image that cannot be read") from error


def _save_image(data: Any, series: str, folder: Path) -> str:
    """Write an image under its UID, which is returned.

    Raises:
        OSError: it cannot be written.
        _IncompleteError: it is none of this series.
    """
    try:
        uid = str(data.get("SOPInstanceUID", ""))
        if not is_uid(uid) or str(data.get("SeriesInstanceUID", "")) != series:
            raise _IncompleteError("an image of another series")
        data.save_as(folder / f"{uid}.dcm", enforce_file_format=True)
    except (OSError, _IncompleteError):
        raise
    except Exception as error:
        raise _IncompleteError("an image that cannot be read") from error
    return uid


def _may_pass(error: Exception) -> bool:
    """Whether the same call may go well the next time."""
    from requests import HTTPError, TooManyRedirects
    from requests.exceptions import SSLError

    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code in _RETRIED
    return not isinstance(error, TooManyRedirects | SSLError)


def _problem(error: Exception) -> str:
    """An error in words, without the address, in which a patient's number may stand."""
    from requests import ConnectionError as LineError
    from requests import HTTPError, Timeout, TooManyRedirects
    from requests.exceptions import SSLError

    if isinstance(error, HTTPError) and error.response is not None:
        return f"status {error.response.status_code}"
    if isinstance(error, Timeout):
        return "no answer in time"
    if isinstance(error, TooManyRedirects):
        return "a redirect to another address, which is not followed"
    if isinstance(error, SSLError):
        return "a certificate that is not trusted"
    if isinstance(error, LineError):
        return "no connection, or one that was cut"
    if isinstance(error, _IncompleteError):
        return str(error)
    return "an answer that is no DICOMweb"
