"""A way to read an answer. The modules `by_...` define the ways that the benchmarks measure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import iscoroutinefunction
from threading import Thread
from typing import Any, NamedTuple

Consume = Callable[[Any], None]

PATH = "/v1/chat/completions"
MODEL = "mistral-small-latest"
PROMPT = "Why is the sky blue?"


class Way(NamedTuple):
    """How to read answers.

    Attributes:
        open: Returns a client of the server at a URL, for one answer after another.
        read: Reads one answer and passes each piece to `consume`. May be a coroutine function.
        read_many: Reads this many answers at once. None: each on a thread or in a task.
    """

    open: Callable[[str], Any]
    read: Callable[[Any, Consume], Any]
    read_many: Callable[[Any, int, Consume], object] | None = None

    @property
    def is_async(self) -> bool:
        return iscoroutinefunction(self.read)


def read_many(way: Way, client: Any, count: int, consume: Consume) -> None:
    """Reads many answers at once; may return before they end."""
    if way.read_many is not None:
        way.read_many(client, count, consume)
    elif way.is_async:
        asyncio.run(_gathered(way, client, count, consume))
    else:
        for _ in range(count):
            Thread(target=way.read, args=(client, consume), daemon=True).start()


async def _gathered(way: Way, client: Any, count: int, consume: Consume) -> None:
    await asyncio.gather(*[way.read(client, consume) for _ in range(count)])
