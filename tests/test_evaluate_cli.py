"""`viscera evaluate`: pairs, tables, pictures, going on where it stopped."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.test_cli import run
from viscera.core.organs import ORGANS
from viscera.errors import (
    BatchError,
    InputError,
    NothingToSegmentError,
    OutputError,
    ResourceError,
    UsageError,
)
from viscera.evaluation import cohort
from viscera.evaluation.case import Evaluation
from viscera.evaluation.cohort import CasePair, EvaluationRules, evaluate_pairs
from viscera.io.write import write_volume
from viscera.segmentation import Segmentation

CASES = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="module")
def phantom(small_phantom):
    return small_phantom


@pytest.fixture
def folders(tmp_path, phantom):
    """Truth, predictions that get worse from a to e, and CTs."""
    volume, truth = phantom
    rng = np.random.default_rng(0)
    for n, case in enumerate(CASES):
        damaged = np.where(rng.random(truth.shape) < n * 0.12, 0, truth).astype(np.uint8)
        for folder, labels in (("truth", truth), ("found", damaged)):
            path = tmp_path / folder / f"{case}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            Segmentation(labels, volume, ORGANS).save(path)
        (tmp_path / "ct").mkdir(exist_ok=True)
        write_volume(tmp_path / "ct" / f"{case}_0000.nii.gz", volume)
    return tmp_path


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_two_folders_give_tables_and_pictures(folders):
    result = run("evaluate", folders / "found", folders / "truth", "-o", folders / "out",
                 "--images", folders / "ct", "--jobs", 2)  # fmt: skip
    assert result.stdout == ""
    out = folders / "out"
    assert {p.name for p in out.iterdir()} == {
        "boxplot.png", "cases", "cases.csv", "evaluation.json", "examples.png", "summary.json",
        "table.md",
    }  # fmt: skip
    rows = rows_of(out / "cases.csv")
    assert len(rows) == len(CASES) * 13 * 6
    of_a = {(r["organ"], r["metric"]): r["value"] for r in rows if r["case"] == "a"}
    assert float(of_a["liver", "dsc"]) == 1
    assert float(of_a["liver", "hd95_mm"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["cases"] == 5
    dsc = [float(r["value"]) for r in rows if r["metric"] == "dsc" and r["organ"] == "liver"]
    assert summary["scores"]["liver"]["dsc"]["mean"] == pytest.approx(np.mean(dsc), abs=1e-6)
    assert "**Average**" in (out / "table.md").read_text()
    with Image.open(out / "examples.png") as picture:
        picture.load()
        assert picture.height > 4 * 300
    with Image.open(out / "boxplot.png") as picture:
        colours = {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    assert len(colours) > 20


def test_examples_show_truth_and_prediction_where_they_are(folders, phantom):
    """The third picture of the best row lacks nothing, that of the worst row does."""
    from viscera.report.pictures.examples import ExampleCase, example_row

    volume, truth = phantom
    found = np.where(np.arange(truth.shape[0])[:, None, None] % 2, 0, truth).astype(np.uint8)
    row = example_row(ExampleCase("x", volume, truth, found))
    image, true, predicted = row.planes
    assert not image.labels.any()
    areas = [(plane > 0).sum() for plane in truth.T]
    assert (true.labels > 0).sum() == max(areas)
    assert 0 < (predicted.labels > 0).sum() < max(areas)
    assert (image.hu == predicted.hu).all()


def test_one_pair_prints_its_table_and_writes_nothing(folders, monkeypatch):
    monkeypatch.chdir(folders)
    before = sorted(folders.rglob("*"))
    result = run("evaluate", "found/b.nii.gz", "truth/b.nii.gz")
    assert "| Liver" in result.stderr
    assert sorted(folders.rglob("*")) == before
    one = run("evaluate", "found/b.nii.gz", "truth/b.nii.gz", "--json", "-q", "-rs", "liver")
    assert one.stderr == ""
    assert list(json.loads(one.stdout)["scores"]) == ["liver", "average"]


def test_missing_and_surplus_cases_are_named(folders):
    (folders / "found" / "e.nii.gz").rename(folders / "found" / "x.nii.gz")
    result = run("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    assert "e: warning: there is no prediction" in result.stderr
    assert "x: warning: a prediction without a truth" in result.stderr
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert (summary["missing"], summary["surplus"], summary["cases"]) == (["e"], ["x"], 5)
    rows = rows_of(folders / "out" / "cases.csv")
    assert {r["value"] for r in rows if r["case"] == "e" and r["metric"] == "dsc"} == {"0.0"}
    flare = run("evaluate", folders / "found", folders / "truth", "--protocol", "flare24",
                "--json", "-q")  # fmt: skip
    assert json.loads(flare.stdout)["cases"] == 4  # the script walks the predictions


def test_a_refused_case_does_not_stop_the_others(folders):
    image = nib.load(folders / "found" / "c.nii.gz")
    moved = nib.Nifti1Image(np.asarray(image.dataobj), image.affine + np.diag([0, 0, 0.5, 0]))
    nib.save(moved, folders / "found" / "c.nii.gz")
    (folders / "found" / "d.nii.gz").write_bytes(b"no label map")
    with pytest.raises(BatchError, match="2 that failed"):
        run("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert [one["case"] for one in summary["refused"]] == ["c", "d"]
    assert summary["cases"] == 3
    assert [r["exit_code"] for r in rows_of(folders / "out" / "failures.csv")] == ["3", "3"]
    with pytest.raises(BatchError, match="2 that were not"):
        run("evaluate", folders / "found", folders / "truth")
    with pytest.raises(InputError, match="truth's grid"):
        run("evaluate", folders / "found" / "c.nii.gz", folders / "truth" / "c.nii.gz")


def judged(monkeypatch):
    """The cases that are really judged."""
    done = []
    real = cohort._evaluate_pair

    def watched(pair, *rest):
        done.append(pair.case)
        return real(pair, *rest)

    monkeypatch.setattr(cohort, "_evaluate_pair", watched)
    return done


def test_a_second_run_judges_only_what_changed(folders, monkeypatch):
    call = ("evaluate", folders / "found", folders / "truth", "-o", folders / "out", "--jobs", 1)
    done = judged(monkeypatch)
    run(*call)
    assert sorted(done) == list(CASES)
    first = (folders / "out" / "summary.json").read_text()
    done.clear()
    run(*call)
    assert done == []
    assert (folders / "out" / "summary.json").read_text() == first
    (folders / "found" / "b.nii.gz").write_bytes((folders / "found" / "e.nii.gz").read_bytes())
    (folders / "out" / "cases" / "d.json").write_text("{damaged")
    run(*call)
    assert sorted(done) == ["b", "d"]


def test_other_rules_replace_nothing_unasked(folders):
    call = ("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    run(*call)
    kept = (folders / "out" / "summary.json").read_bytes()
    with pytest.raises(OutputError, match="a marker of other work"):
        run(*call, "--protocol", "flare24")
    assert (folders / "out" / "summary.json").read_bytes() == kept
    run(*call, "--protocol", "flare24", "--overwrite")
    assert json.loads((folders / "out" / "summary.json").read_text())["protocol"] == "flare24"


def test_a_mapping_that_changed_under_its_name_is_another_rule(folders):
    mapping = folders / "map.toml"
    call = ("evaluate", folders / "found", folders / "truth", "-o", folders / "out", "-rs", "liver",
            "--truth-labels", mapping)  # fmt: skip
    others = ", ".join(map(str, range(3, 14)))
    mapping.write_text(f"other = [2, {others}]\n[labels]\nliver = 1\n")
    run(*call)
    mapping.write_text(f"other = [1, {others}]\n[labels]\nliver = 2\n")
    with pytest.raises(OutputError, match="a marker of other work"):
        run(*call)


def test_files_of_others_are_not_replaced(folders):
    (folders / "out").mkdir()
    (folders / "out" / "table.md").write_text("mine")
    with pytest.raises(OutputError, match="an existing file"):
        run("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    with pytest.raises(UsageError, match="a folder for output"):
        run("evaluate", folders / "found", folders / "truth", "-o", folders / "out" / "table.md")


@pytest.mark.slow
def test_groups_times_and_another_run(folders):
    groups, times = folders / "groups.csv", folders / "runs.csv"
    groups.write_text("\ufeffcase;region;sex\na;Asia;f\nb;Asia;m\nc;Europe;f\nd;Europe;f\n")
    times.write_text("command,case,seconds,problem\nx,a,1.0,\nx,a,3.0,\nx,b,4.0,\nx,b,9,failed\n")
    first = ("evaluate", folders / "truth", folders / "truth", "-o", folders / "perfect")
    run(*first)
    run("evaluate", folders / "found", folders / "truth", "-o", folders / "out", "--groups", groups,
        "--by", "region", "--times", times, "--against", folders / "perfect")  # fmt: skip
    summary = json.loads((folders / "out" / "summary.json").read_text())
    assert list(summary["groups"]) == ["", "Asia", "Europe"]
    assert summary["groups"]["Asia"]["seconds"] == 3.0
    assert summary["comparison"]["with"] == "perfect"
    assert summary["comparison"]["scores"]["liver"]["dsc"]["mean"] < 0
    same = run("evaluate", folders / "found", folders / "truth", "--against", folders / "out",
               "--json", "-q")  # fmt: skip
    for of in json.loads(same.stdout)["comparison"]["scores"].values():
        assert {(one["mean"], one["p"]) for one in of.values() if one["n"]} == {(0.0, 1.0)}
    with pytest.raises(InputError, match="by the protocol flare24, found standard"):
        run("evaluate", folders / "found", folders / "truth", "--against", folders / "out",
            "--protocol", "flare24")  # fmt: skip
    assert {r["group"] for r in rows_of(folders / "out" / "cases.csv")} == {"", "Asia", "Europe"}
    text = (folders / "out" / "table.md").read_text()
    assert "## Compared with perfect" in text
    assert "| Asia " in text
    with pytest.raises(InputError, match="one column beside 'case', found region, sex"):
        run(*first, "--groups", groups)
    with pytest.raises(InputError, match="a column 'country'"):
        run(*first, "--groups", groups, "--by", "country")
    with pytest.raises(InputError, match=r"cases\.csv of another"):
        run(*first, "--against", groups)
    times.write_text("command,case,seconds\nx,a,1\ny,a,2\n")
    with pytest.raises(InputError, match="runs of one command, found x, y"):
        run(*first, "--times", times, "--groups", groups, "--by", "sex")


def test_a_list_of_pairs(folders):
    listed = folders / "pairs.csv"
    listed.write_text(
        "case,prediction,truth,image\n"
        "one,found/b.nii.gz,truth/b.nii.gz,ct/b_0000.nii.gz\n"
        "two,found/none.nii.gz,truth/c.nii.gz,\n"
    )
    result = run("evaluate", "--pairs", listed, "-o", folders / "out", "--json", "-q")
    assert json.loads(result.stdout)["missing"] == ["two"]
    assert (folders / "out" / "examples.png").exists()
    for text, message in (
        ("case,prediction\na,b", "a column 'truth'"),
        ("case,prediction,truth\n../a,b,c", "without slashes"),
        ("case,prediction,truth\na,b,c\na,b,c", "a name of its own"),
        ("case,prediction,truth\na,b,", "a truth in row 2"),
    ):
        listed.write_text(text)
        with pytest.raises(InputError, match=message):
            run("evaluate", "--pairs", listed)
    with pytest.raises(UsageError, match="either two paths or pairs"):
        run("evaluate", "x", "y", "--pairs", listed)


def test_calls_that_say_too_little(folders):
    with pytest.raises(UsageError, match="two files or two folders"):
        run("evaluate", folders / "found")
    with pytest.raises(UsageError, match="one of each"):
        run("evaluate", folders / "found", folders / "truth" / "a.nii.gz")
    (folders / "found" / "a_0000.nii").write_bytes(b"")
    with pytest.raises(UsageError, match="several of 'a'"):
        run("evaluate", folders / "found", folders / "truth")


def test_a_ct_on_another_grid_is_left_out_of_the_picture(folders, phantom):
    from viscera.core.phantom import make_phantom

    other, _ = make_phantom(1, shape=(20, 20, 10), spacing_mm=(8, 8, 8))
    write_volume(folders / "ct" / "a_0000.nii.gz", other, overwrite=True)
    result = run("evaluate", folders / "found", folders / "truth", "-o", folders / "out",
                 "--images", folders / "ct")  # fmt: skip
    assert "expected a CT on the truth's grid" in result.stderr
    assert (folders / "out" / "examples.png").exists()


def pairs_in(folders):
    return [
        CasePair(c, folders / "truth" / f"{c}.nii.gz", folders / "found" / f"{c}.nii.gz")
        for c in CASES
    ]


def test_processes_and_one_process_agree(folders):
    told = []
    two = evaluate_pairs(
        pairs_in(folders), EvaluationRules(ORGANS), jobs=2, on_progress=told.append
    )
    one = evaluate_pairs(pairs_in(folders), EvaluationRules(ORGANS), jobs=1)
    assert two == one
    assert list(two) == list(CASES)
    assert told == [0, 1, 2, 3, 4, 5]


def test_memory_is_planned_before_it_is_taken(folders):
    found = evaluate_pairs(pairs_in(folders), EvaluationRules(ORGANS, memory_limit_mb=100), jobs=2)
    assert {type(error) for error in found.values()} == {ResourceError}
    assert "at least 15" in str(found["a"])
    some = evaluate_pairs(pairs_in(folders), EvaluationRules(ORGANS, memory_limit_mb=200), jobs=8)
    assert {type(outcome) for outcome in some.values()} == {Evaluation}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_an_interrupted_run_goes_on(folders):
    """What was judged before the interruption is kept, and nothing is half-written."""
    call = [sys.executable, "-m", "viscera", "evaluate", folders / "found", folders / "truth"]
    call += ["-o", folders / "out", "-q", "--jobs", "2"]
    process = subprocess.Popen(call, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((folders / "out").glob("cases/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in (130, 0)  # 0 where it had ended already
    for path in (folders / "out" / "cases").glob("*.json"):
        json.loads(path.read_text())
    assert not list((folders / "out").rglob("*.part"))
    assert subprocess.run(call, check=False).returncode == 0
    assert len(rows_of(folders / "out" / "cases.csv")) == len(CASES) * 13 * 6


@pytest.mark.parametrize("name", ["cases/a.json", "table.md", "summary.json", "cases.csv"])
def test_nothing_of_others_is_touched(folders, name):
    mine = folders / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(OutputError):
        run("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    assert [p for p in (folders / "out").rglob("*") if p.is_file()] == [mine]


def test_a_run_that_was_cut_off_while_writing_goes_on(folders, monkeypatch):
    from viscera.evaluation import folder as room

    def full(*_):
        raise OutputError("space", found="none", remedy="free some")

    call = ("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    with monkeypatch.context() as broken:
        broken.setattr(room, "boxplot_png", full)
        with pytest.raises(OutputError, match="free some"):
            run(*call)
    run(*call)
    assert (folders / "out" / "summary.json").exists()


def test_a_file_that_changes_while_it_is_judged_is_judged_again(folders, monkeypatch):
    """The mark is of the bytes before reading, so that the old scores fit no new file."""
    path = folders / "found" / "e.nii.gz"
    real = cohort._evaluate_pair

    def changing(pair, *rest):
        outcome = real(pair, *rest)
        if pair.case == "e":
            path.write_bytes((folders / "truth" / "e.nii.gz").read_bytes())
        return outcome

    call = ("evaluate", folders / "found", folders / "truth", "-o", folders / "out", "--jobs", 1)
    with monkeypatch.context() as patch:
        patch.setattr(cohort, "_evaluate_pair", changing)
        run(*call)
    run(*call)
    rows = rows_of(folders / "out" / "cases.csv")
    assert {r["value"] for r in rows if r["case"] == "e" and r["metric"] == "dsc"} == {"1.0"}


def test_an_unreadable_prediction_is_not_mistaken_for_a_missing_one(folders):
    path = folders / "found" / "a.nii.gz"
    path.unlink()
    call = ("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    run(*call)
    path.symlink_to(path)  # a loop
    (folders / "found" / "a.nii").write_bytes(b"")
    with pytest.raises(BatchError):
        run(*call)


def test_a_picture_of_earlier_labels_does_not_stay(folders):
    call = ("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    run(*call, "--images", folders / "ct")
    assert (folders / "out" / "examples.png").exists()
    run(*call)
    assert not (folders / "out" / "examples.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--by", "x"), "expected groups"),
        (("--times", "x"), "expected groups"),
        (("--images", "ct"), "expected output"),
        (("-o", "out", "--images", "nowhere"), "a folder of CTs"),
    ],
)
def test_options_that_would_do_nothing_are_refused(folders, monkeypatch, words, message):
    monkeypatch.chdir(folders)
    with pytest.raises(UsageError, match=message):
        run("evaluate", "found", "truth", *words)
    assert not (folders / "out").exists()


def test_nothing_in_common_is_no_success(folders):
    other = folders / "other"
    other.mkdir()
    (folders / "found" / "a.nii.gz").rename(other / "x.nii.gz")
    with pytest.raises(NothingToSegmentError, match="none with the same name"):
        run("evaluate", other, folders / "truth", "--protocol", "flare24")
    listed = folders / "list.csv"
    listed.write_text("case,prediction,truth\n")
    with pytest.raises(InputError, match="at least one pair"):
        run("evaluate", "--pairs", listed)
    listed.write_text("case,region\nsomebody,Asia\n")
    with pytest.raises(InputError, match="the cases' names in groups, found somebody"):
        run("evaluate", folders / "found", folders / "truth", "--groups", listed)
    listed.write_text("case,organ,metric,value\nsomebody,liver,dsc,1.0\n")
    with pytest.raises(InputError, match="some of these cases in against"):
        run("evaluate", folders / "found", folders / "truth", "--against", listed)


def test_groups_may_be_named_as_the_images_are(folders):
    groups = folders / "groups.csv"
    groups.write_text("case,region\na_0000,Asia\n")
    result = run("evaluate", folders / "found", folders / "truth", "--groups", groups, "--json",
                 "-q")  # fmt: skip
    assert json.loads(result.stdout)["groups"]["Asia"]["cases"] == 1


@pytest.mark.parametrize(
    ("option", "content", "error"),
    [
        ("--times", "case,seconds\na,nan\n", InputError),
        ("--times", "case,seconds\na,-1\n", InputError),
        ("--groups", "case,region\na," + "x" * 200_000 + "\n", InputError),
        ("--against", "case,organ,metric,value\na,liver,dsc," + "1" * 200_000 + "\n", InputError),
        ("--groups", "\udcff", InputError),
        ("--truth-labels", "[labels]\nliver = 5\nspleen = [", InputError),
    ],
)
def test_odd_files_get_a_sentence(folders, option, content, error):
    path = folders / "odd.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    more = ("--groups", path) if option == "--times" else ()
    if more:
        groups = folders / "groups.csv"
        groups.write_text("case,region\na,Asia\n")
        more = ("--groups", groups)
    with pytest.raises(error):
        run("evaluate", folders / "found", folders / "truth", option, path, *more)


@pytest.mark.parametrize("option", ["--truth-labels", "--against", "--groups", "--images"])
def test_names_that_no_file_system_holds(folders, option):
    with pytest.raises((UsageError, InputError)):
        run("evaluate", folders / "found", folders / "truth", "-o", folders / "out", option,
            "n" * 300)  # fmt: skip


def test_a_run_to_compare_with_that_cannot_be(folders):
    path = folders / "huge.csv"
    path.write_text("case,organ,metric,value\na,liver,hd95_mm,1e308\n")
    with pytest.raises(InputError, match="value 1e"):
        run("evaluate", folders / "found", folders / "truth", "--against", path)


@pytest.mark.skipif(sys.platform != "linux", reason="names of bytes are Linux's")
def test_names_that_are_not_utf8(folders):
    for folder in ("found", "truth"):
        odd = folders / folder / os.fsdecode(b"\xff.nii.gz")
        (folders / folder / "a.nii.gz").rename(odd)
    run("evaluate", folders / "found", folders / "truth", "-o", folders / "out")
    assert "\\udcff" in (folders / "out" / "cases.csv").read_text(encoding="utf-8")


def test_a_list_of_failures_that_is_a_folder(folders):
    (folders / "out" / "failures.csv").mkdir(parents=True)
    with pytest.raises(OutputError, match="list of failures"):
        run("evaluate", folders / "found", folders / "truth", "-o", folders / "out")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5, 1.2])
def test_two_interruptions_end_it_at_once(folders, after_s):
    call = [sys.executable, "-m", "viscera", "evaluate", folders / "found", folders / "truth"]
    call += ["-o", folders / "out", "-q", "--jobs", "2"]
    process = subprocess.Popen(call, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folders / "out" / "evaluation.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after_s)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    _, said = process.communicate(timeout=30)
    # The second one may meet an interpreter that is on its way out; a shell calls that 130 as well.
    assert process.returncode in (130, -signal.SIGINT, 0)
    assert "Traceback" not in said


@pytest.mark.slow
def test_only_the_wanted_organs_are_drawn(folders, phantom):
    """The slice is the one with most of the organ asked for."""
    bladder = phantom[1] == 9
    result = run("evaluate", folders / "found", folders / "truth", "-o", folders / "out",
                 "--images", folders / "ct", "-rs", "gallbladder")  # fmt: skip
    assert result.exit_code == 0
    assert bladder.any()
    with Image.open(folders / "out" / "examples.png") as picture:
        colours = {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3)}
    contour = next(o.colour for o in ORGANS if o.name == "gallbladder")
    assert min(sum(abs(a - int(b)) for a, b in zip(contour, c, strict=True)) for c in colours) < 30
