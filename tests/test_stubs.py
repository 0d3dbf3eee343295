"""The stubs, compared with their modules at run time."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import rxmistral

ROOT = Path(rxmistral.__file__).parent
STUBS = {
    ".".join(("rxmistral", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in sorted(ROOT.rglob("*.pyi"))
}
every_stub = pytest.mark.parametrize("module", STUBS)


def classes(module: str) -> list[tuple[ast.ClassDef, Any]]:
    """Returns the classes of a stub, and those of the module."""
    tree = ast.parse(STUBS[module].read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return [(node, getattr(importlib.import_module(module), node.name)) for node in found]


def methods(node: ast.ClassDef) -> dict[str, list[ast.FunctionDef]]:
    """Returns the overloads of each method of a class in a stub."""
    found: dict[str, list[ast.FunctionDef]] = {}
    for each in node.body:
        if isinstance(each, ast.FunctionDef):
            found.setdefault(each.name, []).append(each)
    return found


def defaults(function: ast.FunctionDef) -> dict[str, object]:
    """Returns the parameters of a method in a stub that have a default."""
    by_position, by_name = function.args.defaults, function.args.kw_defaults
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    pairs = [*zip(names[len(names) - len(by_position) :], by_position, strict=True)]
    named = zip((each.arg for each in function.args.kwonlyargs), by_name, strict=True)
    pairs += [(name, value) for name, value in named if value is not None]
    return {name: ast.literal_eval(value) for name, value in pairs}


def test_stubs_are_found() -> None:
    assert len(STUBS) == 4


@every_stub
def test_stub_exports_the_names_of_its_module(module: str) -> None:
    tree = ast.parse(STUBS[module].read_text(encoding="utf-8"))
    (exported,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert exported == importlib.import_module(module).__all__
    assert exported == [node.name for node, _ in classes(module)]


@every_stub
def test_stub_has_every_public_method(module: str) -> None:
    for node, real in classes(module):
        assert {name for name in vars(real) if name[0] != "_"} <= set(methods(node))


@every_stub
def test_every_method_of_the_stub_is_there(module: str) -> None:
    for node, real in classes(module):
        missing = {name for name in methods(node) if not hasattr(real, name)}
        # Old versions of reactivex have fewer methods.
        assert not missing or module == "rxmistral.rx.reactivex_methods"


@every_stub
def test_defaults_in_the_stub_are_those_at_run_time(module: str) -> None:
    for node, real in classes(module):
        for name, overloads in methods(node).items():
            if hasattr(real, name):
                actual = inspect.signature(getattr(real, name)).parameters
                for function in overloads:
                    for parameter, value in defaults(function).items():
                        assert actual[parameter].default == value, name


@every_stub
def test_required_parameter_is_required_in_every_overload(module: str) -> None:
    for node, real in classes(module):
        for name, overloads in methods(node).items():
            if hasattr(real, name) and not is_operator(overloads[0]):
                actual = inspect.signature(getattr(real, name)).parameters.values()
                required = {each.name for each in actual if is_required(each)}
                for function in overloads:
                    arguments = function.args
                    typed = {each.arg for each in (*arguments.posonlyargs, *arguments.args)}
                    assert required <= typed - defaults(function).keys(), name


def is_operator(function: ast.FunctionDef) -> bool:
    """Returns whether a method has the parameters of an operator (see `test_fluent`)."""
    return any("method_of" in ast.unparse(each) for each in function.decorator_list)


def is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is (
        parameter.POSITIONAL_OR_KEYWORD
    )
