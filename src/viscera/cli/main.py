"""The `viscera` command: finds its subcommands without importing them, and ends in exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from typing import NoReturn, TextIO

import click

from viscera._version import __version__
from viscera.cli._shared.terminal import echo
from viscera.errors import VisceraError, command_line_wording
from viscera.runtime.atomic_files import remove_unfinished_parts
from viscera.runtime.resources import means_no_memory

_CLEAN_UP_S = 5.0  # after a second signal
# Each lives in viscera.cli.NAME as `command`; its first line of help stands here as well, so that
# `viscera --help` imports none of them. A test keeps both in step.
COMMANDS = {
    "segment": "Find the organs in CT scans.",
    "serve": "Open a page on this machine to segment and look at scans.",
    "check": "Say what scans show and what is unusual about them.",
    "pacs": "Segment series of a DICOMweb server, store results there.",
    "listen": "Take CT series by C-STORE, segment them, send the results on.",
    "evaluate": "Compare predicted labels with the truth: DSC, NSD, HD95, ASSD.",
    "bench": "Measure whole processes, one scan a start, as FLARE does.",
    "recipe": "Propose a recipe from data, for `viscera train`.",
    "train": "Train a network from folders of scans and labels.",
    "pseudo-label": "Label scans with a bundle, and check every organ.",
    "export": "Turn a training into a bundle that gives the same labels.",
    "info": "Show a bundle, an architecture, or the CT series in a folder.",
    "sample": "Fetch a real CT to try viscera with; its path is printed.",
    "phantom": "Generate a CT-like phantom, to try viscera without a patient.",
}


def module_of(command: str) -> str:
    """The module of a command's name."""
    return command.replace("-", "_")


class _LazyGroup(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"viscera.cli.{module_of(name)}").command
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # TotalSegmentator writes --roi_subset; both spellings work everywhere.
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "max_content_width": 100,
    },
)
@click.version_option(__version__, "-V", "--version", message="viscera %(version)s")
def viscera() -> None:
    """Abdominal organs in CT, on a laptop's CPU, in seconds, offline.

    Research use only; not a medical device.
    """


class _Interrupted(BaseException):
    """SIGINT or SIGTERM, so that temporary files are removed on the way out."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit with its documented code."""
    received: list[int] = []
    _prepare_streams()

    def interrupt(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) == 1:  # a second one must not stop the clean-up
            raise _Interrupted

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    _end_at_second_signal()
    try:
        code = _run(arguments)
    except BaseException:
        # Libraries turn an interruption during their import into errors of their own.
        if not received:
            raise
        code = 0
    if received:
        remove_unfinished_parts()
        echo("viscera: interrupted; nothing half-written was left", err=True)
        code = 128 + received[0]
    sys.exit(code)


def _prepare_streams() -> None:
    """Standard streams that take any text.

    What the caller has closed gets a place where all is lost. Pipes of Windows have an encoding
    that lacks most letters: what cannot be printed is escaped.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _end_at_second_signal() -> None:
    """End the process soon after a second signal, even if a library never returns to Python.

    Handlers of signals run between two steps of Python only; a network that loops takes none. The
    descriptor is written to at once.
    """
    reader, writer = os.pipe()
    if hasattr(os, "set_blocking"):  # Windows has it from Python 3.12 on
        os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        numbers = b""
        while len(numbers) < 2:
            numbers += os.read(reader, 1)
        time.sleep(_CLEAN_UP_S)
        os._exit(128 + numbers[0])

    threading.Thread(target=wait, daemon=True).start()


def _run(arguments: list[str] | None) -> int:
    """Run the command; its errors become messages and exit codes."""
    try:
        code = viscera.main(arguments, prog_name="viscera", standalone_mode=False)
        sys.stdout.flush()  # what cannot be printed shows here, not when Python ends
        return code if isinstance(code, int) else 0
    except VisceraError as error:
        return _report(error.message(command_line_wording), error.exit_code)
    except click.ClickException as error:
        error.show()
        return 2
    except BrokenPipeError:  # whoever read has read enough
        _let_go_of(sys.stdout)
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        # Every file's error is named where it occurs; what is left is printing.
        _let_go_of(sys.stdout)
        problem = error.strerror or str(error)
        message = f"expected an output that takes what is printed, found {problem}"
        return _report(f"{message}; print to another place", 5)
    except (MemoryError, ImportError, RuntimeError) as error:
        # Libraries that cannot be loaded say so in many words, and so do threads.
        if not means_no_memory(error):
            raise
        return _report(f"expected enough memory, found none left; {_memory_remedy(error)}", 7)


def _memory_remedy(error: BaseException) -> str:
    """What to do where memory ran out: a GPU's has no limit that one could set."""
    if "cuda" in str(error).lower():
        return "lower optimisation.batch, or make the recipe's windows smaller"
    return "close other programs, or pass --memory-limit"


def _report(message: str, code: int) -> int:
    with suppress(OSError):
        echo(f"viscera: {message}", err=True)
    return code


def _let_go_of(stream: TextIO) -> None:
    """Let go of what a stream could not print, or Python would try again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
