"""Checks of arguments: a wrong one is refused at the call, in the same words everywhere."""

from __future__ import annotations

import math
import sys
from inspect import (
    CO_ASYNC_GENERATOR,
    CO_COROUTINE,
    CO_GENERATOR,
    isasyncgenfunction,
    iscoroutinefunction,
    isgeneratorfunction,
)
from types import BuiltinFunctionType, FunctionType

__all__ = [
    "check_callable", "check_callback", "check_integer", "check_number", "check_seconds",
    "check_synchronous",
    "is_finite",
]  # fmt: skip

_WITH_LATER_BODY = CO_COROUTINE | CO_ASYNC_GENERATOR | CO_GENERATOR  # flags of a code object


def is_finite(value: float) -> bool:
    """Returns whether a number is finite as a float; `math.isfinite` raises for a larger int."""
    return abs(value) <= sys.float_info.max


def check_integer(name: str, value: object, minimum: int = 1) -> None:
    """Raises TypeError or ValueError unless the value is an int of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name} must be {minimum} or more, got {value!r}")


def check_number(name: str, value: object, minimum: float, maximum: float = math.inf) -> None:
    """Raises TypeError or ValueError unless the value is a finite number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if not (is_finite(value) and minimum <= value <= maximum):
        is_open = maximum == math.inf
        bounds = f"{minimum:g} or more" if is_open else f"from {minimum:g} to {maximum:g}"
        raise ValueError(f"{name} must be {bounds}, and finite, got {value!r:.100}")


def check_seconds(name: str, value: object, unit: str = "seconds") -> None:
    """Raises TypeError or ValueError unless the value is a finite duration above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of {unit}, got {type(value).__name__}")
    if not (is_finite(value) and value > 0):
        raise ValueError(f"{name} must be more than 0 {unit}, and finite, got {value!r:.100}")


def check_callable(name: str, value: object) -> None:
    """Raises TypeError unless the value can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {type(value).__name__}")


def check_callback(name: str, value: object) -> None:
    """Raises TypeError unless the value can be called and its body runs at the call."""
    check_callable(name, value)
    check_synchronous(name, value)


def check_synchronous(name: str, value: object) -> None:
    """Raises TypeError for a coroutine or generator function: calling it would run nothing."""
    if _is_plain(value):  # each subscription passes here
        return
    for function in (value, getattr(type(value), "__call__", None)):  # noqa: B004  # to inspect it
        if iscoroutinefunction(function) or isasyncgenfunction(function):
            raise TypeError(
                f"{name} must be a plain function, got an async one, which would never be "
                "awaited; read the stream with async for, or start a task in the function"
            )
        if isgeneratorfunction(function):
            raise TypeError(
                f"{name} must be a plain function, got a generator function, whose body would "
                "never run; remove its yield"
            )


def _is_plain(value: object) -> bool:
    """Returns whether this is obviously a plain function or method."""
    if value is None or isinstance(value, BuiltinFunctionType):
        return True
    function = getattr(value, "__func__", value)
    # A function may be marked as a coroutine function by an attribute.
    return (
        isinstance(function, FunctionType)
        and not function.__code__.co_flags & _WITH_LATER_BODY
        and not function.__dict__
    )
