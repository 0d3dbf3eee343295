"""A call to a broker, made again while the broker is away."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TypeVar

from ..errors import LogUnavailableError
from ..rx.clock import monotonic
from ..wire.connection import Cancelled

__all__ = ["Insistence"]

T = TypeVar("T")

_PAUSE = 0.1  # seconds between two tries


class Insistence:
    """Makes calls, for so many seconds each where the broker is away; can be called off
    from any thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._called_off = Event()

    def __call__(self, call: Callable[[], T]) -> T:
        """What the call gives.

        Raises:
            Cancelled: It was called off.
            LogUnavailableError: The broker was away for too long.
        """
        began = monotonic()
        while not self.called_off:
            try:
                return call()
            except LogUnavailableError as error:
                left = began + self._seconds - monotonic()
                if left <= 0:
                    raise LogUnavailableError(error.reason, self._seconds) from error
                self._called_off.wait(min(_PAUSE, left))
        raise Cancelled

    @property
    def called_off(self) -> bool:
        return self._called_off.is_set()

    def call_off(self) -> None:
        self._called_off.set()
