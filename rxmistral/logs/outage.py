"""Repetition of calls to a broker that is unreachable for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import LogUnavailableError
from ..rx.cancellation import Cancellation
from ..rx.clock import monotonic

__all__ = ["OutageRetry"]

T = TypeVar("T")

_PAUSE_SECONDS = 0.1  # between two attempts


class OutageRetry(Cancellation):
    """Repeats calls to a broker while it is unreachable.

    Args:
        seconds: For how long each call may fail before its error is raised.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def __call__(self, call: Callable[[], T]) -> T:
        """Returns the result of the first attempt that reaches the broker.

        Raises:
            Cancelled: `cancel()` was called.
            LogUnavailableError: The broker was unreachable for too long.
        """
        deadline = monotonic() + self._seconds
        while True:
            self.check()
            try:
                return call()
            except LogUnavailableError as error:
                remaining = deadline - monotonic()
                if remaining <= 0:
                    raise LogUnavailableError(error.reason, self._seconds) from error
                self.wait(min(_PAUSE_SECONDS, remaining))
