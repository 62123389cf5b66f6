"""What every engine does, and the check that a network fits its bundle."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from viscera.bundle.spec import Bundle, Precision
from viscera.engine.scores import Scores
from viscera.errors import BundleError

# Sizes along each axis; None where the network leaves it open.
Shape = tuple[int | None, ...]


class Engine(Protocol):
    """A loaded network."""

    @property
    def name(self) -> str:
        """The engine's name, such as ``openvino``."""
        ...

    @property
    def version(self) -> str:
        """Version of the engine's library."""
        ...

    @property
    def precision(self) -> Precision:
        """The arithmetic it runs in."""
        ...

    @property
    def parallel_requests(self) -> int:
        """How many runs side by side use all of its threads; 1 where one run does."""
        ...

    def run(self, batch: NDArray[np.float32], out: Scores | None = None) -> Scores:
        """Scores of a batch: (N, C, z, y, x) or (N, C, y, x) in, the same with classes as C out.

        As many threads may call at a time as there are `parallel_requests`.

        Args:
            batch: the network's input.
            out: an earlier result that nobody needs any more; its memory is used where it fits.
        """
        ...

    def release_memory(self) -> None:
        """Give back the memory that runs take; the next run takes it again."""
        ...


def batch_shape(bundle: Bundle) -> tuple[int, ...]:
    """The shape of one run's input."""
    if bundle.patch:
        x, y, z = bundle.patch.size
        return (1, 1, z, y, x)
    assert bundle.slices is not None  # Bundle has one or the other
    x, y = bundle.slices.size
    return (bundle.slices.batch, bundle.slices.stack, y, x)


def parallel_requests_for(bundle: Bundle, threads: int) -> int:
    """How many requests an engine should run at a time.

    Stacks of slices run fastest side by side, one thread each; a 3-D window uses all threads.

    Args:
        bundle: the network.
        threads: CPU threads of the engine.
    """
    return threads if bundle.slices else 1


def check_network(bundle: Bundle, inputs: list[Shape], outputs: list[Shape]) -> None:
    """Compare a network's declared shapes with what the bundle says.

    Args:
        bundle: what the network should be.
        inputs: shape of each input; -1 where a length is free.
        outputs: shape of each output; -1 where a length is free.

    Raises:
        BundleError: not one input and one output of these channels and sizes.
    """
    count, _, *sizes = batch_shape(bundle)
    if bundle.patch and bundle.patch.multiple:  # any window that is a multiple
        sizes = [None] * 3  # type: ignore[list-item]
    wanted_in = (count, bundle.channels, *sizes)
    wanted_out = (count, len(bundle.labels), *sizes)
    for what, expected, declared in (("input", wanted_in, inputs), ("output", wanted_out, outputs)):
        if len(declared) != 1 or not _shape_fits(expected, declared[0]):
            raise BundleError(
                f"a network with one {what} of shape {_shape_text(expected)}",
                found=" and ".join(map(_shape_text, declared)) or "none",
                remedy="correct bundle.toml (labels, stack, size) or export the network again",
                where=bundle.model_path,
            )


def _shape_fits(expected: Shape, declared: Shape) -> bool:
    return len(expected) == len(declared) and all(
        f is None or w == f for w, f in zip(expected, declared, strict=True)
    )


def _shape_text(shape: Shape) -> str:
    return "[" + ", ".join("N" if n is None else str(n) for n in shape) + "]"
