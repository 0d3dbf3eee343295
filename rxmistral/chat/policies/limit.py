"""The policy that limits concurrent streams and the rate of requests.

    answer ──▶ acquire a slot, once per answer ──▶ wait to send, once per request
                 FIFO                                 FIFO

Strategy: an answer waits on the thread of its own reader, or on its scheduler. `release` hands the slot directly to
the answer that has waited longest, so no other one can overtake it. Of the answers that wait to
send, only the first in the queue waits with a timeout; it wakes the next one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from threading import Lock

from ...checks import check_integer
from ...rx.cancellation import Waiter, Waits
from ...rx.clock import monotonic
from ...rx.threads import fork_safe, register_for_fork

__all__ = ["Limit"]

_MINUTE = 60.0  # seconds


class Limit:
    """A limit of concurrent streams and of requests per minute.

    All clients and streams that are given the same `Limit` share it. A stream has its slot
    from before its first request until it has ended and its connection is released. Slots
    are assigned in the order of arrival, and a stream that waits for one can be disposed at
    any time. When the service answers one stream with a time to wait (`Retry-After`), all
    of them wait.

    Args:
        concurrent: The number of streams at once. None: no limit.
        per_minute: The number of requests within any 60 seconds, repeated requests included.
            None: no limit.
        now: Returns the time in seconds. None: the time of each client's scheduler, or of
            `time.monotonic()`.
    """

    def __init__(
        self,
        concurrent: int | None = None,
        per_minute: int | None = None,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        for name, value in (("concurrent", concurrent), ("per_minute", per_minute)):
            if value is not None:
                check_integer(name, value)
        if concurrent is None and per_minute is None:
            raise ValueError("a Limit needs at least one limit: give concurrent or per_minute")
        self._concurrent = self._free = concurrent
        self._per_minute = per_minute
        self._now = now
        self._lock = fork_safe(Lock())
        self._waiting: deque[Waiter] = deque()  # for a slot
        self._queue: deque[Waiter] = deque()  # to send
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._paused_until = 0.0
        register_for_fork(self)

    def forked(self) -> None:
        """Frees all slots: the streams that have one, or wait for one, are the parent's."""
        self._free = self._concurrent
        self._waiting.clear()
        self._queue.clear()

    def __repr__(self) -> str:
        limits = []
        if self._concurrent is not None and self._free is not None:
            used = self._concurrent - self._free
            limits.append(
                f"concurrent={self._concurrent} ({used} in use, {len(self._waiting)} waiting)"
            )
        if self._per_minute is not None:
            limits.append(f"per_minute={self._per_minute} ({len(self._queue)} waiting)")
        return f"<Limit {', '.join(limits)}>"

    def acquire(self, waiter: Waiter) -> Waits:
        """Waits for a slot; takes none if the generator is closed before."""
        if self._free is None:
            return
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            self._waiting.append(waiter)
        try:
            while waiter in self._waiting:
                yield math.inf
        except BaseException:
            self._stop_waiting(waiter)
            raise

    def _stop_waiting(self, waiter: Waiter) -> None:
        with self._lock:
            is_waiting = waiter in self._waiting
            if is_waiting:
                self._waiting.remove(waiter)
        if not is_waiting:  # it was handed the slot at the same moment
            self.release()

    def release(self) -> None:
        """Hands the slot to the stream that has waited longest, or frees it."""
        if self._free is None:
            return
        with self._lock:
            if self._waiting:
                self._waiting.popleft().wake()
            else:
                self._free += 1

    def wait_to_send(self, waiter: Waiter) -> Waits:
        """Waits until one request may be sent."""
        with self._lock:
            self._queue.append(waiter)
        try:
            while (seconds := self._seconds_to_wait(waiter)) > 0:
                yield seconds
        finally:
            with self._lock:
                self._queue.remove(waiter)
                if self._queue:
                    self._queue[0].wake()

    def _seconds_to_wait(self, waiter: Waiter) -> float:
        """Returns the seconds until it may send; 0 or less counts as a request that is sent."""
        with self._lock:
            if self._queue[0] is not waiter:
                return math.inf
            now = (self._now or waiter.now)()
            opens_at = self._paused_until
            if self._per_minute is not None and len(self._sent) == self._per_minute:
                opens_at = max(opens_at, self._sent[0] + _MINUTE)
            if opens_at <= now:
                self._sent.append(now)
            return opens_at - now

    def pause_for(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        """Lets no stream send before this time is over, as the service requested.

        Args:
            seconds: The seconds to wait.
            clock: Returns the time of the client, in seconds.
        """
        with self._lock:
            now = (self._now or clock)()
            self._paused_until = max(self._paused_until, now + seconds)
