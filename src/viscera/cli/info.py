"""`viscera info`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from viscera.bundle import Bundle
from viscera.bundles import packaged, read_bundle


@click.command()
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(bundle: str | None, as_json: bool) -> None:
    """Show what a bundle is: its network, its grid, its provenance.

    BUNDLE is a folder or the name of a packaged one; without it, the packaged ones are listed.
    Reading it checks the settings and the weights' checksum.
    """
    if bundle is None:
        names = list(packaged())
        click.echo(json.dumps(names) if as_json else "\n".join(names))
        return
    described = _described(read_bundle(bundle))
    if as_json:
        click.echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for key, value in described.items():
        if isinstance(value, dict):
            click.echo(f"{key}")
            for name, entry in value.items():
                if entry != "":
                    click.echo(f"  {name:14} {_text(entry)}")
        else:
            click.echo(f"{key:16} {_text(value)}")


def _described(bundle: Bundle) -> dict[str, Any]:
    """The bundle's settings, what is absent left out."""
    table = dataclasses.asdict(bundle)
    table["folder"] = str(bundle.folder)
    table["model"]["size_mb"] = round(bundle.model_path.stat().st_size / 1e6, 3)
    return {
        key: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{k}={_text(v)}" for k, v in value.items() if v)
    return str(value)
