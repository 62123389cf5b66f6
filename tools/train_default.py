"""Train the default bundle, and all that judges it, from ../shared: one command.

    python tools/train_default.py OUT [--minutes N] [--only WORD]

Every part is resumable: a second call goes on where the first stopped, and `--minutes` ends a
call after about so long. Three folds of `default`, `paper` and `unet64` judge, every patient once
(the packaged `paper` comes from `benchmarks/paper.py`). `default` itself is trained on all patients
but the one whom `viscera sample` shows; variations of fold 0 make the table of ablations.
`python benchmarks/results.py OUT` then measures them all.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from viscera.training.checkpoint import LAST, load_weights, save_checkpoint
from viscera.training.data.cases import find_cases
from viscera.training.data.split import split_cases
from viscera.training.journal import read_journal
from viscera.training.loop import new_network
from viscera.training.run_folder import read_run
from viscera.training.settings import SplitSettings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
TEACHER = ROOT / "examples" / "bundles" / "flare25_dw"
FOLDS = 3
LICENCE = "CC BY-NC-SA 4.0; research use, not a medical device"
PROVENANCE = (
    "Weights begin with those of dw_nnunet.flare25 (Apache-2.0 beside its code, trained on FLARE "
    "2025 Task 2 labels, CC BY-NC-SA) and are trained further on CTs of TCIA (CC BY 3.0, 4.0), "
    "Medical Segmentation Decathlon (CC BY-SA 4.0), TotalSegmentator examples (Apache-2.0); labels "
    "by that network, TotalSegmentator and experts"
)
BASELINE = (
    "CTs of TCIA (CC BY 3.0 and 4.0), Medical Segmentation Decathlon (CC BY-SA 4.0) and "
    "TotalSegmentator examples (Apache-2.0); labels by dw_nnunet.flare25 (trained on FLARE 2025 "
    "Task 2 labels, CC BY-NC-SA), TotalSegmentator and experts"
)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        recipe: file in configs/.
        settings: what is changed in it.
        fold: which part of the patients is held back; None: the sample's patient alone.
        use_teacher: learn from the published network, whose weights it also begins with.
        synthetic: whether synthetic scans are learnt from too.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    fold: int | None = 0
    use_teacher: bool = False
    synthetic: bool = False


# The baselines are trained briefly: there is one CPU for all of this.
_SHORT = {
    "paper": ("optimisation.epochs=4", f"split.folds={FOLDS}", "optimisation.validate_every=0"),
    "unet64": (
        *("optimisation.epochs=1", "optimisation.steps_per_epoch=40"),
        *(f"split.folds={FOLDS}", "optimisation.validate_every=0"),
    ),
}
RUNS = {
    **{f"default-{n}": Run("default.toml", fold=n, use_teacher=True) for n in range(FOLDS)},
    "default": Run("default.toml", fold=None, use_teacher=True),
    # The published network on our grid; one step too small to change it makes it a training.
    "untuned": Run(
        "default.toml",
        ("optimisation.steps_per_epoch=1", "optimisation.learning_rate=1e-9"),
        use_teacher=True,
    ),
    **{
        f"{name}-{n}": Run(f"{name}.toml", _SHORT[name], fold=n)
        for name in ("paper", "unet64")
        for n in range(FOLDS)
    },
}
# One change at a time to the recipe, on fold 0; the last one changes what goes with its norm too.
ABLATIONS = {
    "learning rate 1e-4": Run(
        "default.toml", ("optimisation.learning_rate=1e-4",), use_teacher=True
    ),
    "learning rate 3e-4, 60 steps": Run(
        "default.toml",
        ("optimisation.learning_rate=3e-4", "optimisation.steps_per_epoch=60"),
        use_teacher=True,
    ),
    "synthetic scans": Run("default.toml", use_teacher=True, synthetic=True),
    "no distillation": Run("default.toml", ("loss.distillation=0",), use_teacher=True),
}


def slug(name: str) -> str:
    """A folder's name."""
    return name.replace(",", "").replace(" ", "-")


def call(*words: object) -> None:
    """A command of viscera's, as a user calls it."""
    subprocess.run([sys.executable, "-m", "viscera", *map(str, words)], check=True)


def tool(name: str, *words: object) -> None:
    """Another tool of this folder."""
    subprocess.run([sys.executable, ROOT / "tools" / name, *map(str, words)], check=True)


def prepare(out: Path) -> None:
    """Lists and first weights."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "cases.csv").exists():
        tool("list_shared_cases.py", out / "cases.csv")
    if not (out / "cases_held.csv").exists():
        tool("list_shared_cases.py", out / "cases_held.csv", "--hold-sample")
    if not (out / "flare25.safetensors").exists():
        model = SHARED / "models" / "flare25_dw" / "model.onnx"
        tool("published_weights.py", model, out / "flare25.safetensors")


def train(out: Path, name: str, run: Run, minutes: float | None) -> None:
    """Begin or go on with one training, and export it when it is done."""
    folder, bundle = out / "runs" / slug(name), out / "bundles" / slug(name)
    if (bundle / "bundle.toml").exists() or (name in ABLATIONS and finished(folder)):
        return
    listed = [out / ("cases.csv" if run.fold is not None else "cases_held.csv")]
    if run.synthetic:
        folder_ = out / f"synthetic-{run.fold}"
        if not (folder_ / "cases.csv").exists():
            assert run.fold is not None  # whose patients' textures may not be seen either
            held = held_patients(out / "cases.csv", run.fold)
            tool("synthesise.py", folder_, "--count", 20, "--without", *held)
        listed.append(folder_ / "cases.csv")
    options: list[object] = ["--cache", out / f"cache-{run.recipe.split('.')[0]}", "--resume"]
    if run.fold is not None:
        options += ["--fold", run.fold]
    for setting in run.settings:
        options += ["--set", setting]
    if run.use_teacher:
        options += ["--init", out / "flare25.safetensors"]
        if "loss.distillation=0" not in run.settings:
            options += ["--teacher", TEACHER]
    if minutes is not None:
        options += ["--minutes", minutes]
    call("train", ROOT / "configs" / run.recipe, *listed, "-o", folder, *options)
    if name in ABLATIONS or not finished(folder):
        return
    # The last weights: the best would be chosen by the very patients that judge.
    keep(folder, out / "weights" / f"{slug(name)}.safetensors")
    call("export", folder, "-o", bundle, "--weights", "last", "--licence", LICENCE,
         "--training-data", PROVENANCE if run.use_teacher else BASELINE)  # fmt: skip
    if name == "default":  # what is packaged
        packaged = ROOT / "src" / "viscera" / "bundles" / name
        shutil.copytree(bundle, packaged, dirs_exist_ok=True)
        shutil.copy(out / "weights" / f"{name}.safetensors", ROOT / "weights")


def keep(run: Path, path: Path) -> None:
    """A training's last weights in half precision: `viscera train --init` begins with them."""
    recipe, _ = read_run(run)
    network = new_network(recipe)
    reached = load_weights(run / LAST, network)
    path.parent.mkdir(exist_ok=True)
    save_checkpoint(path, network.half(), reached)


def held_patients(listed: Path, fold: int) -> list[str]:
    """Who is held back in a fold."""
    cases, _ = find_cases([listed])
    _, held = split_cases(cases, SplitSettings(folds=FOLDS, fold=fold))
    return sorted({case.patient for case in held})


def finished(folder: Path) -> bool:
    """Whether a training has been validated at its end, which is when all its steps are done."""
    if not (folder / "metrics.jsonl").exists():
        return False
    how = read_run(folder)[0].optimisation
    lines = [line for line in read_journal(folder) if line["kind"] == "validation"]
    # Recipes without steps_per_epoch are validated at their end alone, see _SHORT.
    return bool(lines) and lines[-1]["step"] >= how.epochs * (how.steps_per_epoch or 0)


def main() -> None:
    """Train everything, or go on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, help="end after about so long")
    parser.add_argument("--only", default="", help="runs whose name holds this word")
    options = parser.parse_args()
    out, begun = options.out.resolve(), time.monotonic()
    prepare(out)
    for name, run in (RUNS | ABLATIONS).items():
        left = None
        if options.minutes is not None:
            left = options.minutes - (time.monotonic() - begun) / 60
            if left <= 0:
                break
        if options.only in name:
            train(out, name, run, left)


if __name__ == "__main__":
    main()
