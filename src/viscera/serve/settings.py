"""What a server may do, and for how long it keeps things."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from viscera.bundle.read import packaged_bundles, read_bundle
from viscera.errors import UsageError, option


@dataclass(frozen=True)
class ServerSettings:
    """Settings of one server.

    Attributes:
        host: the address that it listens on.
        port: the port; 0 for any free one.
        token: what every call must bring; made up where not given.
        is_token_given: the user chose the token.
        data: calls may name scans below this folder; None for none.
        bundles: folders of networks that are offered beside the packaged ones.
        most_upload_bytes: of all files of one job.
        most_files: of one job.
        most_jobs: that are kept at a time, finished ones included.
        keep_s: results are deleted after this time.
        idle_s: a job is deleted if its upload has stopped for so long.
        most_run_s: a run that takes longer is ended.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    is_token_given: bool = False
    data: Path | None = None
    bundles: tuple[Path, ...] = ()
    most_upload_bytes: int = 4_000_000_000
    most_files: int = 5_000
    most_jobs: int = 100
    keep_s: float = 3600.0
    idle_s: float = 45.0
    most_run_s: float = 3600.0

    def __post_init__(self) -> None:
        if not self.is_loopback and not self.is_token_given:
            raise UsageError(
                f"{option('token')} beside an address that others can reach",
                found=f"{option('host', self.host)} without one",
                remedy="choose a token, or leave the address out",
            )
        if self.data is not None and not self.data.is_dir():
            raise UsageError(
                f"a folder for {option('data')}", found=str(self.data), remedy="check the path"
            )
        if self.is_token_given and len(self.token) < 12:
            raise UsageError(
                "a token of at least 12 characters",
                found=f"{len(self.token)}",
                remedy="choose a longer one",
            )

    @cached_property
    def networks(self) -> dict[str, str | Path]:
        """Where each network that is offered lies, by its name.

        Raises:
            BundleError: a folder holds no usable bundle.
            UsageError: two networks have one name.
        """
        networks: dict[str, str | Path] = {name: name for name in packaged_bundles()}
        for folder in self.bundles:
            name = read_bundle(folder).name
            if name in networks:
                raise UsageError(
                    f"a name for each network of {option('bundle')}",
                    found=f"{name!r} twice",
                    remedy="change 'name' in bundle.toml",
                    where=folder,
                )
            networks[name] = folder
        return networks

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def host_names(self) -> frozenset[str]:
        """Names that a browser may call it by; others are those of a rebound DNS."""
        host = self.host.lower()
        return frozenset({"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"})
