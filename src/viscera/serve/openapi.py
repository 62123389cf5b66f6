"""The description of the interface, OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from viscera._version import __version__
from viscera.serve.job import RESULTS, SCAN
from viscera.serve.security import TOKEN_HEADER

_JOB = {
    "type": "object",
    "required": ["id", "name", "bundle", "state", "stage", "share", "error", "results"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string", "description": "what the user calls it"},
        "bundle": {"type": "string"},
        "state": {
            "enum": ["receiving", "waiting", "running", "finished", "failed", "cancelled"],
        },
        "stage": {"type": "string", "description": "what is being done"},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "error": {"type": "string", "description": "why it failed, in the command line's words"},
        "exit_code": {"type": "integer"},
        "files": {"type": "integer"},
        "bytes": {"type": "integer"},
        "results": {"type": "array", "items": {"type": "string"}},
        "report": {"type": ["object", "null"], "description": "the report of viscera segment"},
    },
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def openapi_description(networks: Iterable[str]) -> dict[str, Any]:
    """The description, JSON-ready.

    Args:
        networks: names of those that are offered.
    """
    job = {"$ref": "#/components/schemas/Job"}
    paths: dict[str, Any] = {
        "/api/health": {"get": _call("That the server lives", {"200": _json(_object())})},
        "/api/metrics": {
            "get": _call("Counts for Prometheus", {"200": _body("text/plain", _text())})
        },
        "/api/bundles": {
            "get": _call("Names of the networks", {"200": _json(_list(_text()))}),
        },
        "/api/organs": {
            "get": _call(
                "Labels, names, colours of the thirteen organs", {"200": _json(_list(_object()))}
            ),
        },
        "/api/jobs": {
            "get": _call("All jobs", {"200": _json(_list(job))}),
            "post": {
                **_call("A new job", {"201": _json(job), **_errors(404, 413, 422, 429)}),
                "requestBody": _body(
                    "application/json",
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "bundle": {"enum": list(networks), "default": "default"},
                            "source": {
                                "type": "string",
                                "description": "a scan below the folder that the server may read",
                            },
                        },
                    },
                ),
            },
        },
        "/api/jobs/{job}": {
            "parameters": [_parameter("job")],
            "get": _call("A job with its report", {"200": _json(job), **_errors(404)}),
            "delete": {
                **_call("Cancel and delete", {"204": _empty(), **_errors(404)}),
            },
        },
        "/api/jobs/{job}/files/{name}": {
            "parameters": [_parameter("job"), _parameter("name")],
            "put": {
                **_call(
                    "One file of the scan; several for a DICOM series",
                    {"204": _empty(), **_errors(404, 409, 413, 507)},
                ),
                "requestBody": _body(
                    "application/octet-stream", {"type": "string", "format": "binary"}
                ),
            },
        },
        "/api/jobs/{job}/start": {
            "parameters": [_parameter("job")],
            "post": {
                **_call(
                    "All files are there: segment",
                    {"202": _json(job), **_errors(404, 409)},
                ),
            },
        },
        "/api/jobs/{job}/events": {
            "parameters": [_parameter("job")],
            "get": _call(
                "Progress as server-sent events",
                {"200": _body("text/event-stream", _text()), **_errors(404)},
            ),
        },
        "/api/jobs/{job}/results/{name}": {
            "parameters": [
                _parameter("job"),
                {**_parameter("name"), "schema": {"enum": [*RESULTS, SCAN]}},
            ],
            "get": _call(
                "A file of a finished job",
                {
                    "200": _body("*/*", {"type": "string", "format": "binary"}),
                    **_errors(404),
                },
            ),
        },
    }
    for path, calls in paths.items():
        if path != "/api/health":
            for method, call in calls.items():
                if method != "parameters":
                    call["security"] = [{"token": []}]
                    call["responses"].setdefault("401", _errors(401)["401"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "viscera",
            "version": __version__,
            "description": "Abdominal organs in CT. Research use only; not a medical device.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Job": _JOB, "Error": _ERROR},
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": TOKEN_HEADER}},
        },
    }


def _call(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": responses}


def _errors(*statuses: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {str(status): _json(schema, "why not") for status in statuses}


def _json(schema: dict[str, Any], description: str = "so it is") -> dict[str, Any]:
    return _body("application/json", schema, description)


def _body(kind: str, schema: dict[str, Any], description: str = "so it is") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _empty() -> dict[str, Any]:
    return {"description": "done"}


def _object() -> dict[str, Any]:
    return {"type": "object"}


def _text() -> dict[str, Any]:
    return {"type": "string"}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
