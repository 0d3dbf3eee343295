"""Behaviour that all operators share that run a state machine on text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import reactivex
from reactivex import Observable, Subject
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral import Stream, TextChunk, ThinkChunk
from rxmistral.completions.think_tags import think_tags
from rxmistral.rx.state_machine import StateMachine, machine_operator
from rxmistral.text.code_blocks import CodeBlock, code_blocks
from rxmistral.text.guard import guarded
from rxmistral.text.inputs import text_for
from rxmistral.text.sentences.operator import sentences
from rxmistral.text.words_lines import paragraphs, text_lines, words

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)


class Sample(NamedTuple):
    """An operator, two pieces of input, and the items that they and the end emit."""

    make: Callable[[], Callable[[Observable[str]], Stream[Any]]]
    pieces: tuple[str, str]
    emitted: tuple[list[Any], list[Any]]
    at_the_end: list[Any]
    at_an_error: list[Any]


def thought(text: str) -> ThinkChunk:
    return ThinkChunk(thinking=[TextChunk(text=text)])


SAMPLES = {
    "words": Sample(words, ("a b", "c d"), (["a "], ["bc "]), ["d"], ["d"]),
    "text_lines": Sample(text_lines, ("a\nb", "c\nd"), (["a\n"], ["bc\n"]), ["d"], ["d"]),
    "paragraphs": Sample(paragraphs, ("a\n\nb", "c\n\nd"), (["a\n\n"], ["bc\n\n"]), ["d"], ["d"]),
    "code_blocks": Sample(
        code_blocks,
        ("```py\n1\n```\n```", "\n2\n```\n~~~\n3"),
        ([CodeBlock("py", "1\n", True, "py", 0)], [CodeBlock(None, "2\n", True, "", 1)]),
        [CodeBlock(None, "3", False, "", 2)],
        [CodeBlock(None, "3", False, "", 2)],
    ),
    "think_tags": Sample(
        think_tags,
        ("a<think>b</thi", "nk>c<"),
        ([TextChunk(text="a"), thought("b")], [TextChunk(text="c")]),
        [TextChunk(text="<")],
        [TextChunk(text="<")],
    ),
    "guarded": Sample(
        lambda: guarded(r"\d\d", max_length=2), ("a1", "2b3"), (["a"], ["...b"]), ["3"], []
    ),
    "sentences": Sample(
        sentences, ("One. Tw", "o. Three"), (["One. "], ["Two. "]), ["Three"], ["Three"]
    ),
    "sentences(max_wait)": Sample(  # with a timer that never expires here
        lambda: sentences(max_wait=300),
        ("One. Tw", "o. Three"),
        (["One. "], ["Two. "]),
        ["Three"],
        ["Three"],
    ),
}


@pytest.fixture(params=SAMPLES.values(), ids=SAMPLES)
def sample(request: pytest.FixtureRequest) -> Sample:
    return request.param


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


def emitted(sample: Sample, observable: Observable[Any], scheduler: TestScheduler) -> list[Any]:
    """Subscribes at 200, disposes at 1000; returns all messages."""
    return scheduler.start(lambda: observable.pipe(sample.make())).messages


def at(time: int, items: list[Any]) -> list[Any]:
    return [on_next(time, item) for item in items]


def test_silent_source_is_disposed_on_dispose(sample: Sample, scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable()
    assert emitted(sample, source, scheduler) == []
    assert source.subscriptions == [Subscription(200, 1000)]


def test_empty_source_completes_without_items(sample: Sample, scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_completed(10))
    assert emitted(sample, source, scheduler) == [on_completed(210)]
    assert source.subscriptions == [Subscription(200, 210)]


def test_empty_piece_emits_nothing(sample: Sample, scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, ""), on_completed(20))
    assert emitted(sample, source, scheduler) == [on_completed(220)]


def test_immediate_error_passes_at_once(sample: Sample, scheduler: TestScheduler) -> None:
    error = RuntimeError("at once")
    source = scheduler.create_cold_observable(on_error(10, error))
    assert emitted(sample, source, scheduler) == [on_error(210, error)]
    assert source.subscriptions == [Subscription(200, 210)]


def test_held_items_are_emitted_before_completion(sample: Sample, scheduler: TestScheduler) -> None:
    first, second = sample.pieces
    source = scheduler.create_cold_observable(
        on_next(10, first), on_next(20, second), on_completed(30)
    )
    assert emitted(sample, source, scheduler) == [
        *at(210, sample.emitted[0]),
        *at(220, sample.emitted[1]),
        *at(230, sample.at_the_end),
        on_completed(230),
    ]
    assert source.subscriptions == [Subscription(200, 230)]


def test_held_items_are_emitted_before_an_error(sample: Sample, scheduler: TestScheduler) -> None:
    """Except those of `guarded`, which may be part of a match."""
    first, second = sample.pieces
    error = RuntimeError("late")
    source = scheduler.create_cold_observable(
        on_next(10, first), on_next(20, second), on_error(30, error)
    )
    assert emitted(sample, source, scheduler) == [
        *at(210, sample.emitted[0]),
        *at(220, sample.emitted[1]),
        *at(230, sample.at_an_error),
        on_error(230, error),
    ]
    assert source.subscriptions == [Subscription(200, 230)]


def test_nothing_is_emitted_after_early_dispose(sample: Sample, scheduler: TestScheduler) -> None:
    first, second = sample.pieces
    source = scheduler.create_cold_observable(on_next(10, first), on_next(20, second))
    result = scheduler.start(lambda: source.pipe(sample.make()), disposed=215)
    assert result.messages == at(210, sample.emitted[0])
    assert source.subscriptions == [Subscription(200, 215)]


def test_source_is_subscribed_only_on_subscribe(sample: Sample) -> None:
    subscribed: list[int] = []
    piped = reactivex.defer(lambda _: subscribed.append(1) or reactivex.never()).pipe(sample.make())
    assert subscribed == []
    piped.subscribe().dispose()
    piped.subscribe().dispose()
    assert subscribed == [1, 1]


def test_synchronous_source_ends_before_subscribe_returns(sample: Sample) -> None:
    got: list[Any] = []
    reactivex.of(*sample.pieces).pipe(sample.make()).subscribe(
        got.append, on_completed=lambda: got.append("end")
    )
    assert got == [*sample.emitted[0], *sample.emitted[1], *sample.at_the_end, "end"]


def test_synchronous_source_can_be_left_after_one_item(sample: Sample) -> None:
    got: list[Any] = []
    reactivex.of(*sample.pieces).pipe(sample.make(), reactivex.operators.take(1)).subscribe(
        got.append
    )
    assert got == sample.emitted[0][:1]


def test_exception_of_observer_is_raised_to_the_source(sample: Sample) -> None:
    source: Subject[Any] = Subject()
    errors: list[Exception] = []

    def fail(_: object) -> None:
        raise ZeroDivisionError

    source.pipe(sample.make()).subscribe(fail, errors.append)
    with pytest.raises(ZeroDivisionError):
        source.on_next(sample.pieces[0])
    assert errors == []


def test_two_subscriptions_share_no_state(sample: Sample) -> None:
    source: Subject[str] = Subject()
    piped = source.pipe(sample.make())
    first: list[Any] = []
    second: list[Any] = []
    piped.subscribe(first.append)
    source.on_next(sample.pieces[0])
    piped.subscribe(second.append)
    source.on_next(sample.pieces[1])
    source.on_completed()
    assert first == [*sample.emitted[0], *sample.emitted[1], *sample.at_the_end]
    assert second == list(reactivex.of(sample.pieces[1]).pipe(sample.make()))


def test_scheduler_of_subscriber_reaches_the_source(
    sample: Sample, scheduler: TestScheduler
) -> None:
    seen: list[Any] = []

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        seen.append(scheduler)

    Observable(subscribe).pipe(sample.make()).subscribe(scheduler=scheduler)
    assert seen == [scheduler]


def test_pipe_returns_a_stream(sample: Sample) -> None:
    assert isinstance(reactivex.of(*sample.pieces).pipe(sample.make()), Stream)


@pytest.mark.parametrize(
    "operator", [words, text_lines, paragraphs, code_blocks, think_tags, guarded]
)
def test_operator_that_was_not_called_raises(operator: Any) -> None:
    with pytest.raises(TypeError):
        reactivex.of("a").pipe(operator)


# --- machines that fail ----------------------------------------------------------

BROKEN = RuntimeError("broken")


class Doubler(StateMachine[str, str]):
    """Emits each text twice, and "rest" at the end; fails at "error" and "raise"."""

    def feed(self, item: str) -> list[str]:
        if item == "raise":
            raise BROKEN
        if item == "error":
            self.error = BROKEN
        return [item, item]

    def close(self) -> list[str]:
        return ["rest"]


def doubled(*items: Any) -> list[Any]:
    """The items and the error that an operator emits, and the disposal of its source."""
    log: list[Any] = []
    source: Subject[Any] = Subject()
    disposed = source.pipe(reactivex.operators.finally_action(lambda: log.append("disposed")))
    operator = machine_operator(Doubler, text_for("doubled"))
    disposed.pipe(operator).subscribe(log.append, log.append)
    for item in items:
        source.on_next(item)
    return log


def test_error_of_machine_follows_its_output_and_the_disposal() -> None:
    assert doubled("a", "error", "b") == ["a", "a", "error", "error", "disposed", BROKEN]


def test_exception_of_machine_follows_its_remaining_output() -> None:
    assert doubled("a", "raise", "b") == ["a", "a", "rest", BROKEN, "disposed"]


def test_item_of_another_type_is_an_error() -> None:
    *output, error, disposed = doubled("a", 1)
    assert (output, disposed) == (["a", "a", "rest"], "disposed")
    assert str(error) == "doubled() takes text, got an int"
