"""Counts the requests of a run, for its outcome and for runs that subscribe to it."""

from __future__ import annotations

from contextvars import ContextVar
from threading import Lock
from weakref import WeakSet

from .threads import fork_safe

__all__ = ["RequestCounter", "current_counter"]


class RequestCounter:
    """The number of requests that a run has sent, including those of runs it subscribed to."""

    _lock = fork_safe(Lock())

    def __init__(self) -> None:
        self.requests = 0
        self.answers = 0  # responses that were not refusals
        self.resumed = 0  # answers that were continued after a break
        self.headers_at: float | None = None  # of the first answer, in seconds of monotonic()
        self.request_id: str | None = None  # that the latest response has, if it has one
        # Weak, since a shared run outlives its readers. None: no parent, as for most runs.
        self._parents: WeakSet[RequestCounter] | None = None

    def report_to(self, parent: RequestCounter | None) -> None:
        """Adds the counts so far, and all later ones, to another counter, but only once.

        Has no effect if the other one reports to this: a callback of a run may read the run.
        """
        with self._lock:
            if parent is None or parent in (self._parents or ()) or parent._reports_to(self):
                return
            self._parents = self._parents or WeakSet()
            self._parents.add(parent)
            parent._add(self.requests, self.answers, self.resumed, self.headers_at)
            if self.request_id is not None:
                parent._set_request_id(self.request_id)

    def _reports_to(self, other: RequestCounter) -> bool:
        return self is other or any(parent._reports_to(other) for parent in self._parents or ())

    def count_request(self) -> None:
        with self._lock:
            self._add(requests=1)

    def count_response(self, now: float) -> None:
        """Counts a response that is not a refusal, when its headers have arrived."""
        with self._lock:
            self._add(answers=1, headers_at=now)

    def record_request_id(self, request_id: str | None) -> None:
        """Records the id in the headers of a response; None: it has none."""
        with self._lock:
            self._set_request_id(request_id)

    def count_resume(self) -> None:
        with self._lock:
            self._add(resumed=1)

    def _set_request_id(self, request_id: str | None) -> None:
        self.request_id = request_id
        for parent in self._parents or ():
            parent._set_request_id(request_id)

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
        for parent in self._parents or ():
            parent._add(requests, answers, resumed, headers_at)


current_counter: ContextVar[RequestCounter | None] = ContextVar(
    "rxmistral_request_counter", default=None
)
"""The counter of the run that is subscribing."""
