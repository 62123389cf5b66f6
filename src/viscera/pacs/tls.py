"""TLS of DICOM associations."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from viscera.errors import UsageError


class _PatientContext(ssl.SSLContext):
    """A server's context that makes the handshake when the first bytes are read.

    That is in the thread of the association; else callers who are silent would keep others waiting.
    """

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(
            sock, *arguments, **{**options, "do_handshake_on_connect": False}
        )


@dataclass(frozen=True)
class TlsFiles:
    """What one side of an association shows and trusts; all PEM.

    Attributes:
        certificate: of this side.
        key: of the certificate.
        authority: must have signed the certificate of the other side.
    """

    certificate: Path
    key: Path
    authority: Path

    def context(self, *, is_server: bool) -> ssl.SSLContext:
        """A context in which both sides must show certificates (PS3.15 B.12).

        Args:
            is_server: of the side that is called.

        Raises:
            UsageError: a file is none of these.
        """
        context: ssl.SSLContext = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if is_server:
            context = _PatientContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cafile=str(self.authority))
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                "a certificate, its key and the authority's certificate, PEM",
                found=str(error),
                remedy="check the three files",
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
        return context
