"""The package itself: what imports what, what is public, what is shipped."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path

import pytest

import rxmistral

PACKAGE = Path(rxmistral.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each may import from itself and from what stands before it.
FLOORS = [
    {
        "checks",
        "clock",
        "threads",
        "hints",
        "errors",
        "model_json",
        "backpressure",
        "iteration",
        "stream",
        "subscriber",
        "inputs",
        "tally",
        "delivery",
        "sharing",
        "machine",
        "resumable",
    },
    {"async_source"},
    {"wire"},
    {"models"},
    {"operators"},
    {"logs"},
    {"policies", "relay"},
    {"run"},
    {"answer", "arguments"},
    {"client"},
    {"testing"},
    {"demo"},
    {"cli"},
    {"__main__", "__init__"},
]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def imported(path: Path) -> set[str]:
    """The modules that a file imports when it runs, as absolute names."""
    package = ".".join(("rxmistral", *path.relative_to(PACKAGE).parent.parts))
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not is_for_checkers(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            names.add(".".join([*base, *([node.module] if node.module else [])]))
    return names


def is_for_checkers(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def test_imports_point_down_only() -> None:
    for path in MODULES:
        for name in imported(path):
            if name.startswith("rxmistral."):
                used = name.split(".")[1]
                assert used == room(path) or floor(used) <= floor(room(path)), f"{path}: {name}"


def test_requests_is_imported_where_requests_are_sent_and_nowhere_else() -> None:
    users = {path for path in MODULES if any(n.split(".")[0] == "requests" for n in imported(path))}
    assert users == {PACKAGE / "wire" / "reader.py", PACKAGE / "wire" / "session.py"}


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
    operators = {name.split(".")[2] for name in loaded if name.startswith("rxmistral.operators.")}
    needed = {"decoding", "ending", "inputs", "outcomes", "parts", "shortcut", "totals"}
    of_totals = {"tools", "json_growing", "json_shapes"}
    of_decoding = {"repair", "alarm"}
    assert operators == needed | of_totals | of_decoding
    rooms = {name.split(".")[1] for name in loaded}
    assert not rooms & {"testing", "demo", "cli", "relay", "logs", "async_source"}


def test_logs_load_no_broker_s_client() -> None:
    code = "import sys, rxmistral.logs; sys.exit(not {'redis', 'nats'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_operator_is_found_where_it_is_said_to_be() -> None:
    operators = rxmistral.operators
    assert set(operators._ROOM_OF) == set(operators.__all__)
    for name, room in operators._ROOM_OF.items():
        module = import_module(f"rxmistral.operators.{room}")
        assert name in module.__all__
        assert getattr(rxmistral, name) is getattr(module, name)
        assert name in dir(operators)
        assert name in dir(rxmistral)


def test_what_is_not_there_is_missed_as_anywhere() -> None:
    for module in (rxmistral, rxmistral.operators):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute"):
            module.sentense  # noqa: B018
