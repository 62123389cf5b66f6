"""Bundles: a network, what its input must look like, and what comes out.

A bundle is a folder with `bundle.toml`, the weights it names and, if packaged, a model card.
Nothing else in viscera knows an architecture. All triples stand in the order x, y, z of
`input.orientation`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from viscera.bundle.structures import RegionSettings, StructureSettings, table_of_labels
from viscera.core.organs import FLARE13, LabelTable, Organ
from viscera.errors import UsageError

FORMAT = 1

_REMEDY = "choose another value"

Precision = Literal["f32", "bf16"]


@dataclass(frozen=True)
class ModelFile:
    """The network's file.

    Attributes:
        file: ONNX file, relative to bundle.toml.
        sha256: its checksum, so that the settings can never meet other weights.
        precisions: arithmetic that was measured to keep the labels; f32 always does.
        run_peak_mb: peak memory of one run of the network in f32, measured; for the memory plan.
        run_peak_bf16_mb: the same in bf16; as in f32 where it was not measured.
    """

    file: str
    sha256: str
    precisions: tuple[Precision, ...] = ("f32",)
    run_peak_mb: float = 500.0
    run_peak_bf16_mb: float | None = None

    def run_peak_in(self, precision: Precision) -> float:
        """Peak MB of one run of the network in this arithmetic."""
        if precision == "bf16" and self.run_peak_bf16_mb is not None:
            return self.run_peak_bf16_mb
        return self.run_peak_mb


@dataclass(frozen=True)
class NetworkInput:
    """What the network's grid and intensities are.

    Attributes:
        orientation: world directions that x, y, z run towards, such as LPS.
        window_hu: HU are clipped to this before resampling.
        spacing_mm: x, y, z of a patch network; x, y of a slice network; absent: the slice is
            stretched to `slices.size` whatever its spacing.
        mean_hu, std_hu: the network sees (hu - mean) / std; absent: the window maps to [0, 1].
        interpolation: linear, or area (mean over the target voxel, in plane and along z).
        align: which points of scan and network grid coincide: their centres, so that mirrored
            scans give mirrored results, or their first voxels, as SimpleITK resamples.
        crop: body leaves out what lies beside the body in plane; none looks at all of the scan.
    """

    window_hu: tuple[float, float]
    orientation: str = "LPS"
    spacing_mm: tuple[float, ...] | None = None
    mean_hu: float | None = None
    std_hu: float | None = None
    interpolation: Literal["linear", "area"] = "linear"
    align: Literal["centre", "first"] = "centre"
    crop: Literal["none", "body"] = "none"

    def __post_init__(self) -> None:
        if len(self.orientation) != 3 or any(
            sum(c in ends for c in self.orientation) != 1 for ends in ("RL", "AP", "SI")
        ):
            raise UsageError(
                "an orientation such as LPS", found=f"{self.orientation!r}", remedy=_REMEDY
            )
        if self.window_hu[0] >= self.window_hu[1]:
            raise UsageError("a rising window_hu", found=f"{list(self.window_hu)}", remedy=_REMEDY)
        if (self.mean_hu is None) != (self.std_hu is None) or self.std_hu == 0:
            raise UsageError(
                "mean_hu with a std_hu above 0",
                found=f"{self.mean_hu, self.std_hu}",
                remedy=_REMEDY,
            )
        if self.spacing_mm is not None and min(self.spacing_mm) < 0.1:
            raise UsageError(
                "a spacing_mm of 0.1 or more", found=f"{list(self.spacing_mm)}", remedy=_REMEDY
            )

    @property
    def scale(self) -> tuple[float, float]:
        """(offset, divisor) of the normalisation: the network sees (hu - offset) / divisor."""
        if self.mean_hu is not None and self.std_hu is not None:
            return self.mean_hu, self.std_hu
        low, high = self.window_hu
        return low, high - low


@dataclass(frozen=True)
class Patch:
    """A 3-D network, run over overlapping patches.

    Attributes:
        size: voxels along x, y, z.
        overlap: share of a patch that neighbours have in common at least, 0 up to below 1.
        blending: weights of a patch's voxels, gaussian or constant.
        sigma: the Gaussian's standard deviation as a share of the patch.
        extend_z: stacks shorter than a patch are continued by mirroring their slices, or padded
            with the window's lower end. In plane, small volumes are always padded.
        multiple: of these voxels along x, y, z the network takes a window of any size, so that
            windows are fitted to the body; absent: `size` and no other.
    """

    size: tuple[int, int, int]
    overlap: float = 0.5
    blending: Literal["gaussian", "constant"] = "gaussian"
    sigma: float = 0.125
    extend_z: Literal["mirror", "pad"] = "mirror"
    multiple: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if any(n < 1 or size % n for n, size in zip(self.multiple or (), self.size, strict=False)):
            raise UsageError(
                "a multiple that divides the patch size", found=f"{self.multiple}", remedy=_REMEDY
            )
        if min(self.size) < 1:
            raise UsageError("a patch size above 0", found=f"{list(self.size)}", remedy=_REMEDY)
        if not 0 <= self.overlap < 1:
            raise UsageError(
                "an overlap from 0 to below 1", found=f"{self.overlap}", remedy=_REMEDY
            )
        if self.sigma < 0.02:  # below, weights at a patch's corners vanish
            raise UsageError("a sigma of 0.02 or more", found=f"{self.sigma}", remedy=_REMEDY)


@dataclass(frozen=True)
class Slices:
    """A 2.5-D network: a stack of neighbouring slices in, the centre slice's scores out.

    Attributes:
        stack: how many slices it sees, an odd number; they are its channels.
        size: pixels along x, y.
        batch: slices in one run.
    """

    stack: int
    size: tuple[int, int]
    batch: int = 2

    def __post_init__(self) -> None:
        if self.stack < 1 or self.stack % 2 == 0:
            raise UsageError("an odd stack", found=f"{self.stack}", remedy=_REMEDY)
        if min(*self.size, self.batch) < 1:
            raise UsageError(
                "a size and batch above 0", found=f"{self.size, self.batch}", remedy=_REMEDY
            )


@dataclass(frozen=True)
class PostprocessStep:
    """One step of post-processing.

    Attributes:
        step: its name in `viscera.postprocess`.
        organs: which organs it touches; absent: all.
        size: closing only, edge of the cube in voxels.
        ml: minimum_volume: components smaller than this are removed; lone: see there.
        share: strays only, components smaller than this share of the organ's largest are removed.
        beside: lone only, the organs are removed from a scan in which none of these has `ml`.
    """

    step: Literal[
        "closing",
        "inside_body",
        "largest_component",
        "strays",
        "minimum_volume",
        "lone",
        "sides",
    ]
    organs: tuple[str, ...] | None = None
    size: int = 3
    ml: float = 0.0
    share: float = 0.0
    beside: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise UsageError("an odd size", found=f"{self.size}", remedy=_REMEDY)
        if self.size != 3 and self.step != "closing":
            raise UsageError("size for closing only", found=f"it for {self.step}", remedy=_REMEDY)
        if (self.ml > 0) != (self.step in ("minimum_volume", "lone")):
            raise UsageError(
                "ml above 0 for minimum_volume and lone only", found=f"{self.ml}", remedy=_REMEDY
            )
        if bool(self.beside) != (self.step == "lone"):
            raise UsageError(
                "organs in beside for lone only", found=f"{self.beside}", remedy=_REMEDY
            )
        if not 0 <= self.share <= 1 or (self.share > 0) != (self.step == "strays"):
            raise UsageError(
                "a share above 0, at most 1, for strays only", found=f"{self.share}", remedy=_REMEDY
            )
        if self.organs and self.step in ("sides", "inside_body"):
            raise UsageError(
                f"no organs for {self.step}, which is about all", found="some", remedy=_REMEDY
            )


@dataclass(frozen=True)
class LookSettings:
    """A coarse network that finds where organs are, so that the fine one sees only that part.

    Attributes:
        bundle: the coarse network's bundle, which has patches: the name of a packaged one, or a
            folder relative to bundle.toml.
        margin_mm: kept around all that it finds.
        above_mm: the same towards the head: the esophagus in the chest is what it loses first.
        field_mm: along x, y; the network sees no less of the body, as it knows organs by what is
            around them, and normalises by all that it sees.
        shortest_mm: if the body or its part with organs is shorter along z, all of it is seen:
            little would be saved, and a coarse network errs most often where it sees little.
    """

    bundle: str
    margin_mm: float = 24.0
    above_mm: float = 96.0
    field_mm: tuple[float, float] = (285.0, 215.0)
    shortest_mm: float = 225.0

    def __post_init__(self) -> None:
        least = min(self.margin_mm, self.above_mm, *self.field_mm, self.shortest_mm)
        if least < 0:
            expected = "margin_mm, above_mm, field_mm and shortest_mm of 0 or more"
            raise UsageError(expected, found=f"{least:g}", remedy=_REMEDY)


@dataclass(frozen=True)
class BundleInfo:
    """Where a bundle comes from; shown by `viscera info` and kept in every report.

    A `warning` is a finding of every scan that the bundle segments.
    """

    made_by: str = ""
    training_data: str = ""
    licence: str = ""
    scores: str = ""
    intended_use: str = "Research only; not a medical device."
    warning: str = ""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle; see the docs page `bundles`.

    Attributes:
        format: version of this description.
        name: architecture.weights.
        labels: what each output channel means: background first, then names of organs or of
            other structures; `other` is one that viscera does not report.
        structures: what is known of those that are none of the thirteen organs. With any, labels
            are numbered by their place, or as these say; without, as the thirteen organs are.
        regions: structures that are evaluated as one.
        look: which part of a scan the network sees; where absent, the body's outline says.
        folder: where bundle.toml lies.
    """

    format: int
    name: str
    model: ModelFile
    input: NetworkInput
    labels: tuple[str, ...]
    patch: Patch | None = None
    slices: Slices | None = None
    look: LookSettings | None = None
    postprocess: tuple[PostprocessStep, ...] = ()
    structures: tuple[StructureSettings, ...] = ()
    regions: tuple[RegionSettings, ...] = ()
    about: BundleInfo = field(default_factory=BundleInfo)
    folder: Path = Path()

    def __post_init__(self) -> None:
        if (self.patch is None) == (self.slices is None):
            raise UsageError("either [patch] or [slices]", found="both or none", remedy=_REMEDY)
        spacing = self.input.spacing_mm
        if self.patch is not None and (spacing is None or len(spacing) != 3):
            raise UsageError(
                "input.spacing_mm along x, y, z for [patch]", found=f"{spacing}", remedy=_REMEDY
            )
        if self.slices is not None and spacing is not None and len(spacing) != 2:
            raise UsageError(
                "input.spacing_mm along x, y for [slices]", found=f"{list(spacing)}", remedy=_REMEDY
            )
        if self.slices is not None and self.input.crop == "body":
            raise UsageError("crop for [patch] only", found="it for [slices]", remedy=_REMEDY)
        if self.labels[:1] != ("background",) or len(self.labels) < 2:
            raise UsageError(
                "labels that begin with background",
                found=f"{list(self.labels[:1])}",
                remedy=_REMEDY,
            )
        table = self.label_table  # refuses labels that mean nothing
        for step in self.postprocess:
            for name in (*(step.organs or ()), *(step.beside or ())):
                if name not in table.by_name:
                    raise UsageError(
                        "structures of this bundle by name",
                        found=f"{name!r} in {step.step}",
                        remedy=_REMEDY,
                    )

    @cached_property
    def model_path(self) -> Path:
        """The weights' file."""
        return self.folder / self.model.file

    @property
    def channels(self) -> int:
        """Channels of the network's input."""
        return self.slices.stack if self.slices else 1

    def identity(self) -> dict[str, Any]:
        """All settings, wherever the bundle lies; what older bundles lack only where it is used."""
        table = asdict(replace(self, folder=Path()))
        return {k: v for k, v in table.items() if v or k not in ("structures", "regions")}

    @cached_property
    def label_table(self) -> LabelTable:
        """What labels mean: the thirteen organs, or this bundle's structures."""
        return table_of_labels(self.name, self.labels, self.structures, self.regions)

    @cached_property
    def organs(self) -> tuple[Organ, ...]:
        """Organs and structures that this network can find, in label order."""
        return tuple(organ for organ in self.label_table.organs if organ.name in self.labels)

    @property
    def has_thirteen_organs(self) -> bool:
        """Whether its labels are numbered as the thirteen organs."""
        return self.label_table == FLARE13

    @cached_property
    def label_ids(self) -> tuple[int, ...]:
        """Label id of each output channel; 0 for background and `other`."""
        by_name = self.label_table.by_name
        return tuple(by_name[name].id if name in by_name else 0 for name in self.labels)
