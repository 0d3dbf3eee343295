"""Threads that serve one subscription after another.

    subscriber's thread      run_on_thread(work) ──▶ [ queue ]
    thread that was idle     takes it; starts another thread if none is idle now; does the work
    that thread              waits for the next work, or exits after a moment

Strategy: a thread that starts and exits costs about as much as a whole request over a warm
connection, so a thread whose work is done waits a moment for more. Starting one also waits for
the interpreter, for which all others compete. If many subscribe at once, an event loop must not
wait for each of these starts, so a thread that takes work starts the next one, and the subscriber
does so only if no thread is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import Lock, RLock, Thread, current_thread, main_thread
from typing import NamedTuple

from ..errors import RequestError
from .subscriber import report_unhandled
from .threads import fork_safe, record_thread_exit, register_for_fork, start_thread

__all__ = ["run_on_thread"]

# A thread is idle for at most 0.1 s; and the interpreter, when it exits, waits for a thread that is
# not a daemon, so it checks meanwhile whether the program is over.
_CHECK_SECONDS = 0.01
_IDLE_CHECKS = 10


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
        self._free: set[Thread] = set()  # those that are idle, or starting

    def run(self, work: _Work) -> None:
        self._queue.append(work)
        self._have_it_served()

    def _have_it_served(self) -> None:
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

    def _serve(self) -> None:
        while self._serve_next():
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
                self._have_it_served()
        finally:
            if work is not None:
                thread.name = work.name
                work.do()
                thread.name = "rxmistral-idle"
        return work is not None

    def _wait_for_work(self) -> _Work | None:
        for _ in range(_IDLE_CHECKS):
            with suppress(IndexError):
                return self._queue.popleft()
            is_awake = self._wakeup.acquire(timeout=_CHECK_SECONDS)
            if not (is_awake or main_thread().is_alive()):
                break
        return None


_daemons, _others = _ReusedThreads(daemon=True), _ReusedThreads(daemon=False)
