"""map_async: a call of an async function for each item, and the results of the calls.

    threads of the source        event loop
      on_next ──▶ [ inbox ] ──▶ call ──▶ [ its results ] ─┐
                                call ──▶ [ its results ] ─┴─▶ one task emits ──▶ observer
      paused while all slots are busy     waits while the observer cannot accept more

Strategy: everything but the inbox belongs to the event loop, and needs no lock. The task that emits
is an async generator over the calls, pulled as `from_async_iterable` pulls. It exists only while there
is something to do, so that a silent source keeps neither a thread nor a task: it ends when all
items are done, and the next item starts another. The lock protects this decision, once per item of
the source.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from functools import partial
from inspect import (
    isasyncgenfunction,
    isawaitable,
    iscoroutinefunction,
    isgeneratorfunction,
)
from threading import RLock
from typing import Any, Generic, TypeVar, overload

from reactivex import Observable, abc
from reactivex.disposable import (
    CompositeDisposable,
    SerialDisposable,
    SingleAssignmentDisposable,
)

from ..checks import check_callable, check_integer
from ..errors import StoppedError
from .async_source import SubscriptionLoop, program_loop
from .backpressure import Backpressure, emitting
from .state_machine import operate
from .stream import AsyncItems, AsyncResult, Stream

__all__ = ["check_async_function", "is_async_function", "map_async", "results_of"]

A = TypeVar("A")
B = TypeVar("B")

_MAX_RESULTS = 512  # that wait to be emitted; with more, a call waits

# Calls that have ended and wait for an earlier one, in order. With more, no other call starts, since
# one slow call would otherwise let the results of a long source pile up.
_MAX_WAITING_CALLS = 512


class Call(Generic[B]):
    """One call: its results that wait to be emitted, and whether these are all."""

    __slots__ = ("has_completed", "results")

    def __init__(self, results: deque[B]) -> None:
        self.results = results
        self.has_completed = False


class Calls(abc.ObserverBase[A], abc.DisposableBase, Generic[A, B]):
    """The observer of the source, and the calls for its items."""

    def __init__(
        self,
        function: Callable[[A], object],
        concurrency: int,
        ordered: bool,
        observer: abc.ObserverBase[B],
    ) -> None:
        self.source = SingleAssignmentDisposable()
        self._function = function
        self._concurrency = concurrency
        self.observer = observer
        self._loop = SubscriptionLoop(program_loop())
        # any thread; under the lock, which is reentrant, since garbage collection may dispose
        self._lock = RLock()
        self._inbox: deque[A] = deque()
        self._is_active = False  # a task emits, or is about to start
        self._is_completed = False  # the source
        self._error: Exception | None = None
        self._is_disposed = False
        self._emitting_task = SerialDisposable()
        self._backpressure = Backpressure()
        # the event loop
        self._was_last = False  # the task that is ending
        self._changed = asyncio.Event()
        self._room = asyncio.Event()  # for results
        self._running: set[asyncio.Task[None]] = set()
        self._in_order: deque[Call[B]] = deque()  # that have something to emit, or may have
        self._unordered: deque[B] | None = None if ordered else deque()

    # --- the source, on any thread ---

    def on_next(self, value: A) -> None:
        with self._lock:
            if self._is_disposed or self._error is not None:
                return
            self._inbox.append(value)
            starts, self._is_active = not self._is_active, True
        if starts:
            try:
                self._emitting_task.disposable = self._loop.pull(self._results, _TaskObserver(self))
            except Exception as error:  # no thread, or the loop is closed
                self.end(error)
        else:
            self._wake()
        if emitting.source is not None:
            self._backpressure.apply(emitting.source, self._is_full)

    def on_error(self, error: Exception) -> None:
        self._source_ended(error)

    def on_completed(self) -> None:
        self._source_ended(None)

    def _source_ended(self, error: Exception | None) -> None:
        with self._lock:
            self._is_completed, self._error = True, self._error or error
            is_active = self._is_active
        if is_active:
            self._wake()
        else:
            self.end(error)

    def _wake(self) -> None:
        if not self._loop.call_soon(self._changed.set):
            self.end(StoppedError())

    def _is_full(self) -> bool:
        is_busy = len(self._inbox) + len(self._running) >= self._concurrency
        return is_busy and not self._is_disposed

    # --- the end, on any thread ---

    def end(self, error: Exception | None) -> None:
        """Sends the terminal; the source is disposed first, so that a retry finds it closed."""
        self._error = None  # it refers to the frames that raise it, and they to this object
        if error is None:
            self.observer.on_completed()
        else:
            self.source.dispose()
            self.observer.on_error(error)

    def task_failed(self, error: Exception) -> None:
        """Sends the first error: a call that ends the event loop has the task cancelled."""
        self.end(self._error or error)

    def end_of_task(self) -> None:
        """Sends the terminal if this was the last task."""
        if self._was_last:
            self.end(self._error)

    def dispose(self) -> None:
        with self._lock:
            self._is_disposed = True
            self._inbox.clear()
        self._emitting_task.dispose()
        self._loop.close()
        self._backpressure.release()

    # --- the event loop ---

    async def _results(self) -> AsyncIterator[B]:
        """Yields the results of the calls, until there is nothing more to do."""
        try:
            while True:
                self._changed.clear()
                if self._error is None:
                    self._start_calls()
                else:
                    self._cancel_calls()
                drops = getattr(self._error, "drops_held_items", False)
                results = None if drops else self._ready()
                if results:
                    yield results.popleft()
                    if len(results) == _MAX_RESULTS // 2:
                        self._room.set()
                elif self._is_done():
                    return
                else:
                    await self._changed.wait()
        finally:
            self._cancel_calls()
            if self._running:
                await asyncio.wait(self._running)

    def _ready(self) -> deque[B] | None:
        """Returns the results to emit next, in their order."""
        if self._unordered is not None:
            return self._unordered
        calls = self._in_order
        while calls and calls[0].has_completed and not calls[0].results:
            calls.popleft()
        return calls[0].results if calls else None

    def _is_done(self) -> bool:
        with self._lock:
            if self._error is None and (self._inbox or self._running):
                return False
            # From here on, an item of the source starts another task, which may be the last.
            self._was_last = self._is_completed or self._error is not None
            self._is_active = self._was_last
            return True

    def _start_calls(self) -> None:
        most_waiting = self._concurrency + _MAX_WAITING_CALLS
        while self._inbox and len(self._running) < self._concurrency:
            if len(self._in_order) >= most_waiting:
                return
            try:
                item = self._inbox.popleft()
            except IndexError:  # disposed meanwhile
                return
            call = Call(deque[B]() if self._unordered is None else self._unordered)
            if self._unordered is None:
                self._in_order.append(call)
            context = self._loop.context.copy()
            task = asyncio.get_running_loop().create_task(self._run(call, item), context=context)
            self._running.add(task)
            task.add_done_callback(partial(self._call_ended, call))

    async def _run(self, call: Call[B], item: A) -> None:
        results = results_of(partial(self._result, item))
        try:
            async for result in results:
                call.results.append(result)
                self._changed.set()
                while len(call.results) >= _MAX_RESULTS:
                    self._room.clear()
                    await self._room.wait()
        except (SystemExit, KeyboardInterrupt) as error:  # ends the event loop, with all tasks
            self._error = self._error or _failure(error)
            raise
        finally:
            await results.aclose()

    def _result(self, item: A) -> object:
        """Calls the function, which must be async: one that blocks would block the loop."""
        result = self._function(item)
        if isawaitable(result) or isinstance(result, (Observable, AsyncIterable)):
            return result
        raise TypeError(
            "the function of map_async must return an awaitable, an Observable or an async "
            f"iterable, got {type(result).__name__}; call a function that is not async with map"
        )

    def _call_ended(self, call: Call[B], task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            error = StoppedError()
        elif error is not None and not isinstance(error, Exception):
            error = _failure(error)
        if error is None:
            call.has_completed = True
        else:
            self._error = self._error or error
            self.source.dispose()
        self._changed.set()
        if not self._is_full():
            self._backpressure.release()

    def _cancel_calls(self) -> None:
        for task in self._running:
            if not task.cancelling():  # a second request would interrupt its cleanup
                task.cancel()


def _failure(error: BaseException) -> RuntimeError:
    failure = RuntimeError(f"the function of map_async raised {error!r}")
    failure.__cause__ = error
    return failure


class _TaskObserver(abc.ObserverBase[B]):
    """The observer of the task that emits."""

    def __init__(self, calls: Calls[Any, B]) -> None:
        self._calls = calls

    def on_next(self, value: B) -> None:
        self._calls.observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self._calls.task_failed(error)

    def on_completed(self) -> None:
        self._calls.end_of_task()


@overload
def map_async(
    function: Callable[[A], AsyncItems[B]], concurrency: int = 1, ordered: bool = True
) -> Callable[[Observable[A]], Stream[B]]: ...
@overload
def map_async(
    function: Callable[[A], AsyncResult[B]], concurrency: int = 1, ordered: bool = True
) -> Callable[[Observable[A]], Stream[B]]: ...
def map_async(
    function: Callable[[A], AsyncResult[B]], concurrency: int = 1, ordered: bool = True
) -> Callable[[Observable[A]], Stream[B]]:
    """Any items into the results of an async function.

        --1--2--3---------|->
        ------a-----b--c--|->      a, b and c are the results of the calls with 1, 2 and 3

    Each call is a task on an asyncio event loop: on the one that runs in the thread that
    subscribes; without one, on an event loop of this subscription on a thread of its own. The
    subscriber's callbacks run there, too.

    Args:
        function: Called with each item, on the event loop. Returns a Stream, any other
            Observable or an async iterable; an awaitable of one of these, all items of which
            are emitted, too; or an awaitable of anything else, which is one item.
        concurrency: The largest number of calls that run at a time; default 1.
        ordered: Whether the results are emitted in the order of the items. If False, they are
            emitted in the order in which they arrive. Default: True.

    Emits: the result of each call; all items of an Observable or of an async iterable.
    Holds: results whose turn has not come. A call that has 512 of them waits. Items that
        arrive while all calls are running; a source that can be paused is paused instead.
    Completes: when the source and all calls have.
    Errors: as the source and the calls do; `TypeError` if the function returns anything else,
        as it then is not async: use `map`. The results that are next in order are emitted
        first, and calls that are running are cancelled. `StoppedError` if a call is cancelled
        other than by `dispose()`, for example at the end of `asyncio.run`.

    >>> import asyncio, reactivex
    >>> async def translate(word):
    ...     await asyncio.sleep(0.001)
    ...     return {"eins": "one", "zwei": "two"}[word]
    >>> words = Stream.of(reactivex.of("eins", "zwei"))
    >>> list(words.pipe(map_async(translate, concurrency=2)))
    ['one', 'two']
    """
    check_async_function("function", function)
    check_integer("concurrency", concurrency)
    if not isinstance(ordered, bool):
        raise TypeError(f"ordered must be a bool, got {type(ordered).__name__}")

    def subscribe_to(
        stream: Stream[A], observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        calls: Calls[A, B] = Calls(function, concurrency, ordered, observer)
        calls.source.disposable = stream.subscribe(calls, scheduler=scheduler)
        return CompositeDisposable(calls.source, calls)

    return operate(subscribe_to)


async def results_of(call: Callable[[], object]) -> AsyncGenerator[Any, None]:
    """Yields the items of what a function returns, or of what its awaitable returns.

    Those are all items of an Observable or of an async iterable; anything else is one item.
    """
    result: Any = call()
    if isawaitable(result) and not isinstance(result, (Observable, AsyncIterable)):
        result = await result
    if isinstance(result, Observable):
        result = Stream.of(result)
    if not isinstance(result, AsyncIterable):
        yield result
        return
    iterator = aiter(result)
    try:
        async for item in iterator:
            yield item
    finally:
        aclose = getattr(iterator, "aclose", None)
        if aclose is not None:
            await aclose()


def is_async_function(value: object) -> bool:
    """Returns whether a call runs nothing, and returns a coroutine or an async generator."""
    return any(
        iscoroutinefunction(function) or isasyncgenfunction(function)
        for function in (value, getattr(type(value), "__call__", None))  # noqa: B004  # to inspect it
    )


def check_async_function(name: str, value: object) -> None:
    """Raises TypeError unless `results_of` can read what the function returns."""
    check_callable(name, value)
    if isgeneratorfunction(value):
        raise TypeError(
            f"{name} must not be a generator function, whose items would not be emitted;"
            " make it an async generator function, with async def"
        )
