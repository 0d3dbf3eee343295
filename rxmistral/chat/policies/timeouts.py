"""Four clocks, on meaning: how long a call may wait for what.

    connect   ├──────┤ a connection, TLS included
    first     ├────────────────────┤ something useful: text, thinking, a tool call
    gap                            ├─────────┤ more of it (thinking_gap while it thinks)
    total     ├──────────────────────────────────────────────────┤ the end

After the finish_reason of a whole answer the rest of the body has a quarter of a second:
the end of that is no error.

Bytes are not meaning: comments, roles and empty deltas feed no clock. And the server's
time is not the subscriber's: what counts is the time that the reader waits for the
network, so a slow subscriber rings none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ...checks import check_seconds
from ...completions.accumulator import CompletionAccumulator
from ...completions.finish import AFTER_END
from ...rx.clock import monotonic
from ...wire.idle_timeout import IdleTimeout

__all__ = ["ResponseTimeouts", "Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a call may wait, in seconds.

    What runs out is named by the `clock` of a `RequestTimeoutError`, where no answer had
    begun, or of a `StreamTimeoutError`, which has the response so far.

    Args:
        connect: For a connection, TLS included.
        first: From the request until the first text, thinking or tool call.
        gap: From there on, between two of them, and until the end.
        thinking_gap: The same while the model thinks; as `gap` where it is None.
        total: For all of it, further attempts and the waits before them included; None
            sets no limit.
    """

    connect: float = 10.0
    first: float = 60.0
    gap: float = 60.0
    thinking_gap: float | None = None
    total: float | None = None

    def __post_init__(self) -> None:
        check_seconds("connect", self.connect)
        check_seconds("first", self.first)
        check_seconds("gap", self.gap)
        if self.thinking_gap is not None:
            check_seconds("thinking_gap", self.thinking_gap)
        if self.total is not None:
            check_seconds("total", self.total)


class ResponseTimeouts(IdleTimeout):
    """The clocks of one run, and when what came.

    Args:
        timeouts: What they are set to.
        received: Where the answer is added up; its `news` feed them.
        now: Tells the time, in seconds.

    Attributes:
        first_at: When the first useful bytes came, by `now`; None as long as they have not.
        last_at: When the latest did.
        longest_gap: The longest silence of the server between two of them, in seconds.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        received: CompletionAccumulator,
        now: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(timeouts.connect, timeouts.first, now)
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.longest_gap: float | None = None
        self._timeouts = timeouts
        self._received = received
        self._came_at = 0.0
        self._silent = 0.0  # waited since the latest news, or the request
        self._gap = 0.0  # waited since the latest news
        self._total = 0.0  # waited in all
        self._clock, self._limit = "first", timeouts.first

    @property
    def has_news(self) -> bool:
        """Whether the latest request brought anything useful."""
        return self._clock != "first"

    def restart(self) -> None:
        """Another request begins."""
        self.note_news()
        self._silent = 0.0
        self._clock, self._limit = "first", self._timeouts.first
        self.in_grace_period = False

    def start_grace_period(self) -> None:
        self.note_news()
        self._silent, self._limit = 0.0, AFTER_END
        super().start_grace_period()

    def start_wait(self) -> None:
        # These two are on the path of every block: no call that can be spared.
        if self._received.news:
            self.note_news()
        self._began = self._now()

    def end_wait(self) -> None:
        self._came_at = self._now()
        waited = self._came_at - self._began
        self._silent += waited
        self._gap += waited
        self._total += waited

    def add_wait(self, seconds: float) -> None:
        """It waited for something else than the network, by its own will."""
        self._gap += seconds
        self._total += seconds

    def note_news(self) -> None:
        """Look whether what came last was news."""
        news = self._received.news
        if not news:
            return
        self._received.news = ""
        if news != "finish":
            self._note()
        self._gap = 0.0
        if self.in_grace_period:  # its end may be put off by nothing
            return
        self._silent = 0.0
        timeouts = self._timeouts
        if news == "thinking" and timeouts.thinking_gap is not None:
            self._clock, self._limit = "thinking_gap", timeouts.thinking_gap
        else:
            self._clock, self._limit = "gap", timeouts.gap

    def _note(self) -> None:
        if self.first_at is None:
            self.first_at = self._came_at
        else:
            self.longest_gap = max(self.longest_gap or 0.0, self._gap)
        self.last_at = self._came_at

    def remaining(self) -> float:
        waited = self.elapsed()
        return min(self._limit - self._silent, self.total_remaining()) - waited

    def total_remaining(self) -> float:
        total = self._timeouts.total
        return math.inf if total is None else total - self._total

    def expired(self) -> tuple[str, float]:
        total = self._timeouts.total
        if total is not None and self.total_remaining() < self._limit - self._silent:
            return "total", total
        return self._clock, self._limit
