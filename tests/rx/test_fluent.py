"""Operators as methods: the same parameters, docstring and result as in a pipe."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reactivex

import rxmistral
from rxmistral import Mistral, Stream, TextStream, UserMessage, operators
from rxmistral.completions.completion_stream import CompletionStream

# The items of a class of Streams, as the annotations of the operators name them.
ITEMS: dict[type[Stream[Any]], str] = {TextStream: "str", CompletionStream: "CompletionEvent"}


def methods(kind: type[Stream[Any]]) -> list[str]:
    """Returns the names of the operators that accept the items of a class of Streams."""
    accepting = f"Callable[[Observable[{ITEMS[kind]}]]"
    return [
        name
        for name in operators.__all__
        if inspect.isfunction(operator := getattr(operators, name))
        and str(inspect.signature(operator).return_annotation).startswith(accepting)
    ]


METHODS = [(kind, name) for kind in ITEMS for name in methods(kind)]
every_method = pytest.mark.parametrize(
    ("kind", "name"), METHODS, ids=[f"{kind.__name__}.{name}" for kind, name in METHODS]
)


def decorators(kind: type[Stream[Any]]) -> dict[str, str]:
    """Returns the methods of a class in the stub of its module, with the operators they name."""
    stub = Path(inspect.getfile(kind)).with_suffix(".pyi")
    return {
        node.name: ast.unparse(node.decorator_list[0])
        for node in ast.walk(ast.parse(stub.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name != "of"
    }


def ask() -> rxmistral.EventStream:
    """Returns a Stream that is not read."""
    return Mistral("key").chat.stream(model="m", messages=[UserMessage(content="Hi")])


def test_operators_are_found_by_their_annotations() -> None:
    assert {"text", "usage", "on_outcome"} <= set(methods(CompletionStream))
    assert {"words", "items", "think_tags"} <= set(methods(TextStream))


@every_method
def test_method_is_the_operator(kind: type[Stream[Any]], name: str) -> None:
    method, operator = getattr(kind, name), getattr(operators, name)
    assert method.__wrapped__ is operator
    assert method.__doc__ == operator.__doc__
    this, *others = inspect.signature(method).parameters.values()
    assert this.name == "self"
    assert others == list(inspect.signature(operator).parameters.values())


@pytest.mark.parametrize("kind", ITEMS)
def test_stub_has_each_method_with_its_operator(kind: type[Stream[Any]]) -> None:
    typed = decorators(kind)
    assert typed.keys() == set(methods(kind))
    for name, decorator in typed.items():
        assert decorator.startswith("method_of(")
        assert decorator.endswith(f".{name})")


def test_methods_load_no_operator_before_they_are_used() -> None:
    code = (
        "import sys, rxmistral\n"
        "rxmistral.TextStream.of\n"
        "print('rxmistral.text.words_lines' in sys.modules)\n"
        "rxmistral.TextStream.words\n"
        "print('rxmistral.text.words_lines' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "True"]


def test_method_passes_its_arguments_to_the_operator() -> None:
    pieces = TextStream.of(reactivex.of("call 555", "-1234"))
    redacted = pieces.guarded(r"\d{3}-\d{4}", max_length=8, replacement="#")
    assert "".join(redacted) == "call #"
    with pytest.raises(TypeError, match=r"words\(\) takes 0 positional arguments"):
        pieces.words("en")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="choice must"):
        ask().text(-1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ask().sentences(), "EventStream has no sentences(): call text() first"),
        (lambda: ask().until_finished().words(), "CompletionStream has no words(): call text() first"),
        (lambda: ask().join(), "EventStream has no join(): call text() first"),
        (
            lambda: ask().text().map(str.upper).join(),
            "Stream has no join(): pass the operator of this name to pipe()",
        ),
        (lambda: ask().text().usage(), "TextStream has no usage(): call it on the answer"),
        (lambda: ask().text().text(), "TextStream has no text(): call it on the answer"),
        (
            lambda: ask().text().map(str.upper).words(),
            "Stream has no words(): pass the operator of this name to pipe()",
        ),
        (
            lambda: ask().text().shared().sentences(),
            "SharedStream has no sentences(): pass the operator of this name to pipe()",
        ),
        (lambda: ask().nothing, "'EventStream' object has no attribute 'nothing'"),
    ],
)  # fmt: skip
def test_wrong_order_raises_an_error_with_the_remedy(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(AttributeError) as raised:
        call()
    assert str(raised.value) == message
    assert raised.value.name in message
    assert isinstance(raised.value.obj, Stream)
