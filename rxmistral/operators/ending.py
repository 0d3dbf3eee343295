"""Where an answer ends."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler

from ..models import CompletionEvent
from ..stream import Stream
from .parts import check_choice

__all__ = ["Lingering", "until_finished"]

_AFTER_FINISH = 1.0  # seconds that the body may take to end after the finish_reason


class Lingering(abc.DisposableBase):
    """Ends an observer that has all it wants, but not before its source has ended.

    A body that was read to its end leaves a connection that the next request can use,
    and ending only then makes sure that it does. In nearly every answer the rest is
    there already; where it does not come within `seconds`, the end does.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        seconds: float,
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        self._observer = observer
        self._seconds = seconds
        self._scheduler = scheduler or TimeoutScheduler.singleton()
        self.begun = False
        self._error: Exception | None = None
        self._timer = SingleAssignmentDisposable()
        self._ended = Lock()  # taken once, by the source's end or by the timer

    def begin(self, error: Exception | None = None) -> None:
        """The observer has all it wants; it is to complete, or to end with this error."""
        if self.begun:
            return
        self.begun = True
        self._error = error
        try:
            self._timer.disposable = self._scheduler.schedule_relative(
                self._seconds, lambda *_: self.end()
            )
        except RuntimeError:  # no thread can be started
            self.end()

    def end(self) -> None:
        """The source has ended, or the time is up."""
        if self._ended.acquire(blocking=False):
            self._timer.dispose()
            if self._error is None:
                self._observer.on_completed()
            else:
                self._observer.on_error(self._error)

    def dispose(self) -> None:
        self._timer.dispose()


def until_finished(
    choice: int = 0,
) -> Callable[[Observable[CompletionEvent]], Stream[CompletionEvent]]:
    """Completions up to and with the one that carries the finish_reason.

        --a--b--c(stop)--usage-|->
        --a--b--c(stop)--------|->

    Args:
        choice: Which of the `n` answers.

    Completes: when the source ends after the finishing item, so that the connection is
        free for the next request; a second after that item if the source does not.
    Errors: those that come before the finishing item; what breaks after it is no loss.
        The finish_reason "error" finishes nothing: it is emitted, and its error follows.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk, CompletionResponseStreamChoice
    >>> last = CompletionResponseStreamChoice(index=0, finish_reason="stop")
    >>> chunks = [CompletionChunk(choices=[last]), CompletionChunk()]
    >>> source = reactivex.from_iterable(CompletionEvent(data=chunk) for chunk in chunks)
    >>> len(list(source.pipe(until_finished())))
    1
    """
    check_choice(choice)

    def operate(source: Observable[CompletionEvent]) -> Stream[CompletionEvent]:
        def subscribe(
            observer: abc.ObserverBase[CompletionEvent],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            finished = False
            lingering = Lingering(observer, _AFTER_FINISH, scheduler)

            def on_next(event: CompletionEvent) -> None:
                nonlocal finished
                if finished:
                    return
                for each in event.data.choices:
                    if each.finish_reason and (each.index or 0) == choice:
                        finished = each.finish_reason != "error"
                observer.on_next(event)
                if finished:
                    lingering.begin()

            def on_error(error: Exception) -> None:
                if finished:
                    lingering.end()
                else:
                    observer.on_error(error)

            return CompositeDisposable(
                source.subscribe(on_next, on_error, lingering.end, scheduler=scheduler), lingering
            )

        return Stream(subscribe)

    return operate
