"""What a log of runs promises; the brokers' logs and the one in memory keep it.

A run is a row of items, numbered 1, 2, 3, ..., and one ending after the last of them.
An item, and an ending, is one line of JSON: bytes without a newline (see `encoding`).

    begin ──▶ append ──▶ append ──▶ ... ──▶ append, with the ending
                keep ──▶ keep ──▶ keep ──▶ ...     a sign of life, from another thread
    stop ──▶ the ending, from any process
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import quote

from ..checks import check_integer, check_seconds

__all__ = ["Page", "RunLog", "check_bounds", "check_name", "check_run_id", "name_of"]

_LONGEST_ID = 200  # characters
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Page(NamedTuple):
    """What a log has of a run, from some item on.

    Attributes:
        first: The number of the first of the items. Where it is not the one that was
            asked for, those before it are no longer kept.
        items: In order, none left out.
        ending: What the run ended with, if that comes right after these items.
        sign: A number that changes with each sign of life from the producer.
    """

    first: int
    items: Sequence[bytes]
    ending: bytes | None = None
    sign: int = 0


class RunLog(Protocol):
    """An append-only log of runs: one process writes a run, any number of them read it.

    What every log promises:

    - *Order.* Items have the numbers 1, 2, 3, ... without a gap. Whoever reads after a
      number gets each item from there on once and in order, while the run is written
      and when it has ended.
    - *One ending.* It comes after the last item, and nothing ever comes after it.
    - *One producer.* A run belongs to who began it last. It can be begun again only
      when its producer gave no sign of life for a lease, and only by one who knows the
      number of its last item; from then on whatever the earlier one does is refused.
    - *All or nothing.* What one call of `append` gives is kept together, ending included.
    - *Repeatable.* Every call can be made again with the same arguments when it is not
      known what became of it, and has its effect once.
    - *Bounds.* Each item is kept for the log's `ttl` at least, unless `max_items` came
      after it. A run in which nothing is written for longer than that may be gone.

    All methods block, and may be called from any thread. They raise `LogUnavailableError`
    where the broker does not answer, without trying again: `to_log` and `from_log` do
    that for as long as `outage` says. Only `stop`, which users call themselves, does it
    itself. They raise `LogError` where it refuses.

    Attributes:
        lease: Seconds without a sign of life after which a producer counts as dead.
        outage: Seconds that the broker may be away.
    """

    @property
    def lease(self) -> float: ...

    @property
    def outage(self) -> float: ...

    def begin(self, run_id: str, token: str, after: int = 0) -> None:
        """Become the producer of a run, which is known by this token from now on.

        Raises:
            FencedError: The run has a living producer, or has ended, or its last item
                is not the one with the number `after`.
        """
        ...

    def append(
        self,
        run_id: str,
        token: str,
        first: int,
        items: Sequence[bytes],
        ending: bytes | None = None,
    ) -> None:
        """Write items, of which the first has this number, and the ending if there is one;
        a sign of life, too.

        Raises:
            LogError: The item before the first is missing.
            FencedError: The run belongs to another producer by now.
            StoppedError: It was stopped.
            UnknownRunError: It has expired.
        """
        ...

    def keep(self, run_id: str, token: str, wait: float) -> None:
        """Give a sign of life; then wait for the ending, so many seconds at most.

        Raises:
            FencedError, StoppedError, UnknownRunError: As `append`.
        """
        ...

    def read(self, run_id: str, after: int, wait: float) -> Page:
        """What there is after the item with this number, some of it at least; where there
        is nothing, wait for it, so many seconds at most.

        Past the end it is the ending alone.

        Raises:
            UnknownRunError: There is no such run, nor was one begun within the wait.
        """
        ...

    def stop(self, run_id: str) -> None:
        """End a run now, for all who read it, and for its producer; from any process.

        Its readers and its producer get `StoppedError`. A run that has ended stays as
        it is.

        Raises:
            UnknownRunError: There is no such run.
        """
        ...


def check_run_id(run_id: object) -> None:
    """Raise for what cannot name a run."""
    if not isinstance(run_id, str):
        raise TypeError(f"run_id must be a str, got {type(run_id).__name__}")
    if not 0 < len(run_id) <= _LONGEST_ID:
        raise ValueError(f"run_id must have 1 to {_LONGEST_ID} characters, got {len(run_id)}")
    name_of(run_id)  # a lone surrogate has no UTF-8


def check_name(name: object) -> None:
    """Raise for what cannot be the name of a log."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"name must be of letters, digits, - and _, got {name!r}")


def check_bounds(ttl: float, max_items: int, lease: float, outage: float = 1.0) -> None:
    """Raise for what cannot bound a log."""
    check_seconds("ttl", ttl)
    check_integer("max_items", max_items)
    check_seconds("lease", lease)
    check_seconds("outage", outage)
    if ttl < lease:
        raise ValueError(f"ttl must not be less than the lease, got {ttl:g} < {lease:g}")


def name_of(run_id: str) -> str:
    """A run's id in letters that mean nothing to a broker: no braces, dots, wildcards."""
    return quote(run_id, safe="").replace(".", "%2E")
