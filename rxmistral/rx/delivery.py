"""Delivers the items of shared runs to their viewers, on one thread as long as none is slow.

    source's thread      append to the history ──▶ RunViewers.wake()
    worker's thread      step(viewer), step(viewer), ... of each group that was woken

A step emits some of the items that a viewer lacks; one that lacks more is stepped again after the
others. The source pays for one wake-up per worker, however many viewers there are: the viewers of
one run that one worker serves are a group, which is woken once per step. Which worker serves a
viewer, and what happens to the others if its callbacks block, is decided in `worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from threading import RLock
from typing import Any

from .clock import monotonic
from .threads import fork_safe
from .worker import Task, Worker, WorkerPool

__all__ = ["OF_LOOPS", "OF_SUBSCRIPTIONS", "Delivery", "RunViewers", "Viewer", "lock", "remove"]

lock = fork_safe(RLock())


class Viewer(Task):
    """A task that emits the items of one run to one subscriber; a step emits some of them."""

    worker: Worker[Any] | None = None
    run_viewers: RunViewers
    is_disposed = False

    def on_removed(self) -> None:
        """Called on the thread of its worker after `remove`."""


class RunViewers:
    """All viewers of one run, in one group for each worker that serves some of them."""

    def __init__(self) -> None:
        self.groups: tuple[ViewerGroup, ...] = ()

    def wake(self) -> None:
        """Schedules a step of each of them; from any thread, without blocking."""
        for group in self.groups:
            group.wake()


class ViewerGroup:
    """The viewers of one run that one worker serves."""

    def __init__(self, worker: _DeliveryWorker) -> None:
        self.worker = worker
        self.viewers: dict[Viewer, None] = {}
        self._is_woken = False

    def wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self.worker.calls.put(self._step)

    def _step(self) -> None:
        self._is_woken = False
        with lock:
            viewers = tuple(self.viewers)
        self.worker.step_each(viewers)


class Delivery(WorkerPool[Viewer]):
    """The workers that serve the viewers of all runs."""

    def new_worker(self, tick_seconds: float | None = None) -> _DeliveryWorker:
        return _DeliveryWorker(self, tick_seconds)

    def schedule(self, task: Viewer) -> None:
        super().schedule(task)
        if task.is_disposed:  # perhaps before it had a worker, so nothing has removed it
            remove(task)


def remove(viewer: Viewer) -> None:
    """Ends the steps of a viewer, from any thread."""
    with lock:
        worker = viewer.worker
        if isinstance(worker, _DeliveryWorker):
            worker.remove(viewer)
            # After this call, the worker retires if it has no other task.
            worker.calls.put(viewer.on_removed)


class _DeliveryWorker(Worker[Viewer]):
    name = "rxmistral-delivery"
    max_step_seconds = 0.001

    def __init__(self, delivery: Delivery, tick_seconds: float | None) -> None:
        super().__init__(delivery, tick_seconds)
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._groups: dict[RunViewers, ViewerGroup] = {}

    def add(self, task: Viewer) -> None:
        super().add(task)
        run_viewers = task.run_viewers
        group = self._groups.get(run_viewers)
        if group is None:
            self._groups[run_viewers] = group = ViewerGroup(self)
            run_viewers.groups = (*run_viewers.groups, group)
        group.viewers[task] = None

    def remove(self, task: Viewer) -> None:
        super().remove(task)
        run_viewers = task.run_viewers
        group = self._groups[run_viewers]
        del group.viewers[task]
        if not group.viewers:
            del self._groups[run_viewers]
            run_viewers.groups = tuple(each for each in run_viewers.groups if each is not group)

    def wake_for(self, task: Viewer) -> None:
        self.calls.put(partial(self.step_each, (task,)))

    def run_once(self, seconds: float | None) -> None:
        # Not get(timeout=...): in CPython 3.11, a SimpleQueue may then wait forever.
        if seconds is None or not self.calls.empty():
            self.calls.get()()

    def close(self) -> None:
        super().close()
        while not self.calls.empty():  # of viewers that were removed in their own last step
            self.calls.get()()

    def step_each(self, viewers: Iterable[Viewer]) -> None:
        """Steps viewers in turn; those that still lag are stepped again after other calls."""
        self.step_began = monotonic()
        lagging = [each for each in viewers if self.step(each) and each.worker is self]
        if lagging:
            self.calls.put(partial(self.step_each, lagging))


# The interpreter waits for subscriptions when it exits, and not for loops: see `current_iteration`.
OF_LOOPS, OF_SUBSCRIPTIONS = Delivery(lock, daemon=True), Delivery(lock, daemon=False)
