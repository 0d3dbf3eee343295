"""map_async: calls at a time, order, backpressure, cancellation, errors, and the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import random
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, by_for, by_subscribing, eventually, run
from leftovers import our_threads
from reactivex import Subject
from reactivex import operators as ops

from rxmistral import StoppedError, Stream, from_async_iterable, map_async
from rxmistral.rx.backpressure import emitting

ERROR = RuntimeError("it broke")
either_order = pytest.mark.parametrize("ordered", [True, False])


def numbers(count: int) -> Stream[int]:
    return Stream.of(reactivex.from_iterable(range(count)))


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def until(condition: Callable[[], bool]) -> None:
    """Lets the event loop turn until the condition is true."""
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(condition)


class Calls:
    """An async function whose calls end when the test says so."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.cancelled: list[Any] = []
        self.threads: set[int] = set()
        self._ends: dict[Any, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}

    async def __call__(self, item: Any) -> Any:
        loop = asyncio.get_running_loop()
        self._ends[item] = loop, loop.create_future()
        self.threads.add(threading.get_ident())
        self.started.append(item)
        try:
            return await self._ends[item][1]
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise

    def has_started(self, item: Any) -> bool:
        return item in self.started

    def wait_for(self, *items: Any) -> None:
        assert eventually(lambda: self.started == [*items]), self.started

    def end(self, item: Any, error: Exception | None = None) -> None:
        loop, future = self._ends[item]
        if error is None:
            loop.call_soon_threadsafe(future.set_result, f"{item}!")
        else:
            loop.call_soon_threadsafe(future.set_exception, error)


class Read:
    """A subscriber that records what it receives."""

    def __init__(self, stream: Stream[Any]) -> None:
        self.received: list[Any] = []
        self.subscription = stream.subscribe(
            self.received.append, self.received.append, lambda: self.received.append("|")
        )

    def wait_for(self, *items: Any) -> None:
        assert eventually(lambda: self.received == [*items]), self.received


# --- results ---


@pytest.mark.parametrize("concurrency", [1, 3, 100])
@either_order
def test_every_face_receives_all_results(read: Face, concurrency: int, ordered: bool) -> None:
    received = read(numbers(20).map_async(double, concurrency, ordered))
    received = received[-20:]
    assert (received if ordered else sorted(received)) == [*range(0, 40, 2)]


def test_empty_source_completes(read: Face) -> None:
    stream = numbers(0).pipe(map_async(double), ops.default_if_empty("empty"))
    assert read(stream)[-1] == "empty"


def returning_coroutine(number: int) -> Awaitable[int]:
    return double(number)


def returning_future(number: int) -> Awaitable[int]:
    return asyncio.ensure_future(double(number))


def returning_observable(number: int) -> Stream[int]:
    return Stream.of(reactivex.of(2 * number, 2 * number + 1))


async def awaiting_observable(number: int) -> Stream[int]:
    return returning_observable(number)


async def async_generator(number: int) -> AsyncIterator[int]:
    yield 2 * number
    yield 2 * number + 1


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (returning_coroutine, [0, 2, 4]),
        (returning_future, [0, 2, 4]),
        (returning_observable, [*range(6)]),
        (awaiting_observable, [*range(6)]),
        (async_generator, [*range(6)]),
    ],
)
@pytest.mark.parametrize("concurrency", [1, 2])
def test_all_items_of_each_result_are_emitted_in_order(
    function: Any, expected: list[int], concurrency: int
) -> None:
    assert by_subscribing(numbers(3).map_async(function, concurrency)) == expected


def test_function_that_is_not_async_is_an_error(read: Face) -> None:
    function: Any = str
    error = read(numbers(3).map_async(function))[-1]
    assert isinstance(error, TypeError)
    assert "got str; call a function that is not async with map" in str(error)


def test_results_of_earlier_items_are_emitted_first() -> None:
    calls = Calls()
    read = Read(Stream.of(reactivex.of("a", "b", "c")).map_async(calls, 3))
    calls.wait_for("a", "b", "c")
    calls.end("c")
    calls.end("b")
    assert read.received == []
    calls.end("a")
    read.wait_for("a!", "b!", "c!", "|")


def test_unordered_results_are_emitted_as_they_arrive() -> None:
    calls = Calls()
    read = Read(Stream.of(reactivex.of("a", "b", "c")).map_async(calls, 3, ordered=False))
    calls.wait_for("a", "b", "c")
    for item in ("c", "a", "b"):
        calls.end(item)
    read.wait_for("c!", "a!", "b!", "|")


def test_call_starts_when_another_has_ended() -> None:
    calls = Calls()
    read = Read(Stream.of(reactivex.of("a", "b", "c", "d")).map_async(calls, 2))
    calls.wait_for("a", "b")
    calls.end("b")  # its result waits for that of "a", its slot does not
    calls.wait_for("a", "b", "c")
    calls.end("a")
    calls.wait_for("a", "b", "c", "d")
    read.wait_for("a!", "b!")
    calls.end("c")
    calls.end("d")
    read.wait_for("a!", "b!", "c!", "d!", "|")


@either_order
def test_load_keeps_the_limit_and_loses_nothing(ordered: bool) -> None:
    running = most = 0
    chance = random.Random(1)

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        running -= 1
        return number

    received = by_for(numbers(10_000).map_async(work, 20, ordered))
    assert (received if ordered else sorted(received)) == [*range(10_000)]
    assert 10 < most <= 20


def test_waiting_results_are_limited() -> None:
    """One slow call does not let all others run ahead."""
    calls = Calls()
    started: list[int] = []

    async def work(number: int) -> Any:
        started.append(number)
        return await calls(number) if number == 0 else number

    read = Read(numbers(2000).map_async(work, 2))
    assert eventually(lambda: len(started) == 2 + 512)
    calls.end(0)
    assert eventually(lambda: len(read.received) == 2001)


def test_endless_result_waits_for_its_turn() -> None:
    produced = 0
    slow = Calls()

    async def work(name: str) -> AsyncIterator[Any]:
        nonlocal produced
        if name == "slow":
            yield await slow(name)
        else:
            while True:
                produced += 1
                yield produced

    stream = Stream.of(reactivex.of("slow", "endless")).map_async(work, 2)
    iterator = iter(stream.pipe(ops.take(1001)))
    threading.Thread(target=lambda: (slow.wait_for("slow"), slow.end("slow"))).start()
    assert next(iterator) == "slow!"
    assert produced < 2000
    assert [*iterator] == [*range(1, 1001)]


# --- backpressure ---


class PausableSource:
    """A source that emits on the thread of the test, and records whether it is paused."""

    def __init__(self) -> None:
        self.subject: Subject[Any] = Subject()
        self.is_paused = False

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def emit(self, item: Any) -> None:
        emitting.source = self
        try:
            self.subject.on_next(item)
        finally:
            emitting.source = None


def test_source_is_paused_while_all_slots_are_busy() -> None:
    calls, source = Calls(), PausableSource()
    read = Read(Stream.of(source.subject).map_async(calls, 2))
    source.emit("a")
    assert not source.is_paused
    source.emit("b")
    assert source.is_paused
    calls.wait_for("a", "b")
    calls.end("b")
    assert eventually(lambda: not source.is_paused)
    source.emit("c")
    assert source.is_paused
    read.subscription.dispose()
    assert not source.is_paused


def test_async_source_is_pulled_only_as_slots_become_free() -> None:
    pulled: list[int] = []

    async def source() -> AsyncIterator[int]:
        for number in range(5):
            pulled.append(number)
            yield number

    calls = Calls()

    async def main() -> None:
        reading = asyncio.ensure_future(read())
        await until(lambda: calls.started == [0, 1])
        for _ in range(20):
            await asyncio.sleep(0)
        assert pulled == [0, 1]
        for number in range(5):
            await until(partial(calls.has_started, number))
            calls.end(number)
        assert await reading == [f"{number}!" for number in range(5)]

    async def read() -> list[str]:
        return [each async for each in from_async_iterable(source).map_async(calls, 2)]

    run(main())


def test_other_source_is_buffered() -> None:
    calls = Calls()
    subject: Subject[int] = Subject()
    read = Read(Stream.of(subject).map_async(calls))
    for number in range(3):
        subject.on_next(number)  # does not wait
    subject.on_completed()
    for number in range(3):
        calls.wait_for(*range(number + 1))
        calls.end(number)
    read.wait_for("0!", "1!", "2!", "|")


def test_reader_that_does_not_read_stops_the_calls() -> None:
    started: list[int] = []

    async def work(number: int) -> int:
        started.append(number)
        return number

    iterator = iter(numbers(10_000).map_async(work, 4))
    assert next(iterator) == 0
    assert eventually(lambda: len(started) >= 512)
    count = len(started)
    assert count < 1200
    assert [*iterator] == [*range(1, 10_000)]


# --- errors ---


def fail(number: int) -> Any:
    if number == 2:
        raise ERROR
    return double(number)


async def fail_later(number: int) -> int:
    await asyncio.sleep(0)
    if number == 2:
        raise ERROR
    return 2 * number


@pytest.mark.parametrize("function", [fail, fail_later])
def test_error_of_a_call_follows_the_results_before_it(read: Face, function: Any) -> None:
    assert read(numbers(10).map_async(function))[-3:] == [0, 2, ERROR]


def test_error_cancels_the_other_calls() -> None:
    calls = Calls()
    subject: Subject[str] = Subject()
    read = Read(Stream.of(subject).map_async(calls, 4))
    for item in "abcdefg":
        subject.on_next(item)
    calls.wait_for(*"abcd")
    calls.end("a")
    read.wait_for("a!")
    calls.wait_for(*"abcde")
    calls.end("d", ERROR)
    read.wait_for("a!", ERROR)
    assert sorted(calls.cancelled) == ["b", "c", "e"]
    assert calls.started == [*"abcde"]
    assert not subject.observers


def test_complete_results_precede_an_error_at_once() -> None:
    """The calls end within one turn of the event loop."""

    async def main() -> None:
        gate = asyncio.Event()
        waiting = 0

        async def work(number: int) -> int:
            nonlocal waiting
            waiting += 1
            await gate.wait()
            if number == 2:
                raise ERROR
            return number

        received: list[Any] = []
        ended = asyncio.Event()

        def on_error(error: Exception) -> None:
            received.append(error)
            ended.set()

        numbers(4).map_async(work, 4).subscribe(received.append, on_error)
        await until(lambda: waiting == 4)
        gate.set()
        await ended.wait()
        assert received == [0, 1, ERROR]

    run(main())


def test_error_ends_an_endless_result_before_it() -> None:
    async def work(number: int) -> AsyncIterator[int]:
        while number == 0:
            yield number
            await asyncio.sleep(0)
        raise ERROR

    assert by_subscribing(numbers(2).map_async(work, 2))[-1] is ERROR


def test_cleanup_of_a_cancelled_call_is_not_interrupted(read: Face) -> None:
    cleaned: list[int] = []

    async def work(number: int) -> int:
        if number == 3:
            raise ERROR
        try:
            await asyncio.sleep(BOUND)
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.append(number)
        return number

    assert read(numbers(4).map_async(work, 4))[-1] is ERROR
    assert sorted(cleaned) == [0, 1, 2]


def test_error_of_the_source_cancels_the_calls() -> None:
    calls = Calls()
    subject: Subject[str] = Subject()
    read = Read(Stream.of(subject).map_async(calls, 3))
    for item in "abc":
        subject.on_next(item)
    calls.wait_for(*"abc")
    calls.end("b")
    calls.end("a")
    read.wait_for("a!", "b!")
    subject.on_error(ERROR)
    read.wait_for("a!", "b!", ERROR)
    assert calls.cancelled == ["c"]


def test_error_of_a_source_without_calls_passes_at_once() -> None:
    subject: Subject[int] = Subject()
    read = Read(Stream.of(subject).map_async(double))
    subject.on_error(ERROR)
    assert read.received == [ERROR]


def test_exception_of_a_callback_goes_to_on_error() -> None:
    errors: list[Exception] = []

    def on_item(_: int) -> None:
        raise ERROR

    numbers(3).map_async(double).subscribe(on_item, errors.append)
    assert eventually(lambda: errors == [ERROR])


def test_call_that_cancels_itself_is_an_error(read: Face) -> None:
    async def cancel(_: int) -> None:
        raise asyncio.CancelledError

    assert isinstance(read(numbers(3).map_async(cancel))[-1], StoppedError)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("exit_", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_error_of_a_call_that_exits_names_the_exception(exit_: BaseException) -> None:
    async def leave(_: int) -> None:
        raise exit_

    (error,) = by_for(numbers(3).map_async(leave))
    assert str(error) == f"the function of map_async raised {exit_!r}"
    assert error.__cause__ is exit_


def test_end_of_the_program_s_loop_ends_the_stream() -> None:
    calls = Calls()
    received: list[Any] = []

    async def main() -> None:
        numbers(3).map_async(calls, 2).subscribe(received.append, received.append)
        await until(lambda: len(calls.started) == 2)

    asyncio.run(main())
    (error,) = received
    assert isinstance(error, StoppedError)
    assert sorted(calls.cancelled) == [0, 1]


def test_end_of_the_program_s_loop_lets_calls_clean_up() -> None:
    cleaned: list[int] = []
    started: list[int] = []

    async def work(number: int) -> None:
        try:
            started.append(number)
            await asyncio.sleep(BOUND)
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            cleaned.append(number)

    async def main() -> None:
        numbers(10).map_async(work, 10).subscribe(on_error=lambda _: None)
        await until(lambda: len(started) == 10)

    asyncio.run(main())
    assert sorted(cleaned) == started


def test_item_after_an_abrupt_end_of_the_loop_is_an_error() -> None:
    """In a process of its own, since Python complains of the tasks that a closed loop leaves."""
    program = textwrap.dedent(
        """
        import asyncio
        from reactivex import Subject
        from rxmistral import map_async

        subject = Subject()

        async def main():
            started = asyncio.Event()

            async def work(_):
                started.set()
                await asyncio.Event().wait()

            subject.pipe(map_async(work)).subscribe(print, lambda error: print(repr(error)))
            subject.on_next(1)
            await started.wait()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        subject.on_next(2)
        print(subject.observers)
        """
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=True)
    assert ended.stdout.splitlines() == ["StoppedError()", "[]"]


def test_item_for_a_closed_loop_is_an_error() -> None:
    subject: Subject[int] = Subject()
    received: list[Any] = []

    async def main() -> None:
        Stream.of(subject).map_async(double).subscribe(received.append, received.append)

    asyncio.run(main())
    subject.on_next(1)
    (error,) = received
    assert isinstance(error, StoppedError)
    assert not subject.observers


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("f",), TypeError, "function must be callable, got str"),
        ((double, 0), ValueError, "concurrency must be 1 or more, got 0"),
        ((double, True), TypeError, "concurrency must be an int, got bool"),
        ((double, 1.5), TypeError, "concurrency must be an int, got float"),
        ((double, 1, 1), TypeError, "ordered must be a bool, got int"),
    ],
)
def test_wrong_arguments_raise_at_the_call(
    arguments: Any, error: type[Exception], message: str
) -> None:
    for call in (map_async, numbers(1).map_async):
        with pytest.raises(error, match=message):
            call(*arguments)


def test_generator_function_is_rejected_at_the_call() -> None:
    def items(_: int) -> Any:
        yield 1

    with pytest.raises(TypeError, match="function must not be a generator function"):
        map_async(items)


# --- leaving ---


def test_dispose_cancels_the_calls_from_any_thread() -> None:
    calls = Calls()
    subject: Subject[int] = Subject()
    read = Read(Stream.of(subject).map_async(calls, 2))
    for number in range(3):
        subject.on_next(number)
    calls.wait_for(0, 1)
    read.subscription.dispose()
    assert eventually(lambda: sorted(calls.cancelled) == [0, 1])
    subject.on_next(3)
    assert (read.received, calls.started) == ([], [0, 1])
    assert not subject.observers


def leave_by_break(stream: Stream[Any]) -> None:
    for _ in stream:
        break


def leave_by_async_break(stream: Stream[Any]) -> None:
    async def read() -> None:
        async for _ in stream:
            break
        for _ in range(5):  # for the tasks that were cancelled
            await asyncio.sleep(0)

    run(read())


def leave_by_cancel(stream: Stream[Any]) -> None:
    async def read() -> None:
        task = asyncio.ensure_future(stream._last())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        for _ in range(5):
            await asyncio.sleep(0)

    run(read())


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_async_break, leave_by_cancel])
def test_leaving_cancels_the_calls(leave: Callable[[Stream[Any]], None]) -> None:
    calls = Calls()

    async def work(number: int) -> Any:
        return number if number == 0 else await calls(number)

    leave(numbers(5).map_async(work, 2))
    assert eventually(lambda: sorted(calls.cancelled) == calls.started)


def test_dispose_within_a_callback_ends_everything() -> None:
    received: list[int] = []
    stream = numbers(100).map_async(double, 5).pipe(ops.take(3))
    stream.subscribe(received.append)
    assert eventually(lambda: not our_threads())
    assert received == [0, 2, 4]


def test_dispose_at_any_moment_leaves_nothing_behind() -> None:
    chance = random.Random(2)
    for _ in range(150):
        read = Read(numbers(30).map_async(double, 3))
        for _ in range(chance.randrange(2000)):
            pass
        read.subscription.dispose()
        count = len(read.received)
        assert "|" not in read.received[:-1]
        assert len(read.received) <= count + 1  # whose callback was running


# --- the event loop ---


def test_calls_run_on_the_subscriber_s_loop() -> None:
    async def where(_: int) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert {each async for each in numbers(3).map_async(where)} == {loop}

    run(main())


def test_idle_subscription_keeps_its_loop_and_no_thread() -> None:
    async def where(_: int) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    subject: Subject[int] = Subject()
    read = Read(Stream.of(subject).map_async(where))
    for number in range(1, 4):
        subject.on_next(number)
        assert eventually(lambda number=number: len(read.received) == number)  # type: ignore[misc]
        assert eventually(lambda: not our_threads())
    (loop,) = set(read.received)
    assert not loop.is_closed()
    subject.on_completed()
    assert read.received[-1] == "|"
    assert loop.is_closed()


def test_abandoned_subscription_closes_its_loop() -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def work(_: int) -> None:
        loops.append(asyncio.get_running_loop())

    subject: Subject[int] = Subject()
    Stream.of(subject).map_async(work).subscribe()
    subject.on_next(1)
    assert eventually(lambda: bool(loops) and not our_threads())
    del subject

    def is_closed() -> bool:
        gc.collect()
        return loops[0].is_closed()

    assert eventually(is_closed)  # the thread may hold it until its very end


def test_item_at_the_end_of_a_call_is_not_lost() -> None:
    """Each item arrives at about the moment at which the call before it has ended."""
    subject: Subject[int] = Subject()
    received: list[int] = []
    ended = threading.Event()
    stream = Stream.of(subject).map_async(double)
    stream.subscribe(received.append, on_completed=ended.set)
    for number in range(500):
        subject.on_next(number)
        assert eventually(lambda number=number: len(received) > number)  # type: ignore[misc]
    subject.on_completed()
    assert ended.wait(BOUND)
    assert received == [*range(0, 1000, 2)]


NAME = contextvars.ContextVar("NAME", default="nobody")


def test_calls_run_in_the_context_of_the_subscriber() -> None:
    async def name(_: int) -> str:
        seen = NAME.get()
        NAME.set("changed")
        return seen

    subject: Subject[int] = Subject()
    received: list[str] = []
    context = contextvars.copy_context()
    context.run(NAME.set, "subscriber")

    def on_item(item: str) -> None:
        received.append(item)
        NAME.set("callback")

    context.run(Stream.of(subject).map_async(name).subscribe, on_item)
    for number in range(2):
        subject.on_next(number)
    subject.on_completed()
    assert eventually(lambda: received == 2 * ["subscriber"])


def test_map_async_does_not_keep_the_frames_of_its_error() -> None:
    class Local:
        pass

    async def fail(_: int) -> int:
        raise LookupError

    def read() -> weakref.ref[Local]:
        local = Local()
        with suppress(LookupError):
            list(numbers(1).pipe(map_async(fail)))
        return weakref.ref(local)

    gc.collect()
    gc.disable()
    try:
        reference = read()
        assert eventually(
            lambda: reference() is None
        )  # the thread that emitted it may need a moment
    finally:
        gc.enable()
