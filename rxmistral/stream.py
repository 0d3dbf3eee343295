"""Stream: an Observable that you can also `for`, `async for`, `await` and `with`.

A Stream is cold: nothing happens until somebody reads, and each reader is a
subscription of its own. How a Stream is read decides on whose thread the items come:

    subscribe(...)   on the thread that emits them, as they come
    for, run()       on the thread of the loop, over a hop
    async for, await on the event loop, over a hop

A hop is a queue of at most `_LIMIT` items between the emitting thread and the reading
one. Full, it makes the emitting thread wait; for a network source that means that
nothing more is read from the socket, and TCP slows the server down. Leaving a loop
early, however it is left, disposes the subscription.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial, wraps
from inspect import isfunction
from queue import Empty, SimpleQueue
from threading import RLock, Thread, get_ident
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload
from weakref import WeakSet

import reactivex
from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.internal import SequenceContainsNoElementsError
from reactivex.observable import ConnectableObservable
from reactivex.scheduler import CurrentThreadScheduler

__all__ = ["ConnectableStream", "Stream", "being_iterated", "operator"]

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
T_out = TypeVar("T_out", covariant=True)

Operator = Callable[[Observable[A]], Observable[B]]

being_iterated: ContextVar[abc.DisposableBase | None] = ContextVar(
    "rxmistral_being_iterated", default=None
)
"""The loop that subscribes now, where it is one that does; disposing it ends the loop.

A source that starts a thread makes it a daemon then: when the loop's own thread is gone
nobody will take the items, and a thread that waits for that must not keep the
interpreter from exiting. After a plain `subscribe` the thread is none, so that a script
which ends in one prints the whole answer."""


class Stream(Observable[T_out]):
    """An `Observable` with three faces; the result of any pipe on it is a Stream again.

    ```python
    stream.subscribe(print)                       # push
    for item in stream: ...                       # pull
    async for item in stream: ...                 # pull, on an event loop
    last = await stream                           # the last item; stream.run() likewise
    with stream as s: ...                         # one run, stopped on leaving
    ```

    An error of the Stream is raised from the loop, after the items that came before it.
    """

    _live: WeakSet[abc.DisposableBase] | None = None  # what close() has to dispose
    _entered = False
    _run: Iterator[Any] | None = None
    _async_run: AsyncIterator[Any] | None = None

    @staticmethod
    def of(observable: Observable[A]) -> Stream[A]:
        """Any Observable as a Stream.

        A synchronous Observable emits on the thread that subscribes; read one that
        never ends with `for`, which subscribes on a thread of its own, rather than
        with `async for`, which subscribes on the event loop.
        """
        if isinstance(observable, Stream):
            return observable
        if not isinstance(observable, Observable):
            raise TypeError(f"expected an Observable, got {type(observable).__name__}")
        if isinstance(observable, ConnectableObservable):
            return ConnectableStream(observable)
        return Stream(
            lambda observer, scheduler: observable.subscribe(observer, scheduler=scheduler)
        )

    # --- composition: a Stream stays a Stream ---

    @overload  # type: ignore[override]  # see the implementation
    def pipe(self, op1: Operator[T_out, A], /) -> Stream[A]: ...
    @overload
    def pipe(
        self, op1: Callable[[Observable[T_out]], A], op2: Callable[[A], Observable[B]], /
    ) -> Stream[B]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_out]], A],
        op2: Callable[[A], B],
        op3: Callable[[B], Observable[C]],
        /,
    ) -> Stream[C]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_out]], A],
        op2: Callable[[A], B],
        op3: Callable[[B], C],
        op4: Callable[[C], Observable[D]],
        /,
    ) -> Stream[D]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_out]], A],
        op2: Callable[[A], B],
        op3: Callable[[B], C],
        op4: Callable[[C], D],
        op5: Callable[[D], Observable[E]],
        /,
    ) -> Stream[E]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_out]], A],
        op2: Callable[[A], B],
        op3: Callable[[B], C],
        op4: Callable[[C], D],
        op5: Callable[[D], E],
        op6: Callable[[E], Observable[F]],
        /,
    ) -> Stream[F]: ...
    @overload
    def pipe(
        self,
        op1: Callable[[Observable[T_out]], A],
        op2: Callable[[A], B],
        op3: Callable[[B], C],
        op4: Callable[[C], D],
        op5: Callable[[D], E],
        op6: Callable[[E], F],
        op7: Callable[[F], Observable[G]],
        /,
    ) -> Stream[G]: ...
    @overload
    def pipe(self, op1: Callable[[Observable[T_out]], A], /) -> A: ...
    @overload
    def pipe(self, op1: Callable[[Observable[T_out]], A], op2: Callable[[A], B], /) -> B: ...
    @overload
    def pipe(self, /) -> Self: ...

    # What the last of many operators gives is an Observable; the base has overloads for
    # when it is not.
    def pipe(self, *operators: Callable[[Any], Any]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compose operators from left to right.

        Where the last operator gives an Observable the result is a Stream; where it
        gives Observables (`partition`), so are they; anything else is left as it is.
        """
        return _as_stream(reactivex.pipe(self, *operators))

    def __add__(self, other: Observable[T_out]) -> Stream[T_out]:
        return Stream.of(super().__add__(other))

    __iadd__ = __add__

    def __getitem__(self, key: slice | int) -> Stream[T_out]:
        return Stream.of(super().__getitem__(key))

    # --- pull ---

    def __iter__(self) -> Iterator[T_out]:
        if not self._entered:
            return _iterate(self)
        if self._run is None:
            self._run = _iterate(self)
        return self._run

    def __aiter__(self) -> AsyncIterator[T_out]:
        if not self._entered:
            return _AsyncIteration(self)
        if self._async_run is None:
            self._async_run = _AsyncIteration(self)
        return self._async_run

    def run(self, scheduler: abc.SchedulerBase | None = None) -> T_out:
        """Wait for the end; give the last item.

        Args:
            scheduler: For operators that keep time; a source reads on its own thread.

        Raises:
            SequenceContainsNoElementsError: It ended without any item.
        """
        last: T_out = _NOTHING
        for item in _iterate(self, scheduler):
            last = item
        return _something(last)

    def __await__(self) -> Generator[Any, None, T_out]:
        return self._last().__await__()

    async def _last(self) -> T_out:
        last: T_out = _NOTHING
        async for item in self:
            last = item
        return _something(last)

    # --- one run, and its end ---

    def __enter__(self) -> Self:
        """One run of the Stream: within the block every loop over it goes on with the
        same run, and leaving the block stops that and whatever subscribed to it."""
        if self._entered:
            raise RuntimeError("this Stream is already open in a with block")
        self._entered = True
        if self._live is None:
            self._live = WeakSet()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered = False
        self._run = self._async_run = None
        self._stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _stop(self) -> None:
        """Dispose what was subscribed since the Stream was opened; never blocks."""
        with _tracking:
            live, self._live = self._live, None
        for subscription in list(live or ()):
            subscription.dispose()

    def _track(
        self, subscription: abc.DisposableBase, live: WeakSet[abc.DisposableBase] | None
    ) -> None:
        """Have this disposed when the Stream is stopped, and the loop that reads it,
        wherever in a pipe that is: it would wait for ever.

        `live` is what the Stream had when the subscription began; where it has another
        by now it was stopped in between.
        """
        if live is None:
            return
        loop = being_iterated.get()
        tracked = [subscription] if loop is None else [subscription, loop]
        with _tracking:
            stopped = live is not self._live
            if not stopped:
                live.update(tracked)
        if stopped:
            for each in tracked:
                each.dispose()

    def _subscribe_core(
        self, observer: abc.ObserverBase[T_out], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        live = self._live
        subscription = super()._subscribe_core(observer, scheduler)
        self._track(subscription, live)
        return subscription


class ConnectableStream(Stream[T], ConnectableObservable[T]):  # pyright: ignore[reportIncompatibleMethodOverride]  # pipe, as above
    """What `publish()` and its like give: a Stream that emits once it is connected."""

    def __init__(self, connectable: ConnectableObservable[T]) -> None:
        ConnectableObservable.__init__(self, connectable.source, connectable.subject)

    def auto_connect(self, subscriber_count: int = 1) -> Stream[T]:
        return Stream.of(super().auto_connect(subscriber_count))


def operator(
    start: Callable[[abc.ObserverBase[B]], Callable[[A], None]],
) -> Callable[[Observable[A]], Stream[B]]:
    """An operator from what it does with each item.

    `start` is called for each subscription, with the observer it emits to, and gives
    the function that takes the items; its state lives in that function's closure.
    Errors and completion pass through.
    """

    def operate(source: Observable[A]) -> Stream[B]:
        def subscribe(
            observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return source.subscribe(
                start(observer), observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Stream(subscribe)

    return operate


def _giving_streams(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def fluent(self: Stream[Any], *args: Any, **kwargs: Any) -> Any:
        return _as_stream(method(self, *args, **kwargs))

    return fluent


def _inherit_fluent_methods() -> None:
    """Most of reactivex's fluent methods come through `pipe`, but not all of them."""
    for base in Observable.__mro__[1:]:
        for name, method in vars(base).items():
            if (
                isfunction(method)
                and name[0] != "_"
                and name not in vars(Stream)
                and name != "subscribe"
            ):
                setattr(Stream, name, _giving_streams(method))


def _as_stream(result: Any) -> Any:
    if isinstance(result, Observable):
        return Stream.of(result)
    if isinstance(result, (list, tuple)) and any(isinstance(each, Observable) for each in result):
        return type(result)(map(_as_stream, result))
    return result


_inherit_fluent_methods()

# Reentrant, since garbage collection may end an abandoned `with` block at any moment.
_tracking = RLock()

_NOTHING: Any = object()


def _something(last: T) -> T:
    if last is _NOTHING:
        raise SequenceContainsNoElementsError
    return last


# --- the hop ---------------------------------------------------------------------
#
# Emitting thread                 _Hop                       reading thread or loop
#   on_next ──▶ append ──▶ [ items, at most _LIMIT ] ──▶ popleft ──▶ the loop's body
#   waits in _pause()  ◀── make_room() when half empty
#                          wake() when `wanted`     ──▶ waits for its bell
#
# An item costs an append and a popleft and two looks at a flag; a lock is taken only
# by the side that has to wait. Each side raises its flag (`wanted`, `paused`) and then
# looks again before it sleeps, and the other acts first and then looks at the flag: so
# at least one of the two sees the other. A bell that rings once too often is harmless,
# since who wakes looks again.

_LIMIT = 512  # items; enough to let the two threads run in turns, little enough to hold

# Seconds after which who waits for his bell looks up. On Windows Ctrl-C does not
# interrupt a thread that waits for a lock.
_PATIENCE = 0.05 if sys.platform == "win32" else None


class _Hop(abc.DisposableBase, Generic[T]):
    """Takes items from the thread that emits them to one that takes them in turn."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self.items: deque[T] = deque()
        self.error: Exception | None = None
        self.ended = False
        self.wanted = False
        self.paused = False
        self._closed = False
        self._wake = wake
        self._room: SimpleQueue[None] = SimpleQueue()
        self._reading_thread = get_ident()
        self._subscription = SingleAssignmentDisposable()

    def subscribe_to(self, stream: Stream[T], scheduler: abc.SchedulerBase | None = None) -> None:
        def subscribe(*_: object) -> None:
            self._subscription.disposable = stream.subscribe(
                self.on_next, self.on_error, self.on_completed, scheduler=scheduler
            )

        token = being_iterated.set(self)
        try:
            # With the trampoline running, subscribe() gives its Disposable before the
            # current thread's scheduler emits: a source without end can be stopped.
            CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        except Exception as error:  # a subscribe that raises: the loop raises it
            self.on_error(error)
        finally:
            being_iterated.reset(token)

    # the emitting side

    def on_next(self, item: T) -> None:
        self.items.append(item)
        if self.wanted:
            self._ring()
        if len(self.items) >= _LIMIT:
            self._pause()

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.on_completed()

    def on_completed(self) -> None:
        self.ended = True
        self._ring()

    def _ring(self) -> None:
        self.wanted = False
        try:
            self._wake()
        except RuntimeError:  # the event loop is closed: nobody will ever take more
            self.dispose()

    def _pause(self) -> None:
        if get_ident() == self._reading_thread:
            return  # it cannot wait for itself: a source that emits where it is read
        while len(self.items) >= _LIMIT and not self._closed:
            self.paused = True
            if len(self.items) >= _LIMIT and not self._closed:
                self._room.get()
        self._room.put(None)  # pass it on: more than one thread may emit, and wait

    # the reading side

    def make_room(self) -> None:
        if len(self.items) <= _LIMIT // 2:
            self.paused = False
            self._room.put(None)

    def ending(self) -> Exception:
        """What to raise at the end. Not kept: it knows the frames that it was raised in."""
        error = StopAsyncIteration() if self.error is None else self.error
        self.dispose()
        return error

    def dispose(self) -> None:
        """End it for both sides, from any thread: what is still here is dropped, and
        what a source that cannot be stopped emits from now on."""
        if not self._closed:
            self._closed = True
            self.items.clear()
            self.items = deque(maxlen=0)
            self.error = None
            self.ended = True
            self._subscription.dispose()
            self._room.put(None)
            self._ring()


def _iterate(
    stream: Stream[T], scheduler: abc.SchedulerBase | None = None
) -> Generator[T, None, None]:
    """The items of one subscription; closing the generator disposes it.

    It subscribes on a thread of its own: a source that emits while it is subscribed to
    then fills the hop and waits, where on this thread it would never return.
    """
    bell: SimpleQueue[None] = SimpleQueue()
    hop: _Hop[T] = _Hop(partial(bell.put, None))
    items = hop.items
    stream._track(hop, stream._live)
    try:
        Thread(
            target=hop.subscribe_to,
            args=(stream, scheduler),
            name="rxmistral-subscribe",
            daemon=True,
        ).start()
        while True:
            ended = hop.ended  # asked first: what came before the end is in items by now
            while items:
                yield items.popleft()
                if hop.paused:
                    hop.make_room()
            if ended:
                break
            hop.wanted = True
            if not items and not hop.ended:
                with suppress(Empty):
                    bell.get(timeout=_PATIENCE)
        if hop.error is not None:
            raise hop.error
    finally:
        hop.dispose()


class _AsyncIteration(AsyncIterator[T]):
    """The items of one subscription, on the event loop that first asks for one.

    A class and not an async generator: `break` leaves an async generator to the
    loop's garbage collection, this is disposed as soon as nobody holds it.
    """

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._hop: _Hop[T] | None = None
        self._taken = 0  # since it last had to wait
        self._waiting = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        hop = self._hop or self._start()
        items = hop.items
        if self._taken >= _LIMIT:
            self._taken = 0
            await self._let_others_run()
        while not items:
            if self._taken > 1:  # a burst: let it grow, a bell for each few items costs more
                await self._let_others_run()
            else:
                await self._wait(hop)
            self._taken = 0
        self._taken += 1
        item = items.popleft()
        if hop.paused:
            hop.make_room()
        return item

    def _start(self) -> _Hop[T]:
        self._bell = _LoopBell()
        self._hop = hop = _Hop[T](self._bell.ring)
        self._stream._track(hop, self._stream._live)
        hop.subscribe_to(self._stream)
        return hop

    async def _wait(self, hop: _Hop[T]) -> None:
        """Until an item is there; raises where none will come."""
        ended = hop.ended
        if hop.items:
            return
        if ended:
            raise hop.ending()
        if self._waiting:  # its bell would be lost
            raise RuntimeError("another task is waiting for the next item of this run")
        self._bell.prepare()
        hop.wanted = True
        if not hop.items and not hop.ended:
            self._waiting = True
            try:
                await self._or_dispose(self._bell.rung)
            finally:
                self._waiting = False

    async def _let_others_run(self) -> None:
        """A source as fast as its reader would otherwise keep the loop to itself."""
        await self._or_dispose(asyncio.sleep(0))

    async def _or_dispose(self, awaitable: Any) -> None:
        try:
            await awaitable
        except BaseException:  # the task was cancelled: let go of the socket now
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if self._hop is not None:
            self._hop.dispose()

    def __del__(self) -> None:
        if self._hop is not None:
            self._hop.dispose()


class _LoopBell:
    """Rung on any thread, heard on the event loop it was made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.prepare()

    def prepare(self) -> None:
        self.rung: asyncio.Future[None] = self._loop.create_future()

    def ring(self) -> None:
        self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.rung.done():
            self.rung.set_result(None)
