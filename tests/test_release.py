"""The rules of a release."""

import sys

import pytest

import viscera
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from release import newest_notes, problems


def test_the_notes_are_of_the_version():
    version, _ = newest_notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert version == viscera.__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_what_stands_against_a_tag_is_said():
    notes = "# Changelog\n\n## 0.2.0 (2026-12-31)\n\nNew.\n\n## 0.1.0 (2026-11-30)\n"
    assert problems(notes, "0.2.0", changed_files="") == []
    assert problems(notes, "0.1.0", changed_files="") == [
        "the newest notes are of 0.2.0, the package is 0.1.0"
    ]
    undated = notes.replace("2026-12-31", "unreleased")
    assert "no date" in problems(undated, "0.2.0", changed_files="")[0]
    assert problems(notes, "0.2.0", changed_files=" M README.md") == [
        "files are changed and not committed"
    ]
    with pytest.raises(SystemExit):
        newest_notes("nothing")
