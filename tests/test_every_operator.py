"""The Rx contract of every stage of the pipe, whatever it does with its items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import reactivex
from reactivex import Observable, Subject, operators
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral import (
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DeltaMessage,
    IncompleteStreamError,
    Stream,
    completions,
    deltas,
    text,
    until_finished,
)
from rxmistral.wire import ServerSentEvent, events, lines

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)

Operator = Callable[[Observable[Any]], Stream[Any]]


class Sample(NamedTuple):
    """An operator, two items of its source, and what it emits for each."""

    make: Callable[[], Operator]
    items: tuple[Any, Any]
    emitted: tuple[Any, Any]


def completion(content: str) -> CompletionEvent:
    choice = CompletionResponseStreamChoice(index=0, delta=DeltaMessage(content=content))
    return CompletionEvent(data=CompletionChunk(choices=[choice]))


def data(content: str) -> ServerSentEvent:
    return ServerSentEvent(
        data=f'{{"choices": [{{"index": 0, "delta": {{"content": "{content}"}}}}]}}'
    )


A, B = completion("a"), completion("b")

SAMPLES = {
    "lines": Sample(lines, (b"a\n", b"b\n"), (b"a", b"b")),
    "completions": Sample(completions, (data("a"), data("b")), (A, B)),
    "until_finished": Sample(until_finished, (A, B), (A, B)),
    "deltas": Sample(deltas, (A, B), (DeltaMessage(content="a"), DeltaMessage(content="b"))),
    "text": Sample(text, (A, B), ("a", "b")),
    "events": Sample(
        lambda: lambda source: source.pipe(lines(), events()),
        (b"data: a\n\n", b"data: b\n\n"),
        (ServerSentEvent(data="a"), ServerSentEvent(data="b")),
    ),
}


@pytest.fixture(params=list(SAMPLES.values()), ids=list(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    item: Sample = request.param
    return item


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


def emitted(sample: Sample, observable: Observable[Any], scheduler: TestScheduler) -> list[Any]:
    """Returns what the operator emits from its subscription at 200 to its disposal at 1000."""
    return scheduler.start(lambda: observable.pipe(sample.make())).messages


def test_silent_source_is_disposed_on_dispose(sample: Sample, scheduler: TestScheduler) -> None:
    source: Any = scheduler.create_cold_observable()
    assert emitted(sample, source, scheduler) == []
    assert source.subscriptions == [Subscription(200, 1000)]


def test_items_pass_at_once_over_one_subscription(sample: Sample, scheduler: TestScheduler) -> None:
    first, second = sample.items
    source = scheduler.create_cold_observable(on_next(10, first), on_next(20, second))
    assert emitted(sample, source, scheduler) == [
        on_next(210, sample.emitted[0]),
        on_next(220, sample.emitted[1]),
    ]
    assert source.subscriptions == [Subscription(200, 1000)]


def test_error_before_any_item_passes_at_once(sample: Sample, scheduler: TestScheduler) -> None:
    error = RuntimeError("at once")
    source = scheduler.create_cold_observable(on_error(10, error))
    assert emitted(sample, source, scheduler) == [on_error(210, error)]
    assert source.subscriptions == [Subscription(200, 210)]


def test_error_follows_the_items_before_it(sample: Sample, scheduler: TestScheduler) -> None:
    error = RuntimeError("late")
    source = scheduler.create_cold_observable(on_next(10, sample.items[0]), on_error(20, error))
    assert emitted(sample, source, scheduler) == [
        on_next(210, sample.emitted[0]),
        on_error(220, error),
    ]
    assert source.subscriptions == [Subscription(200, 220)]


def test_completion_passes_at_once(sample: Sample, scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, sample.items[0]), on_completed(20))
    first, last = emitted(sample, source, scheduler)
    assert first == on_next(210, sample.emitted[0])
    assert last.time == 220
    assert last.value.kind == ("E" if sample.make is completions else "C")
    assert source.subscriptions == [Subscription(200, 220)]


def test_nothing_is_emitted_after_dispose(sample: Sample, scheduler: TestScheduler) -> None:
    first, second = sample.items
    source = scheduler.create_cold_observable(on_next(10, first), on_next(20, second))
    result = scheduler.start(lambda: source.pipe(sample.make()), disposed=215)
    assert result.messages == [on_next(210, sample.emitted[0])]
    assert source.subscriptions == [Subscription(200, 215)]


def test_each_subscription_subscribes_to_the_source_once(sample: Sample) -> None:
    subscribed: list[int] = []

    def factory(_: object) -> Observable[Any]:
        subscribed.append(1)
        return reactivex.never()

    piped = reactivex.defer(factory).pipe(sample.make())
    assert subscribed == []
    piped.subscribe().dispose()
    piped.subscribe().dispose()
    assert subscribed == [1, 1]


def test_synchronous_source_emits_all_before_subscribe_returns(sample: Sample) -> None:
    received: list[Any] = []
    source = reactivex.of(*sample.items)
    source.pipe(sample.make()).subscribe(
        received.append, lambda error: received.append(type(error))
    )
    assert received == [
        *sample.emitted,
        *([IncompleteStreamError] if sample.make is completions else []),
    ]


def test_synchronous_source_can_be_disposed_after_one_item(sample: Sample) -> None:
    received: list[Any] = []
    reactivex.of(*sample.items).pipe(sample.make(), operators.take(1)).subscribe(received.append)
    assert received == [sample.emitted[0]]


def test_error_of_the_observer_is_raised_to_the_source(sample: Sample) -> None:
    source: Subject[Any] = Subject()
    errors: list[Exception] = []

    def fail(_: object) -> None:
        raise IncompleteStreamError  # even one that the operators emit themselves

    source.pipe(sample.make()).subscribe(fail, errors.append)
    with pytest.raises(IncompleteStreamError):
        source.on_next(sample.items[0])
    assert errors == []


def test_subscriptions_to_one_pipe_share_no_state(sample: Sample) -> None:
    source: Subject[Any] = Subject()
    piped = source.pipe(sample.make())
    first: list[Any] = []
    second: list[Any] = []
    piped.subscribe(first.append)
    source.on_next(sample.items[0])
    piped.subscribe(second.append)
    source.on_next(sample.items[1])
    assert (first, second) == (list(sample.emitted), [sample.emitted[1]])


def test_scheduler_of_the_subscriber_reaches_the_source(
    sample: Sample, scheduler: TestScheduler
) -> None:
    schedulers: list[Any] = []

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        schedulers.append(scheduler)

    Observable(subscribe).pipe(sample.make()).subscribe(scheduler=scheduler)
    assert schedulers == [scheduler]


def test_every_pipe_returns_a_stream(sample: Sample) -> None:
    assert isinstance(reactivex.of(*sample.items).pipe(sample.make()), Stream)
