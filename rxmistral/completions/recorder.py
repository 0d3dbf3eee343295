"""Records an answer while it is being received, and makes its Outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import copy_context
from threading import Lock
from typing import Protocol

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from ..checks import check_callback
from ..models import CompletionEvent, UsageInfo
from ..outcome import Outcome, Status, status_of
from ..rx.clock import monotonic
from ..rx.request_counter import RequestCounter, current_counter
from ..rx.stream import Stream
from .accumulator import CompletionAccumulator
from .inputs import completions_for

__all__ = ["OutcomeBuilder", "on_outcome"]


class Progress(Protocol):
    """When what came; moments are those of `time.monotonic()`."""

    first_at: float | None
    last_at: float | None
    longest_gap: float | None


class OutcomeBuilder:
    """What is known of an answer from its beginning on; at the end, its outcome."""

    def __init__(self, received: CompletionAccumulator, progress: Progress) -> None:
        self.counter = RequestCounter()
        self.began_at = monotonic()
        self._started = time.time()
        self._received = received
        self._progress = progress

    def outcome(self, error: BaseException | None, status: Status | None = None) -> Outcome:
        """The outcome; `status` where neither the error nor its lack says it."""
        received, progress, counter = self._received, self._progress, self.counter
        usage = received.usage
        exact = usage is not None and counter.answers <= 1
        return Outcome(
            status=status or status_of(error),
            response=received.response(
                complete=error is None and status is None, with_unfinished=True
            ),
            error=error,
            finish_reason=received.finish_reason(),
            usage=usage,
            usage_is_exact=exact,
            requests=counter.requests,
            resumed=counter.resumed,
            started=self._started,
            seconds_to_headers=self._since(counter.headers_at),
            seconds_to_first_token=self._since(progress.first_at),
            seconds_to_last_token=self._since(progress.last_at),
            tokens_per_second=_rate(usage, progress) if exact else None,
            longest_gap=progress.longest_gap,
        )

    def _since(self, moment: float | None) -> float | None:
        return None if moment is None else max(0.0, moment - self.began_at)


def _rate(usage: UsageInfo | None, progress: Progress) -> float | None:
    tokens = usage.completion_tokens if usage else None
    first, last = progress.first_at, progress.last_at
    if not tokens or first is None or last is None or last <= first:
        return None
    return tokens / (last - first)


# --- the operator ----------------------------------------------------------------


class Recorder:
    """Records the completions that pass by, and says once what became of them."""

    def __init__(
        self, callback: Callable[[Outcome], object], now: Callable[[], float] = monotonic
    ) -> None:
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.longest_gap: float | None = None
        self._callback = callback
        self._now = now
        self._received = CompletionAccumulator(bounded=True)
        self._record = OutcomeBuilder(self._received, self)
        self.counter = self._record.counter
        self._idle_since = self._record.began_at
        self._silent = 0.0  # since the latest news, but for the subscriber's own time
        self._ended = Lock()  # taken once, by whoever comes first

    def came(self, event: CompletionEvent) -> None:
        received, now = self._received, self._now()
        received.feed(event.data)
        self._silent += now - self._idle_since
        if received.news:
            if received.news != "finish":
                self._note(now)
            received.news = ""
            self._silent = 0.0

    def _note(self, now: float) -> None:
        if self.first_at is None:
            self.first_at = now
        else:
            self.longest_gap = max(self.longest_gap or 0.0, self._silent)
        self.last_at = now

    def taken(self) -> None:
        """The subscriber has taken it."""
        self._idle_since = self._now()

    def end(self, error: BaseException | None, status: Status | None = None) -> None:
        if self._ended.acquire(blocking=False):
            self._callback(self._record.outcome(error, status))


def on_outcome(
    callback: Callable[[Outcome], object],
) -> Callable[[Observable[CompletionEvent]], Stream[CompletionEvent]]:
    """Completions as they are; their outcome goes to a callback, once, whatever it is.

        --a--b--c-|->
        --a--b--c-|->
                  callback(Outcome(status="completed", ...))

    Args:
        callback: Called with the `Outcome`: before the completion or the error is
            emitted, on the thread of that; or by dispose(), on the thread of that. What
            it raises at a completion or an error is the error of the stream.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk, CompletionResponseStreamChoice
    >>> from rxmistral.models import DeltaMessage
    >>> choice = CompletionResponseStreamChoice(delta=DeltaMessage(content="Hi"))
    >>> source = reactivex.of(CompletionEvent(data=CompletionChunk(choices=[choice])))
    >>> _ = source.pipe(on_outcome(lambda outcome: print(outcome.status))).run()
    completed
    """
    check_callback("callback", callback)
    takes = completions_for("on_outcome")

    def operate(source: Observable[CompletionEvent]) -> Stream[CompletionEvent]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[CompletionEvent],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            recorder = Recorder(callback)
            context = copy_context()  # dispose() comes from any thread
            came, emit, taken = recorder.came, observer.on_next, recorder.taken

            def on_next(event: object) -> None:
                if not isinstance(event, CompletionEvent):
                    on_error(takes.error_for(event))
                    return
                came(event)
                try:
                    emit(event)
                except Exception as error:  # the subscriber's own
                    recorder.end(error, "failed")
                    raise
                taken()

            def on_error(error: Exception) -> None:
                try:
                    recorder.end(error)
                except Exception as raised:
                    error = raised
                observer.on_error(error)

            def on_completed() -> None:
                try:
                    recorder.end(None)
                except Exception as raised:
                    observer.on_error(raised)
                    return
                observer.on_completed()

            recorder.counter.report_to(current_counter.get())
            token = current_counter.set(recorder.counter)
            try:
                subscription = stream.subscribe(
                    on_next, on_error, on_completed, scheduler=scheduler
                )
            finally:
                current_counter.reset(token)
            return CompositeDisposable(
                subscription, Disposable(lambda: context.run(recorder.end, None, "cancelled"))
            )

        return Stream(subscribe)

    return operate
