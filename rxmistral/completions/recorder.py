"""Records an answer while it is being received, and builds its `Outcome`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from logging import getLogger
from threading import Lock
from typing import Self

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from ..checks import check_callback
from ..models import CompletionEvent, UsageInfo
from ..outcome import Outcome, Status, status_of
from ..rx.answer_stream import AnswerStream
from ..rx.clock import monotonic
from ..rx.fluent import returning
from ..rx.request_counter import RequestCounter, current_counter
from ..rx.state_machine import operate
from ..rx.stream import Stream
from .accumulator import CompletionAccumulator
from .choice import completions_for
from .completion_stream import CompletionStream

__all__ = ["OutcomeBuilder", "OutputTimes", "RecordedStream", "on_outcome"]

_log = getLogger("rxmistral")


class OutputTimes:
    """The times at which output was received, in seconds of a clock; None: not yet."""

    first_at: float | None = None
    last_at: float | None = None
    longest_gap: float | None = None  # in seconds, between two outputs

    def record_output(self, now: float, silent_seconds: float) -> None:
        if self.first_at is None:
            self.first_at = now
            _log.debug("first token received")
        elif self.longest_gap is None or silent_seconds > self.longest_gap:
            self.longest_gap = silent_seconds
        self.last_at = now


class OutcomeBuilder:
    """A builder of the outcome of an answer that begins now."""

    def __init__(
        self,
        received: CompletionAccumulator,
        times: OutputTimes,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.counter = RequestCounter()
        self.began_at = now()
        self._started = time.time()
        self._received = received
        self._times = times

    def outcome(self, error: BaseException | None, status: Status | None = None) -> Outcome:
        received, times, counter = self._received, self._times, self.counter
        usage, is_complete = received.usage, error is None and status is None
        is_final = usage is not None and (is_complete or received.usage_is_final)
        is_exact = is_final and counter.answers <= 1
        return Outcome(
            status=status or status_of(error),
            response=received.response(complete=is_complete, with_unfinished=True),
            error=error,
            finish_reason=received.finish_reason(),
            request_id=counter.request_id,
            usage=usage,
            usage_is_final=is_final,
            usage_is_exact=is_exact,
            requests=counter.requests,
            resumed=counter.resumed,
            started=self._started,
            seconds_to_headers=self._seconds_until(counter.headers_at),
            seconds_to_first_token=self._seconds_until(times.first_at),
            seconds_to_last_token=self._seconds_until(times.last_at),
            tokens_per_second=_tokens_per_second(usage, times) if is_exact else None,
            longest_gap=times.longest_gap,
        )

    def _seconds_until(self, moment: float | None) -> float | None:
        return None if moment is None else max(0.0, moment - self.began_at)


def _tokens_per_second(usage: UsageInfo | None, times: OutputTimes) -> float | None:
    tokens = usage.completion_tokens if usage else None
    first, last = times.first_at, times.last_at
    if not tokens or first is None or last is None or last <= first:
        return None
    return tokens / (last - first)


# --- the operator ----------------------------------------------------------------


def on_outcome(
    callback: Callable[[Outcome], object],
) -> Callable[[Observable[CompletionEvent]], CompletionStream]:
    """Completions into the same completions; a callback receives their outcome, once.

        --a--b--c-|->
        --a--b--c-|->
                  callback(Outcome(status="completed", ...))

    Args:
        callback: Called with the `Outcome`, however the answer ends: before the completion or
            the error is emitted, on the same thread; or by `dispose()`, on the thread that
            disposes. An exception that it raises at a completion or an error becomes the error
            of the stream.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     _ = answer.pipe(on_outcome(lambda outcome: print(outcome.status))).run()
    completed
    """
    check_callback("callback", callback)

    def subscribe_to(
        stream: Stream[CompletionEvent],
        observer: abc.ObserverBase[CompletionEvent],
        scheduler: abc.SchedulerBase | None,
    ) -> abc.DisposableBase:
        return _recorded(partial(stream.subscribe, scheduler=scheduler), observer, callback)

    return returning(CompletionStream, operate(subscribe_to))


class RecordedStream(AnswerStream[CompletionEvent], CompletionStream):
    """A Stream of completions that records the outcome of each subscription."""

    _latest: _Latest | None = None

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the latest subscription; None while it is running, or before it."""
        return None if self._latest is None else self._latest.outcome

    def __enter__(self) -> Self:
        opened = super().__enter__()
        self._latest = None
        return opened

    # A method, not a function passed to Stream.__init__, which would make a reference cycle.
    def _subscribe_source(
        self, observer: abc.ObserverBase[CompletionEvent], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        live, self._latest = self._live, (latest := _Latest())
        subscribe = partial(super()._subscribe_source, scheduler=scheduler)
        subscription = _recorded(subscribe, observer, latest.set)
        live.add(subscription)
        return subscription


class _Latest:
    """The outcome of the latest subscription, without a reference to the Stream."""

    outcome: Outcome | None = None

    def set(self, outcome: Outcome) -> None:
        self.outcome = outcome


def _recorded(
    subscribe: Callable[[abc.ObserverBase[CompletionEvent]], abc.DisposableBase],
    observer: abc.ObserverBase[CompletionEvent],
    callback: Callable[[Outcome], object],
) -> abc.DisposableBase:
    """Calls a function that subscribes to completions; `callback` receives their outcome."""
    recorder = _Recorder(observer, callback)
    context = copy_context()  # dispose() may be called on any thread
    recorder.counter.report_to(current_counter.get())
    token = current_counter.set(recorder.counter)
    try:
        subscription = subscribe(recorder)
    finally:
        current_counter.reset(token)
    return CompositeDisposable(
        subscription, Disposable(lambda: context.run(recorder.end, None, "cancelled"))
    )


_ACCEPTED = completions_for("on_outcome")


class _Recorder(abc.ObserverBase[CompletionEvent]):
    """An observer that records the completions it passes on, and reports their outcome once."""

    def __init__(
        self,
        observer: abc.ObserverBase[CompletionEvent],
        callback: Callable[[Outcome], object],
    ) -> None:
        self._observer = observer
        self._emit = observer.on_next
        self._callback = callback
        self._received = CompletionAccumulator(bounded=True)
        self._times = OutputTimes()
        self._outcome_builder = OutcomeBuilder(self._received, self._times)
        self.counter = self._outcome_builder.counter
        self._waiting_since = self._outcome_builder.began_at
        self._silent_seconds = 0.0  # since the latest output, without the subscriber's own time
        self._has_ended = Lock()  # acquired once, by the first call of end()

    def on_next(self, value: object) -> None:
        if not isinstance(value, CompletionEvent):
            self.on_error(_ACCEPTED.error_for(value))
            return
        received, now = self._received, monotonic()
        received.feed(value.data)
        self._silent_seconds += now - self._waiting_since
        if received.new_output:
            if received.new_output != "finish":
                self._times.record_output(now, self._silent_seconds)
            received.new_output = ""
            self._silent_seconds = 0.0
        try:
            self._emit(value)
        except Exception as error:  # by the subscriber
            self.end(error, "failed")
            raise
        self._waiting_since = monotonic()

    def on_error(self, error: Exception) -> None:
        try:
            self.end(error)
        except Exception as raised:
            error = raised
        self._observer.on_error(error)

    def on_completed(self) -> None:
        try:
            self.end(None)
        except Exception as raised:
            self._observer.on_error(raised)
            return
        self._observer.on_completed()

    def end(self, error: BaseException | None, status: Status | None = None) -> None:
        if self._has_ended.acquire(blocking=False):
            self._callback(self._outcome_builder.outcome(error, status))
