"""Reads many answers on one thread, which waits for all their sockets at once.

    reader's thread        request ──▶ headers ──▶ first block ──▶ schedule(task)
    event loop's thread    poll ──▶ step(task), step(task), ... ──▶ poll ──▶ ...

A task is the rest of an answer. A step reads what its socket has received, emits that, and never
waits: the task is stepped again when its socket is readable, when its time is up, or when it is
scheduled. A step without anything to read does no harm.

A poller is touched by the thread of its worker only. What happens if a callback blocks, and
which worker steps a task, is decided in `rx.worker`.
"""

from __future__ import annotations

import os
import select
from collections import deque
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from socket import socketpair
from threading import RLock
from typing import Any, Protocol

from ..rx.clock import monotonic
from ..rx.threads import fork_safe
from ..rx.worker import Task, Worker, WorkerPool, end_with_error

__all__ = ["LONGEST_WAIT_SECONDS", "TIMEOUT_TICK_SECONDS", "EventLoops", "LoopTask"]

TIMEOUT_TICK_SECONDS = 0.05  # between two checks of all timeouts, at least
LONGEST_WAIT_SECONDS = 60.0  # between two, at most

# A fork waits until new descriptors belong to a worker, which closes the child's copies.
_no_fork = RLock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_no_fork.acquire,
        after_in_parent=_no_fork.release,
        after_in_child=_no_fork.release,
    )


class LoopTask(Task, Protocol):
    """The rest of an answer."""

    event_loop: Any  # that steps it

    @property
    def paused(self) -> bool: ...

    def fileno(self) -> int: ...

    def remaining(self) -> float:
        """Returns the seconds that the server may stay silent; 0 or less: it was for too long."""
        ...


class EventLoops(WorkerPool[LoopTask]):
    """The workers that read answers."""

    def __init__(self, *, daemon: bool) -> None:
        super().__init__(fork_safe(RLock()), daemon=daemon)

    def new_worker(self, tick_seconds: float | None = None) -> _PollingWorker:
        return _PollingWorker(self, tick_seconds)

    def check_timeouts_soon(self, task: LoopTask) -> None:
        """Checks timeouts soon; called in the step of a task that may wait for less time."""
        if isinstance(task.worker, _PollingWorker):
            task.worker.check_timeouts_soon()

    def unwatch(self, task: LoopTask) -> None:
        """Forgets the socket of a task; called in its step."""
        if isinstance(task.worker, _PollingWorker):
            task.worker.unwatch(task)


class _SelectorPoller:
    """What `select.epoll` does, on systems that lack it."""

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self.unregister, self.close = self._selector.unregister, self._selector.close

    def register(self, descriptor: int, _: int) -> None:
        self._selector.register(descriptor, EVENT_READ)

    def poll(self, seconds: float) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self._selector.select(seconds)]


# On Linux without `selectors`, whose work for one event costs a tenth of that for a whole token.
_Poller: Any = getattr(select, "epoll", _SelectorPoller)
_READABLE: int = getattr(select, "EPOLLIN", EVENT_READ)


class _PollingWorker(Worker[LoopTask]):
    name = "rxmistral-event-loop"
    max_step_seconds = 0.006  # another thread may keep the interpreter for 5 ms

    def __init__(self, pool: EventLoops, tick_seconds: float | None) -> None:
        with _no_fork:
            super().__init__(pool, tick_seconds)
            self._watched: dict[LoopTask, int] = {}  # and the descriptors of their sockets
            self._tasks_by_descriptor: dict[int, LoopTask] = {}  # the same
            self._has_lost = False  # tasks that are still watched here, to another worker
            self._scheduled: deque[LoopTask] = deque()
            self._check_timeouts_at = monotonic() + LONGEST_WAIT_SECONDS
            self._is_woken = False
            self._poller = _Poller()
            self._wake_receiver, self._wake_sender = socketpair()
            self._poller.register(self._wake_receiver.fileno(), _READABLE)

    def forked(self) -> None:
        """Closes the child's copies; the parent's poller forgets nothing."""
        super().forked()
        self._watched, self._tasks_by_descriptor = {}, {}
        self._close_descriptors()

    def remove(self, task: LoopTask) -> None:
        super().remove(task)
        self._has_lost = self._has_lost or task in self._watched

    def wake_for(self, task: LoopTask) -> None:
        self._scheduled.append(task)
        if not self._is_woken:
            self._wake_sender.send(b"!")
            self._is_woken = True

    def close(self) -> None:
        super().close()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._poller.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    # --- its thread ---

    def run_once(self, seconds: float | None) -> None:
        if seconds is None:  # `step_began` is when the last step ended, so about now
            seconds = max(0.0, self._check_timeouts_at - self.step_began)
        ready = self._poller.poll(seconds)
        self.step_began = monotonic()
        for descriptor, _ in ready:
            task = self._tasks_by_descriptor.get(descriptor)
            if task is not None:
                has_more = self.step(task)
                if not has_more or task.paused or task.worker is not self:
                    self._update_watch(task, has_more)
            elif descriptor == self._wake_receiver.fileno():  # else it was forgotten just now
                with self._pool.lock:
                    self._wake_receiver.recv(1)
                    self._is_woken = False
        while self._scheduled:
            task = self._scheduled.popleft()
            self._update_watch(task, self.step(task))
            self.check_timeouts_soon()
        if self.step_began >= self._check_timeouts_at:
            self._check_timeouts(self.step_began)
        if self._has_lost:
            self._unwatch_lost()

    def _update_watch(self, task: LoopTask, has_more: bool) -> None:
        """Watches the socket of a task if the task waits for it, and only then; after a step."""
        if task.worker is not self or (has_more and task.paused):
            self.unwatch(task)
        elif not has_more:
            self._pool.forget(task)
        elif task not in self._watched:
            self._watch(task)

    def _watch(self, task: LoopTask) -> None:
        try:
            descriptor = task.fileno()
            former = self._tasks_by_descriptor.get(descriptor)
            if former is not None:
                # Its socket was closed under it, and the number given to another.
                self.unwatch(former)
                self._scheduled.append(former)
            self._poller.register(descriptor, _READABLE)
        except (OSError, ValueError, KeyError) as error:
            end_with_error(task, error)
            self._pool.forget(task)
        else:
            self._watched[task] = descriptor
            self._tasks_by_descriptor[descriptor] = task

    def unwatch(self, task: LoopTask) -> None:
        """Forgets the socket of a task, which is to be closed or to serve another."""
        descriptor = self._watched.pop(task, None)
        if descriptor is not None:
            del self._tasks_by_descriptor[descriptor]
            with suppress(KeyError, OSError, ValueError):  # it or the poller is closed
                self._poller.unregister(descriptor)

    def _unwatch_lost(self) -> None:
        self._has_lost = False
        for task in self._watched.keys() - self.tasks:
            self.unwatch(task)

    def check_timeouts_soon(self) -> None:
        """Checks timeouts soon; called when a task begins to wait, or may wait for less time."""
        soon = self.step_began + TIMEOUT_TICK_SECONDS
        self._check_timeouts_at = min(self._check_timeouts_at, soon)

    def _check_timeouts(self, now: float) -> None:
        with self._pool.lock:
            tasks = [*self.tasks]
        soonest = LONGEST_WAIT_SECONDS
        for task in tasks:
            if task.paused:
                continue
            remaining = task.remaining()
            soonest = min(soonest, remaining)
            if remaining <= 0:  # if a block arrives at this moment, the next check is soon
                self._update_watch(task, self.step(task))
        self._check_timeouts_at = now + max(TIMEOUT_TICK_SECONDS, soonest)
