"""The fluent methods of reactivex, which return Streams here.

Their types are in the stub beside this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from reactivex import Observable

__all__ = ["ReactivexMethods"]

T_out = TypeVar("T_out", covariant=True)


class ReactivexMethods(Observable[T_out]):
    """An Observable whose fluent methods return what `_as_stream` makes of their results."""

    def _as_stream(self, result: Any) -> Any:
        """Returns the Observables in a result as Streams that were piped from this one."""
        raise NotImplementedError

    def __add__(self, other: Observable[Any]) -> Any:
        return self._as_stream(super().__add__(other))

    __iadd__ = __add__

    def __getitem__(self, key: slice | int) -> Any:
        return self._as_stream(super().__getitem__(key))


def _returning_streams(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def fluent(self: ReactivexMethods[Any], *args: Any, **kwargs: Any) -> Any:
        return self._as_stream(method(self, *args, **kwargs))

    return fluent


def _inherit_fluent_methods() -> None:
    # Most fluent methods of reactivex call `pipe`, but not all of them.
    for base in Observable.__mro__[1:]:
        for name, method in vars(base).items():
            is_public = inspect.isfunction(method) and not name.startswith("_")
            if is_public and name not in vars(Observable):
                setattr(ReactivexMethods, name, _returning_streams(method))


_inherit_fluent_methods()
