"""Make a release: build, check, install, list what is in it, sum, and tag.

    python tools/release.py FOLDER          # everything but the tag
    python tools/release.py FOLDER --tag    # the tag too: the tree is clean, the notes are dated

Needs build, twine and cyclonedx-bom (extra `release`). FOLDER then holds wheel, sdist, the list of
all installed packages (CycloneDX) and SHA256SUMS; nothing is uploaded.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from viscera._version import __version__  # noqa: E402
from viscera.runtime.digests import file_sha256  # noqa: E402

_HEADING = re.compile(r"^## (\S+) \(([^)]+)\)$", re.MULTILINE)


def newest_notes(changelog: str) -> tuple[str, str]:
    """Version and date of the newest section of the changelog.

    Args:
        changelog: its text.
    """
    match = _HEADING.search(changelog)
    if match is None:
        raise SystemExit("CHANGELOG.md has no section such as '## 0.1.0 (2026-12-31)'")
    return match[1], match[2]


def problems(changelog: str, version: str, *, changed_files: str) -> list[str]:
    """What stands against a tag.

    Args:
        changelog: its text.
        version: of the package.
        changed_files: what git status prints.
    """
    noted, date = newest_notes(changelog)
    listed = []
    if noted != version:
        listed.append(f"the newest notes are of {noted}, the package is {version}")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        listed.append(f"the notes of {noted} have no date, but {date!r}")
    if changed_files.strip():
        listed.append("files are changed and not committed")
    return listed


def run(*words: object, cwd: Path = ROOT) -> str:
    """What a command prints; the release ends if it fails."""
    call = list(map(str, words))
    done = subprocess.run(call, cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(call[:4])} failed")
    return done.stdout


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tag", action="store_true", help="tag the commit")
    options = parser.parse_args()
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    against = problems(changelog, __version__, changed_files=run("git", "status", "--porcelain"))
    if options.tag and against:
        raise SystemExit("no tag: " + "; ".join(against))
    run(sys.executable, "-m", "build", "-o", folder)
    files = sorted(folder.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    # What users get: an empty environment, the wheel, the first command.
    fresh = folder / "fresh"
    venv.create(fresh, with_pip=True)
    (wheel,) = folder.glob("*.whl")
    run(fresh / "bin" / "python", "-m", "pip", "install", "-q", wheel)
    run(fresh / "bin" / "viscera", "phantom", folder / "scan.nii.gz")
    run(fresh / "bin" / "viscera", "segment", folder / "scan.nii.gz", "-b", "phantom",
        "-o", folder / "organs.nii.gz", "-q")  # fmt: skip
    run(Path(sys.executable).with_name("cyclonedx-py"), "environment", fresh / "bin" / "python",
        "--output-reproducible", "-o", folder / f"viscera-{__version__}.cdx.json")  # fmt: skip
    shutil.rmtree(fresh)
    for name in ("scan.nii.gz", "organs.nii.gz"):
        (folder / name).unlink()
    files = sorted(folder.iterdir())
    sums = "".join(f"{file_sha256(path)}  {path.name}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    for problem in against:
        print(f"not to be tagged yet: {problem}")
    if options.tag:
        run("git", "tag", "-a", f"v{__version__}", "-m", f"viscera {__version__}")
        print(f"tagged v{__version__}; push it when you are sure")


if __name__ == "__main__":
    main()
