"""A contestant: a command that a benchmark runs, with places for a scan and its labels."""

from __future__ import annotations

import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from viscera.errors import UsageError
from viscera.io.read import stands

_PLACES = ("{input}", "{output}")


@dataclass(frozen=True)
class Contestant:
    """One command to measure.

    Attributes:
        name: stands in tables and file names.
        words: program and arguments; ``{input}`` and ``{output}`` stand for the files.
        version: of the program, where it is known.
    """

    name: str
    words: tuple[str, ...]
    version: str = ""

    @classmethod
    def of(cls, command: str, name: str | None = None) -> Contestant:
        """A command from one line, split as a shell does; no shell will run it.

        Raises:
            UsageError: it cannot be split, or lacks a placeholder.
        """
        words = split(command)
        for place in _PLACES:
            if not any(place in word for word in words):
                raise UsageError(
                    "{input} and {output} in the command",
                    found=repr(command),
                    remedy=f"put {place} where the file's path belongs",
                )
        return cls(name or Path(words[0]).stem, words)

    def call(self, scan: Path, labels: Path) -> list[str]:
        """The command for one scan."""
        paths = {"{input}": str(scan), "{output}": str(labels)}
        places = re.compile("|".join(map(re.escape, paths)))
        return [places.sub(lambda found: paths[found[0]], word) for word in self.words]

    def mark(self) -> str:
        """What tells this command from an earlier one of the same name.

        Its words, the files and folders among them as they stand now, and its version.
        """
        program = shutil.which(self.words[0]) or self.words[0]
        named = [Path(word) for word in (program, *self.words[1:]) if stands(Path(word))]
        files = []
        for path in named:
            with suppress(OSError):  # what may not be looked at tells nothing
                inside = sorted(path.iterdir()) if path.is_dir() else [path]
                files += [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in inside]
        return repr([self.words, self.version, files])


def split(line: str) -> tuple[str, ...]:
    """The words of a line, as a shell splits them.

    Raises:
        UsageError: a quote is not closed.
    """
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        found = f"{line!r} ({error})"
        raise UsageError("words", found=found, remedy="mend the quotes") from error
