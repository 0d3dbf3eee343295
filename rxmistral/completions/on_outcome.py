"""on_outcome: records an answer on its way, and reports its `Outcome`."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import Self

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from ..checks import check_callback
from ..models import CompletionEvent
from ..outcome import Outcome, Status
from ..rx.answer_stream import AnswerStream
from ..rx.clock import monotonic
from ..rx.fluent import returning
from ..rx.request_counter import current_counter
from ..rx.state_machine import operate
from ..rx.stream import Stream
from .accumulator import CompletionAccumulator
from .choice import completions_for
from .completion_stream import CompletionStream
from .outcome_builder import OutcomeBuilder, OutputTimes

__all__ = ["RecordedStream", "on_outcome"]


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
