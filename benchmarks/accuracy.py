"""Accuracy on labels drawn by people: the 12 BTCV patients of ../shared, every packaged network.

    python benchmarks/accuracy.py

Needs ../shared. Writes benchmarks/results/accuracy.json: DSC and NSD of every organ that the raters
drew. Protocol flare24: aorta, vena cava and esophagus are judged between the first and the last slice
that the raters labelled. The duodenum was drawn in four patients only.
"""

from __future__ import annotations

import json
from pathlib import Path

import viscera
from scans import ROOT

TARGET = ROOT / "benchmarks/results/accuracy.json"
CASES = ROOT.parent / "shared/data/btcv_synapse"
NETWORKS = ("default", "paper")


def organ_metrics(predictor: viscera.Predictor, case: Path) -> dict[str, dict[str, float]]:
    """DSC and NSD of the organs that the raters drew in one case."""
    segmentation = predictor.segment(case / "ct.nii.gz")
    evaluation = viscera.evaluate(segmentation, case / "label.nii.gz", protocol="flare24")
    return {
        metrics.organ: {"dsc": round(metrics.dsc, 4), "nsd": round(metrics.nsd, 4)}
        for metrics in evaluation.organ_metrics
        if metrics.truth_ml
    }


def main() -> None:
    cases = sorted(path for path in CASES.iterdir() if (path / "label.nii.gz").exists())
    results: dict[str, dict] = {}
    for network in NETWORKS:
        predictor = viscera.Predictor(network)
        results[network] = {case.name: organ_metrics(predictor, case) for case in cases}
        print(network, "done", flush=True)
    content = {"viscera": viscera.__version__, "networks": results}
    TARGET.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
