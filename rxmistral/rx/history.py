"""What a shared run has emitted, and what a subscriber that is behind receives of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

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

_BATCH = 256  # items in one step, so that who has many to catch up with takes turns

# Items that a viewer may be behind where its view does not say: none, where it is no loss
# to be given the sum of them, or the last; else so many as a loop holds.
_LEEWAY = {"wait": 512, "merge": 1, "latest": 1, "fail": 512}


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """An item and its id.

    Attributes:
        id: The items of a run are numbered from 1. One that was merged of several texts
            has the id of the last.
        item: The item.
    """

    id: int
    item: T


# --- what came -------------------------------------------------------------------


class History(Generic[T]):
    """The items of a run, numbered from 1, and how it ended.

    Args:
        max_items: How many items are kept, the last ones; None keeps all.
    """

    def __init__(self, max_items: int | None = None) -> None:
        self.last = 0  # the id of the latest item
        self.gone = 0  # that of the latest which is not kept
        self.ended = False
        self.error: Exception | None = None
        self._items: list[T] = []
        self._max_items = max_items

    def append(self, item: T) -> None:
        self._items.append(item)
        self.last += 1
        if self._max_items is not None and len(self._items) > self._max_items:
            del self._items[0]
            self.gone += 1

    def end(self, error: Exception | None) -> None:
        self.ended, self.error = True, error

    def after(self, place: int, most: int | None = None) -> list[T]:
        """The items after this one.

        Raises:
            LaggedError: Not all of them are kept.
        """
        begin = place - self.gone
        if begin < 0:
            raise LaggedError(-begin)
        return self._items[begin : None if most is None else begin + most]


# --- what is given to who is behind ----------------------------------------------

CatchUp: TypeAlias = Callable[[History[Any], int, int], tuple[int, Sequence[Any]]]
"""What comes next for a viewer: of a history, the id of the item that it had last, and that
of the latest item when it joined. Gives the id of the first item that comes, and the items;
what stands for several has the id of the last of them."""


def all_items(history: History[T], place: int, _: int) -> tuple[int, Sequence[T]]:
    """All of it, as it came."""
    return place + 1, history.after(place, _BATCH)


def all_entries(history: History[T], place: int, _: int) -> tuple[int, Sequence[Entry[T]]]:
    """The same, with the ids."""
    items = history.after(place, _BATCH)
    return place + 1, [Entry(number, item) for number, item in enumerate(items, place + 1)]


def _merging(max_items: int) -> CatchUp:
    def take(history: History[str], place: int, _: int) -> tuple[int, Sequence[str]]:
        items = history.after(place)
        for item in items:
            if not isinstance(item, str):
                raise TypeError(f"only text can be merged, got {type(item).__name__}")
        if len(items) <= max_items:
            return place + 1, items
        return history.last, ["".join(items)]

    return take


def _latest(max_items: int) -> CatchUp:
    def take(history: History[T], place: int, _: int) -> tuple[int, Sequence[T]]:
        if history.last - place > max_items or place < history.gone:
            place = history.last - 1
        return place + 1, history.after(place, _BATCH)

    return take


def _failing(max_items: int) -> CatchUp:
    def take(history: History[T], place: int, joined: int) -> tuple[int, Sequence[T]]:
        behind = history.last - max(place, joined)
        if behind > max_items:
            raise LaggedError(behind - max_items)
        return all_items(history, place, joined)

    return take


_TAKES: dict[str, Callable[[int], CatchUp]] = {
    "wait": lambda _: all_items,
    "merge": _merging,
    "latest": _latest,
    "fail": _failing,
}


def catch_up_policy(when_behind: WhenBehind, max_items: int | None) -> tuple[CatchUp, int | None]:
    """A policy; and how far behind it the source may get, or None where it waits for none."""
    if when_behind not in _TAKES:
        raise ValueError(f"when_behind must be one of {', '.join(_TAKES)}, got {when_behind!r}")
    if max_items is None:
        max_items = _LEEWAY[when_behind]
    check_integer("max_items", max_items)
    return _TAKES[when_behind](max_items), max_items if when_behind == "wait" else None
