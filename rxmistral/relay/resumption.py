"""Positions in a run: each item has an id, and a page that reconnects sends the last one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Protocol, TypeVar, runtime_checkable

from reactivex import Observable, abc

from ..rx.history import Entry
from ..rx.state_machine import item_operator
from ..rx.stream import Stream

__all__ = ["Resumable", "entries_after", "resume_position"]

T = TypeVar("T")

_MAX_DIGITS = 18  # a longer number is not the id of an item, and is too large for a broker


@runtime_checkable
class Resumable(Protocol[T]):
    """A run that can be read from any of its items on, during the run and after its end."""

    def entries(self, after: int = 0) -> Stream[Entry[T]]:
        """Returns all items after the one with this id, each with its id."""
        ...


def resume_position(source: object, last_event_id: str | None) -> int:
    """Returns the id of the item after which to resume; 0, the start, for an invalid header."""
    if last_event_id is not None and not isinstance(last_event_id, str):
        raise TypeError(f"last_event_id must be a str or None, got {type(last_event_id).__name__}")
    if not last_event_id:
        return 0
    if not isinstance(source, Resumable):
        raise ValueError(
            "last_event_id was given, but this source cannot be resumed: "
            "relay a stream that is shared or read from a log"
        )
    is_number = last_event_id.isascii() and last_event_id.isdigit()
    return int(last_event_id) if is_number and len(last_event_id) <= _MAX_DIGITS else 0


def entries_after(source: Observable[Any] | Resumable[Any], after: int) -> Observable[Entry[Any]]:
    """Returns the items with their ids; those of a source without ids are counted from 1."""
    if isinstance(source, Resumable):
        return source.entries(after)
    if not isinstance(source, Observable):
        raise TypeError(f"expected a Stream or a Resumable, got {type(source).__name__}")

    def start(observer: abc.ObserverBase[Entry[T]]) -> Callable[[T], None]:
        emit, ids = observer.on_next, count(1)
        return lambda item: emit(Entry(next(ids), item))

    return item_operator(start)(source)
