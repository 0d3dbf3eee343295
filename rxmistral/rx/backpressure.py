"""Backpressure for threads that must not wait: the source is paused instead.

A thread that emits the items of a single stream waits while they cannot be accepted. A thread
that emits the items of many streams must not wait, since it would delay all of them. It
publishes the source of the item that it is emitting, and a consumer that is full pauses that
source:

    consumer is full        emitting.source.pause()     the source stops reading; TCP slows
                                                        the server
    consumer has room       source.resume()             from any thread

The source still emits the rest of the block that it has already read: a consumer that pauses
a source must have room for it.
"""

from __future__ import annotations

from asyncio import get_running_loop
from threading import local
from typing import Protocol

__all__ = ["Pausable", "emitting", "on_an_event_loop"]


class Pausable(Protocol):
    """A source that emits on a thread which must not wait."""

    def pause(self) -> None:
        """Stops emitting until `resume()`; called on the thread that emits."""

    def resume(self) -> None:
        """Continues if it is paused; from any thread, without blocking."""


class _Emitting(local):
    source: Pausable | None = None


emitting = _Emitting()
"""`.source`: the source whose item the current thread is emitting, if the thread must not
wait; None if it may wait."""


def on_an_event_loop() -> bool:
    """Returns whether the current thread runs an event loop, and therefore must not wait."""
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True
