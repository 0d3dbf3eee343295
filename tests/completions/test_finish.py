"""until_finished and its grace period: the finishing item, and the rest of the body."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import reactivex
from reactivex import Observable, Observer, Subject
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral import (
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DroppedStreamError,
    ReportedError,
    UsageInfo,
    completions,
    until_finished,
)
from rxmistral.completions.finish import GracePeriod
from rxmistral.wire import ServerSentEvent

# Typed for whole ticks, which are seconds here; fractions work, too.
on_next: Any = ReactiveTest.on_next
on_completed: Any = ReactiveTest.on_completed
on_error: Any = ReactiveTest.on_error


def completion(*finishes: tuple[int | None, str | None]) -> CompletionEvent:
    """Returns one chunk; each choice is given by its index and finish_reason."""
    return CompletionEvent(
        data=CompletionChunk(
            choices=[
                CompletionResponseStreamChoice(index=index, finish_reason=reason)
                for index, reason in finishes
            ]
        )
    )


UNFINISHED = completion((0, None))
STOP = completion((0, "stop"))
USAGE = CompletionEvent(data=CompletionChunk(usage=UsageInfo(total_tokens=3)))
DROPPED = DroppedStreamError("reset")


def through(*events: CompletionEvent, choice: int = 0) -> list[CompletionEvent]:
    got: list[CompletionEvent] = []
    reactivex.of(*events).pipe(until_finished(choice)).subscribe(got.append)
    return got


@pytest.mark.parametrize("reason", ["stop", "length", "model_length", "tool_calls", "a_new_word"])
def test_finishing_item_is_the_last(reason: str) -> None:
    last = completion((0, reason))
    assert through(UNFINISHED, last, USAGE, UNFINISHED) == [UNFINISHED, last]


@pytest.mark.parametrize("reason", [None, ""])
def test_empty_reason_does_not_finish(reason: str | None) -> None:
    item = completion((0, reason))
    assert through(item, USAGE, item) == [item, USAGE, item]


def test_reason_of_another_answer_does_not_finish() -> None:
    other, own = completion((1, "stop")), completion((0, None), (2, "stop"))
    assert through(other, UNFINISHED, own, choice=2) == [other, UNFINISHED, own]
    assert through(other, own, STOP, USAGE) == [other, own, STOP]


def test_choice_without_index_is_the_first() -> None:
    last = completion((None, "stop"))
    assert through(last, USAGE) == [last]
    assert through(last, USAGE, choice=1) == [last, USAGE]


# --- in virtual time -------------------------------------------------------------


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


def test_completes_when_the_source_does(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, UNFINISHED), on_next(20, STOP), on_next(20.5, USAGE), on_completed(20.75)
    )
    result = scheduler.start(lambda: source.pipe(until_finished()))
    assert result.messages == [on_next(210, UNFINISHED), on_next(220, STOP), on_completed(220.75)]
    assert source.subscriptions == [Subscription(200, 220)]  # whole ticks: the source's own end


def test_completes_1_s_after_the_finish_when_source_stays_open(
    scheduler: TestScheduler,
) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, STOP), on_next(10.5, USAGE), on_next(20, USAGE), on_completed(30)
    )
    result = scheduler.start(lambda: source.pipe(until_finished()))
    assert result.messages == [on_next(210, STOP), on_completed(211)]
    assert source.subscriptions == [Subscription(200, 211)]


def test_error_after_the_finish_is_ignored(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, STOP), on_error(10.5, DROPPED))
    result = scheduler.start(lambda: source.pipe(until_finished()))
    assert result.messages == [on_next(210, STOP), on_completed(210.5)]


def test_error_before_the_finish_is_emitted(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, UNFINISHED), on_error(20, DROPPED))
    result = scheduler.start(lambda: source.pipe(until_finished()))
    assert result.messages == [on_next(210, UNFINISHED), on_error(220, DROPPED)]


def test_waits_until_there_is_a_finish(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, UNFINISHED), on_next(700, STOP))
    result = scheduler.start(lambda: source.pipe(until_finished()))
    assert result.messages == [on_next(210, UNFINISHED), on_next(900, STOP), on_completed(901)]


def test_never_completes_when_disposed_after_the_finish(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, STOP))
    result = scheduler.start(lambda: source.pipe(until_finished()), disposed=210.5)
    assert result.messages == [on_next(210, STOP)]
    assert source.subscriptions == [Subscription(200, 210)]


def test_finish_reason_error_is_raised() -> None:
    event = ServerSentEvent(data='{"choices":[{"index":0,"finish_reason":"error"}]}')
    got: list[object] = []
    reactivex.of(event).pipe(completions(), until_finished()).subscribe(got.append, got.append)
    item, error = got
    assert item == completion((0, "error"))
    assert isinstance(error, ReportedError)


def test_error_of_another_answer_after_finish_is_ignored() -> None:
    events = [
        ServerSentEvent(data='{"choices":[{"index":0,"finish_reason":"stop"}]}'),
        ServerSentEvent(data='{"choices":[{"index":1,"finish_reason":"error"}]}'),
    ]
    got: list[object] = []
    reactivex.from_iterable(events).pipe(completions(), until_finished()).subscribe(
        got.append, got.append, lambda: got.append("end")
    )
    assert got == [STOP, "end"]


# --- without a scheduler ---------------------------------------------------------


def test_default_scheduler_completes_it() -> None:
    source: Subject[CompletionEvent] = Subject()
    completed = threading.Event()
    source.pipe(until_finished()).subscribe(on_completed=completed.set)
    source.on_next(STOP)
    assert not completed.is_set()
    assert completed.wait(60)
    assert not source.observers


def test_source_end_and_timer_complete_once(scheduler: TestScheduler) -> None:
    source = scheduler.create_hot_observable(on_next(210, STOP), on_completed(211))
    result = scheduler.start(lambda: source.pipe(until_finished()))
    assert result.messages == [on_next(210, STOP), on_completed(211)]


def timers() -> list[threading.Timer]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_no_timer_outlives_its_subscription() -> None:
    source: Observable[CompletionEvent] = reactivex.concat(reactivex.of(STOP), reactivex.never())
    subscription = source.pipe(until_finished()).subscribe()
    started = timers()
    subscription.dispose()
    assert started
    assert all(timer.finished.is_set() for timer in started)


def test_no_timer_outlives_the_source() -> None:
    source: Subject[CompletionEvent] = Subject()
    source.pipe(until_finished()).subscribe()
    source.on_next(STOP)
    started = timers()
    source.on_completed()
    assert started
    assert all(timer.finished.is_set() for timer in started)


def test_grace_period_ends_once() -> None:
    """Also for an observer that does not ignore a second terminal itself."""
    ends: list[str] = []
    grace_period = GracePeriod(
        Observer(on_completed=lambda: ends.append("end")), 1.0, TestScheduler()
    )
    grace_period.start()
    grace_period.end()
    grace_period.end()
    assert ends == ["end"]
