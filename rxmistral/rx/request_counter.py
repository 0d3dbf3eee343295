"""What a run costs, counted by it and by whoever subscribed to it through others."""

from __future__ import annotations

from contextvars import ContextVar
from threading import Lock
from weakref import WeakSet

from .threads import fork_safe

__all__ = ["RequestCounter", "current_counter"]


class RequestCounter:
    """What a run counts, for itself and for whoever subscribed to it through others."""

    _lock = fork_safe(Lock())

    def __init__(self) -> None:
        self.requests = 0
        self.answers = 0
        self.resumed = 0
        self.headers_at: float | None = None
        self._parents: WeakSet[RequestCounter] = WeakSet()  # a shared run outlives who reads it

    def report_to(self, parent: RequestCounter | None) -> None:
        """Have somebody else count as well, what was counted already included."""
        if parent is None:
            return
        with self._lock:
            self._parents.add(parent)
            parent._add(self.requests, self.answers, self.resumed, self.headers_at)

    def count_request(self) -> None:
        """One more is sent."""
        with self._lock:
            self._add(requests=1)

    def count_response(self, now: float) -> None:
        """The headers of an answer that is none of a refusal are here."""
        with self._lock:
            self._add(answers=1, headers_at=now)

    def count_resume(self) -> None:
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
        for parent in self._parents:
            parent._add(requests, answers, resumed, headers_at)


current_counter: ContextVar[RequestCounter | None] = ContextVar(
    "rxmistral_request_counter", default=None
)
"""Who counts what is subscribed to now."""
