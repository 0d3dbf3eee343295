"""Where an answer ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable
from reactivex.scheduler import TimeoutScheduler

from ..models import CompletionEvent
from ..rx.stream import Stream
from ..rx.subscriber import fail_observer
from ..rx.timer import SerializedTimer, serialized
from .choice import check_choice
from .inputs import completions_for

__all__ = ["AFTER_END", "Lingering", "until_finished"]

AFTER_END = 0.25  # seconds that a body may take to end when its answer is whole
_AFTER_FINISH = 1.0  # seconds that the body may take to end after the finish_reason


class Lingering(SerializedTimer):
    """Ends an observer that has all it wants, but not before its source has ended.

    A body that was read to its end leaves a connection that the next request can use,
    and ending only then makes sure that it does. In nearly every answer the rest is
    there already; if it does not arrive in time, the end does.

    Args:
        observer: To be ended.
        seconds: How long the source may take.
        scheduler: Keeps that time.
        hurry: Called in place of a timer, if the source can be told to end in time.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        seconds: float,
        scheduler: abc.SchedulerBase | None,
        hurry: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(scheduler or TimeoutScheduler.singleton())
        self.begun = False
        self.error: Exception | None = None  # that it ends with; None: it completes
        self._observer = observer
        self._seconds = seconds
        self._hurry = hurry
        self._over = False

    def begin(self, error: Exception | None = None) -> None:
        """The observer has all it wants; it is to complete, or to end with this error."""
        self.error = self.error or error
        if self.begun:
            return
        self.begun = True
        if self._hurry is not None:
            self._hurry()
            return
        self.arm(self._seconds)
        if not self.armed:  # no thread can be started
            self.end()

    def put_off(self) -> None:
        """It wants more after all, unless it is to end with an error."""
        if self._hurry is None and self.error is None:
            self.begun = self.armed = False
            self._timer.disposable = Disposable()

    @serialized
    def next(self, item: Any) -> None:
        """Something that still arrives, and that is wanted after all."""
        if not self._over:
            self._observer.on_next(item)

    @serialized
    def end(self) -> None:
        """The source has ended."""
        self.on_timeout()

    def fail(self, error: Exception) -> None:
        fail_observer(self._observer, error)

    def on_timeout(self) -> None:
        if self._over:
            return
        self._over = True
        self.dispose()
        error, self.error = self.error, None  # what was raised knows the frames that hold this
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)


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
    takes = completions_for("until_finished")

    def operate(source: Observable[CompletionEvent]) -> Stream[CompletionEvent]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[CompletionEvent],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            finished = False
            lingering = Lingering(observer, _AFTER_FINISH, scheduler)

            def on_next(event: object) -> None:
                nonlocal finished
                if finished:
                    return
                if not isinstance(event, CompletionEvent):
                    observer.on_error(takes.error_for(event))
                    return
                observer.on_next(event)  # first: what that raises is an error, not the rest
                for each in event.data.choices:
                    if each.finish_reason and (each.index or 0) == choice:
                        finished = each.finish_reason != "error"
                if finished:
                    lingering.begin()

            def on_error(error: Exception) -> None:
                if finished:
                    lingering.end()
                else:
                    observer.on_error(error)

            return CompositeDisposable(
                stream.subscribe(on_next, on_error, lingering.end, scheduler=scheduler), lingering
            )

        return Stream(subscribe)

    return operate
