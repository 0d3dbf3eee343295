"""The package: its layers, its public names, and what it ships."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path

import pytest

import rxmistral
import rxmistral.testing

PACKAGE = Path(rxmistral.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each entry may import from itself and from the layers before its own.
LAYERS = [
    {"checks", "pydantic_models", "error_report"},
    {"lenient_decoding"},
    {"errors", "models"},
    {"outcome"},
    {"rx"},
    {"text", "wire"},
    {"completions", "logs"},
    {"testing"},
    {"demo"},
    {"operators", "chat", "relay"},
    {"terminal", "telemetry"},
    {"cli"},
    {"__main__", "__init__"},
]

# Imports that would break the architecture, whatever the layers.
FORBIDDEN = {
    "rx": {"wire", "models"},
    "text": {"models", "wire"},
    "wire": {"models"},
    "relay": {"wire"},
    "logs": {"wire", "completions"},
}

# The only cycle, and for types only: the error of a broken answer contains a response, and a
# value of the wrong type in a response is an error.
FOR_TYPES_ONLY = {("errors", "models"), ("models", "errors")}
# A scripted client is a client, so one module of the test kit is above the chat.
EXCEPTIONS = FOR_TYPES_ONLY | {("testing", "chat")}


def folder(path: Path) -> str:
    """Returns the top-level folder or file that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer_of(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def imported(path: Path) -> set[str]:
    """Returns the absolute names that a file imports, also under TYPE_CHECKING."""
    package = ".".join(("rxmistral", *path.relative_to(PACKAGE).parent.parts)).split(".")
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            names.add(".".join(module))
            names.update(".".join([*module, alias.name]) for alias in node.names)
    return names


def imported_neighbours(path: Path) -> set[str]:
    """Returns the top-level folders and files that a module imports from."""
    names = {name.split(".")[1] for name in imported(path) if name.startswith("rxmistral.")}
    top = {folder(module) for module in MODULES}
    return (names & top) - {folder(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down_only(path: Path) -> None:
    own = folder(path)
    for used in imported_neighbours(path):
        assert layer_of(used) < layer_of(own) or (own, used) in EXCEPTIONS, f"{own} imports {used}"
        assert used not in FORBIDDEN.get(own, ()), f"{own} must not import {used}"


def test_imports_have_no_cycle() -> None:
    graph = {
        ".".join(("rxmistral", *path.relative_to(PACKAGE).with_suffix("").parts)): imported(path)
        for path in MODULES
    }
    allowed = {("rxmistral.errors", "rxmistral.models")}
    sorter = TopologicalSorter(
        {
            name: {
                used
                for used in names & graph.keys()
                if (name, used) not in allowed and used != name
            }
            for name, names in graph.items()
        }
    )
    sorter.prepare()  # raises CycleError


def test_requests_is_imported_only_in_wire() -> None:
    users = {path for path in MODULES if any(n.split(".")[0] == "requests" for n in imported(path))}
    assert {folder(path) for path in users} == {"wire"}


def test_functions_contain_no_imports() -> None:
    for path in MODULES:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    assert not isinstance(node, (ast.Import, ast.ImportFrom)), (
                        f"{path}:{node.lineno}"
                    )


def test_package_has_three_dependencies() -> None:
    needed = {line.split(">")[0] for line in requires("rxmistral") or () if "extra ==" not in line}
    assert needed == {"reactivex", "requests", "msgspec"}


def test_public_names_exist_and_are_listed_once() -> None:
    assert len(rxmistral.__all__) == len(set(rxmistral.__all__))
    for name in rxmistral.__all__:
        assert hasattr(rxmistral, name)


def test_every_model_operator_and_error_is_at_the_root() -> None:
    for module in (rxmistral.models, rxmistral.operators, rxmistral.errors):
        assert set(module.__all__) <= set(rxmistral.__all__), module.__name__


def test_package_ships_its_types() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_import_does_not_load_lazy_modules() -> None:
    code = "import sys, rxmistral; print(*(name for name in sys.modules if 'rxmistral.' in name))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    ).stdout.split()
    lazy = {
        "rxmistral.completions.fallback",
        "rxmistral.completions.parts",
        "rxmistral.completions.think_tags",
        "rxmistral.rx.async_source",
        "rxmistral.rx.map_async",
        "rxmistral.rx.shared_stream",
        "rxmistral.rx.switching",
        "rxmistral.text.code_blocks",
        "rxmistral.text.guard",
        "rxmistral.text.joined",
        "rxmistral.text.pacing",
        "rxmistral.text.sentences",
        "rxmistral.text.structured.operators",
        "rxmistral.text.words_lines",
        *(
            f"rxmistral.{name}"
            for name in ("testing", "demo", "cli", "terminal", "relay", "logs", "telemetry")
        ),
    }
    assert not lazy & set(loaded)
    assert all(import_module(name) for name in lazy)


@pytest.mark.parametrize(
    "module", ["rxmistral", "rxmistral.testing", "rxmistral.testing.pytest_plugin"]
)
def test_import_loads_no_dependency(module: str) -> None:
    dependencies = {"reactivex", "msgspec", "requests", "opentelemetry"}
    code = f"import sys, {module}; print(*{dependencies} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    ).stdout.split()
    assert loaded == []


@pytest.mark.parametrize("name", ["text", "completions"])
@pytest.mark.parametrize(
    "first",
    [
        "",
        "import rxmistral.{name}",
        "import rxmistral.operators, rxmistral.{name}",
        "import rxmistral.chat.client",
        "from rxmistral import sentences, fallback",
        "import importlib; importlib.import_module('rxmistral.{name}')",
        "from rxmistral import *; assert callable({name})",
    ],
)
def test_operator_stays_when_its_folder_is_imported(name: str, first: str) -> None:
    code = f"""
import warnings
warnings.simplefilter("error")
{first.format(name=name)}
import rxmistral
from rxmistral import {name}
assert rxmistral.{name} is {name} is rxmistral.operators.{name}, {name}
import rxmistral.text.words_lines, rxmistral.completions.choice
assert rxmistral.{name} is {name}
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_operators_named_like_folders_are_operators() -> None:
    for name in ("text", "completions"):
        assert getattr(rxmistral, name) is getattr(rxmistral.operators, name)
        assert (PACKAGE / name).is_dir()


def test_logs_import_no_client_of_a_broker() -> None:
    code = "import sys, rxmistral.logs; sys.exit(not {'redis', 'nats'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_operator_is_in_its_listed_module() -> None:
    operators = rxmistral.operators
    assert set(operators._MODULE_OF) == set(operators.__all__)
    for name, path in operators._MODULE_OF.items():
        module = import_module(f"rxmistral.{path}")
        assert name in module.__all__
        assert getattr(rxmistral, name) is getattr(module, name)
        assert name in dir(operators)
        assert name in dir(rxmistral)


def test_folders_need_no_import_of_their_own() -> None:
    code = "import rxmistral; rxmistral.models, rxmistral.errors, rxmistral.wire, rxmistral.relay"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    for name in rxmistral._FOLDERS_AND_FILES:
        assert getattr(rxmistral, name) is import_module(f"rxmistral.{name}")
        assert name in dir(rxmistral)


def test_unknown_names_raise_attribute_error() -> None:
    for module in (rxmistral, rxmistral.operators, rxmistral.testing):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute"):
            module.sentense  # noqa: B018
