"""Run the server until it is told to end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from viscera.errors import UsageError, option
from viscera.predictor import Predictor
from viscera.serve.app import make_app
from viscera.serve.jobs import JobStore
from viscera.serve.settings import ServerSettings
from viscera.serve.work_folder import work_folder


class _Server(uvicorn.Server):  # type: ignore[misc]
    """Ends at a signal without raising it again, so that the folder is removed in peace."""

    def __init__(self, config: uvicorn.Config, jobs: JobStore) -> None:
        super().__init__(config)
        self._jobs = jobs

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals while the server runs; a closed terminal ends it too."""
        numbers = [
            getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)
        ]
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {number: signal.signal(number, self._end) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._jobs.is_stopping.set()  # ends the streams of events, which would hold it open
        self.handle_exit(number, frame)


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
        # After the hash, a browser keeps it to itself: no log and no referrer has it.
        on_ready(f"http://{host}:{port}/#{settings.token}")
        _Server(config, jobs).run(sockets=[listener])


def _listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is taken or not this machine's.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family[0], socket.SOCK_STREAM)
        # On Windows that would let two programs listen on one port.
        if os.name != "nt":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(family[4])
        listener.listen(128)
    except (OSError, UnicodeError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            "an address of this machine that is free",
            found=f"{settings.host} port {settings.port}: {problem}",
            remedy=f"choose another {option('port')}",
        ) from error
    return listener
