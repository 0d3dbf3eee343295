"""Backpressure for threads that must not wait: the source is paused instead.

A thread that emits the items of many streams must not wait for one of them. It publishes the
source of the item that it is emitting, and a consumer that is full pauses that source:

    consumer is full        emitting.source.pause()     the source stops reading; TCP slows
                                                        the server
    consumer has room       source.resume()             from any thread

The consumer must have room for the rest of the block that the source has already read.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from contextlib import suppress
from threading import local
from typing import Protocol

__all__ = ["Pausable", "emitting", "running_loop"]


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


def running_loop() -> AbstractEventLoop | None:
    """Returns the event loop that runs on this thread, which then must not wait."""
    with suppress(RuntimeError):
        return get_running_loop()
    return None
