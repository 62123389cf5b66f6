"""Make every packaged network, and those of the other folds that judge them: one command.

    python tools/train_packaged.py OUT [--minutes N] [--together N] [--only WORD]

From ../shared: lists of cases, synthetic scans, caches (packed too, to carry them to a machine that
has a GPU and no scans), trainings, averages of their weights, bundles. What is done is not done
again, so that runs of under ten minutes add up: `--minutes` ends a call after about so long, and a
second call goes on. `--together` trains so many networks at a time, which a large GPU does more
quickly than one after another. For a GPU machine without scans, carry OUT/flare25.safetensors
and the packs, and unpack them there (`pack_cache.py`): default.pack and synthetic.pack into
OUT/cache-default, paper_strong.pack into OUT/cache-paper_strong. A later call beside ../shared
packages what was trained there.

`look` is one short training at 4 mm; the other networks see only what it finds.
`default` is the average of four short trainings and of the published weights that they begin with.
Fold 0 is packaged: it never saw img0027, img0033, img0039, nor the patient of `viscera sample`. The
other folds judge the way it was made (`benchmarks/results.py`). `fast` is the same network on a
coarser grid. `paper` is the average of the last three of four trainings, each of which begins where
the one before it ended.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from viscera.bundle.read import WEIGHTS
from viscera.training.checkpoint import LAST, load_weights, save_checkpoint
from viscera.training.loop import new_network
from viscera.training.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
TEACHER = ROOT / "examples" / "bundles" / "flare25_dw"
FOLDS = 4
PUBLISHED = "flare25"  # weights to begin with
SYNTHETIC_SCANS = 12
FAST_MM = "[2.0, 2.0, 2.5]"
FAST_FIELD_MM = "[340.0, 270.0]"  # with less it loses the vena cava of a scan
LICENCE = "CC BY-NC-SA 4.0; research use, not a medical device"
_CTS = (
    "CTs of BTCV (Synapse syn3193805, research use), TCIA (CC BY 3.0, 4.0), Medical Segmentation "
    "Decathlon (CC BY-SA 4.0) and TotalSegmentator examples (Apache-2.0); labels by the raters of "
    "BTCV and Gibson et al. (CC BY 4.0), dw_nnunet.flare25, TotalSegmentator and experts; never on "
    "img0027, img0033, img0039 of BTCV nor on LIDC-IDRI-0001"
)
DEFAULT_DATA = (
    "Weights begin with those of dw_nnunet.flare25 (Apache-2.0 beside its code, trained on FLARE "
    "2025 Task 2 labels, CC BY-NC-SA) and are the average of these, two fifths, and of four "
    "trainings on " + _CTS
)
LOOK_DATA = (
    "Weights begin with those of dw_nnunet.flare25 (Apache-2.0 beside its code, trained on FLARE "
    "2025 Task 2 labels, CC BY-NC-SA); trained on at 4 mm on " + _CTS
)
PAPER_DATA = (
    "Not the paper's training: its network and preset, trained longer, with augmentation and more "
    "samples of small organs (configs/paper_strong.toml). The paper's protocol "
    "(configs/paper.toml), 40 epochs on the same data, reached .55 DSC on the three patients on "
    "whom this one reaches .77. On " + _CTS
)
SCORES = "docs/results.md has it, on patients whom these weights have not seen"
LOOK_SCORES = "benchmarks/results/look.md tells what it leaves of scans, and what that changes"


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        recipe: file in configs/, whose cache has the same name.
        fold: which part of the patients drawn by hand is held back.
        begin: weights to begin with: PUBLISHED, or another run; none: at random.
        settings: what is changed in the recipe.
    """

    recipe: str
    fold: int = 0
    begin: str = ""
    settings: tuple[str, ...] = ()


# The trainings of which `default` is the average: by how much each counts, and what it changes.
PARTS = {
    "synthetic": (0.24, ("data.exclude=[]",)),
    "short": (0.12, ()),
    "distilled": (0.12, ("loss.distillation=1.0",)),
    "long": (0.12, ("optimisation.steps_per_epoch=1472",)),
}
PUBLISHED_SHARE = 0.4  # of the weights that they begin with; chosen by cross-validation
ONE_GRID = ("data.patch_sizes=[[160,160,96]]", "data.coarsest=1.0")
_PAPER_STEPS = (2700, 5539, 2271, 1834)
RUNS = {
    **{
        f"{part}-{fold}": Run("default", fold, PUBLISHED, settings)
        for fold in range(FOLDS)
        for part, (_, settings) in PARTS.items()
    },
    **{f"one-grid-{fold}": Run("default", fold, PUBLISHED, ONE_GRID) for fold in (0, 1)},
    "look": Run("look", begin=PUBLISHED),
    **{
        f"paper-{n}": Run(
            "paper_strong",
            begin=f"paper-{n - 1}" if n > 1 else "",
            settings=(
                f"optimisation.steps_per_epoch={steps}",
                f"optimisation.learning_rate={3e-3 if n == 1 else 2e-3}",
            ),
        )
        for n, steps in enumerate(_PAPER_STEPS, 1)
    },
}


def viscera(*words: object) -> None:
    """A command of viscera's, as a user calls it."""
    subprocess.run([sys.executable, "-m", "viscera", *map(str, words)], check=True)


def tool(name: str, *words: object) -> None:
    """Another tool of this folder."""
    subprocess.run([sys.executable, ROOT / "tools" / name, *map(str, words)], check=True)


def prepare(out: Path) -> None:
    """Lists, first weights, synthetic scans, caches and their packs."""
    listed, synthetic = out / "cases.csv", out / "synthetic"
    if not listed.exists():
        tool("list_shared_cases.py", listed)
    if not (out / f"{PUBLISHED}.safetensors").exists():
        model = SHARED / "models" / "flare25_dw" / "model.onnx"
        tool("published_weights.py", model, out / f"{PUBLISHED}.safetensors")
    if not (synthetic / "cases.csv").exists():
        # Of no patient drawn by hand: so they serve all folds alike.
        held = [path.name for path in sorted((SHARED / "data" / "btcv_synapse").iterdir())]
        without = [f"btcv_synapse_{name}" for name in held]
        tool("synthesise.py", synthetic, "--count", SYNTHETIC_SCANS, "--without", *without)
    fast = ("--set", f"input.spacing_mm={FAST_MM}")
    taught = ("--teacher", TEACHER, "--set", "loss.distillation=1.0", "--set", "data.exclude=[]")
    for name, recipe, data, more in (
        ("default", "default", (listed, synthetic / "cases.csv"), taught),
        ("paper_strong", "paper_strong", (listed,), ()),
        ("fast", "default", (listed,), fast),
        ("look", "look", (listed,), ("--teacher", TEACHER)),
    ):
        if not (out / f"cache-{name}" / "cache.json").exists():
            viscera("train", ROOT / f"configs/{recipe}.toml", *data, "-o", out / "prepared",
                    "--cache", out / f"cache-{name}", "--prepare", *more)  # fmt: skip
    for pack, cache, words in (
        ("default", "default", ("--without", "synthetic_*")),
        ("synthetic", "default", ("--only", "synthetic_*")),
        ("paper_strong", "paper_strong", ()),
    ):
        if not (out / f"{pack}.pack").exists():
            tool("pack_cache.py", "pack", out / f"cache-{cache}", out / f"{pack}.pack", *words)


def begin(out: Path, name: str, minutes: float | None) -> subprocess.Popen[bytes] | None:
    """Begin or go on with one training; None if what it begins with is not done."""
    run, first = RUNS[name], Path()
    if run.begin:
        first = out / f"{run.begin}.safetensors"
        if run.begin in RUNS:
            if not finished(out, run.begin):
                return None
            first = out / "runs" / run.begin / LAST
    words: list[object] = [
        "train",
        ROOT / "configs" / f"{run.recipe}.toml",
        "-o",
        out / "runs" / name,
    ]
    words += ["--cache", out / f"cache-{run.recipe}", "--resume", "--fold", run.fold, "-q"]
    words += [word for setting in run.settings for word in ("--set", setting)]
    words += ["--init", first] if run.begin else []
    words += ["--minutes", minutes] if minutes is not None else []
    return subprocess.Popen([sys.executable, "-m", "viscera", *map(str, words)])


def train(out: Path, only: str, together: int, deadline: float) -> None:
    """Train what is not trained yet, several at a time, until the deadline."""
    waiting = [name for name in RUNS if only in name and not finished(out, name)]
    running: dict[str, subprocess.Popen[bytes]] = {}
    while waiting or running:
        for name in list(waiting):
            left_minutes = (deadline - time.monotonic()) / 60
            if len(running) < together and left_minutes > 0:
                process = begin(out, name, None if left_minutes == float("inf") else left_minutes)
                if process is not None:
                    running[name] = process
                    waiting.remove(name)
        if not running:
            return
        time.sleep(0.5)
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                if process.returncode:
                    for other in running.values():  # each ends at a checkpoint
                        other.terminate()
                        other.wait()
                    raise SystemExit(f"{name} failed")
                print(name, "is done" if finished(out, name) else "goes on next time", flush=True)


def finished(out: Path, name: str) -> bool:
    """Whether all steps of a training are done."""
    folder = out / "runs" / name
    if not (folder / LAST).exists():
        return False
    recipe, _ = read_recipe(folder / "recipe.toml")
    reached = load_weights(folder / LAST, new_network(recipe))
    return reached.step >= recipe.optimisation.epochs * (recipe.optimisation.steps_per_epoch or 0)


def average(sources: Mapping[Path, float], recipe: str, target: Path) -> None:
    """The weighted mean of several trainings' weights, in half precision; their steps are summed.

    Args:
        sources: shares of each training's weights; they sum to 1.
        recipe: in configs/, whose network it is.
        target: the file to write.
    """
    network = new_network(read_recipe(ROOT / "configs" / f"{recipe}.toml")[0])
    mean: dict[str, Tensor] = {}
    steps, seconds = 0, 0.0
    for path, share in sources.items():
        reached = load_weights(path, network)
        steps, seconds = steps + reached.step, seconds + reached.seconds
        for name, value in network.state_dict().items():
            mean[name] = mean.get(name, 0) + share * value.float()
    network.load_state_dict(mean)
    reached.step, reached.seconds, reached.best_dsc = steps, seconds, -1.0
    target.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(target, network.half(), reached)


def parts_of(out: Path, fold: int) -> dict[Path, float]:
    """The weights of which `default` is the average, and their shares."""
    trained = {out / "runs" / f"{part}-{fold}" / LAST: share for part, (share, _) in PARTS.items()}
    return trained | {out / f"{PUBLISHED}.safetensors": PUBLISHED_SHARE}


def averages(out: Path) -> None:
    """The averages of what is trained, packaged ones and those of the other folds."""
    for fold in range(FOLDS):
        name = "default" if fold == 0 else f"folds/default-{fold}"
        if all(finished(out, f"{part}-{fold}") for part in PARTS):
            average(parts_of(out, fold), "default", weights_file(name))
    if finished(out, "look"):
        average({out / "runs" / "look" / LAST: 1.0}, "look", weights_file("look"))
    last = {out / "runs" / f"paper-{n}" / LAST: 1 / 3 for n in (2, 3, 4)}
    if all(finished(out, path.parent.name) for path in last):
        average(last, "paper_strong", weights_file("paper"))


def weights_file(name: str) -> Path:
    """Where averaged weights are kept; those of `default` are packaged, for `viscera train`."""
    if name == "default":
        return ROOT / "src" / "viscera" / "bundles" / "default" / WEIGHTS
    return ROOT / "weights" / f"{name}.safetensors"


def package(out: Path) -> None:
    """The packaged bundles, each only if it gives the labels of the averaged network."""
    bundles = ROOT / "src" / "viscera" / "bundles"
    fast = (f"input.spacing_mm={FAST_MM}", f"look.field_mm={FAST_FIELD_MM}", "name=dwnet16.fast")
    for name, recipe, settings, data in (
        ("look", "look", ("loss.distillation=0.0",), LOOK_DATA),
        ("default", "default", (), DEFAULT_DATA),
        ("fast", "default", fast, DEFAULT_DATA),
        ("paper", "paper_strong", (), PAPER_DATA),
    ):
        weights = weights_file("default" if name == "fast" else name)
        run, cache = out / "packaged" / name, "fast" if name == "fast" else recipe
        scores = f'about.scores="{LOOK_SCORES if name == "look" else SCORES}"'
        changed = [word for setting in (*settings, scores) for word in ("--set", setting)]
        begun = (
            "--resume",
            "--minutes",
            0,
            "-q",
        )  # a training's folder, in which nothing is learnt
        viscera("train", ROOT / f"configs/{recipe}.toml", "-o", run, "--fold", 0,
                "--cache", out / f"cache-{cache}", *changed, *begun)  # fmt: skip
        made = out / "packaged" / f"{name}-bundle"
        viscera("export", run, "-o", made, "--weights", weights,
                "--licence", LICENCE, "--training-data", data, "--overwrite")  # fmt: skip
        shutil.copytree(made, bundles / name, dirs_exist_ok=True)
    share_network(bundles / "fast", bundles / "default")


def share_network(bundle: Path, other: Path) -> None:
    """Let a bundle name another's network, which is the same, so that it is stored once."""
    if (bundle / "model.onnx").read_bytes() != (other / "model.onnx").read_bytes():
        raise SystemExit(f"{bundle.name} and {other.name} have other networks")
    text = (bundle / "bundle.toml").read_text()
    (bundle / "bundle.toml").write_text(
        text.replace('file = "model.onnx"', f'file = "../{other.name}/model.onnx"')
    )
    (bundle / "model.onnx").unlink()


def main() -> None:
    """Make everything, or go on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="end after about so long"
    )
    parser.add_argument(
        "--together", type=int, help="networks to train at a time; default: 5 on a GPU, else 1"
    )
    parser.add_argument("--only", default="", help="trainings whose name holds this word")
    options = parser.parse_args()
    out, begun = options.out.resolve(), time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    if SHARED.is_dir():
        prepare(out)
    together = options.together or (5 if torch.cuda.is_available() else 1)
    train(out, options.only, together, begun + options.minutes * 60)
    averages(out)
    if SHARED.is_dir() and all(finished(out, name) for name in RUNS):
        package(out)


if __name__ == "__main__":
    main()
