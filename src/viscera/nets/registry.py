"""Architectures by name. Torch is imported when one is built, not before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal

from viscera.errors import UsageError
from viscera.runtime.extras import require_extra

Norm = Literal["batch", "group", "instance"]


@dataclass(frozen=True)
class Architecture:
    """A family of networks that differ in widths, channels and classes.

    Attributes:
        name: as in ``architecture.weights``.
        title: one line for people.
        home: ``module:class`` within `viscera.nets`.
        widths: channels of each level, finest first.
        norm: normalisation where none is chosen.
        shape: channels and sizes of a usual input, (C, y, x) or (C, z, y, x).
        spacing_mm: usual spacing of that input along its sizes.
        strided_stem: whether the first level is half as fine as the input.
        supervises: whether coarser levels can be scored too, for deep supervision.
    """

    name: str
    title: str
    home: str
    widths: tuple[int, ...]
    norm: Norm
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    strided_stem: bool = False
    supervises: bool = False

    def stride(self, levels: int) -> int:
        """What sizes must be divisible by, with this many widths."""
        return 2 ** (levels if self.strided_stem else levels - 1)

    @property
    def rank(self) -> int:
        """2 for networks over slices, 3 for networks over patches."""
        return len(self.shape) - 1


# A slice of 192 pixels covers a field of view of 400 mm.
_SLICE_MM = (400 / 192, 400 / 192)
_ALL = (
    Architecture(
        "dsunet16",
        "depthwise separable U-Net with channel attention, the paper's",
        "dsunet:DsUnet",
        (16, 32, 64, 128),
        "group",
        (3, 192, 192),
        _SLICE_MM,
    ),
    Architecture(
        "unet64",
        "the original U-Net, the paper's baseline",
        "unet:Unet",
        (64, 128, 256, 512, 1024),
        "batch",
        (3, 192, 192),
        _SLICE_MM,
    ),
    Architecture(
        "visceranet",
        "3-D residual U-Net with a strided stem, ours",
        "visceranet:VisceraNet",
        (24, 48, 96, 192),
        "batch",
        (1, 96, 112, 112),
        (3.0, 3.0, 3.0),
        strided_stem=True,
        supervises=True,
    ),
    Architecture(
        "dwnet16",
        "3-D depthwise separable U-Net, lean enough to be taught a published network's weights",
        "dwnet:DwNet",
        (16, 32, 64, 128, 192),
        "instance",
        (1, 96, 144, 176),
        (2.5, 2.0, 2.0),
    ),
)
ARCHITECTURES: dict[str, Architecture] = {candidate.name: candidate for candidate in _ALL}


def architecture(name: str) -> Architecture:
    """An architecture by its name.

    Raises:
        UsageError: there is none.
    """
    if name not in ARCHITECTURES:
        near = get_close_matches(name, ARCHITECTURES, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "choose one of these"
        raise UsageError(", ".join(ARCHITECTURES), found=repr(name), remedy=remedy)
    return ARCHITECTURES[name]


def build_network(
    name: str,
    *,
    channels: int,
    classes: int,
    widths: Sequence[int] = (),
    norm: Norm | None = None,
    supervised: bool = False,
) -> Any:
    """A torch module with random weights: (N, channels, ...) in, (N, classes, ...) scores out.

    Args:
        name: of the architecture.
        channels: of the input.
        classes: of the scores, background included.
        widths: channels of each level; the architecture's own where empty.
        norm: batch or group; the architecture's own where not given.
        supervised: while training, the result is a list of scores, finest level first.

    Raises:
        UsageError: no such architecture, or it cannot be supervised.
        MissingExtraError: torch is not installed.
    """
    chosen = architecture(name)
    if supervised and not chosen.supervises:
        supervising = ", ".join(candidate.name for candidate in _ALL if candidate.supervises)
        remedy = "set loss.deep_supervision to 0"
        raise UsageError(f"{supervising} for deep supervision", found=name, remedy=remedy)
    require_extra("torch")
    module, _, kind = chosen.home.partition(":")
    make_network = getattr(import_module(f"viscera.nets.{module}"), kind)
    options = {"supervised": True} if supervised else {}
    return make_network(
        channels, classes, tuple(widths) or chosen.widths, norm or chosen.norm, **options
    )
