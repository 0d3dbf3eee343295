"""The types of reactivex's methods: the stub has all of them, as they are."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from reactivex import Observable

from rxmistral.rx import reactivex_methods

STUB = ast.parse(Path(reactivex_methods.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
TYPED = [
    node for node in ast.walk(STUB) if isinstance(node, ast.FunctionDef) and node.name[0] != "_"
]
FLUENT = {
    name: method
    for base in Observable.__mro__[1:]
    for name, method in vars(base).items()
    if inspect.isfunction(method) and name[0] != "_" and name not in vars(Observable)
}


def parameters(function: ast.FunctionDef) -> set[str]:
    """Returns the names by which a caller may pass the arguments."""
    every = function.args
    return {each.arg for each in (*every.args, *every.kwonlyargs, every.vararg) if each}


def test_every_fluent_method_is_typed() -> None:
    assert len(FLUENT) > 100
    assert FLUENT.keys() <= {function.name for function in TYPED}  # old versions have fewer


@pytest.mark.parametrize("name", FLUENT)
def test_typed_method_has_the_parameters_of_reactivex(name: str) -> None:
    typed = set[str]().union(*(parameters(each) for each in TYPED if each.name == name))
    assert typed == set(inspect.signature(FLUENT[name]).parameters)


def test_no_result_is_any() -> None:
    for function in TYPED:
        assert function.returns is not None
        assert "Any" not in ast.unparse(function.returns), function.name
        assert "Any" not in ast.unparse(function.args), function.name


def test_every_result_is_a_stream_or_a_future() -> None:
    for function in TYPED:
        assert function.returns is not None
        result = ast.unparse(function.returns)
        streams = ("Stream[", "ConnectableStream[", "list[Stream[")
        assert result.startswith(("Future[",) if function.name == "to_future" else streams)
