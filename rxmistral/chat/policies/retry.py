"""The policy that repeats a request that failed.

A request is repeated only while nothing useful was emitted: no text, no thinking and no tool
call. So a subscriber always receives one answer, whichever requests failed before it. The guide
of this package (`policies`) lists the failures after which a request is repeated.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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
    """When and how often a request that produced nothing useful is repeated.

    The n-th wait is `initial * multiplier ** (n - 1)` seconds, at most `maximum`, minus a
    random part of it, so that many clients do not return at the same moment. If the service
    names a time (`retry-after-ms`, `Retry-After`), that time is used instead, at most
    `maximum`. A wait ends at once when the stream is disposed.

    Args:
        attempts: The largest number of requests, the first one included; by default 3.
            None: no limit.
        initial: Seconds before the second request; by default 0.5.
        maximum: The longest wait, in seconds; by default 30.
        multiplier: The ratio of each wait to the previous one; by default 2.
        jitter: The part of a wait that is random, from 0 to 1; by default 0.5.
        max_elapsed: Seconds since the first request after which no other one is sent; by
            default 120. None: no limit.
        connection_errors: Whether to repeat a request also if no response was received; by
            default True.
        on_retry: Called before each wait with the error, the number of the request that
            failed, from 1, and the seconds of the wait, on the reader's thread.
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
            raise ValueError("a Retry must end: give attempts, max_elapsed or both")
        if self.on_retry is not None:
            check_callback("on_retry", self.on_retry)

    def wait_after(self, error: MistralError, attempt: int, elapsed: float) -> float | None:
        """Returns the seconds to wait before the next request; None if there is to be none.

        Args:
            error: The failure.
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
        requested = retry_after(error)
        if requested is not None:
            return min(requested, self.maximum)
        try:
            wait = min(self.initial * self.multiplier ** (attempt - 1), self.maximum)
        except OverflowError:
            wait = self.maximum
        return wait * (1 - self.jitter * random.random())


def may_be_repeated(error: MistralError) -> bool:
    """Returns whether a request that failed with this error may succeed the next time."""
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
    """Returns the seconds after which the service accepts a request again, if it names them."""
    return error.retry_after if isinstance(error, StatusError) else None


# --- the official SDK's names ----------------------------------------------------


@dataclass(frozen=True)
class BackoffStrategy:
    """The waits of a `RetryConfig`, as the official SDK names them.

    Args:
        initial_interval: Milliseconds before the second request.
        max_interval: The longest wait, in milliseconds.
        exponent: The ratio of each wait to the previous one.
        max_elapsed_time: Milliseconds since the first request after which no other one is
            sent.
        jitter_ms: Accepted and not used: `Retry` shortens each wait by a random part.
    """

    initial_interval: int
    max_interval: int
    exponent: float
    max_elapsed_time: int
    jitter_ms: int | None = None


@dataclass(frozen=True)
class RetryConfig:
    """A retry policy, as the official SDK names it; accepted instead of a `Retry`.

    Args:
        strategy: "backoff" repeats requests until `max_elapsed_time` of the `backoff` is
            over, without a limit of their number; "none" does not.
        backoff: How long to wait.
        retry_connection_errors: Whether to repeat a request also if no response was
            received.
        status_codes_override: Not supported; must be empty or None.
    """

    strategy: Literal["backoff", "none"] | str
    backoff: BackoffStrategy
    retry_connection_errors: bool
    status_codes_override: list[str] | None = None


def as_retry(given: object) -> Retry | None:
    """Returns the `Retry` for a `Retry`, a `RetryConfig` or the official SDK's `RetryConfig`."""
    if given is None or isinstance(given, Retry):
        return given
    strategy, backoff = getattr(given, "strategy", None), getattr(given, "backoff", None)
    if strategy == "none":
        return None
    if strategy != "backoff" or backoff is None:
        raise TypeError(f"retry must be a Retry, a RetryConfig or None, got {type(given).__name__}")
    if overridden := getattr(given, "status_codes_override", None):
        raise ValueError(
            "status_codes_override is not supported: expected None, as 429 and 5xx are "
            f"repeated, got {overridden!r}; leave it out"
        )
    return Retry(
        attempts=None,
        initial=_seconds(backoff, "initial_interval"),
        maximum=_seconds(backoff, "max_interval"),
        multiplier=backoff.exponent,
        max_elapsed=_seconds(backoff, "max_elapsed_time"),
        connection_errors=bool(getattr(given, "retry_connection_errors", True)),
    )


def _seconds(backoff: Any, name: str) -> float:
    milliseconds: float = getattr(backoff, name)
    check_number(name, milliseconds, 0)
    return milliseconds / 1000
