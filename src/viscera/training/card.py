"""What a bundle says of itself: bundle.toml, and a model card made from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from viscera import __version__
from viscera.bundle import Bundle
from viscera.nets.cost import Cost
from viscera.organs import BY_NAME
from viscera.schema import written
from viscera.training.checkpoint import Reached
from viscera.training.parity import LEAST_EQUAL, Parity
from viscera.training.recipe import Recipe
from viscera.training.run_folder import Sides


def bundle_toml(bundle: Bundle) -> str:
    """A bundle's settings as TOML; what is absent is left out."""
    table = {key: _present(value) for key, value in asdict(bundle).items() if key != "folder"}
    table = {key: value for key, value in table.items() if value not in (None, (), {}, [])}
    return "# Written by 'viscera export'.\n" + written(table)


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if v is not None and v != ""}
    if isinstance(value, tuple | list) and value and isinstance(value[0], dict):
        return [_step(each) for each in value]
    return value


def _step(step: dict[str, Any]) -> dict[str, Any]:
    """A step of post-processing without what it does not use."""
    unused = {"organs": None, "size": 3, "ml": 0.0}
    return {key: value for key, value in step.items() if unused.get(key, ()) != value}


def model_card(
    bundle: Bundle,
    recipe: Recipe,
    sides: Sides,
    reached: Reached,
    cost: Cost,
    validations: Sequence[dict[str, Any]],
    parities: dict[str, Parity],
    judged_on: str,
) -> str:
    """A README for a bundle's folder.

    Args:
        bundle: as written.
        recipe: of the training.
        sides: of its split.
        reached: how far the weights are.
        cost: of the network.
        validations: lines of the journal.
        parities: of the bundle in each arithmetic.
        judged_on: cases that were held back, or trained on.
    """
    about = bundle.about
    grid = "slices of {} x {} pixels, stack of {}".format(
        *bundle.slices.size, bundle.slices.stack
    ) if bundle.slices else "patches of {} x {} x {} voxels".format(*bundle.patch.size)  # type: ignore[union-attr] # fmt: skip
    spacing = bundle.input.spacing_mm
    spaced = " x ".join(f"{s:g}" for s in spacing) + " mm" if spacing else "stretched to that size"
    low, high = bundle.input.window_hu
    how = recipe.optimisation
    lines = [
        f"# {bundle.name}",
        "",
        about.intended_use,
        "",
        "| | |",
        "|---|---|",
        f"| architecture | {recipe.network.architecture}, {cost.parameters:,} parameters, "
        f"{cost.multiply_adds / 1e9:.2f} G multiply-adds a run |",
        f"| grid | {bundle.input.orientation}, {grid}, {spaced} |",
        f"| window | {low:g} to {high:g} HU |",
        f"| labels | {', '.join(bundle.labels[1:])} |",
        f"| arithmetic | {', '.join(parities)} |",
        f"| trained on | {len(sides.train)} cases of {sides.patients[0]} patients"
        f"{'. ' + about.training_data if about.training_data else ''} |",
        f"| training | step {reached.step}, batch {how.batch}, {how.optimiser}, learning rate "
        f"{how.learning_rate:g}, seed {how.seed}, {reached.seconds / 60:.0f} minutes |",
        f"| made by | {about.made_by or f'viscera {__version__}'} |",
        f"| licence of the weights | {about.licence or 'not stated by the recipe'} |",
        "",
    ]
    lines += _scores(validations, reached, sides)
    lines += _parity(parities, judged_on)
    return "\n".join(lines) + "\n"


def _scores(validations: Sequence[dict[str, Any]], reached: Reached, sides: Sides) -> list[str]:
    """The validation that these weights had."""
    own = [v for v in validations if v["kind"] == "validation" and v["step"] == reached.step]
    if not own:
        return ["No validation of these weights: their accuracy on unseen patients is unknown.", ""]
    rows = [
        f"DSC on {len(sides.held)} cases of {sides.patients[1]} patients that were held back, on "
        "the network's grid, where the labels speak of the organ:",
        "",
        "| organ | DSC |",
        "|---|---|",
        *(f"| {BY_NAME[name].title} | {dsc:.3f} |" for name, dsc in own[-1]["dsc"].items()),
        f"| mean | {own[-1]['mean_dsc']:.3f} |",
        "",
    ]
    return rows


def _parity(parities: dict[str, Parity], judged_on: str) -> list[str]:
    """How the exported labels compare with the trained network's."""
    rows = [
        f"The bundle beside the trained network in PyTorch, on cases {judged_on}. At least "
        f"{LEAST_EQUAL:.1%} of a case's voxels must be equal.",
        "",
        "| arithmetic | cases | least equal voxels | largest loss of an organ's DSC |",
        "|---|---|---|---|",
    ]
    for name, parity in parities.items():
        organ, loss = parity.largest_loss
        worst = f"{loss:.4f} {organ}" if loss else "none"
        rows.append(f"| {name} | {parity.cases} | {parity.equal:.4%} | {worst} |")
    rows += ["", "| organ | DSC in PyTorch | " + " | ".join(parities) + " |"]
    rows.append("|---|---|" + "---|" * len(parities))
    for name in next(iter(parities.values())).dsc:
        own = next(iter(parities.values())).dsc[name][0]
        others = " | ".join(f"{p.dsc[name][1]:.4f}" for p in parities.values())
        rows.append(f"| {BY_NAME[name].title} | {own:.4f} | {others} |")
    return rows
