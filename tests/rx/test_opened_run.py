"""A `with` block: one run for everything that reads the Stream, on every face."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, by_for, by_subscribing, eventually, run
from hypothesis import given
from hypothesis import strategies as st
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from rxmistral import LaggedError, Outcome, StoppedError, Stream, from_async_iterable, on_outcome
from rxmistral.rx import opened_run
from rxmistral.rx.backpressure import emitting

LIMIT = 512
"""The most items that a source is ahead of the fastest reader."""


class Numbers:
    """A source of numbers on a thread of its own; counts subscriptions and emitted items.

    Args:
        count: The number of items.
        pausable: Whether it pauses instead of waiting in `on_next`, as a network source does.
        error: What it ends with; None: completion.
    """

    def __init__(
        self, count: int, *, pausable: bool = False, error: Exception | None = None
    ) -> None:
        self.subscriptions = 0
        self.emitted = 0
        self.disposed = threading.Event()
        self.ended = threading.Event()
        self.stream: Stream[int] = Stream(self._subscribe)
        self._count = count
        self._error = error
        self._pausable = pausable
        self._may_emit = threading.Event()

    def _subscribe(self, observer: Any, scheduler: Any = None) -> Disposable:
        self.subscriptions += 1
        self.disposed = disposed = threading.Event()
        self._may_emit.set()

        def dispose() -> None:
            disposed.set()
            self._may_emit.set()

        context = contextvars.copy_context()
        work = (self._emit, observer, disposed)
        threading.Thread(target=context.run, args=work, daemon=True).start()
        return Disposable(dispose)

    def _emit(self, observer: Any, disposed: threading.Event) -> None:
        emitting.source = self if self._pausable else None
        for number in range(self._count):
            self._may_emit.wait()
            if disposed.is_set():
                break
            self.emitted += 1
            observer.on_next(number)
        emitting.source = None
        if self._error is None:
            observer.on_completed()
        else:
            observer.on_error(self._error)
        self.ended.set()

    def pause(self) -> None:
        if not self.disposed.is_set():
            self._may_emit.clear()

    def resume(self) -> None:
        self._may_emit.set()

    def waits(self) -> bool:
        """Returns whether the source emits nothing more."""
        before = self.emitted
        return not eventually(lambda: self.emitted != before, bound=0.05)


COUNT = 5 * LIMIT
ALL = list(range(COUNT))


@pytest.fixture(params=[False, True], ids=["waiting", "pausable"])
def source(request: pytest.FixtureRequest) -> Numbers:
    return Numbers(COUNT, pausable=request.param)


# --- the readers of one run ---


def test_later_readers_receive_all_items_on_every_face(source: Numbers, read: Face) -> None:
    with source.stream as opened:
        assert list(opened.pipe(ops.map(lambda x: x))) == ALL
        assert read(opened.pipe(ops.filter(lambda _: True)))[-COUNT:] == ALL
    assert source.subscriptions == 1


def test_first_reader_on_every_face_shares_its_run(source: Numbers, read: Face) -> None:
    with source.stream as opened:
        assert read(opened.pipe(ops.filter(lambda _: True)))[-COUNT:] == ALL
        assert opened.run() == ALL[-1]
        assert list(opened) == ALL
        assert list(opened) == ALL
    assert source.subscriptions == 1


def test_two_blocks_are_two_runs(source: Numbers) -> None:
    for number in (1, 2):
        with source.stream as opened:
            assert next(iter(opened)) == 0
        assert source.subscriptions == number


def test_block_on_a_piped_stream_shares_one_run(source: Numbers) -> None:
    with source.stream.pipe(ops.map(str)) as opened:
        assert next(iter(opened)) == "0"
        assert opened.pipe(ops.to_list()).run() == list(map(str, ALL))
        assert list(opened) == list(map(str, ALL[1:]))
    assert source.subscriptions == 1


# More than the queue of a loop accepts after it has paused its source.
LONG = list(range(20 * LIMIT))


@pytest.mark.parametrize("pausable", [False, True])
def test_left_loop_does_not_stop_later_readers(pausable: bool) -> None:
    source = Numbers(len(LONG), pausable=pausable)
    with source.stream as opened:
        first = list(itertools.islice(opened, 3))
        assert list(opened.pipe(ops.map(lambda x: x))) == LONG
        assert [*first, *opened] == LONG
    assert source.subscriptions == 1


@pytest.mark.parametrize("pausable", [False, True])
def test_left_async_loop_does_not_stop_later_readers(pausable: bool) -> None:
    source = Numbers(len(LONG), pausable=pausable)

    async def main() -> None:
        async with source.stream as opened:
            first = await anext(aiter(opened))
            assert await opened.pipe(ops.to_list()) == LONG
            assert [first, *[item async for item in opened]] == LONG
            assert [item async for item in opened] == LONG

    run(main())
    assert source.subscriptions == 1


def test_loops_of_several_threads_receive_all_items(source: Numbers) -> None:
    received: list[list[int]] = []
    with source.stream as opened:
        threads = [
            threading.Thread(target=lambda: received.append(list(opened)), daemon=True)
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
    assert received == [ALL] * 5
    assert source.subscriptions == 1


def test_loops_of_several_tasks_receive_all_items(source: Numbers) -> None:
    async def main() -> None:
        async with source.stream as opened:

            async def read() -> list[int]:
                return [item async for item in opened]

            assert await asyncio.gather(*(read() for _ in range(5))) == [ALL] * 5

    run(main())
    assert source.subscriptions == 1


def test_error_reaches_early_and_late_readers(read: Face) -> None:
    source = Numbers(3, error=KeyError("broke"))
    with source.stream as opened:
        for _ in range(2):
            *items, error = read(opened.pipe(ops.filter(lambda _: True)))
            assert items[-3:] == [0, 1, 2]
            assert isinstance(error, KeyError)
    assert source.subscriptions == 1


@given(data=st.data())
def test_interleaved_loops_receive_all_items_in_order(data: st.DataObject) -> None:
    source = Numbers(COUNT, pausable=data.draw(st.booleans()))
    received: list[list[int]] = [[], [], []]
    with source.stream as opened:
        loops = [iter(opened), *(iter(opened.pipe(ops.map(int))) for _ in range(2))]
        for _ in range(data.draw(st.integers(1, 8))):
            number = data.draw(st.integers(0, 2))
            received[number] += itertools.islice(loops[number], data.draw(st.integers(1, COUNT)))
        for items, loop in zip(received, loops, strict=True):
            items += loop
    assert received == [ALL] * 3
    assert source.subscriptions == 1


# --- leaving ---


def test_disposed_subscription_does_not_end_the_run() -> None:
    source = Numbers(COUNT)
    with source.stream as opened:
        opened.pipe(ops.take(1)).subscribe()
        opened.subscribe().dispose()
        assert list(opened) == ALL
    assert source.subscriptions == 1


def test_failing_callback_ends_only_its_own_reader(source: Numbers) -> None:
    errors: list[Exception] = []

    def fail(item: int) -> None:
        raise ZeroDivisionError

    with source.stream as opened:
        opened.subscribe(fail, errors.append)
        opened.subscribe(fail, errors.append)
        assert list(opened) == ALL
        assert eventually(lambda: len(errors) == 2)
    assert {type(error) for error in errors} == {ZeroDivisionError}


def test_end_of_the_block_ends_readers_silently(source: Numbers) -> None:
    received: list[Any] = []
    began, ended = threading.Event(), threading.Event()
    proceed = threading.Event()

    def loop() -> None:
        for _ in opened.pipe(ops.map(int)):
            began.set()
            proceed.wait()
        ended.set()

    with source.stream as opened:
        next(iter(opened))
        opened.subscribe(lambda _: None, received.append, lambda: received.append("end"))
        threading.Thread(target=loop, daemon=True).start()
        assert began.wait(BOUND)
    proceed.set()
    assert ended.wait(BOUND)
    assert source.disposed.wait(BOUND)
    assert [item for item in received if item != "end"] == []


def test_nothing_is_emitted_after_the_block() -> None:
    subject: Subject[int] = Subject()
    received: list[int] = []
    in_callback, proceed = threading.Event(), threading.Event()

    def slow(item: int) -> None:
        received.append(item)
        in_callback.set()
        proceed.wait()

    with Stream.of(subject) as opened:
        opened.subscribe()
        for number in range(3):
            subject.on_next(number)
        opened.subscribe(slow)
        assert in_callback.wait(BOUND)
    subject.on_next(3)
    proceed.set()
    assert by_subscribing(Stream.of(reactivex.of(4))) == [4]
    assert received == [0]


def test_reader_after_close_receives_items_and_the_stop() -> None:
    source = Numbers(COUNT)
    with source.stream as opened:
        next(iter(opened))
        opened.close()
        assert source.disposed.wait(BOUND)
        assert list(opened) == []  # the loop that was left
        *items, error = by_for(opened)
        assert items == ALL[: len(items)]
        assert isinstance(error, StoppedError)
    assert source.subscriptions == 1


def test_abandoned_block_is_disposed() -> None:
    source = Numbers(10**9)
    stream = source.stream.pipe(ops.map(lambda x: x))
    loop = iter(stream.__enter__())
    assert next(loop) == 0
    del stream, loop  # the thread that has subscribed may still refer to it
    assert eventually(lambda: gc.collect() >= 0 and source.disposed.is_set())


# --- backpressure ---


def test_single_slow_loop_slows_the_source(source: Numbers) -> None:
    with source.stream as opened:
        next(iter(opened))
        assert eventually(source.waits)
        assert source.emitted <= LIMIT + 2


@pytest.mark.parametrize("pausable", [False, True])
def test_source_waits_without_a_reader(pausable: bool) -> None:
    source = Numbers(100_000, pausable=pausable)
    with source.stream as opened:
        assert list(opened.pipe(ops.take(1))) == [0]
        assert eventually(source.waits)
        assert source.emitted < 100_000
        assert opened.run() == 99_999


def test_slow_later_readers_slow_the_source(source: Numbers) -> None:
    with source.stream as opened:
        loops = [iter(opened.pipe(ops.map(int))) for _ in range(3)]
        assert [next(loop) for loop in loops] == [0, 0, 0]
        assert eventually(source.waits)
        assert source.emitted <= 4 * LIMIT  # the batch of a delivery is at most one queue more
        assert list(loops[2]) == ALL[1:]


def test_slow_reader_does_not_slow_a_fast_one(source: Numbers) -> None:
    with source.stream as opened:
        slow = iter(opened.pipe(ops.map(int)))
        assert next(slow) == 0
        assert list(opened) == ALL
        assert list(slow) == ALL[1:]


def test_first_reader_is_called_on_the_source_thread() -> None:
    source, threads = Numbers(3), set()
    with source.stream as opened:
        opened.subscribe(lambda _: threads.add(threading.current_thread().name))
        assert source.ended.wait(BOUND)
    assert not any("delivery" in name for name in threads)


def test_thread_that_reads_never_waits_for_itself() -> None:
    subject: Subject[int] = Subject()
    with Stream.of(subject) as opened:
        loop = iter(opened)
        threading.Thread(target=emit_first, args=(subject,)).start()
        assert next(loop) == 0
        for number in range(1, COUNT):
            subject.on_next(number)
        subject.on_completed()
        assert list(loop) == ALL[1:]


def emit_first(subject: Subject[int]) -> None:
    assert eventually(lambda: bool(subject.observers))
    subject.on_next(0)


def test_endless_source_within_subscribe_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_run, "_MAX_KEPT_ITEMS", 4 * LIMIT)
    endless = Stream.of(reactivex.generate(0, lambda _: True, lambda x: x + 1))
    received: list[int] = []
    with endless as opened:
        opened.pipe(ops.take(2)).subscribe(received.append)
    assert received == [0, 1]


def test_reader_lags_when_its_items_were_dropped(
    source: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened_run, "_MAX_KEPT_ITEMS", LIMIT)
    with source.stream as opened:
        assert list(opened) == ALL
        (error,) = by_for(opened)
        assert isinstance(error, LaggedError)


# --- context, counters ---


def test_callbacks_run_in_the_context_of_each_subscriber(source: Numbers) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    seen: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    ended = [threading.Event() for _ in seen]

    def subscribe(own: str, ended: threading.Event) -> None:
        name.set(own)
        opened.subscribe(lambda _: seen[own].add(name.get()), print, ended.set)

    with source.stream as opened:
        for own, event in zip(seen, ended, strict=True):
            contextvars.copy_context().run(subscribe, own, event)
        assert all(event.wait(BOUND) for event in ended)
    assert seen == {"a": {"a"}, "b": {"b"}, "c": {"c"}}


def test_for_loop_that_blocks_its_own_source_raises() -> None:
    async def count() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        stream = from_async_iterable(count, loop=asyncio.get_running_loop())
        with stream as opened, pytest.raises(RuntimeError, match="would block"):
            next(iter(opened))

    run(main())


def test_callback_that_would_wait_for_its_own_source_raises(source: Numbers) -> None:
    errors: list[Exception] = []
    ended = threading.Event()

    def fail(error: Exception) -> None:
        errors.append(error)
        ended.set()

    with source.stream as opened:
        opened.subscribe(lambda _: opened.pipe(ops.to_list()).run(), fail)
        assert ended.wait(BOUND)
        assert "on another thread" in str(errors[0])
        assert list(opened) == ALL


def test_last_callback_can_read_the_whole_run(source: Numbers) -> None:
    received: list[list[int]] = []
    ended = threading.Event()

    def read_again() -> None:
        received.append(list(opened.pipe(ops.map(int))))
        ended.set()

    with source.stream as opened:
        opened.subscribe(lambda _: None, print, read_again)
        assert ended.wait(BOUND)
    assert received == [ALL]


def test_outcome_of_each_reader_is_reported() -> None:
    outcomes: list[Outcome] = []
    with Stream.of(reactivex.empty()) as opened:
        for _ in range(2):
            assert by_subscribing(opened.pipe(on_outcome(outcomes.append))) == []
    assert [outcome.status for outcome in outcomes] == ["completed"] * 2


def test_enter_of_a_shared_stream_does_not_share_again() -> None:
    source = Numbers(3)
    shared = source.stream.shared()
    with shared as opened:
        assert list(opened) == [0, 1, 2]
        assert list(opened.pipe(ops.map(str))) == ["0", "1", "2"]
    assert source.subscriptions == 1


def test_end_of_the_block_ends_the_source_before_the_loops() -> None:
    ended: list[str] = []
    block: opened_run.OpenedRun[int] = opened_run.OpenedRun()
    loop = Disposable(lambda: ended.append("loop"))
    block.track(loop)
    block.join(Subject[int](), lambda _: Disposable(lambda: ended.append("source")))
    block.dispose()
    assert ended == ["source", "loop"]
