"""Delivery: serves the viewers of shared runs, all fast ones on one worker thread.

    source's thread      append to the history ──▶ wake the run's viewer groups
    worker's thread      task ──▶ step(viewer), step(viewer), ... ──▶ task ──▶ ...

A viewer is a position in a history. A step emits some of the items that it lacks, on the
thread of its worker; a viewer that lacks more is stepped again after all others. The viewers
of one run that one worker serves form a group. The source pays for one wake-up per group,
however many viewers there are, and a group that was woken is not woken again before it is
served.

A step runs the viewer's callbacks, and all viewers of the same worker wait for it. Therefore
a slow viewer permanently gets its own worker:

    slow in many steps       the worker measures it with the clock, after the step
    blocked in one step      a watchdog finds the worker stuck in the step, and another
                             worker takes over all other viewers

One lock guards which worker serves which viewer; no callback runs under it. It is reentrant,
since garbage collection may dispose an abandoned viewer at any moment. A worker's thread
lives as long as it has viewers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from threading import Event, RLock, Thread

from reactivex.internal import noop

from ..errors import RequestError
from .backpressure import Pausable, emitting
from .clock import monotonic
from .subscriber import report_unhandled
from .threads import fork_safe, register_for_fork, start_thread

__all__ = ["OF_LOOPS", "OF_SUBSCRIPTIONS", "Delivery", "RunViewers", "Viewer", "lock", "remove"]

_STEP_SECONDS = 0.001  # the longest duration of a step that is not slow
_OVERRUN_SECONDS = 0.02  # excess over that, in sum, after which a viewer gets its own worker
_WATCHDOG_SECONDS = 0.02  # between two checks; a worker in the same step at both is stuck
# The interval is halved for each worker that takes over, down to this, so that the last of
# many stuck viewers does not delay the others for the sum of all intervals.
_SHORTEST_WATCHDOG_SECONDS = 0.005

lock = fork_safe(RLock())


class Viewer(Pausable):
    """A subscription that a worker serves.

    Attributes:
        group: The group that it belongs to; None: it is not served.
        overrun: Seconds by which its steps took too long, in sum.
    """

    group: ViewerGroup | None = None
    overrun = 0.0

    def step(self) -> bool:
        """Emits some of the items that the viewer lacks, without waiting; returns whether it
        lacks more."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """Ends a viewer that cannot be served with an error."""
        raise NotImplementedError


class RunViewers:
    """All viewers of one run, in groups by worker."""

    def __init__(self) -> None:
        self.groups: tuple[ViewerGroup, ...] = ()

    def wake(self) -> None:
        """Schedules a step of every viewer, from any thread, without blocking."""
        for group in self.groups:
            group.wake()


class ViewerGroup:
    """The viewers of one run that one worker serves."""

    def __init__(self, run: RunViewers, worker: _Worker) -> None:
        self.run = run
        self.worker = worker
        self.viewers: dict[Viewer, None] = {}
        self._is_woken = False

    def wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self.worker.tasks.put(self._serve)

    def wake_viewer(self, viewer: Viewer) -> None:
        """Schedules a step of one viewer."""
        self.worker.tasks.put(partial(self.worker.serve, self, (viewer,)))

    def _serve(self) -> None:
        self._is_woken = False
        with lock:
            viewers = tuple(self.viewers)
        self.worker.serve(self, viewers)


class Delivery:
    """Serves viewers, on one thread as long as none of them is slow.

    Args:
        daemon: Whether the interpreter may exit before the viewers have left.

    Attributes:
        common: The worker that serves new viewers; None: there is none yet.
    """

    def __init__(self, *, daemon: bool) -> None:
        self.daemon = daemon
        self.common: _Worker | None = None
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the threads of the parent and their viewers, in the child of a fork."""
        self.common = None

    def add(self, viewer: Viewer, run: RunViewers) -> None:
        """Schedules a step of a viewer now, and whenever its run is woken.

        Raises:
            RequestError: No thread can be started; the caller has to remove the viewer.
        """
        with lock:
            worker = self.common = self.common or _Worker(self)
            worker.add(viewer, run)
        try:
            worker.start()
        except RequestError as error:
            for other in worker.close():  # added while the thread was being started
                if other is not viewer:
                    other.fail(error)
            raise
        except BaseException:  # Ctrl-C: whether the thread was started is unknown
            worker.close()
            raise


def remove(viewer: Viewer, then: Callable[[], None] = noop) -> None:
    """Stops serving a viewer, from any thread. `then` is called on its worker's thread."""
    with lock:
        group, viewer.group = viewer.group, None
        if group is None:
            return
        del group.viewers[viewer]
        if not group.viewers:
            group.worker.remove_group(group)
        group.worker.tasks.put(then)  # also wakes the worker, which exits without viewers


class _Worker:
    """One thread of a delivery."""

    def __init__(self, delivery: Delivery, watchdog_seconds: float = _WATCHDOG_SECONDS) -> None:
        self.tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._delivery = delivery
        self._watchdog_seconds = watchdog_seconds
        self._groups: dict[RunViewers, ViewerGroup] = {}
        self._stepping: Viewer | None = None
        self._step_count = 0
        self._thread: Thread | None = None
        self._watchdog: Thread | None = None
        self._exited = Event()

    # --- under the lock: its viewers ---

    def add(self, viewer: Viewer, run: RunViewers) -> None:
        group = self._groups.get(run)
        if group is None:
            self._groups[run] = group = ViewerGroup(run, self)
            run.groups = (*run.groups, group)
        group.viewers[viewer] = None
        viewer.group = group
        group.wake_viewer(viewer)

    def remove_group(self, group: ViewerGroup) -> None:
        run = group.run
        del self._groups[run]
        run.groups = tuple(each for each in run.groups if each is not group)

    def _all_viewers(self) -> list[Viewer]:
        return [viewer for group in self._groups.values() for viewer in group.viewers]

    def _all_except(self, viewer: Viewer) -> list[Viewer]:
        return [each for each in self._all_viewers() if each is not viewer]

    def close(self) -> list[Viewer]:
        """Accepts no further viewers; returns those that it has."""
        with lock:
            if self._delivery.common is self:
                self._delivery.common = None
            return self._all_viewers()

    def _close_if_empty(self) -> bool:
        with lock:
            if self._groups:
                return False
            self.close()
            return True

    # --- its thread ---

    def start(self) -> None:
        """Starts the thread, or, from the second viewer on, its watchdog.

        Not under the lock: starting a thread waits for it, and the new thread may first
        collect garbage that needs the lock.
        """
        with lock:
            thread = watchdog = None
            if self._thread is None:
                self._thread = thread = self._new_thread("rxmistral-delivery", self._run)
            elif self._watchdog is None:
                self._watchdog = watchdog = self._new_thread("rxmistral-guard", self._watch)
        if thread is not None:
            # An empty context, on builds in which threads inherit it: the worker also serves
            # viewers of other contexts.
            try:
                Context().run(start_thread, thread)
            except RequestError:
                self._thread = None
                raise
        if watchdog is not None:
            with suppress(RuntimeError):  # no thread can be started: works without a watchdog
                Context().run(watchdog.start)

    def _new_thread(self, name: str, target: Callable[[], None]) -> Thread:
        daemon = self._delivery.daemon or target == self._watch
        return Thread(target=target, name=name, daemon=daemon)

    def _run(self) -> None:
        try:
            while not self._close_if_empty():
                self.tasks.get()()
        finally:
            self._exited.set()

    def serve(self, group: ViewerGroup, viewers: Iterable[Viewer]) -> None:
        """Steps viewers of a group, and schedules a further step of those that lack more."""
        lagging = []
        now = monotonic()
        for viewer in viewers:
            with lock:
                if viewer.group is not group:  # it has left, or was moved to another worker
                    continue
                self._stepping = viewer
                self._step_count += 1
            emitting.source = viewer
            if self._step(viewer):
                lagging.append(viewer)
            began, now = now, monotonic()
            if viewer.overrun or now - began > _STEP_SECONDS:
                self._add_overrun(viewer, now - began)
        emitting.source = None
        with lock:
            self._stepping = None
        if lagging:
            self.tasks.put(partial(self.serve, group, lagging))

    def _step(self, viewer: Viewer) -> bool:
        try:
            return viewer.step()
        except BaseException as error:  # of on_error, or of a callback of a disposed viewer
            report_unhandled(error)
            return False

    # --- slow viewers ---

    def _add_overrun(self, viewer: Viewer, seconds: float) -> None:
        # The cap ignores a single long step, which may be due to a busy machine.
        excess = min(seconds, _OVERRUN_SECONDS) - _STEP_SECONDS
        viewer.overrun = max(0.0, viewer.overrun + excess)
        if viewer.overrun > _OVERRUN_SECONDS:
            self._isolate(viewer)

    def _isolate(self, viewer: Viewer) -> None:
        """Moves a slow viewer to its own worker."""
        with lock:
            if viewer.group is None or not self._all_except(viewer):
                return
            own = _Worker(self._delivery)
            _move([viewer], own)
        try:
            own.start()
        except RequestError:  # no thread can be started: the viewer stays
            with lock:
                _move([viewer], self)

    def _watch(self) -> None:
        last_step = 0
        while not self._exited.wait(self._watchdog_seconds) and self._delivery.common is self:
            step = self._step_count
            if step == last_step and self._stepping is not None:
                self._move_others(step)
            last_step = step

    def _move_others(self, step: int) -> None:
        """Moves all viewers to a new worker, except the one that blocks in this step."""
        with lock:
            stuck = self._stepping
            others = [] if stuck is None or self._step_count != step else self._all_except(stuck)
            if not others:
                return
            watchdog_seconds = max(_SHORTEST_WATCHDOG_SECONDS, self._watchdog_seconds / 2)
            self._delivery.common = successor = _Worker(self._delivery, watchdog_seconds)
            _move(others, successor)
        try:
            successor.start()
            successor.start()  # its watchdog
        except RequestError:  # no thread can be started: the viewers stay
            with lock:
                self._delivery.common = self
                _move(others, self)


def _move(viewers: list[Viewer], worker: _Worker) -> None:
    """Moves viewers to a worker. Requires the lock."""
    for viewer in viewers:
        if viewer.group is not None:
            run = viewer.group.run
            remove(viewer)
            worker.add(viewer, run)


# The interpreter waits for subscriptions when it exits, and not for loops: see
# `being_iterated`.
OF_LOOPS, OF_SUBSCRIPTIONS = Delivery(daemon=True), Delivery(daemon=False)
