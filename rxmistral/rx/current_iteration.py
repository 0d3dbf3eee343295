"""The loop on whose behalf a Stream is subscribed to, for the sources that have to know it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from threading import get_ident

from reactivex import abc

__all__ = ["Iteration", "current_iteration", "current_reader"]


class Iteration(abc.DisposableBase):
    """A reader of a source on behalf of a loop; its disposal ends the loop.

    Attributes:
        event_loop: The event loop on which the loop awaits its items.
        waiting_thread: The id of the thread that only waits for items.
        waiting_loop: The event loop that this thread blocks.
    """

    event_loop: asyncio.AbstractEventLoop | None = None
    waiting_thread: int | None = None
    waiting_loop: asyncio.AbstractEventLoop | None = None


current_iteration: ContextVar[Iteration | None] = ContextVar(
    "rxmistral_current_iteration", default=None
)
"""The loop that is subscribing, if the subscriber is a loop; disposing it ends the loop.

A source that starts a thread for a loop makes it a daemon: without the loop's own thread nothing
reads the items, and the interpreter must not wait. After a plain `subscribe` the thread is not a
daemon, so that a script that ends in one prints the whole answer."""


def current_reader() -> object:
    """Returns the current task, or the current thread if there is none.

    For the separate thread of `iterate`, returns the thread that reads.
    """
    loop = current_iteration.get()
    if loop is not None and loop.waiting_thread is not None:
        return loop.waiting_thread
    with suppress(RuntimeError):  # no event loop is running
        return asyncio.current_task() or get_ident()
    return get_ident()
