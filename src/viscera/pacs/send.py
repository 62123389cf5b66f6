"""Files sent to another DICOM node by C-STORE (PS3.4 B)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viscera.errors import InputError, PeerError, UsageError
from viscera.pacs.tls import TlsFiles

# An AE title (PS3.5 6.2): ASCII without the backslash, not blank; `@` ends it here.
_TITLE = re.compile(r"(?=.*[^ ])[ -?A-\[\]-~]{1,16}")
_NODE = re.compile(
    r"(?P<title>[^@]+)@(?P<host>\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]{1,253}):(?P<port>\d{1,5})"
)
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class DicomNode:
    """Another node.

    Attributes:
        title: its AE title.
        host: name or address.
        port: of TCP.
    """

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> DicomNode:
        """A node written as TITLE@HOST:PORT.

        Args:
            text: to parse.

        Raises:
            UsageError: it is written otherwise.
        """
        match = _NODE.fullmatch(text)
        is_node = match is not None and 0 < int(match["port"]) < 65536
        if match is None or not is_node or not is_title(match["title"]):
            raise UsageError(
                "a DICOM node such as ORTHANC@127.0.0.1:4242",
                found=repr(text),
                remedy="write TITLE@HOST:PORT; a title has at most 16 characters",
            )
        return cls(match["title"].strip(), match["host"].strip("[]"), int(match["port"]))

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


class NodeAwayError(PeerError):
    """No association: the node is away, or admits nobody; other files would fare no better."""


def is_title(text: str) -> bool:
    """Whether this can be an AE title.

    Args:
        text: to look at.
    """
    return _TITLE.fullmatch(text) is not None


def send_files(
    paths: Sequence[Path], node: DicomNode, *, title: str = "VISCERA", tls: TlsFiles | None = None
) -> None:
    """Send files over one association. What the other side has already, it may keep.

    Args:
        paths: DICOM files.
        node: that takes them.
        title: AE title of this side.
        tls: of the association; plain where not given.

    Raises:
        InputError: a file is no DICOM file.
        NodeAwayError: there is no association.
        PeerError: the other side did not take all of them.
        UsageError: files of TLS that cannot be used.
    """
    from pydicom import dcmread
    from pynetdicom import AE

    try:
        data_sets = [dcmread(path) for path in paths]
        kinds = {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in data_sets}
    except Exception as error:  # damaged files make pydicom raise errors of every kind
        raise InputError(
            "DICOM files to send", found="another", remedy="name SEG or RTSTRUCT", where=paths[0]
        ) from error
    entity = AE(ae_title=title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
    entity.connection_timeout = _TIMEOUT_S
    for sop_class, syntax in sorted(kinds):
        entity.add_requested_context(sop_class, syntax)
    secure = (tls.context(is_server=False), node.host) if tls else None
    try:
        association = entity.associate(node.host, node.port, ae_title=node.title, tls_args=secure)
    except (OSError, ValueError) as error:  # a name that nobody knows
        raise _away(node, "a host that is not found") from error
    if not association.is_established:
        raise _away(node, "no association")
    try:
        for path, data in zip(paths, data_sets, strict=True):
            try:
                status = association.send_c_store(data)
            except (ValueError, RuntimeError) as error:
                raise _refusal(node, f"none for {path.name}", "let it take this class") from error
            code = status.get("Status")
            # Success, or a warning: it is stored (PS3.4 B.2.3).
            if code is None or not (code == 0 or code & 0xF000 == 0xB000):
                problem = "a cut line" if code is None else f"status {code:#06x} for {path.name}"
                raise _refusal(node, problem, "see the log of that node")
    finally:
        association.release()


def _away(node: DicomNode, problem: str) -> NodeAwayError:
    remedy = "check title, host and port, and whom it admits"
    return NodeAwayError(
        "a node that takes the results", found=problem, remedy=remedy, where=str(node)
    )


def _refusal(node: DicomNode, problem: str, remedy: str) -> PeerError:
    return PeerError("a node that takes the results", found=problem, remedy=remedy, where=str(node))
