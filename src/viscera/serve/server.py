"""Run the server until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from viscera.errors import UsageError, option
from viscera.predictor import Predictor
from viscera.serve.app import make_app
from viscera.serve.jobs import JobStore
from viscera.serve.settings import ServerSettings
from viscera.serve.work_folder import work_folder


def run_server(
    settings: ServerSettings,
    *,
    make_predictor: Callable[[str], Predictor] = Predictor,
    on_ready: Callable[[str], None] = lambda _address: None,
) -> None:
    """Serve until SIGINT or SIGTERM; nothing is kept after that.

    Args:
        settings: of the server.
        make_predictor: gives the network of a bundle's name.
        on_ready: takes the address once the server listens.

    Raises:
        UsageError: the address is taken or not this machine's.
    """
    listener = _listen(settings)
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    with work_folder() as folder, listener:
        jobs = JobStore(settings, folder, make_predictor=make_predictor)
        config = uvicorn.Config(
            make_app(settings, jobs),
            log_level="warning",
            access_log=False,  # addresses hold nothing of a patient, and logs should not either
            timeout_graceful_shutdown=3,
            server_header=False,
        )
        server = uvicorn.Server(config)
        on_ready(f"http://{host}:{port}/")
        server.run(sockets=[listener])


def _listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is taken or not this machine's.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family[0], socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(family[4])
        listener.listen(128)
    except OSError as error:
        raise UsageError(
            "an address of this machine that is free",
            found=f"{settings.host} port {settings.port}: {error.strerror or error}",
            remedy=f"choose another {option('port')}",
        ) from error
    return listener
