"""Threads that serve one subscription after another.

    subscriber's thread      run_on_thread(work) ──▶ [ queue ]
    thread that was idle     takes it; starts another thread if none is idle now; does the work
    that thread              waits for the next work, or exits after a moment

Strategy: a thread that starts and exits costs about as much as a whole request over a warm
connection, so a thread whose work is done waits a moment for more. Starting one also waits for
the interpreter, for which all others compete. If many subscribe at once, an event loop must not
wait for each of these starts, so a thread that takes work starts the next one, and the subscriber
does so only if no thread is left.

The event loop also competes with the work itself: each thread that runs delays it a little. So
only two threads at a time are in the first part of their work, up to its first wait for the network
(`note_wait`); then the next thread takes work. Work that waits without calling `note_wait`, for
example in a callback of the program, delays other work by a hundredth of a second only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import Lock, RLock, Thread, current_thread, main_thread
from typing import NamedTuple

from ..errors import RequestError
from .clock import monotonic
from .subscriber import report_unhandled
from .threads import fork_safe, record_thread_exit, register_for_fork, start_thread

__all__ = ["note_wait", "run_on_thread"]

# A thread is idle for at most 0.1 s; and the interpreter, when it exits, waits for a thread that is
# not a daemon, so it checks meanwhile whether the program is over.
_CHECK_SECONDS = 0.01
_IDLE_CHECKS = 10
_MAX_IDLE = 16  # threads; each check of each of them delays the threads that work

_MAX_STARTING = 2  # threads whose work has not waited yet: one in Python, one in a system call
_LONGEST_START_SECONDS = 0.01  # after which these threads no longer count


class _Work(NamedTuple):
    do: Callable[[], object]
    refuse: Callable[[RequestError], object]
    name: str


def run_on_thread(
    do: Callable[[], object],
    refuse: Callable[[RequestError], object],
    *,
    name: str,
    daemon: bool,
) -> None:
    """Runs work on another thread.

    Args:
        do: The work, a function that does not raise.
        refuse: Called instead, on any thread, with the error if no thread can be started.
        name: The name of the thread, meanwhile.
        daemon: Whether the interpreter may exit before the work is done.
    """
    (_daemons if daemon else _others).run(_Work(do, refuse, name))


def note_wait() -> None:
    """Notes that the work of the current thread is about to wait, so that other work may start."""
    for each in (_daemons, _others):
        each.note_wait()


class _ReusedThreads:
    def __init__(self, *, daemon: bool) -> None:
        self._daemon = daemon
        self._lock = fork_safe(RLock())  # reentrant, since a garbage collection may subscribe
        self.forked()
        register_for_fork(self)

    def forked(self) -> None:
        self._queue: deque[_Work] = deque()
        # Not a SimpleQueue: in CPython 3.11, its get(timeout=...) may wait forever (see
        # `cancellation`).
        self._wakeup = Lock()
        self._wakeup.acquire()
        self._free: set[Thread] = set()  # without work: they are idle, or about to be
        self._starting: set[Thread] = set()  # with work that has started and not waited yet
        self._started_at = 0.0  # when the latest work started, in seconds of monotonic()

    def run(self, work: _Work) -> None:
        self._queue.append(work)
        # Work that subscribes mostly ends soon, and its thread then takes this work. No wake-up is
        # needed for that, nor if nothing may start now: an idle thread checks again anyway.
        starting = self._starting
        may_start = len(starting) < _MAX_STARTING and current_thread() not in starting
        if may_start or not self._free:
            self._wake_thread()

    def _wake_thread(self) -> None:
        """Wakes a thread that is idle, or starts one if there is none."""
        with suppress(RuntimeError):  # one is about to wake
            self._wakeup.release()
        thread = None
        try:
            with self._lock:
                if self._free:
                    return
                thread = Thread(target=self._serve, name="rxmistral-idle", daemon=self._daemon)
                self._free.add(thread)
            # In an empty context, if threads inherit one: it serves other subscribers, too.
            Context().run(start_thread, thread)
        except RequestError as error:
            self._free.discard(thread)
            self._refuse_queued(error)
        except BaseException:  # Ctrl-C: whether the thread runs is not known
            self._free.discard(thread)
            raise

    def _refuse_queued(self, error: RequestError) -> None:
        with suppress(IndexError):  # it is empty
            while True:
                work = self._queue.popleft()
                try:
                    work.refuse(error)
                except Exception as raised:  # by a callback; the others are refused, too
                    report_unhandled(raised)

    def note_wait(self) -> None:
        thread = current_thread()
        if thread in self._starting:
            self._starting.discard(thread)
            if self._queue:
                self._wake_thread()

    def _serve(self) -> None:
        while self._serve_next() and (self._queue or len(self._free) < _MAX_IDLE):
            self._free.add(current_thread())
        record_thread_exit()

    def _serve_next(self) -> bool:
        """Waits for work and does it; returns whether to wait for more."""
        thread = current_thread()
        work = self._wait_for_work()
        self._free.discard(thread)
        try:
            # More has arrived, or some did in the moment in which the wait ended.
            if self._queue:
                self._wake_thread()
        finally:
            if work is not None:
                thread.name = work.name
                work.do()
                self._starting.discard(thread)
                thread.name = "rxmistral-idle"
        return work is not None

    def _wait_for_work(self) -> _Work | None:
        idle_checks = 0
        while True:
            work = self._take_work()
            if work is not None:
                return work
            is_awake = self._wakeup.acquire(timeout=_CHECK_SECONDS)
            if self._queue:  # with work that must not start yet
                continue
            idle_checks += 1
            if idle_checks >= _IDLE_CHECKS or not (is_awake or main_thread().is_alive()):
                return None

    def _take_work(self) -> _Work | None:
        """Returns the next work; None: there is none, or it must not start yet."""
        now = monotonic()
        if len(self._starting) >= _MAX_STARTING:
            if now < self._started_at + _LONGEST_START_SECONDS:
                return None
            self._starting.clear()
        with suppress(IndexError):
            work = self._queue.popleft()
            self._starting.add(current_thread())
            self._started_at = now
            return work
        return None


_daemons, _others = _ReusedThreads(daemon=True), _ReusedThreads(daemon=False)
