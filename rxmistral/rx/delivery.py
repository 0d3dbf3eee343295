"""Items to many viewers, on one thread for all who are quick.

    source's thread      append to the history ──▶ ring the audience
    carrier's thread     hear ──▶ step(viewer), step(viewer), ... ──▶ hear ──▶ ...

A viewer is a place in a history. A step gives it some of what it lacks there, on the
thread of its carrier; who lacks more is stepped again when the others had their turn. The
source pays for a bell, whoever many hear it: the viewers of one run that one carrier
serves are a circle, and a circle that was rung is not rung again before it is served.

A step runs the viewer's callbacks, and all who have the same carrier wait for it. So who
is slow gets a carrier of its own, for good:

    a little, again and again   the carrier sees it by the clock, after the step
    in one step                 a guard finds the carrier stuck in it, and has another one
                                take over all others

All that says who is served by whom is touched under one lock, which no callback runs under.
It is reentrant, since garbage collection may dispose an abandoned viewer at any moment. A
carrier's thread lives as long as it has viewers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from threading import Event, RLock, Thread

from ..errors import RequestError
from .backpressure import Pausable, emitting
from .clock import monotonic
from .subscriber import report_unhandled
from .threads import fork_safe, register_for_fork, start_thread

__all__ = ["OF_LOOPS", "OF_SUBSCRIPTIONS", "Delivery", "RunViewers", "Viewer", "lock", "remove"]

_QUICK = 0.001  # seconds that a step may take
_CREDIT = 0.02  # seconds that a viewer may be over that, in sum, before it is alone
_STALL = 0.02  # seconds between two looks of the guard: who is in one step at both is stuck
_SHORTEST_STALL = 0.005  # where one after the other is, so that the last waits not for all

lock = fork_safe(RLock())


class Viewer(Pausable):
    """Who is served. What it needs for that is kept here."""

    circle: ViewerGroup | None = None
    debt = 0.0  # seconds that its steps took too long

    def step(self) -> bool:
        """Give it some of what it lacks, without waiting; whether it lacks more."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """End it with an error: nothing serves it."""
        raise NotImplementedError


class RunViewers:
    """All viewers of one run."""

    def __init__(self) -> None:
        self.circles: tuple[ViewerGroup, ...] = ()

    def ring(self) -> None:
        """There is something for all of them; from any thread, and never blocks."""
        for circle in self.circles:
            circle.ring()


class ViewerGroup:
    """The viewers of one run that one carrier serves."""

    def __init__(self, audience: RunViewers, carrier: _Worker) -> None:
        self.audience = audience
        self.carrier = carrier
        self.viewers: dict[Viewer, None] = {}
        self._rung = False

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            self.carrier.calls.put(self._serve)

    def ring_for(self, viewer: Viewer) -> None:
        """There is something for this one alone."""
        self.carrier.calls.put(partial(self.carrier.go_round, self, (viewer,)))

    def _serve(self) -> None:
        self._rung = False
        with lock:
            viewers = tuple(self.viewers)
        self.carrier.go_round(self, viewers)


class Delivery:
    """Serves viewers, on one thread as long as none of them is slow.

    Args:
        daemon: Whether the interpreter may exit before they have left.
    """

    def __init__(self, *, daemon: bool) -> None:
        self.daemon = daemon
        self.common: _Worker | None = None  # that takes who is new
        register_for_fork(self)

    def forked(self) -> None:
        """The threads are the parent's, and so are the viewers."""
        self.common = None

    def add(self, viewer: Viewer, audience: RunViewers) -> None:
        """Have it stepped from now on, whenever its audience is rung, and once at once.

        Raises:
            RequestError: No thread can be started; remove it again.
        """
        with lock:
            carrier = self.common = self.common or _Worker(self)
            carrier.take(viewer, audience)
        try:
            carrier.start()
        except RequestError as error:
            for other in carrier.abandon():  # that came while the thread was being started
                if other is not viewer:
                    other.fail(error)
            raise
        except BaseException:  # Ctrl-C: whether it has a thread is not known
            carrier.abandon()
            raise


def _nothing() -> None:
    pass


def remove(viewer: Viewer, then: Callable[[], None] = _nothing) -> None:
    """It is served no more; from any thread. `then` is called on that of its carrier."""
    with lock:
        circle, viewer.circle = viewer.circle, None
        if circle is None:
            return
        del circle.viewers[viewer]
        if not circle.viewers:
            circle.carrier.drop(circle)
        circle.carrier.calls.put(then)  # it looks whether it has anybody left


class _Worker:
    """One thread of a delivery."""

    def __init__(self, delivery: Delivery, stall: float = _STALL) -> None:
        self.calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._delivery = delivery
        self._stall = stall
        self._circles: dict[RunViewers, ViewerGroup] = {}
        self._stepping: Viewer | None = None
        self._steps = 0
        self._thread: Thread | None = None
        self._guard: Thread | None = None
        self._retired = Event()

    # --- under the lock: whom it serves ---

    def take(self, viewer: Viewer, audience: RunViewers) -> None:
        circle = self._circles.get(audience)
        if circle is None:
            self._circles[audience] = circle = ViewerGroup(audience, self)
            audience.circles = (*audience.circles, circle)
        circle.viewers[viewer] = None
        viewer.circle = circle
        circle.ring_for(viewer)

    def drop(self, circle: ViewerGroup) -> None:
        audience = circle.audience
        del self._circles[audience]
        audience.circles = tuple(each for each in audience.circles if each is not circle)

    def _others(self, viewer: Viewer) -> list[Viewer]:
        return [each for each in self._all() if each is not viewer]

    def _all(self) -> list[Viewer]:
        return [each for circle in self._circles.values() for each in circle.viewers]

    def abandon(self) -> list[Viewer]:
        """Take nobody from now on; the viewers that it has."""
        with lock:
            if self._delivery.common is self:
                self._delivery.common = None
            return self._all()

    def _retire(self) -> bool:
        """Whether it has nobody, and will get nobody from now on."""
        with lock:
            if self._circles:
                return False
            if self._delivery.common is self:
                self._delivery.common = None
            return True

    # --- its thread ---

    def start(self) -> None:
        """If it has none yet; and its guard, as soon as there is somebody to guard. Not under
        the lock: who starts a thread waits for it, and that may have garbage to collect
        first, which wants the lock."""
        with lock:
            thread = guard = None
            if self._thread is None:
                self._thread = thread = self._new("rxmistral-delivery", self._run)
            elif self._guard is None:
                self._guard = guard = self._new("rxmistral-guard", self._watch)
        if thread is not None:
            # Where threads inherit the context: it serves others than who starts it.
            try:
                Context().run(start_thread, thread)
            except RequestError:
                self._thread = None
                raise
        if guard is not None:
            with suppress(RuntimeError):  # no thread can be started: it goes without
                Context().run(guard.start)

    def _new(self, name: str, target: Callable[[], None]) -> Thread:
        daemon = self._delivery.daemon or target == self._watch
        return Thread(target=target, name=name, daemon=daemon)

    def _run(self) -> None:
        try:
            while not self._retire():
                self.calls.get()()
        finally:
            self._retired.set()

    def go_round(self, circle: ViewerGroup, viewers: Iterable[Viewer]) -> None:
        behind = []
        now = monotonic()
        for viewer in viewers:
            with lock:
                if viewer.circle is not circle:  # it has left, or another carrier has it by now
                    continue
                self._stepping = viewer
                self._steps += 1
            emitting.source = viewer
            if self._step(viewer):
                behind.append(viewer)
            began, now = now, monotonic()
            if viewer.debt or now - began > _QUICK:
                self._charge(viewer, now - began)
        emitting.source = None
        with lock:
            self._stepping = None
        if behind:
            self.calls.put(partial(self.go_round, circle, behind))

    def _step(self, viewer: Viewer) -> bool:
        try:
            return viewer.step()
        except BaseException as error:  # of on_error, or of a callback that has left
            report_unhandled(error)
            return False

    # --- who is slow ---

    def _charge(self, viewer: Viewer, seconds: float) -> None:
        over = min(seconds, _CREDIT) - _QUICK  # once is no matter: it may be the machine's
        viewer.debt = max(0.0, viewer.debt + over)
        if viewer.debt > _CREDIT:
            self._part_with(viewer)

    def _part_with(self, viewer: Viewer) -> None:
        with lock:
            if viewer.circle is None or not self._others(viewer):
                return
            own = _Worker(self._delivery)
            _move([viewer], own)
        try:
            own.start()
        except RequestError:  # no thread can be started: they have to bear with it
            with lock:
                _move([viewer], self)

    def _watch(self) -> None:
        seen = 0
        while not self._retired.wait(self._stall) and self._delivery.common is self:
            steps = self._steps
            if steps == seen and self._stepping is not None:
                self._free_others(steps)
            seen = steps

    def _free_others(self, steps: int) -> None:
        """Have another take over all but the one that this is stuck in, in this step."""
        with lock:
            stuck = self._stepping
            others = [] if stuck is None or self._steps != steps else self._others(stuck)
            if not others:
                return
            stall = max(_SHORTEST_STALL, self._stall / 2)
            self._delivery.common = successor = _Worker(self._delivery, stall)
            _move(others, successor)
        try:
            successor.start()
            successor.start()  # and its guard
        except RequestError:  # as above
            with lock:
                self._delivery.common = self
                _move(others, self)


def _move(viewers: list[Viewer], carrier: _Worker) -> None:
    """Under the lock."""
    for viewer in viewers:
        if viewer.circle is not None:
            audience = viewer.circle.audience
            remove(viewer)
            carrier.take(viewer, audience)


# Who subscribes is waited for when the interpreter exits, and a loop is not: see
# `being_iterated`.
OF_LOOPS, OF_SUBSCRIPTIONS = Delivery(daemon=True), Delivery(daemon=False)
