"""Backpressure without waiting: a source whose thread may not wait is paused.

A thread that emits the items of one stream waits where they cannot be taken. One that
emits those of many must not, since all of them would wait with it. So it says whose
items it emits at the moment, and who cannot take more of them pauses that source:

    hop is full      emitting.source.pause()     it reads nothing more; TCP slows the server
    hop has room     source.resume()             from any thread

What is emitted of the block that was already read comes in any case: who pauses a source
must have room for it.
"""

from __future__ import annotations

from asyncio import get_running_loop
from threading import local
from typing import Protocol

__all__ = ["Pausable", "emitting", "on_an_event_loop"]


class Pausable(Protocol):
    """A source that emits on a thread which may not wait."""

    def pause(self) -> None:
        """Emits nothing more until `resume()`; called on the thread that emits."""

    def resume(self) -> None:
        """Go on, if it is paused; from any thread, and never blocks."""


class _Emitting(local):
    source: Pausable | None = None


emitting = _Emitting()
"""`.source`: whose items this thread emits, where it may not wait; else None."""


def on_an_event_loop() -> bool:
    """Whether this thread runs one, and so must not wait."""
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True
