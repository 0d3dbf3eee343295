"""from_async_iterable: an async iterable as a source; a task pulls the items and emits them.

    thread of the event loop                                 any thread
      _create_task ◀────── call_soon_threadsafe ◀──────────── subscribe
        task:  anext ──▶ on_next ──▶ anext ──▶ ...
               waits while paused ◀── call_soon_threadsafe ◀── resume
               aclose ──▶ on_completed or on_error
      _cancel_task ◀────── call_soon_threadsafe ◀──────────── dispose

A consumer that is full pauses the source (see `backpressure`); then the task pulls nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from threading import Event, Lock, RLock, Thread, current_thread
from typing import Generic, TypeVar
from weakref import WeakSet, finalize

from reactivex import abc
from reactivex.internal import noop

from ..errors import RequestError, StoppedError
from .backpressure import emitting, running_loop
from .current_iteration import current_iteration
from .stream import Stream
from .subscriber import report_unhandled, reporting_unhandled
from .threads import add_to_scope, start_thread

__all__ = ["SubscriptionLoop", "from_async_iterable", "program_loop"]

T = TypeVar("T")

_NAME = "rxmistral-async"  # of threads and tasks


def from_async_iterable(
    iterable: AsyncIterable[T] | Callable[[], AsyncIterable[T]],
    *,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Stream[T]:
    """An async iterable into the Stream of its items.

    Each subscription iterates anew. An async iterator, such as the result of an async
    generator function, can be read only once; pass the function itself, so that each
    subscription calls it.

    An asyncio event loop pulls the items and runs the subscriber's callbacks. `dispose()` is
    safe from any thread and never blocks: on that event loop, it cancels the task that pulls,
    and an async generator is closed.

    Args:
        iterable: The async iterable, or a function without arguments that returns one.
        loop: The event loop that pulls; it has to run whenever there is a subscription. None:
            the first of these that is running at the subscription: the loop on which this
            function was called; the loop of the thread that subscribes; a new loop on a new
            thread, for that subscription alone.

    Emits: each item when it arrives. Nothing is pulled while a loop over the Stream cannot
        accept more items.
    Completes: when the iterable has ended.
    Errors: as the iterable does; `StoppedError` if its task is cancelled other than by
        `dispose()`, for example at the end of `asyncio.run`. `RuntimeError` if an iterator is
        subscribed to for the second time, or if `loop` is not running. `RuntimeError` in a
        `for` loop or `run()` that would block the event loop which has to pull the items.

    >>> async def count():
    ...     for number in range(3):
    ...         yield number
    >>> list(from_async_iterable(count))
    [0, 1, 2]
    """
    is_iterable = isinstance(iterable, AsyncIterable) or callable(iterable)
    if not is_iterable:
        kind = type(iterable).__name__
        raise TypeError(f"expected an async iterable, or a function that returns one, got {kind}")
    create_iterator = _iterator_factory(iterable)
    default_loop = loop or program_loop()
    if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(f"loop must be an asyncio event loop, got {type(loop).__name__}")

    def subscribe(
        observer: abc.ObserverBase[T], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        # The scheduler is for operators that measure time.
        running = default_loop
        if running is None or not running.is_running():
            running = program_loop()
        if loop is not None and running is not loop:
            raise RuntimeError("the loop passed to from_async_iterable is not running")
        if running is not None:
            _check_not_blocked(running)
        tasks = SubscriptionLoop(running)
        subscription = tasks.pull(create_iterator, observer)
        tasks.close()
        return subscription

    return Stream(subscribe)


def _check_not_blocked(loop: asyncio.AbstractEventLoop) -> None:
    iteration = current_iteration.get()
    if iteration is not None and iteration.waiting_loop is loop:
        raise RuntimeError(
            "this for loop or run() would block the event loop that has to pull its items,"
            " and wait forever: use async for, or await"
        )


_EXIT_SECONDS = 0.1  # for which the exit of the program waits for the end of a loop

_own_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""Event loops of one subscription, which other subscriptions must not use."""


def program_loop() -> asyncio.AbstractEventLoop | None:
    """Returns the program's event loop that is running on this thread."""
    loop = running_loop()
    return None if loop in _own_loops else loop


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.new_event_loop()
    except OSError as error:  # no file descriptor is left
        raise RequestError(f"no event loop can be created: {error}") from error


def _iterator_factory(
    iterable: AsyncIterable[T] | Callable[[], AsyncIterable[T]],
) -> Callable[[], AsyncIterator[T]]:
    """Returns a function that creates an iterator, but not twice from an iterator."""
    first_use = Lock()

    def create() -> AsyncIterator[T]:
        iterator = aiter(iterable if isinstance(iterable, AsyncIterable) else iterable())
        if iterator is iterable and not first_use.acquire(blocking=False):
            kind = type(iterable).__name__
            raise RuntimeError(
                f"this {kind} was read before, and can be read only once;"
                " pass the function that returns it to from_async_iterable"
            )
        return iterator

    return create


class SubscriptionLoop:
    """The event loop on which the async functions of one subscription run.

    It is the program's, or else one of our own. The own loop exists from the first task to
    `close()`, so that clients which belong to an event loop can be used by one task after the
    other. Its thread exists only while a task runs, since the interpreter waits for it.

    Args:
        loop: The program's event loop; None: one of our own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.context = _task_context()
        self._loop = loop
        self._finalizer: finalize[..., SubscriptionLoop] | None = None
        self._runner: asyncio.Runner | None = None  # of our own loop
        self.is_own = loop is None
        # The interpreter does not wait for a loop, see `current_iteration`.
        self._daemon = current_iteration.get() is not None or current_thread().daemon
        self._lock = RLock()  # reentrant, since garbage collection may dispose at any moment
        self._task_count = 0  # on our own loop
        self._has_thread = False
        self._is_closed = False  # no other task will start
        self._is_ending = False  # its thread ends the tasks, and closes the loop
        self._has_ended = Event()

    def pull(
        self,
        create_iterator: Callable[[], AsyncIterator[T]],
        observer: abc.ObserverBase[T],
        discard: Callable[[], object] = noop,
    ) -> _PullSubscription[T]:
        """Starts a task that pulls the items of an iterator and emits them.

        Args:
            create_iterator: Called by the task.
            observer: Called by the task, with the items and the end.
            discard: Called instead of `create_iterator` if the task is disposed before it starts.
        """
        subscription = _PullSubscription(create_iterator, observer, self, discard)
        add_to_scope(subscription)
        # Not at once, even if tasks are eager: the subscriber must have its Disposable first.
        try:
            if self.is_own:
                self._start_on_own_loop(subscription.create_task)
            elif not self.call_soon(subscription.create_task):
                raise StoppedError
        except BaseException:
            discard()
            raise
        return subscription

    def call_soon(self, work: Callable[[], object]) -> bool:
        """Calls a function on the loop; returns False if the loop is closed, with its tasks."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(work, context=self.context)
        except RuntimeError:
            return False
        return True

    def _start_on_own_loop(self, work: Callable[[], object]) -> None:
        with self._lock:
            if self._is_closed:
                raise StoppedError
            if self._runner is None:
                self._loop = loop = _new_event_loop()
                self._runner = asyncio.Runner(loop_factory=lambda: loop)
                _own_loops.add(loop)
                # Of an abandoned subscription, or at the exit of the interpreter.
                self._finalizer = finalize(self, _close_idle, loop, self._has_ended)
            runner = self._runner
            self._task_count += 1
            starts, self._has_thread = not self._has_thread, True
            self.call_soon(work)
        if not starts:
            return
        run = reporting_unhandled(self._run)
        thread = Thread(target=run, args=(runner,), name=_NAME, daemon=self._daemon)
        try:
            Context().run(start_thread, thread)
        except BaseException:
            with self._lock:
                self._loop, self._runner, self._has_thread = None, None, False
                self._task_count = 0
            _close_idle(runner.get_loop(), self._has_ended)
            raise

    def _run(self, runner: asyncio.Runner) -> None:
        ends = True  # also after an exception, with all tasks
        try:
            while True:
                runner.get_loop().run_forever()
                with self._lock:
                    if not self._task_count:
                        self._has_thread = ends = self._is_closed
                        return
        finally:
            if ends:
                self._is_closed = self._is_ending = True
                # At the exit, the finalizer may close the loop at this moment: one of both does.
                if self._finalizer is not None and self._finalizer.detach():
                    runner.close()
                self._has_ended.set()

    def task_ended(self) -> None:
        """Ends the thread of our own loop after its last task; called on the loop."""
        if not self.is_own:
            return
        with self._lock:
            self._task_count -= 1
            if self._task_count == 0 and self._loop is not None and not self._is_ending:
                self._loop.stop()

    def close(self) -> None:
        """Closes our own loop after the tasks that run; from any thread, without blocking."""
        with self._lock:
            self._is_closed = True
            if self.is_own and self._loop is not None and not self._has_thread:
                _close_idle(self._loop, self._has_ended)


def _close_idle(loop: asyncio.AbstractEventLoop, has_ended: Event) -> None:
    try:
        loop.close()
    except RuntimeError:  # it runs, on a daemon thread at the exit of the program: mostly its end
        has_ended.wait(_EXIT_SECONDS)
        with suppress(RuntimeError):
            loop.close()


class _PullSubscription(abc.DisposableBase, Generic[T]):
    """One subscription: the task that pulls; its Disposable; and a source that can be paused."""

    def __init__(
        self,
        create_iterator: Callable[[], AsyncIterator[T]],
        observer: abc.ObserverBase[T],
        loop: SubscriptionLoop,
        discard: Callable[[], object],
    ) -> None:
        self._is_paused = False
        self._resumed = asyncio.Event()
        self._create_iterator = create_iterator
        self._observer = observer
        self._loop = loop
        self._discard = discard
        self._task: asyncio.Task[None] | None = None
        self._is_disposed = False
        self._is_closing = False

    # --- any thread ---

    def dispose(self) -> None:
        if not self._is_disposed:
            self._is_disposed = True
            self._loop.call_soon(self._cancel_task)

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._loop.call_soon(self._resumed.set)

    # --- the loop's thread ---

    def create_task(self) -> None:
        asyncio.get_running_loop().create_task(self._pull(), name=_NAME)

    def _cancel_task(self) -> None:
        if self._task is not None and not self._is_closing:
            self._task.cancel()

    async def _pull(self) -> None:
        """Emits all items, closes the iterator, and then emits at most one terminal."""
        try:
            await self._emit_with_terminal()
        except Exception as error:  # of a callback that receives the terminal
            if not self._loop.is_own:  # which the program's loop logs
                raise
            report_unhandled(error)
        finally:
            self._loop.task_ended()

    async def _emit_with_terminal(self) -> None:
        if self._is_disposed:
            self._discard()
            return
        self._task = asyncio.current_task()
        try:
            await self._emit_all(self._create_iterator())
        except asyncio.CancelledError as error:
            self._fail(StoppedError(), error)
            raise
        except Exception as error:
            if self._is_disposed:  # for the exception handler of the event loop
                raise
            self._observer.on_error(error)
        except BaseException as error:  # for the event loop; the subscriber must not wait forever
            self._fail(RuntimeError(f"the iterable or a callback raised {error!r}"), error)
            raise
        else:
            if not self._is_disposed:
                self._observer.on_completed()

    async def _emit_all(self, iterator: AsyncIterator[T]) -> None:
        try:
            async for item in iterator:
                if not self._is_disposed:
                    self._emit(item)
                while self._is_paused:
                    await self._resumed.wait()
                    self._resumed.clear()
                if self._is_disposed:  # before the next pull, which may be expensive
                    return
        finally:
            self._is_closing = True  # the cleanup of a generator is not cancelled
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

    def _emit(self, item: T) -> None:
        outer, emitting.source = emitting.source, self
        try:
            self._observer.on_next(item)
        finally:
            emitting.source = outer

    def _fail(self, error: Exception, cause: BaseException) -> None:
        if not self._is_disposed:
            error.__cause__ = cause
            self._observer.on_error(error)


def _task_context() -> Context:
    """Returns a copy of the subscriber's context without the current iteration: Streams that the
    iterable reads do not belong to that loop."""
    context = copy_context()
    context.run(current_iteration.set, None)
    return context
