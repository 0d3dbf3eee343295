"""Many answers, one thread: it waits for all their sockets at once.

    reader's thread     request ──▶ headers ──▶ first block ──▶ schedule(flow)
    pump's thread       select ──▶ step(flow), step(flow), ... ──▶ select ──▶ ...

A flow is what is left of an answer. A step of it reads what its socket has, emits that,
and never waits: where it cannot go on it is stepped again when its socket is readable,
when its time has run out, or when somebody schedules it. Who is stepped for nothing looks
and waits again, so it does no harm to step too often.

What is emitted runs the subscriber's callbacks, and all flows wait for them. One that
returns soon is no matter; the others get a thread of their own, as if they had had it from
the beginning:

    slow    two steps in a row took longer than _SLOW: another loop takes that flow over
    stuck   a step lasts longer than _STALL, which a guard finds: another loop takes over
            all flows but that one

A selector is touched by the thread of its loop only; `flows` and what is scheduled, by any,
under the pump's lock. A thread lives as long as it has flows.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from contextvars import Context
from selectors import EVENT_READ, DefaultSelector
from socket import socketpair
from threading import Event, RLock, Thread
from typing import Protocol

from ..backpressure import Pausable, emitting
from ..clock import monotonic
from ..subscriber import report

__all__ = ["Flow", "Pump"]

_TICK = 0.05  # seconds between two looks at the clocks of all flows, at least
_LONG = 60.0  # seconds between two, at most
_STALL = 0.05  # seconds between two looks of the guard: who is in one step at both is stuck
_SHORTEST_STALL = 0.005  # where one after the other is, so that the last waits not for all
_SLOW = 0.005  # seconds of a step; as long as a thread may keep the interpreter to itself


class Flow(Pausable, Protocol):
    """What is left of an answer."""

    @property
    def paused(self) -> bool: ...

    def fileno(self) -> int:
        """Of its socket."""
        ...

    def step(self) -> bool:
        """Go on as far as it goes without waiting; whether there is more to come."""
        ...

    def left(self) -> float:
        """Seconds that it may still be silent; 0 or less if it has been so for too long."""
        ...


class Pump:
    """Steps flows, on one thread as long as none of them holds it up.

    Args:
        daemon: Whether the interpreter may exit before they have ended.
    """

    def __init__(self, *, daemon: bool) -> None:
        self.daemon = daemon
        self.abandon()

    def abandon(self) -> None:
        """In the child of a fork, which has none of the threads: the flows are the parent's."""
        # Held for a few assignments. Reentrant, since garbage collection may dispose an
        # abandoned flow, and so schedule it, at any moment.
        self.lock = RLock()
        self._loop: _Loop | None = None  # that takes what is new
        self._loops: dict[Flow, _Loop] = {}

    def schedule(self, flow: Flow) -> None:
        """Have it stepped soon; from any thread. It is this pump's from the first time on.

        Raises:
            RuntimeError: No thread can be started; it is not this pump's.
        """
        with self.lock:
            loop = self._take(flow)
        try:
            loop.start()
        except RuntimeError:
            self.forget(flow)
            if self.retire(loop):
                loop.close()
            raise

    def _take(self, flow: Flow) -> _Loop:
        loop = self._loops.get(flow)
        if loop is None:
            self._loop = self._loop or _Loop(self)
            self._loops[flow] = loop = self._loop
        loop.call(flow)
        return loop

    def unwatch(self, flow: Flow) -> None:
        """Before its socket is closed or serves another; on the thread that steps it."""
        loop = self._loops.get(flow)
        if loop is not None:
            loop.unwatch(flow)

    def forget(self, flow: Flow) -> None:
        with self.lock:
            self._loops.pop(flow).flows.discard(flow)

    def retire(self, loop: _Loop) -> bool:
        """Whether a loop has no flows, and will get none from now on."""
        with self.lock:
            if loop.flows:
                return False
            if self._loop is loop:
                self._loop = None
            return True

    def leads(self, loop: _Loop) -> bool:
        """Whether it is the one that serves all but the slow and the stuck."""
        return self._loop is loop

    def isolate(self, flow: Flow, loop: _Loop) -> None:
        """Have a loop of its own take over a flow that this one steps; on its thread."""
        with self.lock:
            if not self.leads(loop) or len(loop.flows) == 1:
                return
            own = self._hand_over(flow, loop, _Loop(self))
        loop.unwatch(flow)
        try:
            own.start()
        except RuntimeError:  # no thread can be started: it stays
            with self.lock:
                self._hand_over(flow, own, loop)
            own.close()

    def _hand_over(self, flow: Flow, giver: _Loop, taker: _Loop) -> _Loop:
        giver.flows.discard(flow)
        self._loops[flow] = taker
        taker.call(flow)
        return taker

    def displace(self, loop: _Loop, step: int) -> None:
        """Have another loop take over what a loop that is stuck in this step has beside it."""
        with self.lock:
            stuck = loop.stepping
            if stuck is None or loop.steps != step or not self.leads(loop):
                return
            others = loop.flows - {stuck}
            self._loop = None  # who comes next gets another
            if not others:
                return
            loop.lost = True
            self._loop = successor = _Loop(self, max(_SHORTEST_STALL, loop.stall / 2))
            for flow in others:
                self._hand_over(flow, loop, successor)
        try:
            successor.start()
        except RuntimeError:  # no thread can be started: they wait
            with self.lock:
                self._loop = loop
                for flow in others:
                    self._hand_over(flow, successor, loop)
            successor.close()


class _Loop:
    """One thread of a pump."""

    def __init__(self, pump: Pump, stall: float = _STALL) -> None:
        self.flows: set[Flow] = set()
        self.stall = stall
        self.stepping: Flow | None = None
        self.steps = 0
        self.lost = False  # flows, to another loop, that are watched here
        self._pump = pump
        self._thread: Thread | None = None
        self._watched: dict[Flow, int] = {}  # and the descriptors of their sockets
        self._scheduled: deque[Flow] = deque()
        self._look_at = monotonic() + _LONG  # when to look at the clocks, by monotonic()
        self._retired = Event()
        self._selector = DefaultSelector()
        self._bell, self._button = socketpair()
        self._rung = False
        self._stepped_at = 0.0  # the end of the latest step, or of the wait
        self._slow: set[Flow] = set()  # whose latest step was
        self._selector.register(self._bell, EVENT_READ)

    def start(self) -> None:
        """If it has no thread yet. Not under the lock: who starts a thread waits for it, and
        that may have garbage to collect first, which wants the lock."""
        with self._pump.lock:
            if self._thread is not None:
                return
            self._thread = thread = Thread(
                target=self.run, name="rxmistral-pump", daemon=self._pump.daemon
            )
        try:
            # Where threads inherit the context: it serves others than who starts it.
            Context().run(thread.start)
        except BaseException:
            self._thread = None
            raise

    def call(self, flow: Flow) -> None:
        """Under the pump's lock."""
        self.flows.add(flow)
        self._scheduled.append(flow)
        if not self._rung:
            self._rung = True
            self._button.send(b"!")

    def run(self) -> None:
        if self._pump.leads(self):
            with suppress(RuntimeError):  # no thread can be started: it goes without
                Thread(target=self._guard, name="rxmistral-guard", daemon=True).start()
        try:
            while not self._pump.retire(self):
                self._wait_and_step()
        finally:
            self.close()

    def close(self) -> None:
        self._retired.set()
        self._selector.close()
        self._bell.close()
        self._button.close()

    def _wait_and_step(self) -> None:
        ready = self._selector.select(max(0.0, self._look_at - monotonic()))
        self._stepped_at = monotonic()
        for key, _ in ready:
            if key.data is not None:
                self._step(key.data)
            else:
                self._hear()
        while self._scheduled:
            self._step(self._scheduled.popleft())
        self._look_at_clocks()
        if self.lost:
            self._unwatch_lost()

    def _hear(self) -> None:
        with self._pump.lock:
            self._bell.recv(1)
            self._rung = False

    def _step(self, flow: Flow) -> None:
        if flow not in self.flows:  # it has ended, or another loop has it by now
            return
        more = False
        self.steps += 1
        self.stepping = flow
        emitting.source = flow
        try:
            more = flow.step()
        except BaseException as error:  # of a callback: it ends its own stream, no other
            report(error)
        finally:
            emitting.source = None
            with self._pump.lock:  # not while another loop takes over what is not stepping
                self.stepping = None
        if not more:
            self._slow.discard(flow)
            self._pump.forget(flow)
            return
        if flow.paused:
            self.unwatch(flow)
        elif flow not in self._watched:
            self._watch(flow)
        began, self._stepped_at = self._stepped_at, monotonic()
        if self._stepped_at - began > _SLOW:
            self._note_slow(flow)
        elif self._slow:
            self._slow.discard(flow)

    def _note_slow(self, flow: Flow) -> None:
        if flow in self._slow:
            self._slow.discard(flow)
            self._pump.isolate(flow, self)
        else:
            self._slow.add(flow)

    def _watch(self, flow: Flow) -> None:
        self._watched[flow] = descriptor = flow.fileno()
        self._selector.register(descriptor, EVENT_READ, flow)

    def unwatch(self, flow: Flow) -> None:
        descriptor = self._watched.pop(flow, None)
        if descriptor is not None:
            self._selector.unregister(descriptor)

    def _unwatch_lost(self) -> None:
        self.lost = False
        for flow in self._watched.keys() - self.flows:
            self.unwatch(flow)

    def _look_at_clocks(self) -> None:
        now = monotonic()
        if now < self._look_at:
            self._look_at = min(self._look_at, now + _TICK)  # a step may have set a clock
            return
        with self._pump.lock:
            flows = [*self.flows]
        soonest = _LONG
        for flow in flows:
            if flow.paused:
                continue
            left = flow.left()
            if left <= 0:
                self._step(flow)
            else:
                soonest = min(soonest, left)
        self._look_at = now + max(_TICK, soonest)

    def _guard(self) -> None:
        seen = 0
        while not self._retired.wait(self.stall) and self._pump.leads(self):
            step = self.steps
            if step == seen and self.stepping is not None:
                self._pump.displace(self, step)
            seen = step
