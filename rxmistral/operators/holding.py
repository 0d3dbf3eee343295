"""What an operator that holds something back is: a machine, and what drives it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from reactivex import Observable, abc

from ..stream import Stream

__all__ = ["Machine", "check_text", "holding"]

A = TypeVar("A")
B = TypeVar("B")
A_in = TypeVar("A_in", contravariant=True)
B_out = TypeVar("B_out", covariant=True)


class Machine(Protocol[A_in, B_out]):
    """Makes items of items, later ones if need be."""

    def feed(self, item: A_in, /) -> Iterable[B_out]:
        """What is certain now that this has come."""
        ...

    def close(self) -> Iterable[B_out]:
        """What is still held: nothing more will come."""
        ...


def holding(make: Callable[[], Machine[A, B]]) -> Callable[[Observable[A]], Stream[B]]:
    """An operator from a machine; `make` makes one for each subscription.

    What the machine still holds is emitted before the end, be that a completion or an
    error.
    """

    def operate(source: Observable[A]) -> Stream[B]:
        def subscribe(
            observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            machine = make()
            feed, emit = machine.feed, observer.on_next

            def on_next(item: A) -> None:
                for each in feed(item):
                    emit(each)

            def on_error(error: Exception) -> None:
                for each in machine.close():
                    emit(each)
                observer.on_error(error)

            def on_completed() -> None:
                for each in machine.close():
                    emit(each)
                observer.on_completed()

            return source.subscribe(on_next, on_error, on_completed, scheduler=scheduler)

        return Stream(subscribe)

    return operate


def check_text(name: str, value: object) -> None:
    """Raise for an argument that is no text, or has no character."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
