"""Operators as methods of the Streams whose items they accept.

`answer.text()` is `answer.pipe(text())`. A class of Streams names the modules of the operators;
a module is loaded when a method is first used:

    class TextStream(Stream[str]):
        words = OperatorMethod("rxmistral.text.words_lines")

The types of these methods are in stubs, where `method_of(words)` has the parameters and the
result of the operator: the operators return the classes, so neither module can import the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from reactivex import Observable, abc

__all__ = ["OperatorMethod", "missing_attribute", "returning"]

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")

_methods: set[str] = set()  # of all classes


class OperatorMethod:
    """A method that pipes a Stream through the operator of the same name.

    When it is first looked up, it loads the operator, and a function with its parameters and
    docstring takes its place.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name
        _methods.add(name)

    def __get__(self, stream: object | None, owner: type) -> Any:
        operator = getattr(import_module(self._module), self._name)
        method = _method_from(operator, self._owner)
        setattr(self._owner, self._name, method)
        return method if stream is None else method.__get__(stream, owner)


def _method_from(operator: Callable[..., Any], owner: type) -> Any:
    @wraps(operator, assigned=("__doc__", "__module__", "__name__"))
    def method(self: Observable[Any], *args: Any, **kwargs: Any) -> Any:
        return self.pipe(operator(*args, **kwargs))

    signature = inspect.signature(operator)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[this, *signature.parameters.values()], return_annotation=signature.empty
    )
    method.__qualname__ = f"{owner.__qualname__}.{operator.__name__}"
    return method


if TYPE_CHECKING:

    def method_of(
        operator: Callable[P, Callable[[Observable[A]], R]],
    ) -> Callable[[object], Callable[Concatenate[Observable[A], P], R]]:
        """Returns a decorator that gives a method in a stub the type of an operator."""
        raise NotImplementedError


def missing_attribute(stream: object, name: str, remedy: str) -> AttributeError:
    """Returns the error of a Stream that lacks an attribute, with a remedy if a class of Streams
    has an operator of this name."""
    kind = type(stream).__name__
    problem = f"{kind!r} object has no attribute {name!r}"
    if name in _methods:
        problem = f"{kind} has no {name}(): {remedy}"
    return AttributeError(problem, name=name, obj=stream)


def returning(
    kind: Callable[[abc.Subscription[B]], R], operator: Callable[[Observable[A]], Observable[B]]
) -> Callable[[Observable[A]], R]:
    """Returns an operator whose result is a Stream of this kind."""

    def operate(source: Observable[A]) -> R:
        return kind(operator(source)._subscribe_core)

    return operate
