"""SerializedTimer: every interleaving of two threads, and many runs with real timers."""

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
from functools import partial
from itertools import combinations
from typing import Any
from unittest.mock import patch

import pytest
import reactivex
from faces import BOUND, THOROUGH, eventually
from reactivex import Observable, Subject
from reactivex.disposable import Disposable
from reactivex.observer import Observer
from reactivex.scheduler import TimeoutScheduler, VirtualTimeScheduler
from reactivex.testing import TestScheduler

from rxmistral import Stream
from rxmistral.rx import timer as timer_module
from rxmistral.rx.clock import monotonic
from rxmistral.rx.timer import SerializedTimer, serialized
from rxmistral.text.pacing import Coalescer, IntervalEmitter, coalesced, paced
from rxmistral.text.sentences.cutter import SentenceCutter
from rxmistral.text.sentences.operator import _FlushTimer, sentences
from rxmistral.text.sentences.segmenters import StringSegmenter


class ManualScheduler(VirtualTimeScheduler):
    """Timers that the test fires; each reading of the clock advances it by `step` seconds."""

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


class RecordingTimer(SerializedTimer):
    """A timer that runs and records serialized work."""

    def __init__(self, scheduler: Any = None) -> None:
        super().__init__(Observer(), scheduler or ManualScheduler())
        self.done: list[Any] = []

    @serialized
    def do(self, what: Any) -> None:
        if callable(what):
            what()
        self.done.append(what)

    def on_timeout(self) -> None:
        self.do("timeout")


# --- one thread ---


def test_nested_serialized_call_runs_after_the_method() -> None:
    serializer = RecordingTimer()

    def both() -> None:
        serializer.do("b")
        serializer.do("c")
        assert serializer.done == []

    serializer.do(both)
    assert serializer.done == [both, "b", "c"]


def test_timeout_during_a_serialized_method_runs_after_it() -> None:
    scheduler = ManualScheduler()
    serializer = RecordingTimer(scheduler)
    serializer.arm(1)
    serializer.do(scheduler.fire)
    assert serializer.done == [scheduler.fire, "timeout"]
    assert not serializer.armed


def test_error_does_not_lose_queued_work() -> None:
    serializer = RecordingTimer()

    def fail() -> None:
        raise ZeroDivisionError

    def leave() -> None:
        serializer.do(fail)
        serializer.do("a")
        serializer.do(fail)
        serializer.do("b")
        raise ArithmeticError

    with pytest.raises(ZeroDivisionError):
        serializer.do(leave)
    assert serializer.done == ["a", "b"]
    serializer.do("c")
    assert serializer.done == ["a", "b", "c"]


def test_disposed_timer_cannot_be_armed_and_never_expires() -> None:
    scheduler = ManualScheduler()
    serializer = RecordingTimer(scheduler)
    serializer.arm(1)
    serializer.dispose()
    scheduler.fire()
    serializer.arm(1)
    assert scheduler.actions == []
    assert serializer.done == []


def test_now_is_monotonic_or_the_scheduler_s_own_clock() -> None:
    scheduler = TestScheduler()
    scheduler.advance_by(5)
    assert RecordingTimer(scheduler).now() == 5
    assert RecordingTimer(TimeoutScheduler()).now is monotonic


# --- two threads ---


@contextmanager
def draining(
    serializer: RecordingTimer, in_between: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Within the block, a timer's thread is draining the queue."""
    busy, proceed = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        assert proceed.wait(BOUND)
        in_between()

    def drain() -> None:
        with suppress(ZeroDivisionError):
            serializer.enqueue(lambda: serializer.do(work))

    timer = threading.Thread(target=drain, daemon=True)
    timer.start()
    assert busy.wait(BOUND)
    yield
    proceed.set()
    timer.join(BOUND)


def test_waiting_source_precedes_queued_work() -> None:
    serializer = RecordingTimer()
    source = threading.Thread(target=lambda: serializer.do("source"), daemon=True)
    with draining(serializer, lambda: serializer.do("queued")):
        source.start()
        assert eventually(lambda: serializer._source_wakeup)
        assert serializer.done == []
    source.join(BOUND)
    assert serializer.done[1:] == ["source", "queued"]


def test_waiting_source_is_woken_when_work_raises() -> None:
    serializer = RecordingTimer()

    def fail() -> None:
        raise ZeroDivisionError

    source = threading.Thread(target=lambda: serializer.do("source"), daemon=True)
    with draining(serializer, fail):
        source.start()
        assert eventually(lambda: serializer._source_wakeup)
    source.join(BOUND)
    assert serializer.done == ["source"]


def test_source_on_an_event_loop_queues_its_items_in_order() -> None:
    serializer = RecordingTimer()

    async def emit() -> None:
        for number in range(100):
            serializer.do(number)

    with draining(serializer):
        asyncio.run(emit())
        assert serializer.done == []
    assert serializer.done[1:] == list(range(100))


# --- every interleaving ---


class Steps:
    """Runs threads, one at a time; switches to the next one at the steps of a plan.

    Every read and every write of shared state is a step. A wait always switches.
    """

    def __init__(self, plan: tuple[int, ...]) -> None:
        self.count = 0
        self._plan = plan
        self._alive: list[int] = []  # indices of the threads that have not ended
        self._number = threading.local()
        self._proceed: list[threading.Semaphore] = []

    def run(self, pool: ThreadPoolExecutor, *works: Callable[[], None]) -> None:
        self._alive = list(range(len(works)))
        self._proceed = [threading.Semaphore(0) for _ in works]
        running = [pool.submit(self._run, *pair) for pair in enumerate(works)]
        self._proceed[0].release()
        for each in running:
            each.result(BOUND)

    def _run(self, number: int, work: Callable[[], None]) -> None:
        self._number.mine = number
        assert self._proceed[number].acquire(timeout=BOUND)
        try:
            work()
        finally:
            following = self._next()
            self._alive.remove(number)
            self._proceed[following].release()

    def _next(self) -> int:
        at = self._alive.index(self._number.mine)
        return self._alive[(at + 1) % len(self._alive)]

    def step(self) -> None:
        self.count += 1
        if self.count in self._plan:
            self._run_next()

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(100):
            if condition():
                return
            self._run_next()
        raise TimeoutError("all threads wait")

    def _run_next(self) -> None:
        self._proceed[self._next()].release()
        assert self._proceed[self._number.mine].acquire(timeout=BOUND)


class SteppedLock:
    """A lock in terms of steps."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._is_acquired = False

    def __enter__(self) -> None:
        self._steps.step()
        self._steps.until(lambda: not self._is_acquired)
        self._is_acquired = True

    def __exit__(self, *_: object) -> None:
        self._is_acquired = False
        self._steps.step()


class SteppedQueue:
    """A queue in terms of steps."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._items = 0

    def get(self) -> None:
        self._steps.until(lambda: self._items)
        self._items -= 1

    def put(self, _: None) -> None:
        self._items += 1


def stepped(kind: type[SerializedTimer], *names: str) -> type[Any]:
    """Returns a subclass in which each access to one of these attributes is a step."""
    names = ("_source_emits", "_source_wakeup", "_draining_thread", "_queue", "armed", *names)

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


SteppedFlow, SteppedWatch = stepped(IntervalEmitter, "_buffer", "_emitting"), stepped(_FlushTimer)


def a_flow(observer: Any) -> tuple[SerializedTimer, ManualScheduler]:
    scheduler = ManualScheduler()
    return SteppedFlow(observer, Coalescer(), 1, scheduler), scheduler


def a_watch(observer: Any) -> tuple[SerializedTimer, ManualScheduler]:
    scheduler = ManualScheduler(step=10)
    cutter = SentenceCutter(StringSegmenter(lambda text: [text]), None)
    return SteppedWatch(cutter, observer, 1, scheduler), scheduler


TIMERS: dict[str, Callable[[Any], tuple[Any, ManualScheduler]]] = {
    "coalesced": a_flow,
    "sentences": a_watch,
}
THREADS = ThreadPoolExecutor(3)


class Interleaving:
    """One run: a source emits three pieces, and two threads fire the timers that are set."""

    def __init__(self, kind: str, plan: tuple[int, ...], ends: bool) -> None:
        self.got: list[str] = []
        self._at_work = self._source_ended = False
        self._ends = ends
        self.serializer, self._scheduler = TIMERS[kind](
            Observer(self._record, on_completed=self._end)
        )
        self.steps = Steps(plan)
        self.serializer._lock = SteppedLock(self.steps)
        self.serializer.steps = self.steps
        with patch.object(timer_module, "SimpleQueue", partial(SteppedQueue, self.steps)):
            self.steps.run(THREADS, self._source, self._timer, self._timer)
        self.serializer.steps = None

    def _record(self, text: str) -> None:
        assert not self._at_work
        self._at_work = True
        self.steps.step()
        self._at_work = False
        self.got.append(text)

    def _end(self) -> None:
        self._record("|")

    def _source(self) -> None:
        for piece in ("a\n", "b\n", "c\n"):
            self.serializer.on_next(piece)
        if self._ends:
            self.serializer.on_completed()
        self._source_ended = True

    def _timer(self) -> None:
        for _ in range(2):
            self.steps.until(lambda: self._scheduler.actions or self._source_ended)
            if self._scheduler.actions:
                self._scheduler.fire()

    def fire_all(self) -> None:
        while self._scheduler.actions:
            self._scheduler.fire()


def plans(kind: str) -> Iterator[tuple[int, ...]]:
    """Yields plans: all with two switches, and a sample with more; or a sample of each."""
    steps = range(Interleaving(kind, (), ends=True).steps.count + 20)
    chosen = random.Random(1)
    if THOROUGH:
        yield from combinations(steps, 2)
    for changes in (3, 4, 5) if THOROUGH else (1, 2, 2, 3, 4):
        for _ in range(100):
            yield tuple(chosen.sample(steps, changes))


@pytest.fixture(params=[True, False], ids=["may wait", "on an event loop"])
def may_wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = None if request.param else object()
    monkeypatch.setattr(timer_module, "running_loop", lambda: loop)


@pytest.mark.parametrize("kind", TIMERS)
def test_every_interleaving_emits_all_in_order_and_then_the_end(kind: str, may_wait: None) -> None:
    for plan in plans(kind):
        run = Interleaving(kind, plan, ends=True)
        assert "".join(run.got) == "a\nb\nc\n|", plan
        assert run.got[-1] == "|", plan


@pytest.mark.parametrize("kind", TIMERS)
def test_every_interleaving_leaves_nothing_without_a_timer(kind: str, may_wait: None) -> None:
    for plan in plans(kind):
        run = Interleaving(kind, plan, ends=False)
        assert not run.serializer._queue, plan
        run.fire_all()
        assert "".join(run.got) == "a\nb\nc\n", plan


# --- with real timers ---

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

    def on_text(text: str) -> None:
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

    source.pipe(operator).subscribe(on_text, lambda _: on_text("|"), lambda: on_text("|"))
    thread = threading.Thread(target=emit, daemon=True)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive(), seed
    assert overlaps == [], seed
    assert got.pop() == "|", seed
    received = "".join(got)
    assert received.replace("echo ", "") == "".join(pieces), seed


@pytest.mark.parametrize("echo", [False, True], ids=["", "observer emits into it"])
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
        received, enough = len(entered), rounds[0] + 10
        assert eventually(lambda rounds=rounds, enough=enough: rounds[0] > enough)  # type: ignore[misc]
        disposed.set()
        thread.join(BOUND)
        assert not thread.is_alive()
        assert len(entered) <= received + 1  # a callback that was already about to run


def test_error_of_the_source_is_the_only_terminal() -> None:
    ends: list[Any] = []
    error = RuntimeError()
    reactivex.concat(reactivex.of("a. B"), reactivex.throw(error)).pipe(
        TINY["sentences"]()
    ).subscribe(lambda _: None, ends.append, lambda: ends.append("|"))
    assert ends == [error]
