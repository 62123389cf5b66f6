"""Decoder: compressed pixels, decompressed in a process of their own.

The decoders are C and C++. Damaged pixels can make them abort, hang or ask for all memory there is;
here they take nobody with them. And several work at a time, which threads could not: GDCM holds
Python's lock.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from viscera.dicom.read.files import SourceFile

_LONGEST_S = 60.0  # for one slice, which takes a hundredth of a second
_MOST_BYTES = 4 << 30  # of a decoder's memory, where the system can hold it to that
# JPEG-LS, lossless and near: GDCM, which pydicom would ask first, takes more than twice as long.
_FASTER = {"1.2.840.10008.1.2.4.80": "pyjpegls", "1.2.840.10008.1.2.4.81": "pyjpegls"}


class DecoderDiedError(Exception):
    """The process that decoded ended, or took too long."""


class DecoderProcess:
    """Decodes one frame after another; its process starts with the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._sent: SourceFile | None = None

    def decode(self, file: SourceFile, frame: int) -> NDArray[Any]:
        """Stored values [row, column] of a frame.

        Args:
            file: the DICOM file.
            frame: its number in the file, from 0.

        Raises:
            DecoderDiedError: its process ended, or was ended for taking too long.
            ValueError: the pixels are damaged, in the decoder's words.
            OSError: the file cannot be read.
        """
        start = time.monotonic()
        try:
            return self._decode_in_process(file, frame)
        except EOFError:
            # Was it these pixels, or did something else end the process? A fresh one tells.
            if time.monotonic() - start > _LONGEST_S / 2:
                raise DecoderDiedError from None
        try:
            return self._decode_in_process(file, frame)
        except EOFError:
            raise DecoderDiedError from None

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            self._process.kill()
            self._process.wait()
        self._process = self._sent = None

    def _started(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            # -P: whatever lies in the current folder is not imported.
            [
                sys.executable,
                "-P",
                "-c",
                "from viscera.dicom.read.decoder_process import serve; serve()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what the libraries say of damaged pixels
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self._process

    def _decode_in_process(self, file: SourceFile, frame: int) -> NDArray[Any]:
        """The answer of the process; raises EOFError where it ended instead."""
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        content, path = b"", None
        if file is not self._sent and file.archive is None:
            path = os.fspath(file.path.absolute())
        elif file is not self._sent:
            with file.open() as stream:
                content = stream.read()
        self._sent = file
        clock = threading.Timer(_LONGEST_S, process.kill)
        clock.start()
        try:
            _send(process.stdin, {"path": path, "size": len(content), "frame": frame}, content)
            answer, values = _receive(process.stdout)
        except (OSError, EOFError) as error:
            self.close()
            raise EOFError from error
        finally:
            clock.cancel()
        if "error" in answer:
            raise ValueError(answer["error"])
        return np.frombuffer(values, answer["dtype"]).reshape(answer["shape"])


def serve() -> None:
    """The other end: decode what is asked for on standard input, until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the libraries print
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
    warnings.simplefilter("ignore")  # what a decoder mends
    dataset: Any = None
    with suppress(EOFError):
        while True:
            request, content = _receive(sys.stdin.buffer)
            try:
                if request["path"] or content:
                    dataset = None  # so that nobody gets the pixels of the file before
                    dataset = _read(request["path"] or io.BytesIO(content))
                values = _decode(dataset, request["frame"])
            except Exception as error:
                _send(answers, {"size": 0, "error": type(error).__name__})
            else:
                shape, dtype = list(values.shape), values.dtype.str
                _send(
                    answers,
                    {"size": values.nbytes, "shape": shape, "dtype": dtype},
                    values.tobytes(),
                )


def _read(source: Any) -> Any:
    from pydicom import dcmread

    return dcmread(source, force=True)


def _decode(dataset: Any, frame: int) -> NDArray[Any]:
    from pydicom.pixels import get_decoder, pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    able = get_decoder(syntax).available_plugins
    plugin = next((name for name in able if name == _FASTER.get(syntax)), "")
    return np.asarray(pixel_array(dataset, index=frame, raw=True, decoding_plugin=plugin))


def _send(stream: IO[bytes], head: dict[str, Any], content: bytes = b"") -> None:
    stream.write(json.dumps(head).encode() + b"\n" + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """A head and the bytes that it announces; raises EOFError where the other end is gone."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head: dict[str, Any] = json.loads(line)
    content = stream.read(head["size"])
    if len(content) < head["size"]:
        raise EOFError
    return head, content
