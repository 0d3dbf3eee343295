"""Asking again, where nothing is lost by it.

A request is repeated only as long as nothing useful was emitted: no text, no thinking,
no tool call. So whatever fails, and wherever, what a subscriber gets is one answer.

    what failed                                              asked again
    no answer came (RequestError)                            yes
    ... since the name is unknown, the certificate is not    no: it would fail again
        trusted, or the URL is not valid
    the service refused with 429 or 5xx (StatusError)        yes, when it says so
    ... with any other status                                no: it will refuse again
    the answer broke before it brought anything useful       yes
    ... since the timeout `total` expired                    no
    it is no event stream, or an event holds no chunk        no
    anything broke after something useful was emitted        no: see `Resume`
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ...checks import check_callback, check_integer, check_number
from ...errors import (
    DroppedStreamError,
    IncompleteStreamError,
    MistralError,
    ReportedError,
    RequestError,
    StatusError,
)

__all__ = ["BackoffStrategy", "Retry", "RetryConfig", "as_retry", "may_be_repeated", "retry_after"]

OnRetry = Callable[[MistralError, int, float], object]


@dataclass(frozen=True, slots=True)
class Retry:
    """Whether, when and how often a request that brought nothing is repeated.

    The n-th wait is `initial * multiplier ** (n - 1)` seconds, at most `maximum`, and
    less a random part of it, so that many clients do not come back at once. Where the
    service says how long to wait (`retry-after-ms`, `Retry-After`), it is that long
    instead, at most `maximum`. Waiting can be interrupted by disposing at any time.

    Args:
        attempts: Requests at most, the first one included; None sets no limit.
        initial: Seconds before the second request.
        maximum: Seconds of a wait at most.
        multiplier: How much longer each wait is than the one before.
        jitter: The part of a wait that is random: 0 for none, 1 for all of it.
        max_elapsed: Seconds since the first request after which none is sent any more;
            None sets no limit.
        connection_errors: Whether to repeat a request also if no answer came.
        on_retry: Called before each wait with the error, the number of the request that
            failed (from 1), and the seconds of the wait. It runs on the reader's thread.
    """

    attempts: int | None = 3
    initial: float = 0.5
    maximum: float = 30.0
    multiplier: float = 2.0
    jitter: float = 0.5
    max_elapsed: float | None = 120.0
    connection_errors: bool = True
    on_retry: OnRetry | None = None

    def __post_init__(self) -> None:
        if self.attempts is not None:
            check_integer("attempts", self.attempts)
        check_number("initial", self.initial, 0)
        check_number("maximum", self.maximum, 0)
        check_number("multiplier", self.multiplier, 1)
        check_number("jitter", self.jitter, 0, 1)
        if self.max_elapsed is not None:
            check_number("max_elapsed", self.max_elapsed, 0)
        if self.attempts is None and self.max_elapsed is None:
            raise ValueError("a Retry needs an end: give attempts, max_elapsed or both")
        if self.on_retry is not None:
            check_callback("on_retry", self.on_retry)

    def wait_after(self, error: MistralError, attempt: int, elapsed: float) -> float | None:
        """Seconds to wait before the next request, or None if there should be none.

        Args:
            error: What failed.
            attempt: The number of the request that failed, from 1.
            elapsed: Seconds since the first request began.
        """
        if not may_be_repeated(error) or (self.attempts is not None and attempt >= self.attempts):
            return None
        if isinstance(error, RequestError) and not self.connection_errors:
            return None
        wait = self._wait(error, attempt)
        if self.max_elapsed is not None and elapsed + wait > self.max_elapsed:
            return None
        return wait

    def _wait(self, error: MistralError, attempt: int) -> float:
        told = retry_after(error)
        if told is not None:
            return min(told, self.maximum)
        try:
            wait = min(self.initial * self.multiplier ** (attempt - 1), self.maximum)
        except OverflowError:
            wait = self.maximum
        return wait * (1 - self.jitter * random.random())


def may_be_repeated(error: MistralError) -> bool:
    """Whether a request that brought nothing useful may bring something the next time."""
    if isinstance(error, StatusError):
        return error.status == 429 or error.status >= 500
    if isinstance(error, RequestError) and error.is_permanent:
        return False
    if isinstance(error, TimeoutError):
        return getattr(error, "clock", "") != "total"
    return isinstance(
        error, (RequestError, ReportedError, DroppedStreamError, IncompleteStreamError)
    )


def retry_after(error: MistralError) -> float | None:
    """Seconds after which the service wants to be asked again, if it says so."""
    return error.retry_after if isinstance(error, StatusError) else None


# --- the official SDK's words ----------------------------------------------------


@dataclass(frozen=True)
class BackoffStrategy:
    """How the official SDK says how long to wait; times are in milliseconds."""

    initial_interval: int
    max_interval: int
    exponent: float
    max_elapsed_time: int
    jitter_ms: int | None = None


@dataclass(frozen=True)
class RetryConfig:
    """How the official SDK says whether to ask again; `strategy` is "backoff" or "none".

    It asks until `max_elapsed_time` is over, however often that is, and so does the
    `Retry` that is made of it. `jitter_ms`, which it adds to a wait, makes a wait shorter
    here.
    """

    strategy: Literal["backoff", "none"] | str
    backoff: BackoffStrategy
    retry_connection_errors: bool
    status_codes_override: list[str] | None = None


def as_retry(given: object) -> Retry | None:
    """A `Retry`, of the official SDK's own `RetryConfig` too.

    Raises:
        TypeError, ValueError: It is none.
    """
    if given is None or isinstance(given, Retry):
        return given
    strategy, backoff = getattr(given, "strategy", None), getattr(given, "backoff", None)
    if strategy == "none":
        return None
    if strategy != "backoff" or backoff is None:
        raise TypeError(f"retry must be a Retry, a RetryConfig or None, got {type(given).__name__}")
    if overridden := getattr(given, "status_codes_override", None):
        raise ValueError(
            "status_codes_override is not supported: 429 and 5xx are repeated, got "
            f"{overridden!r}; leave it out"
        )
    return Retry(
        attempts=None,
        initial=backoff.initial_interval / 1000,
        maximum=backoff.max_interval / 1000,
        multiplier=backoff.exponent,
        max_elapsed=backoff.max_elapsed_time / 1000,
        connection_errors=bool(getattr(given, "retry_connection_errors", True)),
    )
