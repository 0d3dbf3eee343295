"""Reads answers on the event loop of asyncio on which a program iterates over them.

    reader's thread        request ──▶ headers ──▶ first block ──▶ schedule(task)
    program's event loop   add_reader ──▶ step(task) ──▶ the item is there, and the task wakes

Neither a thread nor a wake-up across threads lies between the socket and `async for`.

Strategy: the loop may end before an answer does, for example in the moment in which the rest of
a body lets the connection return to its pool. So at the end of the loop its tasks are handed over
to a background loop. The end is noticed by an asynchronous generator: `asyncio.run` closes all of
those that have begun on its loop. A loop that cannot wait for sockets (ProactorEventLoop of
Windows) or for real seconds hands each task over at once.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator
from contextlib import suppress
from threading import RLock
from weakref import WeakKeyDictionary, ref

from ..errors import RequestError
from ..rx.backpressure import emitting, running_loop
from ..rx.clock import monotonic
from ..rx.subscriber import report_unhandled
from ..rx.threads import fork_safe, register_for_fork
from ..rx.worker import end_with_error
from .event_loop import LONGEST_WAIT_SECONDS, TIMEOUT_TICK_SECONDS, EventLoops, LoopTask

__all__ = ["AsyncioLoop", "asyncio_loop_of"]

# A loop whose clock is another one, as in a test with frozen time, cannot keep the timeouts.
_CLOCK_TOLERANCE_SECONDS = 1.0

_loops: WeakKeyDictionary[AbstractEventLoop, AsyncioLoop] = WeakKeyDictionary()
_lock = fork_safe(RLock())  # reentrant, since garbage collection may dispose a task at any moment


def asyncio_loop_of(loop: AbstractEventLoop, successor: EventLoops) -> AsyncioLoop:
    """Returns the reader of an event loop, which hands tasks over to a background loop.

    Call this on the loop's thread before anything is read: it begins to watch for the end of the
    loop, and after that end this would be too late.
    """
    with _lock:
        if loop not in _loops:
            _loops[loop] = AsyncioLoop(loop, successor)
        found = _loops[loop]
    if running_loop() is loop:
        found.watch_for_its_end()
    return found


class AsyncioLoop:
    """The tasks that one event loop of asyncio steps; all of them are read by iterations there."""

    def __init__(self, loop: AbstractEventLoop, successor: EventLoops) -> None:
        self._loop = ref(loop)  # which is a key in `_loops`, and so keeps this alive
        self._successor = successor
        self._tasks: set[LoopTask] = set()
        self._watched: dict[LoopTask, int] = {}  # and the descriptors of their sockets
        self._timer: asyncio.TimerHandle | None = None
        self._check_timeouts_at = 0.0  # if there is a timer
        self._end_of_loop: AsyncGenerator[None, None] | None = None
        self._has_ended = False
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the tasks, in the child: they are the parent's."""
        self._tasks, self._watched = set(), {}

    # --- any thread ---

    def schedule(self, task: LoopTask) -> None:
        """Has a task stepped soon."""
        loop = self._loop()
        with _lock:
            self._tasks.add(task)
        try:
            if loop is None or self._has_ended:
                raise RuntimeError("the event loop is gone")
            loop.call_soon_threadsafe(self._step, task)
        except RuntimeError:  # or closed
            self._hand_over(task)

    def note_disposal(self, task: LoopTask) -> None:
        """Hands a disposed task over if its loop may never step it again."""
        loop = self._loop()
        if loop is None or not loop.is_running():
            self._hand_over(task)

    def unwatch(self, task: LoopTask) -> None:
        """Forgets the socket of a task, which is to be closed or to serve another."""
        descriptor, loop = self._watched.pop(task, None), self._loop()
        if descriptor is not None and loop is not None:
            with suppress(OSError, ValueError, RuntimeError):  # the loop is closed
                loop.remove_reader(descriptor)

    def _hand_over(self, task: LoopTask) -> None:
        with _lock:
            # No thread can be started at the exit of the interpreter, and nothing is left to do.
            if task.event_loop is not self or sys.is_finalizing():
                return
            task.event_loop = self._successor
            self._tasks.discard(task)
        self.unwatch(task)
        try:
            self._successor.schedule(task)
        except (RequestError, OSError) as error:  # no thread, or no descriptor is left
            end_with_error(task, error)

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
        if has_more and not task.paused:
            if task not in self._watched:
                self._watch(task)
            self._set_timer()
            return
        self.unwatch(task)
        if not has_more:
            with _lock:
                self._tasks.discard(task)

    def _watch(self, task: LoopTask) -> None:
        loop = asyncio.get_running_loop()
        try:
            self.watch_for_its_end()
            if self._has_ended or abs(loop.time() - monotonic()) > _CLOCK_TOLERANCE_SECONDS:
                raise NotImplementedError
            descriptor = task.fileno()
            loop.add_reader(descriptor, self._step, task)
        except NotImplementedError:
            self._hand_over(task)
        except (OSError, ValueError, RuntimeError) as error:
            end_with_error(task, error)
        else:
            self._watched[task] = descriptor

    def watch_for_its_end(self) -> None:
        if self._end_of_loop is None:
            self._end_of_loop = self._hand_over_at_the_end()
            with suppress(StopIteration):
                self._end_of_loop.asend(None).send(None)  # up to its yield

    async def _hand_over_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with _lock:
                self._has_ended = True
                tasks = [*self._tasks]
            for task in tasks:
                self._hand_over(task)

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
