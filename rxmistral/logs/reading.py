"""A run read from its log.

    log ──▶ read ──▶ page ──▶ item, item, item ──▶ observer
            blocks                                     all on one thread per subscription

The thread polls, so that it notices when the subscriber has left or the producer has died.
For the latter it adds up how long it has waited without a heartbeat: by its own clock, and
only while the broker answers. So no two clocks are compared, and an outage of the broker,
during which no heartbeat can arrive, does not make the producer look dead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from reactivex import abc
from reactivex.disposable import Disposable

from ..checks import check_integer
from ..errors import LaggedError, LostProducerError, UnknownRunError
from ..rx.cancellation import Cancelled
from ..rx.clock import monotonic
from ..rx.history import Entry
from ..rx.stream import Stream
from ..rx.threads import add_to_scope
from .encoding import decode_ending, decode_item
from .run_log import OutageRetry, Page, RunLog, check_run_id, start_log_thread

__all__ = ["LoggedStream", "from_log"]

T = TypeVar("T")

_MAX_POLL_SECONDS = 0.25  # between two checks of whether the subscriber is still there
_POLLS_PER_LEASE = 8  # at least


class _RunReader:
    """Reads a run for one subscription; `make` turns a number and an item into what is emitted."""

    def __init__(
        self,
        log: RunLog,
        run_id: str,
        after: int,
        make: Callable[[int, Any], Any],
        observer: abc.ObserverBase[Any],
    ) -> None:
        self.retry = OutageRetry(log.outage)  # cancelling it ends the reading
        self._log = log
        self._run_id = run_id
        self._last = after  # the number of the last item that was emitted
        self._make = make
        self._observer = observer
        self._exists = False
        self._heartbeat = 0
        self._silent_seconds = 0.0  # of waiting since the last heartbeat
        self._poll_seconds = min(_MAX_POLL_SECONDS, log.lease / _POLLS_PER_LEASE)

    def run(self) -> None:
        try:
            error = self._emit_items()
        except Cancelled:
            return
        except Exception as raised:  # by the subscriber, or by a RunLog of the program
            self._observer.on_error(raised)
            return
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)

    def _emit_items(self) -> Exception | None:
        """Returns the error that the run ended with, or None."""
        emit, make = self._observer.on_next, self._make
        while True:
            page = self._next_page()
            items = [decode_item(item) for item in page.items]
            error = None if page.ending is None else decode_ending(page.ending)
            for number, item in enumerate(items, self._last + 1):
                if self.retry.cancelled:
                    raise Cancelled
                emit(make(number, item))
            self._last += len(items)
            if page.ending is not None:
                return error

    def _next_page(self) -> Page:
        """Returns the next page that has an item or the ending."""
        while (page := self.retry(self._poll)) is None:
            if self._silent_seconds > self._log.lease:
                if self._exists:
                    raise LostProducerError(self._run_id, self._log.lease)
                raise UnknownRunError(self._run_id)
        if page.first > self._last + 1:
            raise LaggedError(page.first - self._last - 1)
        return page

    def _poll(self) -> Page | None:
        """Returns None if nothing arrived in time."""
        began = monotonic()
        try:
            page = self._log.read(self._run_id, self._last, self._poll_seconds)
        except UnknownRunError:
            page = None
        has_news = page is not None and (page.items or page.ending is not None)
        if page is not None and (has_news or not self._exists or page.sign != self._heartbeat):
            self._exists, self._heartbeat, self._silent_seconds = True, page.sign, 0.0
        else:
            self._silent_seconds += monotonic() - began
        return page if has_news else None


class LoggedStream(Stream[T]):
    """A run read from its log: a `Stream` that is `Resumable`.

    Each subscription reads on a thread of its own. Disposing a subscription does not affect
    the run; to end the run, call `stop` of the log.
    """

    def __init__(self, log: RunLog, run_id: str, after: int = 0) -> None:
        self._log = log
        self._run_id = run_id
        self._first_after = after
        super().__init__(partial(self._subscribe_after, after, lambda _, item: item))

    def entries(self, after: int = 0) -> Stream[Entry[T]]:
        """Returns the items after the one with this id, each with its id in the run."""
        check_integer("after", after, minimum=0)
        return Stream(partial(self._subscribe_after, max(after, self._first_after), Entry))

    def _subscribe_after(
        self,
        after: int,
        make: Callable[[int, Any], Any],
        observer: abc.ObserverBase[Any],
        scheduler: abc.SchedulerBase | None = None,  # noqa: ARG002  # reads on its own thread
    ) -> abc.DisposableBase:
        reader = _RunReader(self._log, self._run_id, after, make, observer)
        subscription = Disposable(reader.retry.cancel)
        add_to_scope(subscription)
        start_log_thread("reader", reader.run)
        return subscription


def from_log(log: RunLog, run_id: str, after: int | None = None) -> LoggedStream[Any]:
    """A run in a log into its items, from any item on, during the run and after its end.

        log    1:a  2:b  3:c ----4:d--5:e-|->
        after=1
             --b-c---------------d----e---|->

    Args:
        log: The log that contains the run, or will contain it.
        run_id: The id of the run.
        after: The id of the last item that is not wanted; None: from the first item on.

    Emits: each later item once and in order, equal to what was written: stored items at
        once, new ones as they are written.
    Completes: when the run completed. A run that has ended can be read until it expires.
    Errors: with the error of the run: one of `rxmistral.errors` with its class and fields,
        any other as `ReportedError`. `StoppedError` if the run was stopped, or its producer
        unsubscribed. `LostProducerError` if the producer sent no heartbeat for the log's
        lease. `UnknownRunError` if the run has not begun within one lease. `LaggedError` if
        items are no longer stored. `LogUnavailableError` if the broker is unreachable for
        longer than the log's `outage`.

    Disposing it ends the reading, and does not affect the run.

    >>> import reactivex
    >>> from rxmistral import MemoryLog, to_log
    >>> log = MemoryLog()
    >>> _ = reactivex.of("a", "b", "c").pipe(to_log(log, "letters")).run()
    >>> [(entry.id, entry.item) for entry in from_log(log, "letters").entries(after=1)]
    [(2, 'b'), (3, 'c')]
    """
    check_run_id(run_id)
    if after is not None:
        check_integer("after", after, minimum=0)
    return LoggedStream(log, run_id, after or 0)
