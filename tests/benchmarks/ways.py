"""A way to read an answer: what the benchmarks measure. The modules `by_...` have them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import iscoroutinefunction
from threading import Thread
from typing import Any, NamedTuple

Take = Callable[[Any], None]

PATH = "/v1/chat/completions"
MODEL = "mistral-small-latest"
PROMPT = "Why is the sky blue?"


class Way(NamedTuple):
    """
    open: Gives a client of the server at a URL; it is used for one answer after another.
    read: Reads one answer with a client and gives each piece of it to `take`. May be a
        coroutine function.
    read_many: Reads that many answers at once. None: each on a thread or in a task.
    """

    open: Callable[[str], Any]
    read: Callable[[Any, Take], Any]
    read_many: Callable[[Any, int, Take], object] | None = None

    @property
    def is_async(self) -> bool:
        return iscoroutinefunction(self.read)


def read_many(way: Way, client: Any, count: int, take: Take) -> None:
    """Returns when all have ended, or before."""
    if way.read_many is not None:
        way.read_many(client, count, take)
    elif way.is_async:
        asyncio.run(_gathered(way, client, count, take))
    else:
        for _ in range(count):
            Thread(target=way.read, args=(client, take), daemon=True).start()


async def _gathered(way: Way, client: Any, count: int, take: Take) -> None:
    await asyncio.gather(*[way.read(client, take) for _ in range(count)])
