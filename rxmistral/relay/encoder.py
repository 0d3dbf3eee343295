"""What a relay is made of: an encoder, that makes bytes or text of items, and of the end.

An encoder knows no Rx, no thread and no socket; `encoded_by` makes an operator of it. The
end of a run is something to tell, not something to raise: a browser reads what was sent,
and nobody reads what a framework does with an exception in the middle of a response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from reactivex import Observable, abc

from ..errors import MistralError
from ..models import CompletionEvent
from ..rx.stream import Stream

__all__ = ["Encoder", "encoded_by", "payload"]

A = TypeVar("A")
B = TypeVar("B", bytes, str)


class Encoder(Generic[A, B]):
    """Encodes one run; what is empty is not sent."""

    def begin(self) -> B:
        """What comes before anything else."""
        raise NotImplementedError

    def encode(self, item: A, /) -> B:
        """An item."""
        raise NotImplementedError

    def end(self, error: Exception | None, /) -> B:
        """How it ended."""
        raise NotImplementedError


def encoded_by(make: Callable[[], Encoder[A, B]]) -> Callable[[Observable[A]], Stream[B]]:
    """An operator from an encoder; `make` makes one for each subscription.

    Completes: after the encoded end, also where that is a `MistralError`.
    Errors: any other, after the encoded end: it is a fault of the program, an item that
        cannot be encoded among them, and belongs into the framework's log.
    """

    def operate(source: Observable[A]) -> Stream[B]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            encoder = make()
            encode, emit = encoder.encode, observer.on_next

            def on_next(item: A) -> None:
                try:
                    encoded = encode(item)
                except Exception as error:
                    end(error)
                    return
                if encoded:
                    emit(encoded)

            def end(error: Exception | None) -> None:
                try:
                    last = encoder.end(error)
                except Exception as raised:  # by who was to describe the error
                    observer.on_error(raised)
                    return
                emit(last)
                if error is None or isinstance(error, MistralError):
                    observer.on_completed()
                else:
                    observer.on_error(error)

            if first := encoder.begin():
                emit(first)
            return stream.subscribe(on_next, end, lambda: end(None), scheduler=scheduler)

        return Stream(subscribe)

    return operate


def payload(item: object) -> object:
    """What of an item goes over the wire: of a completion its chunk, which is what the
    service sent."""
    return item.data if isinstance(item, CompletionEvent) else item
