"""What can be read again, from any of its items on: each has an id.

A shared answer and a logged one can be: whoever lost his connection says which id was the
last he saw, and gets what came after it, once and in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

import msgspec

if TYPE_CHECKING:  # stream itself makes what can be read again
    from .stream import Stream

__all__ = ["Entry", "Resumable"]

T = TypeVar("T")


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """An item and its id.

    Attributes:
        id: The items of a run are numbered from 1. One that was merged of several texts
            has the id of the last.
        item: The item.
    """

    id: int
    item: T


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
