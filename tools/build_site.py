"""The docs as a site, built strictly: a link that leads nowhere, or a missing docstring, fails.

    python tools/build_site.py [FOLDER]    # build/html without one; needs the extra docs

Pages keep their places, so that their links hold; files that they link to are copied beside them.
The page of the API is made from the names that `import viscera` offers.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import viscera

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "site"
PAGES = ("*.md", "docs/**/*.md", "benchmarks/results/*.md", "integrations/**/*.md")
_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
_API = """# The library

What `import viscera` offers, with every argument, unit and error. [Examples](docs/python.md) that
run are on a page of their own.
"""


def pages() -> list[Path]:
    """Every page of the site, relative to the repository."""
    found = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    return sorted(path.relative_to(ROOT) for path in found)


def linked_files(page: Path) -> set[Path]:
    """Files of the repository that a page links to, and which are no pages."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = {(ROOT / page).parent / link for link in _LINK.findall(text)}
    inside = (target.resolve() for target in targets)
    return {t.relative_to(ROOT) for t in inside if t.is_file() and t.suffix != ".md"}


def api_page() -> str:
    """Every public name, by mkdocstrings."""
    blocks = []
    for name in sorted(viscera.__all__, key=str.lower):
        thing = getattr(viscera, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            blocks.append(f"::: {thing.__module__}.{thing.__qualname__}\n")
    return "\n".join([_API, *blocks])


def main() -> int:
    """Gather the pages, and build."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for page in pages():
        for file in (page, *linked_files(page)):
            target = SOURCE / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, target)
    (SOURCE / "api.md").write_text(api_page(), encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["--site-dir", str(Path(sys.argv[1]).resolve())] if len(sys.argv) > 1 else []
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an advertisement
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
