"""Peers of the tests of the DICOM network: Orthanc, and a line between it and us that fails."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Orthanc:
    """A running archive on loopback."""

    def __init__(self, folder: Path, *, user: str = "", password: str = "") -> None:
        self.http, self.dicom = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.http}/dicom-web"
        self._authorisation = (user, password)
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": bool(user),
            "AuthenticationEnabled": bool(user),
            "RegisteredUsers": {user: password} if user else {},
            "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))
        log = folder / "log"
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [ORTHANC, str(folder / "orthanc.json")], stdout=subprocess.DEVNULL, stderr=file
            )
        end = time.monotonic() + 60
        while True:
            try:
                self.get("system")
                return
            except (URLError, OSError):
                assert time.monotonic() < end, log.read_text()
                assert self.process.poll() is None, log.read_text()
                time.sleep(0.05)

    def call(self, path: str, body: bytes | None = None) -> bytes:
        """One call of Orthanc's own interface."""
        import base64

        headers = {}
        if self._authorisation[0]:
            pair = base64.b64encode(":".join(self._authorisation).encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        request = Request(f"http://127.0.0.1:{self.http}/{path}", data=body, headers=headers)
        with urlopen(request, timeout=30) as answer:
            return answer.read()

    def get(self, path: str):
        return json.loads(self.call(path))

    def put(self, folder: Path) -> None:
        """Store all files of a folder."""
        for path in sorted(folder.iterdir()):
            self.call("instances", path.read_bytes())

    def series(self) -> list[dict[str, str]]:
        """Tags of all series."""
        return [self.get(f"series/{uid}/shared-tags?simplify") for uid in self.get("series")]

    def modalities(self) -> list[str]:
        """Of all series, sorted."""
        return sorted(tags["Modality"] for tags in self.series())

    def stop(self) -> None:
        self.process.kill()  # it takes seconds to end by itself; nothing of it is kept
        self.process.wait()


@contextmanager
def faulty_line(target: str, faults: list[str]):
    """An address that passes requests on, but for the faults, which are used up one by one.

    Faults are `500`, `cut` (in the middle of the answer), `slow` (nothing for a while) and
    `ok`; each is `METHOD fault` or, for any method, the fault alone.
    """
    aim = urlsplit(target)
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_arguments) -> None:
            """Keep quiet."""

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _pass_on(self) -> None:
            body = self._body()
            fault = "ok"
            if faults and faults[0].split()[0] in (self.command, faults[0]):
                fault = faults.pop(0).split()[-1]
            seen.append(f"{self.command} {fault}")
            if fault == "500":
                self.send_response(500)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "slow":
                time.sleep(3)
                self.close_connection = True
                return
            line = http.client.HTTPConnection(aim.hostname, aim.port, timeout=30)
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower()
                not in ("transfer-encoding", "content-length", "host", "accept-encoding")
            }
            line.request(self.command, self.path, body or None, headers)
            answer = line.getresponse()
            content = answer.read()
            line.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if fault == "cut":
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(content)

        do_GET = do_POST = _pass_on

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}{aim.path}", seen
    server.shutdown()
    server.server_close()
