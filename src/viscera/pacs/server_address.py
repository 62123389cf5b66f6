"""Addresses of DICOMweb servers: what they may hold, and where credentials may be sent."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from viscera.errors import UsageError, option
from viscera.pacs.credentials import Credentials


def check_address(address: str, credentials: Credentials | None, *, plain_http: bool) -> None:
    """Check an address before anything is sent there.

    Args:
        address: of a DICOMweb server.
        credentials: that would be sent.
        plain_http: they may go over plain HTTP to another machine.

    Raises:
        UsageError: no such address, or credentials that everybody on the way could read.
    """
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment:
        raise UsageError(
            "the address of a DICOMweb server, such as https://pacs.example/dicom-web",
            found="another text" if "@" in address else repr(address),
            remedy="write it so",
        )
    if parts.username or parts.password:
        raise UsageError(
            "an address without user and password, which everybody would see in lists of processes",
            found="some in the address",
            remedy=f"set them in the environment, or pass {option('credentials', 'FILE')}",
        )
    if credentials and parts.scheme == "http" and not plain_http and not _is_here(parts.hostname):
        raise UsageError(
            "https, as plain HTTP shows credentials to everybody on the way",
            found="http",
            remedy=f"use https, or pass {option('plain_http')}",
            where=address,
        )


def _is_here(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
