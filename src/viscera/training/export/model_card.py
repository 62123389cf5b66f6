"""The texts of a bundle: bundle.toml, and a model card made from measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from viscera._version import __version__
from viscera.bundle.spec import Bundle
from viscera.bundle.structures import region_rows, structure_rows
from viscera.bundle.toml_schema import dump_toml
from viscera.nets.cost import NetworkCost
from viscera.training.checkpoint import TrainingState
from viscera.training.export.parity import LEAST_EQUAL, Parity
from viscera.training.recipe import Recipe
from viscera.training.run_folder import TrainingSplit


def bundle_toml(bundle: Bundle) -> str:
    """A bundle's settings as TOML; what is absent is left out."""
    table = {key: _present(value) for key, value in asdict(bundle).items() if key != "folder"}
    if bundle.structures:
        table["structures"] = structure_rows(bundle.label_table)
        table["regions"] = region_rows(bundle.label_table)
    table = {key: value for key, value in table.items() if value not in (None, (), {}, [])}
    return "# Written by 'viscera export'.\n" + dump_toml(table)


def _present(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in value.items() if v is not None and v != ""}
    if isinstance(value, tuple | list) and value and isinstance(value[0], dict):
        return [_step(row) for row in value]
    return value


def _step(step: dict[str, Any]) -> dict[str, Any]:
    """A step of post-processing without what it does not use."""
    unused = {"organs": None, "size": 3, "ml": 0.0, "share": 0.0, "beside": None}
    return {key: value for key, value in step.items() if unused.get(key, ()) != value}


def model_card(
    bundle: Bundle,
    recipe: Recipe,
    split: TrainingSplit,
    state: TrainingState,
    cost: NetworkCost,
    validations: Sequence[dict[str, Any]],
    parities: dict[str, Parity],
    judged_on: str,
) -> str:
    """A README for a bundle's folder.

    Args:
        bundle: as written.
        recipe: of the training.
        split: of the training.
        state: how far the weights are trained.
        cost: of the network.
        validations: lines of the journal.
        parities: of the bundle in each arithmetic.
        judged_on: cases of the validation set, or of the training set.
    """
    about = bundle.about
    grid = "slices of {} x {} pixels, stack of {}".format(
        *bundle.slices.size, bundle.slices.stack
    ) if bundle.slices else "patches of {} x {} x {} voxels".format(*bundle.patch.size)  # type: ignore[union-attr] # fmt: skip
    spacing = bundle.input.spacing_mm
    spaced = " x ".join(f"{s:g}" for s in spacing) + " mm" if spacing else "stretched to that size"
    low, high = bundle.input.window_hu
    optimisation = recipe.optimisation
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
        *([f"| first look | {bundle.look.bundle} |"] if bundle.look else []),
        f"| window | {low:g} to {high:g} HU |",
        f"| labels | {', '.join(bundle.labels[1:])} |",
        f"| arithmetic | {', '.join(parities)} |",
        f"| trained on | {len(split.train_cases)} cases of {split.patients[0]} patients"
        f"{'. ' + about.training_data if about.training_data else ''} |",
        f"| training | step {state.step}, batch {optimisation.batch}, {optimisation.optimiser}, "
        f"learning rate {optimisation.learning_rate:g}, seed {optimisation.seed}, "
        f"{state.seconds / 60:.0f} minutes |",
        f"| made by | {about.made_by or f'viscera {__version__}'} |",
        f"| licence of the weights | {about.licence or 'not stated by the recipe'} |",
        "",
    ]
    titles = {organ.name: organ.title for organ in bundle.organs}
    lines += _scores(validations, state, split, about.scores, titles)
    lines += _parity(parities, judged_on, titles)
    return "\n".join(lines) + "\n"


def _scores(
    validations: Sequence[dict[str, Any]],
    state: TrainingState,
    split: TrainingSplit,
    scores: str,
    titles: Mapping[str, str],
) -> list[str]:
    """The validation that these weights had, or what the recipe says of it."""
    validation_of_weights = [
        v for v in validations if v["kind"] == "validation" and v["step"] == state.step
    ]
    if scores:
        return [f"Accuracy: {scores}.", ""]
    if not validation_of_weights:
        return ["No validation of these weights: their accuracy on unseen patients is unknown.", ""]
    rows = [
        f"DSC on {len(split.validation_cases)} cases of {split.patients[1]} patients of the "
        "validation set, on the network's grid, where the labels annotate the organ:",
        "",
        "| organ | DSC |",
        "|---|---|",
        *(
            f"| {titles[name]} | {dsc:.3f} |"
            for name, dsc in validation_of_weights[-1]["dsc"].items()
        ),
        f"| mean | {validation_of_weights[-1]['mean_dsc']:.3f} |",
        "",
    ]
    return rows


def _parity(parities: dict[str, Parity], judged_on: str, titles: Mapping[str, str]) -> list[str]:
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
        rows.append(f"| {name} | {parity.cases} | {parity.equal_share:.4%} | {worst} |")
    rows += ["", "| organ | DSC in PyTorch | " + " | ".join(parities) + " |"]
    rows.append("|---|---|" + "---|" * len(parities))
    for name in next(iter(parities.values())).dsc:
        in_torch = next(iter(parities.values())).dsc[name][0]
        in_bundle = " | ".join(f"{p.dsc[name][1]:.4f}" for p in parities.values())
        rows.append(f"| {titles[name]} | {in_torch:.4f} | {in_bundle} |")
    return rows
