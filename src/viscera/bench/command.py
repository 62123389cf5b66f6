"""A command that a benchmark runs, with placeholders for a scan and its labels."""

from __future__ import annotations

import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from viscera.errors import UsageError
from viscera.io.read import path_exists

_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "fish")
_PLACEHOLDERS = ("{input}", "{output}")


@dataclass(frozen=True)
class BenchCommand:
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
    def of(cls, command: str, name: str | None = None) -> BenchCommand:
        """A command from one line, split as a shell does; no shell will run it.

        Args:
            command: the line; ``{input}`` and ``{output}`` stand for the files of a case.
            name: what tables call it; the program's name if not given.

        Raises:
            UsageError: it cannot be split, or lacks a placeholder.
        """
        words = split_words(command)
        _check_shell(words, command)
        for placeholder in _PLACEHOLDERS:
            if not any(placeholder in word for word in words):
                raise UsageError(
                    "{input} and {output} in the command",
                    found=repr(command),
                    remedy=f"put {placeholder} where the file's path belongs",
                )
        return cls(name or Path(words[0]).stem, words)

    def call(self, scan: Path, labels: Path) -> list[str]:
        """The command for one scan.

        Args:
            scan: the CT to segment.
            labels: where the command writes its label map.
        """
        paths = {"{input}": str(scan), "{output}": str(labels)}
        pattern = re.compile("|".join(map(re.escape, paths)))
        return [pattern.sub(lambda match: paths[match[0]], word) for word in self.words]

    def cache_key(self) -> str:
        """What distinguishes this command from an earlier one of the same name.

        Its words, the files and folders among them as they stand now, and its version.
        """
        program = shutil.which(self.words[0]) or self.words[0]
        paths = [Path(word) for word in (program, *self.words[1:]) if path_exists(Path(word))]
        files = []
        for path in paths:
            with suppress(OSError):  # what may not be looked at tells nothing
                inside = sorted(path.iterdir()) if path.is_dir() else [path]
                files += [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in inside]
        return repr([self.words, self.version, files])


def _check_shell(words: tuple[str, ...], command: str) -> None:
    """Refuse a placeholder within a shell's script: the shell would run what a file's name says.

    Raises:
        UsageError: there is one.
    """
    for option, script in pairwise(words):
        is_script = option.startswith("-") and option.endswith("c")
        if (
            is_script
            and Path(words[0]).name in _SHELLS
            and any(name in script for name in _PLACEHOLDERS)
        ):
            raise UsageError(
                "the paths as arguments of the shell",
                found=repr(command),
                remedy='write it like sh -c \'predict "$1" "$2"\' sh {input} {output}',
            )


def split_words(line: str) -> tuple[str, ...]:
    """The words of a line, as a shell splits them.

    Raises:
        UsageError: a quote is not closed.
    """
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        problem = f"{line!r} ({error})"
        raise UsageError("words", found=problem, remedy="correct the quotes") from error
