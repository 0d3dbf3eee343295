"""What an operator is made of: a function of an item, or a machine.

A machine takes items and gives items, now or later. It knows no Rx, no thread and no
socket, so that it can be fed by hand, and attacked by tests; `machine_operator` makes an
operator of it in a few lines that are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from reactivex import Observable, abc

from .input_type import InputType
from .stream import Stream

__all__ = ["StateMachine", "item_operator", "machine_operator"]

A = TypeVar("A")
B = TypeVar("B")


class StateMachine(Generic[A, B]):
    """Makes items of items; one for each subscription."""

    error: Exception | None = None
    """Set where no item can come any more: it follows those that are given."""

    def feed(self, item: A, /) -> Iterable[B]:
        """What is certain now that this has come."""
        raise NotImplementedError

    def close(self) -> Iterable[B]:
        """What is still held, when nothing more will come."""
        return ()

    def abandon(self) -> Iterable[B]:
        """The same, where something more should have come: the source broke."""
        return self.close()


def machine_operator(
    make: Callable[[], StateMachine[A, B]], takes: InputType
) -> Callable[[Observable[A]], Stream[B]]:
    """An operator from a machine.

    What the machine still holds is emitted before the end, be that a completion or an
    error. What the machine raises is the error of the stream, and so is what a subscriber
    raises while the rest is emitted.

    Args:
        make: Makes a machine for each subscription.
        takes: The items that it takes; any other is an error.
    """
    kind = takes.kind

    def operate(source: Observable[A]) -> Stream[B]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            machine = make()
            feed, emit = machine.feed, observer.on_next

            def on_next(item: A) -> None:
                try:
                    if not isinstance(item, kind):
                        raise takes.error_for(item)
                    made = feed(item)
                except Exception as error:
                    on_error(error)
                    return
                for each in made:
                    emit(each)
                if machine.error is not None:
                    observer.on_error(machine.error)

            def on_error(error: Exception) -> None:
                for each in machine.abandon():
                    emit(each)
                observer.on_error(error)

            def on_completed() -> None:
                for each in machine.close():
                    emit(each)
                if machine.error is None:
                    observer.on_completed()
                else:
                    observer.on_error(machine.error)

            return stream.subscribe(on_next, on_error, on_completed, scheduler=scheduler)

        return Stream(subscribe)

    return operate


def item_operator(
    start: Callable[[abc.ObserverBase[B]], Callable[[A], None]],
) -> Callable[[Observable[A]], Stream[B]]:
    """An operator from what it does with each item; it holds nothing back.

    `start` is called for each subscription, with the observer it emits to, and gives
    the function that takes the items. Errors and completion pass through.
    """

    def operate(source: Observable[A]) -> Stream[B]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return stream.subscribe(
                start(observer), observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Stream(subscribe)

    return operate
