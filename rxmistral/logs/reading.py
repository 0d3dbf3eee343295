"""A run out of its log.

    log ──▶ read ──▶ page ──▶ item, item, item ──▶ observer
             waits                                     all of it on one thread of its own

The thread looks up every now and then: whether the subscriber is still there, and
whether the producer is. For that it counts how long it waited in vain, on its own clock,
and only where the broker answered. So no two clocks are compared, and a broker that was
away, and the producer's signs of life with it, is no reason to give the producer up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from reactivex import abc
from reactivex.disposable import Disposable

from ..checks import check_integer
from ..errors import LaggedError, LostProducerError, UnknownRunError
from ..rx.cancellation import Cancelled
from ..rx.clock import monotonic
from ..rx.history import Entry
from ..rx.iteration import being_iterated
from ..rx.stream import Stream
from ..rx.subscriber import reporting_unhandled
from ..rx.threads import add_to_scope, start_thread
from .encoding import decode_ending, decode_item
from .outage import OutageRetry
from .run_log import Page, RunLog, check_run_id

__all__ = ["LoggedStream", "from_log"]

T = TypeVar("T")

_LOOK = 0.25  # seconds between two looks at whether somebody still reads, at most
_LOOKS = 8  # in a lease, at least


class _Pages:
    """The pages of a run, one after the other; it knows when to give it up."""

    def __init__(self, log: RunLog, run_id: str, after: int, retry_outage: OutageRetry) -> None:
        self._log = log
        self._run_id = run_id
        self._after = after
        self._retry_outage = retry_outage
        self._known = False
        self._sign = 0
        self._silent = 0.0  # seconds of waiting since the last sign of life
        self._look = min(_LOOK, log.lease / _LOOKS)

    def next(self) -> Page:
        """The next one that has an item or the ending."""
        while True:
            page = self._retry_outage(self._read)
            if page is None:
                self._check_silence()
                continue
            if page.first > self._after + 1:
                raise LaggedError(page.first - self._after - 1)
            self._after += len(page.items)
            return page

    def _read(self) -> Page | None:
        """One look; None where there is nothing."""
        began = monotonic()
        try:
            page = self._log.read(self._run_id, self._after, self._look)
        except UnknownRunError:
            page = None
        came = page is not None and (page.items or page.ending is not None)
        if page is not None and (came or not self._known or page.sign != self._sign):
            self._known, self._sign, self._silent = True, page.sign, 0.0
        else:
            self._silent += monotonic() - began
        return page if came else None

    def _check_silence(self) -> None:
        if self._silent > self._log.lease:
            if self._known:
                raise LostProducerError(self._run_id, self._log.lease)
            raise UnknownRunError(self._run_id)


def _read(
    pages: _Pages,
    after: int,
    retry_outage: OutageRetry,
    emit: Callable[[int, Any], None],
    observer: abc.ObserverBase[Any],
) -> None:
    """Emit the items of pages, and the end; on the thread that reads."""
    while True:
        try:
            page = pages.next()
            items = [decode_item(item) for item in page.items]
            error = None if page.ending is None else decode_ending(page.ending)
        except Cancelled:
            return
        except Exception as failed:  # a log of the user's own may raise anything
            observer.on_error(failed)
            return
        try:
            for after, item in enumerate(items, after + 1):  # noqa: B020  # it goes on from there
                if retry_outage.cancelled:
                    return
                emit(after, item)
        except Exception as raised:  # by the subscriber
            observer.on_error(raised)
            return
        if page.ending is not None:
            observer.on_completed() if error is None else observer.on_error(error)
            return


class LoggedStream(Stream[T]):
    """A run out of its log: a `Stream` that is `Resumable`.

    Each subscription reads on a thread of its own. Who leaves stops nothing; the log's
    `stop` does.
    """

    def __init__(self, log: RunLog, run_id: str, after: int = 0) -> None:
        self._log = log
        self._run_id = run_id
        self._from = after
        super().__init__(partial(self._subscribe_after, after, lambda _, item: item))

    def entries(self, after: int = 0) -> Stream[Entry[T]]:
        """All of its items after the one with this id, and their ids: those of the run."""
        check_integer("after", after, minimum=0)
        return Stream(partial(self._subscribe_after, max(after, self._from), Entry))

    def _subscribe_after(
        self,
        after: int,
        make: Callable[[int, Any], Any],
        observer: abc.ObserverBase[Any],
        scheduler: abc.SchedulerBase | None = None,  # noqa: ARG002  # a thread of its own
    ) -> abc.DisposableBase:
        retry_outage = OutageRetry(self._log.outage)
        pages = _Pages(self._log, self._run_id, after, retry_outage)

        def emit(number: int, item: Any) -> None:
            observer.on_next(make(number, item))

        subscription = Disposable(retry_outage.cancel)
        add_to_scope(subscription)
        start_thread(
            Thread(
                target=reporting_unhandled(copy_context().run),
                args=(_read, pages, after, retry_outage, emit, observer),
                name="rxmistral-log-reader",
                daemon=being_iterated.get() is not None,
            )
        )
        return subscription


def from_log(log: RunLog, run_id: str, after: int | None = None) -> LoggedStream[Any]:
    """A run out of its log, from any of its items on, while it is written and afterwards.

        log    1:a  2:b  3:c ----4:d--5:e-|->
        after=1
             --b-c---------------d----e---|->

    Args:
        log: Where the run is, or will be.
        run_id: Which one.
        after: The id of the last item that is not wanted; None is from the first on.

    Emits: each item after that, once and in order, equal to what was written; what is
        there at once, and what comes as it comes.
    Completes: as the run did; a run that has ended can be read until it expires.
    Errors: as the run did, with an error of the same class and the same fields where it
        is one of `rxmistral.errors`, with `ReportedError` where it is any other.
        `StoppedError` where it was stopped, or its producer left it. `LostProducerError`
        where the producer gave no sign of life for the log's lease. `UnknownRunError`
        where there is no such run: a reader may come before the producer, and waits for
        it for one lease. `LaggedError` where items are no longer kept.
        `LogUnavailableError` where the broker is away for longer than the log's `outage`.

    Disposing it stops the reading, and nothing else.

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
