"""`viscera serve`."""

from __future__ import annotations

from pathlib import Path

import click

from viscera.cli._shared.options import PATH
from viscera.cli._shared.terminal import echo
from viscera.runtime.extras import require_extra
from viscera.runtime.resources import parse_memory


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="0 for any free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Others need a token.")
@click.option(
    "--token",
    envvar="VISCERA_TOKEN",
    show_envvar=True,
    help="What calls must bring; default: made up.",
)
@click.option("--data", type=PATH, help="Calls may name scans below this folder.")
@click.option(
    "-b",
    "--bundle",
    "bundles",
    type=PATH,
    multiple=True,
    help="Also offer the network in this folder; may be repeated.",
)
@click.option(
    "--keep",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    metavar="MINUTES",
    help="Results are deleted after this time.",
)
@click.option(
    "--most-upload",
    default="4G",
    show_default=True,
    metavar="SIZE",
    help="Of all files of one scan.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
def command(
    port: int,
    host: str,
    token: str | None,
    data: Path | None,
    bundles: tuple[Path, ...],
    keep: float,
    most_upload: str,
    threads: int | None,
    memory_limit: str | None,
) -> None:
    """Open a page on this machine to segment and look at scans.

    Drop a scan, look at its organs, take the files home. The same server is a REST service;
    /openapi.json describes it. Scans and results stay on this machine, in a folder that is deleted
    when the server ends.
    """
    require_extra("starlette", "uvicorn")
    from viscera.predictor import Predictor
    from viscera.serve.server import run_server
    from viscera.serve.settings import ServerSettings

    settings = ServerSettings(
        host=host,
        port=port,
        data=data,
        bundles=bundles,
        keep_s=60 * keep,
        most_upload_bytes=round(parse_memory(most_upload) * 1e6),
        **({"token": token, "is_token_given": True} if token else {}),  # type: ignore[arg-type]
    )
    limit_mb = parse_memory(memory_limit) if memory_limit else None

    def make_predictor(bundle: str) -> Predictor:
        return Predictor(bundle, threads=threads, memory_limit_mb=limit_mb)

    def show(address: str) -> None:
        echo(f"viscera: open {address} in a browser; Ctrl-C ends the server", err=True)

    run_server(settings, make_predictor=make_predictor, on_ready=show)
