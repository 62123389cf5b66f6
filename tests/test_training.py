"""Training: losses, augmentation, the loop that resumes, and what goes wrong."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="needs the extra 'train'")

from tests.data_sets import LEARNS, nnunet_folder, recipe_file  # noqa: E402
from viscera.cli.main import viscera as command  # noqa: E402
from viscera.errors import (  # noqa: E402
    InputError,
    OutputError,
    TrainingError,
    UsageError,
    VisceraError,
    command_line_wording,
)
from viscera.training import loop  # noqa: E402
from viscera.training.augment.batch import DeviceBatch, augment_batch  # noqa: E402
from viscera.training.checkpoint import LAST, load_weights  # noqa: E402
from viscera.training.data.cache import IGNORED  # noqa: E402
from viscera.training.data.prepare import prepare_data  # noqa: E402
from viscera.training.data.sampling import Sampler  # noqa: E402
from viscera.training.distributed import ProcessGroup  # noqa: E402
from viscera.training.journal import read_journal  # noqa: E402
from viscera.training.loop import (  # noqa: E402
    InitialWeights,
    Training,
    TrainingCallbacks,
    new_network,
)
from viscera.training.losses import LossWeights, dice_cross_entropy, training_loss  # noqa: E402
from viscera.training.optimise import WeightAverage, learning_rate  # noqa: E402
from viscera.training.recipe import read_recipe  # noqa: E402
from viscera.training.settings import AugmentSettings, LossSettings, OptimisationSettings  # noqa: E402

ALONE = ProcessGroup(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return nnunet_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return tmp_path_factory.mktemp("caches")


def setting_up(tmp_path, data, caches, *settings, rank=2):
    """A recipe and both sides of its split; caches are shared by recipes of one grid."""
    recipe, text = read_recipe(recipe_file(tmp_path / "recipe.toml", rank=rank), settings)
    return recipe, text, prepare_data([data], recipe, caches / recipe.grid_digest)


def training(tmp_path, recipe, found, name="run", **options):
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return Training(recipe, found.train, found.validation_cases, folder, ALONE, **options)


# Losses


def samples_of(labels, annotated=None, classes=4):
    labels = torch.as_tensor(labels, dtype=torch.uint8)
    count = len(labels)
    if annotated is None:
        annotated = torch.ones(count, classes, dtype=torch.bool)
    return DeviceBatch(
        torch.zeros(count, 1, *labels.shape[2:]),
        labels,
        torch.as_tensor(annotated),
        torch.ones(count),
        torch.ones(count, 3),
        tuple(labels.shape[-2:]),
    )


def plain_loss(scores, labels, annotated, weight, dice, cross_entropy):
    """The formula written plainly, for autograd to differentiate."""
    shares = scores.softmax(1)
    speaks = annotated.view(*annotated.shape, *[1] * (scores.dim() - 2)).float()
    background = shares[:, :1] + (shares * (1 - speaks)).sum(1, keepdim=True)
    shares = torch.cat((background, shares[:, 1:] * speaks[:, 1:]), 1)
    counted = (labels != IGNORED).unsqueeze(1)
    index = torch.where(counted, labels.unsqueeze(1), 0)
    truth = torch.zeros_like(shares).scatter_(1, index, 1.0) * counted
    axes = tuple(range(2, scores.dim()))
    voxels = counted.flatten(1).sum(1).clamp(min=1)
    entropy = -(shares.gather(1, index).log() * counted).flatten(1).sum(1) / voxels
    speaks = annotated * weight[:, None]
    inter = ((shares * truth).sum(axes) * speaks).sum(0)
    total = ((shares * counted + truth).sum(axes) * speaks).sum(0)
    each = 1 - (2 * inter + 1) / (total + 1)
    of_sample = (each * annotated).sum(1) / annotated.sum(1)
    return ((dice * of_sample + cross_entropy * entropy) * weight).mean()


@pytest.mark.parametrize("space", [(6, 5), (4, 3, 5)])
@pytest.mark.parametrize(("dice", "cross_entropy"), [(1.0, 1.0), (1.0, 0.0), (0.0, 0.7)])
@pytest.mark.parametrize("partly", [False, True])
def test_the_loss_and_its_gradient_are_the_formulas(space, dice, cross_entropy, partly):
    torch.manual_seed(0)
    scores = torch.randn(3, 5, *space, requires_grad=True)
    labels = torch.randint(0, 5, (3, *space))
    annotated = torch.ones(3, 5, dtype=torch.bool)
    if partly:
        labels[0, :2] = IGNORED
        annotated[1, [2, 4]] = annotated[2, 1] = False
        labels[1], labels[2][labels[2] == 1] = 0, 0
    weight = torch.tensor([1.0, 0.5, 0.25])
    wanted = plain_loss(scores, labels, annotated, weight, dice, cross_entropy)
    found = dice_cross_entropy(scores, labels, annotated, weight, LossWeights(dice, cross_entropy))
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    (theirs,), (ours,) = (torch.autograd.grad(loss, scores) for loss in (wanted, found))
    assert torch.allclose(ours, theirs, atol=1e-7, rtol=1e-4)


def test_cross_entropy_is_torchs_own_where_all_is_annotated():
    scores, labels = torch.randn(3, 4, 6, 5), torch.randint(0, 4, (3, 6, 5))
    everything = torch.ones(3, 4, dtype=torch.bool)
    ours = dice_cross_entropy(scores, labels, everything, torch.ones(3), LossWeights(0.0, 1.0))
    assert float(ours) == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)))


@pytest.mark.parametrize("how", [LossSettings(), LossSettings(1, 0), LossSettings(0, 1)])
def test_what_is_ignored_has_no_gradient(how):
    labels = torch.randint(0, 4, (2, 1, 6, 6))
    labels[:, :, :3] = IGNORED
    scores = torch.randn(2, 4, 6, 6, requires_grad=True)
    training_loss(scores, samples_of(labels), how).backward()
    assert (scores.grad[:, :, :3] == 0).all()
    assert (scores.grad[:, :, 3:] != 0).any()


@pytest.mark.parametrize("how", [LossSettings(1, 0), LossSettings(0, 1), LossSettings()])
def test_an_organ_that_is_not_annotated_may_be_found_for_free(how):
    """Background where organ 2 is not annotated: organ 2 is as right as background, 1 is not."""
    labels = torch.zeros(1, 1, 4, 4)
    annotated = [[True, True, False, True]]

    def loss(channel):
        scores = torch.zeros(1, 4, 4, 4)
        scores[:, channel] = 12
        return float(training_loss(scores, samples_of(labels, annotated), how))

    assert loss(2) == pytest.approx(loss(0), abs=1e-4)
    assert loss(1) > loss(0) + 0.2
    # Where all is annotated it costs.
    scores = torch.zeros(1, 4, 4, 4)
    scores[:, 2] = 12
    assert float(training_loss(scores, samples_of(labels), how)) > loss(0) + 0.2


def test_weights_of_samples_scale_their_loss():
    scores, labels = torch.randn(2, 4, 5, 5), torch.randint(0, 4, (2, 1, 5, 5))
    samples = samples_of(labels)
    alone = [
        float(training_loss(scores[n : n + 1], samples_of(labels[n : n + 1]), LossSettings(0, 1)))
        for n in (0, 1)
    ]
    weighed = replace(samples, weight=torch.tensor([0.25, 1.0]))
    expected = (0.25 * alone[0] + alone[1]) / 2
    assert float(training_loss(scores, weighed, LossSettings(0, 1))) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_sample_without_weight_has_no_gradient():
    scores = torch.randn(2, 4, 5, 5, requires_grad=True)
    samples = samples_of(torch.randint(0, 4, (2, 1, 5, 5)))
    training_loss(
        scores, replace(samples, weight=torch.tensor([1.0, 0.0])), LossSettings()
    ).backward()
    assert (scores.grad[1] == 0).all()
    assert (scores.grad[0] != 0).any()


def test_deep_supervision_weighs_levels_by_powers():
    labels = torch.randint(0, 4, (1, 8, 8, 8))
    fine, half = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 4, 4, 4, 4)
    how = LossSettings(deep_supervision=0.5)
    both = float(training_loss([fine, half], samples_of(labels), how))
    one = float(training_loss(fine, samples_of(labels), how))
    other = float(training_loss(half, samples_of(labels[:, 1::2, 1::2, 1::2]), how))
    assert both == pytest.approx((one + 0.5 * other) / 1.5, rel=1e-5)


def test_a_teacher_is_learnt_from_where_labels_are_ignored():
    labels = torch.full((1, 1, 4, 4), IGNORED)
    teacher = torch.stack([torch.full((1, 1, 4, 4), v, dtype=torch.uint8) for v in (2, 0, 255)], 1)
    samples = replace(samples_of(labels), teacher=teacher)
    scores = torch.zeros(1, 4, 4, 4, requires_grad=True)
    loss = training_loss(scores, samples, LossSettings(distillation=1.0))
    assert float(loss.detach()) == pytest.approx(np.log(4), rel=1e-4)
    loss.backward()
    assert (scores.grad[:, 2] < 0).all()
    assert (scores.grad[:, [0, 1, 3]] > 0).all()


# Augmentation


def everything(**changes):
    names = "in_plane_loss slice_loss contrast window noise blur field_of_view z_crop mirror"
    shares = dict.fromkeys(names.split(), 0.7)
    how = AugmentSettings(rotate_deg=15, scale=0.2, shift=0.1, elastic=2.0, **shares)
    return replace(how, **changes)


OF_STACKS = {"slice_loss": 0.0, "z_crop": 0.0}  # what slice networks do not have


@pytest.mark.parametrize("rank", [2, 3])
def test_augmentation_is_repeatable_and_keeps_what_it_must(tmp_path, data, caches, rank):
    recipe, _, found = setting_up(tmp_path, data, caches, rank=rank)
    recipe = replace(recipe, augment=everything(**(OF_STACKS if rank == 2 else {})))
    samples = DeviceBatch.of(Sampler(found.train, recipe).batch(0), torch.device("cpu"))

    def draw(seed):
        return augment_batch(samples, recipe, torch.Generator().manual_seed(seed))

    one, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(one.image, again.image)
    assert torch.equal(one.labels, again.labels)
    assert not torch.equal(one.image, other.image)
    assert one.image.shape == samples.image.shape
    assert one.labels.dtype == torch.uint8
    assert 0 <= one.image.min() <= one.image.max() <= 1
    assert set(one.labels.unique().tolist()) <= {*range(14), IGNORED}


@pytest.mark.parametrize("rank", [2, 3])
def test_image_and_labels_move_together(tmp_path, data, caches, rank):
    """An image that is its own label map still is one after moving, but for its borders."""
    recipe, _, found = setting_up(tmp_path, data, caches, rank=rank)
    moving = AugmentSettings(rotate_deg=20, scale=0.2, shift=0.1, elastic=1.0)
    recipe = replace(recipe, augment=moving)
    samples = DeviceBatch.of(Sampler(found.train, recipe).batch(1), torch.device("cpu"))
    liver = (samples.labels == 1).float()
    samples = replace(samples, image=liver.expand_as(samples.image).contiguous())
    moved = augment_batch(samples, recipe, torch.Generator().manual_seed(0))
    centre = moved.image[:, moved.image.shape[1] // 2][:, None] if rank == 2 else moved.image
    sure = (moved.labels != IGNORED) & ((centre < 0.02) | (centre > 0.98))
    assert sure.float().mean() > 0.5
    assert (((centre > 0.5) == (moved.labels == 1)) | ~sure).float().mean() > 0.995
    assert (moved.labels == 1).any()


def test_mirroring_swaps_right_and_left(tmp_path, data, caches):
    recipe, _, found = setting_up(tmp_path, data, caches)
    recipe = replace(recipe, augment=AugmentSettings(mirror=1.0))
    samples = DeviceBatch.of(Sampler(found.train, recipe).batch(0), torch.device("cpu"))
    right, left = (recipe.labels.index(f"kidney_{side}") for side in ("right", "left"))
    labels = samples.labels.clone()
    labels[:, :, 4:8, 3:6] = right
    annotated = samples.annotated.clone()
    annotated[:, left] = False
    turned = augment_batch(
        replace(samples, labels=labels, annotated=annotated), recipe, torch.Generator()
    )
    assert torch.equal(turned.image, samples.image.flip(-1))
    assert (turned.labels[:, :, 4:8, -6:-3] == left).all()
    assert (turned.labels == 1).sum() == (labels == 1).sum()
    assert turned.annotated[:, left].all()
    assert not turned.annotated[:, right].any()
    # A network that knows one side only cannot be mirrored.
    one_sided = tuple(name for name in recipe.labels if name != "kidney_left")
    with pytest.raises(UsageError, match="both sides of a pair"):
        replace(recipe, labels=one_sided)


def test_slices_beyond_a_cut_stack_are_mirrored_and_ignored():
    from viscera.training.augment.geometry import truncate_stack

    image = torch.arange(20.0).view(-1, 1, 1).expand(20, 2, 2)
    cut, beyond = truncate_stack(image, torch.Generator().manual_seed(1), mirror=True)
    inside = torch.nonzero(~beyond).flatten().tolist()
    assert 0 < len(inside) < 20
    assert inside == list(range(inside[0], inside[-1] + 1))
    assert (cut[inside] == image[inside]).all()
    if inside[0]:
        assert cut[inside[0] - 1, 0, 0] == inside[0] + 1  # a mirror image, the border not repeated


def test_a_teacher_is_not_heard_where_the_image_was_cut(tmp_path, data, caches):
    recipe, _, found = setting_up(tmp_path, data, caches, rank=3)
    recipe = replace(recipe, augment=AugmentSettings(field_of_view=1.0, z_crop=1.0))
    samples = DeviceBatch.of(Sampler(found.train, recipe).batch(0), torch.device("cpu"))
    labels = samples.labels.clone()
    labels[:, :, :2] = IGNORED
    teacher = torch.ones(len(labels), 3, *labels.shape[1:], dtype=torch.uint8)
    cut = augment_batch(
        replace(samples, labels=labels, teacher=teacher), recipe, torch.Generator().manual_seed(2)
    )
    assert (cut.teacher[:, 0] == IGNORED).any()
    heard = cut.teacher[:, 0] != IGNORED
    # What is heard lies where it lay, and what was cut off in plane is empty.
    assert torch.equal(cut.image[heard], samples.image[heard])
    assert (cut.labels[:, :, :2] == IGNORED).all()


def test_rotations_are_rigid_in_millimetres():
    from viscera.training.augment.geometry import deformation_points

    spacing = torch.tensor([[6.0, 1.5, 3.0]])
    sizes = (10, 20, 16)
    points = deformation_points(
        sizes, spacing, AugmentSettings(rotate_deg=40), torch.Generator().manual_seed(0)
    )
    mm = points * torch.tensor([16 * 3.0, 20 * 1.5, 10 * 6.0]) / 2  # x, y, z
    for axis, step in ((1, 6.0), (2, 1.5), (3, 3.0)):
        assert torch.allclose(mm.diff(dim=axis).norm(dim=-1), torch.tensor(step), atol=1e-3)


def test_thick_slices_are_means():
    from viscera.training.augment.intensity import thicken_slices

    image = torch.rand(24, 3, 3)
    thick = thicken_slices(image, 1.0, (8.0, 8.0), torch.Generator())
    assert thick.shape == image.shape
    assert thick.mean() == pytest.approx(float(image.mean()), abs=0.02)
    assert thick.diff(dim=0).abs().mean() < 0.3 * image.diff(dim=0).abs().mean()
    assert torch.equal(thicken_slices(image, 5.0, (1.0, 4.0), torch.Generator()), image)


# Optimisation


def test_the_learning_rate_rises_and_falls():
    how = OptimisationSettings(learning_rate=0.1, warmup_steps=4)
    rates = [learning_rate(step, 100, how) for step in range(100)]
    assert rates[0] == pytest.approx(0.025)
    assert rates[50] == pytest.approx(0.05)
    assert rates[-1] < 1e-4
    assert learning_rate(99, 100, replace(how, schedule="constant")) == 0.1


def test_the_average_follows_slowly():
    network = torch.nn.Linear(1, 1)
    average = WeightAverage(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(10.0)
    for step in range(200):
        average.follow(network, step)
    assert float(average.network.weight) == pytest.approx(10.0, abs=1e-3)


# The loop


def weights(folder):
    from safetensors.torch import load

    return load((folder / LAST).read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [2, 3])
def test_a_training_learns(tmp_path, data, caches, rank):
    settings = *LEARNS[rank], "optimisation.validate_every=0"
    recipe, _, found = setting_up(tmp_path, data, caches, *settings, rank=rank)
    run = training(tmp_path, recipe, found)
    assert run.run()
    losses = [line["loss"] for line in read_journal(tmp_path / "run") if line["kind"] == "train"]
    assert losses[-1] < 0.75 * losses[0]
    assert run.validation.by_organ["liver"] > 0.3
    assert (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.hostile(90)
@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("optimisation.ema=0.9",),
        ("network.norm=batch", "optimisation.precision=bf16", "augment.noise=0.5",
         "augment.rotate_deg=10.0", "data.organ_share=0.5"),
    ],
)  # fmt: skip
def test_interrupted_anywhere_and_resumed_it_ends_in_the_same_weights(
    tmp_path, data, caches, settings
):
    """Hostile-input 90: bit-equal on one CPU."""
    recipe, _, found = setting_up(tmp_path, data, caches, *settings)
    whole = training(tmp_path, recipe, found, "whole")
    assert whole.run()
    stop = int(np.random.default_rng(4).integers(3, whole.steps - 3))

    def interrupt(step, _steps, _loss):
        if step == stop:
            raise KeyboardInterrupt

    cut = training(tmp_path, replace(recipe, optimisation=replace(
        recipe.optimisation, checkpoint_minutes=0.0)), found, "cut")  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        cut.run(callbacks=TrainingCallbacks(step=interrupt))
    resumed = training(tmp_path, recipe, found, "cut")
    assert 0 < resumed.state.step < whole.steps
    assert resumed.run()
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    lines = [read_journal(tmp_path / name) for name in ("whole", "cut")]
    steps = [[line["step"] for line in part if line["kind"] == "validation"] for part in lines]
    assert steps[0] == steps[1]


def test_it_stops_at_a_checkpoint_when_time_is_over(tmp_path, data, caches):
    recipe, _, found = setting_up(tmp_path, data, caches, "optimisation.epochs=1000")
    run = training(tmp_path, recipe, found)
    assert not run.run(minutes=0.02)
    done = run.state.step
    assert 0 < done < run.steps
    assert training(tmp_path, recipe, found).state.step == done
    assert not training(tmp_path, recipe, found).run(minutes=0)
    assert training(tmp_path, recipe, found).state.step == done


def poisoned(times):
    """Losses that are no numbers, this many times, then real ones."""
    real, count = loop.training_loss, iter(range(10**6))

    def loss(scores, samples, how):
        value = real(scores, samples, how)
        return value * float("nan") if next(count) < times else value

    return loss


@pytest.mark.hostile(89)
def test_a_loss_that_is_no_number_is_skipped(tmp_path, data, caches, monkeypatch):
    """Hostile-input 89."""
    settings = "network.norm=batch", "optimisation.epochs=1", "optimisation.ema=0.5"
    recipe, _, found = setting_up(tmp_path, data, caches, *settings)
    monkeypatch.setattr(loop, "training_loss", poisoned(2))
    run = training(tmp_path, recipe, found)
    assert run.run()
    assert run.state.skipped == 2
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


@pytest.mark.hostile(89)
def test_three_in_a_row_stop_it_and_the_last_checkpoint_stands(tmp_path, data, caches, monkeypatch):
    recipe, _, found = setting_up(tmp_path, data, caches)
    run = training(tmp_path, recipe, found)
    run.run(minutes=0)
    before = weights(tmp_path / "run")
    monkeypatch.setattr(loop, "training_loss", poisoned(3))
    with pytest.raises(TrainingError, match="3 steps in a row") as caught:
        training(tmp_path, recipe, found).run()
    assert caught.value.exit_code == 9
    after = weights(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.hostile(92)
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, data, caches, monkeypatch):
    """Hostile-input 92."""
    recipe, _, found = setting_up(tmp_path, data, caches)
    training(tmp_path, recipe, found).run(minutes=0)
    before = (tmp_path / "run" / LAST).read_bytes()
    real = os.fsync

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr("viscera.training.journal.write_text", lambda *_, **__: None)
    again = training(tmp_path, recipe, found)
    with pytest.raises(OutputError, match="No space left"):
        again.run(minutes=0.02)
    monkeypatch.setattr(os, "fsync", real)
    assert (tmp_path / "run" / LAST).read_bytes() == before
    assert not list((tmp_path / "run").glob(".viscera-*"))


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path, data, caches):
    recipe, _, found = setting_up(tmp_path, data, caches)
    training(tmp_path, recipe, found).run(minutes=0)
    path = tmp_path / "run" / LAST
    wider = replace(recipe, network=replace(recipe.network, widths=(8, 8, 8, 8)))
    with pytest.raises(InputError, match="weights of this network"):
        training(tmp_path, wider, found, "other", init=InitialWeights(path))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match="a checkpoint"):
        training(tmp_path, recipe, found)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="a checkpoint"):
        load_weights(path, new_network(recipe))


def test_another_recipes_checkpoint_is_not_gone_on_with(tmp_path, data, caches):
    recipe, _, found = setting_up(tmp_path, data, caches)
    training(tmp_path, recipe, found).run(minutes=0)
    faster = replace(recipe, optimisation=replace(recipe.optimisation, learning_rate=0.5))
    with pytest.raises(InputError, match="a checkpoint of this recipe"):
        training(tmp_path, faster, found)


def test_a_training_can_begin_with_other_weights(tmp_path, data, caches):
    recipe, _, found = setting_up(tmp_path, data, caches, "optimisation.epochs=1")
    training(tmp_path, recipe, found).run()
    begun = training(
        tmp_path, recipe, found, "second", init=InitialWeights(tmp_path / "run" / LAST)
    )
    assert begun.state.step == 0
    begun.run(minutes=0)
    one, other = weights(tmp_path / "run"), weights(tmp_path / "second")
    own = [name for name in one if name.startswith("network.")]
    assert all(torch.equal(one[name], other[name]) for name in own)


def test_half_precision_weights_can_begin_a_training(tmp_path, data, caches):
    """Weights are committed as fp16."""
    from safetensors.torch import load, save_file

    recipe, _, found = setting_up(tmp_path, data, caches)
    training(tmp_path, recipe, found).run(minutes=0)
    tensors = load((tmp_path / "run" / LAST).read_bytes())
    own = {k: v.half() for k, v in tensors.items() if k.startswith("network.")}
    save_file(own, tmp_path / "small.safetensors")
    network = new_network(recipe)
    load_weights(tmp_path / "small.safetensors", network)
    assert next(network.parameters()).dtype == torch.float32


# The command


def viscera(*arguments, **options):
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "viscera", *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_trains_stops_and_goes_on(tmp_path, data):
    recipe = recipe_file(tmp_path / "recipe.toml")
    call = ("train", recipe, data, "-o", tmp_path / "run", "--set", "split.folds=2", "--threads", 1)
    assert viscera(*call, "--prepare").returncode == 0
    assert not (tmp_path / "run" / "recipe.toml").exists()
    stopped = viscera(*call, "--minutes", 0)
    assert stopped.returncode == 0, stopped.stderr
    assert "--resume continues" in stopped.stderr
    again = viscera(*call)
    assert again.returncode == 5
    assert "pass --resume" in again.stderr
    other = viscera(*call, "--resume", "--set", "optimisation.learning_rate=0.5")
    assert other.returncode == 5
    assert "optimisation.learning_rate was 0.001, is 0.5" in other.stderr
    done = viscera(*call, "--resume")
    assert done.returncode == 0, done.stderr
    assert "training on 2 cases of 2 patients, validation on 2 of 2" in done.stderr
    assert "done; step" in done.stderr
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"last.safetensors", "best.safetensors", "metrics.jsonl", "curves.png",
            "validation.png", "recipe.toml", "split.json"} <= names  # fmt: skip
    kept, _ = read_recipe(tmp_path / "run" / "recipe.toml")
    assert kept.split.folds == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("optimisation.epoch=3", "did you mean 'epochs'"),
        ("network.architecture=unet", "dsunet16, unet64, visceranet"),
        ("data.organ_share=2.0", "organ_share from 0 to 1"),
        ("slices.stack=2", "an odd stack"),
        ("patch.size=[8, 8, 8]", "either"),
        ("loss.distillation=1.0", "--teacher"),
        ("nonsense", "--set table.key=value"),
        ("network.architecture.x=1", "which is not a table"),
        ("loss.deep_supervision=0.5", "no deep_supervision for dsunet16"),
        ("slices.size=[30, 30]", "sizes divisible by 8 with 4 widths"),
        ("network.widths=[4]", "two widths and more"),
        ("optimisation.seed=-1", "a seed of 0 and more"),
        ("augment.z_crop=0.5", "z_crop with [patch]"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(tmp_path, data, change, says):
    recipe = recipe_file(tmp_path / "recipe.toml")
    call = ["train", recipe, data, "-o", tmp_path / "run", "--set", change]
    with pytest.raises(VisceraError) as refusal:
        CliRunner().invoke(command, [str(word) for word in call], catch_exceptions=False)
    assert refusal.value.exit_code in (2, 3)
    assert says in refusal.value.message(command_line_wording)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_it_stops_softly_when_asked_to(tmp_path, data):
    recipe = recipe_file(tmp_path / "recipe.toml")
    call = ["train", recipe, data, "-o", tmp_path / "run", "--threads", 1,
            "--set", "optimisation.epochs=100000",
            "--set", "optimisation.seed=20240101"]  # fmt: skip
    worker = subprocess.Popen(
        [sys.executable, "-m", "viscera", *map(str, call)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not read_journal(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 143, said
    assert "--resume continues" in said
    assert json.loads(header_of(tmp_path / "run" / LAST)["reached"])["step"] >= 10


def header_of(path):
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size])["__metadata__"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path, data):
    """torchrun with gloo: the weights are those of one process with the whole batch."""
    recipe = recipe_file(tmp_path / "recipe.toml")
    call = ["train", recipe, data, "--cache", tmp_path / "cache", "--threads", 1,
            "--set", "optimisation.epochs=1"]  # fmt: skip
    one = viscera(*call, "-o", tmp_path / "one")
    assert one.returncode == 0, one.stderr
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2",
                "--master_port", free_port(), "-m", "viscera"]  # fmt: skip
    two = subprocess.run(
        list(map(str, [*torchrun, *call, "-o", tmp_path / "two"])),
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    first, second = weights(tmp_path / "one"), weights(tmp_path / "two")
    name = "network.score.weight"
    # Dice sums over a process's own samples, so they agree closely, not exactly.
    start = new_network(read_recipe(recipe)[0]).state_dict()["score.weight"]
    moved = (first[name] - start).norm()
    assert (first[name] - second[name]).norm() < 0.35 * moved
    lines = [line for line in read_journal(tmp_path / "two") if line["kind"] == "validation"]
    assert len(lines) == 1  # one process writes


@pytest.mark.hostile(94)
@pytest.mark.slow
def test_a_process_that_dies_takes_the_others_with_it(tmp_path, data):
    """Hostile-input 94."""
    recipe = recipe_file(tmp_path / "recipe.toml")
    call = ["train", recipe, data, "-o", tmp_path / "run", "--cache", tmp_path / "cache",
            "--threads", 1, "--set", "optimisation.epochs=100000"]  # fmt: skip
    viscera(*call, "--prepare")
    port = free_port()
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "viscera", *map(str, call)],
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not read_journal(tmp_path / "run") and time.monotonic() < deadline:
            assert all(worker.poll() is None for worker in workers)
            time.sleep(0.2)
        workers[1].send_signal(signal.SIGKILL)
        assert workers[0].wait(timeout=60) != 0
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_a_batch_that_processes_cannot_share_is_refused(tmp_path, data):
    recipe = recipe_file(tmp_path / "recipe.toml")
    done = viscera("train", recipe, data, "-o", tmp_path / "run", env={"WORLD_SIZE": "3"})
    assert done.returncode == 2
    assert "4 for 3 processes" in done.stderr


def test_checkpoints_are_no_pickles(tmp_path, data, caches):
    recipe, _, found = setting_up(tmp_path, data, caches)
    training(tmp_path, recipe, found).run(minutes=0)
    assert json.loads(header_of(tmp_path / "run" / LAST)["reached"])["step"] == 0
