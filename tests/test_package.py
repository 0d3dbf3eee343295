"""The package itself: what imports what, what is public, what is shipped."""

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

PACKAGE = Path(rxmistral.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each may import from itself and from the floors before its own.
FLOORS = [
    {"checks", "model_json", "error_report"},
    {"errors", "models"},
    {"outcome"},
    {"rx"},
    {"text", "wire", "testing"},
    {"completions", "logs", "demo"},
    {"operators", "chat", "relay"},
    {"cli"},
    {"__main__", "__init__"},
]

# What would take the architecture apart, whichever floors the two are on.
NEVER = {
    "rx": {"wire", "models"},
    "text": {"models", "wire"},
    "wire": {"models"},
    "relay": {"wire"},
    "logs": {"wire", "completions"},
}

# The one circle, for types alone: a broken answer holds a response, and a response of the wrong
# type is an error.
FOR_TYPES_ONLY = {("errors", "models"), ("models", "errors")}


def folder(path: Path) -> str:
    """Returns the folder or the file of the top level that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if name in names)


def imported(path: Path) -> set[str]:
    """Returns the absolute names of what a file imports, also under TYPE_CHECKING."""
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


def neighbours(path: Path) -> set[str]:
    """Returns the folders and files of the top level that a module imports from."""
    names = {name.split(".")[1] for name in imported(path) if name.startswith("rxmistral.")}
    top = {folder(module) for module in MODULES}
    return (names & top) - {folder(path)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_down_only(path: Path) -> None:
    own = folder(path)
    for used in neighbours(path):
        assert floor(used) < floor(own) or (own, used) in FOR_TYPES_ONLY, f"{own} imports {used}"
        assert used not in NEVER.get(own, ()), f"{own} must not know {used}"


def test_modules_import_each_other_in_no_circle() -> None:
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


def test_nothing_is_imported_inside_a_function() -> None:
    for path in MODULES:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    assert not isinstance(node, (ast.Import, ast.ImportFrom)), (
                        f"{path}:{node.lineno}"
                    )


def test_three_dependencies_at_run_time() -> None:
    needed = {line.split(">")[0] for line in requires("rxmistral") or () if "extra ==" not in line}
    assert needed == {"reactivex", "requests", "msgspec"}


def test_public_names_exist_and_are_listed_once() -> None:
    assert len(rxmistral.__all__) == len(set(rxmistral.__all__))
    for name in rxmistral.__all__:
        assert hasattr(rxmistral, name)


def test_every_model_operator_and_error_is_at_the_root() -> None:
    for module in (rxmistral.models, rxmistral.operators, rxmistral.errors):
        assert set(module.__all__) <= set(rxmistral.__all__), module.__name__


def test_the_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").exists()


def test_importing_it_loads_nothing_that_the_first_request_does_not_need() -> None:
    code = "import sys, rxmistral; print(*(name for name in sys.modules if 'rxmistral.' in name))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    ).stdout.split()
    lazy = {
        "rxmistral.completions.fallback",
        "rxmistral.completions.think_tags",
        "rxmistral.rx.async_source",
        "rxmistral.rx.switching",
        "rxmistral.text.code_blocks",
        "rxmistral.text.guard",
        "rxmistral.text.pacing",
        "rxmistral.text.sentences",
        "rxmistral.text.structured.operators",
        "rxmistral.text.words_lines",
        *(f"rxmistral.{name}" for name in ("testing", "demo", "cli", "relay", "logs")),
    }
    assert not lazy & set(loaded)
    assert all(import_module(name) for name in lazy)


def test_operators_named_like_a_folder_are_the_operators() -> None:
    for name in ("text", "completions"):
        assert getattr(rxmistral, name) is getattr(rxmistral.operators, name)
        assert (PACKAGE / name).is_dir()


def test_logs_load_no_broker_s_client() -> None:
    code = "import sys, rxmistral.logs; sys.exit(not {'redis', 'nats'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_operator_is_found_where_it_is_said_to_be() -> None:
    operators = rxmistral.operators
    assert set(operators._MODULE_OF) == set(operators.__all__)
    for name, path in operators._MODULE_OF.items():
        module = import_module(f"rxmistral.{path}")
        assert name in module.__all__
        assert getattr(rxmistral, name) is getattr(module, name)
        assert name in dir(operators)
        assert name in dir(rxmistral)


def test_what_is_not_there_is_missed_as_anywhere() -> None:
    for module in (rxmistral, rxmistral.operators):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute"):
            module.sentense  # noqa: B018
