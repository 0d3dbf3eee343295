"""fallback and hedge: one answer from several streams."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, eventually
from hypothesis import given
from hypothesis import strategies as st
from reactivex import Observable, Subject
from reactivex.disposable import BooleanDisposable, Disposable
from reactivex.observer import Observer
from reactivex.scheduler import CurrentThreadScheduler
from reactivex.testing import ReactiveTest, TestScheduler

from rxmistral import (
    AllFailedError,
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DeltaMessage,
    DroppedStreamError,
    FunctionCall,
    ReferenceChunk,
    Stream,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UsageInfo,
    fallback,
    hedge,
)
from rxmistral.rx.request_counter import RequestCounter, current_counter

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)


def event(finish: str | None = None, **delta: Any) -> CompletionEvent:
    choice = CompletionResponseStreamChoice(
        index=0, delta=DeltaMessage(**delta), finish_reason=finish
    )
    return CompletionEvent(data=CompletionChunk(choices=[choice]))


ROLE = event(role="assistant", content="")
STOP = event("stop", content="")
A, B, C = event(content="a"), event(content="b"), event(content="c")
CALL = event(tool_calls=[ToolCall(id="1", function=FunctionCall(name="f", arguments="{}"))])

USEFUL_EVENTS = {
    "text": A,
    "text in parts": event(content=[TextChunk(text="a")]),
    "thinking": event(content=[ThinkChunk(thinking=[TextChunk(text="hm")])]),
    "a tool call": CALL,
    "text and the finish": event("stop", content="a"),
    "a tool call and the finish": event("tool_calls", tool_calls=CALL.data.choices[0].delta.tool_calls),
}  # fmt: skip
USELESS_EVENTS = {
    "a role": ROLE,
    "an empty delta": event(content=""),
    "no content": event(),
    "no choices": CompletionEvent(data=CompletionChunk(choices=[])),
    "usage": CompletionEvent(data=CompletionChunk(choices=[], usage=UsageInfo(total_tokens=1))),
    "empty parts": event(content=[TextChunk(text=""), ThinkChunk(thinking=[TextChunk(text="")])]),
    "an empty reference": event(content=[ReferenceChunk(reference_ids=[])]),
}
useful = pytest.mark.parametrize("useful", USEFUL_EVENTS.values(), ids=USEFUL_EVENTS.keys())
useless = pytest.mark.parametrize("useless", USELESS_EVENTS.values(), ids=USELESS_EVENTS.keys())

ERROR, OTHER = RuntimeError("first"), ValueError("second")


def test_request_id_is_that_of_the_winner() -> None:
    counters: list[RequestCounter] = []
    subjects = [Subject[CompletionEvent](), Subject[CompletionEvent]()]

    def counting(subject: Subject[CompletionEvent]) -> Observable[CompletionEvent]:
        def subscribe(_: object) -> Observable[CompletionEvent]:
            counters.append(current_counter.get() or RequestCounter())
            return subject

        return reactivex.defer(subscribe)

    answer = hedge(*map(counting, subjects), delay=0)
    answer.subscribe()
    for counter, request_id in zip(reversed(counters), ["winner", "loser"], strict=True):
        counter.record_request_id(request_id)
    subjects[1].on_next(A)
    subjects[1].on_completed()
    assert answer.outcome is not None
    assert answer.outcome.request_id == "winner"


@pytest.fixture
def scheduler() -> TestScheduler:
    return TestScheduler()


class Timeline:
    """The result of combining sources scripted in virtual time; subscribed at 200."""

    def __init__(
        self,
        scheduler: TestScheduler,
        combine: Callable[..., Observable[CompletionEvent]],
        *scripts: list[Any],
        disposed: float = 1000,
    ) -> None:
        sources = [scheduler.create_cold_observable(*script) for script in scripts]
        observer = scheduler.start(lambda: combine(*sources), disposed=disposed)
        self.messages = observer.messages
        self.subscriptions = [
            [(each.subscribe, each.unsubscribe) for each in source.subscriptions]
            for source in sources
        ]

    def error(self) -> Any:
        return self.messages[-1].value.exception


def hedge_after(delay: float) -> Callable[..., Stream[CompletionEvent]]:
    """Returns hedge for `Timeline`, on the scheduler of the subscription."""
    return lambda *streams: hedge(*streams, delay=delay)


both = pytest.mark.parametrize("combine", [fallback, hedge_after(100)], ids=["fallback", "hedge"])


# --- fallback and hedge ----------------------------------------------------------


@both
def test_first_stream_with_useful_output_is_emitted(combine: Any, scheduler: TestScheduler) -> None:
    a = [on_next(10, ROLE), on_next(20, A), on_next(30, B), on_next(40, STOP), on_completed(50)]
    timeline = Timeline(scheduler, combine, a, [on_next(10, C)])
    assert timeline.messages == [
        on_next(220, ROLE),
        on_next(220, A),
        on_next(230, B),
        on_next(240, STOP),
        on_completed(250),
    ]
    assert timeline.subscriptions == [[(200, 250)], []]


@both
@useful
def test_useful_output_is_emitted_at_once(
    combine: Any, useful: CompletionEvent, scheduler: TestScheduler
) -> None:
    timeline = Timeline(scheduler, combine, [on_next(10, useful)], [])
    assert timeline.messages == [on_next(210, useful)]
    assert timeline.subscriptions == [[(200, 1000)], []]


@both
@useless
def test_useless_output_is_dropped_with_its_failed_stream(
    combine: Any, useless: CompletionEvent, scheduler: TestScheduler
) -> None:
    timeline = Timeline(
        scheduler, combine, [on_next(10, useless), on_error(20, ERROR)], [on_next(10, A)]
    )
    assert timeline.messages == [on_next(230, A)]
    assert timeline.subscriptions == [[(200, 220)], [(220, 1000)]]


@both
def test_error_after_useful_output_is_emitted(combine: Any, scheduler: TestScheduler) -> None:
    timeline = Timeline(scheduler, combine, [on_next(10, A), on_error(20, ERROR)], [on_next(10, B)])
    assert timeline.messages == [on_next(210, A), on_error(220, ERROR)]
    assert timeline.subscriptions == [[(200, 220)], []]


@both
def test_all_failed_error_lists_each_error(combine: Any, scheduler: TestScheduler) -> None:
    timeline = Timeline(
        scheduler, combine, [on_error(10, ERROR)], [on_next(10, ROLE), on_error(20, OTHER)]
    )
    assert [message.time for message in timeline.messages] == [230]
    error = timeline.error()
    assert isinstance(error, AllFailedError)
    assert error.errors == (ERROR, OTHER)
    assert error.__cause__ is OTHER
    assert timeline.subscriptions == [[(200, 210)], [(210, 230)]]


@both
def test_single_stream_behaves_like_several(combine: Any, scheduler: TestScheduler) -> None:
    assert Timeline(scheduler, combine, [on_next(10, A)]).messages == [on_next(210, A)]
    failed = Timeline(TestScheduler(), combine, [on_error(10, ERROR)])
    assert failed.error().errors == (ERROR,)


@both
def test_empty_answer_completes_after_failures(combine: Any, scheduler: TestScheduler) -> None:
    empty = [on_next(10, ROLE), on_next(20, STOP), on_completed(30)]
    timeline = Timeline(scheduler, combine, [on_error(10, ERROR)], empty)
    assert [message.value for message in timeline.messages[:2]] == [
        on_next(0, ROLE).value,
        on_next(0, STOP).value,
    ]
    assert timeline.messages[-1] == on_completed(240)


@both
def test_stream_without_items_completes(combine: Any, scheduler: TestScheduler) -> None:
    assert Timeline(scheduler, combine, [on_completed(10)]).messages == [on_completed(210)]


@both
def test_each_subscription_runs_its_own_race(combine: Any, scheduler: TestScheduler) -> None:
    a: Any = scheduler.create_cold_observable(on_error(10, ERROR))
    b: Any = scheduler.create_cold_observable(on_next(10, A), on_completed(20))
    stream = combine(a, b)
    items: list[Any] = []
    for _ in range(2):
        stream.subscribe(items.append, scheduler=scheduler)
        scheduler.start()
    assert items == [A, A]
    assert len(a.subscriptions) == len(b.subscriptions) == 2


@both
@pytest.mark.parametrize("disposed", [205, 215, 305, 315])
def test_dispose_in_any_phase_ends_all_and_starts_none(
    combine: Any, disposed: float, scheduler: TestScheduler
) -> None:
    timeline = Timeline(
        scheduler,
        combine,
        [on_next(10, ROLE), on_error(110, ERROR)],
        [on_next(10, ROLE)],
        [on_next(10, A)],
        disposed=disposed,
    )
    assert timeline.messages == []
    for subscriptions in timeline.subscriptions:
        for _, until in subscriptions:
            assert until <= disposed
    assert len(timeline.subscriptions[2]) == 0


@both
def test_synchronous_failures_need_no_deep_stack(combine: Any) -> None:
    started: list[int] = []

    def failing(number: int) -> Observable[Any]:
        def subscribe(observer: Any, _: Any = None) -> Any:
            started.append(number)
            observer.on_next(ROLE)
            observer.on_error(ERROR)
            return Disposable()

        return reactivex.create(subscribe)

    items: list[Any] = []
    combine(*map(failing, range(100)), reactivex.of(A, STOP)).subscribe(items.append)
    assert items == [A, STOP]
    assert started == list(range(100))


@both
def test_subscribe_that_raises_counts_as_failed_stream(combine: Any) -> None:
    def subscribe(*_: Any) -> Any:
        raise ERROR

    assert list(combine(Stream(subscribe), reactivex.of(A))) == [A]


@both
def test_synchronous_sources_are_supported(combine: Any, read: Face) -> None:
    assert read(combine(reactivex.of(ROLE, A, B), reactivex.of(C))) == [ROLE, A, B]
    assert read(combine(reactivex.throw(ERROR), reactivex.of(ROLE, A))) == [ROLE, A]
    (error,) = read(combine(reactivex.throw(ERROR), reactivex.throw(OTHER)))
    assert error.errors == (ERROR, OTHER)


@both
def test_reentrant_item_is_emitted_in_order(combine: Any) -> None:
    source: Subject[CompletionEvent] = Subject()
    items: list[Any] = []

    def collect(item: CompletionEvent) -> None:
        items.append(item)
        if item is ROLE:
            source.on_next(B)

    combine(source).subscribe(collect)
    source.on_next(ROLE)
    source.on_next(A)
    source.on_next(C)
    assert items == [ROLE, A, B, C]


def raising(_: Any) -> None:
    raise ERROR


@both
def test_subscriber_error_does_not_start_the_next_stream(combine: Any) -> None:
    def subscribe(observer: Any, _: Any = None) -> Any:
        try:  # as a reader does: an exception of a callback is the error of the stream
            observer.on_next(ROLE)
            observer.on_next(A)
        except RuntimeError as error:
            observer.on_error(error)
        return Disposable()

    errors: list[Any] = []
    combine(reactivex.create(subscribe), reactivex.of(B)).subscribe(raising, errors.append)
    assert errors == [ERROR]


@both
def test_source_may_continue_after_a_subscriber_error(combine: Any) -> None:
    source: Subject[CompletionEvent] = Subject()
    items: list[Any] = []

    def collect(item: CompletionEvent) -> None:
        items.append(item)
        if item is A:
            raise ERROR

    combine(source).subscribe(collect)
    with pytest.raises(RuntimeError):
        source.on_next(A)
    source.on_next(B)
    assert items == [A, B]


@both
def test_subscriber_error_at_an_empty_answer_is_emitted(combine: Any) -> None:
    source: Subject[CompletionEvent] = Subject()
    ends: list[Any] = []
    combine(source).subscribe(raising, ends.append, lambda: ends.append(None))
    source.on_next(ROLE)
    source.on_completed()
    assert ends == [ERROR]


@both
def test_failure_after_dispose_is_ignored(combine: Any) -> None:
    observers: list[Any] = []

    def subscribe(observer: Any, _: Any = None) -> Any:
        observers.append(observer)
        return Disposable()

    ends: list[Any] = []
    stream = combine(reactivex.create(subscribe), reactivex.of(A))
    race = stream._subscribe(Observer(ends.append, ends.append), None)
    race.dispose()
    candidate = race._candidates[0]
    candidate.on_next(A)
    candidate.on_error(ERROR)
    assert ends == []


@both
def test_sources_receive_the_scheduler_of_the_subscription(combine: Any) -> None:
    schedulers: list[Any] = []

    def subscribe(observer: Any, scheduler: Any = None) -> Any:
        schedulers.append(scheduler)
        return Disposable()

    scheduler = TestScheduler()
    combine(Stream(subscribe)).subscribe(scheduler=scheduler)
    assert schedulers == [scheduler]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fallback(), ValueError, "fallback needs at least one stream"),
        (lambda: hedge(delay=1), ValueError, "hedge needs at least one stream"),
        (lambda: fallback([Stream()]), TypeError, "fallback takes Observables, got list"),  # type: ignore[arg-type]
        (lambda: hedge(Stream(), "b", delay=1), TypeError, "hedge takes Observables, got str"),  # type: ignore[arg-type]
        (lambda: hedge(Stream(), delay="1"), TypeError, "delay must be a number, got str"),  # type: ignore[arg-type]
        (lambda: hedge(Stream(), delay=True), TypeError, "delay must be a number, got bool"),
        (lambda: hedge(Stream(), delay=-1), ValueError, "delay must be 0 or more, and finite"),
        (lambda: hedge(Stream(), delay=float("nan")), ValueError, "delay must be 0 or more, and finite"),
        (lambda: hedge(Stream(), delay=float("inf")), ValueError, "delay must be 0 or more, and finite"),
    ],
)  # fmt: skip
def test_invalid_arguments_raise_at_the_call(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_result_is_a_stream() -> None:
    assert isinstance(fallback(reactivex.of(A)), Stream)
    assert isinstance(hedge(reactivex.of(A), delay=1), Stream)


# --- fallback --------------------------------------------------------------------


def test_fallback_waits_for_a_silent_stream(scheduler: TestScheduler) -> None:
    timeline = Timeline(scheduler, fallback, [on_next(10, ROLE)], [on_next(10, A)])
    assert timeline.messages == []
    assert timeline.subscriptions == [[(200, 1000)], []]


def test_fallback_accepts_an_empty_answer_with_finish_reason(scheduler: TestScheduler) -> None:
    timeline = Timeline(
        scheduler, fallback, [on_next(10, ROLE), on_next(20, STOP), on_error(30, ERROR)], []
    )
    assert timeline.messages == [on_next(220, ROLE), on_next(220, STOP), on_error(230, ERROR)]
    assert timeline.subscriptions == [[(200, 230)], []]


def test_fallback_accepts_an_empty_answer_that_completes(scheduler: TestScheduler) -> None:
    timeline = Timeline(
        scheduler, fallback, [on_error(10, ERROR)], [on_next(10, ROLE), on_completed(20)], []
    )
    assert timeline.messages == [on_next(230, ROLE), on_completed(230)]
    assert timeline.subscriptions == [[(200, 210)], [(210, 230)], []]


# --- hedge, in virtual time ------------------------------------------------------


def test_hedge_starts_the_next_when_one_is_slow(scheduler: TestScheduler) -> None:
    timeline = Timeline(
        scheduler,
        hedge_after(100),
        [on_next(10, ROLE), on_next(150, A)],
        [on_next(10, ROLE), on_next(20, B), on_next(60, C), on_completed(70)],
    )
    assert timeline.messages == [
        on_next(320, ROLE),
        on_next(320, B),
        on_next(360, C),
        on_completed(370),
    ]
    assert timeline.subscriptions == [[(200, 320)], [(300, 370)]]


def test_hedge_lets_the_first_win_after_the_delay(scheduler: TestScheduler) -> None:
    timeline = Timeline(
        scheduler, hedge_after(100), [on_next(150, A)], [on_next(60, B)], [on_next(60, C)]
    )
    assert timeline.messages == [on_next(350, A)]
    assert timeline.subscriptions == [[(200, 1000)], [(300, 350)], []]


@useless
def test_useless_output_does_not_postpone_the_next_stream(
    useless: CompletionEvent, scheduler: TestScheduler
) -> None:
    timeline = Timeline(
        scheduler, hedge_after(100), [on_next(at, useless) for at in range(10, 300, 10)], []
    )
    assert timeline.messages == []
    assert timeline.subscriptions == [[(200, 1000)], [(300, 1000)]]


def test_hedge_starts_each_after_another_delay(scheduler: TestScheduler) -> None:
    timeline = Timeline(scheduler, hedge_after(100), [], [], [], [on_next(50, A)])
    assert timeline.messages == [on_next(550, A)]
    assert timeline.subscriptions == [[(200, 550)], [(300, 550)], [(400, 550)], [(500, 1000)]]


def test_hedge_starts_the_next_at_once_when_none_is_running(scheduler: TestScheduler) -> None:
    """It also gets the whole delay."""
    timeline = Timeline(scheduler, hedge_after(100), [on_error(40, ERROR)], [], [on_next(50, A)])
    assert timeline.messages == [on_next(390, A)]
    assert timeline.subscriptions == [[(200, 240)], [(240, 390)], [(340, 1000)]]


def test_failure_starts_no_stream_while_another_is_running(scheduler: TestScheduler) -> None:
    timeline = Timeline(scheduler, hedge_after(100), [on_error(150, ERROR)], [], [on_next(50, A)])
    assert timeline.messages == [on_next(450, A)]
    assert timeline.subscriptions == [[(200, 350)], [(300, 450)], [(400, 1000)]]


def test_error_never_wins(scheduler: TestScheduler) -> None:
    timeline = Timeline(scheduler, hedge_after(100), [on_next(180, A)], [on_error(10, ERROR)])
    assert timeline.messages == [on_next(380, A)]
    assert timeline.subscriptions == [[(200, 1000)], [(300, 310)]]


@pytest.mark.parametrize("empty", [[ROLE, STOP], [STOP], []], ids=["role", "finish", "nothing"])
def test_empty_answer_never_wins(empty: list[Any], scheduler: TestScheduler) -> None:
    script = [*(on_next(10, each) for each in empty), on_completed(20)]
    timeline = Timeline(scheduler, hedge_after(100), [on_next(180, A)], script)
    assert timeline.messages == [on_next(380, A)]
    first = Timeline(TestScheduler(), hedge_after(100), script, [on_next(10, A)])
    assert first.messages == [on_next(230, A)]
    assert first.subscriptions == [[(200, 220)], [(220, 1000)]]


def test_first_of_several_empty_answers_completes(scheduler: TestScheduler) -> None:
    usage = USELESS_EVENTS["usage"]
    timeline = Timeline(
        scheduler,
        hedge_after(10),
        [on_next(10, ROLE), on_completed(100)],
        [on_next(10, usage), on_completed(20)],
        [on_error(200, ERROR)],
    )
    assert timeline.messages == [on_next(420, usage), on_completed(420)]


def test_errors_are_listed_in_stream_order(scheduler: TestScheduler) -> None:
    timeline = Timeline(scheduler, hedge_after(10), [on_error(100, ERROR)], [on_error(10, OTHER)])
    assert timeline.error().errors == (ERROR, OTHER)


def test_zero_delay_starts_all_at_once(scheduler: TestScheduler) -> None:
    timeline = Timeline(
        scheduler, hedge_after(0), [on_next(50, A)], [on_error(10, ERROR)], [on_next(40, C)]
    )
    assert timeline.messages == [on_next(240, C)]
    assert timeline.subscriptions == [[(200, 240)], [(200, 210)], [(200, 1000)]]


def test_zero_delay_starts_none_after_a_winner() -> None:
    other: Any = TestScheduler().create_cold_observable(on_next(10, B))

    def at_once(observer: Any, _: Any = None) -> Any:
        observer.on_next(A)
        return Disposable()

    items: list[Any] = []
    hedge(reactivex.create(at_once), other, delay=0).subscribe(items.append).dispose()
    assert items == [A]
    assert other.subscriptions == []


def test_hedge_keeps_time_by_its_scheduler_argument(scheduler: TestScheduler) -> None:
    others = TestScheduler()
    other: Any = scheduler.create_cold_observable(on_next(10, B))
    hedge(reactivex.never(), other, delay=50, scheduler=scheduler).subscribe(scheduler=others)
    scheduler.advance_to(40)
    assert other.subscriptions == []
    scheduler.advance_to(60)
    assert len(other.subscriptions) == 1


class ManualScheduler(CurrentThreadScheduler):
    """A scheduler whose timers the test fires."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[Any] = []
        self.timers: list[BooleanDisposable] = []

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
        self.actions.append(action)
        self.timers.append(BooleanDisposable())
        return self.timers[-1]


@pytest.mark.parametrize("end", ["win", "fail", "dispose"])
def test_late_timer_starts_nothing_and_none_is_left(end: str) -> None:
    clock = ManualScheduler()
    a: Subject[CompletionEvent] = Subject()
    b: Subject[CompletionEvent] = Subject()
    c: Subject[CompletionEvent] = Subject()
    subscription = hedge(a, b, c, delay=1, scheduler=clock).subscribe()
    assert len(clock.timers) == 1
    match end:
        case "win":
            a.on_next(A)
        case "fail":
            a.on_error(ERROR)  # starts b, with a timer of its own
            assert b.observers
            assert len(clock.timers) == 2
        case "dispose":
            subscription.dispose()
    assert clock.timers[0].is_disposed
    clock.actions[0](clock, None)  # it had fired already
    assert len(b.observers) == (end == "fail")
    assert not c.observers
    subscription.dispose()
    assert all(timer.is_disposed for timer in clock.timers)


def test_stream_that_starts_during_a_win_is_disposed() -> None:
    """One stream wins while the next is in the middle of its subscribe."""
    a: Subject[CompletionEvent] = Subject()
    disposed: list[str] = []

    def subscribe(observer: Any, _: Any = None) -> Any:
        a.on_next(A)
        observer.on_next(B)
        return Disposable(lambda: disposed.append("b"))

    items: list[Any] = []
    clock = ManualScheduler()
    hedge(a, reactivex.create(subscribe), delay=1, scheduler=clock).subscribe(items.append)
    clock.actions[0](clock, None)
    assert items == [A]
    assert disposed == ["b"]


def test_losers_are_disposed_before_the_winner_emits() -> None:
    disposed: list[bool] = []
    loser = Stream(lambda *_: Disposable(lambda: disposed.append(True)))
    winner: Subject[CompletionEvent] = Subject()
    seen: list[bool] = []
    hedge(loser, winner, delay=0).subscribe(lambda _: seen.extend(disposed))
    winner.on_next(A)
    assert seen == [True]


def test_concurrent_candidates_have_one_winner() -> None:
    """Several threads emit useful output at once: one whole answer, on one thread."""
    at_work = threading.Lock()
    for number in range(300):
        sources: list[Subject[CompletionEvent]] = [Subject() for _ in range(4)]
        items: list[tuple[str, int]] = []
        ends: list[Any] = []

        def collect(item: CompletionEvent, items: Any = items) -> None:
            assert at_work.acquire(blocking=False)
            items.append((str(item.data.choices[0].delta.content), threading.get_ident()))
            at_work.release()

        hedge(*sources, delay=0).subscribe(
            collect, ends.append, lambda ends=ends: ends.append(None)
        )
        barrier = threading.Barrier(4)

        def emit(name: str, source: Any, barrier: Any = barrier, number: int = number) -> None:
            barrier.wait(BOUND)
            source.on_next(ROLE)
            for _ in range(5):
                source.on_next(event(content=name))
            if number % 2:
                source.on_error(ERROR)
            else:
                source.on_completed()

        threads = [
            threading.Thread(target=emit, args=each) for each in zip("abcd", sources, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        assert [name for name, _ in items] == ["", *5 * [items[-1][0]]]
        assert len({thread for _, thread in items}) == 1
        assert ends == ([ERROR] if number % 2 else [None])


@pytest.mark.parametrize("refused", [False, True], ids=["a thread", "no thread"])
def test_timer_starts_the_next_stream_on_a_non_daemon_thread(
    refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own thread if no other can be started."""
    started: list[bool] = []

    def note(*_: Any) -> Any:
        started.append(threading.current_thread().daemon)
        return Disposable()

    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    if refused:
        monkeypatch.setattr(sys.modules[fallback.__module__], "Thread", NoThread)
    clock = ManualScheduler()
    hedge(reactivex.never(), Stream(note), delay=1, scheduler=clock).subscribe()
    threading.Thread(target=lambda: clock.actions[0](clock, None), daemon=True).start()
    assert eventually(lambda: started == [refused])


# --- random streams --------------------------------------------------------------

PIECES = st.sampled_from(["role", "", "text", "finish"])
SCRIPTS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(1, 60), PIECES), max_size=6),
        st.integers(1, 60),
        st.sampled_from(["complete", "error", "never"]),
    ),
    min_size=1,
    max_size=4,
)


def scripted(number: int, script: Any) -> list[Any]:
    """Returns the messages of one stream; each event is a separate object."""
    pieces, last, end = script
    messages, now = [], 0
    for gap, piece in pieces:
        now += gap
        content = f"{number}" if piece == "text" else ""
        item = event("stop" if piece == "finish" else None, content=content)
        messages.append(on_next(now, item))
    now += last
    if end == "error":
        messages.append(on_error(now, RuntimeError(str(number))))
    elif end == "complete":
        messages.append(on_completed(now))
    return messages


@given(SCRIPTS, st.sampled_from([None, 0, 1, 20, 50, 500]))
def test_exactly_one_stream_is_emitted(scripts: Any, delay: float | None) -> None:
    messages = [scripted(number, script) for number, script in enumerate(scripts)]
    combine = fallback if delay is None else hedge_after(delay)
    timeline = Timeline(TestScheduler(), combine, *messages, disposed=10_000)
    emitted = [each.value.value for each in timeline.messages if each.value.kind == "N"]
    ends = [each for each in timeline.messages if each.value.kind != "N"]
    assert ends == timeline.messages[len(emitted) :][:1], "one end at most, and nothing after it"
    owners = [
        number
        for number, own in enumerate(messages)
        if [id(item) for item in emitted]
        == [id(each.value.value) for each in own if each.value.kind == "N"][: len(emitted)]
    ]
    assert owners, "the events are the first events of one stream"
    if emitted:
        (winner,) = owners
        now = timeline.messages[0].time
        others = [subs for number, subs in enumerate(timeline.subscriptions) if number != winner]
        assert all(until <= now for subs in others for _, until in subs)
        end = next((each.value for each in messages[winner] if each.value.kind != "N"), None)
        assert [each.value for each in ends] == ([] if end is None else [end])
    elif ends and ends[0].value.kind == "E":
        assert [str(each) for each in timeline.error().errors] == list(
            map(str, range(len(scripts)))
        )
    started = [subs[0][0] for subs in timeline.subscriptions if subs]
    assert started == sorted(started)
    if delay is None:
        spans = [subs[0] for subs in timeline.subscriptions if subs]
        assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_resume_does_not_ask_other_observables() -> None:
    error = DroppedStreamError("cut")
    broken = reactivex.concat(reactivex.of(A), reactivex.throw(error))
    items: list[Any] = []
    fallback(broken, reactivex.of(B), resume=True).subscribe(items.append, items.append)
    assert items == [A, error]
