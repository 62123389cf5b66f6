"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from viscera.errors import InputError, TrainingError, option
from viscera.nets.registry import build_network
from viscera.training.augment.batch import DeviceBatch, augment_batch
from viscera.training.checkpoint import (
    BEST,
    LAST,
    TrainingState,
    begin_with_weights,
    load_checkpoint,
    save_checkpoint,
)
from viscera.training.data.cache import CachedCase
from viscera.training.data.sampling import Sampler
from viscera.training.distributed import ProcessGroup
from viscera.training.journal import Journal
from viscera.training.losses import training_loss
from viscera.training.optimise import WeightAverage, learning_rate, make_optimiser
from viscera.training.recipe import Recipe
from viscera.training.validation import Validation, validate

_MOST_SKIPPED = 3  # in a row
_NOTE_EVERY = 10  # steps
# Fastest on CPUs with batch normalisation; GroupNorm's backward pass is slow in it.
_CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
# On a GPU a step is short, and its samples are cut by several threads meanwhile. On a CPU they
# would take the network's cores.
_READERS = {"cuda": 6}


@dataclass(frozen=True)
class TrainingCallbacks:
    """Functions that are called during the work; by default they do nothing.

    Attributes:
        step: takes steps done, all steps, and the loss.
        validation: takes steps done and what was found.
        stop: asked after each step whether to stop at a checkpoint.
    """

    step: Callable[[int, int, float], None] = lambda _step, _steps, _loss: None
    validation: Callable[[int, Validation], None] = lambda _step, _validation: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class InitialWeights:
    """Weights that a training begins with.

    Attributes:
        path: a .safetensors file.
        labels: of their outputs; empty where it is not known.
    """

    path: Path
    labels: tuple[str, ...] = ()


def new_network(recipe: Recipe) -> nn.Module:
    """The recipe's network; its random weights follow from the recipe's seed."""
    channels = recipe.slices.stack if recipe.slices else 1
    with torch.random.fork_rng():
        torch.manual_seed(recipe.optimisation.seed)
        network: nn.Module = build_network(
            recipe.network.architecture,
            channels=channels,
            classes=len(recipe.labels),
            widths=recipe.network.widths,
            norm=recipe.network.norm,
            supervised=recipe.loss.deep_supervision > 0,
        )
    return network


def training_step_seconds(recipe: Recipe) -> float:
    """What a step of a 3-D network takes on this machine's CPU, without cutting its samples.

    Args:
        recipe: of a network over patches.
    """
    assert recipe.patch is not None
    network = new_network(recipe).to(memory_format=_CHANNELS_LAST[3])
    size = (recipe.optimisation.batch, 1, *recipe.patch.size[::-1])
    image = torch.zeros(size).contiguous(memory_format=_CHANNELS_LAST[3])
    labels = torch.zeros((size[0], *size[2:]), dtype=torch.long)
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.optimisation.precision == "bf16"):
            scores = network(image)
        scores = scores[0] if isinstance(scores, list) else scores
        nn.functional.cross_entropy(scores.float(), labels).backward()
        seconds.append(time.monotonic() - start)
    return min(seconds[1:])  # the first one prepares


class Training:
    """One training in its folder, new or resumed.

    Attributes:
        state: how far it is.
        steps: of the whole recipe.
        validation: the last one, if there was any.
        new_labels: those of which the initial weights know nothing.
    """

    def __init__(
        self,
        recipe: Recipe,
        cases: Sequence[CachedCase],
        validation: Sequence[CachedCase],
        folder: Path,
        processes: ProcessGroup,
        *,
        init: InitialWeights | None = None,
        tensorboard: bool = False,
    ) -> None:
        """Set everything up as the last checkpoint left it.

        Args:
            recipe: all that decides the result.
            cases: to train on.
            validation: to validate with; may be empty.
            folder: takes checkpoints and the journal; exists.
            processes: this one among all.
            init: weights to begin with where there is no checkpoint.
            tensorboard: also write TensorBoard's files.

        Raises:
            InputError: a checkpoint is damaged, or weights are of another network.
        """
        self._recipe, self._validation_cases, self._folder, self._processes = (
            recipe,
            validation,
            folder,
            processes,
        )
        self._settings, self._device = recipe.optimisation, processes.device
        self._network = new_network(recipe)
        self._layout = _CHANNELS_LAST[3 if recipe.patch else 2]
        is_cuda_3d = recipe.patch is not None and self._device.type == "cuda"
        if is_cuda_3d or any(isinstance(m, nn.GroupNorm) for m in self._network.modules()):
            self._layout = torch.contiguous_format
        self._network.to(self._device, memory_format=self._layout)
        self.new_labels: tuple[str, ...] = ()
        if init is not None:
            self.new_labels = begin_with_weights(
                init.path, self._network, labels=recipe.labels, old_labels=init.labels
            )
        self._optimiser = make_optimiser(self._network, self._settings)
        self._average = (
            WeightAverage(self._network, self._settings.ema) if self._settings.ema else None
        )
        self.state = TrainingState(recipe_digest=recipe.digest)
        if (folder / LAST).exists():
            self.state = load_checkpoint(
                folder / LAST, self._network, optimiser=self._optimiser, average=self._averaged
            )
            if self.state.recipe_digest != recipe.digest:
                raise InputError(
                    "a checkpoint of this recipe",
                    found="one of another",
                    remedy=f"begin with it by {option('init')}, in another folder",
                    where=folder / LAST,
                )
        self._trained: nn.Module = self._network
        if processes.world > 1:
            self._trained = DistributedDataParallel(self._network)
        self._sampler = Sampler(cases, recipe)
        self._per_epoch = self._settings.steps_per_epoch or -(
            -self._sampler.slices // self._settings.batch
        )
        self.steps = self._settings.epochs * self._per_epoch
        self.validation: Validation | None = None
        self._generator = torch.Generator(self._device)
        self._journal = None
        if processes.is_first:
            self._journal = Journal(folder, step=self.state.step, tensorboard=tensorboard)
        self._losses: list[float] = []
        self._skipped_in_a_row = 0
        self._before_s, self._begun = self.state.seconds, time.monotonic()

    def run(
        self, *, minutes: float | None = None, callbacks: TrainingCallbacks | None = None
    ) -> bool:
        """Train until all steps are done, or the minutes are over; both end in a checkpoint.

        Args:
            minutes: to train for at most; a step that has begun is finished.
            callbacks: called on progress.

        Returns:
            Whether all steps are done.

        Raises:
            TrainingError: three gradients in a row were no numbers.
            OutputError: a checkpoint cannot be written; the one before it stands.
        """
        callbacks = callbacks or TrainingCallbacks()
        saved = noted = self._begun = time.monotonic()
        limit_s = float("inf") if minutes is None else minutes * 60
        out_of_time = self._processes.any(limit_s <= 0)
        ahead = _READERS.get(self._device.type, 1)
        with ThreadPoolExecutor(ahead) as readers:  # while these samples are learnt from
            coming = deque(readers.submit(self._samples, self.state.step + n) for n in range(ahead))
            while self.state.step < self.steps and not out_of_time:
                samples = coming.popleft().result()
                if self.state.step + ahead < self.steps:
                    coming.append(readers.submit(self._samples, self.state.step + ahead))
                norm = self._learn(samples)
                step = self.state.step = self.state.step + 1
                callbacks.step(step, self.steps, self._losses[-1] if self._losses else float("nan"))
                if step % _NOTE_EVERY == 0 or step == self.steps:
                    self._note(norm, time.monotonic() - noted)
                    noted = time.monotonic()
                if self._validation_cases and self._is_validation_due(step):
                    self._validate(callbacks)
                    noted = time.monotonic()
                now = time.monotonic()
                over = callbacks.stop() or now - self._begun >= limit_s
                out_of_time = self._processes.any(over)
                if now - saved >= self._settings.checkpoint_minutes * 60:
                    self._checkpoint()
                    saved = time.monotonic()
        self._checkpoint()
        return self.state.step >= self.steps

    @property
    def _averaged(self) -> nn.Module | None:
        return self._average.network if self._average else None

    def _samples(self, step: int) -> DeviceBatch:
        processes = self._processes
        batch = self._sampler.batch(step, rank=processes.rank, world=processes.world)
        return DeviceBatch.of(batch, self._device)

    def _learn(self, samples: DeviceBatch) -> float:
        """One step; returns the gradient's length. One that is not finite changes nothing."""
        settings, step = self._settings, self.state.step
        # A step's randomness follows from its number alone, so that nothing has to be remembered.
        mixed_seed = np.random.SeedSequence([settings.seed, step, self._processes.rank])
        self._generator.manual_seed(int(mixed_seed.generate_state(1, np.uint64)[0] >> 1))
        samples = augment_batch(samples, self._recipe, self._generator)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(step, self.steps, settings)
        statistics = [buffer.clone() for buffer in self._network.buffers()]
        self._trained.train()
        mixed = torch.autocast(
            self._device.type, torch.bfloat16, enabled=settings.precision == "bf16"
        )
        with mixed:
            scores = self._trained(self._network_input(samples.image))
        loss = training_loss(scores, samples, self._recipe.loss)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        # The same in all processes, since gradients are, and so all decide alike.
        longest = settings.clip_norm or float("inf")
        norm = float(nn.utils.clip_grad_norm_(self._network.parameters(), longest))
        if norm - norm == 0:  # neither infinite nor NaN
            self._optimiser.step()
            if self._average:
                self._average.follow(self._network, step)
            self._losses.append(float(loss.detach()))
            self._skipped_in_a_row = 0
            return norm
        for buffer, saved in zip(self._network.buffers(), statistics, strict=True):
            buffer.copy_(saved)
        self.state.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == _MOST_SKIPPED:
            raise TrainingError(
                "gradients that are numbers",
                found=f"{_MOST_SKIPPED} steps in a row without one, at step {step + 1}",
                remedy="lower optimisation.learning_rate, or set clip_norm, and continue with "
                f"{option('resume')} from the last checkpoint",
                where=self._folder,
            )
        return norm

    def _network_input(self, image: Tensor) -> Tensor:
        """Shares of the HU window, normalised for the network: (N, C, y, x) or (N, 1, z, y, x)."""
        low, high = self._recipe.input.window_hu
        offset, divisor = self._recipe.input.scale
        image = image * ((high - low) / divisor) + (low - offset) / divisor
        image = image[:, None] if self._recipe.patch else image
        return image.contiguous(memory_format=self._layout)

    def _note(self, norm: float, seconds: float) -> None:
        if self._journal is None or not self._losses:
            return
        step, settings = self.state.step, self._settings
        values = {
            "epoch": round(step / self._per_epoch, 3),
            "loss": round(sum(self._losses) / len(self._losses), 6),
            "learning_rate": learning_rate(step - 1, self.steps, settings),
            "gradient_norm": round(norm, 5),
            "samples_per_s": round(settings.batch * len(self._losses) / seconds, 2),
            "skipped": self.state.skipped,
        }
        self._journal.note("train", step, values)
        self._losses = []

    def _is_validation_due(self, step: int) -> bool:
        every = self._settings.validate_every * self._per_epoch
        return step == self.steps or (every > 0 and step % every == 0)

    def _validate(self, callbacks: TrainingCallbacks) -> None:
        """On the first process, while the others wait; the best weights so far are kept."""
        if self._journal is not None:
            network = self._averaged or self._network
            validation = validate(network, self._recipe, self._validation_cases, self._device)
            step = self.state.step
            self._journal.note(
                "validation", step, {"mean_dsc": validation.mean_dsc, "dsc": validation.by_organ}
            )
            if validation.by_organ and validation.mean_dsc > self.state.best_dsc:
                self.state.best_dsc = validation.mean_dsc
                save_checkpoint(
                    self._folder / BEST, network, self.state, labels=self._recipe.labels
                )
            self.validation = validation
            callbacks.validation(step, validation)
        self._processes.wait()

    def _checkpoint(self) -> None:
        self.state.seconds = self._before_s + time.monotonic() - self._begun
        if self._processes.is_first:
            save_checkpoint(
                self._folder / LAST,
                self._network,
                self.state,
                optimiser=self._optimiser,
                average=self._averaged,
                labels=self._recipe.labels,
            )
