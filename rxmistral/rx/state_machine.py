"""Operators made from a state machine, or from a function of one item.

A state machine knows no Rx, no thread and no socket, so that tests can feed it by hand and
attack it with generated input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import ref

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import TimeoutScheduler

from .stream import Stream

__all__ = [
    "InputType",
    "MachineObserver",
    "StateMachine",
    "item_operator",
    "machine_operator",
    "operate",
    "timed_operator",
]

A = TypeVar("A")
B = TypeVar("B")


class InputType(NamedTuple):
    """The items that an operator accepts. An item of another type shows that a stage of the pipe is
    missing: `chat.stream(...).pipe(sentences())` feeds completions to an operator of text."""

    operator: str
    kind: type
    noun: str  # for the items, in error messages
    remedies: Mapping[str, str]  # by the name of the type of a wrong item

    def error_for(self, item: object) -> TypeError:
        name = type(item).__name__
        article = "an" if name[0] in "aeiouAEIO" else "a"
        problem = f"{self.operator}() takes {self.noun}, got {article} {name}"
        remedy = self.remedies.get(name)
        return TypeError(f"{problem}: {remedy}" if remedy else problem)


class StateMachine(Generic[A, B]):
    """A converter of input items into output items; there is one for each subscription."""

    error: Exception | None = None  # ends the stream, after the items that were just returned

    def feed(self, item: A, /) -> Iterable[B]:
        """Returns the output that is certain after this item."""
        raise NotImplementedError

    def close(self) -> Iterable[B]:
        """Returns the remaining output, when the source has completed."""
        return ()

    def close_after_error(self) -> Iterable[B]:
        """Returns the output to emit before the error, when the source has failed."""
        return self.close()


class MachineObserver(Generic[A, B]):
    """An observer that feeds a state machine, and emits the items that it returns.

    When the machine sets its `error`, the source is disposed before the error is emitted, so
    that a retry never holds two connections.
    """

    __slots__ = ("_accepts", "_emit", "_feed", "_kind", "_machine", "_observer", "_source")

    def __init__(
        self, machine: StateMachine[A, B], observer: abc.ObserverBase[B], accepts: InputType
    ) -> None:
        self._machine = machine
        self._observer = observer
        self._accepts, self._kind = accepts, accepts.kind
        self._feed, self._emit = machine.feed, observer.on_next
        self._source: ref[abc.DisposableBase] | None = None  # weak: it refers to this observer

    def subscribe_to(
        self, stream: Stream[A], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        subscription = stream.subscribe(
            self.on_next, self.on_error, self.on_completed, scheduler=scheduler
        )
        self._source = ref(subscription)
        return subscription

    def on_next(self, item: A) -> None:
        try:
            if not isinstance(item, self._kind):
                raise self._accepts.error_for(item)
            output = self._feed(item)
        except Exception as error:
            self.on_error(error)
            return
        emit, machine = self._emit, self._machine
        for each in output:
            emit(each)
        if machine.error is not None:
            source = None if self._source is None else self._source()
            if source is not None:
                source.dispose()
            self._observer.on_error(machine.error)

    def on_error(self, error: Exception) -> None:
        if not getattr(error, "drops_held_items", False):
            for each in self._machine.close_after_error():
                self._emit(each)
        self._observer.on_error(error)

    def on_completed(self) -> None:
        for each in self._machine.close():
            self._emit(each)
        if self._machine.error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(self._machine.error)


def operate(
    subscribe_to: Callable[
        [Stream[A], abc.ObserverBase[B], abc.SchedulerBase | None], abc.DisposableBase
    ],
) -> Callable[[Observable[A]], Stream[B]]:
    """Returns an operator that calls a function for each subscription, with the source, the
    observer to emit to and the scheduler of the subscription."""

    def operator(source: Observable[A]) -> Stream[B]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return subscribe_to(stream, observer, scheduler)

        return Stream(subscribe)

    return operator


def machine_operator(
    make: Callable[[], StateMachine[A, B]], accepts: InputType
) -> Callable[[Observable[A]], Stream[B]]:
    """Returns an operator that runs a state machine of its own for each subscription.

    An exception of the machine, or of a subscriber that receives its remaining output, is
    the error of the stream.
    """
    return operate(
        lambda stream, observer, scheduler: MachineObserver(make(), observer, accepts).subscribe_to(
            stream, scheduler
        )
    )


def item_operator(
    start: Callable[[abc.ObserverBase[B]], Callable[[A], None]],
) -> Callable[[Observable[A]], Stream[B]]:
    """Returns an operator that passes each item to the function that `start` returns."""
    return operate(
        lambda stream, observer, scheduler: stream.subscribe(
            start(observer), observer.on_error, observer.on_completed, scheduler=scheduler
        )
    )


def timed_operator(
    observe: Callable[[abc.ObserverBase[B], abc.SchedulerBase], Any],
    scheduler: abc.SchedulerBase | None,
) -> Callable[[Observable[Any]], Stream[B]]:
    """Returns an operator whose observer of the source keeps time.

    Args:
        observe: Called for each subscription with the observer to emit to and a scheduler;
            returns a `SerializedTimer` that observes the source.
        scheduler: Keeps the time; None: that of the subscription, or a `TimeoutScheduler`.
    """

    def subscribe_to(
        stream: Stream[Any], observer: abc.ObserverBase[B], injected: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        timer = observe(observer, scheduler or injected or TimeoutScheduler.singleton())
        return CompositeDisposable(stream.subscribe(timer, scheduler=injected), timer)

    return operate(subscribe_to)
