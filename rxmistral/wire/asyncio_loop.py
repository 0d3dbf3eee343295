"""Reads answers on the event loop of asyncio on which a program iterates over them.

    reader's thread        request ──▶ headers ──▶ first block ──▶ schedule(task)
    program's event loop   add_reader ──▶ step(task) ──▶ the item is there, and the task wakes

Neither a thread nor a wake-up across threads lies between the socket and `async for`.

Strategy: the loop may end before an answer does, and nothing tells. But an answer that is read
here is read by an iteration of that loop, and when that is left, the task is disposed. From then
on a background loop steps the task, for the rest of its body or for its end. So a connection
returns to its pool, and a slot to its `Limit`, even if the program's loop is gone. A loop that
cannot wait for sockets (Windows' ProactorEventLoop) hands all its tasks over at once.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from contextlib import suppress
from threading import Lock
from weakref import WeakKeyDictionary, ref

from ..errors import RequestError
from ..rx.backpressure import emitting, running_loop
from ..rx.clock import monotonic
from ..rx.subscriber import report_unhandled
from ..rx.threads import fork_safe, register_for_fork
from ..rx.worker import end_with_error
from .event_loop import LONGEST_WAIT_SECONDS, TIMEOUT_TICK_SECONDS, EventLoops, LoopTask

__all__ = ["AsyncioLoop", "asyncio_loop_of"]

_loops: WeakKeyDictionary[AbstractEventLoop, AsyncioLoop] = WeakKeyDictionary()
_lock = fork_safe(Lock())


def asyncio_loop_of(loop: AbstractEventLoop, successor: EventLoops) -> AsyncioLoop:
    """Returns the reader of an event loop, which hands tasks over to a background loop."""
    with _lock:
        if loop not in _loops:
            _loops[loop] = AsyncioLoop(loop, successor)
        return _loops[loop]


class AsyncioLoop:
    """The tasks that one event loop of asyncio steps; all of them are read by iterations there."""

    def __init__(self, loop: AbstractEventLoop, successor: EventLoops) -> None:
        self._loop = ref(loop)  # which refers to this, by a key in `_loops`
        self._successor = successor
        self._watched: dict[LoopTask, int] = {}  # and the descriptors of their sockets
        self._timer: asyncio.TimerHandle | None = None
        self._check_timeouts_at = 0.0  # if there is a timer
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the tasks, in the child: they are the parent's."""
        self._watched = {}

    # --- any thread ---

    def schedule(self, task: LoopTask) -> None:
        """Has a task stepped soon."""
        loop = self._loop()
        try:
            if loop is None:
                raise RuntimeError("the event loop is gone")
            loop.call_soon_threadsafe(self._step, task)
        except RuntimeError:  # closed
            self._hand_over(task)

    def hand_over(self, task: LoopTask) -> None:
        """Has a disposed task stepped by the background loop from now on."""
        loop = self._loop()
        if loop is None or running_loop() is loop or not loop.is_running():
            self._hand_over(task)
            return
        try:
            loop.call_soon_threadsafe(self._hand_over, task)
        except RuntimeError:  # closed meanwhile
            self._hand_over(task)

    def _hand_over(self, task: LoopTask) -> None:
        with _lock:
            if task.event_loop is not self:
                return
            task.event_loop = self._successor
        self.unwatch(task)
        try:
            self._successor.schedule(task)
        except (RequestError, OSError) as error:  # no thread, or no descriptor is left
            end_with_error(task, error)

    def unwatch(self, task: LoopTask) -> None:
        """Forgets the socket of a task, which is to be closed or to serve another."""
        descriptor, loop = self._watched.pop(task, None), self._loop()
        if descriptor is not None and loop is not None:
            with suppress(OSError, ValueError, RuntimeError):  # the loop is closed
                loop.remove_reader(descriptor)

    # --- the thread of the loop ---

    def _step(self, task: LoopTask) -> None:
        if task.event_loop is not self:  # it was handed over meanwhile
            return
        outer, emitting.source = emitting.source, task
        has_more = False
        try:
            has_more = task.step()
        except Exception as error:  # of a callback that receives the terminal
            report_unhandled(error)
        finally:
            emitting.source = outer
        if not has_more or task.paused:
            self.unwatch(task)
        elif task.is_disposed:  # and reads on, see `blocks`
            self._hand_over(task)
        elif task not in self._watched:
            self._watch(task)
        self._set_timer()

    def _watch(self, task: LoopTask) -> None:
        loop = asyncio.get_running_loop()
        try:
            descriptor = task.fileno()
            loop.add_reader(descriptor, self._step, task)
        except NotImplementedError:
            self._hand_over(task)
        except (OSError, ValueError, RuntimeError) as error:
            end_with_error(task, error)
        else:
            self._watched[task] = descriptor

    def _set_timer(self) -> None:
        """Has the timeouts checked soon, since the latest step may have begun to wait."""
        soon = monotonic() + TIMEOUT_TICK_SECONDS
        if self._timer is None or self._check_timeouts_at > soon:
            self._check_at(soon)

    def _check_at(self, time: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._check_timeouts_at = time
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(time - monotonic(), self._check_timeouts)

    def _check_timeouts(self) -> None:
        self._timer = None
        now, soonest = monotonic(), LONGEST_WAIT_SECONDS
        for task in [*self._watched]:
            remaining = task.remaining()
            if remaining <= 0:
                self._step(task)
            else:
                soonest = min(soonest, remaining)
        if self._watched:
            self._check_at(now + max(TIMEOUT_TICK_SECONDS, soonest))
