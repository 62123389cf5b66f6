"""Every error viscera raises on purpose, and the exit code each one ends in.

    VisceraError                    exit code
      UsageError                    2   the call's words contradict each other
      InputError                    3   a file is unreadable, or is no CT volume
      NothingToSegmentError         4   readable, but there is nothing to segment (--strict)
      OutputError                   5   a result cannot be written, or would overwrite
      BatchError                    6   some cases of a batch failed
      ResourceError                 7   more memory would be needed than there is
      BundleError                   8   a bundle or its weights are invalid
      EngineError                   8   no engine could run the network
      TrainingError                 9   a training cannot go on, or its result fails its gate

Exit code 0 is success, 1 a bug of ours, 130 and 143 an interruption.
"""

from __future__ import annotations

from functools import partial
from typing import Any


class VisceraError(Exception):
    """Base of all errors that have a cause outside viscera and a remedy.

    The message is one sentence in four parts: where it happened, what was expected, what was
    found, and what to do.
    """

    exit_code = 1

    def __init__(self, expected: str, *, found: str, remedy: str, where: object = None) -> None:
        self.expected = expected
        self.found = found
        self.remedy = remedy
        self.where = None if where is None else str(where)
        place = f"{self.where}: " if self.where else ""
        super().__init__(f"{place}expected {expected}, found {found}; {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Whole errors cross from one process to another."""
        parts: dict[str, Any] = {"found": self.found, "remedy": self.remedy, "where": self.where}
        return partial(type(self), self.expected, **parts), ()


class UsageError(VisceraError):
    """The arguments contradict each other."""

    exit_code = 2


class InputError(VisceraError):
    """An input cannot be read, or is not a CT volume."""

    exit_code = 3


class NothingToSegmentError(VisceraError):
    """A readable volume in which there is nothing to segment."""

    exit_code = 4


class OutputError(VisceraError):
    """A result cannot be written, or stands already."""

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


class TrainingError(VisceraError):
    """A training diverged, or its result is not what an export demands."""

    exit_code = 9
