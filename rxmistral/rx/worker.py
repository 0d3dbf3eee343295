"""Worker threads that run many tasks in steps, and a watchdog that keeps one from delaying all.

    any thread        pool.schedule(task)
    worker's thread   wait ──▶ step(task), step(task), ... ──▶ wait ──▶ ...

A step never waits by itself, but it runs callbacks of the program, which may. All tasks of a pool
share one worker, the *lead*, as long as their callbacks return soon. Otherwise:

    slow     several steps in a row took too long: the task gets a worker of its own
    stuck    a step does not end: another worker becomes the lead, with all other tasks

# Strategy: on a busy machine, or under a CPU quota, any callback takes long by the clock, since
# its thread does not run. So neither judgement is made by the clock alone:
#
#   slow     needs several long steps of the same task, one after the other. A thread that is not
#            scheduled interrupts whichever task it is stepping, rarely the same one again.
#   stuck    needs several ticks of the watchdog within one step. A tick counts only if the
#            watchdog itself was woken on time: then the machine had time for both threads, and the
#            worker did not use it. A process that is stopped or throttled has no such ticks.
#
# A callback that blocks delays the others by `_TICK_SECONDS * _STUCK_TICKS`. If several block one
# after the other, the watchdog of each successor ticks faster, so that the last one does not wait
# for the sum.

Threads and descriptors may run out at any moment. A task that can get no other worker then stays
where it is. Whatever ends a thread, its tasks go to another, or end with an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from threading import Event, Thread
from typing import Any, Generic, Protocol, TypeVar

from ..errors import RequestError
from .backpressure import Pausable, emitting
from .clock import monotonic
from .subscriber import report_unhandled
from .threads import record_thread_exit, register_for_fork, start_thread

__all__ = ["Task", "Worker", "WorkerPool", "end_with_error"]

_SLOW_SECONDS = 0.008  # of a step; another thread may keep the interpreter for 5 ms
_SLOW_STEPS = 4  # in a row
_TICK_SECONDS = 0.05  # between two checks of a watchdog
_SHORTEST_TICK_SECONDS = 0.01
_STUCK_TICKS = 5  # on time, within one step


class Task(Pausable, Protocol):
    """Work that is done in steps.

    Attributes:
        worker: The worker that steps it now; belongs to the pool.
    """

    worker: Worker[Any] | None

    def step(self) -> bool:
        """Does what can be done without waiting; returns whether there is more to do now."""
        ...

    def fail(self, error: BaseException) -> None:
        """Ends with an error, because no worker can step it."""
        ...


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
        """Returns a worker without tasks.

        Args:
            tick_seconds: Between two checks of its watchdog; None: the longest.

        Raises:
            OSError: There is no descriptor left.
        """

    def schedule(self, task: T) -> None:
        """Has a task stepped soon, by its worker or by the lead; from any thread.

        Raises:
            RequestError: No thread can be started; the task belongs to no worker.
            OSError: There is no descriptor left; likewise.
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
            self.bury(worker, error)  # other tasks may have arrived in the meantime
            raise
        except BaseException:  # Ctrl-C: whether it has a thread is not known
            self._depose(worker)
            raise

    def forget(self, task: T) -> None:
        """Has a task not stepped any longer; from any thread."""
        with self.lock:
            worker = task.worker
            if worker is not None and task in worker.tasks:
                worker.remove(task)

    def retire(self, worker: Worker[T]) -> bool:
        """Returns whether a worker has no tasks; then it gets none from now on."""
        with self.lock:
            if worker.tasks:
                return False
            self._depose(worker)
            return True

    def _depose(self, worker: Worker[T]) -> None:
        with self.lock:
            if self.lead is worker:
                self.lead = None

    def bury(self, worker: Worker[T], error: BaseException) -> None:
        """Has other workers step the tasks of one that has lost its thread, or ends them."""
        with self.lock:
            self._depose(worker)
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
        self._move(worker, lambda: [task] if len(worker.tasks) > 1 else None, successor=False)

    def displace(self, worker: Worker[T], step: int) -> None:
        """Moves all tasks but the one that this step is stuck in to a new lead."""

        def others() -> list[T] | None:
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
            tick = max(_SHORTEST_TICK_SECONDS, worker.tick_seconds / 2)
            try:
                taker = self.new_worker(tick if successor else None)
            except OSError:  # no descriptor is left: they stay, until it happens again
                return
            self._hand_over(tasks, worker, taker)
            if successor:
                self.lead = taker
        try:
            taker.start()
        except RequestError:  # no thread can be started: they stay
            with self.lock:
                self._hand_over([*taker.tasks], taker, worker)
                if successor:
                    self.lead = worker
            taker.close()

    def _hand_over(self, tasks: list[T], giver: Worker[T], taker: Worker[T]) -> None:
        for task in tasks:
            giver.remove(task)
            taker.add(task)
            taker.wake_for(task)


class Worker(ABC, Generic[T]):
    """A thread that steps the tasks of a pool; it lives as long as it has any.

    Attributes:
        tasks: All that it steps. Changed under the lock of the pool.
        current: The task that is being stepped.
        steps: How many steps it has begun.
    """

    name: str  # of its thread

    def __init__(self, pool: WorkerPool[T], tick_seconds: float | None) -> None:
        self.tasks: set[T] = set()
        self.current: T | None = None
        self.steps = 0
        self.tick_seconds = tick_seconds or _TICK_SECONDS
        self._pool = pool
        self._thread: Thread | None = None
        self._watchdog: Thread | None = None
        self._retired = Event()
        self._step_began = 0.0
        self._slow_steps: dict[T, int] = {}  # in a row; of the tasks that have any
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

    @abstractmethod
    def wake_for(self, task: T) -> None:
        """Has the thread step this task soon; never blocks."""

    # --- its thread ---

    def start(self) -> None:
        """Starts its thread, and its watchdog as soon as there are two tasks, if they do not
        run yet. Not under the lock: starting waits for the thread, which may have garbage to
        collect first that wants the lock.

        Raises:
            RequestError: No thread can be started.
        """
        with self._pool.lock:
            thread = watchdog = None
            if self._thread is None:
                daemon = self._pool.daemon
                self._thread = thread = Thread(target=self._run, name=self.name, daemon=daemon)
            if self._watchdog is None and len(self.tasks) > 1:
                self._watchdog = watchdog = Thread(
                    target=self._run_watchdog, name="rxmistral-watchdog", daemon=True
                )
        # In an empty context, if threads inherit one: it serves others than the one that starts it.
        if thread is not None:
            try:
                Context().run(start_thread, thread)
            except RequestError:
                self._thread = None
                raise
        if watchdog is not None:
            with suppress(RequestError):  # no thread can be started: it does without
                Context().run(start_thread, watchdog)

    def _run(self) -> None:
        try:
            while not self._pool.retire(self):
                self.run_once()
        except BaseException as error:
            self._pool.bury(self, error)
            raise
        self.close()
        record_thread_exit()

    @abstractmethod
    def run_once(self) -> None:
        """Waits for tasks that can go on, calls `begin_steps`, and steps each of them."""

    def close(self) -> None:
        """Frees what it has; called once, when it has no task any longer."""
        self._retired.set()

    def begin_steps(self) -> None:
        """Starts the clock of the next step."""
        self._step_began = monotonic()

    def step(self, task: T) -> bool:
        """Runs one step; returns whether the task has more to do. It may be another's by then."""
        if task.worker is not self:  # it has ended, or has another worker by now
            return False
        more = False
        self.steps += 1
        self.current = task
        emitting.source = task
        try:
            more = task.step()
        except BaseException as error:  # of a callback: it ends its own stream, no other
            report_unhandled(error)
        finally:
            emitting.source = None
            with self._pool.lock:  # not while another worker takes over all but the current task
                self.current = None
        began, self._step_began = self._step_began, monotonic()
        if self._step_began - began > _SLOW_SECONDS:
            self._note_slow_step(task)
        elif self._slow_steps:
            self._slow_steps.pop(task, None)
        return more

    def _note_slow_step(self, task: T) -> None:
        steps = self._slow_steps.get(task, 0) + 1
        if steps < _SLOW_STEPS:
            self._slow_steps[task] = steps
        else:
            self._slow_steps.pop(task, None)
            self._pool.isolate(task, self)

    # --- its watchdog ---

    def _run_watchdog(self) -> None:
        seen = on_time = 0
        while True:
            began = monotonic()
            if self._retired.wait(self.tick_seconds) or self._pool.lead is not self:
                return
            late = monotonic() - began > 2 * self.tick_seconds
            if self.steps != seen or self.current is None:
                seen, on_time = self.steps, 0
                self.tick_seconds = min(_TICK_SECONDS, 2 * self.tick_seconds)
            elif not late:
                on_time += 1
                if on_time == _STUCK_TICKS:
                    on_time = 0
                    self._pool.displace(self, seen)


def end_with_error(task: Task, error: BaseException) -> None:
    """Ends a task that nothing can step; what a callback raises meanwhile is reported."""
    try:
        task.fail(error)
    except BaseException as raised:
        report_unhandled(raised)
