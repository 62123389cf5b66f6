"""The same scan again and again, and a batch that is killed: are the results equal byte for byte?

    python benchmarks/repeat.py [--kills 30] [--seed 0]

Part one segments one CT of ../shared ten times: two memory limits that both suffice, cold and warm
cache, one and two threads, beside a loaded machine. Part two kills a batch of four CTs with all
outputs at random instants with SIGKILL, lets it end, and compares it with one that nobody disturbed.
What a run cost stands in its report (`stages`, `seconds`) and is left out of the comparison.
Writes benchmarks/results/repeat.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib

from scans import ROOT
from viscera.report.markdown import markdown_table

DATA = ROOT.parent / "shared/data"
SCAN = DATA / "tcia_lidc_idri/0001/ct.nii.gz"
BATCH = (
    DATA / "tcia_rider_pilot/0109_abdomen/ct.nii.gz",
    DATA / "tcia_c4kc_kits/KiTS-00072_18slices/ct.nii.gz",
    DATA / "tcia_tcga_lihc/TCGA-BC-A10X/ct.nii.gz",
    DATA / "totalsegmentator_examples/example_ct_3mm/ct.nii.gz",
)
RESULTS = ROOT / "benchmarks/results/repeat.md"
EVERY_OUTPUT = ("-s", "-p", "--masks", "--report", "--tables", "-ot", "seg_nrrd", "-q")
VISCERA = (sys.executable, "-m", "viscera", "segment")
SETTINGS: tuple[tuple[str, tuple[str, ...], bool, bool], ...] = (
    ("plain, cold cache", (), True, False),
    ("plain, warm cache", (), False, False),
    ("plain, warm cache again", (), False, False),
    ("memory limit 1200M", ("--memory-limit", "1200M"), False, False),
    ("memory limit 6G", ("--memory-limit", "6G"), False, False),
    ("cold cache, memory limit 1200M", ("--memory-limit", "1200M"), True, False),
    ("beside a loaded machine", (), False, True),
    ("beside a loaded machine, cold cache", (), True, True),
    ("one thread", ("--threads", "1"), False, False),
    ("one thread, cold cache", ("--threads", "1"), True, False),
)


def ten_runs(folder: Path) -> list[tuple[str, ...]]:
    """Digest of file and of labels for every setting."""
    rows = []
    for name, options, cold, loaded in SETTINGS:
        if cold:
            shutil.rmtree(folder / "cache", ignore_errors=True)
        environment = {**os.environ, "VISCERA_CACHE": str(folder / "cache")}
        spinners = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * loaded)
        ]
        try:
            path = folder / "labels.nii.gz"
            call = [*VISCERA, str(SCAN), "-o", str(path), "-q", "--overwrite", *options]
            subprocess.run(call, check=True, env=environment)
        finally:
            for spinner in spinners:
                spinner.kill()
        image = nib.load(path)
        labels = hashlib.sha256(image.dataobj.get_unscaled().tobytes()).hexdigest()[:12]
        file = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        made_by = bytes(image.header["descrip"]).rstrip(b"\0").decode()
        rows.append((name, labels, file, made_by))
        print(*rows[-1], sep="  ", flush=True)
    return rows


def digests(folder: Path) -> dict[str, str]:
    """Digest of every file of a batch, what it cost left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.parent.name == ".viscera":
            continue
        content = path.read_bytes()
        if path.name.endswith("_report.json"):
            report = json.loads(content)
            content = json.dumps(
                {k: v for k, v in report.items() if k not in ("stages", "seconds")}
            )
            content = content.encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


def killed_batch(folder: Path, kills: int, seed: int) -> str:
    """Kill a batch at random instants; what was compared, in one sentence."""
    scans = folder / "scans"
    scans.mkdir()
    for scan in BATCH:
        shutil.copy(scan, scans / f"{scan.parent.name}.nii.gz")
    call = [*VISCERA, str(scans), *EVERY_OUTPUT, "-o"]
    start = time.monotonic()
    subprocess.run([*call, str(folder / "alone")], check=True)
    seconds = time.monotonic() - start
    random_, out, done = random.Random(seed), folder / "out", 0
    while done < kills:
        process = subprocess.Popen([*call, str(out)])
        try:
            process.wait(random_.uniform(0.3, seconds))
            shutil.rmtree(out)  # it ended before: begin again
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
    subprocess.run([*call, str(out)], check=True)
    expected, found = digests(folder / "alone"), digests(out)
    left = [p for p in out.rglob("*") if p.name.endswith((".part", ".lease"))]
    equal = sum(found.get(name) == digest for name, digest in expected.items())
    return (
        f"{kills} kills at random instants of a batch of {len(BATCH)} CTs ({seconds:.1f} s "
        f"undisturbed): {equal} of {len(expected)} files equal, "
        f"{len(set(found) - set(expected))} others, {len(left)} left behind."
    )


def main() -> None:
    """Run both parts and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = ten_runs(Path(name))
        sentence = killed_batch(Path(name), options.kills, options.seed)
    print(sentence)
    head = ("run", "labels", "file", "made by")
    text = "# The same again\n\n`python benchmarks/repeat.py`, digests shortened.\n\n"
    RESULTS.write_text(f"{text}{markdown_table(head, rows)}\n\n{sentence}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
