"""The turns of two threads: every way they can meet, and many runs with real timers."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
import reactivex
from faces import BOUND, THOROUGH, eventually
from reactivex import Observable, Subject
from reactivex.disposable import Disposable
from reactivex.observer import Observer
from reactivex.scheduler import TimeoutScheduler, VirtualTimeScheduler
from reactivex.testing import TestScheduler

from rxmistral import Stream
from rxmistral.rx import timer as alarm
from rxmistral.rx.clock import monotonic
from rxmistral.rx.timer import SerializedTimer, serialized
from rxmistral.text.pacing import Coalescer, Flow, coalesced, paced
from rxmistral.text.sentences.cutter import SentenceCutter
from rxmistral.text.sentences.operator import _Emitter, _Watch, sentences
from rxmistral.text.sentences.segmenters import StringSegmenter


class ByHand(VirtualTimeScheduler):
    """Timers that the test fires; at each look at the clock so many seconds have passed."""

    def __init__(self, step: float = 0) -> None:
        super().__init__()
        self.actions: list[Callable[..., Any]] = []
        self._time, self._step = datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=step)

    @property
    def now(self) -> datetime:
        self._time += self._step
        return self._time

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> Any:
        self.actions.append(action)
        return Disposable()

    def fire(self) -> None:
        self.actions.pop(0)(self, None)


class Doing(SerializedTimer):
    """Does what it is given, and notes when the time has come."""

    def __init__(self, scheduler: Any = None) -> None:
        super().__init__(scheduler or ByHand())
        self.done: list[Any] = []

    @serialized
    def do(self, what: Any) -> None:
        if callable(what):
            what()
        self.done.append(what)

    def on_timeout(self) -> None:
        self.do("due")


# --- one thread ------------------------------------------------------------------


def test_nested_serialized_call_runs_after_the_method() -> None:
    alarm = Doing()

    def both() -> None:
        alarm.do("b")
        alarm.do("c")
        assert alarm.done == []

    alarm.do(both)
    assert alarm.done == [both, "b", "c"]


def test_timeout_during_a_serialized_method_runs_after_it() -> None:
    scheduler = ByHand()
    alarm = Doing(scheduler)
    alarm.arm(1)
    alarm.do(scheduler.fire)
    assert alarm.done == [scheduler.fire, "due"]
    assert not alarm.armed


def test_error_does_not_lose_queued_work() -> None:
    alarm = Doing()

    def fail() -> None:
        raise ZeroDivisionError

    def leave() -> None:
        alarm.do(fail)
        alarm.do("a")
        alarm.do(fail)
        alarm.do("b")
        raise ArithmeticError

    with pytest.raises(ZeroDivisionError):
        alarm.do(leave)
    assert alarm.done == ["a", "b"]
    alarm.do("c")
    assert alarm.done == ["a", "b", "c"]


def test_disposed_timer_cannot_be_armed_and_never_expires() -> None:
    scheduler = ByHand()
    alarm = Doing(scheduler)
    alarm.arm(1)
    alarm.dispose()
    scheduler.fire()
    alarm.arm(1)
    assert scheduler.actions == []
    assert alarm.done == []


def test_now_is_monotonic_or_the_scheduler_s_own_clock() -> None:
    scheduler = TestScheduler()
    scheduler.advance_by(5)
    assert Doing(scheduler).now() == 5
    assert Doing(TimeoutScheduler()).now is monotonic


# --- two threads -----------------------------------------------------------------


@contextmanager
def at_work(alarm: Doing, in_between: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A timer's thread has the turn in here."""
    busy, go_on = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        assert go_on.wait(BOUND)
        in_between()

    def leave() -> None:
        with suppress(ZeroDivisionError):
            alarm.enqueue(lambda: alarm.do(work))

    timer = threading.Thread(target=leave, daemon=True)
    timer.start()
    assert busy.wait(BOUND)
    yield
    go_on.set()
    timer.join(BOUND)


def test_waiting_source_precedes_queued_work() -> None:
    alarm = Doing()
    source = threading.Thread(target=lambda: alarm.do("source"), daemon=True)
    with at_work(alarm, lambda: alarm.do("left by it")):
        source.start()
        assert eventually(lambda: alarm._source_waits)
        assert alarm.done == []
    source.join(BOUND)
    assert alarm.done[1:] == ["source", "left by it"]


def test_waiting_source_is_woken_when_work_raises() -> None:
    alarm = Doing()

    def fail() -> None:
        raise ZeroDivisionError

    source = threading.Thread(target=lambda: alarm.do("source"), daemon=True)
    with at_work(alarm, fail):
        source.start()
        assert eventually(lambda: alarm._source_waits)
    source.join(BOUND)
    assert alarm.done == ["source"]


def test_source_on_an_event_loop_queues_its_items_in_order() -> None:
    alarm = Doing()

    async def emit() -> None:
        for number in range(100):
            alarm.do(number)

    with at_work(alarm):
        asyncio.run(emit())
        assert alarm.done == []
    assert alarm.done[1:] == list(range(100))


# --- every way they can meet -----------------------------------------------------


class Steps:
    """Runs threads, one at a time; at the steps of a plan the next one goes on.

    A step is each look at what they share and each change to it. So is a wait, at which
    the next one must go on.
    """

    def __init__(self, plan: tuple[int, ...]) -> None:
        self.count = 0
        self._plan = plan
        self._alive: list[int] = []  # the numbers of the threads
        self._number = threading.local()
        self._go_on: list[threading.Semaphore] = []

    def run(self, pool: ThreadPoolExecutor, *works: Callable[[], None]) -> None:
        self._alive = list(range(len(works)))
        self._go_on = [threading.Semaphore(0) for _ in works]
        running = [pool.submit(self._run, *pair) for pair in enumerate(works)]
        self._go_on[0].release()
        for each in running:
            each.result(BOUND)

    def _run(self, number: int, work: Callable[[], None]) -> None:
        self._number.mine = number
        assert self._go_on[number].acquire(timeout=BOUND)
        try:
            work()
        finally:
            following = self._next()
            self._alive.remove(number)
            self._go_on[following].release()

    def _next(self) -> int:
        at = self._alive.index(self._number.mine)
        return self._alive[(at + 1) % len(self._alive)]

    def step(self) -> None:
        self.count += 1
        if self.count in self._plan:
            self._let_go_on()

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(100):
            if condition():
                return
            self._let_go_on()
        raise TimeoutError("all of them wait")

    def _let_go_on(self) -> None:
        self._go_on[self._next()].release()
        assert self._go_on[self._number.mine].acquire(timeout=BOUND)


class Meeting:
    """A Condition whose waits are steps."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._taken = False

    def __enter__(self) -> None:
        self._steps.step()
        self._steps.until(lambda: not self._taken)
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False
        self._steps.step()

    def wait_for(self, condition: Callable[[], object]) -> None:
        self._taken = False
        self._steps.until(lambda: condition() and not self._taken)
        self._taken = True

    def notify_all(self) -> None:
        pass


def stepped(kind: type[SerializedTimer], *names: str) -> type[Any]:
    """The same, which steps where it looks at these attributes or sets them."""
    names = ("_source_emits", "_draining_thread", "_queue", "armed", *names)

    class Stepped(kind):  # type: ignore[misc, valid-type]
        steps: Steps | None = None

        def __getattribute__(self, name: str) -> Any:
            if name in names and self.steps:
                self.steps.step()
            return super().__getattribute__(name)

        def __setattr__(self, name: str, value: Any) -> None:
            if name in names and self.steps:
                self.steps.step()
            super().__setattr__(name, value)

        def arm(self, seconds: float) -> None:
            assert not self.armed
            super().arm(seconds)

    return Stepped


SteppedFlow, SteppedWatch = stepped(Flow, "_held", "_emitting"), stepped(_Watch)


def a_flow(observer: Any) -> tuple[SerializedTimer, ByHand]:
    scheduler = ByHand()
    return SteppedFlow(observer, Coalescer(), 1, scheduler), scheduler


def a_watch(observer: Any) -> tuple[SerializedTimer, ByHand]:
    scheduler = ByHand(step=10)
    cutter = SentenceCutter(StringSegmenter(lambda text: [text]), None)
    return SteppedWatch(_Emitter(cutter, observer), 1, scheduler), scheduler


MADE: dict[str, Callable[[Any], tuple[Any, ByHand]]] = {"coalesced": a_flow, "sentences": a_watch}
THREADS = ThreadPoolExecutor(3)


class Meet:
    """One run: a source emits a few pieces, two threads fire what timers are set."""

    def __init__(self, made: str, plan: tuple[int, ...], ends: bool) -> None:
        self.got: list[str] = []
        self._at_work = self._source_ended = False
        self._ends = ends
        self.alarm, self._scheduler = MADE[made](Observer(self._take, on_completed=self._end))
        self.steps = Steps(plan)
        self.alarm._changed = Meeting(self.steps)
        self.alarm.steps = self.steps
        self.steps.run(THREADS, self._source, self._timer, self._timer)
        self.alarm.steps = None

    def _take(self, text: str) -> None:
        assert not self._at_work
        self._at_work = True
        self.steps.step()
        self._at_work = False
        self.got.append(text)

    def _end(self) -> None:
        self._take("|")

    def _source(self) -> None:
        for piece in ("a\n", "b\n", "c\n"):
            self.alarm.on_next(piece)
        if self._ends:
            self.alarm.on_completed()
        self._source_ended = True

    def _timer(self) -> None:
        for _ in range(2):
            self.steps.until(lambda: self._scheduler.actions or self._source_ended)
            if self._scheduler.actions:
                self._scheduler.fire()

    def fire_the_rest(self) -> None:
        while self._scheduler.actions:
            self._scheduler.fire()


def plans(made: str) -> Iterator[tuple[int, ...]]:
    """All with at most two changes of threads, and some with more; or some of each."""
    steps = range(Meet(made, (), ends=True).steps.count + 20)
    chosen = random.Random(1)
    if THOROUGH:
        yield from combinations(steps, 2)
    for changes in (3, 4, 5) if THOROUGH else (1, 2, 2, 3, 4):
        for _ in range(100):
            yield tuple(chosen.sample(steps, changes))


@pytest.fixture(params=[True, False], ids=["may wait", "on an event loop"])
def may_wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm, "on_an_event_loop", lambda: not request.param)


@pytest.mark.parametrize("made", MADE)
def test_every_interleaving_emits_all_in_order_and_then_the_end(made: str, may_wait: None) -> None:
    for plan in plans(made):
        run = Meet(made, plan, ends=True)
        assert "".join(run.got) == "a\nb\nc\n|", plan
        assert run.got[-1] == "|", plan


@pytest.mark.parametrize("made", MADE)
def test_every_interleaving_leaves_nothing_without_a_timer(made: str, may_wait: None) -> None:
    for plan in plans(made):
        run = Meet(made, plan, ends=False)
        assert not run.alarm._queue, plan
        run.fire_the_rest()
        assert "".join(run.got) == "a\nb\nc\n", plan


# --- with real timers ------------------------------------------------------------

TINY: dict[str, Callable[[], Callable[[Observable[str]], Stream[str]]]] = {
    "sentences": lambda: sentences(
        max_wait=1e-5, segmenter=StringSegmenter(lambda text: [text[: len(text) // 2]])
    ),
    "paced": lambda: paced(1e-5, 1e-4),
    "coalesced": lambda: coalesced(1e-5),
}


@pytest.fixture
def threads_that_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def one_run(
    operator: Callable[[Observable[str]], Stream[str]], seed: int, echo: bool = False
) -> None:
    chosen = random.Random(seed)
    source: Subject[str] = Subject()
    pieces = [chosen.choice(("a. ", "b", "\n", "c d. E")) for _ in range(chosen.randint(1, 60))]
    pauses = [chosen.choice((0, 0, 0, 1e-6, 1e-5, 1e-4)) for _ in pieces]
    got: list[str] = []
    overlaps: list[str] = []
    lock = threading.Lock()

    def take(text: str) -> None:
        if not lock.acquire(blocking=False):
            overlaps.append(text)
            return
        if echo and "\n" in text:
            source.on_next("echo ")
        got.append(text)
        lock.release()

    def emit() -> None:
        for piece, pause in zip(pieces, pauses, strict=True):
            if pause:
                time.sleep(pause)
            source.on_next(piece)
        if seed % 2:
            source.on_completed()
        else:
            source.on_error(RuntimeError())

    source.pipe(operator).subscribe(take, lambda _: take("|"), lambda: take("|"))
    thread = threading.Thread(target=emit, daemon=True)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive(), seed
    assert overlaps == [], seed
    assert got.pop() == "|", seed
    came = "".join(got)
    assert came.replace("echo ", "") == "".join(pieces), seed


@pytest.mark.parametrize("echo", [False, True], ids=["", "emitted into by its observer"])
@pytest.mark.parametrize("name", TINY)
def test_fast_timers_lose_nothing_and_never_overlap(
    name: str, echo: bool, threads_that_change_often: None
) -> None:
    for seed in range(50):
        one_run(TINY[name](), seed, echo)


@pytest.mark.parametrize("name", TINY)
def test_dispose_at_any_moment_ends_items_and_waits(
    name: str, threads_that_change_often: None
) -> None:
    chosen = random.Random(1)
    for _ in range(50):
        source: Subject[str] = Subject()
        disposed, rounds = threading.Event(), [0]
        entered: list[str] = []
        subscription = source.pipe(TINY[name]()).subscribe(entered.append)

        def emit(
            source: Subject[str] = source,
            disposed: threading.Event = disposed,
            rounds: list[int] = rounds,
        ) -> None:
            while not disposed.is_set():
                source.on_next("a. B")
                rounds[0] += 1

        thread = threading.Thread(target=emit, daemon=True)
        thread.start()
        time.sleep(chosen.random() * 2e-3)
        subscription.dispose()
        came, enough = len(entered), rounds[0] + 10
        assert eventually(lambda rounds=rounds, enough=enough: rounds[0] > enough)  # type: ignore[misc]
        disposed.set()
        thread.join(BOUND)
        assert not thread.is_alive()
        assert len(entered) <= came + 1  # a callback that was about to run


def test_error_of_the_source_is_the_only_terminal() -> None:
    ends: list[Any] = []
    error = RuntimeError()
    reactivex.concat(reactivex.of("a. B"), reactivex.throw(error)).pipe(
        TINY["sentences"]()
    ).subscribe(lambda _: None, ends.append, lambda: ends.append("|"))
    assert ends == [error]
