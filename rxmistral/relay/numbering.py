"""Where a page is in a run: each item has an id, and a page that comes back says the last
one it saw."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Protocol, TypeVar, runtime_checkable

from reactivex import Observable, abc

from ..rx.history import Entry
from ..rx.state_machine import item_operator
from ..rx.stream import Stream

__all__ = ["Resumable", "entries_of", "resume_position"]

T = TypeVar("T")


@runtime_checkable
class Resumable(Protocol[T]):
    """A run that can be read from any of its items on."""

    def entries(self, after: int = 0) -> Stream[Entry[T]]:
        """All items after the one with this id, and their ids: what there is at once, and
        then what comes; after the end, too.

        Raises:
            ValueError: `after` is less than 0.
        """
        ...


_DIGITS = 18  # a number with more is no id of ours, and too large for a broker


def resume_position(source: object, last_event_id: str | None) -> int:
    """The id of the item after which to begin; 0 is the start.

    What the page says is not ours, and no reason to raise: what is no id of ours stands
    for none.
    """
    if last_event_id is not None and not isinstance(last_event_id, str):
        raise TypeError(f"last_event_id must be a str or None, got {type(last_event_id).__name__}")
    if not last_event_id:
        return 0
    if not isinstance(source, Resumable):
        raise ValueError(
            "last_event_id was given, but this source cannot be read again from there: "
            "only a stream that is shared or read from a log can"
        )
    is_number = last_event_id.isascii() and last_event_id.isdigit()
    return int(last_event_id) if is_number and len(last_event_id) <= _DIGITS else 0


def entries_of(source: Observable[Any] | Resumable[Any], after: int) -> Observable[Entry[Any]]:
    """The items with their ids; where the source has none they count from 1."""
    if isinstance(source, Resumable):
        return source.entries(after)
    if not isinstance(source, Observable):
        raise TypeError(f"expected a Stream or a Resumable, got {type(source).__name__}")

    def start(observer: abc.ObserverBase[Entry[T]]) -> Callable[[T], None]:
        emit, ids = observer.on_next, count(1)
        return lambda item: emit(Entry(next(ids), item))

    return item_operator(start)(source)
