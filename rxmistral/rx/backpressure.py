"""Backpressure for threads that must not wait: the source is paused instead.

A thread that emits the items of many streams must not wait for one of them. It publishes the
source of the item that it is emitting, and a consumer that is full pauses that source:

    consumer is full        emitting.source.pause()     the source stops reading; TCP slows
                                                        the server
    consumer has room       source.resume()             from any thread

The consumer must have room for the rest of the block that the source has already read. Any other
thread waits itself. `Backpressure` does both, for all bounded buffers.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import local
from typing import Protocol

__all__ = ["Backpressure", "Pausable", "emitting", "running_loop"]


class Pausable(Protocol):
    """A source that emits on a thread which must not wait."""

    def pause(self) -> None:
        """Stops emitting until `resume()`; called on the thread that emits."""

    def resume(self) -> None:
        """Continues if it is paused; from any thread, without blocking."""


class _Emitting(local):
    source: Pausable | None = None


emitting = _Emitting()
"""`.source`: the source whose item this thread is emitting; None: this thread may wait."""


class Backpressure:
    """The sources that a full buffer has paused, and the threads that wait for room in it.

    Strategy: no lock, since garbage collection may dispose the buffer's owner at any moment. The
    emitting side adds itself to `waiting` and then checks the buffer again; the reading side
    removes items first and then checks `waiting`. So at least one of them sees the other.
    """

    def __init__(self) -> None:
        self.waiting: set[Callable[[], object]] = set()  # each resumes a source or a thread

    def apply(self, source: Pausable | None, is_full: Callable[[], bool]) -> None:
        """Pauses the source if the buffer is full; None: this thread waits while it is full."""
        if source is None:
            self._wait_while(is_full)
        elif is_full():
            source.pause()
            self.waiting.add(source.resume)
            if not is_full():  # the reading side may have checked `waiting` too early
                self.release()

    def _wait_while(self, is_full: Callable[[], bool]) -> None:
        while is_full():
            resumed: SimpleQueue[None] = SimpleQueue()
            self.waiting.add(partial(resumed.put, None))
            if is_full():
                resumed.get()

    def release(self) -> None:
        """Resumes everything that waits, from any thread; an extra call is harmless."""
        with suppress(KeyError):  # empty: two threads may do this at the same time
            while True:
                self.waiting.pop()()


def running_loop() -> AbstractEventLoop | None:
    """Returns the event loop that runs on this thread, which then must not wait."""
    try:
        return get_running_loop()
    except RuntimeError:
        return None
