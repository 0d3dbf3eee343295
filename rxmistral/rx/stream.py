"""Stream: an Observable that you can also `for`, `async for`, `await` and `with`.

The way of reading decides which thread receives the items:

    subscribe(...)      the thread that emits them, at once
    for, run()          the thread of the loop, through a queue (see `hand_off_queue`)
    async for, await    the event loop, through a queue

`pipe` and the methods of reactivex are in the base classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.internal import SequenceContainsNoElementsError
from reactivex.observable import ConnectableObservable
from reactivex.scheduler import CurrentThreadScheduler

from .fluent import missing_attribute
from .iteration import AsyncIteration, iterate
from .leaving import leaving
from .opened_loops import OpenedLoops
from .opened_run import OpenedRun
from .operator_subscriber import OperatorSubscriber
from .pipe import Pipe
from .subscriber import Subscriber, is_reading

if TYPE_CHECKING:
    from ..outcome import Outcome

__all__ = ["AnswerHandle", "AsyncItems", "AsyncResult", "ConnectableStream", "Stream"]

T = TypeVar("T")
A = TypeVar("A")
T_out = TypeVar("T_out", covariant=True)

# In place of a scheduler: operators pass on the one that they received, or None.
_BY_PROGRAM: Any = object()

_Items: TypeAlias = Observable[A] | AsyncIterable[A]

AsyncItems: TypeAlias = _Items[A] | Awaitable[_Items[A]]
"""The result of an async function that returns several items. Overloads list it before
`AsyncResult`: otherwise a type checker takes an awaited Stream for a single item."""

AsyncResult: TypeAlias = AsyncItems[A] | Awaitable[A]
"""The result of a function that is passed to `map_async`."""


class AnswerHandle(Protocol):
    """The answer to a request, as seen from the Streams that are piped from it."""

    @property
    def outcome(self) -> Outcome | None: ...

    def close(self) -> object: ...

    def track(self, reader: abc.DisposableBase) -> None:
        """Has `close()` end a subscription or a loop of the program."""


class Stream(Pipe[T_out]):
    """An Observable that can also be iterated and awaited.

    ```python
    stream.subscribe(print)                       # push
    for item in stream: ...                       # pull
    async for item in stream: ...                 # pull, on an event loop
    last = stream.run()                           # wait for the last item
    last = await stream                           # the last item, on an event loop
    with stream as opened: ...                    # one run, stopped at the end of the block
    ```

    A Stream is cold: each subscription, loop or `await` starts a new run of its source; each run
    of an answer is a request, and is paid for. Within a `with` block, everything that reads the
    Stream shares one run (see `__enter__`).

    A loop receives all items that precede an error, and then raises the error. Leaving a loop
    early disposes its subscription. `async for` and `await` read the socket on their own event
    loop, where operators and their callbacks run, too. The result of any pipe is a Stream again,
    or the subclass that the last operator returns; all methods that are not documented here are
    operators of reactivex, and return Streams, too.
    """

    _run: OpenedRun[Any] | None = None  # of the `with` block
    _loops: OpenedLoops[Any] | None = None  # of the block
    _answer: AnswerHandle | None = None  # the answer that this was piped from
    _remedy = "pass the operator of this name to pipe()"  # for a method of another class

    @staticmethod
    def of(observable: Observable[A]) -> Stream[A]:
        """Returns an Observable as a Stream.

        Read an Observable that emits endlessly while it is subscribed to with `for`, which
        subscribes on a separate thread, and not with `async for`, which blocks the event loop.

        Raises:
            TypeError: The argument is not an Observable.
        """
        if isinstance(observable, Stream):
            return observable
        if not isinstance(observable, Observable):
            raise TypeError(f"expected an Observable, got {type(observable).__name__}")
        if isinstance(observable, ConnectableObservable):
            return ConnectableStream(observable)
        # Calling the observable's subscribe() would add a second observer to each subscription.
        return Stream(observable._subscribe_core)

    if not TYPE_CHECKING:  # a type checker would accept any name

        def __getattr__(self, name: str) -> object:
            raise missing_attribute(self, name, self._remedy)

        def join(self, *args: object, **kwargs: object) -> object:
            if not (args or kwargs):  # that of text, which this class lacks
                raise missing_attribute(self, "join", self._remedy)
            return super().join(*args, **kwargs)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name}>" if self._answer is None else f"<{name} of {self._answer!r}>"

    def _as_stream(self, result: Any) -> Any:
        if isinstance(result, Observable):
            return _piped_from(self, Stream.of(result))
        if isinstance(result, (list, tuple)) and any(isinstance(x, Observable) for x in result):
            return type(result)(self._as_stream(each) for each in result)
        return result

    # --- reading ---

    def subscribe(
        self,
        on_next: abc.ObserverBase[T_out] | abc.OnNext[T_out] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = _BY_PROGRAM,
    ) -> abc.DisposableBase:
        """Subscribes callbacks, or one observer, to the items and to the end.

        Returns before anything is received. The subscription ends exactly once: with
        `on_completed`, with `on_error` or by its disposal.

        Args:
            on_next: Called with each item; or an observer, which has all three methods.
            on_error: Called with the error, also one that `on_next` raises. Without it, the
                error is raised on the thread that emits, and reported on stderr.
            on_completed: Called at the end.
            scheduler: Measures time for operators that need a scheduler.

        Returns:
            A Disposable: `dispose()` never blocks, from any thread.

        Raises:
            TypeError: A callback is a coroutine function, which would never be awaited.
        """
        subscriber: Subscriber[T_out]
        answer = self._answer_of_pipe()
        if answer is None or is_reading(answer):  # or a stage of a pipe from it subscribes
            subscriber = Subscriber(on_next, on_error, on_completed)
        elif scheduler is _BY_PROGRAM:
            subscriber = Subscriber(on_next, on_error, on_completed)
            subscriber.answer, subscriber.closing = answer, None
            answer.track(subscriber)
        else:
            subscriber = OperatorSubscriber(answer, on_next, on_error, on_completed)
        if scheduler is _BY_PROGRAM:
            scheduler = None

        def subscribe(*_: object) -> None:
            subscriber.subscribe_with(partial(self._subscribe_core, subscriber, scheduler))

        # While the trampoline runs, the current thread's scheduler emits nothing before the
        # subscriber has its Disposable.
        CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        return subscriber

    def __iter__(self) -> Iterator[T_out]:
        loops = self._loops_here()
        return self._iterate() if loops is None else loops.sync(self._iterate)

    def _iterate(self, scheduler: abc.SchedulerBase | None = None) -> Iterator[T_out]:
        return iterate(self, self._track_loop, scheduler)

    def __aiter__(self) -> AsyncIterator[T_out]:
        loops = self._loops_here()
        if loops is None:
            return AsyncIteration(self, self._track_loop)
        return loops.asynchronous(self, self._track_loop)

    def run(self, scheduler: abc.SchedulerBase | None = None) -> T_out:
        """Waits for the end and returns the last item.

        Args:
            scheduler: Measures time for operators that need a scheduler.

        Raises:
            SequenceContainsNoElementsError: The Stream ended without any item.
        """
        return _only(deque(self._iterate(scheduler), maxlen=1))

    def __await__(self) -> Generator[Any, None, T_out]:
        return self._last().__await__()

    async def _last(self) -> T_out:
        last: deque[T_out] = deque(maxlen=1)
        async for item in AsyncIteration(self, self._track_loop):
            last.append(item)
        return _only(last)

    # --- one run, and its end ---

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the latest request of the answer that this was piped from.

        None while the request is running, or if there is no answer.
        """
        return None if self._answer is None else self._answer.outcome

    def close(self) -> None:
        """Stops all subscriptions to the answer that this was piped from, and ends its loops.

        May be called from any thread, and never blocks. An operator that reads the answer among
        other sources, such as `merge`, gets `StoppedError`. Within a `with` block it ends the run
        of the block: its loops end, and a later reader receives the items so far, and then
        `StoppedError`.
        """
        if self._answer is not None:
            self._answer.close()
        self._stop()

    def __enter__(self) -> Self:
        """Opens one run of the Stream, which everything that reads it within the block shares.

            with answer:
                for token in answer.pipe(text()): ...      # sends the request
                answer.pipe(to_response()).run()           # all of the same answer, at once

        The first loop, pipe or subscription starts the run, from any thread or task. A later
        one first receives all items emitted so far, and then live items. A loop over the Stream
        itself that was left with `break` goes on where it was, if the same thread or task loops
        again. Leaving a loop or a subscription does not end the run. The end of the block ends
        it, and with it all subscriptions and loops of the block.

        The fastest reader sets the pace: a single slow reader slows the source, and without a
        reader the source waits after 512 items. The items are kept for later readers until the
        end of the block. Of more than 262,144 items, which no answer has, the oldest are
        dropped; a reader that lacks one ends with `LaggedError`.

        Raises:
            RuntimeError: The Stream is already open in a `with` block.
        """
        self._check_not_open()
        self._run, self._loops = OpenedRun(), OpenedLoops()
        return self

    def __exit__(self, *_: object) -> None:
        self._loops = None
        with leaving:
            self._stop()
        self._run = None

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def __del__(self) -> None:
        if self._run is not None:  # an abandoned block
            self.__exit__()

    def _check_not_open(self) -> None:
        if self._loops is not None:
            raise RuntimeError(
                "this Stream is already open in a with block: leave that block first, "
                "or open the result of a pipe"
            )

    def _stop(self) -> None:
        if self._run is not None:
            self._run.dispose()

    def _answer_of_pipe(self) -> AnswerHandle | None:
        return self._answer

    def _loops_here(self) -> OpenedLoops[Any] | None:
        """Returns the loops of the `with` block; None: this thread or task reads outside one."""
        return self._loops

    def _track_loop(self, loop: abc.DisposableBase) -> None:
        if self._run is not None:
            self._run.track(loop)
        if self._answer is not None:
            self._answer.track(loop)

    def _subscribe_core(
        self, observer: abc.ObserverBase[T_out], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        run = self._run
        if run is None:
            return self._subscribe_source(observer, scheduler)
        return run.join(observer, partial(self._subscribe_source, scheduler=scheduler))

    def _subscribe_source(
        self, observer: abc.ObserverBase[T_out], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        """Starts a run of the source."""
        return super()._subscribe_core(observer, scheduler)


class ConnectableStream(Stream[T], ConnectableObservable[T]):  # pyright: ignore[reportIncompatibleMethodOverride]  # pipe, as in Stream
    """A Stream that emits only after it is connected: the result of `publish()` and its like."""

    def __init__(self, connectable: ConnectableObservable[T]) -> None:
        ConnectableObservable.__init__(self, connectable.source, connectable.subject)

    def auto_connect(self, subscriber_count: int = 1) -> Stream[T]:
        return _piped_from(self, Stream.of(super().auto_connect(subscriber_count)))


S = TypeVar("S", bound=Stream[Any])


def _piped_from(source: Stream[Any], result: S) -> S:
    if result._answer is None and result is not source:
        result._answer = source._answer_of_pipe()
    return result


def _only(items: deque[T]) -> T:
    if not items:
        raise SequenceContainsNoElementsError
    return items[0]
