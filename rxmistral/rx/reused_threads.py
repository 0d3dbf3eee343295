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

from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread
from typing import NamedTuple

from ..errors import RequestError
from .threads import fork_safe, record_thread_exit, register_for_fork, start_thread

__all__ = ["run_on_thread"]

_IDLE_SECONDS = 0.1  # the interpreter, when it exits, waits for an idle thread, too


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
        self._lock = fork_safe(Lock())
        self.forked()
        register_for_fork(self)

    def forked(self) -> None:
        self._queue: SimpleQueue[_Work] = SimpleQueue()
        self._free = 0  # threads that are idle, or starting

    def run(self, work: _Work) -> None:
        self._queue.put(work)
        self._start_thread_if_none_is_free()

    def _start_thread_if_none_is_free(self) -> None:
        with self._lock:
            if self._free:
                return
            self._free = 1
        thread = Thread(target=self._serve, name="rxmistral-idle", daemon=self._daemon)
        try:
            # In an empty context, if threads inherit one: it serves other subscribers, too.
            Context().run(start_thread, thread)
        except RequestError as error:
            self._count_free(-1)
            self._refuse_queued(error)

    def _refuse_queued(self, error: RequestError) -> None:
        while True:
            try:
                work = self._queue.get_nowait()
            except Empty:
                return
            work.refuse(error)

    def _count_free(self, change: int) -> None:
        with self._lock:
            self._free += change

    def _serve(self) -> None:
        while self._serve_next():
            self._count_free(1)
        record_thread_exit()

    def _serve_next(self) -> bool:
        """Waits for work and does it; returns whether there was any."""
        try:
            work = self._queue.get(timeout=_IDLE_SECONDS)
        except Empty:
            self._count_free(-1)
            if self._queue.empty():
                return False
            self._start_thread_if_none_is_free()  # the work arrived at this moment
            return False
        self._count_free(-1)
        if not self._queue.empty():
            self._start_thread_if_none_is_free()
        current_thread().name = work.name
        work.do()
        current_thread().name = "rxmistral-idle"
        return True


_daemons, _others = _ReusedThreads(daemon=True), _ReusedThreads(daemon=False)
