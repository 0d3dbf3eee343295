"""A log in the memory of one process: for tests, and for apps that are one process."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from threading import Condition

from ..errors import FencedError, LogError, StoppedError, UnknownRunError
from ..rx.clock import monotonic
from .encoding import STOPPED
from .run_log import Page, check_bounds, check_run_id

__all__ = ["MemoryLog"]

_STOPPER = ""  # whose token is none of a producer's


class _StoredRun:
    """One run; touched under the log's lock."""

    def __init__(self, max_items: int) -> None:
        self.items: deque[bytes] = deque(maxlen=max_items)
        self.last = 0
        self.owner = _STOPPER
        self.seen_at = -float("inf")  # its last sign of life
        self.signs = 0
        self.ending: bytes | None = None
        self.ender: str | None = None

    def begin(self, run_id: str, token: str, after: int, lapsed: float) -> None:
        if self.owner == token:
            return
        if self.ender is not None or self.seen_at > lapsed or self.last != after:
            raise FencedError(run_id)
        self.owner = token

    def check(self, run_id: str, token: str) -> None:
        if self.owner != token or self.ender not in (None, token, _STOPPER):
            raise FencedError(run_id)
        if self.ender == _STOPPER:
            raise StoppedError

    def live(self, now: float) -> None:
        self.seen_at = now
        self.signs += 1

    def append(self, first: int, items: Sequence[bytes]) -> None:
        if first > self.last + 1:
            raise LogError(f"item {first} cannot come after item {self.last}")
        new = items[self.last + 1 - first :]
        self.items.extend(new)
        self.last += len(new)

    def end(self, ender: str, ending: bytes) -> None:
        if self.ender is None:
            self.ender, self.ending = ender, ending

    def page(self, after: int) -> Page | None:
        """What comes after this number; None where nothing does as yet."""
        kept_from = self.last - len(self.items) + 1
        skipped = max(0, after + 1 - kept_from)
        items = tuple(islice(self.items, skipped, None))
        if items or self.ending is not None:
            return Page(kept_from + skipped, items, self.ending, self.signs)
        return None


class MemoryLog:
    """A `RunLog` in the memory of this process.

    Args:
        ttl: Seconds that a run is kept after its last sign of life.
        max_items: How many of a run's items are kept, the last ones; who reads from an
            earlier one gets `LaggedError`.
        lease: Seconds without a sign of life after which a producer counts as dead.

    >>> import reactivex
    >>> from rxmistral import from_log, to_log
    >>> log = MemoryLog()
    >>> list(reactivex.of("Hel", "lo").pipe(to_log(log, "run-1")))
    ['Hel', 'lo']
    >>> list(from_log(log, "run-1", after=1))
    ['lo']
    """

    outage = 1.0  # it never is

    def __init__(
        self, *, ttl: float = 3600.0, max_items: int = 100_000, lease: float = 10.0
    ) -> None:
        check_bounds(ttl, max_items, lease)
        self.lease = lease
        self._ttl = ttl
        self._max_items = max_items
        self._runs: OrderedDict[str, _StoredRun] = OrderedDict()  # by their last signs of life
        self._changed = Condition()

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        check_run_id(run_id)
        with self._changed:
            now = monotonic()
            self._expire(now)
            run = self._runs.get(run_id) or _StoredRun(self._max_items)
            run.begin(run_id, token, after, now - self.lease)
            self._runs[run_id] = run
            self._note_life(run_id, run)
            self._changed.notify_all()

    def append(
        self,
        run_id: str,
        token: str,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None = None,
    ) -> None:
        with self._changed:
            run = self._checked(run_id, token)
            if run.ender is not None:
                return
            run.append(first, items)
            if ending is not None:
                run.end(token, ending)
            self._changed.notify_all()

    def keep(self, run_id: str, token: str, wait: float) -> None:
        with self._changed:
            run = self._checked(run_id, token)
            self._changed.wait_for(lambda: run.ender is not None or run.owner != token, wait)
            run.check(run_id, token)

    def read(self, run_id: str, after: int, wait: float) -> Page:
        with self._changed:
            page = self._wait_for(lambda: self._page(run_id, after), wait)
            return page or Page(after + 1, (), None, self._known(run_id).signs)

    def stop(self, run_id: str) -> None:
        with self._changed:
            self._known(run_id).end(_STOPPER, STOPPED)
            self._changed.notify_all()

    def _wait_for(self, look: Callable[[], Page | None], wait: float) -> Page | None:
        found: list[Page] = []

        def has_come() -> bool:
            page = look()
            if page is not None:
                found.append(page)
            return bool(found)

        self._changed.wait_for(has_come, wait)
        return found[0] if found else None

    def _page(self, run_id: str, after: int) -> Page | None:
        self._expire(monotonic())
        run = self._runs.get(run_id)
        return None if run is None else run.page(after)

    def _checked(self, run_id: str, token: str) -> _StoredRun:
        run = self._known(run_id)
        run.check(run_id, token)
        self._note_life(run_id, run)
        return run

    def _note_life(self, run_id: str, run: _StoredRun) -> None:
        run.live(monotonic())
        self._runs.move_to_end(run_id)

    def _known(self, run_id: str) -> _StoredRun:
        check_run_id(run_id)
        self._expire(monotonic())
        if run_id not in self._runs:
            raise UnknownRunError(run_id)
        return self._runs[run_id]

    def _expire(self, now: float) -> None:
        """Forget those whose last sign of life is too old: they are the first."""
        while self._runs:
            run_id, run = next(iter(self._runs.items()))
            if run.seen_at >= now - self._ttl:
                return
            del self._runs[run_id]
