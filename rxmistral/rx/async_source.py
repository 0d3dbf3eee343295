"""An async iterable as a source: a task pulls its items, and emits them as they come.

    event loop's thread                                      any thread
      _begin ◀──────────── call_soon_threadsafe ◀──────────── subscribe
        task:  anext ──▶ on_next ──▶ anext ──▶ ...
               waits while paused ◀── call_soon_threadsafe ◀── resume
               aclose ──▶ on_completed or on_error
      _leave ──▶ cancels the task ◀── call_soon_threadsafe ◀── dispose

The thread of an event loop must not wait, since all tasks of the loop would wait with it:
who cannot take more pauses the source (see `backpressure`), and then nothing is pulled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from threading import Lock, Thread
from typing import Generic, TypeVar
from weakref import WeakSet

from reactivex import abc

from ..errors import RequestError, StoppedError
from .backpressure import emitting
from .iteration import HandOffQueue, being_iterated
from .stream import Stream
from .subscriber import reporting_unhandled
from .threads import add_to_scope, start_thread

__all__ = ["from_async_iterable"]

T = TypeVar("T")


def from_async_iterable(
    iterable: AsyncIterable[T] | Callable[[], AsyncIterable[T]],
    *,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Stream[T]:
    """An async iterable into the Stream of its items.

    Cold: each subscription iterates anew. An async iterator, as the call of an async
    generator function is one, can be read once; give the function itself, and each
    subscription calls it.

    The items are pulled, and the subscriber's callbacks run, on an asyncio event loop: on
    `loop`; without it, on the loop that runs when this is called; if there is none, or it
    has stopped, on the loop that runs when the result is subscribed to; and otherwise on a
    loop of its own, on a thread of its own, for that subscription alone.

    Disposing is safe from any thread and never blocks: it cancels the task that pulls, and
    has an async generator closed, on that loop.

    Args:
        iterable: What to read, or a function without arguments that returns it.
        loop: The event loop to pull on, which has to run whenever there is a subscription.

    Emits: the items as they come. While a loop over the Stream cannot take more, none is
        pulled.
    Completes: when the iterable has ended.
    Errors: as the iterable does; `StoppedError` if its task is cancelled by anything but
        the disposal, as all tasks are when `asyncio.run` ends; `RuntimeError` if an iterator
        is subscribed to for the second time, if `loop` does not run, and in a `for` loop or
        `run()` on the thread of the event loop that would have to run meanwhile.

    >>> async def count():
    ...     for number in range(3):
    ...         yield number
    >>> list(from_async_iterable(count))
    [0, 1, 2]
    """
    _check(iterable)
    origin = _Origin(iterable)
    home = loop or _running_loop()
    if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):
        raise TypeError(f"loop must be an asyncio event loop, got {type(loop).__name__}")

    def subscribe(
        observer: abc.ObserverBase[T], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        # The scheduler is for operators that keep time; this keeps none.
        at = home if home is not None and home.is_running() else _running_loop()
        if loop is not None and at is not loop:
            raise RuntimeError("the loop given to from_async_iterable does not run")
        if at is not None:
            _check_that_it_can_run(at)
            pulling = _Pulling(origin, observer, at)
            add_to_scope(pulling)
            pulling.begin()
        else:
            pulling = _Pulling(origin, observer, _new_event_loop())
            add_to_scope(pulling)
            pulling.begin_on_own_thread()
        return pulling

    return Stream(subscribe)


def _check(iterable: object) -> None:
    if not isinstance(iterable, AsyncIterable) and not callable(iterable):
        kind = type(iterable).__name__
        raise TypeError(f"expected an async iterable, or a function that gives one, got {kind}")


def _check_that_it_can_run(loop: asyncio.AbstractEventLoop) -> None:
    reader = being_iterated.get()
    if isinstance(reader, HandOffQueue) and reader.waiting_loop is loop:
        raise RuntimeError(
            "this loop waits on the thread of the event loop that has to bring its items,"
            " and which cannot run meanwhile: use async for, or await"
        )


_own_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""Event loops of one subscription each, which end with it: no place for another one."""


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The program's event loop that runs on this thread."""
    with suppress(RuntimeError):
        loop = asyncio.get_running_loop()
        return None if loop in _own_loops else loop
    return None


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.new_event_loop()
    except OSError as error:  # no descriptor is left for it
        raise RequestError(f"no event loop can be made: {error}") from error


class _Origin(Generic[T]):
    """Gives an iterator for each subscription, if it can."""

    def __init__(self, iterable: AsyncIterable[T] | Callable[[], AsyncIterable[T]]) -> None:
        self._iterable = iterable
        self._once = Lock()

    def open(self) -> AsyncIterator[T]:
        iterable = self._iterable
        iterator = aiter(iterable if isinstance(iterable, AsyncIterable) else iterable())
        if iterator is iterable and not self._once.acquire(blocking=False):
            kind = type(iterable).__name__
            raise RuntimeError(
                f"this {kind} was read before, and can be read only once;"
                " give from_async_iterable the function that makes one"
            )
        return iterator


class _Pulling(abc.DisposableBase, Generic[T]):
    """One subscription: the task that pulls; also what disposes and what pauses it."""

    def __init__(
        self,
        origin: _Origin[T],
        observer: abc.ObserverBase[T],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.paused = False
        self._resumed = asyncio.Event()
        self._origin = origin
        self._observer = observer
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._disposed = False
        self._closing = False

    # --- any thread ---

    def begin(self) -> None:
        # Never at once, not even where tasks are eager: nothing is emitted before who
        # subscribes has the Disposable.
        self._loop.call_soon_threadsafe(self._begin, context=_own_context())

    def begin_on_own_thread(self) -> None:
        """A daemon where a loop reads it, as each source's; see `being_iterated`."""
        _own_loops.add(self._loop)
        try:
            start_thread(
                Thread(
                    target=reporting_unhandled(self._run),
                    args=(_own_context(),),
                    name="rxmistral-async",
                    daemon=True if being_iterated.get() is not None else None,
                )
            )
        except BaseException:
            self._loop.close()
            raise

    def dispose(self) -> None:
        if not self._disposed:
            self._disposed = True
            self._call(self._leave)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self._call(self._resumed.set)

    def _call(self, work: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and its tasks are over
            self._loop.call_soon_threadsafe(work)

    # --- the loop's thread ---

    def _run(self, context: Context) -> None:
        with (
            suppress(asyncio.CancelledError),
            asyncio.Runner(loop_factory=lambda: self._loop) as runner,
        ):
            runner.run(self._work(), context=context)

    def _begin(self) -> None:
        self._loop.create_task(self._work(), name="rxmistral-async")

    def _leave(self) -> None:
        if self._task is not None and not self._closing:
            self._task.cancel()

    async def _work(self) -> None:
        """All of it: at most one terminal, after the iterator is closed."""
        if self._disposed:
            return
        self._task = asyncio.current_task()
        try:
            await self._emit_all(self._origin.open())
        except asyncio.CancelledError as error:
            self._fail(StoppedError(), error)
            raise
        except Exception as error:
            if self._disposed:  # nobody takes it: for the loop's exception handler
                raise
            self._observer.on_error(error)
        except BaseException as error:  # for the loop; but nobody must wait for ever
            self._fail(RuntimeError(f"the iterable or a callback raised {error!r}"), error)
            raise
        else:
            if not self._disposed:
                self._observer.on_completed()

    async def _emit_all(self, iterator: AsyncIterator[T]) -> None:
        try:
            async for item in iterator:
                if not self._disposed:
                    self._emit(item)
                while self.paused:
                    await self._resumed.wait()
                    self._resumed.clear()
                if self._disposed:  # before it pulls: an item may cost something
                    return
        finally:
            self._closing = True  # what the generator does last is not cancelled
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
        if not self._disposed:
            error.__cause__ = cause
            self._observer.on_error(error)


def _own_context() -> Context:
    """That of who subscribes; but what the iterable reads is not what is iterated there."""
    context = copy_context()
    context.run(being_iterated.set, None)
    return context
