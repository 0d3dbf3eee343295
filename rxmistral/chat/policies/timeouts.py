"""The timeouts of a call, which measure useful progress.

    connect   ├──────┤ a connection, TLS included
    first     ├────────────────────┤ the first text, thinking or tool call
    gap                            ├─────────┤ the next one (thinking_gap while it thinks)
    total     ├──────────────────────────────────────────────────┤ the end

After the finish_reason of a whole answer, the rest of the body has 0.25 seconds; the expiry of
this timeout is not an error.

Comments, roles and empty deltas do not restart a timeout. Only the time that the reader
waits for the network counts, so a slow subscriber does not cause a timeout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...checks import check_seconds
from ...completions.accumulator import CompletionAccumulator
from ...completions.finish import END_GRACE_SECONDS
from ...completions.outcome_builder import OutputTimes
from ...rx.clock import monotonic
from ...wire.idle_timeout import IdleTimeout

__all__ = ["ResponseTimeouts", "Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The seconds that a call may wait.

    A timeout that expires raises `RequestTimeoutError` before the headers of the answer,
    and `StreamTimeoutError`, which has the response so far, after them. The `clock` of the
    error names the timeout.

    Args:
        connect: Seconds to connect, TLS included; by default 10.
        first: Seconds from the request to the first text, thinking or tool call; by default
            60.
        gap: Seconds from one of these to the next, and from the last one to the end; by
            default 60.
        thinking_gap: Seconds from one piece of thinking to the next item. None: as `gap`.
        total: Seconds for the whole call, including further attempts and the waits before
            them. None: no limit.
    """

    connect: float = 10.0
    first: float = 60.0
    gap: float = 60.0
    thinking_gap: float | None = None
    total: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "first", "gap"):
            check_seconds(name, getattr(self, name))
        for name in ("thinking_gap", "total"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name))


class ResponseTimeouts(IdleTimeout, OutputTimes):
    """The timeouts of one answer, and the times of its output.

    The `new_output` of its accumulator restarts the timeouts.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        received: CompletionAccumulator,
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(timeouts.connect, timeouts.first, now)
        self._timeouts = timeouts
        self._received = received
        self._received_at = 0.0
        self._waited = 0.0  # seconds in all, until the latest block
        self._idle_since = 0.0  # the value of `_waited` at the latest news or request
        self._gap_since = 0.0  # the value of `_waited` at the latest news
        self._clock, self._limit_seconds = "first", timeouts.first
        self._limiting_news = ""  # the kind of the latest news, which set these two
        self._is_shorter = False  # the limit may be shorter than at the latest `start_wait`

    @property
    def has_news(self) -> bool:
        return self._clock != "first"

    def restart(self) -> None:
        """Restarts the timeouts for another request; `total` goes on."""
        self.apply_news()
        self._idle_since = self._waited
        self._clock, self._limit_seconds = "first", self._timeouts.first
        self._limiting_news = ""
        self.in_grace_period = False

    def start_grace_period(self) -> None:
        self.apply_news()
        self._idle_since, self._limit_seconds = self._waited, END_GRACE_SECONDS
        self._is_shorter = True
        super().start_grace_period()

    def start_wait(self) -> bool:
        # These two methods run for every block, so they avoid every call that they can.
        if self._received.new_output:
            self.apply_news()
        self._began = self.now()
        is_shorter, self._is_shorter = self._is_shorter, False
        return is_shorter

    def end_wait(self) -> None:
        self._received_at = now = self.now()
        self._waited += now - self._began

    def add_wait(self, seconds: float) -> None:
        """Counts a wait between two requests: for a pause or for a `Limit`."""
        self._waited += seconds
        self._idle_since += seconds

    def apply_news(self) -> None:
        """Restarts the idle timeout if the latest block was useful."""
        received = self._received
        news = received.new_output
        if not news:
            return
        received.new_output = ""
        if news != "finish":
            silent_seconds = self._waited - self._gap_since
            if self.longest_gap is None or silent_seconds > self.longest_gap:
                self.record_output(self._received_at, silent_seconds)
            else:  # as after nearly every block
                self.last_at = self._received_at
        self._gap_since = self._waited
        if self.in_grace_period:  # nothing may extend the last timeout
            return
        self._idle_since = self._waited
        if news != self._limiting_news:
            self._limiting_news, self._is_shorter = news, True
            timeouts = self._timeouts
            if news == "thinking" and timeouts.thinking_gap is not None:
                self._clock, self._limit_seconds = "thinking_gap", timeouts.thinking_gap
            else:
                self._clock, self._limit_seconds = "gap", timeouts.gap

    def remaining(self) -> float:
        return min(self._idle_remaining(), self.total_remaining()) - self.elapsed()

    def _idle_remaining(self) -> float:
        return self._limit_seconds - (self._waited - self._idle_since)

    def total_remaining(self) -> float:
        total = self._timeouts.total
        return math.inf if total is None else total - self._waited

    def expired(self) -> tuple[str, float]:
        total = self._timeouts.total
        if total is not None and self.total_remaining() < self._idle_remaining():
            return "total", total
        return self._clock, self._limit_seconds
