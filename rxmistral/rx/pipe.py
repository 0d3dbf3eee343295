"""`pipe` of Streams, and the operators that are methods of all Streams.

Their types are in the stub beside this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from ..checks import check_synchronous
from .fluent import OperatorMethod
from .reactivex_methods import ReactivexMethods

__all__ = ["Pipe"]

T_out = TypeVar("T_out", covariant=True)


class Pipe(ReactivexMethods[T_out]):
    """An Observable whose pipes are Streams."""

    map_async = OperatorMethod("rxmistral.rx.map_async")
    shared = OperatorMethod("rxmistral.rx.shared_stream")

    def pipe(self, *operators: Callable[[Any], Any]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # the stub has the overloads
        """Composes operators from left to right.

        Returns:
            A Stream if the last operator returns an Observable; a tuple or list of Streams
            if it returns several (`partition`); otherwise its result, unchanged.

        Raises:
            TypeError: An operator of rxmistral was passed without calling it, or a coroutine
                function as a callback of `do_action` or `finally_action`.
        """
        result: Any = self
        for operator in operators:
            _check_operator(operator)
            result = self._as_stream(operator(result))
        return result


def _check_operator(operator: Any) -> None:
    module = str(getattr(operator, "__module__", ""))
    if module.startswith("rxmistral.") and operator.__qualname__ == operator.__name__:
        # An operator is a nested function; this one is a module's own, which returns operators.
        name = operator.__name__
        raise TypeError(f"{name} makes an operator and has to be called: pipe({name}(...))")
    if module.startswith("reactivex.") and inspect.isfunction(operator):
        # reactivex's do_action() keeps its callbacks in a closure (tested with 5.0 to 6.1);
        # with other names in it, this check finds nothing.
        closure = inspect.getclosurevars(operator).nonlocals
        if getattr(closure.get("fun"), "__name__", "").startswith("do_action"):
            for callback in (*closure["args"], *closure["kwargs"].values()):
                check_synchronous("the callback of do_action()", callback)
        if operator.__name__ == "finally_action":
            check_synchronous("the action of finally_action()", closure.get("action"))
