"""Measures the cost of a thousand viewers of one shared stream.

    python tests/benchmarks/sharing.py

Prints the CPU seconds of a thousand items for each viewer, emitted as fast as they are consumed or
one per millisecond, with `subscribe` and with `async for` on one event loop.
"""

from __future__ import annotations

import asyncio
import time
from queue import SimpleQueue
from threading import Thread

from reactivex import Subject

from rxmistral import SharedStream, Stream

VIEWERS = ITEMS = 1000


def emit(source: Subject[str], pause: float) -> None:
    for number in range(ITEMS):
        source.on_next(f"{number} ")
        if pause:
            time.sleep(pause)
    source.on_completed()


def by_subscribing(shared: SharedStream[str], source: Subject[str], pause: float) -> float:
    ended: SimpleQueue[None] = SimpleQueue()
    for _ in range(VIEWERS):
        shared.subscribe(lambda _: None, on_completed=lambda: ended.put(None))
    began = time.process_time()
    emit(source, pause)
    for _ in range(VIEWERS):
        ended.get()
    return time.process_time() - began


def by_async_for(shared: SharedStream[str], source: Subject[str], pause: float) -> float:
    async def view() -> None:
        async for _ in shared:
            pass

    async def view_all() -> float:
        viewers = [asyncio.create_task(view()) for _ in range(VIEWERS)]
        await asyncio.sleep(0)  # each has subscribed
        began = time.process_time()
        Thread(target=emit, args=(source, pause)).start()
        await asyncio.gather(*viewers)
        return time.process_time() - began

    return asyncio.run(view_all())


if __name__ == "__main__":
    for way in (by_subscribing, by_async_for):
        for pause in (0.0, 0.001):
            source: Subject[str] = Subject()
            spent = way(Stream.of(source).shared(), source, pause)
            print(f"{way.__name__:15} {pause * 1e3:.0f} ms between items: {spent:.2f} s of CPU")
