"""An event loop: one thread that waits for the sockets of many responses at once.

    reader thread       request ──▶ headers ──▶ first block ──▶ schedule(task)
    event loop thread   select ──▶ step(task), step(task), ... ──▶ select ──▶ ...

A task reads the rest of one response. A step of it reads what its socket has received, emits
that, and never waits. It is stepped again when its socket is readable, when its timeout has
expired, or when any thread schedules it. A step with nothing to do is harmless: the task checks
its socket, and waits again.

Emitting runs the subscriber's callbacks, and all other tasks wait for them. That does not
matter if a callback returns soon. If it does not, its task gets a thread of its own:

    slow    two consecutive steps last longer than _SLOW_SECONDS: another thread continues that task
    stuck   a watchdog finds that a step lasts longer than _STALL_SECONDS: another thread
            continues all tasks except that one

A selector is used by its own thread only. The sets of tasks and of scheduled tasks are used by
all threads, under the lock of the event loop. A thread ends when it has no tasks.

Threads and descriptors may run out at any moment. A task then stays on the thread that it has.
If a thread dies, its tasks move to another thread, or end with an error.
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

_MIN_CHECK_SECONDS = 0.05  # between two checks of the timeouts of all tasks
_MAX_CHECK_SECONDS = 60.0
_STALL_SECONDS = 0.05  # between two checks of the watchdog: a step that lasts for both is stuck
_MIN_STALL_SECONDS = 0.005  # if one task after another is stuck, so that the last is not late
_SLOW_SECONDS = 0.005  # of a step; sys.getswitchinterval(), how long a thread may keep the GIL


class LoopTask(Pausable, Protocol):
    """Work that an event loop steps: reading the rest of a response."""

    @property
    def paused(self) -> bool:
        """Whether it must not be stepped because of its socket or timeout."""
        ...

    def fileno(self) -> int:
        """Returns the descriptor of its socket."""
        ...

    def step(self) -> bool:
        """Continues as far as possible without waiting; returns whether there is more to do."""
        ...

    def remaining(self) -> float:
        """Returns the seconds until its timeout; 0 or less: it has expired."""
        ...

    def fail(self, error: BaseException) -> None:
        """Ends with an error, because no thread can step it."""
        ...


class EventLoop:
    """Steps tasks: all of them on its main thread, except those that are slow or stuck.

    Args:
        daemon: Whether the interpreter may exit before the tasks have ended.
    """

    def __init__(self, *, daemon: bool) -> None:
        self.daemon = daemon
        # Held for a few assignments. Reentrant, since garbage collection may dispose an
        # abandoned task, and so schedule it, at any moment.
        self.lock = fork_safe(RLock())
        self._main: _LoopThread | None = None  # that new tasks are assigned to
        self._thread_of: dict[LoopTask, _LoopThread] = {}
        register_for_fork(self)

    def forked(self) -> None:
        """Drops the threads and the tasks, which are the parent's."""
        self._main = None
        self._thread_of = {}

    def schedule(self, task: LoopTask) -> None:
        """Has a task stepped soon; may be called on any thread, and more than once.

        Raises:
            RuntimeError: No thread can be started; the task is not added.
            OSError: No descriptor is available; the task is not added.
        """
        try:
            with self.lock:
                thread = self._assign(task)
        except OSError:
            self.remove(task)
            raise
        try:
            thread.start()
        except RuntimeError as error:
            self.remove(task)
            self.abandon(thread, error)  # others may have been assigned to it meanwhile
            raise

    def _assign(self, task: LoopTask) -> _LoopThread:
        thread = self._thread_of.get(task)
        if thread is None:
            self._main = self._main or _LoopThread(self)
            self._thread_of[task] = thread = self._main
        thread.add(task)
        return thread

    def abandon(self, thread: _LoopThread, error: BaseException) -> None:
        """Moves the tasks of a thread that has died to another thread, or ends them."""
        with self.lock:
            if self._main is thread:
                self._main = None
            tasks, thread.tasks = thread.tasks, set()
            for task in tasks:
                del self._thread_of[task]
        thread.close()
        for task in tasks:
            try:
                if not thread.steps:  # another thread would get no further
                    raise RuntimeError(str(error)) from error
                self.schedule(task)
            except (RuntimeError, OSError):
                _call_and_report(task.fail, error)

    def unwatch(self, task: LoopTask) -> None:
        """Stops watching the socket of a task, before it is closed or used by another.

        Called on the thread that steps the task.
        """
        thread = self._thread_of.get(task)
        if thread is not None:
            thread.unwatch(task)

    def remove(self, task: LoopTask) -> None:
        """Removes a task that has ended."""
        with self.lock:
            thread = self._thread_of.pop(task, None)
            if thread is not None:
                thread.tasks.discard(task)

    def retire(self, thread: _LoopThread) -> bool:
        """Returns whether a thread has no tasks; if so, it will not get another."""
        with self.lock:
            if thread.tasks:
                return False
            if self._main is thread:
                self._main = None
            return True

    def is_main(self, thread: _LoopThread) -> bool:
        """Returns whether a thread is the one that steps all but the slow and stuck tasks."""
        return self._main is thread

    def move_to_own_thread(self, task: LoopTask, thread: _LoopThread) -> None:
        """Moves a slow task to a new thread; called on the thread that steps it."""
        with self.lock:
            if not self.is_main(thread) or len(thread.tasks) == 1:
                return
            try:
                own = _LoopThread(self)
            except OSError:  # no descriptor is available: it stays
                return
            self._move(task, thread, own)
        thread.unwatch(task)
        try:
            own.start()
        except RuntimeError:  # no thread can be started: it stays
            with self.lock:
                self._move(task, own, thread)
            own.close()

    def _move(self, task: LoopTask, old: _LoopThread, new: _LoopThread) -> None:
        old.tasks.discard(task)
        self._thread_of[task] = new
        new.add(task)

    def move_others(self, thread: _LoopThread, step: int) -> None:
        """Moves all tasks but the stuck one to a new main thread.

        Args:
            thread: The main thread.
            step: The number of the step that it is stuck in; another step is not stuck.
        """
        with self.lock:
            stuck = thread.stepping
            if stuck is None or thread.steps != step or not self.is_main(thread):
                return
            others = thread.tasks - {stuck}
            if not others:
                self._main = None  # the next task gets a new one
                return
            try:
                successor = _LoopThread(self, max(_MIN_STALL_SECONDS, thread.stall_seconds / 2))
            except OSError:  # no descriptor is available: they wait for the next check
                return
            thread.has_moved_tasks = True
            self._main = successor
            for task in others:
                self._move(task, thread, successor)
        try:
            successor.start()
        except RuntimeError:  # no thread can be started: they wait
            with self.lock:
                self._main = thread
                for task in others:
                    self._move(task, successor, thread)
            successor.close()


class _LoopThread:
    """One thread of an event loop, with its selector.

    Attributes:
        tasks: The tasks that it steps.
        stall_seconds: The interval of its watchdog.
        stepping: The task that is being stepped.
        steps: How many steps it has begun.
        has_moved_tasks: Whether it may still watch tasks that another thread steps now.
    """

    def __init__(self, event_loop: EventLoop, stall_seconds: float = _STALL_SECONDS) -> None:
        self.tasks: set[LoopTask] = set()
        self.stall_seconds = stall_seconds
        self.stepping: LoopTask | None = None
        self.steps = 0
        self.has_moved_tasks = False
        self._event_loop = event_loop
        self._thread: Thread | None = None
        self._watched: dict[LoopTask, int] = {}  # their descriptors
        self._scheduled: deque[LoopTask] = deque()
        self._next_check = monotonic() + _MAX_CHECK_SECONDS  # of the timeouts
        self._retired = Event()
        self._selector = DefaultSelector()
        self._wake_receiver, self._wake_sender = socketpair()
        self._is_woken = False
        self._stepped_at = 0.0  # the end of the latest step or wait, by monotonic()
        self._slow_tasks: set[LoopTask] = set()  # whose latest step was slow
        self._selector.register(self._wake_receiver, EVENT_READ)
        register_for_fork(self)

    def forked(self) -> None:
        """Closes the descriptors, without unregistering the sockets: that would affect the
        parent's selector."""
        self.tasks = set()
        self._watched = {}
        self._close_descriptors()

    def start(self) -> None:
        """Starts the thread, unless that has been done.

        Not called under the lock: starting a thread waits for it, and the new thread may first
        have to collect garbage, which needs the lock.
        """
        with self._event_loop.lock:
            if self._thread is not None:
                return
            self._thread = thread = Thread(
                target=self.run, name="rxmistral-event-loop", daemon=self._event_loop.daemon
            )
        try:
            # Some Pythons have threads inherit the context; this one serves other subscribers.
            Context().run(thread.start)
        except BaseException:
            self._thread = None
            raise

    def add(self, task: LoopTask) -> None:
        """Adds or reschedules a task; called under the lock of the event loop."""
        self.tasks.add(task)
        self._scheduled.append(task)
        if not self._is_woken:
            self._wake_sender.send(b"!")
            self._is_woken = True

    def run(self) -> None:
        if self._event_loop.is_main(self):
            with suppress(RuntimeError):  # no thread can be started: it runs without a watchdog
                Thread(target=self._watch_for_stall, name="rxmistral-watchdog", daemon=True).start()
        try:
            while not self._event_loop.retire(self):
                self._wait_and_step()
        except BaseException as error:
            self._event_loop.abandon(self, error)
            raise
        self.close()
        record_thread_exit()

    def close(self) -> None:
        self._retired.set()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _wait_and_step(self) -> None:
        ready = self._selector.select(max(0.0, self._next_check - monotonic()))
        self._stepped_at = monotonic()
        for key, _ in ready:
            if key.data is not None:
                self._step(key.data)
            else:
                self._drain_wake_up()
        while self._scheduled:
            self._step(self._scheduled.popleft())
        self._check_timeouts()
        if self.has_moved_tasks:
            self._unwatch_moved()

    def _drain_wake_up(self) -> None:
        with self._event_loop.lock:
            self._wake_receiver.recv(1)
            self._is_woken = False

    def _step(self, task: LoopTask) -> None:
        if task not in self.tasks:  # it has ended, or moved to another thread
            return
        more = False
        self.steps += 1
        self.stepping = task
        emitting.source = task
        try:
            more = task.step()
        except BaseException as error:  # of a callback: it ends no other stream
            report_unhandled(error)
        finally:
            emitting.source = None
            with self._event_loop.lock:  # not while `move_others` reads it
                self.stepping = None
        if not more:
            self._slow_tasks.discard(task)
            self._event_loop.remove(task)
            return
        if task.paused:
            self.unwatch(task)
        elif task not in self._watched and not self._watch(task):
            return
        began, self._stepped_at = self._stepped_at, monotonic()
        if self._stepped_at - began > _SLOW_SECONDS:
            self._note_slow_step(task)
        elif self._slow_tasks:
            self._slow_tasks.discard(task)

    def _note_slow_step(self, task: LoopTask) -> None:
        if task in self._slow_tasks:
            self._slow_tasks.discard(task)
            self._event_loop.move_to_own_thread(task, self)
        else:
            self._slow_tasks.add(task)

    def _watch(self, task: LoopTask) -> bool:
        """Watches the socket of a task; returns False if that failed and ended the task."""
        try:
            descriptor = task.fileno()
            former = self._selector.get_map().get(descriptor)
            if former is not None and former.data is not None:
                # The former task's socket was closed, and its number used again.
                self.unwatch(former.data)
                self._scheduled.append(former.data)
            self._selector.register(descriptor, EVENT_READ, task)
        except (OSError, ValueError, KeyError) as error:
            _call_and_report(task.fail, error)
            self._slow_tasks.discard(task)
            self._event_loop.remove(task)
            return False
        self._watched[task] = descriptor
        return True

    def unwatch(self, task: LoopTask) -> None:
        descriptor = self._watched.pop(task, None)
        if descriptor is not None:
            with suppress(KeyError, ValueError):  # the selector is closed
                self._selector.unregister(descriptor)

    def _unwatch_moved(self) -> None:
        self.has_moved_tasks = False
        for task in self._watched.keys() - self.tasks:
            self.unwatch(task)

    def _check_timeouts(self) -> None:
        now = monotonic()
        if now < self._next_check:
            # A step may have set a timeout.
            self._next_check = min(self._next_check, now + _MIN_CHECK_SECONDS)
            return
        with self._event_loop.lock:
            tasks = [*self.tasks]
        soonest = _MAX_CHECK_SECONDS
        for task in tasks:
            if task.paused:
                continue
            remaining = task.remaining()
            if remaining > 0:
                soonest = min(soonest, remaining)
            else:
                self._step(task)
        self._next_check = now + max(_MIN_CHECK_SECONDS, soonest)

    def _watch_for_stall(self) -> None:
        seen = 0
        while not self._retired.wait(self.stall_seconds) and self._event_loop.is_main(self):
            step = self.steps
            if step == seen and self.stepping is not None:
                self._event_loop.move_others(self, step)
            seen = step


def _call_and_report(work: Callable[[BaseException], object], error: BaseException) -> None:
    """Calls `work` with the error; an exception of a callback is reported, not raised."""
    try:
        work(error)
    except BaseException as raised:
        report_unhandled(raised)
