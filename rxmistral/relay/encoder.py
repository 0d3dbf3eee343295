"""Encoders: state machines that turn the items of one run, and its ending, into bytes or text.

The ending, errors included, is encoded as a message: a page can read that, whereas an exception
in the middle of a response only reaches the log of the framework.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from reactivex import Observable, abc

from ..errors import MistralError, described
from ..outcome import status_of
from ..rx.state_machine import operate
from ..rx.stream import Stream

__all__ = ["Describe", "Encoder", "described", "encoder_operator", "ending_fields"]

A = TypeVar("A")
B = TypeVar("B", bytes, str)

Describe: TypeAlias = Callable[[Exception], str]


class Encoder(Generic[A, B]):
    """An encoder of one run. An empty result of `begin` or `encode` is not sent."""

    def begin(self) -> B | None:
        return None

    def encode(self, item: A, /) -> B:
        raise NotImplementedError

    def end(self, error: Exception | None, /) -> B:
        raise NotImplementedError


def encoder_operator(make: Callable[[], Encoder[A, B]]) -> Callable[[Observable[A]], Stream[B]]:
    """Returns an operator that encodes each run with an encoder of its own.

    It completes after an encoded `MistralError`. Any other error is a fault of the program, and
    follows its encoding, for the framework to log.
    """

    def subscribe_to(
        stream: Stream[A], observer: abc.ObserverBase[B], scheduler: abc.SchedulerBase | None
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

        def end(error: Exception | None = None) -> None:
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
        return stream.subscribe(on_next, end, end, scheduler=scheduler)

    return operate(subscribe_to)


# --- endings ---


def ending_fields(error: Exception | None, describe: Describe) -> dict[str, str]:
    """Returns the status of the `Outcome` of a run, and the text of its error for a page."""
    if error is None:
        return {"status": "completed"}
    return {"status": status_of(error), "error": type(error).__name__, "message": describe(error)}
