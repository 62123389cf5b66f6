"""What `viscera check` says of every CT in ../shared/data, and of the made cases of ../shared/cases.

    python benchmarks/check.py

Writes docs/check-results.md: body parts, phase beside what the manifest says, noise, findings. A good
CT should have no warning, and a wrong one should.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

import numpy as np  # noqa: E402

import viscera  # noqa: E402
from viscera.batch.check_scans import LOOK, ScanCheck, check_scans  # noqa: E402

# What the manifest says in words, as one of our phases; other words tell no phase of the abdomen.
PHASES = {
    "none": "unenhanced",
    "portal": "portal venous",
    "late arterial/early portal": "arterial or portal venous",
    "arterial": "arterial",
}


def expected_phase(words: str) -> str:
    """The phase that the manifest names; empty where it names none."""
    if words.startswith(("pulmonary", "venous thorax")):
        return ""
    for start, phase in PHASES.items():
        if words.startswith(start):
            return phase
    return ""


def line(check: ScanCheck, said: str) -> str:
    """One row."""
    examination = check.examination
    warnings = ", ".join(finding.code for finding in check.warnings) or "-"
    notes = ", ".join(f.code for f in check.findings if f.level != "warning") or "-"
    if examination is None:
        assert check.error is not None
        return f"| {check.name} | refused: {check.error.found[:70]} | | | | | |"
    noise = "-" if examination.noise_hu is None else f"{examination.noise_hu:.0f}"
    return (
        f"| {check.name} | {', '.join(examination.body_parts) or '-'} | {examination.phase or '-'} "
        f"| {said or '-'} | {noise} | {warnings} | {notes} |"
    )


def flipped_scans(predictor: viscera.Predictor) -> list[str]:
    """How many of the shared CTs are seen to be flipped, when they are and when they are not."""
    names = {
        "left and right": "mirrored",
        "front and back": "back-to-front",
        "head and feet": "upside-down",
    }
    found: Counter[str] = Counter()
    count = 0
    for entry in json.loads((SHARED / "data" / "manifest.json").read_text()):
        path = SHARED / "data" / entry["source"] / entry["case"] / "ct.nii.gz"
        if not path.exists():
            continue
        count += 1
        volume = viscera.read_volume(path).read()
        for axis, what in zip((None, 0, 1, 2), ["as it is", *names], strict=True):
            hu = volume.data if axis is None else np.flip(volume.data, axis)
            turned = viscera.Volume.of(np.asfortranarray(hu), volume.affine)
            codes = {finding.code for finding in predictor.segment(turned).findings}
            for name in names.values():
                found[f"{what} {name}"] += name in codes
    return [
        "| exchanged | finding | seen | said of scans as they are |",
        "|---|---|---|---|",
        *(
            f"| {what} | `{code}` | {found[f'{what} {code}']} of {count} "
            f"| {found[f'as it is {code}']} |"
            for what, code in names.items()
        ),
    ]


def real_scans(predictor: viscera.Predictor) -> tuple[list[str], Counter[str]]:
    """The table of the shared CTs, and how their phases compare."""
    lines, phases = [], Counter[str]()
    for entry in json.loads((SHARED / "data" / "manifest.json").read_text()):
        folder = SHARED / "data" / entry["source"] / entry["case"]
        if not (folder / "ct.nii.gz").exists():
            continue
        (check,) = check_scans(folder / "ct.nii.gz", predictor=predictor).checks
        said = entry.get("contrast") or ""
        expected = expected_phase(said)
        found = (check.examination and check.examination.phase) or ""
        if expected and found:
            phases["same" if found in expected else f"{expected} taken for {found}"] += 1
        elif expected:
            phases["not told"] += 1
        name = f"{entry['source']}/{entry['case']}"
        lines.append(line(replace(check, name=name), said))
        print(lines[-1], flush=True)
    return lines, phases


def made_scans(predictor: viscera.Predictor, folder: Path) -> list[str]:
    """The table of the made cases that are scans."""
    make = SHARED / "cases" / "make_cases.py"
    subprocess.run([sys.executable, str(make), str(folder)], check=True, capture_output=True)
    lines = []
    for case in sorted(folder.iterdir()):
        try:
            checks = check_scans(case, predictor=predictor).checks
        except viscera.VisceraError as error:
            lines.append(f"| {case.name} | refused: {error.found[:70]} | | | | | |")
            continue
        for check in checks:
            renamed = replace(check, name=f"{case.name}/{check.name}")
            lines.append(line(renamed, ""))
    return lines


def main() -> None:
    """Check and write."""
    predictor = viscera.Predictor(LOOK)
    real, phases = real_scans(predictor)
    with tempfile.TemporaryDirectory() as folder:
        made = made_scans(predictor, Path(folder))
    head = [
        "| scan | shows | phase | the manifest says | noise, HU | warnings | other findings |",
        "|---|---|---|---|---|---|---|",
    ]
    phase_text = "; ".join(f"{what}: {count}" for what, count in phases.most_common())
    page = [
        "# What `viscera check` says",
        "",
        "Made by `python benchmarks/check.py`; [check](commands/check.md) says what the words mean.",
        "",
        f"## {len(real)} real CTs",
        "",
        f"Phases beside the manifest: {phase_text}. Of BTCV the manifest says what the set is called, not",
        "what a patient's vessels look like: in img0023 the aorta has 38 HU.",
        "",
        *head,
        *real,
        "",
        "## Flipped",
        "",
        "The same CTs with an axis exchanged, which the affine does not tell, by the coarse network.",
        "",
        *flipped_scans(predictor),
        "",
        "## Made cases",
        "",
        "A drawn body in files that are wrong in some way, made by `../shared/cases/make_cases.py`.",
        "",
        *head,
        *made,
        "",
    ]
    text = "\n".join(page).encode("utf-8", "backslashreplace")
    (ROOT / "docs" / "check-results.md").write_bytes(text)
    print(phase_text)


if __name__ == "__main__":
    main()
