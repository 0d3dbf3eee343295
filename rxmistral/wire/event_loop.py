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

Threads and descriptors may run out at any moment. A flow that can get no loop of its own then
stays where it is; and whatever ends a thread, its flows go to another, or end with an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from selectors import EVENT_READ, DefaultSelector
from socket import socketpair
from threading import Event, RLock, Thread
from typing import Protocol

from ..rx.backpressure import Pausable, emitting
from ..rx.clock import monotonic
from ..rx.subscriber import report_unhandled
from ..rx.threads import fork_safe, record_thread_exit, register_for_fork

__all__ = ["EventLoop", "LoopTask"]

_TICK = 0.05  # seconds between two looks at the clocks of all flows, at least
_LONG = 60.0  # seconds between two, at most
_STALL = 0.05  # seconds between two looks of the guard: who is in one step at both is stuck
_SHORTEST_STALL = 0.005  # where one after the other is, so that the last waits not for all
_SLOW = 0.005  # seconds of a step; as long as a thread may keep the interpreter to itself


class LoopTask(Pausable, Protocol):
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

    def fail(self, error: BaseException) -> None:
        """End with an error, because no loop can step it."""
        ...


class EventLoop:
    """Steps flows, on one thread as long as none of them holds it up.

    Args:
        daemon: Whether the interpreter may exit before they have ended.
    """

    def __init__(self, *, daemon: bool) -> None:
        self.daemon = daemon
        # Held for a few assignments. Reentrant, since garbage collection may dispose an
        # abandoned flow, and so schedule it, at any moment.
        self.lock = fork_safe(RLock())
        self._loop: _LoopThread | None = None  # that takes what is new
        self._loops: dict[LoopTask, _LoopThread] = {}
        register_for_fork(self)

    def forked(self) -> None:
        """The threads are the parent's, and so are the flows."""
        self._loop = None
        self._loops = {}

    def schedule(self, flow: LoopTask) -> None:
        """Have it stepped soon; from any thread. It is this pump's from the first time on.

        Raises:
            RuntimeError: No thread can be started; it is not this pump's.
            OSError: Nor can a descriptor be had.
        """
        try:
            with self.lock:
                loop = self._take(flow)
        except OSError:
            self.forget(flow)
            raise
        try:
            loop.start()
        except RuntimeError as error:
            self.forget(flow)
            self.bury(loop, error)  # others may have come while the thread was being started
            raise

    def _take(self, flow: LoopTask) -> _LoopThread:
        loop = self._loops.get(flow)
        if loop is None:
            self._loop = self._loop or _LoopThread(self)
            self._loops[flow] = loop = self._loop
        loop.call(flow)
        return loop

    def bury(self, loop: _LoopThread, error: BaseException) -> None:
        """A loop has lost its thread: have others step its flows, or end them."""
        with self.lock:
            if self._loop is loop:
                self._loop = None
            flows, loop.flows = loop.flows, set()
            for flow in flows:
                del self._loops[flow]
        loop.close()
        for flow in flows:
            try:
                if not loop.steps:  # nor would another one get any further
                    raise RuntimeError(str(error)) from error
                self.schedule(flow)
            except (RuntimeError, OSError):
                _shown(flow.fail, error)

    def unwatch(self, flow: LoopTask) -> None:
        """Before its socket is closed or serves another; on the thread that steps it."""
        loop = self._loops.get(flow)
        if loop is not None:
            loop.unwatch(flow)

    def forget(self, flow: LoopTask) -> None:
        with self.lock:
            loop = self._loops.pop(flow, None)
            if loop is not None:
                loop.flows.discard(flow)

    def retire(self, loop: _LoopThread) -> bool:
        """Whether a loop has no flows, and will get none from now on."""
        with self.lock:
            if loop.flows:
                return False
            if self._loop is loop:
                self._loop = None
            return True

    def leads(self, loop: _LoopThread) -> bool:
        """Whether it is the one that serves all but the slow and the stuck."""
        return self._loop is loop

    def isolate(self, flow: LoopTask, loop: _LoopThread) -> None:
        """Have a loop of its own take over a flow that this one steps; on its thread."""
        with self.lock:
            if not self.leads(loop) or len(loop.flows) == 1:
                return
            try:
                own = _LoopThread(self)
            except OSError:  # no descriptor can be had: it stays
                return
            self._hand_over(flow, loop, own)
        loop.unwatch(flow)
        try:
            own.start()
        except RuntimeError:  # no thread can be started: it stays
            with self.lock:
                self._hand_over(flow, own, loop)
            own.close()

    def _hand_over(self, flow: LoopTask, giver: _LoopThread, taker: _LoopThread) -> None:
        giver.flows.discard(flow)
        self._loops[flow] = taker
        taker.call(flow)

    def displace(self, loop: _LoopThread, step: int) -> None:
        """Have another loop take over what a loop that is stuck in this step has beside it."""
        with self.lock:
            stuck = loop.stepping
            if stuck is None or loop.steps != step or not self.leads(loop):
                return
            others = loop.flows - {stuck}
            if not others:
                self._loop = None  # the next flow gets another
                return
            try:
                successor = _LoopThread(self, max(_SHORTEST_STALL, loop.stall / 2))
            except OSError:  # no descriptor can be had: they wait, until the guard looks again
                return
            loop.lost = True
            self._loop = successor
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


class _LoopThread:
    """One thread of a pump."""

    def __init__(self, pump: EventLoop, stall: float = _STALL) -> None:
        self.flows: set[LoopTask] = set()
        self.stall = stall
        self.stepping: LoopTask | None = None
        self.steps = 0
        self.lost = False  # flows, to another loop, that are watched here
        self._pump = pump
        self._thread: Thread | None = None
        self._watched: dict[LoopTask, int] = {}  # and the descriptors of their sockets
        self._scheduled: deque[LoopTask] = deque()
        self._look_at = monotonic() + _LONG  # when to look at the clocks, by monotonic()
        self._retired = Event()
        self._selector = DefaultSelector()
        self._bell, self._button = socketpair()
        self._rung = False
        self._stepped_at = 0.0  # the end of the latest step, or of the wait
        self._slow: set[LoopTask] = set()  # whose latest step was
        self._selector.register(self._bell, EVENT_READ)
        register_for_fork(self)

    def forked(self) -> None:
        """Closes the child's copies; the selector forgets nothing that the parent's watches."""
        self.flows = set()
        self._watched = {}
        self._close_descriptors()

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

    def call(self, flow: LoopTask) -> None:
        """Under the pump's lock."""
        self.flows.add(flow)
        self._scheduled.append(flow)
        if not self._rung:
            self._button.send(b"!")
            self._rung = True

    def run(self) -> None:
        if self._pump.leads(self):
            with suppress(RuntimeError):  # no thread can be started: it goes without
                Thread(target=self._guard, name="rxmistral-guard", daemon=True).start()
        try:
            while not self._pump.retire(self):
                self._wait_and_step()
        except BaseException as error:
            self._pump.bury(self, error)
            raise
        self.close()
        record_thread_exit()

    def close(self) -> None:
        self._retired.set()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
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

    def _step(self, flow: LoopTask) -> None:
        if flow not in self.flows:  # it has ended, or another loop has it by now
            return
        more = False
        self.steps += 1
        self.stepping = flow
        emitting.source = flow
        try:
            more = flow.step()
        except BaseException as error:  # of a callback: it ends its own stream, no other
            report_unhandled(error)
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
        elif flow not in self._watched and not self._watch(flow):
            return
        began, self._stepped_at = self._stepped_at, monotonic()
        if self._stepped_at - began > _SLOW:
            self._note_slow(flow)
        elif self._slow:
            self._slow.discard(flow)

    def _note_slow(self, flow: LoopTask) -> None:
        if flow in self._slow:
            self._slow.discard(flow)
            self._pump.isolate(flow, self)
        else:
            self._slow.add(flow)

    def _watch(self, flow: LoopTask) -> bool:
        """Whether that went well; where it did not, this one has ended, and no other."""
        try:
            descriptor = flow.fileno()
            former = self._selector.get_map().get(descriptor)
            if former is not None and former.data is not None:
                # Its socket was closed under it, and the number given again.
                self.unwatch(former.data)
                self._scheduled.append(former.data)
            self._selector.register(descriptor, EVENT_READ, flow)
        except (OSError, ValueError, KeyError) as error:
            _shown(flow.fail, error)
            self._slow.discard(flow)
            self._pump.forget(flow)
            return False
        self._watched[flow] = descriptor
        return True

    def unwatch(self, flow: LoopTask) -> None:
        descriptor = self._watched.pop(flow, None)
        if descriptor is not None:
            with suppress(KeyError, ValueError):  # the selector is closed
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


def _shown(work: Callable[[BaseException], object], error: BaseException) -> None:
    """Does it; what a callback raises in it ends nobody else."""
    try:
        work(error)
    except BaseException as raised:
        report_unhandled(raised)
