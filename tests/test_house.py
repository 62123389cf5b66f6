"""The house's own rules: names, layers, imports, docstrings, docs in step with the code."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from functools import cache

import click
import pytest
from docs.reference import (
    HOSTILE,
    hostile_page,
    hostile_tests,
    layer_table,
    layers,
    reference,
    upward_imports,
)

import viscera
from tests.conftest import ROOT
from viscera.cli.main import COMMANDS, module_of
from viscera.errors import command_line_wording, option, python_wording

SOURCE = ROOT / "src" / "viscera"
GLOSSARY = ROOT / "docs" / "glossary.md"
DOORS = ("viscera", "__init__", "__main__")  # name things of every room, and belong to none


@cache
def modules():
    """Every module of the package, and its syntax tree."""
    names = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(("viscera", *path.relative_to(SOURCE).with_suffix("").parts))
        names[name.removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return names


def room_of(name):
    return name.split(".")[1] if "." in name else name


def imports_of(name):
    """Modules of viscera that one imports: at its top, within functions, for types.

    Without what docs/layers.toml lets point up.
    """
    yield from (other for other in all_imports_of(name) if (name, other) not in upward_imports())


def all_imports_of(name):
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("viscera"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


# Public names


def test_the_public_names_are_those_of_the_stub():
    """__init__.pyi is their one list: for Python, for type checkers and for this test."""
    stub = ast.parse((SOURCE / "__init__.pyi").read_text(encoding="utf-8"))
    exported = [alias.asname for node in stub.body for alias in node.names]
    assert sorted(viscera.__all__) == sorted(exported)
    assert {"segment", "Predictor", "evaluate", "segment_batch", "evaluate_cohort"} <= {*exported}
    for name in exported:
        assert name in ("ORGANS", "__version__") or getattr(viscera, name).__doc__
    with pytest.raises(AttributeError):
        viscera.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", ["segment", "evaluate", "segment_batch", "evaluate_cohort"])
def test_public_calls_have_typed_explicit_keywords(name):
    import inspect

    for parameter in inspect.signature(getattr(viscera, name)).parameters.values():
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        assert parameter.annotation not in (parameter.empty, "Any")


def test_a_dozen_files_lie_at_the_root():
    assert len([path for path in SOURCE.iterdir() if path.is_file()]) <= 12


# Layers


def test_arrows_point_down():
    order = list(layers())
    for name in modules():
        if room_of(name) in DOORS:
            continue
        for other in imports_of(name):
            assert other not in DOORS, f"{name} imports from the package, not from where it lies"
            assert order.index(room_of(name)) <= order.index(room_of(other)), f"{name} -> {other}"


def test_no_circle_of_files():
    finished, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in finished:
            return
        path.append(name)
        for other in imports_of(name):
            if other != name:
                visit(other)
        path.pop()
        finished.add(name)

    for name in modules():
        if room_of(name) not in DOORS:
            visit(name)


def test_every_room_is_in_the_list_of_layers():
    assert {room_of(name) for name in modules()} - {*DOORS, "bundles"} == set(layers())
    assert layer_table() in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), (
        "run: python docs/reference.py"
    )


# Language


def test_class_names_are_unique():
    homes = defaultdict(list)
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name.strip("_")].append(name)
    assert not {kind: places for kind, places in homes.items() if len(places) > 1}


def given_names(tree):
    """Names that code gives: of classes, functions, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg


def retired_words():
    page = GLOSSARY.read_text(encoding="utf-8").partition("## Retired")[2]
    return set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE))


def test_retired_words_do_not_return_as_names():
    words = retired_words()
    assert len(words) > 30
    for name, tree in modules().items():
        # The second part of an error's sentence: expected, found, remedy.
        allowed = {"found"} if {"expected", "found"} <= {*given_names(tree)} else set()
        used = {given.strip("_") for given in given_names(tree)} & words
        assert used <= allowed, f"{name} uses {used - allowed}; see docs/glossary.md"


def test_the_glossary_defines_each_noun_once():
    nouns = re.findall(r"^\| \*\*([^*]+)\*\*", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(nouns) == len(set(nouns)) > 30
    for noun in ("volume", "label map", "bundle", "case", "finding", "grid", "recipe"):
        assert noun in nouns


# Docstrings


def public_functions(tree, method=False):
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node, method=True)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node, parameters_of(node, method)


def parameters_of(node, method):
    static = any(ast.unparse(decorator) == "staticmethod" for decorator in node.decorator_list)
    names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)][method and not static :]
    names += [node.args.vararg.arg] if node.args.vararg else []
    names += [arg.arg for arg in node.args.kwonlyargs]
    return names + ([node.args.kwarg.arg] if node.args.kwarg else [])


def documented_names(docstring, title):
    section = re.search(rf"^{title}:\n((?: {{4}}.*\n|\n)*)", docstring + "\n", re.MULTILINE)
    entries = re.findall(r"^ {4}([*\w, ]+):", section[1], re.MULTILINE) if section else []
    return [name.strip("* ") for entry in entries for name in entry.split(",")]


@pytest.mark.parametrize("name", [n for n in modules() if room_of(n) != "__main__"])
def test_public_functions_document_their_parameters(name):
    """With two and more: one is named by the first line. Commands document theirs in click."""
    for node, parameters in public_functions(modules()[name]):
        if len(parameters) < 2 or (room_of(name) == "cli" and node.name == "command"):
            continue
        documented = documented_names(ast.get_docstring(node) or "", "Args")
        assert documented == parameters, f"{name}.{node.name}"


@pytest.mark.parametrize("name", modules())
def test_documented_attributes_exist(name):
    for node in ast.walk(modules()[name]):
        if not isinstance(node, ast.ClassDef):
            continue
        documented = documented_names(ast.get_docstring(node) or "", "Attributes")
        assert set(documented) <= set(given_names(node)) | {"found"}, f"{name}.{node.name}"


def test_names_in_docstrings_exist():
    """What stands in single backticks, with a dot or an underscore, is a name of the code."""
    known = set()
    for name, tree in modules().items():
        known |= {*name.split("."), *given_names(tree)}
        known |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
        known |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        known |= {part for node in ast.walk(tree) if isinstance(node, ast.alias)
                  for part in node.name.split(".")}  # fmt: skip
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            for mention in re.findall(r"(?<!`)`(\w+(?:[._]\w+)+)`", ast.get_docstring(node) or ""):
                if not mention.startswith("__") and not mention.endswith((".md", ".py", ".toml")):
                    assert set(mention.split(".")) <= known, f"{name}: {mention}"


# Options in messages


def test_options_in_messages_exist():
    """Each is a keyword of some function, and a flag of some command."""
    mentioned, keywords = set(), set()
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "option":
                mentioned |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
            if isinstance(node, ast.FunctionDef):
                keywords |= set(parameters_of(node, method=False))
            if isinstance(node, ast.AnnAssign):  # of options that are dataclasses
                keywords.add(ast.unparse(node.target))
    assert len(mentioned) > 15
    all_commands = [each for command in commands() for each in (command, *_inner_commands(command))]
    flags = {flag for command in all_commands for each in command.params for flag in each.opts}
    for name in sorted(mentioned):
        assert command_line_wording(option(name)) in flags
        assert python_wording(option(name)).split("=")[0] in keywords


def test_no_message_names_a_flag_directly():
    """A flag in the library's text would tell a Python user nothing."""
    for name, tree in modules().items():
        if room_of(name) in ("cli", "errors"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"(?<![\w-])--[a-z]", node.value), f"{name}: {node.value}"


# Imports


def imports_torch(name):
    """At its top, or at the top of what it imports there."""
    for node in modules()[name].body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            if any(f.split(".")[0] in ("torch", "safetensors") for f in found):
                return True
            if any(f in modules() and f != name and imports_torch(f) for f in found):
                return True
    return False


def test_code_for_other_processes_imports_what_exists():
    """Imports within strings, which neither types nor the tests of layers see."""
    statements = [
        match
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for match in re.findall(r"from (viscera[\w.]*) import (\w+)", node.value)
    ]
    assert statements
    for module, name in statements:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


OF_EXTRAS = ("gdcm", "highdicom", "onnx", "pydicom", "safetensors", "torch")
SCRIPTS = sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")])


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_scripts_can_be_imported(path, benchmarks):
    """No script is forgotten when the library changes; running them takes hours."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] not in OF_EXTRAS:
            raise
        pytest.skip(f"needs {error.name}")


def test_only_networks_and_training_know_torch():
    for name in modules():
        if room_of(name) not in ("nets", "training"):
            # Within a function is fine: that is after the user asked for it.
            assert not imports_torch(name), name


def test_each_module_imports_on_its_own_and_none_needs_torch():
    names = [n for n in modules() if room_of(n) != "__main__" and not imports_torch(n)]
    if not importlib.util.find_spec("starlette"):  # of the extra web
        names = [name for name in names if room_of(name) != "serve"]
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
    for name, tree in modules().items():
        if room_of(name) in ("cli", "__main__"):
            continue
        text = ast.unparse(tree)
        for word in (
            r"\bprint\(",
            r"sys\.exit",
            "SystemExit",
            "filterwarnings",
            r"urllib\.request",
        ):
            assert not re.search(word, text), f"{name} uses {word}"


# Docs


@cache
def commands():
    return tuple(
        importlib.import_module(f"viscera.cli.{module_of(name)}").command for name in COMMANDS
    )


def _inner_commands(command):
    return getattr(command, "commands", {}).values()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_page_with_every_option(name):
    page = (ROOT / "docs" / "commands" / f"{name}.md").read_text(encoding="utf-8")
    assert reference(name) in page, "run: python docs/reference.py"


@pytest.mark.parametrize(("name", "command"), list(zip(COMMANDS, commands(), strict=True)))
def test_the_list_of_commands_is_the_commands_own(name, command):
    assert isinstance(command, click.Command)
    assert command.help.split("\n\n")[0].replace("\n", " ") == COMMANDS[name]


def test_exit_codes_are_documented():
    from viscera import errors

    page = (ROOT / "docs" / "bad-input.md").read_text(encoding="utf-8")
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.VisceraError):
            assert f"| {kind.exit_code} |" in page
            assert kind.__name__ in errors.__doc__


def test_markdown_links_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} -> {target}"


@pytest.fixture
def benchmarks(monkeypatch):
    for folder in ("benchmarks", "tools"):
        monkeypatch.syspath_prepend(ROOT / folder)


def test_the_readmes_tables_are_what_the_benchmarks_measured(benchmarks):
    import front_page

    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert front_page.front_page(page) == page, "run: python benchmarks/front_page.py"
    assert page.count("| Liver |") == page.count("| 299 |") == 1


def test_the_page_on_speed_is_what_the_benchmark_measured(benchmarks):
    import json

    import speed

    measured = json.loads(speed.TARGET.read_text())
    assert speed.tables(measured) == speed.TARGET.with_suffix(".md").read_text()


def test_no_patient_volume_is_in_the_repository():
    """Git's own list; without git, every file outside folders that git ignores."""
    kinds = (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ".npy", ".npz", ".pkl", ".pt")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not listed:
        kept = ("src", "tests", "docs", "tools", "benchmarks", "configs")
        listed = [str(path) for folder in kept for path in (ROOT / folder).rglob("*")]
    assert len(listed) > 100
    assert not [name for name in listed if name.lower().endswith(kinds)]
    assert (ROOT / "LICENSE").exists()


def test_every_licence_of_the_package_comes_with_its_text():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"].split(" AND ") == ["Apache-2.0", "CC-BY-NC-SA-4.0"]
    texts = [p for pattern in project["license-files"] for p in ROOT.glob(pattern)]
    assert {"LICENSE", "CC-BY-NC-SA-4.0.txt", "NOTICE"} == {p.name for p in texts}
    assert "Section 8 – Interpretation" in (ROOT / "LICENSES" / "CC-BY-NC-SA-4.0.txt").read_text(
        encoding="utf-8"
    )
    for card in (SOURCE / "bundles").glob("*/bundle.toml"):
        licence = tomllib.loads(card.read_text(encoding="utf-8"))["about"]["licence"]
        assert licence.startswith(("CC BY-NC-SA 4.0", "Apache-2.0")), card


def test_packaged_networks_hold_no_path_of_a_machine():
    for model in (SOURCE / "bundles").glob("*/model.onnx"):
        assert not re.search(rb"[\w/]+/\w+\.py\b", model.read_bytes()), model.parent.name


# One list each


def test_the_command_line_offers_what_the_library_knows():
    """Written out there, so that help needs no numpy."""
    from viscera.cli.evaluate import command
    from viscera.core.label_schemes import LABEL_SCHEMES
    from viscera.metrics.organ_metrics import PROTOCOLS

    options = {option.name: option for option in command.params}
    assert tuple(options["protocol"].type.choices) == PROTOCOLS
    assert all(name in options["truth_labels"].help for name in LABEL_SCHEMES)


def test_segment_offers_every_type_of_output():
    from viscera.cli.segment import command
    from viscera.io.output_types import OUTPUT_TYPES

    (option,) = [each for each in command.params if each.name == "output_type"]
    assert list(option.type.choices) == list(OUTPUT_TYPES)


def test_every_numbered_bad_input_has_a_test_and_the_page_is_in_step():
    numbers = {number for number, _, _ in tomllib.loads(HOSTILE.read_text())["input"]}
    assert numbers == set(range(1, 95))
    assert set(hostile_tests()) == numbers
    assert HOSTILE.with_suffix(".md").read_text() == hostile_page(), "run: python docs/reference.py"
