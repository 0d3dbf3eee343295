"""A log in the memory of one process: for tests, and for programs that are one process."""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import partial
from itertools import islice
from threading import Condition

from ..errors import FencedError, LogError, StoppedError, UnknownRunError
from ..rx.clock import monotonic
from .encoding import STOPPED_ENDING
from .run_log import Lines, Page, check_bounds, check_run_id

__all__ = ["MemoryLog"]

_STOPPER = ""  # ended a run in place of a producer; no producer has this token


class _StoredRun:
    """One run; the lock of the log guards it."""

    def __init__(self, max_items: int) -> None:
        self.items: deque[bytes] = deque(maxlen=max_items)
        self.last = 0  # the number of the last item
        self.owner = _STOPPER  # the token of the producer
        self.renewed_at = -float("inf")  # the time of the last heartbeat
        self.heartbeats = 0
        self.ending: bytes | None = None
        self.ended_by: str | None = None  # a token, or _STOPPER

    def check_producer(self, run_id: str, token: str) -> None:
        if self.owner != token or self.ended_by not in (None, token, _STOPPER):
            raise FencedError(run_id)
        if self.ended_by == _STOPPER:
            raise StoppedError

    def append(self, first: int, items: Lines) -> None:
        if first > self.last + 1:
            raise LogError(f"item {first} cannot follow item {self.last}: an item is missing")
        new = items[self.last + 1 - first :]
        self.items.extend(new)
        self.last += len(new)

    def end(self, ended_by: str, ending: bytes) -> None:
        if self.ended_by is None:
            self.ended_by, self.ending = ended_by, ending

    def page(self, after: int) -> Page | None:
        first_stored = self.last - len(self.items) + 1
        skipped = max(0, after + 1 - first_stored)
        items = tuple(islice(self.items, skipped, None))
        if items or self.ending is not None:
            return Page(first_stored + skipped, items, self.ending, self.heartbeats)
        return None


class MemoryLog:
    """A `RunLog` in the memory of this process.

    Args:
        ttl: Seconds that a run is stored after its last heartbeat.
        max_items: How many items of a run are stored, the last ones; for an earlier one a
            reader gets `LaggedError`.
        lease: Seconds without a heartbeat after which a producer is considered dead.

    >>> import reactivex
    >>> from rxmistral import from_log, to_log
    >>> log = MemoryLog()
    >>> _ = reactivex.of("Hel", "lo").pipe(to_log(log, "run-1")).run()
    >>> list(from_log(log, "run-1"))
    ['Hel', 'lo']
    """

    outage = 1.0  # required by RunLog; memory is never unreachable

    def __init__(
        self, *, ttl: float = 3600.0, max_items: int = 100_000, lease: float = 10.0
    ) -> None:
        check_bounds(ttl, max_items, lease)
        self.lease = lease
        self._ttl = ttl
        self._max_items = max_items
        self._runs: OrderedDict[str, _StoredRun] = OrderedDict()  # oldest heartbeat first
        self._changed = Condition()

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        check_run_id(run_id)
        with self._changed:
            self._expire()
            run = self._runs.get(run_id) or _StoredRun(self._max_items)
            if run.owner != token:
                is_alive = run.renewed_at > monotonic() - self.lease
                if run.ended_by is not None or is_alive or run.last != after:
                    raise FencedError(run_id)
                run.owner = token
            self._runs[run_id] = run
            self._renew_lease(run_id, run)
            self._changed.notify_all()

    def append(
        self, run_id: str, token: str, first: int, items: Lines, ending: bytes | None = None
    ) -> None:
        with self._changed:
            run = self._produced_run(run_id, token)
            if run.ended_by is not None:
                return
            run.append(first, items)
            if ending is not None:
                run.end(token, ending)
            self._changed.notify_all()

    def keep(self, run_id: str, token: str, wait: float) -> None:
        with self._changed:
            run = self._produced_run(run_id, token)
            self._changed.wait_for(lambda: run.ended_by is not None or run.owner != token, wait)
            run.check_producer(run_id, token)

    def read(self, run_id: str, after: int, wait: float) -> Page:
        with self._changed:
            page = self._changed.wait_for(partial(self._page, run_id, after), wait)
            return page or Page(after + 1, (), None, self._run(run_id).heartbeats)

    def stop(self, run_id: str) -> None:
        with self._changed:
            self._run(run_id).end(_STOPPER, STOPPED_ENDING)
            self._changed.notify_all()

    def _page(self, run_id: str, after: int) -> Page | None:
        self._expire()
        run = self._runs.get(run_id)
        return None if run is None else run.page(after)

    def _produced_run(self, run_id: str, token: str) -> _StoredRun:
        run = self._run(run_id)
        run.check_producer(run_id, token)
        self._renew_lease(run_id, run)
        return run

    def _renew_lease(self, run_id: str, run: _StoredRun) -> None:
        run.renewed_at = monotonic()
        run.heartbeats += 1
        self._runs.move_to_end(run_id)

    def _run(self, run_id: str) -> _StoredRun:
        check_run_id(run_id)
        self._expire()
        if run_id not in self._runs:
            raise UnknownRunError(run_id)
        return self._runs[run_id]

    def _expire(self) -> None:
        expired_before = monotonic() - self._ttl
        while self._runs and next(iter(self._runs.values())).renewed_at < expired_before:
            self._runs.popitem(last=False)
