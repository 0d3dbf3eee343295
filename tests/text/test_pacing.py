"""Text at intervals: nothing lost, nothing late, one emission at a time."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import reactivex
from faces import BOUND, eventually
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, Subject
from reactivex.disposable import BooleanDisposable, Disposable
from reactivex.scheduler import VirtualTimeScheduler
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral import Stream
from rxmistral.text.pacing import Pacer, coalesced, paced

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)

Operator = Callable[..., Callable[[Observable[str]], Stream[str]]]


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


@pytest.fixture(params=[paced, coalesced])
def operator(request: pytest.FixtureRequest) -> Operator:
    return request.param


def emitted(
    scheduler: TestScheduler, operator: Any, *messages: Any, disposed: float = 1000
) -> tuple[list[Any], list[Subscription]]:
    """Subscribes at 200; returns all messages, and the subscriptions of the source."""
    source = scheduler.create_cold_observable(*messages)
    result = scheduler.start(lambda: source.pipe(operator), disposed=disposed)
    return result.messages, source.subscriptions


# --- paced and coalesced ---------------------------------------------------------


def test_silent_source_is_disposed_on_dispose(operator: Operator, scheduler: TestScheduler) -> None:
    assert emitted(scheduler, operator(10)) == ([], [Subscription(200, 1000)])


def test_empty_source_completes_without_items(operator: Operator, scheduler: TestScheduler) -> None:
    received, subscriptions = emitted(scheduler, operator(10), on_completed(10))
    assert received == [on_completed(210)]
    assert subscriptions == [Subscription(200, 210)]


def test_immediate_error_passes_at_once(operator: Operator, scheduler: TestScheduler) -> None:
    error = RuntimeError("at once")
    received, subscriptions = emitted(scheduler, operator(10), on_error(10, error))
    assert received == [on_error(210, error)]
    assert subscriptions == [Subscription(200, 210)]


def test_empty_piece_emits_nothing(operator: Operator, scheduler: TestScheduler) -> None:
    received, _ = emitted(
        scheduler, operator(10), on_next(10, ""), on_next(11, "a"), on_completed(12)
    )
    assert received == [on_next(211, "a"), on_completed(212)]


def test_distant_pieces_pass_at_once_without_a_timer(
    operator: Operator, scheduler: TestScheduler
) -> None:
    armed: list[float] = []
    received, _ = emitted(
        scheduler,
        operator(10, scheduler=CountingScheduler(scheduler, armed)),
        *(on_next(10 + 10 * number, str(number)) for number in range(20)),
    )
    assert received == [on_next(210 + 10 * number, str(number)) for number in range(20)]
    assert armed == []


class CountingScheduler(VirtualTimeScheduler):
    """The time of another scheduler; records the calls."""

    def __init__(self, scheduler: TestScheduler, armed: list[float]) -> None:
        super().__init__()
        self._of = scheduler
        self._armed = armed

    @property
    def now(self) -> datetime:
        return self._of.now

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
        self._armed.append(duetime)
        return self._of.schedule_relative(duetime, action, state)


def test_held_text_is_one_item_at_completion(operator: Operator, scheduler: TestScheduler) -> None:
    received, subscriptions = emitted(
        scheduler, operator(10), *(on_next(10, each) for each in "abcd"), on_completed(13)
    )
    assert received == [on_next(210, "a"), on_next(213, "bcd"), on_completed(213)]
    assert subscriptions == [Subscription(200, 213)]


def test_held_text_is_one_item_before_an_error(
    operator: Operator, scheduler: TestScheduler
) -> None:
    error = RuntimeError("late")
    received, subscriptions = emitted(
        scheduler, operator(10), *(on_next(10, each) for each in "abcd"), on_error(13, error)
    )
    assert received == [on_next(210, "a"), on_next(213, "bcd"), on_error(213, error)]
    assert subscriptions == [Subscription(200, 213)]


def test_nothing_is_emitted_after_early_dispose(
    operator: Operator, scheduler: TestScheduler
) -> None:
    received, subscriptions = emitted(
        scheduler, operator(10), *(on_next(10, each) for each in "abcd"), disposed=215
    )
    assert received == [on_next(210, "a")]
    assert subscriptions == [Subscription(200, 215)]


def test_synchronous_source_ends_before_subscribe_returns(operator: Operator) -> None:
    got: list[str] = []
    reactivex.of("a", "b", "c").pipe(operator(10)).subscribe(
        got.append, on_completed=lambda: got.append("|")
    )
    assert got == ["a", "bc", "|"]


def test_synchronous_source_can_be_left_after_one_item(operator: Operator) -> None:
    got: list[str] = []
    reactivex.of("a", "b", "c").pipe(operator(10), reactivex.operators.take(1)).subscribe(
        got.append
    )
    assert got == ["a"]


def test_two_subscriptions_share_no_state(operator: Operator, scheduler: TestScheduler) -> None:
    source: Subject[str] = Subject()
    piped = source.pipe(operator(10, scheduler=scheduler))
    first: list[str] = []
    second: list[str] = []
    piped.subscribe(first.append)
    source.on_next("a")
    piped.subscribe(second.append)
    source.on_next("b")
    source.on_completed()
    assert (first, second) == (["a", "b"], ["b"])


def test_scheduler_of_subscription_keeps_time_by_default(
    operator: Operator, scheduler: TestScheduler
) -> None:
    other: list[float] = []
    given_one = CountingScheduler(TestScheduler(), other)
    reactivex.of("a", "b").pipe(
        reactivex.operators.concat(reactivex.never()), operator(10, scheduler=scheduler)
    ).subscribe(scheduler=given_one)
    assert other == []
    source: Subject[str] = Subject()
    source.pipe(operator(10)).subscribe(scheduler=given_one)
    source.on_next("a")
    source.on_next("b")
    assert other == [10]


def test_observer_may_emit_into_the_source_and_end_it(
    operator: Operator, scheduler: TestScheduler
) -> None:
    """From its callback: those items follow the one that the callback received."""
    source: Subject[str] = Subject()
    got: list[str] = []

    def receive(text: str) -> None:
        if text == "a":
            source.on_next("b")
            source.on_next("c")
            source.on_completed()
        got.append(text)

    source.pipe(operator(10, scheduler=scheduler)).subscribe(
        receive, on_completed=lambda: got.append("|")
    )
    source.on_next("a")
    assert got == ["a", "bc", "|"]


def test_observer_may_dispose_in_a_tick(operator: Operator, scheduler: TestScheduler) -> None:
    received, subscriptions = emitted(
        scheduler,
        lambda source: source.pipe(operator(10), reactivex.operators.take(2)),
        *(on_next(10, each) for each in "abc"),
    )
    assert received == [on_next(210, "a"), on_next(220, "b" if operator is paced else "bc"), on_completed(220)]  # fmt: skip
    assert subscriptions == [Subscription(200, 220)]


def test_exception_of_observer_loses_no_text(operator: Operator, scheduler: TestScheduler) -> None:
    source: Subject[str] = Subject()
    got: list[str] = []
    errors: list[Exception] = []

    def receive(text: str) -> None:
        got.append(text)
        if text == "a":
            raise ZeroDivisionError

    source.pipe(operator(10, scheduler=scheduler)).subscribe(receive, errors.append)
    with pytest.raises(ZeroDivisionError):
        source.on_next("a")
    source.on_next("b")
    source.on_completed()
    assert (got, errors) == (["a", "b"], [])


def test_pipe_returns_a_stream(operator: Operator) -> None:
    assert isinstance(reactivex.of("a").pipe(operator(10)), Stream)


@pytest.mark.parametrize(
    ("interval", "error", "message"),
    [
        (0, ValueError, "interval must be more than 0 seconds, and finite, got 0"),
        (-1.5, ValueError, "interval must be more than 0 seconds, and finite, got -1.5"),
        (math.nan, ValueError, "interval must be more than 0 seconds, and finite, got nan"),
        (math.inf, ValueError, "interval must be more than 0 seconds, and finite, got inf"),
        ("1", TypeError, "interval must be a number of seconds, got str"),
        (True, TypeError, "interval must be a number of seconds, got bool"),
    ],
)
def test_invalid_interval_raises_at_the_call(
    operator: Operator, interval: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        operator(interval)


# --- coalesced -------------------------------------------------------------------


def test_text_within_the_interval_is_one_item_at_its_end(scheduler: TestScheduler) -> None:
    received, _ = emitted(
        scheduler,
        coalesced(10),
        *(on_next(at, each) for at, each in zip((10, 12, 19, 20, 25, 45, 46), "abcdefg", strict=True)),
        on_completed(100),
    )  # fmt: skip
    assert received == [
        on_next(210, "a"),
        on_next(220, "bcd"),
        on_next(230, "e"),
        on_next(245, "f"),
        on_next(255, "g"),
        on_completed(300),
    ]


# --- paced -----------------------------------------------------------------------


def test_burst_is_emitted_piece_by_piece(scheduler: TestScheduler) -> None:
    received, _ = emitted(
        scheduler,
        paced(10),
        *(on_next(10, each) for each in "abcdef"),
        on_next(90, "g"),
        on_completed(95),
    )
    assert received == [
        *(on_next(210 + 10 * number, each) for number, each in enumerate("abcdef")),
        on_next(290, "g"),
        on_completed(295),
    ]


def test_burst_too_large_for_the_lag_is_merged_evenly(scheduler: TestScheduler) -> None:
    received, _ = emitted(
        scheduler, paced(10, max_lag=40), *(on_next(10, each) for each in "abcdefghijklmn")
    )
    assert received == [
        on_next(210, "a"),
        on_next(220, "bcde"),
        on_next(230, "fgh"),
        on_next(240, "ijk"),
        on_next(250, "lmn"),
    ]


def test_steady_source_is_followed_at_half_the_lag(scheduler: TestScheduler) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz" * 4
    received, _ = emitted(
        scheduler,
        paced(10, max_lag=100),
        *(on_next(10 + 5 * number, each) for number, each in enumerate(letters)),
    )
    later = [item for item in received if 450 <= item.time <= 700]
    assert {len(item.value.value) for item in later} == {2}
    assert len(received) == len({item.time for item in received})


INTERVALS = st.sampled_from([1.0, 10.0, 0.1, 1 / 3])
GAPS = st.lists(st.sampled_from([0, 0, 0, 0.1, 0.7, 1, 3, 12]), min_size=1, max_size=40)


@given(INTERVALS, st.sampled_from([1, 1.5, 4, 10]), GAPS)
def test_text_is_complete_in_time_and_items_keep_distance(
    interval: float, lags: float, gaps: list[float]
) -> None:
    scheduler = TestScheduler()
    max_lag = lags * interval
    times, now = [], 10.0
    for gap in gaps:
        now += gap * interval
        times.append(now)
    messages = [on_next(at, chr(0x100 + number)) for number, at in enumerate(times)]
    source = scheduler.create_cold_observable(*messages)
    received = scheduler.start(
        lambda: source.pipe(paced(interval, max_lag)), disposed=100_000
    ).messages
    assert "".join(item.value.value for item in received) == "".join(
        m.value.value for m in messages
    )
    left = {letter: item.time - 200 for item in received for letter in item.value.value}
    for number, at in enumerate(times):
        assert left[chr(0x100 + number)] <= at + max_lag + 1e-4
    for one, next_one in pairwise(received):
        assert next_one.time - one.time >= interval - 1e-4


@given(st.lists(st.one_of(st.integers(1, 5), st.none()), max_size=40), st.sampled_from([1, 2, 5]))
def test_pacer_releases_all_within_the_lag(steps: list[int | None], lag: int) -> None:
    """A number stands for as many new pieces; None for a tick, one second later."""
    pacer = Pacer(1.0, lag)
    now, number, out = 100.0, 0, 0
    born: list[float] = []
    pacer.observe_time(now)
    for step in steps:
        for _ in range(step or 0):
            pacer.feed(chr(0x100 + number))
            born.append(now)
            number += 1
        if step is None:
            now += 1
            if pacer.buffer:
                out += len(pacer.release(now))
            else:
                pacer.observe_time(now)
        assert all(now - at <= lag for at in born[out:])
    assert out + len(pacer.close()) == number


def test_clock_set_back_delays_no_more_than_an_interval() -> None:
    clock = [datetime(2026, 1, 1, tzinfo=UTC)]
    scheduler = TestScheduler()
    armed: list[float] = []

    class SetBack(CountingScheduler):
        @property
        def now(self) -> datetime:
            return clock[0]

    source: Subject[str] = Subject()
    source.pipe(paced(10, scheduler=SetBack(scheduler, armed))).subscribe()
    source.on_next("a")
    clock[0] -= timedelta(hours=1)
    source.on_next("b")
    assert armed == [10]


@pytest.mark.parametrize(
    ("max_lag", "error", "message"),
    [
        (0.5, ValueError, "max_lag must not be less than the interval, got 0.5 < 1"),
        (0, ValueError, "max_lag must be more than 0 seconds, and finite, got 0"),
        ("2", TypeError, "max_lag must be a number of seconds, got str"),
    ],
)
def test_invalid_lag_raises_at_the_call(max_lag: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        paced(1, max_lag)


# --- with threads ----------------------------------------------------------------


def test_emissions_keep_order_without_overlap_in_threads(
    operator: Operator,
) -> None:
    """A thread that emits, and timers that fire in between."""
    bursts = [[f"{number} ", "b ", "c ", *["d "] * 500, ".\n"] for number in range(50)]
    got: list[str] = []
    at_work = threading.Lock()
    overlaps: list[str] = []
    arrived, ended = threading.Event(), threading.Event()
    threads: set[str] = set()

    def receive(text: str) -> None:
        if not at_work.acquire(blocking=False):
            overlaps.append(text)
        threads.add(threading.current_thread().name)
        got.append(text)
        at_work.release()
        if text.endswith(".\n"):
            arrived.set()

    def emit(observer: Any, _: Any = None) -> Any:
        def work() -> None:
            for burst in bursts:
                for piece in burst:
                    observer.on_next(piece)
                assert arrived.wait(BOUND)
                arrived.clear()
            observer.on_completed()

        threading.Thread(target=work).start()
        return Disposable()

    reactivex.create(emit).pipe(operator(0.001)).subscribe(receive, on_completed=ended.set)
    assert ended.wait(BOUND)
    assert "".join(got) == "".join(piece for burst in bursts for piece in burst)
    assert overlaps == []
    assert len(threads) > 1


class ManualScheduler(CountingScheduler):
    """A clock that does not advance, and timers that the test fires."""

    def __init__(self) -> None:
        super().__init__(TestScheduler(), [])
        self.actions: list[Any] = []
        self.timers: list[BooleanDisposable] = []

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
        self.actions.append(action)
        self.timers.append(BooleanDisposable())
        return self.timers[-1]


class BusyObserver:
    """An observer that blocks a timer's thread until it is released."""

    def __init__(self, operator: Operator) -> None:
        self.source: Subject[str] = Subject()
        self.got: list[str] = []
        self.busy, self.go_on = threading.Event(), threading.Event()
        scheduler = ManualScheduler()
        self.subscription = self.source.pipe(operator(1, scheduler=scheduler)).subscribe(
            self.receive, on_completed=lambda: self.got.append("|")
        )
        self.source.on_next("a")
        self.source.on_next("b")
        (tick,) = scheduler.actions
        self.timer = threading.Thread(target=lambda: tick(scheduler, None))
        self.timer.start()
        assert self.busy.wait(BOUND)

    def receive(self, text: str) -> None:
        if text == "b":
            self.busy.set()
            assert self.go_on.wait(BOUND)
        self.got.append(text)


def test_end_waits_for_a_busy_observer_and_is_last(operator: Operator) -> None:
    """So a script that ends with its source's thread has shown everything."""
    at = BusyObserver(operator)
    at.source.on_next("c")
    ending = threading.Thread(target=at.source.on_completed)
    ending.start()
    ending.join(0.05)
    assert ending.is_alive()
    at.go_on.set()
    ending.join(BOUND)
    assert at.got == ["a", "b", "c", "|"]


def test_source_waits_when_far_ahead_of_a_busy_observer(operator: Operator) -> None:
    at = BusyObserver(operator)
    count = 0

    def emit() -> None:
        nonlocal count
        while count < 2000:
            count += 1
            at.source.on_next("c")
        at.source.on_completed()

    thread = threading.Thread(target=emit)
    thread.start()
    assert eventually(lambda: count == 512)
    thread.join(0.05)
    assert count == 512
    at.go_on.set()
    thread.join(BOUND)
    assert at.got.pop() == "|"
    assert "".join(at.got) == "ab" + 2000 * "c"


def test_source_on_an_event_loop_never_waits(operator: Operator) -> None:
    """The observer itself may be waiting for the loop."""
    at = BusyObserver(operator)
    done = threading.Event()

    async def emit() -> None:
        for _ in range(2000):
            at.source.on_next("c")
        at.source.on_completed()
        done.set()

    thread = threading.Thread(target=lambda: asyncio.run(emit()))
    thread.start()
    assert done.wait(BOUND)
    assert at.got == ["a"]
    at.go_on.set()
    at.timer.join(BOUND)
    assert at.got == ["a", "b", 2000 * "c", "|"]
    thread.join(BOUND)


def test_dispose_does_not_wait_for_a_busy_observer(operator: Operator) -> None:
    at = BusyObserver(operator)
    at.source.on_next("c")
    at.subscription.dispose()
    assert not at.source.observers
    at.go_on.set()
    at.timer.join(BOUND)
    assert at.got == ["a", "b"]


@pytest.mark.parametrize("end", ["dispose", "complete", "error"])
def test_no_timer_is_left_behind(operator: Operator, end: str) -> None:
    source: Subject[str] = Subject()
    scheduler = ManualScheduler()
    subscription = source.pipe(operator(1, scheduler=scheduler)).subscribe(on_error=lambda _: None)
    source.on_next("a")
    source.on_next("b")
    (timer,) = scheduler.timers
    assert not timer.is_disposed
    match end:
        case "dispose":
            subscription.dispose()
        case "complete":
            source.on_completed()
        case "error":
            source.on_error(RuntimeError())
    assert timer.is_disposed


def test_exception_of_callback_on_timer_thread_is_the_error(operator: Operator) -> None:
    source: Subject[str] = Subject()
    scheduler = ManualScheduler()
    got: list[Any] = []
    raised = ZeroDivisionError()

    def receive(text: str) -> None:
        got.append(text)
        if text == "b":
            raise raised

    source.pipe(operator(1, scheduler=scheduler)).subscribe(receive, got.append)
    source.on_next("a")
    source.on_next("b")
    scheduler.actions.pop()(scheduler, None)
    source.on_next("c")
    assert got == ["a", "b", raised]
    assert source.observers == []
