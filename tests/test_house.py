"""The house's own rules: public names, layers, imports, docs in step with the code."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import viscera
from tests.conftest import ROOT
from viscera.cli.main import COMMANDS, module_of

SOURCE = ROOT / "src" / "viscera"

# From the top down; a module may import from its own layer and those below.
LAYERS = (
    {"__main__", "cli"},
    {"training"},
    {"results"},
    {"report"},
    {"summary"},
    {"bench", "cohort"},
    {"measure"},
    {"api"},
    {"predictor", "evaluation", "contestant"},
    {"matching"},
    {"memory"},
    {"scoring", "checks"},
    {"grid", "engine", "postprocess", "metrics", "nets"},
    {"bundles"},
    {"bundle"},
    {"io"},
    {"dicom"},
    {"schema", "phantom", "conventions"},
    {"segmentation"},
    {"volume", "labelmap", "stages", "resources"},
    {"affine", "organs", "hu", "pipeline"},
    {"errors", "findings", "__init__"},
)
# Segmentation.save is a convenience; it imports the writer when called.
UPWARD = {("volume", "io"), ("segmentation", "io"), ("__init__", "*")}


def test_public_names_are_exactly_these():
    assert sorted(viscera.__all__) == sorted(
        ["ORGANS", "Affine", "Bundle", "Evaluation", "Finding", "LabelMap", "Organ", "OrganScore",
         "Predictor", "Segmentation", "VisceraError", "Volume", "evaluate", "make_phantom",
         "read_bundle", "read_labels", "read_volume", "segment", "write_labels", "write_masks"]
    )  # fmt: skip
    for name in viscera.__all__:
        assert getattr(viscera, name).__doc__ or name == "ORGANS"
    with pytest.raises(AttributeError):
        viscera.no_such_name  # noqa: B018


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE)
        yield path, relative.parts[0].removesuffix(".py")


def level(room):
    return next(n for n, layer in enumerate(LAYERS) if room in layer)


def test_arrows_point_down():
    for path, room in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if not name.startswith("viscera."):
                    continue
                other = name.split(".")[1]
                if (room, other) in UPWARD or (room, "*") in UPWARD:
                    continue
                assert level(room) <= level(other), f"{path.name} imports {name}"


def imports_torch(path):
    found = re.findall(r"^(?:from|import) ([\w.]+)", path.read_text(), flags=re.MULTILINE)
    own = {f"{room}.{p.stem}": p for p, room in modules() if room in ("nets", "training")}
    parents = [own[n] for name in found if (n := name.removeprefix("viscera.")) in own]
    needs = any(name.split(".")[0] in ("torch", "safetensors") for name in found)
    return needs or any(imports_torch(parent) for parent in parents)


def test_only_networks_and_training_know_torch():
    for path, room in modules():
        if room not in ("nets", "training"):
            # Within a function is fine: that is after the user asked for it.
            assert not imports_torch(path), path.name


def test_each_module_imports_on_its_own_and_none_needs_torch():
    names = [
        ".".join(("viscera", *p.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        for p, _ in modules()
        if p.name != "__main__.py" and not imports_torch(p)
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'onnx' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_library_never_prints_or_exits():
    for path, room in modules():
        if room in ("cli", "__main__"):
            continue
        text = path.read_text()
        for word in (r"\bprint\(", r"sys\.exit", "SystemExit", "filterwarnings", "urllib"):
            assert not re.search(word, text), f"{path.name} uses {word}"


def test_files_keep_one_purpose():
    for path, _ in modules():
        assert len(path.read_text().splitlines()) <= 300, f"{path.name} has outgrown its room"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_page_with_every_option(name):
    from docs.reference import reference

    page = (ROOT / "docs" / "commands" / f"{name}.md").read_text()
    assert reference(name) in page, "run: python docs/reference.py"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_list_of_commands_is_the_commands_own(name):
    command = importlib.import_module(f"viscera.cli.{module_of(name)}").command
    assert isinstance(command, click.Command)
    assert command.help.split("\n\n")[0].replace("\n", " ") == COMMANDS[name]


def test_exit_codes_are_documented():
    from viscera import errors

    page = (ROOT / "docs" / "bad-input.md").read_text()
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.VisceraError):
            assert f"| {kind.exit_code} |" in page
            assert kind.__name__ in errors.__doc__


def test_markdown_links_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_no_patient_volume_is_in_the_repository():
    kinds = (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ".npy", ".npz", ".pkl", ".pt")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert not [name for name in listed if name.lower().endswith(kinds)]
    assert Path(ROOT / "LICENSE").exists()


def test_the_command_line_offers_what_the_library_knows():
    """Written out there, so that help needs no numpy."""
    from viscera.cli.evaluate import command
    from viscera.conventions import BUILT_IN
    from viscera.metrics import PROTOCOLS

    options = {option.name: option for option in command.params}
    assert tuple(options["protocol"].type.choices) == PROTOCOLS
    assert all(name in options["truth_labels"].help for name in BUILT_IN)


def test_segment_offers_every_type_of_output():
    from viscera.cli.segment import command
    from viscera.io.output import OUTPUT_TYPES

    (option,) = [each for each in command.params if each.name == "output_type"]
    assert list(option.type.choices) == list(OUTPUT_TYPES)
