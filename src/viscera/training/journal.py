"""The journal of a training: metrics.jsonl, and TensorBoard's files if asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from viscera.errors import MissingExtraError, OutputError, option
from viscera.runtime.atomic_files import write_text

METRICS = "metrics.jsonl"


class Journal:
    """Appends one line per fact; lines that a resumed training will write again are removed."""

    def __init__(self, folder: Path, *, step: int, tensorboard: bool = False) -> None:
        """Open it.

        Args:
            folder: of the training.
            step: from which the training continues.
            tensorboard: also write TensorBoard's files, into ``tensorboard/``.

        Raises:
            MissingExtraError: TensorBoard is not installed.
        """
        self._path = folder / METRICS
        earlier = [line for line in read_journal(folder) if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in earlier)
        write_text(self._path, text, overwrite=True)
        self._board: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingExtraError(
                    "the package tensorboard",
                    found="none that can be imported",
                    remedy="run pip install tensorboard",
                ) from error
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def note(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One fact, such as the loss of some steps or a validation.

        Args:
            kind: such as train or validation.
            step: counted from 0.
            values: JSON-ready.

        Raises:
            OutputError: the disk is full.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        except OSError as error:
            remedy = f"free some space, and continue with {option('resume')}"
            reason = error.strerror or str(error)
            raise OutputError(
                "a writable journal", found=reason, remedy=remedy, where=self._path
            ) from error
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)
            self._board.flush()


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """All facts of a training's folder; a last line that was cut off is left out."""
    lines = []
    try:
        for line in (folder / METRICS).read_text(encoding="utf-8").splitlines():
            lines.append(json.loads(line))
    except (OSError, ValueError):
        pass
    return lines
