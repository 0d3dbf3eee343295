"""Stream: an Observable that you can also `for`, `async for`, `await` and `with`.

A Stream is cold: nothing happens until somebody reads, and each reader is a
subscription of its own. How a Stream is read decides on whose thread the items come:

    subscribe(...)   on the thread that emits them, as they come
    for, run()       on the thread of the loop, over a hop (see `iteration`)
    async for, await on the event loop, over a hop

Leaving a loop early, however it is left, disposes the subscription.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import wraps
from inspect import isfunction
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload
from weakref import WeakSet

import reactivex
from reactivex import Observable, abc
from reactivex.internal import SequenceContainsNoElementsError
from reactivex.observable import ConnectableObservable

from .iteration import AsyncIteration, being_iterated, iterate

__all__ = ["ConnectableStream", "Stream"]

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
T_out = TypeVar("T_out", covariant=True)

Operator = Callable[[Observable[A]], Observable[B]]


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

    if TYPE_CHECKING:
        # The fluent methods that a loop over the result is likely for, as they are; all
        # others give Streams as well, but are typed as the base types them.
        def map(self, mapper: Callable[[T_out], A]) -> Stream[A]: ...
        def filter(self, predicate: Callable[[T_out], bool]) -> Stream[T_out]: ...
        def take(self, count: int) -> Stream[T_out]: ...
        def take_last(self, count: int) -> Stream[T_out]: ...
        def take_while(
            self, predicate: Callable[[T_out], bool], inclusive: bool = False
        ) -> Stream[T_out]: ...
        def skip(self, count: int) -> Stream[T_out]: ...
        def skip_while(self, predicate: Callable[[T_out], bool]) -> Stream[T_out]: ...
        def do_action(
            self,
            on_next: Callable[[T_out], None] | None = None,
            on_error: Callable[[Exception], None] | None = None,
            on_completed: Callable[[], None] | None = None,
        ) -> Stream[T_out]: ...
        def buffer_with_count(self, count: int, skip: int | None = None) -> Stream[list[T_out]]: ...

    def __add__(self, other: Observable[T_out]) -> Stream[T_out]:
        return Stream.of(super().__add__(other))

    __iadd__ = __add__

    def __getitem__(self, key: slice | int) -> Stream[T_out]:
        return Stream.of(super().__getitem__(key))

    # --- pull ---

    def __iter__(self) -> Iterator[T_out]:
        if not self._entered:
            return self._iterate()
        if self._run is None:
            self._run = self._iterate()
        return self._run

    def _iterate(self, scheduler: abc.SchedulerBase | None = None) -> Iterator[T_out]:
        return iterate(self, self._track_loop, scheduler)

    def __aiter__(self) -> AsyncIterator[T_out]:
        if not self._entered:
            return AsyncIteration(self, self._track_loop)
        if self._async_run is None:
            self._async_run = AsyncIteration(self, self._track_loop)
        return self._async_run

    def run(self, scheduler: abc.SchedulerBase | None = None) -> T_out:
        """Wait for the end; give the last item.

        Args:
            scheduler: For operators that keep time; a source reads on its own thread.

        Raises:
            SequenceContainsNoElementsError: It ended without any item.
        """
        last: T_out = _NOTHING
        for item in self._iterate(scheduler):
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

    def _track_loop(self, loop: abc.DisposableBase) -> None:
        self._track(loop, self._live)

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
