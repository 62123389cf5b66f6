"""`viscera listen`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from viscera.cli._shared.options import BUNDLE, PATH
from viscera.cli._shared.terminal import echo
from viscera.errors import UsageError, command_line_wording
from viscera.runtime.extras import require_extra
from viscera.runtime.resources import parse_memory

_LOOK_S = 0.2


@click.command()
@click.option("-o", "--output", type=PATH, required=True, help="Folder of images and results.")
@click.option("--to", "target", metavar="TITLE@HOST:PORT", help="Send SEG and RTSTRUCT there.")
@click.option("--title", default="VISCERA", show_default=True, help="AE title of this node.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Others need --allow.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=11112,
    show_default=True,
    help="0 for any free one.",
)
@click.option("--allow", multiple=True, metavar="TITLE", help="AE title that may call; repeat.")
@click.option(
    "--quiet-time",
    type=click.FloatRange(0.5),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="A series is complete when nothing has come for so long.",
)
@click.option(
    "--keep",
    type=click.FloatRange(0),
    default=60,
    show_default=True,
    metavar="MINUTES",
    help="Images are deleted after this time.",
)
@click.option(
    "--most-associations",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="At a time.",
)
@click.option("--tls-cert", type=PATH, help="Certificate of this node, PEM; all three or none.")
@click.option("--tls-key", type=PATH, help="Its key.")
@click.option("--tls-ca", type=PATH, help="Authority of the others' certificates.")
@BUNDLE
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all allowed.")
@click.option("--memory-limit", metavar="SIZE", help="Most memory to use, such as 2G.")
def command(
    output: Path,
    target: str | None,
    title: str,
    host: str,
    port: int,
    allow: tuple[str, ...],
    quiet_time: float,
    keep: float,
    most_associations: int,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    bundle: str,
    threads: int | None,
    memory_limit: str | None,
) -> None:
    """Take CT series by C-STORE, segment them, send the results on.

    A DICOM node: a scanner or router sends series to it; each is segmented when it is complete, and
    SEG and RTSTRUCT go to the node of --to. Until that node has taken them they are kept and sent
    again.
    """
    require_extra("pynetdicom", "pydicom", "highdicom")
    from viscera.batch.options import BatchOptions
    from viscera.batch.outputs import OutputOptions
    from viscera.pacs.listen import ListeningNode, ListenOptions
    from viscera.pacs.segment_series import SeriesOptions
    from viscera.pacs.send import DicomNode
    from viscera.pacs.tls import TlsFiles
    from viscera.predictor import Predictor

    tls = None
    if tls_cert or tls_key or tls_ca:
        if not (tls_cert and tls_key and tls_ca):
            raise UsageError(
                "--tls-cert, --tls-key and --tls-ca",
                found="some of them",
                remedy="pass all three, or none",
            )
        tls = TlsFiles(tls_cert, tls_key, tls_ca)
    options = ListenOptions(
        title=title,
        host=host,
        port=port,
        allow=allow,
        target=DicomNode.parse(target) if target else None,
        quiet_s=quiet_time,
        keep_s=60 * keep,
        most_associations=most_associations,
        tls=tls,
        each=SeriesOptions(BatchOptions(outputs=OutputOptions(wording=command_line_wording))),
    )
    limit_mb = parse_memory(memory_limit) if memory_limit else None
    predictor = Predictor(bundle, threads=threads, memory_limit_mb=limit_mb)
    node = ListeningNode(output, predictor, options, on_event=lambda text: echo(text, err=True))
    node.start()
    echo(f"viscera: {title} listens on {host}:{node.port}; Ctrl-C ends it", err=True)
    try:
        while True:
            time.sleep(_LOOK_S)
    finally:
        node.stop()
