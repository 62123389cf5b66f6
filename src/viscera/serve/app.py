"""The application: routes from addresses to jobs."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from viscera._version import __version__
from viscera.core.organs import ORGANS
from viscera.errors import ResourceError, VisceraError, command_line_wording
from viscera.runtime.resources import disk_is_nearly_full
from viscera.serve.job import ENDED, Job
from viscera.serve.jobs import JobStateError, JobStore, UnknownSourceError
from viscera.serve.openapi import openapi_description
from viscera.serve.security import Guard
from viscera.serve.settings import ServerSettings

Handler = Callable[[Request], Awaitable[Response]]
_STATIC = Path(__file__).parent / "static"
_MOST_JSON_BYTES = 10_000
_LOOK_S = 0.15  # between two looks at a job


def make_app(settings: ServerSettings, jobs: JobStore) -> Starlette:
    """The application.

    Args:
        settings: of the server.
        jobs: its jobs; they are started and stopped with the application.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        jobs.start()
        yield
        await anyio.to_thread.run_sync(jobs.stop)

    interface = _Interface(settings, jobs)
    routes = [
        Route("/", interface.page),
        Route("/openapi.json", interface.openapi),
        Route("/api/health", interface.health),
        Route("/api/metrics", interface.metrics),
        Route("/api/bundles", interface.bundles),
        Route("/api/organs", interface.organs),
        _route("/api/jobs", GET=interface.list_jobs, POST=interface.create_job),
        _route("/api/jobs/{job}", GET=interface.show_job, DELETE=interface.delete_job),
        Route("/api/jobs/{job}/files/{name}", interface.upload, methods=["PUT"]),
        Route("/api/jobs/{job}/start", interface.start_job, methods=["POST"]),
        Route("/api/jobs/{job}/events", interface.events),
        Route("/api/jobs/{job}/results/{name}", interface.result),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers={HTTPException: _http_error, VisceraError: _viscera_error},
    )


def _route(path: str, **handlers: Handler) -> Route:
    """One route for all methods of an address, so that a wrong one is told all that are right."""

    async def endpoint(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, endpoint, methods=list(handlers))


class _Interface:
    """One method a route; docs/commands/serve.md and openapi.py describe them."""

    def __init__(self, settings: ServerSettings, jobs: JobStore) -> None:
        self._settings, self._jobs = settings, jobs

    async def page(self, _request: Request) -> Response:
        """The page. Its address brings the token after a hash, which only the browser sees."""
        return FileResponse(_STATIC / "index.html")

    async def openapi(self, _request: Request) -> Response:
        """The description of the interface."""
        return JSONResponse(openapi_description(self._jobs.networks))

    async def health(self, _request: Request) -> Response:
        """That the server lives."""
        return JSONResponse({"status": "ok", "version": __version__})

    async def metrics(self, _request: Request) -> Response:
        """Numbers for Prometheus; none of them tells a patient."""
        lines = [
            "# TYPE viscera_jobs gauge",
            *(f'viscera_jobs{{state="{s}"}} {n}' for s, n in self._jobs.counts().items()),
            "# TYPE viscera_jobs_finished_total counter",
            f"viscera_jobs_finished_total {self._jobs.finished_count}",
            "# TYPE viscera_jobs_failed_total counter",
            f"viscera_jobs_failed_total {self._jobs.failed_count}",
        ]
        return PlainTextResponse("\n".join(lines) + "\n")

    async def bundles(self, _request: Request) -> Response:
        """Names of the networks."""
        return JSONResponse(list(self._jobs.networks))

    async def organs(self, _request: Request) -> Response:
        """Labels, names and colours of the thirteen organs; a report has those of its network."""
        return JSONResponse(
            [
                {"id": o.id, "name": o.name, "title": o.title, "colour": list(o.colour)}
                for o in ORGANS
            ]
        )

    async def list_jobs(self, _request: Request) -> Response:
        """All jobs, without their reports."""
        return JSONResponse([{**job.as_dict(), "report": None} for job in self._jobs.all()])

    async def create_job(self, request: Request) -> Response:
        """A new job."""
        table = await _json_body(request)
        unknown = set(table) - {"name", "bundle", "source"}
        texts = {key: table.get(key, "") for key in ("name", "bundle", "source")}
        if unknown or not all(map(_is_text, texts.values())):
            raise HTTPException(422, "expected name, bundle and source, each a text")
        job = self._jobs.add(texts["name"], texts["bundle"] or "default", texts["source"])
        return JSONResponse(job.as_dict(), 201)

    async def show_job(self, request: Request) -> Response:
        """A job with its report."""
        return JSONResponse(self._job(request).as_dict())

    async def delete_job(self, request: Request) -> Response:
        """Cancel a job and delete all of it."""
        await anyio.to_thread.run_sync(self._jobs.remove, self._job(request))
        return Response(status_code=204)

    async def upload(self, request: Request) -> Response:
        """One file of a job, as the body."""
        job = self._job(request)
        if job.received_files >= self._settings.most_files:
            raise HTTPException(413, f"a job has at most {self._settings.most_files} files")
        try:
            file = self._jobs.begin_upload(job, request.path_params["name"])
        except JobStateError as error:
            raise HTTPException(409, str(error)) from error
        received, is_whole = 0, False
        try:
            async for chunk in request.stream():
                received += len(chunk)
                job.change(received_bytes=job.received_bytes + len(chunk))
                self._check_upload(job)
                await anyio.to_thread.run_sync(file.write, chunk)
            is_whole = True
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise HTTPException(507, "the disk is full") from error
        finally:
            self._jobs.end_upload(job, file, is_whole=is_whole, received=received)
        return Response(status_code=204)

    def _check_upload(self, job: Job) -> None:
        """Refuse what goes beyond a limit."""
        if job.is_unwanted:
            raise HTTPException(409, "the job was deleted")
        if job.received_bytes > self._settings.most_upload_bytes:
            limit_mb = self._settings.most_upload_bytes / 1e6
            raise HTTPException(413, f"a job takes at most {limit_mb:.0f} MB")
        if disk_is_nearly_full(self._jobs.folder):
            raise HTTPException(507, "the disk is full")

    async def start_job(self, request: Request) -> Response:
        """Put a job into the queue."""
        job = self._job(request)
        try:
            self._jobs.submit(job)
        except JobStateError as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse(job.as_dict(), 202)

    async def events(self, request: Request) -> Response:
        """The job as server-sent events, one at each change, until it ends."""
        job = self._job(request)

        async def stream() -> AsyncIterator[str]:
            version = -1
            while not (self._jobs.is_stopping.is_set() or await request.is_disconnected()):
                if job.version != version:
                    version = job.version
                    yield f"data: {json.dumps({**job.as_dict(), 'report': None})}\n\n"
                    if job.state in ENDED:
                        return
                await asyncio.sleep(_LOOK_S)

        return StreamingResponse(stream(), media_type="text/event-stream")

    async def result(self, request: Request) -> Response:
        """A file of a finished job; pages come as downloads, to be opened offline."""
        job = self._job(request)
        name = request.path_params["name"]
        path = job.results().get(name)
        if path is None:
            raise HTTPException(404, "no such result")
        return FileResponse(path, filename=f"{_harmless(job.name)}_{name}")

    def _job(self, request: Request) -> Job:
        job = self._jobs.get(request.path_params["job"])
        if job is None:
            raise HTTPException(404, "no such job")
        return job


def _is_text(value: object) -> bool:
    """Whether this is text that can be written again; JSON allows halves of letters."""
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _harmless(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:80]


async def _json_body(request: Request) -> dict[str, Any]:
    """A JSON object; an empty body is an empty one."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_JSON_BYTES:
            raise HTTPException(413, f"at most {_MOST_JSON_BYTES} bytes of JSON")
    if not body:
        return {}
    with suppress(ValueError, RecursionError):
        table = json.loads(bytes(body))
        if isinstance(table, dict):
            return table
    raise HTTPException(422, "expected a JSON object")


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _viscera_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, VisceraError)
    status = 422
    if isinstance(error, UnknownSourceError):
        status = 404
    elif isinstance(error, ResourceError):
        status = 429
    return JSONResponse({"error": error.message(command_line_wording)}, status)
