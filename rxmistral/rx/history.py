"""The items of a shared run, and what a subscriber that lags receives of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

import msgspec

from ..checks import check_integer
from ..errors import LaggedError

__all__ = [
    "CatchUp",
    "Entry",
    "History",
    "WhenBehind",
    "all_entries",
    "all_items",
    "catch_up_policy",
]

T = TypeVar("T")

WhenBehind: TypeAlias = Literal["wait", "merge", "latest", "fail"]

_BATCH_ITEMS = 256  # the most that one viewer receives before the next viewer is served

# How many items a viewer may lag by default; 512 is also the size of the buffer of a loop.
_DEFAULT_MAX_ITEMS = {"wait": 512, "merge": 1, "latest": 1, "fail": 512}


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """An item and its id.

    Attributes:
        id: The number of the item in its run, from 1. An item that was merged from several
            texts has the id of the last of them.
        item: The item.
    """

    id: int
    item: T


class History(Generic[T]):
    """The items of a run, numbered from 1, and how it ended; keeps the latest `max_items`."""

    def __init__(self, max_items: int | None = None) -> None:
        self.last_id = 0  # of the latest item
        self.evicted_id = 0  # of the latest item that is no longer kept
        self.ended = False
        self.error: Exception | None = None  # that ended the run
        self._items: list[T] = []
        self._max_items = max_items

    def append(self, item: T) -> None:
        self._items.append(item)
        self.last_id += 1
        if self._max_items is not None and len(self._items) > self._max_items:
            self.evict(1)

    def evict(self, count: int) -> None:
        """Drops the oldest items."""
        del self._items[:count]
        self.evicted_id += count

    def end(self, error: Exception | None) -> None:
        self.ended, self.error = True, error

    def items_after(self, position: int, limit: int | None = None) -> list[T]:
        """Returns at most `limit` items after an id; raises LaggedError if some are not kept."""
        begin = position - self.evicted_id
        if begin < 0:
            raise LaggedError(-begin)
        return self._items[begin : None if limit is None else begin + limit]


Batch: TypeAlias = tuple[int, Sequence[Any]]
"""What to emit: the id of the first item, and the items. An item that replaces several has the id
of the last of them."""

CatchUp: TypeAlias = Callable[[History[Any], int, int], Batch]
"""A policy that selects what a viewer receives next. Called with the history, the id of the latest
item that the viewer has received, and the id of the latest item when it joined."""


def all_items(history: History[Any], position: int, _: int) -> Batch:
    return position + 1, history.items_after(position, _BATCH_ITEMS)


def all_entries(history: History[Any], position: int, _: int) -> Batch:
    items = history.items_after(position, _BATCH_ITEMS)
    return position + 1, [Entry(number, item) for number, item in enumerate(items, position + 1)]


def _merge(max_items: int, history: History[Any], position: int, _: int) -> Batch:
    items = history.items_after(position)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"only text can be merged, got {type(item).__name__}")
    if len(items) <= max_items:
        return position + 1, items
    return history.last_id, ["".join(items)]


def _latest(max_items: int, history: History[Any], position: int, joined: int) -> Batch:
    if history.last_id - position > max_items or position < history.evicted_id:
        position = history.last_id - 1
    return all_items(history, position, joined)


def _fail(max_items: int, history: History[Any], position: int, joined: int) -> Batch:
    lag = history.last_id - max(position, joined)
    if lag > max_items:
        raise LaggedError(lag - max_items)
    return all_items(history, position, joined)


_POLICIES = {"merge": _merge, "latest": _latest, "fail": _fail}


def catch_up_policy(when_behind: WhenBehind, max_items: int | None) -> tuple[CatchUp, int | None]:
    """Returns a policy, and how many items the source may be ahead; None: it does not wait."""
    names = get_args(WhenBehind)
    if when_behind not in names:
        raise ValueError(
            f"when_behind must be one of {', '.join(map(repr, names))}, got {when_behind!r}"
        )
    if max_items is None:
        max_items = _DEFAULT_MAX_ITEMS[when_behind]
    check_integer("max_items", max_items)
    if when_behind == "wait":
        return all_items, max_items
    return partial(_POLICIES[when_behind], max_items), None
