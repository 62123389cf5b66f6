"""Bundles with one thing wrong each, made from the good one."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path


def broken(good: Path, folder: Path, fault: str) -> Path:
    """A copy of the bundle with this fault."""
    shutil.copytree(good, folder)
    model, toml = folder / "model.onnx", folder / "bundle.toml"
    text = toml.read_text()

    def weights(content: bytes, *, trusted: bool) -> None:
        old = hashlib.sha256(model.read_bytes()).hexdigest()
        model.write_bytes(content)
        if trusted:
            toml.write_text(text.replace(old, hashlib.sha256(content).hexdigest()))

    if fault == "missing_weights":
        model.unlink()
    elif fault == "truncated_weights":
        weights(model.read_bytes()[:-40], trusted=False)
    elif fault == "unreadable_weights":
        weights(b"no network" * 50, trusted=True)
    elif fault == "pickle":
        weights(pickle.dumps({"weights": [1.0]}), trusted=True)
    elif fault == "wrong_labels":
        toml.write_text(text.replace("'liver'", "'lever'"))
    elif fault == "wrong_channels":
        toml.write_text(text.replace("'liver', ", ""))
    elif fault == "newer_format":
        toml.write_text(text.replace("format = 1", "format = 2"))
    elif fault == "unknown_key":
        toml.write_text(text.replace("overlap =", "overlaps ="))
    else:
        raise KeyError(fault)
    return folder
