"""StoppableEmission: the items of one reader, until another thread stops them.

Strategy: the thread that emits and the one that stops synchronize without a lock, as the output
slot of `switching`: each sets its own flag first (`_emitting_thread`, `_is_halted`) and then checks
that of the other. The side that finishes last ends the reader.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from threading import get_ident
from typing import Generic, TypeVar

from ..errors import StoppedError

__all__ = ["StoppableEmission", "stopped_error"]

T = TypeVar("T")


class StoppableEmission(Generic[T]):
    """The items that one reader receives, on one thread at a time.

    Attributes:
        emitted_count: The number of items that have begun to be emitted.
    """

    def __init__(self, emit: Callable[[T], object]) -> None:
        self.emitted_count = 0
        self._emit = emit
        self._emitting_thread = 0
        self._is_halted = False

    def on_next(self, value: T) -> None:
        outer, self._emitting_thread = self._emitting_thread, get_ident()
        try:
            if not self._is_halted:
                self.emitted_count += 1
                self._emit(value)
        finally:
            self._emitting_thread = outer
            if self._is_halted and not outer:
                self._end_stopped()

    def halt(self) -> None:
        """From now on, no item begins to be emitted; from any thread."""
        self._is_halted = True

    def stop(self) -> None:
        """Halts, and ends the reader, unless the thread that is emitting an item does so."""
        self.halt()
        if not self._emitting_thread:
            self._end_stopped()

    @abstractmethod
    def _end_stopped(self) -> None:
        """Ends the reader with `stopped_error()`, unless it has ended."""


def stopped_error() -> StoppedError:
    """Returns an error after which operators do not emit what they hold."""
    error = StoppedError()
    error.drops_held_items = True
    return error
