"""Settings of a training, a table of the recipe each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from viscera.errors import UsageError
from viscera.nets.registry import Norm

_REMEDY = "choose another value"


@dataclass(frozen=True)
class NetworkSettings:
    """What is trained.

    Attributes:
        architecture: a name of `viscera.nets`.
        widths: channels of each level; the architecture's own where absent.
        norm: batch, group or instance; the architecture's own where absent.
    """

    architecture: str
    widths: tuple[int, ...] = ()
    norm: Norm | None = None


@dataclass(frozen=True)
class DataSettings:
    """Which samples are drawn.

    Attributes:
        labelled_slices_only: slice networks: leave slices without any label out (paper).
        organ_share: share of samples that are centred on a random voxel of a random organ.
        pseudo_weight: how much a sample of a pseudo-labelled set counts in the loss.
        patch_sizes: patch networks: sizes x, y, z of which each step takes one; the patch's own
            where absent. A network with instance normalisation depends on what a window holds.
        exclude: patterns of names of cases that are not trained on, such as ``synthetic_*``.
        coarsest: patch networks: each step is resampled to a grid that is coarser by a factor from
            1 to this, so that one set of weights serves several grids.
    """

    labelled_slices_only: bool = False
    organ_share: float = 0.0
    pseudo_weight: float = 1.0
    exclude: tuple[str, ...] = ()
    patch_sizes: tuple[tuple[int, int, int], ...] = ()
    coarsest: float = 1.0

    def __post_init__(self) -> None:
        _check_share(self.organ_share, "organ_share")
        _check_share(self.pseudo_weight, "pseudo_weight")
        if not 1 <= self.coarsest <= 4:
            raise UsageError("coarsest from 1 to 4", found=f"{self.coarsest:g}", remedy=_REMEDY)


@dataclass(frozen=True)
class SplitSettings:
    """Which patients form the validation set. Cases of one patient always stay together.

    Attributes:
        folds: how many parts; 0 holds nobody back.
        fold: which part is the validation set, from 0.
        seed: shuffles patients.
    """

    folds: int = 5
    fold: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 0 or self.folds == 1:
            raise UsageError("folds of 0, or 2 and more", found=f"{self.folds}", remedy=_REMEDY)
        if self.seed < 0:
            raise UsageError("a seed of 0 and more", found=f"{self.seed}", remedy=_REMEDY)
        if not 0 <= self.fold < max(self.folds, 1):
            raise UsageError(
                f"a fold from 0 to below {self.folds}", found=f"{self.fold}", remedy=_REMEDY
            )


@dataclass(frozen=True)
class AugmentSettings:
    """How samples are varied. Magnitudes are limits, shares are probabilities; 0 leaves it out.

    Attributes:
        rotate_deg, scale, shift: of an affine map; scale 0.2 means 0.8 to 1.2, shift is a share
            of the field of view.
        elastic: displacement of a smooth random field, in voxels.
        in_plane_loss: samples that lose resolution in plane.
        slice_loss: samples that are averaged into thick slices.
        slice_mm: thinnest and thickest of these.
        contrast: samples whose organs are each shifted in HU, as another contrast phase would.
        window: samples whose intensities are stretched and shifted.
        noise, blur: samples with noise, with another kernel (softer or sharper).
        field_of_view, z_crop: samples cut in plane, along z.
        mirror: samples mirrored left to right, their right and left organs swapped.
    """

    rotate_deg: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    in_plane_loss: float = 0.0
    slice_loss: float = 0.0
    slice_mm: tuple[float, float] = (1.0, 8.0)
    contrast: float = 0.0
    window: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    field_of_view: float = 0.0
    z_crop: float = 0.0
    mirror: float = 0.0

    def __post_init__(self) -> None:
        names = "in_plane_loss slice_loss contrast window noise blur field_of_view z_crop mirror"
        for name in names.split():
            _check_share(getattr(self, name), name)
        if not 0 <= self.scale < 1:
            raise UsageError("a scale from 0 to below 1", found=f"{self.scale}", remedy=_REMEDY)
        if min(self.rotate_deg, self.shift, self.elastic) < 0:
            raise UsageError(
                "rotate_deg, shift and elastic of 0 and more",
                found="a negative one",
                remedy=_REMEDY,
            )
        if not 0 < self.slice_mm[0] <= self.slice_mm[1]:
            raise UsageError(
                "a rising slice_mm above 0", found=f"{list(self.slice_mm)}", remedy=_REMEDY
            )


@dataclass(frozen=True)
class LossSettings:
    """What is minimised: a weighted sum.

    Attributes:
        dice, cross_entropy: weights of soft Dice and of cross-entropy.
        deep_supervision: weight of each coarser level's loss, relative to the level before it.
        distillation: weight of the cross-entropy with a teacher's soft scores.
    """

    dice: float = 1.0
    cross_entropy: float = 1.0
    deep_supervision: float = 0.0
    distillation: float = 0.0

    def __post_init__(self) -> None:
        if min(self.dice, self.cross_entropy, self.deep_supervision, self.distillation) < 0:
            raise UsageError("weights of 0 and more", found="a negative one", remedy=_REMEDY)
        if self.dice + self.cross_entropy + self.distillation == 0:
            raise UsageError("some weight above 0", found="none", remedy=_REMEDY)


@dataclass(frozen=True)
class OptimisationSettings:
    """How it is minimised.

    Attributes:
        epochs: passes over the training samples.
        steps_per_epoch: steps of one epoch; absent: as many as show every sample once. Networks
            over patches, which have no such number, need it.
        batch: samples of one step, over all processes.
        optimiser: adamw (decoupled weight decay) or adam.
        learning_rate: its highest value.
        schedule: cosine falls to 0 over all steps; constant stays.
        warmup_steps: over which the learning rate rises from 0.
        weight_decay: of the optimiser.
        clip_norm: longest gradient; 0 does not clip.
        ema: decay of the moving average of weights; 0 keeps none.
        precision: bf16 (automatic mixed precision) or f32.
        depthwise: whether 3-D depthwise kernels are learnt; fixed, a step on a CPU
            is quicker.
        seed: of everything random.
        validate_every: epochs between validations on whole volumes; 0: at the end only.
        checkpoint_minutes: between checkpoints.
    """

    epochs: int = 100
    batch: int = 8
    steps_per_epoch: int | None = None
    optimiser: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    clip_norm: float = 0.0
    ema: float = 0.0
    precision: Literal["bf16", "f32"] = "bf16"
    depthwise: bool = True
    seed: int = 0
    validate_every: int = 10
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch, self.steps_per_epoch or 1) < 1:
            raise UsageError(
                "epochs, batch and steps_per_epoch of 1 and more", found="fewer", remedy=_REMEDY
            )
        if self.learning_rate <= 0 or min(self.weight_decay, self.clip_norm) < 0:
            raise UsageError(
                "a learning_rate above 0, no negative weight_decay or clip_norm",
                found="otherwise",
                remedy=_REMEDY,
            )
        if self.seed < 0:
            raise UsageError("a seed of 0 and more", found=f"{self.seed}", remedy=_REMEDY)
        if not 0 <= self.ema < 1:
            raise UsageError("an ema from 0 to below 1", found=f"{self.ema}", remedy=_REMEDY)
        if min(self.warmup_steps, self.validate_every, self.checkpoint_minutes) < 0:
            raise UsageError(
                "warmup_steps, validate_every and checkpoint_minutes of 0 and more",
                found="a negative one",
                remedy=_REMEDY,
            )


def _check_share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} from 0 to 1", found=f"{value}", remedy=_REMEDY)
