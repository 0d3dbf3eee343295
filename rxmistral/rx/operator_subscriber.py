"""OperatorSubscriber: the Subscriber of an operator that reads an answer among other sources.

    program ──▶ merge ──▶ OperatorSubscriber ──▶ text() ──▶ the answer

`close()` of an answer disposes the subscriptions of the program, and ends its loops. An operator
such as `merge` or `flat_map` would then wait for the end of the answer forever. It gets
`StoppedError` instead, as from any other source that fails.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar
from weakref import ref

from reactivex import abc

from .stoppable_emission import StoppableEmission, stopped_error
from .subscriber import Subscriber

__all__ = ["OperatorSubscriber"]

T = TypeVar("T")


class OperatorSubscriber(Subscriber[T]):
    """A Subscriber that gets `StoppedError` if the answer is closed."""

    __slots__ = ("_ending",)

    def __init__(self, answer: object, *callbacks: Any) -> None:
        super().__init__(*callbacks)
        closing = _Closing(self)
        self.answer = answer
        self.callback, self.closing = closing.on_next, closing
        self._ending = Lock()  # acquired once, by the thread that ends the subscription

    def _end(self, emit_terminal: Callable[[], object], reason: Exception | None = None) -> None:
        if self._ending.acquire(blocking=False):
            super()._end(emit_terminal, reason)


class _Closing(StoppableEmission[T], abc.DisposableBase):
    def __init__(self, subscriber: Subscriber[T]) -> None:
        super().__init__(subscriber.callback)
        self._subscriber = ref(subscriber)  # weak: it refers to this

    def dispose(self) -> None:
        self.stop()

    def _end_stopped(self) -> None:
        subscriber = self._subscriber()
        if subscriber is not None:
            subscriber.on_error(stopped_error())
