"""How an answer ends: its finish_reason, and the time that its source has to end as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import structs
from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.scheduler import TimeoutScheduler

from ..error_report import read_report
from ..errors import ReportedError
from ..models import CompletionChunk, CompletionEvent, CompletionResponseStreamChoice
from ..rx.fluent import returning
from ..rx.state_machine import timed_operator
from ..rx.timer import SerializedTimer, serialized
from .choice import check_choice, completions_for
from .completion_stream import CompletionStream
from .repair import dicts_in

__all__ = [
    "END_GRACE_SECONDS",
    "GracePeriod",
    "error_of_finish_reason",
    "is_empty_choice",
    "until_finished",
    "without_failure",
]

END_GRACE_SECONDS = 0.25  # for a body to end after the last chunk of its answer
_FINISH_GRACE_SECONDS = 1.0  # for a body to end after the finish_reason


class GracePeriod(SerializedTimer):
    """The time that a source has to end after an observer has received all that it needs.

    Only a body that was read to its end leaves a connection for the next request. In nearly
    every answer the rest has arrived already. The observer is ended when the source ends, or
    when the grace period expires. A source that keeps the grace period has `start_in_source`.
    """

    def __init__(
        self,
        observer: abc.ObserverBase[Any],
        seconds: float,
        scheduler: abc.SchedulerBase | None,
        start_in_source: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(observer, scheduler or TimeoutScheduler.singleton())
        self.has_started = False  # and was not cancelled
        self.error: Exception | None = None  # to end with; None: completion
        self._seconds = seconds
        self._start_in_source = start_in_source
        self._has_ended = False

    def start(self, error: Exception | None = None) -> None:
        """Starts it, unless it has started; the first error of all calls is the one to end with."""
        self.error = self.error or error
        if self.has_started:
            return
        self.has_started = True
        if self._start_in_source is not None:
            self._start_in_source()
            return
        self.arm(self._seconds)
        if not self.armed:  # no thread can be started
            self.end()

    def cancel(self) -> None:
        """Cancels it, unless the source keeps it or the observer is to end with an error."""
        if self._start_in_source is None and self.error is None:
            self.has_started = self.armed = False
            self._timer.disposable = Disposable()

    @serialized
    def emit(self, item: Any) -> None:
        if not self._has_ended:
            self._observer.on_next(item)

    @serialized
    def end(self) -> None:
        self.on_timeout()

    def on_timeout(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self.dispose()
        error, self.error = self.error, None  # its traceback may refer to this object
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)


def without_failure(event: CompletionEvent) -> CompletionEvent | None:
    """Returns the completion without the finish_reason "error"; None if nothing is left."""
    choices = [
        structs.replace(each, finish_reason=None) if each.finish_reason == "error" else each
        for each in event.data.choices
    ]
    if all(map(is_empty_choice, choices)):
        return None
    return structs.replace(event, data=structs.replace(event.data, choices=choices))


def is_empty_choice(choice: CompletionResponseStreamChoice) -> bool:
    return not (choice.finish_reason or choice.delta.content or choice.delta.tool_calls)


def error_of_finish_reason(chunk: CompletionChunk, data: str) -> ReportedError | None:
    """Returns the error that the finish_reason "error" stands for, if a choice has it."""
    if all(choice.finish_reason != "error" for choice in chunk.choices):
        return None
    report = read_report(data)
    if not report.message:  # some servers write it into the choice
        choices = dicts_in(json.loads(data, strict=False).get("choices"))
        errors = [choice["error"] for choice in choices if choice.get("error")]
        report = read_report(json.dumps(errors[0])) if errors else report
    return ReportedError(report.message or "finish_reason is error", report.type, report.code)


def until_finished(
    choice: int = 0,
) -> Callable[[Observable[CompletionEvent]], CompletionStream]:
    """Completions up to and including the one with the finish_reason.

        --a--b--c(stop)--usage-|->
        --a--b--c(stop)--------|->

    Args:
        choice: Index of the answer among the `n` answers.

    Completes: when the source ends after the finishing item, so that the connection is free
        for the next request; one second after that item if the source stays open.
    Errors: as the source does before the finishing item; later errors are ignored. The
        finish_reason "error" does not finish an answer: it is emitted, and its error follows.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     answer.pipe(until_finished()).run().data.choices[0].finish_reason
    'stop'
    """
    check_choice(choice)
    return returning(CompletionStream, timed_operator(partial(_UntilFinished, choice), None))


_ACCEPTED = completions_for("until_finished")


class _UntilFinished(GracePeriod):
    def __init__(
        self,
        choice: int,
        observer: abc.ObserverBase[CompletionEvent],
        scheduler: abc.SchedulerBase,
    ) -> None:
        super().__init__(observer, _FINISH_GRACE_SECONDS, scheduler)
        self._choice = choice

    def on_next(self, event: object) -> None:
        if self.has_started:
            return
        if not isinstance(event, CompletionEvent):
            self._observer.on_error(_ACCEPTED.error_for(event))
            return
        self._observer.on_next(event)  # first: an exception of the subscriber is an error
        finished = False
        for each in event.data.choices:
            if each.finish_reason and (each.index or 0) == self._choice:
                finished = each.finish_reason != "error"
        if finished:
            self.start()

    def on_error(self, error: Exception) -> None:
        if self.has_started:
            self.end()
        else:
            self._observer.on_error(error)

    def on_completed(self) -> None:
        self.end()
