"""What a run costs, counted by it and by whoever subscribed to it through others."""

from __future__ import annotations

from contextvars import ContextVar
from threading import Lock
from weakref import WeakSet

from .threads import fork_safe

__all__ = ["Tally", "counted"]


class Tally:
    """What a run counts, for itself and for whoever subscribed to it through others."""

    _lock = fork_safe(Lock())

    def __init__(self) -> None:
        self.requests = 0
        self.answers = 0
        self.resumed = 0
        self.headers_at: float | None = None
        self._above: WeakSet[Tally] = WeakSet()  # a shared run outlives who reads it

    def report_to(self, above: Tally | None) -> None:
        """Have somebody else count as well, what was counted already included."""
        if above is None:
            return
        with self._lock:
            self._above.add(above)
            above._add(self.requests, self.answers, self.resumed, self.headers_at)

    def request(self) -> None:
        """One more is sent."""
        with self._lock:
            self._add(requests=1)

    def answer(self, now: float) -> None:
        """The headers of an answer that is none of a refusal are here."""
        with self._lock:
            self._add(answers=1, headers_at=now)

    def resume(self) -> None:
        """An answer is continued."""
        with self._lock:
            self._add(resumed=1)

    def _add(
        self,
        requests: int = 0,
        answers: int = 0,
        resumed: int = 0,
        headers_at: float | None = None,
    ) -> None:
        self.requests += requests
        self.answers += answers
        self.resumed += resumed
        if self.headers_at is None:
            self.headers_at = headers_at
        for above in self._above:
            above._add(requests, answers, resumed, headers_at)


counted: ContextVar[Tally | None] = ContextVar("rxmistral_counted", default=None)
"""Who counts what is subscribed to now."""
