"""What all pages share: templates, styles, and a policy that lets nothing else in or out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

_FOLDER = Path(__file__).parent
LIBRARY = "vendor/three-0.149.0.min.js"  # pinned; its checksum stands in a test


@cache
def read_part(name: str) -> str:
    """The text of a file of this room."""
    return (_FOLDER / name).read_text(encoding="utf-8").strip()


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # slow to import

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, *, scripts: Sequence[str], values: dict[str, Any]) -> str:
    """A page.

    Args:
        template: its file name.
        scripts: texts of the scripts that may run, each as it stands between its tags.
        values: for the template; all text in them is escaped.
    """
    style = read_part("page.css")
    values = {**values, "style": style, "policy": content_policy(style, scripts)}
    return _environment().get_template(template).render(values)


def content_policy(style: str, scripts: Sequence[str]) -> str:
    """A Content-Security-Policy that allows this style and these scripts, and no request at all.

    Args:
        style: text between the style tags.
        scripts: texts between script tags.
    """
    allowed = " ".join(map(_source_hash, scripts)) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src {_source_hash(style)}; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
