"""What the docs show runs: examples in Python, calls of the command line, the site."""

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import click
import pytest

import viscera
from tests.conftest import ROOT
from viscera.cli.main import COMMANDS, module_of
from viscera.cli.main import viscera as viscera_command
from viscera.io.write import write_volume

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Commands and pages that other tests run whole, or that need a cluster of another kind.
RUN_ELSEWHERE = {"docs/commands/serve.md", "docs/throughput.md"}
GENERATED = re.compile(r"<!-- begin: generated.*?<!-- end: generated -->", re.DOTALL)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page, *languages):
    """The fenced blocks of a page in these languages; generated parts are left out."""
    text = GENERATED.sub("", page.read_text(encoding="utf-8"))
    return [content for language, content in BLOCK.findall(text) if language in languages]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def commands(page):
    """The calls of viscera in the shell blocks of a page, comments and other programs left out."""
    for block in blocks(page, "sh", ""):
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if "viscera" in words[:1] and len(words) > 1 and words[1].isalpha():
                yield line.strip(), [word for word in words[1:] if word not in ("&", "|")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_call_in_the_docs_is_one(page):
    """Options exist and have values of their kinds; nothing is run."""
    for line, words in commands(page):
        if words[0] not in COMMANDS:
            continue
        if "..." in line or "<" in line:
            continue
        words = [word.replace("$", "x") for word in words]
        command = import_module(f"viscera.cli.{module_of(words[0])}").command
        arguments = words[1:]
        parent = click.Context(viscera_command, **viscera_command.context_settings)
        while isinstance(command, click.Group):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        try:
            command.make_context(words[0], arguments, parent=parent)
        except click.exceptions.ClickException as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_there_are_calls_to_check():
    assert sum(len(list(commands(page))) for page in PAGES) > 60


@pytest.fixture
def folder(tmp_path, monkeypatch, small_phantom):
    """Where the examples run: with a scan, its labels, and a folder of scans."""
    volume, labels = small_phantom
    viscera.Segmentation(labels, volume, viscera.ORGANS).save(tmp_path / "truth.nii.gz")
    write_volume(tmp_path / "ct.nii.gz", volume)
    (tmp_path / "scans").mkdir()
    for name in ("a", "b"):
        write_volume(tmp_path / "scans" / f"{name}.nii.gz", volume)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_the_python_of_a_page_runs(page, folder):
    """One example after the other, on a phantom."""
    if name_of(page) in RUN_ELSEWHERE:
        pytest.skip("its examples need a server or a cluster; see tests/test_serve.py")
    names = {"viscera": viscera}
    if "segmentation =" not in (examples := blocks(page, "python"))[0]:
        names["segmentation"] = viscera.segment("ct.nii.gz", bundle="phantom")
    for example in examples:
        exec(compile(example, name_of(page), "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_that_is_not_run_is_python(page):
    for example in blocks(page, "python"):
        compile(example, name_of(page), "exec")


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs the extra 'docs'")
def test_the_site_is_built_without_a_broken_link(tmp_path):
    call = [sys.executable, ROOT / "tools" / "build_site.py", tmp_path / "html"]
    run = subprocess.run(
        list(map(str, call)), cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    html = tmp_path / "html"
    pages = {p.relative_to(html).as_posix() for p in html.rglob("*.html")}
    assert {"index.html", "api.html", "docs/your-own-organ.html"} <= pages
    api = (html / "api.html").read_text(encoding="utf-8")
    functions = [n for n in viscera.__all__ if callable(getattr(viscera, n))]
    assert [name for name in functions if name not in api] == []
    for page in html.rglob("*.html"):  # nothing is fetched from elsewhere
        text = page.read_text(encoding="utf-8")
        assert not re.search(r'<(script|link|img)[^>]*(src|href)="https?://', text), page
