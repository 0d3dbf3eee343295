"""Mistakes in a pipe that show before any item flows."""

from __future__ import annotations

import inspect
from typing import Any

from ..checks import check_synchronous

__all__ = ["check_operator"]


def check_operator(operator: Any) -> None:
    """Checks one argument of `pipe`.

    Raises:
        TypeError: An operator of rxmistral was passed without calling it, or a coroutine
            function was passed to `do_action` or `finally_action`.
    """
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
