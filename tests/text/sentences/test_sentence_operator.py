"""The operator around the cutter: its emissions, and its timer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from freezegun import freeze_time
from reactivex import Observable, Subject, abc
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral import Stream
from rxmistral.text.sentences import segmenters as sentence_segmenters
from rxmistral.text.sentences.operator import sentences

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)

BROKEN = RuntimeError("broken")


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


@pytest.fixture(params=[None, 300.0], ids=["without max_wait", "with max_wait"])
def operator(request: pytest.FixtureRequest) -> Callable[[Observable[str]], Stream[str]]:
    """With a timer that never expires here, and without one."""
    return sentences(max_wait=request.param)


# --- emissions -------------------------------------------------------------------


def test_sentence_is_emitted_when_the_next_one_starts(operator: Any, scheduler: Any) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, "It is"), on_next(20, " late. "), on_next(30, "We go"), on_completed(40)
    )
    assert scheduler.start(lambda: source.pipe(operator)).messages == [
        on_next(230, "It is late. "),
        on_next(240, "We go"),
        on_completed(240),
    ]
    assert source.subscriptions == [Subscription(200, 240)]


# --- the segmenter ---------------------------------------------------------------


class FailingSegmenter:
    """Finds a boundary once, then raises."""

    def __init__(self) -> None:
        self.asked = 0

    def boundaries(self, text: str) -> list[int]:
        self.asked += 1
        if self.asked > 1:
            raise BROKEN
        return [len(text) - 1]


def test_exception_of_segmenter_follows_all_the_text(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(on_next(10, "One. Two. Three"), on_next(20, " four."))
    result = scheduler.start(lambda: source.pipe(sentences(segmenter=FailingSegmenter())))
    assert result.messages == [
        on_next(210, "One. "),
        on_next(210, "Two. Three"),
        on_error(210, BROKEN),
    ]
    assert source.subscriptions == [Subscription(200, 210)]


def test_exception_of_segmenter_at_the_end_replaces_the_end() -> None:
    class Broken:
        def boundaries(self, text: str) -> list[int]:
            raise BROKEN

    got: list[Any] = []
    reactivex.of("At 5 p.m. He").pipe(sentences(segmenter=Broken())).subscribe(
        got.append, got.append, lambda: got.append("end")
    )
    assert got == ["At 5 p.m. He", BROKEN]


def test_custom_segmenter_does_not_need_sentencex(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sentence_segmenters, "segment", None)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        sentences()
    own = sentence_segmenters.StringSegmenter(lambda text: [text[: text.find(".") + 1]])
    assert list(reactivex.of("One. Two").pipe(sentences(segmenter=own))) == ["One. ", "Two"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"language": 3}, TypeError),
        ({"max_wait": "1"}, TypeError),
        ({"max_wait": True}, TypeError),
        ({"max_wait": 0}, ValueError),
        ({"max_wait": float("nan")}, ValueError),
        ({"max_wait": float("inf")}, ValueError),
        ({"max_chars": 1.5}, TypeError),
        ({"max_chars": True}, TypeError),
        ({"max_chars": 0}, ValueError),
        ({"segmenter": str.split}, TypeError),
    ],
)
def test_invalid_argument_raises_at_the_call(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    (name,) = arguments
    with pytest.raises(error, match=name):
        sentences(**arguments)


def test_language_decides_stops_and_abbreviations() -> None:
    text = ["Ναι; Η Ρώμη; Π.χ. Αθήνα. Όχι", "."]
    assert list(reactivex.of(*text).pipe(sentences("el"))) == [
        "Ναι; ",
        "Η Ρώμη; ",
        "Π.χ. Αθήνα. ",
        "Όχι.",
    ]
    assert list(reactivex.of(*text).pipe(sentences())) == [
        "Ναι; Η Ρώμη; Π.χ. ",
        "Αθήνα. ",
        "Όχι.",
    ]


def test_max_chars_limits_the_items() -> None:
    pieces = list(reactivex.of("one two", " three").pipe(sentences(max_chars=8)))
    assert pieces == ["one two ", "three"]


# --- max_wait --------------------------------------------------------------------


def test_finished_sentence_is_emitted_after_max_wait(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, "It is"), on_next(10.5, " late."), on_next(20, " We"), on_completed(20.5)
    )
    result = scheduler.start(lambda: source.pipe(sentences(max_wait=1.0)))
    assert result.messages == [
        on_next(211.5, "It is late."),
        on_next(220.5, " We"),
        on_completed(220.5),
    ]


def test_max_wait_counts_from_the_last_text(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(
        *(on_next(10 + step * 0.75, f"{step} ") for step in range(9)), on_next(100, "x")
    )
    result = scheduler.start(lambda: source.pipe(sentences(max_wait=1.0)))
    assert result.messages == [on_next(217, "0 1 2 3 4 5 6 7 8 "), on_next(301, "x")]


def test_white_space_alone_is_not_flushed(scheduler: TestScheduler) -> None:
    source = scheduler.create_cold_observable(
        on_next(10, "One."), on_next(20, " "), on_next(30, "\n"), on_completed(40)
    )
    result = scheduler.start(lambda: source.pipe(sentences(max_wait=1.0)))
    assert result.messages == [on_next(211, "One."), on_next(240, " \n"), on_completed(240)]


@pytest.mark.parametrize("end", ["dispose", "completion", "error"])
def test_no_timer_outlives_the_subscription(end: str) -> None:
    source: Subject[str] = Subject()
    subscription = source.pipe(sentences(max_wait=300.0)).subscribe(on_error=lambda _: None)
    before = set(threading.enumerate())
    source.on_next("One.")
    (timer,) = (each for each in set(threading.enumerate()) - before)
    assert isinstance(timer, threading.Timer)
    match end:
        case "dispose":
            subscription.dispose()
        case "completion":
            source.on_completed()
        case "error":
            source.on_error(BROKEN)
    assert timer.finished.is_set()
    timer.join(60)


class CountingScheduler(TestScheduler):
    """Counts the timers that are armed."""

    timers = 0

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> abc.DisposableBase:
        self.timers += 1
        return super().schedule_relative(duetime, action, state)


def test_one_timer_serves_many_items() -> None:
    scheduler, source = CountingScheduler(), Subject[str]()
    got: list[str] = []
    source.pipe(sentences(max_wait=1.0)).subscribe(got.append, scheduler=scheduler)
    for _ in range(1000):
        source.on_next("a")
        scheduler.advance_by(0.01)
    assert scheduler.timers <= 11
    assert got == []
    scheduler.advance_by(1.5)
    assert got == ["a" * 1000]


def test_no_timer_is_armed_without_text() -> None:
    scheduler, source = CountingScheduler(), Subject[str]()
    source.pipe(sentences(max_wait=1.0)).subscribe(scheduler=scheduler)
    source.on_next("a")
    scheduler.advance_by(100)
    assert scheduler.timers == 1


def test_scheduler_argument_precedes_that_of_subscription() -> None:
    own, injected, source = TestScheduler(), TestScheduler(), Subject[str]()
    got: list[str] = []
    piped = source.pipe(sentences(max_wait=1.0, scheduler=own))
    piped.subscribe(got.append, scheduler=injected)
    source.on_next("One.")
    injected.advance_by(10)
    assert got == []
    own.advance_by(10)
    assert got == ["One."]


def test_timer_thread_keeps_time_without_a_scheduler() -> None:
    source: Subject[str] = Subject()
    got: list[str] = []
    emitted = threading.Event()

    def receive(sentence: str) -> None:
        got.append(sentence)
        emitted.set()

    with source.pipe(sentences(max_wait=0.01)).subscribe(receive):
        source.on_next("One.")
        assert emitted.wait(60)
    assert got == ["One."]


def test_time_of_a_slow_observer_does_not_count(scheduler: TestScheduler) -> None:
    source: Subject[str] = Subject()
    got: list[str] = []

    def slow(sentence: str) -> None:
        got.append(sentence)
        timer = threading.Thread(target=scheduler.advance_by, args=(4.5,))
        timer.start()
        timer.join(60)

    source.pipe(sentences(max_wait=1.0)).subscribe(slow, scheduler=scheduler)
    source.on_next("On")
    source.on_next("e. Tw")  # while "One. " is processed, 4.5 seconds pass
    assert got == ["One. "]
    scheduler.advance_by(0.75)
    assert got == ["One. "]
    scheduler.advance_by(0.5)
    assert got == ["One. ", "Tw"]


def test_source_waits_while_the_timer_emits(scheduler: TestScheduler) -> None:
    source: Subject[str] = Subject()
    got: list[str] = []
    again = threading.Event()
    meanwhile = threading.Thread(target=source.on_next, args=(" Two. T",))

    def receive(sentence: str) -> None:
        got.append(sentence)
        if threading.current_thread() is meanwhile:
            again.set()
        else:
            meanwhile.start()
            assert not again.wait(0.1)

    source.pipe(sentences(max_wait=1.0)).subscribe(receive, scheduler=scheduler)
    source.on_next("One.")
    scheduler.advance_by(1)
    assert again.wait(60)
    meanwhile.join(60)
    assert got == ["One.", " Two. "]


def test_abbreviations_are_read_in_frozen_time_too() -> None:
    with freeze_time("2020-01-01"):
        pieces = reactivex.of("Dr. No. ", "Yes.").pipe(sentences("sv"))
        assert len(list(Stream.of(pieces))) == 2
