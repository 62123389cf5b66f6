"""Every error viscera raises on purpose, and the exit code each one ends in.

    VisceraError                    exit code
      UnexpectedError               1   a bug of ours, where the other cases go on
      UsageError                    2   options or arguments contradict each other
      InputError                    3   a file is unreadable, or is no CT volume
      MissingExtraError             3   a package of an optional extra is not installed
      NothingToSegmentError         4   readable, but there is nothing to segment (strict)
      DoubtfulResultError           4   a scan with a warning, or an organ that failed (strict)
      OutputError                   5   a result cannot be written, or would overwrite
      BatchError                    6   some cases of a batch failed
      ResourceError                 7   more memory is needed than there is
      BundleError                   8   a bundle or its weights are invalid
      EngineError                   8   no engine could run the network
      TrainingError                 9   a training cannot go on, or its result fails a check
      PeerError                     10  another server or node cannot be reached, or refuses

Exit code 0 is success, 1 a bug of ours, 130 and 143 an interruption.

The texts of errors and findings name options by `option`. The library spells them as Python does
(``overwrite=True``), the command line as flags (``--overwrite``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

# Spells the options in a text, for Python or for the command line.
Wording = Callable[[str], str]

_OPTION = re.compile("\u27e6(\\w+)(?: ([^\u27e7]*))?\u27e7")
# Flags that are not the option's name with dashes.
_FLAGS = {
    "memory_limit_mb": "--memory-limit",
    "output": "-o",
    "output_types": "--output-type",
    "settings": "--set",
    "volume_index": "--volume",
}
# Calls that take an option which not every function has.
_CALLS = {
    "allow_bad_slices": "as_volume(path, allow_bad_slices={value})",
    "hu_offset": "volume.shifted({value})",
    "series": "as_volume(path, series={value})",
    "volume_index": "as_volume(path, volume_index={value})",
}
_SWITCHES = (
    "allow_bad_slices",
    "keep_phi",
    "low_memory",
    "overwrite",
    "prepare",
    "resume",
    "strict",
)


def option(name: str, value: object = None) -> str:
    """An option within the text of an error or a finding.

    Args:
        name: of the keyword in Python.
        value: what to set it to; a switch is set to True.

    Returns:
        A placeholder that `python_wording` and `command_line_wording` spell out.
    """
    return f"\u27e6{name}\u27e7" if value is None else f"\u27e6{name} {value}\u27e7"


def python_wording(text: str) -> str:
    """The text with its options as Python keywords, such as ``overwrite=True``."""

    def spell(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name in _CALLS and value is not None:
            return _CALLS[name].format(value=value)
        if value is None:
            return f"{name}=True" if name in _SWITCHES else name
        return f"{name}={value}"

    return _OPTION.sub(spell, text)


def command_line_wording(text: str) -> str:
    """The text with its options as flags, such as ``--overwrite``."""

    def spell(match: re.Match[str]) -> str:
        flag = _FLAGS.get(match[1], "--" + match[1].replace("_", "-"))
        is_bare = match[2] is None or match[1] in _SWITCHES
        return flag if is_bare else f"{flag} {match[2]}"

    return _OPTION.sub(spell, text)


class VisceraError(Exception):
    """Base of all errors that have a cause outside viscera and a remedy.

    The message is one sentence in four parts: where it happened, what was expected, what was
    found, and what to do.

    Attributes:
        expected, found, remedy: three of these parts; options in them are not spelled out yet.
        where: the file or the case, or None.
    """

    exit_code = 1

    def __init__(self, expected: str, *, found: str, remedy: str, where: object = None) -> None:
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.where = None if where is None else str(where)
        super().__init__(self.message())

    def message(self, wording: Wording = python_wording) -> str:
        """The sentence.

        Args:
            wording: how options are spelled.
        """
        place = f"{self.where}: " if self.where else ""
        return place + wording(f"expected {self.expected}, found {self.found}; {self.remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Whole errors cross from one process to another."""
        parts: dict[str, Any] = {"found": self.found, "remedy": self.remedy, "where": self.where}
        return partial(type(self), self.expected, **parts), ()


class UnexpectedError(VisceraError):
    """A bug of ours in one case, while the others go on."""

    exit_code = 1

    @classmethod
    def of(cls, error: BaseException, where: object = None) -> UnexpectedError:
        """An error that nobody foresaw; its text is left out, as it may hold what it worked on.

        Args:
            error: what was raised.
            where: the case.
        """
        return cls(
            "a run without a fault of viscera's own",
            found=type(error).__name__,
            remedy="report it",
            where=where,
        )


class UsageError(VisceraError):
    """Options or arguments contradict each other, or a value is out of range."""

    exit_code = 2


class InputError(VisceraError):
    """An input cannot be read, or is not a CT volume."""

    exit_code = 3


class MissingExtraError(VisceraError):
    """A package of an optional extra is not installed."""

    exit_code = 3


class NothingToSegmentError(VisceraError):
    """A readable volume in which there is nothing to segment."""

    exit_code = 4


class DoubtfulResultError(VisceraError):
    """Strict: a scan has a warning, or an organ cannot be trusted."""

    exit_code = 4


class OutputError(VisceraError):
    """A result cannot be written, or exists already."""

    exit_code = 5


class BatchError(VisceraError):
    """Some cases of a batch failed; the others are done."""

    exit_code = 6


class ResourceError(VisceraError):
    """The work needs more memory than it may have."""

    exit_code = 7


class BundleError(VisceraError):
    """A bundle, its settings or its weights are invalid."""

    exit_code = 8


class EngineError(VisceraError):
    """No engine could open or run the network."""

    exit_code = 8


class PeerError(VisceraError):
    """Another server or node cannot be reached, or refuses what it was asked."""

    exit_code = 10


class TrainingError(VisceraError):
    """A training diverged, or its result does not pass a check of the export."""

    exit_code = 9
