"""The interface of a log of runs, which the memory log and the brokers' logs implement.

A run is a sequence of items, numbered 1, 2, 3, ..., and one ending after the last of them.
Each item is one line of JSON, and so is the ending: bytes without a newline (see `encoding`).

    producer      begin ──▶ append ──▶ append ──▶ ... ──▶ append, with the ending
                    keep ──▶ keep ──▶ keep ──▶ ...        heartbeats, from another thread
    any process   stop ──▶ the ending
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextvars import copy_context
from threading import Thread
from typing import NamedTuple, Protocol, Self, TypeAlias, TypeVar
from urllib.parse import quote

from ..checks import check_integer, check_seconds
from ..errors import LogUnavailableError
from ..rx.cancellation import Cancellation
from ..rx.clock import monotonic
from ..rx.current_iteration import current_iteration
from ..rx.subscriber import reporting_unhandled
from ..rx.threads import start_thread

__all__ = [
    "BrokerLog",
    "Lines",
    "OutageRetry",
    "Page",
    "RunLog",
    "check_bounds",
    "check_run_id",
    "quote_run_id",
    "start_log_thread",
]

T = TypeVar("T")

Lines: TypeAlias = Sequence[bytes]  # of JSON, one for each item

_MAX_ID_LENGTH = 200  # characters
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PAUSE_SECONDS = 0.1  # between two attempts to reach a broker


class Page(NamedTuple):
    """Consecutive items of a run, as one read of its log returns them.

    Attributes:
        first: The number of the first item. If it is greater than the number that was asked
            for, the items in between are no longer stored.
        items: The encoded items, in order and without a gap.
        ending: The encoded ending if it directly follows these items, or None.
        sign: A number that changes with each heartbeat of the producer.
    """

    first: int
    items: Lines
    ending: bytes | None = None
    sign: int = 0


class RunLog(Protocol):
    """An append-only log of runs: one process writes a run, any number of them read it.

    Every log guarantees:

    - *Order.* Items are numbered 1, 2, 3, ... without a gap. A reader receives each item
      after a number once and in order, both during the run and after its end.
    - *One ending.* The ending follows the last item, and nothing follows the ending.
    - *One producer.* A run belongs to the producer that began it last, which holds a lease.
      Another producer can begin it only after the lease has expired without a heartbeat, and
      only if it knows the number of the last item. From then on the log refuses everything
      that the earlier producer sends: that producer is fenced out.
    - *Atomicity.* All items of one `append` are stored together, including the ending.
    - *Idempotence.* A call that is repeated with the same arguments takes effect once.
    - *Bounds.* Each item is stored for at least `ttl` seconds, unless `max_items` items
      follow it. A run that is not written to for longer may expire.

    All methods block, and may be called from any thread. They raise `LogError` if the broker
    refuses the call, and `LogUnavailableError` at once if it does not answer; `to_log` and
    `from_log` repeat the call for up to `outage` seconds. `stop`, which programs call
    directly, repeats it itself. `run_id` is the id of the run, and `token` the unique string
    with which its producer began it.

    Attributes:
        lease: Seconds without a heartbeat after which a producer is considered dead.
        outage: Seconds for which the broker may be unreachable.
    """

    @property
    def lease(self) -> float: ...

    @property
    def outage(self) -> float: ...

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        """Makes the caller the producer of a run, identified by this fencing token.

        Args:
            after: The number of the last item that the run has; 0: a new run.

        Raises:
            FencedError: The run has a living producer, has ended, or its last item does not
                have the number `after`.
        """

    def append(
        self, run_id: str, token: str, first: int, items: Lines, ending: bytes | None = None
    ) -> None:
        """Writes items, and the ending if there is one; also renews the lease.

        Args:
            first: The number of the first of these items.
            items: The encoded items, without newlines.
            ending: The encoded ending; None: the run continues.

        Raises:
            LogError: The item before the first is missing.
            FencedError: The run belongs to another producer.
            StoppedError: The run was stopped.
            UnknownRunError: The run has expired.
        """

    def keep(self, run_id: str, token: str, wait: float) -> None:
        """Sends a heartbeat, which renews the lease; then waits for the run to be stopped.

        Args:
            wait: Seconds to wait at most.

        Raises:
            FencedError, StoppedError, UnknownRunError: In the cases that `append` lists.
        """

    def read(self, run_id: str, after: int, wait: float) -> Page:
        """Returns items of a run; waits for the first one if there is none yet.

        Args:
            after: The number of the item before the first that is wanted.
            wait: Seconds to wait at most.

        Returns:
            At least one item if there are any; the ending alone past the end; an empty page
            if the wait has expired.

        Raises:
            UnknownRunError: The run does not exist, and was not begun during the wait.
        """
        ...

    def stop(self, run_id: str) -> None:
        """Ends a run now, from any process; its readers and its producer get `StoppedError`.

        Has no effect on a run that has ended.

        Raises:
            UnknownRunError: The run does not exist.
        """


class BrokerLog(ABC):
    """The settings of a log in a broker; the end of a `with` block closes it."""

    def __init__(self, name: str, ttl: float, max_items: int, lease: float, outage: float) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, got {type(name).__name__}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"name must consist of letters, digits, - and _, got {name!r}")
        check_bounds(ttl, max_items, lease)
        check_seconds("outage", outage)
        self.lease = lease
        self.outage = outage
        self._name = name
        self._ttl = ttl
        self._max_items = max_items

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class OutageRetry(Cancellation):
    """Repeats calls to a broker that is unreachable, each for `seconds`; can be cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def __call__(self, call: Callable[[], T]) -> T:
        """Returns the result of the first attempt that reaches the broker."""
        deadline = monotonic() + self._seconds
        while True:
            self.check()
            try:
                return call()
            except LogUnavailableError as error:
                remaining = deadline - monotonic()
                if remaining <= 0:
                    raise LogUnavailableError(error.reason, self._seconds) from error
                self.wait(min(_PAUSE_SECONDS, remaining))


def start_log_thread(name: str, work: Callable[[], object]) -> None:
    """Starts work for a subscription, in a copy of the current context."""
    start_thread(
        Thread(
            target=reporting_unhandled(copy_context().run),
            args=(work,),
            name=f"rxmistral-log-{name}",
            daemon=current_iteration.get() is not None,
        )
    )


def check_run_id(run_id: object) -> None:
    if not isinstance(run_id, str):
        raise TypeError(f"run_id must be a str, got {type(run_id).__name__}")
    if not 0 < len(run_id) <= _MAX_ID_LENGTH:
        raise ValueError(f"run_id must have 1 to {_MAX_ID_LENGTH} characters, got {len(run_id)}")
    quote_run_id(run_id)  # raises UnicodeEncodeError, a ValueError, for a lone surrogate


def check_bounds(ttl: float, max_items: int, lease: float) -> None:
    check_seconds("ttl", ttl)
    check_integer("max_items", max_items)
    check_seconds("lease", lease)
    if ttl < lease:
        raise ValueError(f"ttl must not be less than the lease, got {ttl:g} < {lease:g}")


def quote_run_id(run_id: str) -> str:
    """Returns the id without the characters that brokers interpret: braces, dots, wildcards."""
    return quote(run_id, safe="").replace(".", "%2E")
