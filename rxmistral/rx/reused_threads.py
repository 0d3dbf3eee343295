"""Threads that serve one subscription after another.

A thread that starts and exits costs about as much as a whole request over a warm connection. So a
thread whose work is done waits a moment for the next work before it exits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

from .threads import fork_safe, record_thread_exit, register_for_fork, start_thread

__all__ = ["run_on_thread"]

_IDLE_SECONDS = 0.1  # the interpreter, when it exits, waits for an idle thread, too

Work = Callable[[], object]


def run_on_thread(work: Work, *, name: str, daemon: bool) -> None:
    """Runs work on another thread, which has this name meanwhile.

    Args:
        work: A function that does not raise.
        name: The name of the thread.
        daemon: Whether the interpreter may exit before the work is done.

    Raises:
        RequestError: No thread can be started.
    """
    (_daemons if daemon else _others).run(work, name)


class _ReusedThreads:
    def __init__(self, *, daemon: bool) -> None:
        self._daemon = daemon
        self._idle: list[SimpleQueue[tuple[Work, str]]] = []
        self._lock = fork_safe(Lock())
        register_for_fork(self)

    def forked(self) -> None:
        self._idle = []

    def run(self, work: Work, name: str) -> None:
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is not None:
            inbox.put((work, name))
            return
        thread = Thread(target=self._serve, args=(work,), name=name, daemon=self._daemon)
        # In an empty context, if threads inherit one: it serves other subscribers, too.
        Context().run(start_thread, thread)

    def _serve(self, work: Work | None) -> None:
        inbox: SimpleQueue[tuple[Work, str]] = SimpleQueue()
        while work is not None:
            work()
            work = None  # an idle thread refers to no subscription
            with self._lock:
                self._idle.append(inbox)
            try:
                work, current_thread().name = inbox.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if inbox in self._idle:
                        self._idle.remove(inbox)
                        break
                work, current_thread().name = inbox.get()  # it arrived at this moment
        record_thread_exit()


_daemons, _others = _ReusedThreads(daemon=True), _ReusedThreads(daemon=False)
