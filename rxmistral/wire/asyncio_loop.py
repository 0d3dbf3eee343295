"""Reads answers on the event loop of asyncio on which a program iterates over them.

    reader's thread        request ──▶ headers ──▶ first block ──▶ schedule(task)
    program's event loop   add_reader ──▶ step(task) ──▶ the item is there, and the task wakes

Neither a thread nor a wake-up across threads lies between the socket and `async for`.

Strategy: the loop may end before an answer does, for example in the moment in which the rest of
a body lets the connection return to its pool. So at the end of the loop its tasks are handed over
to a background loop. The end is noticed by an asynchronous generator: `asyncio.run` closes all of
those that have begun on its loop. A loop that does not run when a task is scheduled, for example
to release a connection, hands that task over; and a loop that cannot wait for sockets
(ProactorEventLoop of Windows) hands over each task. If the program blocks a loop, the thread that
waits for one of its tasks hands them over (see `rx.blocked_loops`).
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator
from contextlib import suppress
from inspect import isbuiltin
from threading import RLock
from weakref import WeakKeyDictionary, ref

from ..errors import RequestError
from ..rx.backpressure import emitting
from ..rx.blocked_loops import hand_over_from
from ..rx.clock import monotonic
from ..rx.subscriber import report_unhandled
from ..rx.threads import fork_safe, register_for_fork
from ..rx.worker import end_with_error
from .event_loop import LONGEST_WAIT_SECONDS, TIMEOUT_TICK_SECONDS, EventLoops, LoopTask

__all__ = ["AsyncioLoop", "asyncio_loop_of"]

_loops: WeakKeyDictionary[AbstractEventLoop, AsyncioLoop] = WeakKeyDictionary()
# Reentrant, since garbage collection may dispose an abandoned task at any moment.
_lock = fork_safe(RLock())


def asyncio_loop_of(loop: AbstractEventLoop, successor: EventLoops) -> AsyncioLoop:
    """Returns the reader of an event loop, which hands tasks over to a background loop."""
    with _lock:
        found = _loops.get(loop)
        if found is not None:
            return found
        closed = [_loops.pop(each) for each in [*_loops] if each.is_closed()]
        _loops[loop] = created = AsyncioLoop(loop, successor)
        hand_over_from[loop] = created.leave_blocked_loop
    for each in closed:
        each.end()
    return created


class AsyncioLoop:
    """The tasks that one event loop of asyncio steps; all of them are read by iterations there."""

    def __init__(self, loop: AbstractEventLoop, successor: EventLoops) -> None:
        self._loop = ref(loop)  # which is a key in `_loops`, and so keeps this alive
        self._successor = successor
        # All tasks that were scheduled, and the descriptors of the sockets that are watched. A task
        # is a key only if its `event_loop` is this object; both change under the lock.
        self._tasks: dict[LoopTask, int | None] = {}
        self._stepping: LoopTask | None = None
        # These two refer to the loop, so they are dropped at its end.
        self._timer: asyncio.TimerHandle | None = None
        self._end_of_loop: AsyncGenerator[None, None] | None = None
        self._check_timeouts_at = 0.0  # if there is a timer
        self._has_ended = False
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the tasks, in the child: they are the parent's."""
        self._tasks = {}

    # --- any thread ---

    def schedule(self, task: LoopTask) -> None:
        """Has a task stepped soon, by a background loop if this one may never do it."""
        with _lock:
            is_here = task.event_loop is self
            if is_here:
                self._tasks.setdefault(task)
        if not is_here:  # it was handed over at this moment
            task.event_loop.schedule(task)
            return
        loop = self._loop()
        with suppress(RuntimeError):  # closed at this moment
            if loop is not None and loop.is_running() and not self._has_ended:
                loop.call_soon_threadsafe(self._step, task)
                return
        self._hand_over(task)

    def unwatch(self, task: LoopTask) -> None:
        """Forgets a task, whose socket is to be closed or to serve another."""
        with _lock:
            descriptor, loop = self._tasks.pop(task, None), self._loop()
        if descriptor is not None and loop is not None:
            with suppress(OSError, ValueError, RuntimeError):  # the loop is closed
                loop.remove_reader(descriptor)

    def end(self) -> None:
        """Hands all tasks over."""
        self._has_ended = True
        self._timer = self._end_of_loop = None
        for task in [*self._tasks]:
            self._hand_over(task)

    def leave_blocked_loop(self) -> None:
        """Hands over all tasks, on another thread, since a callback of the program blocks the loop.

        A step sets `_stepping`, and then checks that the task is still here. This removes the
        task, and then checks `_stepping`. So at least one side leaves the task to the other.
        """
        for task in [*self._tasks]:
            with _lock:
                if task not in self._tasks:
                    continue
                descriptor = self._tasks.pop(task)
                is_stepping = self._stepping is task
                if is_stepping:
                    self._tasks.setdefault(task, descriptor)
                else:
                    task.event_loop = self._successor
            if is_stepping:
                self.schedule(task)  # since a step that began at this moment was left out
                continue
            loop = self._loop()
            if descriptor is not None and loop is not None:
                with suppress(RuntimeError):  # closed at this moment
                    loop.call_soon_threadsafe(loop.remove_reader, descriptor)
            self._schedule_on_successor(task)

    def _hand_over(self, task: LoopTask) -> None:
        with _lock:
            self.unwatch(task)
            # No thread can be started at the exit of the interpreter, and nothing is left to do.
            if task.event_loop is not self or sys.is_finalizing():
                return
            task.event_loop = self._successor
        self._schedule_on_successor(task)

    def _schedule_on_successor(self, task: LoopTask) -> None:
        try:
            self._successor.schedule(task)
        except (RequestError, OSError) as error:  # no thread, or no descriptor is left
            end_with_error(task, error)

    # --- the thread of the loop ---

    def begin(self) -> None:
        """Has the end of the loop noticed; early, as it warns of generators that begin later."""
        if self._end_of_loop is None and not self._has_ended:
            self._end_of_loop = self._hand_over_at_the_end()
            with suppress(StopIteration):
                self._end_of_loop.asend(None).send(None)  # up to its yield

    def _step(self, task: LoopTask) -> None:
        self._stepping = emitting.source = task
        has_more = False
        try:
            has_more = task in self._tasks and task.context.run(task.step)  # else handed over
        except (SystemExit, KeyboardInterrupt):  # end the loop
            raise
        except BaseException as error:  # of a callback, for example of one that gets the terminal
            report_unhandled(error)
        finally:
            emitting.source = None
            if not has_more:
                self.unwatch(task)
            elif task.paused:
                self.unwatch(task)
                self._tasks[task] = None
            elif self._tasks.get(task) is None:
                self._watch(task)
            self._stepping = None

    def _watch(self, task: LoopTask) -> None:
        loop = asyncio.get_running_loop()
        try:
            # A frozen clock (freezegun) is a function of Python; no timeout of the loop expires.
            if self._has_ended or not isbuiltin(time.monotonic):
                raise NotImplementedError
            self.begin()
            descriptor = task.fileno()
            loop.add_reader(descriptor, self._step, task)
        except NotImplementedError:
            self._hand_over(task)
        except (OSError, ValueError, RuntimeError) as error:
            self.unwatch(task)
            end_with_error(task, error)
        else:
            self._tasks[task] = descriptor
            self.check_timeouts_soon(task)

    async def _hand_over_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self.end()

    def check_timeouts_soon(self, _: LoopTask) -> None:
        """Checks timeouts soon; called in the step of a task that begins to wait, or waits less."""
        soon = monotonic() + TIMEOUT_TICK_SECONDS
        if self._timer is None or self._check_timeouts_at > soon:
            self._check_at(soon)

    def _check_at(self, check_at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._check_timeouts_at = check_at
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(check_at - monotonic(), self._check_timeouts)

    def _check_timeouts(self) -> None:
        self._timer = None
        watched = [task for task, descriptor in [*self._tasks.items()] if descriptor is not None]
        remaining = {task: task.remaining() for task in watched}
        if watched:
            soonest = min(LONGEST_WAIT_SECONDS, *remaining.values())
            self._check_at(monotonic() + max(TIMEOUT_TICK_SECONDS, soonest))
        for task in watched:
            if remaining[task] <= 0:
                self._step(task)
