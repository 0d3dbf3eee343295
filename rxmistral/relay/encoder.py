"""Encoders: state machines that turn the items of one run, and its ending, into bytes or text.

An encoder knows no Rx, no thread and no socket; `encoder_operator` makes an operator of it. It
encodes the ending of a run, errors included, as a message: a page can read that, whereas an
exception in the middle of a response only reaches the log of the framework.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from reactivex import Observable, abc

from ..errors import MistralError
from ..models import CompletionEvent
from ..rx.stream import Stream

__all__ = ["Encoder", "encoder_operator", "payload"]

A = TypeVar("A")
B = TypeVar("B", bytes, str)


class Encoder(Generic[A, B]):
    """Encodes one run; an empty result is not sent."""

    def begin(self) -> B:
        """Returns what is sent before the first item is there."""
        raise NotImplementedError

    def encode(self, item: A, /) -> B:
        """Returns an encoded item."""
        raise NotImplementedError

    def end(self, error: Exception | None, /) -> B:
        """Returns the encoded ending: an error, or completion."""
        raise NotImplementedError


def encoder_operator(make: Callable[[], Encoder[A, B]]) -> Callable[[Observable[A]], Stream[B]]:
    """Returns an operator that encodes items and the ending of a run.

    Args:
        make: Makes an encoder for each subscription.

    Completes: after the encoded ending, also if the source has failed with a `MistralError`.
    Errors: with any other error of the source, and that of an item that cannot be encoded,
        after the encoded ending: it is a fault of the program, for the framework to log.
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
                    ending = encoder.end(error)
                except Exception as raised:  # by the program's function that describes errors
                    observer.on_error(raised)
                    return
                emit(ending)
                if error is None or isinstance(error, MistralError):
                    observer.on_completed()
                else:
                    observer.on_error(error)

            if beginning := encoder.begin():
                emit(beginning)
            return stream.subscribe(on_next, end, lambda: end(None), scheduler=scheduler)

        return Stream(subscribe)

    return operate


def payload(item: object) -> object:
    """Returns what is sent of an item: of a completion its chunk, as the service sent it."""
    return item.data if isinstance(item, CompletionEvent) else item
