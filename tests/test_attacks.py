"""Every row of attacks/expected.toml, through the command line in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.attacks import builders, dicom_builders
from tests.attacks.bundles import broken

TABLE = tomllib.loads((Path(__file__).parent / "attacks" / "expected.toml").read_text())["attack"]

# The command, and then the peak of its own memory: what the kernel accounts to a child that was
# just forked includes all that its parent, this very process, holds.
COMMAND = """
import sys
from viscera.cli.main import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        print("peak kB", status.read().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


needs_pydicom = pytest.mark.skipif(
    importlib.util.find_spec("pydicom") is None, reason="needs the extra 'dicom'"
)


def _rows():
    for row in TABLE:
        names = row["builder"] if isinstance(row["builder"], list) else [row["builder"]]
        for name in names:
            marks = [row.get(k, "") for k in ("args", "bundle", "output", "without")]
            parts = [str(row["case"]), name, *filter(None, marks)]
            skip = [needs_pydicom] if name.startswith("dicom") else []
            yield pytest.param({**row, "builder": name}, id="-".join(parts), marks=skip)


def _without(package: str, folder: Path) -> dict[str, str]:
    """An environment in which importing the package fails as if it were not installed."""
    folder.mkdir()
    (folder / f"{package}.py").write_text(f"raise ImportError('no {package} here')\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
@pytest.mark.parametrize("row", list(_rows()))
@pytest.mark.skipif(sys.platform != "linux", reason="uses FIFOs, resource limits and /proc")
def test_attack(row, tmp_path, nearest):
    import resource

    builder, _, argument = row["builder"].partition(":")
    room = dicom_builders if builder.startswith("dicom") else builders
    source = getattr(room, builder)(tmp_path, *([argument] if argument else []))
    output = tmp_path / row.get("output", "out/labels.nii.gz")
    bundle = broken(nearest, tmp_path / "bundle", row["bundle"]) if "bundle" in row else nearest
    if row.get("exists"):
        output.parent.mkdir()
        output.write_bytes(b"a result of yesterday")
    environment = {**os.environ, **row.get("environment", {})}
    if "without" in row:
        environment |= _without(row["without"], tmp_path / "shadow")
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # beside the shadow, nothing is left
    before = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}

    def limited():
        if "most_file_bytes" in row:
            import signal

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (row["most_file_bytes"],) * 2)

    call = [sys.executable, "-c", COMMAND, "segment", str(source), "-o", str(output)]
    call += ["-b", str(bundle), "-v", *shlex.split(row.get("args", ""))]
    printed = tmp_path / "printed.txt"
    start = time.monotonic()
    with printed.open("wb") as stream:
        process = subprocess.Popen(
            call, stdout=stream, stderr=stream, env=environment, preexec_fn=limited
        )
        code = process.wait()
    text, _, peak_kb = printed.read_text(errors="replace").rpartition("peak kB ")

    assert code == row["exit"], text
    assert row["says"] in text
    assert "Traceback" not in text
    assert int(peak_kb) * 1024 / 1e6 < row.get("most_mb", 600)
    assert time.monotonic() - start < row.get("most_s", 60)
    assert not list(tmp_path.rglob(".viscera-*")), "a temporary file was left"
    if code:
        assert text.count("viscera: ") == 1, "one clear sentence"
        assert "; " in text, "with a remedy"
        after = {p: p.stat().st_size for p in tmp_path.rglob("*") if p.is_file() and p != printed}
        assert after == before, "a refusal changes nothing"
    elif row.get("grid", True):
        _same_grid(source, output)


def _same_grid(source: Path, output: Path) -> None:
    """The output's shape and affine are the input's, bit for bit."""
    if source.suffix == ".nii" and source.stat().st_size and source.read_bytes()[:2] == b"\x1f\x8b":
        source = source.rename(source.with_name("really.nii.gz"))
    elif source.name.endswith(".nii.gz") and source.read_bytes()[:2] != b"\x1f\x8b":
        source = source.rename(source.with_name("really.nii"))
    given, made = nib.load(source), nib.load(output)
    assert made.get_data_dtype() == np.uint8
    assert made.shape == given.shape[:3]
    if np.isfinite(given.affine).all() and np.linalg.det(given.affine[:3, :3]):
        np.testing.assert_array_equal(made.affine, given.affine)
        for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d",
                      "qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "qform_code",
                      "xyzt_units"):  # fmt: skip
            assert (
                made.header[field].tobytes()
                == given.header[field].astype(made.header[field].dtype).tobytes()
            ), field
        np.testing.assert_array_equal(made.header["pixdim"][:4], given.header["pixdim"][:4])
