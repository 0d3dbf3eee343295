"""Stream: an Observable that you can also `for`, `async for`, `await` and `with`.

A Stream is cold: nothing happens until somebody reads, and each reader is a
subscription of its own. How a Stream is read decides on whose thread the items come:

    subscribe(...)   on the thread that emits them, as they come
    for, run()       on the thread of the loop, over a hop (see `iteration`)
    async for, await on the event loop, over a hop

Leaving a loop early, however it is left, disposes the subscription.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from functools import partial, wraps
from threading import RLock, get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload
from weakref import WeakSet

from reactivex import Observable, abc
from reactivex.internal import SequenceContainsNoElementsError
from reactivex.observable import ConnectableObservable
from reactivex.scheduler import CurrentThreadScheduler

from ..checks import check_integer, check_synchronous
from .history import CatchUp, Entry, WhenBehind, all_entries, all_items, catch_up_policy
from .iteration import AsyncIteration, HandOffQueue, being_iterated, iterate, leaving
from .sharing import SharedRun, check_shared
from .subscriber import Subscriber
from .threads import SubscriptionScope, fork_safe, subscription_scope

if TYPE_CHECKING:  # the type of what an answer knows of its end; nothing here makes one
    from ..outcome import Outcome

__all__ = ["ConnectableStream", "SharedStream", "Stream", "shared"]

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


class Answer(Protocol):
    """What streams are piped from, if it is the answer to a request."""

    @property
    def outcome(self) -> Outcome | None: ...

    def close(self) -> object: ...


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
    _answer: Answer | None = None  # that this was piped from

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
        # The observable's own subscribe() would put a second observer beside the Stream's.
        return Stream(observable._subscribe_core)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name}>" if self._answer is None else f"<{name} of {self._answer!r}>"

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
        result: Any = self
        for operator in operators:
            _check_operator(operator)
            result = _as_stream(operator(result), self)
        return result

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
        return _piped_from(self, Stream.of(super().__add__(other)))

    __iadd__ = __add__

    def __getitem__(self, key: slice | int) -> Stream[T_out]:
        return _piped_from(self, Stream.of(super().__getitem__(key)))

    # --- push ---

    def subscribe(
        self,
        on_next: abc.ObserverBase[T_out] | abc.OnNext[T_out] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Subscribes callbacks, or one observer, to the items and to the end.

        Returns before anything is received. The subscription ends exactly once: with
        `on_completed`, with `on_error` or by its disposal. An exception that `on_next`
        raises is passed to `on_error`.

        Args:
            on_next: Called with each item; or an observer, which has all three methods.
            on_error: Called with the error; without it the error is raised on the thread
                that emits, and reported on stderr.
            on_completed: Called at the end.
            scheduler: Keeps the time for operators that need one.

        Returns:
            A Disposable: `dispose()` never blocks, from any thread.

        Raises:
            TypeError: A callback is a coroutine function, which would never be awaited.
        """
        subscriber = Subscriber(on_next, on_error, on_completed)

        def subscribe(*_: object) -> None:
            subscriber.subscribe_with(partial(self._subscribe_core, subscriber, scheduler))

        # With the trampoline running, a source that emits on the current thread's scheduler
        # does so when the subscriber has its Disposable.
        CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        return subscriber

    # --- many viewers ---

    def shared(
        self, linger: float | None = None, max_items: int | None = None
    ) -> SharedStream[T_out]:
        """One run of this Stream, for any number of viewers.

            --a--b-----c----d--|->       the one subscription to this Stream
              a--b-----c----d--|->       the first viewer begins it
                     abc----d--|->       one that comes late, or after the end

        Cold until the first viewer comes; then there is exactly one subscription, and one
        request, however many come. Each is given all items from the first one on, those
        that are there at once, and then what comes; also after the end. None of them
        delays another, or the source (see `SharedStream.view`), and what the callback of
        one raises goes to its own `on_error`.

        Leaving is not stopping: the run goes on when nobody watches, and `stop()` ends it.

        Args:
            linger: Seconds after which a run that nobody watches any more is stopped; 0
                stops it when the last viewer leaves. None lets it go on to its end.
            max_items: How many items are kept, the last ones, so that a run without end
                has bounded memory; a viewer that subscribes too late, or is too slow, for
                one that is gone gets `LaggedError`. Text counts like any other item. None
                keeps all.

        Holds: each item once, as long as the result is kept; a viewer is a place in that.
        Errors: as the source does; and `StoppedError` where it was stopped.

        >>> import reactivex
        >>> numbers = Stream.of(reactivex.of(1, 2, 3)).shared()
        >>> numbers.run(), list(numbers)
        (3, [1, 2, 3])
        """
        return _piped_from(self, SharedStream(self, linger, max_items))

    # --- pull ---

    def __iter__(self) -> Iterator[T_out]:
        if not self._is_open_here():
            return self._iterate()
        if self._run is None:
            self._run = self._iterate()
        return self._run

    def _iterate(self, scheduler: abc.SchedulerBase | None = None) -> Iterator[T_out]:
        return iterate(self, self._track_loop, scheduler)

    def __aiter__(self) -> AsyncIterator[T_out]:
        if not self._is_open_here():
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

    @property
    def outcome(self) -> Outcome | None:
        """What became of the latest request of the answer that this was piped from; None
        while that goes on, and if there is no such answer."""
        return None if self._answer is None else self._answer.outcome

    def close(self) -> None:
        """Stops every reading of the answer that this was piped from; from any thread, and
        never blocks. A loop that reads it ends."""
        if self._answer is not None:
            self._answer.close()
        self._stop()
        if self._entered:
            self._live = WeakSet()

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
        with leaving:
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

    def _own_answer(self) -> Answer | None:
        return self._answer

    def _is_open_here(self) -> bool:
        return self._entered

    def _live_here(self) -> WeakSet[abc.DisposableBase] | None:
        return self._live

    def _track_loop(self, loop: abc.DisposableBase) -> None:
        self._track(loop, self._live_here())

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
        live = self._live_here()
        if live is None:
            return super()._subscribe_core(observer, scheduler)
        kept = SubscriptionScope()  # tracked first: Ctrl-C may interrupt what follows
        self._track(kept, live)
        with subscription_scope(kept):
            kept.add(super()._subscribe_core(observer, scheduler))
        return kept


class ConnectableStream(Stream[T], ConnectableObservable[T]):  # pyright: ignore[reportIncompatibleMethodOverride]  # pipe, as above
    """What `publish()` and its like give: a Stream that emits once it is connected."""

    def __init__(self, connectable: ConnectableObservable[T]) -> None:
        ConnectableObservable.__init__(self, connectable.source, connectable.subject)

    def auto_connect(self, subscriber_count: int = 1) -> Stream[T]:
        return _piped_from(self, Stream.of(super().auto_connect(subscriber_count)))


class SharedStream(Stream[T]):
    """One run and its viewers, see `Stream.shared`: each who subscribes is a viewer.

    A viewer's callbacks run on a thread that all viewers share; one that is slow, or
    blocks, gets a thread of its own. The interpreter waits, when it exits, for the end of
    a run that somebody subscribes to, whatever its source is, and not for one that is
    only looped over, or not watched.

    A `with` block leaves with the viewers that its own task or thread began in it, and
    stops nothing. As any Stream this can be open in one block at a time; where there are
    many of them, each opens a view or a pipe of its own.
    """

    _opener: object = None  # who has it open in a `with` block

    def __init__(
        self, source: Observable[T], linger: float | None = None, max_items: int | None = None
    ) -> None:
        check_shared(linger, max_items)
        self._shared_run = run = SharedRun[T](source, linger, max_items)
        super().__init__(lambda observer, _: run.join(observer, all_items))

    def __enter__(self) -> Self:
        """A place for its viewers; whoever else watches meanwhile stays when it is left."""
        opened = super().__enter__()
        self._opener = _here()
        return opened

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opener = None
        super().__exit__(kind, error, traceback)

    def _is_open_here(self) -> bool:
        return self._entered and self._opener == _here()

    def _live_here(self) -> WeakSet[abc.DisposableBase] | None:
        return self._live if self._opener == _here() else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._shared_run}>"

    def stop(self) -> None:
        """Cancel the run for all; from any thread, and never blocks.

        Viewers, those who are there and those who come later, are given what came, and
        then `StoppedError`. After the end it does nothing. One that is stopped before it
        began sends no request.
        """
        self._shared_run.stop()

    def view(self, when_behind: WhenBehind, max_items: int | None = None) -> Stream[T]:
        """The same run, for viewers who must not get far behind.

            --a--b--c--d--e--f--|->      what comes while a viewer is busy with a
              a-------------bcdef|->     "merge"
              a-------------f-----|->    "latest"
              a-------------X            "fail"

        Without a view a viewer gets every item as it came, however late, and nobody
        waits for it.

        Args:
            when_behind: What to do when it is more than `max_items` behind:
                "wait": the source waits for it, and so do all others. What was there
                when it joined does not count. A source that emits on an event loop
                cannot wait.
                "merge": give it all that it lacks as one `str`.
                "latest": give it the latest item only, and none that came before;
                for items that each replace the one before, such as snapshots.
                "fail": end it with `LaggedError`. What was there when it joined does not
                count.
            max_items: By default 1 for "merge" and "latest", which then give one item
                whenever there is more than one; and 512 for "wait" and "fail".

        Errors: as the run does; `LaggedError` for "fail"; `TypeError` for "merge" of what
            is no text.

        >>> import reactivex
        >>> words = Stream.of(reactivex.of("All ", "at ", "once.")).shared()
        >>> words.run()
        'once.'
        >>> list(words.view("merge"))
        ['All at once.']
        >>> list(words.view("latest"))
        ['once.']
        """
        return self._joined(*catch_up_policy(when_behind, max_items))

    def entries(self, after: int = 0) -> Stream[Entry[T]]:
        """All items after the one with this id, each with its own: from 1, in order.

        Raises:
            ValueError: `after` is less than 0.

        >>> import reactivex
        >>> words = Stream.of(reactivex.of("All ", "at ", "once.")).shared()
        >>> list(words.entries(after=1))
        [Entry(id=2, item='at '), Entry(id=3, item='once.')]
        """
        check_integer("after", after, 0)
        return self._joined(all_entries, None, after)

    def _joined(self, take: CatchUp, leeway: int | None, after: int = 0) -> Stream[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], _: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            live = self._live_here()
            viewer = self._shared_run.join(observer, take, after, leeway)
            self._track(viewer, live)
            return viewer

        return _piped_from(self, Stream(subscribe))


def shared(
    linger: float | None = None, max_items: int | None = None
) -> Callable[[Observable[T]], SharedStream[T]]:
    """Anything into one run of it, for any number of viewers; as `Stream.shared`.

        --a--b-----c----d--|->       the one subscription to the source
          a--b-----c----d--|->       the first viewer begins it
                 abc----d--|->       one that comes late, or after the end

    It shares what stands before it in the pipe; what stands after it is each viewer's own.
    At the end of a Stream's pipe the method says the same, and the type checkers know
    then that the result can be stopped: `answer.pipe(text()).shared()`.

    Args:
        linger: Seconds after which a run that nobody watches any more is stopped; 0 stops
            it when the last viewer leaves. None lets it go on to its end.
        max_items: How many items are kept, the last ones, be they text or not. None keeps
            all.

    Emits: to each viewer all items, those that are there at once and then what comes.
    Holds: each item once, as long as the result is kept.
    Completes: as the source does; for who comes later, too.
    Errors: likewise; `StoppedError` where it was stopped, by `stop()` or as `linger` says,
        and `LaggedError` for who needs an item that is not kept.

    >>> import reactivex
    >>> asked = []
    >>> ask = reactivex.defer(lambda _: asked.append("once") or reactivex.of("All ", "at ", "once."))
    >>> answer = ask.pipe(shared())
    >>> list(answer), answer.run(), asked
    (['All ', 'at ', 'once.'], 'once.', ['once'])
    """
    check_shared(linger, max_items)
    return lambda source: SharedStream(source, linger, max_items)


def _giving_streams(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def fluent(self: Stream[Any], *args: Any, **kwargs: Any) -> Any:
        return _as_stream(method(self, *args, **kwargs), self)

    return fluent


def _inherit_fluent_methods() -> None:
    """Most of reactivex's fluent methods come through `pipe`, but not all of them."""
    for base in Observable.__mro__[1:]:
        for name, method in vars(base).items():
            if (
                inspect.isfunction(method)
                and name[0] != "_"
                and name not in vars(Stream)
                and name != "subscribe"
            ):
                setattr(Stream, name, _giving_streams(method))


def _as_stream(result: Any, source: Stream[Any]) -> Any:
    if isinstance(result, Observable):
        return _piped_from(source, Stream.of(result))
    if isinstance(result, (list, tuple)) and any(isinstance(each, Observable) for each in result):
        return type(result)(_as_stream(each, source) for each in result)
    return result


S = TypeVar("S", bound=Stream[Any])


def _piped_from(source: Stream[Any], result: S) -> S:
    if result._answer is None and result is not source:
        result._answer = source._own_answer()
    return result


def _check_operator(operator: Any) -> None:
    """Raise TypeError for what can be told to be a mistake before it is called."""
    module = str(getattr(operator, "__module__", ""))
    if module.startswith("rxmistral.") and operator.__qualname__ == operator.__name__:
        # Operators are made by functions, inside of them; this is such a function itself.
        name = operator.__name__
        raise TypeError(f"{name} makes an operator and has to be called: pipe({name}(...))")
    if module.startswith("reactivex.") and inspect.isfunction(operator):
        # The closure of reactivex's do_action() has its callbacks (5.0 to 6.1); if it has
        # other names, this finds nothing.
        kept = inspect.getclosurevars(operator).nonlocals
        if getattr(kept.get("fun"), "__name__", "").startswith("do_action"):
            for callback in (*kept["args"], *kept["kwargs"].values()):
                check_synchronous("the callback of do_action()", callback)
        if operator.__name__ == "finally_action":
            check_synchronous("the action of finally_action()", kept.get("action"))


_inherit_fluent_methods()


def _here() -> object:
    """Who subscribes: a task, or a thread where there is none. A loop subscribes on another
    thread, for the one that reads it."""
    loop = being_iterated.get()
    if isinstance(loop, HandOffQueue) and loop.waiting_thread is not None:
        return loop.waiting_thread
    with suppress(RuntimeError):  # no event loop runs
        return asyncio.current_task() or get_ident()
    return get_ident()


# Reentrant, since garbage collection may end an abandoned `with` block at any moment.
_tracking = fork_safe(RLock())

_NOTHING: Any = object()


def _something(last: T) -> T:
    if last is _NOTHING:
        raise SequenceContainsNoElementsError
    return last
