"""From a data set of other structures to a bundle, as docs/your-own-organ.md has it."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'train'")
pytest.importorskip("safetensors", reason="needs the extra 'train'")

import torch
from click.testing import CliRunner

import viscera
from tests.conftest import ROOT
from tests.data_sets import LEARNS, nnunet_folder, phantom_pair, recipe_file, write_pair
from viscera.bundle.read import read_bundle, weights_to_train
from viscera.bundle.structures import StructureSettings
from viscera.cli.recipe import command as recipe_command
from viscera.core.organs import FLARE13, ORGANS_BY_NAME
from viscera.errors import BundleError, InputError, OutputError, UsageError
from viscera.io.label_table_files import read_label_table
from viscera.io.write import write_volume
from viscera.training.checkpoint import (
    TrainingState,
    begin_with_weights,
    load_weights,
    save_checkpoint,
)
from viscera.training.data.cache import IGNORED
from viscera.training.data.cases import find_cases
from viscera.training.data.fill_cache import fill_cache
from viscera.training.loop import new_network, training_step_seconds
from viscera.training.propose import propose_recipe
from viscera.training.recipe import read_recipe

# What a phantom shows, under the names of the page.
NAMES = {"vertebrae": ("liver",), "lung_left": ("kidney_left",), "lung_right": ("kidney_right",)}
LABELS = {"background": 0, "vertebrae": 1, "lung_left": 2, "lung_right": 3, "ignore": 4}


def renamed(truth):
    """The labels of a phantom as those of the page's data set; the last slices are unlabelled."""
    values = np.zeros_like(truth)
    for number, organs in enumerate(NAMES.values(), 1):
        values[np.isin(truth, [ORGANS_BY_NAME[name].id for name in organs])] = number
    values[:, :, -2:] = LABELS["ignore"]
    return values


def data_set(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    return nnunet_folder(folder, count, labels=LABELS, edit=renamed)


@pytest.fixture(scope="module")
def thorax(tmp_path_factory):
    return data_set(tmp_path_factory.mktemp("data") / "Dataset101_Thorax")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """No test but one needs to know how quick this machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("viscera.training.propose.training_step_seconds", lambda _recipe: 1.5)
        yield


@pytest.fixture(scope="module")
def proposal(thorax):
    return propose_recipe([thorax], minutes=1)


# Recipes


def test_a_recipe_follows_from_the_data(proposal):
    recipe, survey = proposal.recipe, proposal.survey
    assert recipe.labels == ("background", "vertebrae", "lung_left", "lung_right")
    assert recipe.network.architecture == "dwnet16"
    assert recipe.split.folds == 4
    table = recipe.bundle().label_table
    assert table.by_name["lung_left"].partner == "lung_right"
    assert recipe.channel_pairs == ((3, 2),)
    assert recipe.augment.mirror == 0  # one structure is none of a pair
    assert survey.spacing_mm == (9, 9, 14)
    phantom = [phantom_pair(200 + n)[1] for n in range(4)]
    livers = [(renamed(truth) == 1).sum() * 9 * 9 * 14 / 1000 for truth in phantom]
    assert survey.structures["vertebrae"].volume_ml == pytest.approx(np.median(livers))
    assert 100 < survey.structures["vertebrae"].mean_hu < 125
    low, high = recipe.input.window_hu
    assert low <= survey.foreground_hu[0] < survey.foreground_hu[1] <= high
    assert proposal.step_s == 1.5
    assert {f.code for f in proposal.findings} == {"no-codes", "few-patients", "few-steps"}


def test_a_step_is_timed(tmp_path):
    recipe, _ = read_recipe(recipe_file(tmp_path / "r.toml", rank=3))
    assert 0.001 < training_step_seconds(recipe) < 60


def test_a_tube_is_as_thick_as_it_is(tmp_path):
    from viscera.training.survey import _sizes

    i, j, _ = np.indices((60, 60, 40))
    tube = (((i - 30) ** 2 + (j - 30) ** 2) * 1.0 <= 10**2).astype(np.uint8)
    sizes = _sizes(tube, (1.0, 1.0, 2.0), ("background", "tube"))
    volume_ml, thickness_mm = sizes["tube"]
    assert volume_ml == pytest.approx(tube.sum() * 2 / 1000)
    assert 20 <= thickness_mm <= 25


def test_a_data_set_with_numbers_of_its_own_keeps_them(tmp_path):
    folder = nnunet_folder(
        tmp_path / "Task09_Spleen",
        2,
        labels={"background": 0, "spleen": 1},
        edit=lambda t: (t == 3).astype(np.uint8),
    )
    recipe = propose_recipe([folder], minutes=1).recipe
    assert recipe.name == "dwnet16.task09_spleen"
    assert recipe.bundle().label_ids == (0, 1)
    assert recipe.bundle().label_table.by_name["spleen"].snomed == "78961009"
    assert recipe.augment.mirror == 0


def test_a_recipe_of_our_organs_keeps_our_numbers(tmp_path):
    folder = nnunet_folder(
        tmp_path,
        2,
        labels={"background": 0, "liver": 1, "spleen": 3},
        edit=lambda t: np.where(np.isin(t, [1, 3]), t, 0).astype(np.uint8),
    )
    recipe = propose_recipe([folder], init=None, minutes=1).recipe
    assert recipe.labels == ("background", "liver", "spleen")
    assert recipe.structures == ()
    assert recipe.bundle().label_table is FLARE13
    assert recipe.network.architecture == "visceranet"


def test_the_command_writes_a_recipe_that_reads(tmp_path, thorax):
    path = tmp_path / "own.toml"
    call = [str(thorax), "-o", str(path), "--minutes", "1"]
    run = CliRunner().invoke(recipe_command, call, catch_exceptions=False)
    assert run.exit_code == 0
    assert "--init default -o RUN" in run.stderr
    assert "lung_left: in 4" in run.stderr
    recipe, _ = read_recipe(path)
    assert [s.name for s in recipe.structures] == list(NAMES)
    with pytest.raises(OutputError):
        CliRunner().invoke(recipe_command, call, catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"init": "nothing"}, UsageError, "a bundle for"),
        ({"init": "paper"}, BundleError, "weights.safetensors"),
        ({"minutes": 0}, UsageError, "above 0"),
        ({"label_table": "nothing"}, UsageError, "a table in TOML"),
    ],
)
def test_what_cannot_be_proposed_is_refused(thorax, options, error, message):
    with pytest.raises(error, match=message):
        propose_recipe([thorax], **options)


def test_data_sets_that_mean_different_things_are_refused(tmp_path, thorax):
    other = nnunet_folder(tmp_path, 1, labels={"background": 0, "tumour": 1})
    with pytest.raises(InputError, match="the same labels"):
        propose_recipe([thorax, other], minutes=1)


def test_data_without_a_structure_are_refused(tmp_path):
    folder = nnunet_folder(tmp_path, 2, labels=LABELS, edit=np.zeros_like)
    with pytest.raises(InputError, match="cases that show structures"):
        propose_recipe([folder], minutes=1)


def test_a_recipe_may_name_a_table(tmp_path, thorax):
    text = recipe_file(tmp_path / "r.toml", rank=3).read_text()
    (tmp_path / "r.toml").write_text(f'label_table = "{thorax}/dataset.json"\n{text}')
    recipe, toml = read_recipe(tmp_path / "r.toml")
    assert recipe.labels[1:] == tuple(NAMES)
    assert "label_table" not in toml
    (tmp_path / "again.toml").write_text(toml)
    assert read_recipe(tmp_path / "again.toml")[0] == recipe
    (tmp_path / "r.toml").write_text(f'label_table = "flare13"\nlabels = ["background"]\n{text}')
    with pytest.raises(InputError, match="label_table alone"):
        read_recipe(tmp_path / "r.toml")


# Data


def test_a_cache_holds_the_structures_and_ignores_what_nobody_labelled(tmp_path, thorax):
    text = recipe_file(tmp_path / "r.toml", rank=3).read_text()
    (tmp_path / "r.toml").write_text(f'label_table = "{thorax}/dataset.json"\n{text}')
    recipe, _ = read_recipe(tmp_path / "r.toml")
    table = recipe.bundle().label_table
    cases, findings = find_cases([thorax], table=table)
    assert not findings
    (cached, *_) = fill_cache(tmp_path / "cache", recipe, cases[:1]).cases
    assert cached.annotated == tuple(NAMES)
    labels = cached.labels()
    assert set(np.unique(labels)) == {0, 1, 2, 3, IGNORED}
    assert (labels[-1] == IGNORED).all()  # LPS: the last slices are the upper ones
    assert (labels[:-3] != IGNORED).all()


def test_a_list_names_structures_and_mappings(tmp_path, thorax):
    table = read_label_table(thorax / "dataset.json").table
    write_pair(tmp_path, "a", 200, edit=renamed)
    (tmp_path / "map.toml").write_text("other = [3, 4]\n[labels]\nvertebrae = [1, 2]\n")
    (tmp_path / "l.csv").write_text(
        "case,image,labels,ignore,convention\n"
        "a,imagesTr/a_0000.nii.gz,labelsTr/a.nii.gz,lung-left,map.toml\n"
        "b,imagesTr/a_0000.nii.gz,labelsTr/a.nii.gz,,\n"
    )
    (one, other), _ = find_cases([tmp_path / "l.csv"], table=table)
    assert one.excluded_organs == ("lung_left",)
    assert dict(one.label_scheme.values) == {"vertebrae": (1, 2)}
    assert other.label_scheme.values["lung_right"] == (3,)
    with pytest.raises(InputError, match="an organ's name"):
        find_cases([tmp_path / "l.csv"])


def test_a_structure_of_the_value_255_is_learnt(tmp_path):
    """255 means that nobody labelled a voxel, but not where a data set says otherwise."""
    folder = nnunet_folder(
        tmp_path,
        1,
        labels={"background": 0, "lesion": 255},
        edit=lambda t: np.where(t == 1, 255, 0).astype(np.uint8),
    )
    recipe = propose_recipe([folder], minutes=1).recipe
    cases, _ = find_cases([folder], table=recipe.bundle().label_table)
    (cached,) = fill_cache(tmp_path / "cache", recipe, cases).cases
    assert set(np.unique(cached.labels())) == {0, 1}


@pytest.mark.parametrize(
    "channels", [{"0": "T1"}, {"0": "CT", "1": "PET"}, {"0": "MRI"}, "mr", {"0": 7}]
)
def test_data_of_another_modality_are_refused(tmp_path, thorax, channels):
    folder = nnunet_folder(tmp_path, 1)
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, "channel_names": channels}))
    with pytest.raises(InputError, match="a data set of CT"):
        find_cases([folder])


# Weights


def test_known_outputs_keep_their_weights_and_new_ones_are_new(tmp_path, proposal):
    recipe = proposal.recipe
    default = read_bundle("default")
    mixed = ("background", "vertebrae", "spleen", "liver")
    network = new_network(recipe)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    new = begin_with_weights(
        weights_to_train(default), network, labels=mixed, old_labels=default.labels
    )
    assert new == ("vertebrae",)
    full, _ = read_recipe(ROOT / "configs" / "default.toml")
    packaged = new_network(full)
    load_weights(weights_to_train(default), packaged)
    old, now = packaged.state_dict(), network.state_dict()
    for name, value in now.items():
        if not name.startswith("score."):
            assert torch.equal(value, old[name]), name
    for number, label in enumerate(mixed):
        for name in ("score.weight", "score.bias"):
            source = before[name][number]
            if label in default.labels:
                source = old[name][default.labels.index(label)]
            assert torch.equal(now[name][number], source)


@pytest.mark.parametrize("count", [15, 3])
def test_outputs_are_taken_by_what_they_are_whatever_their_number(tmp_path, proposal, count):
    """With sixteen outputs the last layer of this network is as wide as it is deep."""
    old = ("background", *(f"a{n}" for n in range(count)))
    new = ("background", "b", *(f"a{n}" for n in reversed(range(count - 1))))
    first = new_network(replace_labels(proposal.recipe, old))
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, first, TrainingState(step=1), labels=old)
    second = new_network(replace_labels(proposal.recipe, new))
    fresh = second.state_dict()["score.weight"][1].clone()
    assert begin_with_weights(path, second, labels=new) == ("b",)
    before, after = first.state_dict(), second.state_dict()
    for number, label in enumerate(new):
        expected = fresh if label == "b" else before["score.weight"][old.index(label)]
        assert torch.equal(after["score.weight"][number], expected), label


def replace_labels(recipe, labels):
    rows = tuple(StructureSettings(name) for name in labels[1:])
    augment = replace(recipe.augment, mirror=0.0)
    return replace(recipe, labels=labels, structures=rows, augment=augment)


def test_a_file_that_does_not_say_what_it_knows_gives_background(tmp_path, proposal):
    first = new_network(replace_labels(proposal.recipe, ("background", "x", "y")))
    save_checkpoint(tmp_path / "old.safetensors", first, TrainingState(step=1))
    second = new_network(proposal.recipe)
    new = begin_with_weights(tmp_path / "old.safetensors", second, labels=proposal.recipe.labels)
    assert new == tuple(NAMES)
    bias = [network.state_dict()["score.bias"][0] for network in (first, second)]
    assert bias[0] == bias[1]


@pytest.mark.parametrize(
    "changed", [{"widths": (8, 16, 32, 64, 96)}, {"architecture": "visceranet"}]
)
def test_weights_of_other_widths_are_refused(proposal, changed):
    network = replace(proposal.recipe.network, **changed)
    recipe = replace(proposal.recipe, network=network)
    default = read_bundle("default")
    with pytest.raises(InputError, match="weights of this network"):
        begin_with_weights(
            weights_to_train(default),
            new_network(recipe),
            labels=recipe.labels,
            old_labels=default.labels,
        )


def test_titles_and_codes_shape_no_weights(proposal):
    recipe = proposal.recipe
    coded = tuple(replace(s, snomed="39607008", title="X") for s in recipe.structures)
    assert replace(recipe, structures=coded).digest == recipe.digest
    fewer = replace(recipe, labels=recipe.labels[:2], structures=recipe.structures[:1])
    assert fewer.digest != recipe.digest


def test_a_teacher_must_know_what_is_learnt(tmp_path, thorax, proposal):
    from viscera.training.train import TrainOptions, TrainReporter, train

    recipe = replace(proposal.recipe, loss=replace(proposal.recipe.loss, distillation=1.0))
    with pytest.raises(UsageError, match="does not know vertebrae"):
        train(recipe, "", [thorax], tmp_path, TrainOptions(teacher="default"), TrainReporter())


def test_weights_of_another_network_are_refused(tmp_path, thorax):
    text = recipe_file(tmp_path / "r.toml", rank=3).read_text()
    (tmp_path / "r.toml").write_text(text)
    recipe, _ = read_recipe(tmp_path / "r.toml")
    with pytest.raises(InputError, match="weights of this network"):
        begin_with_weights(
            weights_to_train(read_bundle("default")), new_network(recipe), labels=("background",)
        )


def test_the_packaged_weights_are_those_of_the_packaged_network(small_phantom):
    """What `--init default` begins with is what `viscera segment` runs."""
    from viscera.training.validation import TorchEngine

    recipe, _ = read_recipe(ROOT / "configs" / "default.toml")
    network = new_network(recipe)
    load_weights(weights_to_train(read_bundle("default")), network)
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(1, 1, 64, 64, 64)).astype(np.float32)
    scores = TorchEngine(network, torch.device("cpu"), "f32").run(batch)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(read_bundle("default").model_path)
    (expected,) = session.run(None, {session.get_inputs()[0].name: batch})
    np.testing.assert_allclose(scores, expected, atol=2e-3 * np.abs(expected).max())


# The page


def commands_of(page: Path):
    """The commands of the page's shell blocks."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        yield from (line for line in block.splitlines() if line.strip())


def make_small(path: Path) -> None:
    """A recipe that is done in seconds, on the grid of the phantoms."""
    changes = {
        "spacing_mm": "[10.0, 10.0, 12.0]", "size": "[32, 32, 32]", "epochs": "2",
        "steps_per_epoch": "4", "warmup_steps": "0", "validate_every": "1", "precision": '"f32"',
    }  # fmt: skip
    text = path.read_text(encoding="utf-8")
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert count == 1, key
    path.write_text(text, encoding="utf-8")


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(tmp_path):
    data_set(tmp_path / "Dataset101_Thorax")
    volume, truth = phantom_pair(300)
    (tmp_path / "test" / "labels").mkdir(parents=True)
    (tmp_path / "test" / "images").mkdir()
    write_volume(tmp_path / "new_patient.nii.gz", volume)
    write_volume(tmp_path / "test" / "images" / "one.nii.gz", volume)
    import nibabel

    values = renamed(truth)
    nibabel.save(
        nibabel.Nifti1Image(values, volume.affine.matrix),
        tmp_path / "test" / "labels" / "one.nii.gz",
    )
    page = ROOT / "docs" / "your-own-organ.md"
    ran = []
    for line in commands_of(page):
        words = shlex.split(line)
        if words[0] == "pip":
            assert words == ["pip", "install", "viscera[train]"]
            continue
        assert words[0] == "viscera"
        run = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True,
            check=False, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        )  # fmt: skip
        assert run.returncode == 0, f"{line}\n{run.stderr}"
        ran.append(words[1])
        if words[1] == "recipe":
            make_small(tmp_path / "thorax.toml")
    assert ran == ["recipe", "train", "export", "segment", "segment", "evaluate"]
    assert (tmp_path / "runs" / "thorax" / "curves.png").exists()
    bundle = read_bundle(tmp_path / "bundles" / "thorax")
    assert [organ.name for organ in bundle.organs] == list(NAMES)
    assert bundle.label_table.by_name["lung_right"].partner == "lung_left"
    summary = json.loads((tmp_path / "test" / "evaluation" / "summary.json").read_text())
    assert set(summary["scores"]) == {*NAMES, "average"}
    assert (tmp_path / "results" / "organs.seg.nrrd").exists()
    assert viscera.segment(volume, bundle=bundle).labels.shape == volume.shape


@pytest.mark.slow
def test_a_network_learns_structures_of_its_own(tmp_path, thorax):
    """Not only does everything run: what is learnt is the structure."""
    from viscera.training.train import TrainOptions, TrainReporter, train

    text = recipe_file(tmp_path / "r.toml", rank=3).read_text()
    (tmp_path / "r.toml").write_text(f'label_table = "{thorax}/dataset.json"\n{text}')
    recipe, toml = read_recipe(tmp_path / "r.toml", LEARNS[3])
    validations = []
    reporter = TrainReporter()
    result = train(recipe, toml, [thorax], tmp_path / "run", TrainOptions(threads=1), reporter)
    assert result.is_done
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        validations += [entry["dsc"]] if entry["kind"] == "validation" else []
    assert max(v.get("vertebrae", 0) for v in validations) > 0.7
