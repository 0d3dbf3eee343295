"""How many streams at once, and how many requests a minute.

    run ──▶ enter: a slot, for the whole run ──▶ pass_by: leave to send, for each request
              waiting, FIFO                        queue, FIFO

Who has to wait does so on the thread of its own reader. A slot is handed by the one who
leaves to the one who has waited longest, so nobody slips in between; and of those who
wait for the leave to send only the foremost looks at the clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from threading import Lock

from ...checks import check_integer
from ...rx.cancellation import Cancellation
from ...rx.clock import monotonic
from ...rx.threads import fork_safe, register_for_fork

__all__ = ["Limit"]

_MINUTE = 60.0  # seconds


class Limit:
    """Shared by the clients or streams that are given the same one.

    A stream has its slot from before its first request until it has ended and its
    connection is free; who waits for one is served in the order of coming, and can be
    disposed at any time. Where the service says to one of them how long to wait
    (`Retry-After`), all of them wait.

    Args:
        concurrent: Streams at once; None sets no limit.
        per_minute: Requests within any 60 seconds, repeated ones included; None sets no
            limit.
        now: Tells the time, in seconds.
    """

    def __init__(
        self,
        concurrent: int | None = None,
        per_minute: int | None = None,
        *,
        now: Callable[[], float] = monotonic,
    ) -> None:
        if concurrent is not None:
            check_integer("concurrent", concurrent)
        if per_minute is not None:
            check_integer("per_minute", per_minute)
        if concurrent is None and per_minute is None:
            raise ValueError("a Limit needs a limit: give concurrent or per_minute")
        self._concurrent = self._free = concurrent
        self._per_minute = per_minute
        self._now = now
        self._lock = fork_safe(Lock())
        self._waiting: deque[Cancellation] = deque()  # for a slot
        self._queue: deque[Cancellation] = deque()  # for the leave to send
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._closed_until = 0.0
        register_for_fork(self)

    def forked(self) -> None:
        """Frees the slots: the streams that have them, or wait for one, are the parent's."""
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

    def enter(self, waiter: Cancellation) -> None:
        """Wait for a slot."""
        if self._free is None:
            return
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            self._waiting.append(waiter)
        try:
            while waiter in self._waiting:
                waiter.wait()
        except BaseException:
            self._give_up(waiter)
            raise

    def _give_up(self, waiter: Cancellation) -> None:
        with self._lock:
            waits = waiter in self._waiting
            if waits:
                self._waiting.remove(waiter)
        if not waits:  # it was handed the slot at the same moment
            self.leave()

    def leave(self) -> None:
        """Give the slot to the next."""
        if self._free is None:
            return
        with self._lock:
            if self._waiting:
                self._waiting.popleft().wake()
            else:
                self._free += 1

    def pass_by(self, waiter: Cancellation) -> None:
        """Wait for the leave to send one request."""
        with self._lock:
            self._queue.append(waiter)
        try:
            while (left := self._left(waiter)) > 0:
                waiter.wait(left)
        finally:
            with self._lock:
                self._queue.remove(waiter)
                if self._queue:
                    self._queue[0].wake()

    def _left(self, waiter: Cancellation) -> float:
        """Returns the seconds that it has to wait; infinity while others are before it."""
        with self._lock:
            if self._queue[0] is not waiter:
                return math.inf
            now = self._now()
            opens = self._closed_until
            if self._per_minute is not None and len(self._sent) == self._per_minute:
                opens = max(opens, self._sent[0] + _MINUTE)
            if opens <= now:
                self._sent.append(now)
            return opens - now

    def close_for(self, seconds: float) -> None:
        """The service asked for a pause: nobody sends before it is over."""
        with self._lock:
            self._closed_until = max(self._closed_until, self._now() + seconds)
