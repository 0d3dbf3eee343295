"""Worker threads that run many tasks in steps; a watchdog keeps one task from delaying all.

    any thread        pool.schedule(task)
    worker's thread   wait ──▶ step(task), step(task), ... ──▶ wait ──▶ ...

A step never waits by itself, but it runs callbacks of the program, which may. All tasks of a pool
share one worker, the *lead*, as long as their callbacks return soon. Otherwise:

    slow     steps took too long again and again: the task moves to a worker of its own
    stuck    a step does not end: all other tasks move to a new lead

Strategy: on a busy machine, or under a CPU quota, any callback takes long by the clock, since its
thread does not run. Therefore a task is slow only after several long steps: each is charged to it,
up to a maximum, and each step in time pays some of that back. A thread that is not scheduled
rarely interrupts the same task again. A worker is stuck after several ticks of its watchdog within
one step; a tick counts only if the watchdog itself was woken on time, so that the machine had time
for both threads.

A callback that blocks delays the others by up to
`_TICK_SECONDS * (_CALM_FACTOR + _STUCK_TICKS)`, 0.14 s. If several block one after the other, the
watchdog of each successor ticks faster, so that each delay is half of the one before, and at least
0.035 s.

Threads and descriptors may run out at any moment. A task that can get no other worker then stays
where it is. When a thread ends, its tasks move to another worker, or end with an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import Lock, Thread
from typing import Any, Generic, Protocol, TypeVar

from ..errors import RequestError
from .backpressure import Pausable, emitting
from .clock import monotonic
from .subscriber import report_unhandled
from .threads import record_thread_exit, register_for_fork, start_thread

__all__ = ["Task", "Worker", "WorkerPool", "end_with_error"]

_MAX_CHARGE_SECONDS = 0.01  # for one step
_CREDIT_SECONDS = 0.02  # of charges, after which a task is slow
_REFUND_SECONDS = 0.001  # for each step in time
_TICK_SECONDS = 0.02  # between two checks of a watchdog
_SHORTEST_TICK_SECONDS = 0.005
_CALM_FACTOR = 2  # times that, as long as no step has lasted for a whole tick
_STUCK_TICKS = 5  # on time, within one step
_IDLE_SECONDS = 0.1  # for which a thread without tasks waits: starting one costs much
_CALM_TICKS = 50  # after which a watchdog that ticks faster slows down


class Task(Pausable, Protocol):
    """Work that is done in steps."""

    worker: Worker[Any] | None  # set by the pool
    context: Context  # of the subscriber; each step runs in it

    def step(self) -> bool:
        """Does the work that needs no waiting; returns whether there is more to do now."""
        ...

    def fail(self, error: BaseException) -> None:
        """Ends with an error."""


T = TypeVar("T", bound=Task)


class WorkerPool(ABC, Generic[T]):
    """Tasks, and the workers that step them.

    Args:
        lock: Protects which task belongs to which worker; held for a few assignments only.
            Reentrant, since garbage collection may dispose an abandoned task at any moment.
        daemon: Whether the interpreter may exit before the tasks have ended.
    """

    def __init__(self, lock: Any, *, daemon: bool) -> None:
        self.lock = lock
        self.daemon = daemon
        self.lead: Worker[T] | None = None
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the lead, in the child: its thread is the parent's."""
        self.lead = None

    @abstractmethod
    def new_worker(self, tick_seconds: float | None = None) -> Worker[T]:
        """Returns a worker without tasks; raises OSError if no descriptor is left."""

    def schedule(self, task: T) -> None:
        """Has a task stepped soon, by its worker or by the lead; from any thread.

        Raises:
            RequestError: No thread can be started; the task belongs to no worker.
            OSError: No descriptor is left; the task belongs to no worker.
        """
        with self.lock:
            worker = task.worker
            if worker is None or task not in worker.tasks:  # new, or from before a fork
                self.lead = worker = self.lead or self.new_worker()
                worker.add(task)
            worker.wake_for(task)
        try:
            worker.start()
        except RequestError as error:
            self.forget(task)
            if worker.give_up():
                self.replace(worker, error)  # other tasks may have arrived in the meantime
            raise
        except BaseException:  # Ctrl-C: whether it has a thread is not known
            self._unset_lead(worker)
            raise

    def forget(self, task: T) -> None:
        """Ends the steps of a task; from any thread."""
        with self.lock:
            worker = task.worker
            if worker is not None and task in worker.tasks:
                worker.remove(task)

    def retire(self, worker: Worker[T]) -> bool:
        """Returns whether a worker has no tasks; if so, it gets no more."""
        with self.lock:
            if worker.tasks:
                return False
            self._unset_lead(worker)
            return True

    def _unset_lead(self, worker: Worker[T]) -> None:
        with self.lock:
            if self.lead is worker:
                self.lead = None

    def replace(self, worker: Worker[T], error: BaseException) -> None:
        """Moves the tasks of a worker that has lost its thread to other workers, or ends them."""
        with self.lock:
            self._unset_lead(worker)
            tasks = [*worker.tasks]
            for task in tasks:
                worker.remove(task)
        worker.close()
        for task in tasks:
            try:
                if not worker.steps:  # another worker would not get any further
                    raise RequestError(str(error)) from error
                self.schedule(task)
            except (RequestError, OSError):
                end_with_error(task, error)

    def isolate(self, task: T, worker: Worker[T]) -> None:
        """Moves a slow task to a worker of its own, if there are others that it delays."""
        self._move(worker, lambda: [task] if worker.tasks > {task} else None, successor=False)

    def displace(self, worker: Worker[T], step: int) -> None:
        """Moves all tasks to a new lead, except the one in which this step is stuck."""

        def others() -> list[T] | None:
            # A step takes no lock: it resets `current`, and then reads `_is_displaced`. Here the
            # order is the opposite one, so one of the threads sees the change of the other.
            worker._is_displaced = True
            stuck = worker.current
            has_ended = stuck is None or worker.steps != step
            return None if has_ended else [each for each in worker.tasks if each is not stuck]

        self._move(worker, others, successor=True)

    def _move(
        self, worker: Worker[T], choose: Callable[[], list[T] | None], *, successor: bool
    ) -> None:
        with self.lock:
            tasks = choose() if self.lead is worker else None
            if tasks is None:
                return
            if not tasks:
                self.lead = None  # the next task gets another
                return
            try:
                target = self.new_worker(max(_SHORTEST_TICK_SECONDS, worker.tick_seconds / 2))
            except OSError:  # no descriptor is left: they stay, until it happens again
                return
            self._hand_over(tasks, worker, target)
            if successor:
                self.lead = target
        try:
            target.start()
        except RequestError:  # no thread can be started: they stay
            with self.lock:
                self._hand_over([*target.tasks], target, worker)
                if successor:
                    self.lead = worker
            target.close()

    def _hand_over(self, tasks: list[T], source: Worker[T], target: Worker[T]) -> None:
        for task in tasks:
            source.remove(task)
            target.add(task)
            target.wake_for(task)


class Worker(ABC, Generic[T]):
    """A thread that steps tasks of a pool, until it has had none for a moment."""

    name: str  # of its thread
    max_step_seconds: float  # a step that lasts longer is charged to its task

    def __init__(self, pool: WorkerPool[T], tick_seconds: float | None) -> None:
        self.tasks: set[T] = set()  # changed under the lock of the pool
        self.current: T | None = None  # the task that is being stepped
        self.steps = 0  # that have begun
        self._is_displaced = False  # other tasks may be moving; see `WorkerPool.displace`
        self.tick_seconds = tick_seconds or _TICK_SECONDS
        self._pool = pool
        self._lock = pool.lock
        self._thread: Thread | None = None
        self._watchdog: Thread | None = None
        self._is_retired = False
        self._retirement = Lock()  # released then; waiting for it is cheaper than for an Event
        self._retirement.acquire()
        self.step_began = 0.0  # in seconds of monotonic()
        self._charges: dict[T, float] = {}  # seconds; changed under the lock of the pool
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the tasks, in the child: they are the parent's."""
        self.tasks = set()

    # --- under the lock of the pool ---

    def add(self, task: T) -> None:
        task.worker = self
        self.tasks.add(task)

    def remove(self, task: T) -> None:
        task.worker = None
        self.tasks.discard(task)
        self._charges.pop(task, None)

    @abstractmethod
    def wake_for(self, task: T) -> None:
        """Has the thread step this task soon; never blocks."""

    # --- its thread ---

    def start(self) -> None:
        """Starts its thread, and with two tasks its watchdog, unless they run.

        Not under the lock: starting waits for the thread, which may first collect garbage that
        needs the lock.

        Raises:
            RequestError: No thread can be started.
        """
        with self._lock:
            thread = watchdog = None
            if self._is_retired:  # its tasks are about to move
                return
            if self._thread is None:
                daemon = self._pool.daemon
                self._thread = thread = Thread(target=self._run, name=self.name, daemon=daemon)
            if self._watchdog is None and len(self.tasks) > 1:
                self._watchdog = watchdog = Thread(
                    target=self._run_watchdog, name="rxmistral-watchdog", daemon=True
                )
        # In an empty context, if threads inherit one: it also serves other subscribers.
        if thread is not None:
            try:
                Context().run(start_thread, thread)
            except RequestError:
                self._thread = None
                raise
        if watchdog is not None:
            with suppress(RequestError):  # no thread can be started: there is no watchdog
                Context().run(start_thread, watchdog)

    def give_up(self) -> bool:
        """Prevents it from getting a thread; returns False if another call has started one."""
        with self._lock:
            if self._thread is not None:
                return False
            self._retire()
            return True

    def _run(self) -> None:
        try:
            is_idle = False
            while not (is_idle and self._pool.retire(self)):
                had_tasks, steps = bool(self.tasks), self.steps
                self.run_once(None if had_tasks else _IDLE_SECONDS)
                is_idle = not had_tasks and self.steps == steps
        except BaseException as error:
            self._pool.replace(self, error)
            raise
        self.close()
        record_thread_exit()

    @abstractmethod
    def run_once(self, seconds: float | None) -> None:
        """Waits for tasks that can go on, sets `step_began`, and steps each of them.

        Args:
            seconds: How long to wait at most; None: no limit.
        """

    def close(self) -> None:
        """Called once, when it has no task and gets no more."""
        self._retire()

    def _retire(self) -> None:
        with self._lock:
            if not self._is_retired:
                self._is_retired = True
                self._retirement.release()

    def step(self, task: T) -> bool:
        """Runs one step; returns whether there is more to do, perhaps for another worker."""
        if task.worker is not self:  # it has ended, or has another worker
            return False
        more = False
        self.steps += 1
        self.current = emitting.source = task
        try:
            more = task.context.run(task.step)
        except BaseException as error:  # of a callback: it ends its own stream, no other
            report_unhandled(error)
        if not more:  # otherwise the next step sets it
            emitting.source = None
        self.current = None
        if self._is_displaced:
            with self._lock:  # which is held while the other tasks move
                self._is_displaced = False
        now = monotonic()
        overrun = now - self.step_began - self.max_step_seconds
        self.step_began = now
        if overrun > 0 or self._charges:
            self._charge(task, overrun)
        return more

    def _charge(self, task: T, overrun: float) -> None:
        seconds = min(overrun, _MAX_CHARGE_SECONDS) if overrun > 0 else -_REFUND_SECONDS
        with self._lock:
            if task not in self.tasks:
                return
            charges = self._charges.pop(task, 0.0) + seconds
            if 0 < charges <= _CREDIT_SECONDS:
                self._charges[task] = charges
        if charges > _CREDIT_SECONDS:
            self._pool.isolate(task, self)

    def _run_watchdog(self) -> None:
        seen, on_time, calm, seconds = self.steps, 0, 0, self.tick_seconds
        while True:
            began = monotonic()
            if self._retirement.acquire(timeout=seconds) or self._pool.lead is not self:
                return
            is_late = monotonic() - began > 2 * seconds
            seconds = self.tick_seconds
            if self.steps != seen or self.current is None:
                seen, on_time, calm = self.steps, 0, calm + 1
                seconds *= _CALM_FACTOR
                if calm % _CALM_TICKS == 0:
                    self.tick_seconds = min(_TICK_SECONDS, 2 * self.tick_seconds)
            elif not is_late:
                on_time += 1
                if on_time == _STUCK_TICKS:
                    on_time = calm = 0
                    self._pool.displace(self, seen)


def end_with_error(task: Task, error: BaseException) -> None:
    """Ends a task that nothing can step, and reports an exception of its callbacks."""
    try:
        task.fail(error)
    except BaseException as raised:
        report_unhandled(raised)
