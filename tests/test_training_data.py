"""Data to train on: layouts, splits, the cache, samples."""

import json
import shutil
import zlib
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import ROOT, SHARED, needs_shared
from tests.data_sets import nnunet_folder, phantom_pair, recipe_file, write_pair
from viscera.core.organs import ORGANS, ORGANS_BY_NAME
from viscera.errors import InputError, OutputError, UsageError
from viscera.grid.grid import Grid
from viscera.training.data.cache import IGNORED, open_cache
from viscera.training.data.cases import TrainingCase, find_cases
from viscera.training.data.fill_cache import fill_cache, window_share_bundle
from viscera.training.data.prepare import prepare_data
from viscera.training.data.sampling import Sampler
from viscera.training.data.split import check_leakage, split_cases
from viscera.training.recipe import read_recipe
from viscera.training.settings import SplitSettings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return nnunet_folder(tmp_path_factory.mktemp("nnunet"))


def recipe_of(tmp_path, *settings, rank=2):
    return read_recipe(recipe_file(tmp_path / "recipe.toml", rank=rank), settings)[0]


# Layouts


def test_a_nnunet_folder_is_taken_as_it_is(folder):
    cases, findings = find_cases([folder])
    assert [case.name for case in cases] == [f"case_{n:03d}" for n in range(4)]
    assert all(case.image.name == f"{case.name}_0000.nii.gz" for case in cases)
    assert not findings
    assert not any(case.pseudo for case in cases)


def test_flares_folders_are_taken_as_they_are(tmp_path):
    write_pair(tmp_path / "train_gt_label", "FLARE22_Tr_0001", 1)
    write_pair(tmp_path / "train_pseudo_label", "Case_1", 2, labels="flare22_aladdin5_pseudo")
    public = {"images": "Validation-Public-Images", "labels": "Validation-Public-Labels"}
    write_pair(tmp_path / "validation", "FLARETs_0001", 3, **public)
    cases, _ = find_cases([tmp_path], pseudo_weight=0.5)
    seen = {case.name: (case.pseudo, case.weight, case.part) for case in cases}
    assert seen == {
        "FLARE22_Tr_0001": (False, 1.0, ""),
        "Case_1": (True, 0.5, ""),
        "FLARETs_0001": (False, 1.0, "validation"),
    }
    one, _ = find_cases([tmp_path / "train_pseudo_label"])
    assert [case.pseudo for case in one] == [True]


def test_several_pseudo_label_folders_are_not_guessed_between(tmp_path):
    folder = tmp_path / "train_pseudo_label"
    write_pair(folder, "Case_1", 2, labels="a_pseudo")
    write_pair(folder, "Case_1", 2, labels="b_pseudo")
    with pytest.raises(InputError, match="a_pseudo and b_pseudo"):
        find_cases([folder])


def test_a_list_says_everything(tmp_path, folder):
    (tmp_path / "list.csv").write_text(
        "case;image;labels;patient;weight;ignore;pseudo;part\n"
        f"a;{folder}/imagesTr/case_000_0000.nii.gz;{folder}/labelsTr/case_000.nii.gz;P;0.4;"
        "liver left_adrenal_gland;yes;\n".replace("left_adrenal_gland", "adrenal_gland_left")
    )
    (case,), _ = find_cases([tmp_path / "list.csv"])
    assert (case.patient, case.weight, case.pseudo) == ("P", 0.4, True)
    assert set(case.excluded_organs) == {"liver", "adrenal_gland_left"}


def test_a_lists_convention_may_be_a_file_beside_it(tmp_path, folder):
    """Its ignore value included."""
    names = {"background": 0, "liver": 1, "ignore": 2}
    (tmp_path / "names.json").write_text(json.dumps({"labels": names}))
    (tmp_path / "l.csv").write_text("case,image,labels,convention\na,i.nii,l.nii,names.json\n")
    (case,), _ = find_cases([tmp_path / "l.csv"])
    assert [organ.name for organ in case.label_scheme.organs] == ["liver"]
    assert set(case.unlabelled) == {255, 2}


def test_the_older_dataset_json_is_understood(tmp_path):
    folder = nnunet_folder(tmp_path, 1, labels={"0": "background", "1": "liver", "2": "Spleen"})
    (case,), _ = find_cases([folder])
    assert {organ.name for organ in case.label_scheme.organs} == {"liver", "spleen"}


def test_two_files_of_one_case_are_refused(tmp_path):
    folder = nnunet_folder(tmp_path, 1)
    shutil.copy(folder / "labelsTr" / "case_000.nii.gz", folder / "labelsTr" / "case_000.nii")
    with pytest.raises(InputError, match="one file a case"):
        find_cases([folder])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,,x.nii", "a image in row 2"),
        ("a/b,i.nii,l.nii", "names without slashes"),
        ("a,i.nii,l.nii,2", "weight"),
        ("a,i.nii,l.nii,1,,livre", "l.csv: expected an organ's name under ignore in row 2"),
        ("a,i.nii,l.nii,1,test", "train, validation"),
    ],
)
def test_bad_rows_of_a_list_are_named(tmp_path, row, says):
    columns = "case,image,labels,weight,part,ignore"
    (tmp_path / "l.csv").write_text(f"{columns}\n{row}\n")
    with pytest.raises(InputError, match=says):
        find_cases([tmp_path / "l.csv"])


def test_unpaired_files_are_left_out_and_named(tmp_path):
    folder = nnunet_folder(tmp_path, 2)
    (folder / "labelsTr" / "case_000.nii.gz").unlink()
    cases, findings = find_cases([folder])
    assert [case.name for case in cases] == ["case_001"]
    assert "case_000" in findings[0].message


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="imagesTr and labelsTr"):
        find_cases([tmp_path])
    with pytest.raises(InputError, match="nothing"):
        find_cases([tmp_path / "none"])


def test_the_same_case_twice_is_refused(tmp_path, folder):
    other = shutil.copytree(folder, tmp_path / "other")
    with pytest.raises(UsageError, match="'case_000' twice"):
        find_cases([folder, other])


# Splits


def cases_of(*patients, **options):
    return [TrainingCase(f"{p}{n}", None, None, p, **options) for n, p in enumerate(patients)]


def test_every_patient_is_held_back_once_and_whole():
    cases = cases_of(*"AABBCDEFGG")
    held = [split_cases(cases, SplitSettings(3, fold))[1] for fold in range(3)]
    names = [case.name for part in held for case in part]
    assert sorted(names) == sorted(case.name for case in cases)
    for fold in range(3):
        train, back = split_cases(cases, SplitSettings(3, fold))
        assert {c.patient for c in train}.isdisjoint({c.patient for c in back})
        assert len(train) + len(back) == len(cases)


def test_what_a_network_labelled_of_a_held_patient_is_on_neither_side():
    cases = [*cases_of(*"ABCD"), TrainingCase("pseudo", None, None, "A", pseudo=True)]
    for fold in range(4):
        train, held = split_cases(cases, SplitSettings(4, fold))
        assert "pseudo" not in [c.name for c in held]
        assert ("pseudo" in [c.name for c in train]) == ("A" not in {c.patient for c in held})


def test_no_fold_holds_nobody_back():
    train, held = split_cases(cases_of(*"AB"), SplitSettings(0))
    assert len(train) == 2
    assert not held


def test_a_networks_labels_validate_nothing():
    cases = [*cases_of(*"AB"), TrainingCase("v", None, None, "C", part="validation", pseudo=True)]
    with pytest.raises(InputError, match="labels drawn by people for the validation set"):
        split_cases(cases, SplitSettings())


@pytest.mark.hostile(91)
def test_a_patient_on_both_sides_is_refused():
    cases = [*cases_of(*"AB"), TrainingCase("v", None, None, "A", part="validation")]
    with pytest.raises(InputError, match="'A' on both sides"):
        split_cases(cases, SplitSettings())


@pytest.mark.hostile(91)
def test_the_same_scan_under_two_names_is_refused():
    train, held = cases_of(*"AB")
    with pytest.raises(InputError, match="the same scan as 'A0' and 'B1'"):
        check_leakage([train], [held], {"A0": "sum", "B1": "sum"})


def test_a_copied_scan_is_found_in_a_real_folder(tmp_path):
    folder = nnunet_folder(tmp_path / "data", 4)
    for sub, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
        source = folder / sub / f"case_000{suffix}.nii.gz"
        for number in (1, 2, 3):
            shutil.copy(source, folder / sub / f"case_00{number}{suffix}.nii.gz")
    with pytest.raises(InputError, match="the same scan"):
        prepare_data([folder], recipe_of(tmp_path), tmp_path / "cache")


# Labels (hostile-input 88 and 93)


@pytest.mark.hostile(88)
def test_labels_outside_the_convention_are_listed_with_their_case(tmp_path):
    def edit(truth):
        truth[0, 0, 0], truth[1, 0, 0] = 14, 77
        return truth

    folder = nnunet_folder(tmp_path / "data", 2, edit=edit)
    with pytest.raises(InputError, match="14, 77 in case case_000"):
        prepare_data([folder], recipe_of(tmp_path), tmp_path / "cache")


@pytest.mark.hostile(88)
def test_labels_of_another_grid_are_refused(tmp_path):
    folder = nnunet_folder(tmp_path / "data", 2)
    write_pair(tmp_path / "other", "case_000", 5)
    from viscera.segmentation import Segmentation

    volume, truth = phantom_pair(5, shape=(41, 32, 20))
    path = folder / "labelsTr" / "case_000.nii.gz"
    Segmentation(truth, volume, ORGANS).save(path, overwrite=True)
    with pytest.raises(InputError, match=r"case_000_0000.nii.gz's grid, 40 x 32 x 20"):
        prepare_data([folder], recipe_of(tmp_path), tmp_path / "cache")


@pytest.mark.hostile(93)
def test_empty_cases_and_absent_organs_are_counted(tmp_path):
    folder = nnunet_folder(tmp_path / "data", 4)
    write_pair(folder, "case_009", 9, edit=lambda truth: truth * 0)
    write_pair(folder, "case_010", 10, edit=lambda truth: (truth == 1).astype(np.uint8))
    found = prepare_data([folder], recipe_of(tmp_path), tmp_path / "cache")
    assert any("1 cases show no organ: case_009" in f.message for f in found.findings)
    assert sorted(c.name for c in (*found.train, *found.validation_cases))[-1] == "case_010"
    only = nnunet_folder(
        tmp_path / "only", 4, edit=lambda truth: np.where(truth == 3, 0, truth).astype(np.uint8)
    )
    found = prepare_data([only], recipe_of(tmp_path), tmp_path / "cache2")
    assert any(
        "no case to train on shows" in f.message and "spleen" in f.message for f in found.findings
    )


def test_an_organ_that_a_data_set_cannot_name_is_not_annotated(tmp_path):
    """A folder of spleens and an ignore value says nothing of livers."""

    def edit(truth):
        spleen = (truth == ORGANS_BY_NAME["spleen"].id).astype(np.uint8)
        spleen[:, :, 0] = 2
        return spleen

    names = {"background": 0, "spleen": 1, "ignore": 2}
    folder = nnunet_folder(tmp_path / "data", 2, labels=names, edit=edit)
    recipe = recipe_of(tmp_path, "split.folds=0")
    found = prepare_data([folder], recipe, tmp_path / "cache")
    for case in found.train:
        assert case.annotated == ("spleen",)
        labels = case.labels()
        assert set(np.unique(labels)) == {0, recipe.labels.index("spleen"), IGNORED}
        assert (labels[0] == IGNORED).all()
    batch = Sampler(found.train, recipe).batch(0)
    assert batch.annotated.sum(axis=1).tolist() == [2] * 4


def test_distrusted_organs_are_ignored_not_background(tmp_path, folder):
    (tmp_path / "l.csv").write_text(
        "case,image,labels,ignore\n"
        f"a,{folder}/imagesTr/case_000_0000.nii.gz,{folder}/labelsTr/case_000.nii.gz,liver\n"
    )
    recipe = recipe_of(tmp_path, "split.folds=0")
    (case,) = prepare_data([tmp_path / "l.csv"], recipe, tmp_path / "cache").train
    (whole,) = fill_cache(tmp_path / "cache2", recipe, find_cases([folder])[0][:1]).cases
    liver = whole.labels() == recipe.labels.index("liver")
    assert liver.any()
    assert (case.labels()[liver] == IGNORED).all()
    assert (case.labels()[~liver] == whole.labels()[~liver]).all()
    assert "liver" not in case.annotated


def test_a_teacher_is_silent_where_the_labels_are_better(tmp_path, folder):
    (tmp_path / "l.csv").write_text(
        "case,image,labels,teacher\n"
        f"a,{folder}/imagesTr/case_000_0000.nii.gz,{folder}/labelsTr/case_000.nii.gz,no\n"
        f"b,{folder}/imagesTr/case_001_0000.nii.gz,{folder}/labelsTr/case_001.nii.gz,\n"
    )
    recipe = recipe_of(tmp_path, "split.folds=0", "loss.distillation=1.0")
    cases = prepare_data([tmp_path / "l.csv"], recipe, tmp_path / "cache").train
    assert [case.use_teacher for case in cases] == [False, True]
    for case in cases:
        soft = np.ones((3, *case.shape), dtype=np.uint8)
        case.file("teacher.z").write_bytes(zlib.compress(soft.tobytes()))
    for case in cases:
        heard = Sampler([case], recipe).batch(0).teacher != IGNORED
        assert heard.any() == case.use_teacher


# The cache


@pytest.mark.parametrize("rank", [2, 3])
def test_the_cache_holds_what_the_network_will_see(tmp_path, folder, rank):
    recipe = recipe_of(tmp_path, "split.folds=0", rank=rank)
    cases, _ = find_cases([folder])
    cache = fill_cache(tmp_path / "cache", recipe, cases)
    from viscera.io.read import read_volume

    for case, cached in zip(cases, cache.cases, strict=True):
        volume = read_volume(case.image)
        grid = Grid.fit(volume.shape, volume.affine, window_share_bundle(recipe))
        y, x = (slice(c, c + n) for c, n in zip(cached.corner, cached.shape[1:], strict=True))
        seen = grid.forward(grid.orientation.planes(volume))[:, y, x]
        assert np.abs(cached.image() / 255 - seen).max() <= 0.5 / 255 + 1e-6
        # The body is all there: what was cut off is no organ.
        assert (
            sum(cached.voxels.values())
            == np.isin(grid.nearest(read(case.labels)), range(1, 14)).sum()
        )
        again = cached.volume(recipe.input.window_hu)
        fitted = Grid.fit(again.shape, again.affine, recipe.bundle())
        assert fitted.shape == cached.shape
        assert np.allclose([axis.first for axis in fitted.axes], 0)
        low, high = recipe.input.window_hu
        assert np.abs(again.data.T - (seen * (high - low) + low)).max() < (high - low) / 255


def read(path):
    from viscera.io.read import read_labels

    return read_labels(path).values


def test_a_cached_voxel_lies_where_it_lay(tmp_path, folder):
    """World coordinates of an organ's centroid, from the cache and from the file."""
    recipe = recipe_of(tmp_path, "split.folds=0", rank=3)
    (case, *_), _ = find_cases([folder])
    (cached,) = fill_cache(tmp_path / "cache", recipe, [case]).cases
    from viscera.io.read import read_labels

    whole = read_labels(case.labels)
    affine = np.reshape(cached.affine, (4, 4))
    for name in ("liver", "spleen", "kidney_left"):
        here = np.argwhere(cached.labels() == recipe.labels.index(name))[:, ::-1].mean(axis=0)
        there = np.argwhere(whole.values == ORGANS_BY_NAME[name].id).mean(axis=0)
        apart = affine @ [*here, 1] - whole.affine.matrix @ [*there, 1]
        assert np.linalg.norm(apart[:3]) < 6  # a coarse grid, voxels of 9 x 9 x 14 mm


def test_a_second_call_fills_nothing_again_and_a_changed_case_anew(tmp_path):
    folder = nnunet_folder(tmp_path / "data", 2)
    recipe = recipe_of(tmp_path)
    cases, _ = find_cases([folder])
    first = fill_cache(tmp_path / "cache", recipe, cases)
    stamps = [case.file("image.npy").stat().st_mtime_ns for case in first.cases]
    again = fill_cache(tmp_path / "cache", recipe, cases)
    assert [case.file("image.npy").stat().st_mtime_ns for case in again.cases] == stamps
    assert open_cache(tmp_path / "cache", recipe.grid_digest).cases == again.cases
    write_pair(folder, "case_001", 77)
    changed = fill_cache(tmp_path / "cache", recipe, cases)
    now = [case.file("image.npy").stat().st_mtime_ns for case in changed.cases]
    assert now[0] == stamps[0]
    assert now[1] != stamps[1]


def test_trainings_share_a_cache(tmp_path, folder):
    recipe = recipe_of(tmp_path)
    cases, _ = find_cases([folder])
    fill_cache(tmp_path / "cache", recipe, cases[:2])
    fill_cache(tmp_path / "cache", recipe, cases[2:])
    assert len(open_cache(tmp_path / "cache", recipe.grid_digest).cases) == len(cases)


def test_a_cache_of_another_grid_is_refused(tmp_path, folder):
    recipe = recipe_of(tmp_path)
    fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0][:1])
    other = recipe_of(tmp_path, "input.orientation=RAS")
    with pytest.raises(OutputError, match="another grid"):
        fill_cache(tmp_path / "cache", other, [])
    (tmp_path / "cache" / "cache.json").write_text("{")
    with pytest.raises(InputError, match="remove the folder"):
        open_cache(tmp_path / "cache", recipe.grid_digest)


@pytest.mark.slow
@needs_shared
def test_a_shared_case_fits_into_3_mb_at_2_mm(tmp_path):
    import csv

    from tools.list_shared_cases import rows

    listed = rows(SHARED / "data")
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    recipe, _ = read_recipe(ROOT / "configs" / "viscera.toml", ("input.spacing_mm=[2.0,2.0,2.0]",))
    found = prepare_data([tmp_path / "cases.csv"], recipe, tmp_path / "cache")
    size_mb = sum(file.stat().st_size for file in (tmp_path / "cache").iterdir()) / 1e6
    assert size_mb / len(listed) < 3, f"{size_mb:.1f} MB for {len(listed)} cases"
    assert len(found.train) + len(found.validation_cases) == len(listed) >= 19
    pieces = [c for c in (*found.train, *found.validation_cases) if "0518" in c.name]
    assert len({case.patient for case in pieces}) == 1 < len(pieces)


# A cache without its scans


def test_a_filled_cache_trains_without_its_scans(tmp_path, folder):
    recipe = recipe_of(tmp_path, "split.folds=2")
    filled = prepare_data([folder], recipe, tmp_path / "cache")
    assert prepare_data([], recipe, tmp_path / "cache") == replace(filled)
    with pytest.raises(InputError, match="a cache that was filled before"):
        prepare_data([], recipe, tmp_path / "none")
    taught = replace(recipe, loss=replace(recipe.loss, distillation=1.0))
    with pytest.raises(InputError, match="4 cases without, 'case_000' first"):
        prepare_data([], taught, tmp_path / "cache")


def test_excluded_cases_are_on_neither_side(tmp_path, folder):
    recipe = recipe_of(tmp_path, "split.folds=2", "data.exclude=['*_000', 'case_003']")
    for sources in ([folder], []):
        found = prepare_data(sources, recipe, tmp_path / "cache")
        names = [case.name for case in (*found.train, *found.validation_cases)]
        assert sorted(names) == ["case_001", "case_002"]


def test_a_packed_cache_is_the_same_but_for_the_last_bits(tmp_path, folder):
    from tools.pack_cache import pack, unpack

    recipe = recipe_of(tmp_path, rank=3)
    cached = fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0])
    pack(tmp_path / "cache", tmp_path / "a.pack", "*", "*_003")
    pack(tmp_path / "cache", tmp_path / "b.pack", "*_003", "")
    for name in ("a", "b"):
        unpack(tmp_path / f"{name}.pack", tmp_path / "other")
    again = open_cache(tmp_path / "other", recipe.grid_digest)
    assert [case.name for case in again.cases] == [case.name for case in cached.cases]
    for one, other in zip(cached.cases, again.cases, strict=True):
        difference = one.image().astype(int) - other.image()
        assert 0 < abs(difference).max() <= 3
        assert (one.labels() == other.labels()).all()
        assert (one.points() == other.points()).all()
        assert one.digest == other.digest


# Samples


def test_steps_differ_in_their_windows_and_grids(tmp_path, folder):
    sizes = "data.patch_sizes=[[16, 32, 48], [32, 32, 16]]"
    recipe = recipe_of(tmp_path, "split.folds=0", sizes, "data.coarsest=1.5", rank=3)
    cases = fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0]).cases
    sampler = Sampler(cases, recipe)
    batches = [sampler.batch(step) for step in range(12)]
    assert {batch.size for batch in batches} == {(48, 32, 16), (16, 32, 32)}
    factors = [batch.image.shape[1] / batch.size[0] for batch in batches]
    assert 1 <= min(factors) < 1.2 < 1.4 < max(factors) <= 1.51
    for batch in batches:
        assert batch.image.shape == batch.labels.shape


def test_slice_networks_have_one_window(tmp_path):
    for setting in ("data.coarsest=1.5", "data.patch_sizes=[[32, 32, 32]]"):
        with pytest.raises((InputError, UsageError), match="for \\[patch\\] only"):
            recipe_of(tmp_path, setting, rank=2)
    with pytest.raises((InputError, UsageError), match="sizes divisible by"):
        recipe_of(tmp_path, "data.patch_sizes=[[32, 32, 31]]", rank=3)


@pytest.mark.parametrize("rank", [2, 3])
def test_samples_follow_from_seed_and_step_alone(tmp_path, folder, rank):
    recipe = recipe_of(tmp_path, "split.folds=0", "data.organ_share=0.5", rank=rank)
    cases = fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0]).cases
    one, other = Sampler(cases, recipe), Sampler(cases, recipe)
    for step in (0, 7, 3):
        a, b = one.batch(step), other.batch(step)
        assert (a.image == b.image).all()
        assert (a.labels == b.labels).all()
    assert (one.batch(1).image != one.batch(2).image).any()
    # Two processes draw what one would have drawn.
    halves = [one.batch(5, rank=rank_, world=2).image for rank_ in (0, 1)]
    assert (np.concatenate(halves) == one.batch(5).image).all()


@pytest.mark.parametrize("how", ["mirror", "pad"])
def test_short_stacks_go_on_as_the_bundle_will_have_it(tmp_path, folder, how):
    settings = "split.folds=0", f"patch.extend_z={how}", "patch.size=[32, 32, 64]"
    recipe = recipe_of(tmp_path, *settings, rank=3)
    cases = fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0]).cases
    batch = Sampler(cases, recipe).batch(0)
    beyond = (batch.labels == IGNORED).all(axis=(2, 3))
    assert beyond.any()
    assert bool(batch.image[beyond].any()) == (how == "mirror")


def test_an_epoch_shows_every_slice_once(tmp_path):
    def edit(truth):
        truth[:, :, :4] = 0
        return truth

    folder = nnunet_folder(tmp_path, 4, edit=edit)
    recipe = recipe_of(tmp_path, "split.folds=0", "data.labelled_slices_only=true")
    cases = fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0]).cases
    sampler = Sampler(cases, recipe)
    assert sampler.slices == sum(len(case.labelled_slices) for case in cases)
    assert sampler.slices < sum(case.shape[0] for case in cases)
    centres = [
        zlib.crc32(image[1].tobytes())
        for step in range(sampler.slices // 4)
        for image in sampler.batch(step).image
    ]
    assert len(set(centres)) == len(centres)


def test_a_stack_is_a_slice_and_its_neighbours(tmp_path, folder):
    recipe = recipe_of(tmp_path, "split.folds=0")
    cases = fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0][:1]).cases
    batch = Sampler(cases, recipe).batch(0)
    image, labels = cases[0].image(), cases[0].labels()
    for sample, truth in zip(batch.image, batch.labels, strict=True):
        z = next(z for z in range(len(image)) if (image[z] == sample[1]).all())
        assert (sample[0] == image[max(z - 1, 0)]).all()
        assert (sample[2] == image[min(z + 1, len(image) - 1)]).all()
        assert (truth[0] == labels[z]).all()


def test_organs_are_balanced_where_wished(tmp_path, folder):
    """With a share of 1 the rarest organ is drawn as often as the largest."""
    settings = "split.folds=0", "data.organ_share=1.0", "patch.size=[16, 16, 8]"
    recipe = recipe_of(tmp_path, *settings, rank=3)
    cases = fill_cache(tmp_path / "cache", recipe, find_cases([folder])[0]).cases
    shown = {name for case in cases for name in case.voxels}

    def shares(chosen):
        sampler = Sampler(cases, chosen)
        labels = np.concatenate([sampler.batch(step).labels for step in range(60)])
        rarest = min(shown, key=lambda n: sum(c.voxels.get(n, 0) for c in cases))
        channel = recipe.labels.index(rarest)
        return (labels == channel).any(axis=(1, 2, 3)).mean()

    from dataclasses import replace

    plain = replace(recipe, data=replace(recipe.data, organ_share=0.0))
    assert shares(recipe) > 1.3 * shares(plain) > 0


def test_a_nnunet_description_that_is_none_is_refused(tmp_path):
    folder = nnunet_folder(tmp_path, 1)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0}}))
    with pytest.raises(InputError, match="at least one of the thirteen"):
        find_cases([folder])


def test_a_sheared_scan_is_refused(tmp_path):
    import nibabel

    folder = nnunet_folder(tmp_path / "data", 2)
    for path in (
        folder / "imagesTr" / "case_000_0000.nii.gz",
        folder / "labelsTr" / "case_000.nii.gz",
    ):
        image = nibabel.load(path)
        affine = image.affine.copy()
        affine[1, 2] += 4.0
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)
    with pytest.raises(InputError, match=r"shear|tilt|axes"):
        prepare_data([folder], recipe_of(tmp_path), tmp_path / "cache")
