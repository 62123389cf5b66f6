"""`viscera info`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from viscera.bundle.read import packaged_bundles, read_bundle
from viscera.bundle.spec import Bundle
from viscera.cli._shared.series_table import show_series
from viscera.cli._shared.terminal import echo
from viscera.core.organs import ORGANS
from viscera.dicom.read.files import looks_like_dicom
from viscera.nets.registry import ARCHITECTURES
from viscera.runtime.extras import require_extra


@click.command()
@click.argument("subject", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")
def command(subject: str | None, as_json: bool) -> None:
    """Show a bundle, an architecture, or the CT series in a folder.

    SUBJECT is a bundle's folder, the name of a packaged one, or an architecture that
    `viscera train` knows; without it, all names are listed. Reading a bundle checks its settings
    and the weights' checksum. Of an architecture, its layers and their cost are shown. Of a folder,
    zip archive or file with DICOM: its CT series, and which one `viscera segment` would take.
    """
    if subject is None:
        names = {"bundles": list(packaged_bundles()), "architectures": list(ARCHITECTURES)}
        lines = (f"{kind:16} {', '.join(members)}" for kind, members in names.items())
        echo(json.dumps(names) if as_json else "\n".join(lines))
        return
    if subject in ARCHITECTURES and not Path(subject).is_dir():
        _show_architecture(subject, as_json=as_json)
        return
    if _is_study(Path(subject)):
        show_series(Path(subject), as_json=as_json)
        return
    described = _described(read_bundle(subject))
    if as_json:
        echo(json.dumps(described, indent=2, ensure_ascii=False))
        return
    for key, value in described.items():
        if isinstance(value, dict):
            echo(f"{key}")
            for name, entry in value.items():
                if entry != "":
                    echo(f"  {name:14} {_text(entry)}")
        else:
            echo(f"{key:16} {_text(value)}")


def _is_study(path: Path) -> bool:
    """Whether this is DICOM rather than a bundle."""
    return looks_like_dicom(path) and not (path / "bundle.toml").exists()


def _show_architecture(name: str, *, as_json: bool) -> None:
    require_extra("torch", "safetensors")
    from viscera.nets.cost import network_cost
    from viscera.nets.registry import build_network

    architecture = ARCHITECTURES[name]
    network = build_network(name, channels=architecture.shape[0], classes=len(ORGANS) + 1)
    cost = network_cost(network, architecture.shape)
    field_mm = [
        round(n * mm) for n, mm in zip(cost.receptive_field, architecture.spacing_mm, strict=True)
    ]
    if as_json:
        table = {**dataclasses.asdict(architecture), **dataclasses.asdict(cost)}
        table |= {"multiply_adds": cost.multiply_adds, "thop_flops": cost.thop_flops}
        echo(json.dumps({**table, "receptive_field_mm": field_mm}, indent=2))
        return
    shape = " x ".join(map(str, architecture.shape))
    spacing = " x ".join(f"{mm:.3g}" for mm in architecture.spacing_mm)
    rows = {
        "architecture": f"{name}: {architecture.title}",
        "input": f"{shape} voxels of {spacing} mm",
        "parameters": f"{cost.parameters:,}",
        "multiply-adds": f"{cost.multiply_adds / 1e9:.3f} G",
        "thop FLOPs": f"{cost.thop_flops / 1e9:.3f} G",
        "memory": f"{cost.peak_mb:.0f} MB to run, {cost.activations_mb:.0f} MB of activations to "
        "train on one sample, in 32 bits",
        "receptive field": f"{' x '.join(map(str, cost.receptive_field))} voxels, "
        f"{' x '.join(map(str, field_mm))} mm",
    }
    for key, value in rows.items():
        echo(f"{key:16} {value}")
    echo(f"\n{'layer':24} {'kind':28} {'output':18} {'parameters':>12} {'M mult-adds':>12}")
    for layer in cost.layers:
        output = "x".join(map(str, layer.output))
        millions = f"{layer.multiply_adds / 1e6:.2f}"
        echo(f"{layer.name:24} {layer.kind:28} {output:18} {layer.parameters:>12,} {millions:>12}")


def _described(bundle: Bundle) -> dict[str, Any]:
    """The bundle's settings, what is absent left out."""
    table = dataclasses.asdict(bundle)
    table["folder"] = str(bundle.folder)
    table["model"]["size_mb"] = round(bundle.model_path.stat().st_size / 1e6, 3)
    return {
        key: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return " ".join(f"{k}={_text(v)}" for k, v in value.items() if v)
    return str(value)
