"""OutcomeBuilder: builds the `Outcome` of an answer from what was received, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import getLogger

from ..models import UsageInfo
from ..outcome import Outcome, Status, status_of
from ..rx.clock import monotonic
from ..rx.request_counter import RequestCounter
from .accumulator import CompletionAccumulator

__all__ = ["OutcomeBuilder", "OutputTimes"]

_log = getLogger("rxmistral")


class OutputTimes:
    """The times at which output was received, in seconds of a clock; None: not yet."""

    first_at: float | None = None
    last_at: float | None = None
    longest_gap: float | None = None  # in seconds, between two outputs

    def record_output(self, now: float, silent_seconds: float) -> None:
        if self.first_at is None:
            self.first_at = now
            _log.debug("first token received")
        elif self.longest_gap is None or silent_seconds > self.longest_gap:
            self.longest_gap = silent_seconds
        self.last_at = now


class OutcomeBuilder:
    """A builder of the outcome of an answer that begins now."""

    def __init__(
        self,
        received: CompletionAccumulator,
        times: OutputTimes,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.counter = RequestCounter()
        self.began_at = now()
        self._started = time.time()
        self._received = received
        self._times = times

    def outcome(self, error: BaseException | None, status: Status | None = None) -> Outcome:
        received, times, counter = self._received, self._times, self.counter
        usage, is_complete = received.usage, error is None and status is None
        is_final = usage is not None and (is_complete or received.usage_is_final)
        is_exact = is_final and counter.answers <= 1
        return Outcome(
            status=status or status_of(error),
            response=received.response(complete=is_complete, with_unfinished=True),
            error=error,
            finish_reason=received.finish_reason(),
            request_id=counter.request_id,
            usage=usage,
            usage_is_final=is_final,
            usage_is_exact=is_exact,
            requests=counter.requests,
            resumed=counter.resumed,
            started=self._started,
            seconds_to_headers=self._seconds_until(counter.headers_at),
            seconds_to_first_token=self._seconds_until(times.first_at),
            seconds_to_last_token=self._seconds_until(times.last_at),
            tokens_per_second=_tokens_per_second(usage, times) if is_exact else None,
            longest_gap=times.longest_gap,
        )

    def _seconds_until(self, moment: float | None) -> float | None:
        return None if moment is None else max(0.0, moment - self.began_at)


def _tokens_per_second(usage: UsageInfo | None, times: OutputTimes) -> float | None:
    tokens = usage.completion_tokens if usage else None
    first, last = times.first_at, times.last_at
    if not tokens or first is None or last is None or last <= first:
        return None
    return tokens / (last - first)
