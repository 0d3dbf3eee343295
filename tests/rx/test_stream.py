"""Stream: cold, closed under pipes, equal on all faces, bounded, and stopped by leaving a loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import random
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, by_async_for, by_async_with, eventually, run
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex import Observable
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.internal import SequenceContainsNoElementsError
from reactivex.scheduler import CurrentThreadScheduler, TimeoutScheduler
from reactivex.scheduler.eventloop import AsyncIOScheduler
from reactivex.subject import Subject

from rxmistral.rx.stream import ConnectableStream, Stream
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import Request

LIMIT = 512
"""The most items that the queue of a loop contains."""


class Source:
    """A source with its own thread, which counts subscriptions, items and disposals."""

    def __init__(self, items: Any = (), error: Exception | None = None) -> None:
        self.items = items
        self.error = error
        self.subscriptions = 0
        self.emitted = 0
        self.disposed = threading.Event()
        self.ended = threading.Event()

    def stream(self) -> Stream[Any]:
        def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
            self.subscriptions += 1
            disposed = threading.Event()

            def emit() -> None:
                for item in self.items:
                    if disposed.is_set():
                        break
                    observer.on_next(item)
                    self.emitted += 1
                else:
                    if self.error is None:
                        observer.on_completed()
                    else:
                        observer.on_error(self.error)
                self.ended.set()

            def dispose() -> None:
                disposed.set()
                self.disposed.set()

            threading.Thread(target=emit, name="rxmistral-test-source", daemon=True).start()
            return Disposable(dispose)

        return Stream(subscribe)


def silent() -> tuple[Stream[Any], threading.Event]:
    """Returns a Stream that never emits, and an event that its disposal sets."""
    disposed = threading.Event()
    observers = []

    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        observers.append(observer)
        return Disposable(disposed.set)

    return Stream(subscribe), disposed


def first_then_silent() -> tuple[Stream[Any], threading.Event]:
    disposed = threading.Event()

    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        threading.Thread(target=observer.on_next, args=("first",), daemon=True).start()
        return Disposable(disposed.set)

    return Stream(subscribe), disposed


# --- cold ---


def test_every_face_emits_all_items_in_order(read: Face) -> None:
    assert read(Source(range(2000)).stream())[-2000:] == list(range(2000))


def test_every_face_raises_the_error_after_the_items(read: Face) -> None:
    error = KeyError("broke")
    assert read(Source(range(1500), error).stream())[-1501:] == [*range(1500), error]


def test_each_reader_has_its_own_subscription(read: Face) -> None:
    source = Source("ab")
    stream = source.stream()
    assert source.subscriptions == 0
    read(stream)
    read(stream)
    assert source.subscriptions == 2


def test_each_subscription_sends_one_request(read: Face) -> None:
    with ScriptedServer(lambda request: [steps.raw(b"data: 1\n\n")]) as server:
        stream = blocks(Request("POST", server.url))
        assert server.requests == []
        assert read(stream)[-1] == b"data: 1\n\n"
        read(stream.pipe(ops.map(len)))
        assert len(server.requests) == 2
        assert server.wait_idle()


def test_subscribe_returns_before_the_first_byte() -> None:
    with ScriptedServer([steps.hang()]) as server:
        subscription = blocks(Request("POST", server.url)).subscribe()
        server.wait_for_requests(1)
        subscription.dispose()


def script(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_script_ending_in_subscribe_prints_the_whole_answer() -> None:
    program = """
        import sys
        from rxmistral import Mistral, text
        client = Mistral(server_url=sys.argv[1])
        hello = [{"role": "user", "content": "Hi"}]
        client.chat.stream(model="m", messages=hello).pipe(text()).subscribe(print)
    """
    with ScriptedServer(["a", steps.wait(0.2), "b", steps.finish(), steps.done()]) as server:
        out, err = script(program, server.url).communicate(timeout=60)
    assert (out.split(), err) == ([b"a", b"b"], b"")


def test_script_subscribing_after_the_headers_prints_all() -> None:
    program = """
        import sys
        from rxmistral import Mistral, text
        hello = [{"role": "user", "content": "Hi"}]
        stream = Mistral(server_url=sys.argv[1]).chat.stream(model="m", messages=hello)
        assert stream.response.status_code == 200
        stream.pipe(text()).subscribe(print)
    """
    answer = ["a", steps.wait(0.2), "b", steps.finish(), steps.done()]
    with ScriptedServer(answer) as server:
        out, err = script(program, server.url).communicate(timeout=60)
    assert (out.split(), err) == ([b"a", b"b"], b"")


def test_script_with_an_unfinished_loop_exits() -> None:
    program = """
        import itertools, sys, reactivex
        from rxmistral import Mistral
        from rxmistral.rx.stream import Stream
        hello = [{"role": "user", "content": "Hi"}]
        kept = iter(Mistral(server_url=sys.argv[1]).chat.stream(model="m", messages=hello))
        next(kept)
        full = iter(Stream.of(reactivex.from_iterable(itertools.count())))  # its source waits
        next(full)
        print("end")
    """
    with ScriptedServer(["a", steps.hang()]) as server:
        out, err = script(program, server.url).communicate(timeout=60)
    assert (out, err) == (b"end\n", b"")


# --- pipes return Streams ---


def numbers() -> Stream[int]:
    return Stream.of(reactivex.of(1, 2, 3))


def pipe_results() -> dict[str, Callable[[], Any]]:
    return {
        "of": numbers,
        "pipe of one": lambda: numbers().pipe(ops.map(lambda x: x)),
        "pipe of many": lambda: numbers().pipe(ops.map(lambda x: x), ops.filter(bool)),
        "pipe of none": lambda: numbers().pipe(),
        "slice": lambda: numbers()[0:],
        "plus": lambda: Stream.of(reactivex.of(1)) + reactivex.of(2, 3),
        "plus a Stream": lambda: Stream.of(reactivex.of(1)) + Stream.of(reactivex.of(2, 3)),
        "ref_count": lambda: numbers().pipe(ops.publish(), ops.ref_count()),
        "auto_connect": lambda: numbers().pipe(ops.publish()).auto_connect(1),
        "share": lambda: numbers().pipe(ops.share()),
        "replay": lambda: numbers().pipe(ops.replay(buffer_size=3), ops.ref_count()),
        "partition": lambda: numbers().pipe(ops.partition(lambda x: True))[0],
        "publish with a mapper": lambda: numbers().pipe(ops.publish(lambda shared: shared)),
    }


@pytest.mark.parametrize("make", pipe_results().values(), ids=pipe_results().keys())
def test_pipe_returns_a_stream(make: Callable[[], Any], read: Face) -> None:
    stream = make()
    assert isinstance(stream, Stream)
    assert read(stream)[-3:] == [1, 2, 3]


def test_in_place_addition_returns_a_stream(read: Face) -> None:
    stream = Stream.of(reactivex.of(1, 2))
    stream += reactivex.of(3)
    assert isinstance(stream, Stream)
    assert read(stream)[-3:] == [1, 2, 3]


def test_publish_returns_a_stream_that_connects() -> None:
    published = numbers().pipe(ops.publish())
    assert isinstance(published, ConnectableStream)
    received: list[int] = []
    published.pipe(ops.map(lambda x: x * 10)).subscribe(received.append)
    assert received == []
    published.connect()
    assert received == [10, 20, 30]


def test_partition_returns_streams() -> None:
    for which, expected in enumerate([[1, 3], [2]]):
        parts = numbers().pipe(ops.partition(lambda x: x % 2 == 1))
        assert list(parts[which]) == expected


def test_pipe_returns_other_results_unchanged() -> None:
    assert numbers().pipe(lambda source: 7) == 7
    assert numbers().pipe(ops.map(str), lambda source: "text") == "text"


FLUENT_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "as_observable": (),
    "buffer": (reactivex.never(),),
    "buffer_with_count": (2,),
    "buffer_with_time": (1.0,),
    "buffer_with_time_or_count": (1.0, 2),
    "buffer_toggle": (reactivex.never(), lambda _: reactivex.never()),
    "buffer_when": (reactivex.never,),
    "debounce": (1.0,),
    "delay": (0.0,),
    "delay_subscription": (0.0,),
    "delay_with_mapper": (lambda _: reactivex.empty(),),
    "multicast": (Subject(),),
    "sample": (1.0,),
    "throttle_first": (1.0,),
    "throttle_with_timeout": (1.0,),
    "timeout": (1.0,),
    "while_do": (lambda _: False,),
}


def fluent_methods() -> list[str]:
    """Returns the names of the public methods of an Observable that are operators."""
    others = {"pipe", "run", "subscribe", "to_future", "of"}
    return [
        name
        for name, method in inspect.getmembers(Observable, inspect.isfunction)
        if not name.startswith("_") and name not in others
    ]


def guesses(name: str) -> Iterator[tuple[Any, ...]]:
    if name in FLUENT_ARGUMENTS:
        yield FLUENT_ARGUMENTS[name]
    function = lambda *_: True  # noqa: E731  # accepted by any operator
    some: list[Any] = [reactivex.of(1), 1, function]
    for count in range(4):
        yield from itertools.product(some, repeat=count)


@pytest.mark.parametrize("name", fluent_methods())
def test_fluent_method_returns_a_stream_for_each_observable(name: str) -> None:
    results_found = []
    for arguments in guesses(name):
        try:
            result = getattr(numbers(), name)(*arguments)
        except Exception:  # the method does not accept these arguments
            continue
        results_found.append(result)
        results = result if isinstance(result, (list, tuple)) else [result]
        plain = [each for each in results if isinstance(each, Observable)]
        assert all(isinstance(each, Stream) for each in plain)
    assert results_found, "no arguments were found for the method"


def test_observable_has_fluent_methods() -> None:
    assert len(fluent_methods()) in range(100, 1000) or fluent_methods() == []


def test_of_returns_a_stream_unchanged() -> None:
    stream = numbers()
    assert Stream.of(stream) is stream


@pytest.mark.parametrize("other", [[1, 2], "text", None, 7])
def test_of_rejects_other_types(other: Any) -> None:
    with pytest.raises(TypeError, match=f"expected an Observable, got {type(other).__name__}"):
        Stream.of(other)


# --- run and await ---


def test_run_returns_the_last_item() -> None:
    assert numbers().run() == 3


def test_await_returns_the_last_item() -> None:
    async def main() -> int:
        return await numbers()

    assert run(main()) == 3


def test_run_and_await_return_none_if_it_is_the_last_item() -> None:
    async def main() -> None:
        return await Stream.of(reactivex.of(1, None))

    assert Stream.of(reactivex.of(1, None)).run() is None
    assert run(main()) is None


def test_run_and_await_raise_when_there_are_no_items() -> None:
    async def main() -> None:
        await Stream.of(reactivex.empty())

    with pytest.raises(SequenceContainsNoElementsError):
        Stream.of(reactivex.empty()).run()
    with pytest.raises(SequenceContainsNoElementsError):
        run(main())


def test_run_passes_its_scheduler_to_operators() -> None:
    stream = numbers().pipe(ops.delay(0.001))
    assert stream.run(TimeoutScheduler.singleton()) == 3


def test_run_does_not_run_the_source_on_its_scheduler() -> None:
    with ScriptedServer([steps.raw(b"data: 1\n\n")]) as server:
        stream = blocks(Request("POST", server.url))
        assert stream.run(CurrentThreadScheduler.singleton()) == b"data: 1\n\n"
        assert server.wait_idle()


def test_every_face_raises_the_error_of_subscribe(read: Face) -> None:
    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        raise LookupError("cannot subscribe")

    (error,) = [item for item in read(Stream(subscribe)) if item is not None]
    assert isinstance(error, LookupError)


# --- endless sources ---


def endless_sources() -> dict[str, Callable[[], Observable[Any]]]:
    return {
        "from_iterable": lambda: reactivex.from_iterable(itertools.count()),
        "repeat_value": lambda: reactivex.repeat_value(1),
        "generate": lambda: reactivex.generate(0, lambda _: True, lambda x: x + 1),
        "concat": lambda: reactivex.concat(reactivex.of(1), reactivex.repeat_value(2)),
    }


@pytest.mark.parametrize("make", endless_sources().values(), ids=endless_sources().keys())
def test_for_loop_can_leave_an_endless_source(make: Callable[[], Observable[Any]]) -> None:
    for number, _ in enumerate(Stream.of(make())):
        if number == 3 * LIMIT:
            break
    # an autouse fixture checks that the thread ends


def test_items_of_an_unstoppable_source_are_dropped_after_close() -> None:
    stop = threading.Event()
    emitted = itertools.count()

    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        while not stop.is_set():
            observer.on_next(bytearray(1000))
            next(emitted)
        return Disposable()

    iterator = iter(Stream(subscribe))
    next(iterator)
    queue = iterator.gi_frame.f_locals["queue"]  # type: ignore[attr-defined]
    iterator.close()  # type: ignore[attr-defined]
    assert eventually(lambda: next(emitted) > 10 * LIMIT)
    assert len(queue.items) == 0
    stop.set()


# --- bounded ---


def open_for(stream: Stream[Any]) -> tuple[Any, Callable[[], None]]:
    iterator = iter(stream)
    return next(iterator), iterator.close  # type: ignore[attr-defined]


def stable_count(count: Callable[[], int]) -> int:
    """Returns a count once it has not grown for 0.2 seconds."""
    pause = threading.Event()
    seen, same = count(), 0
    deadline = time.monotonic() + BOUND
    while same < 20 and time.monotonic() < deadline:
        pause.wait(0.01)
        now = count()
        same = same + 1 if now == seen else 0
        seen = now
    return seen


def test_for_loop_that_does_not_read_makes_its_source_wait() -> None:
    source = Source(itertools.count())
    _, close = open_for(source.stream())
    assert 0 < stable_count(lambda: source.emitted) <= LIMIT + 1
    close()
    assert source.ended.wait(BOUND)


def test_async_for_that_does_not_read_makes_its_source_wait() -> None:
    source = Source(itertools.count())

    async def main() -> None:
        iterator = aiter(source.stream())
        await anext(iterator)
        assert 0 < await asyncio.to_thread(stable_count, lambda: source.emitted) <= LIMIT + 1

    run(main())
    assert source.ended.wait(BOUND)


def test_blocked_subscriber_makes_its_source_wait() -> None:
    source = Source(itertools.count())
    proceed = threading.Event()
    subscription = source.stream().subscribe(lambda item: proceed.wait() if item == 10 else None)
    assert stable_count(lambda: source.emitted) == 10
    subscription.dispose()
    proceed.set()
    assert source.ended.wait(BOUND)


def wait_until_blocked(server: ScriptedServer) -> Any:
    """Returns the request once the server cannot send more of its answer."""
    request = server.wait_for_requests(1)[0]
    stable_count(lambda: request.frames)
    return request


PIECE = b"data: " + bytes(60_000).replace(b"\0", b"x") + b"\n\n"
PIECES = 2000
"""Far more than a queue and the buffers of two sockets contain."""


@pytest.mark.parametrize("face", ["for", "async for", "subscribe"])
def test_slow_reader_slows_the_server(face: str) -> None:
    with ScriptedServer([steps.raw(*[PIECE] * PIECES)]) as server:
        stream = blocks(Request("POST", server.url))
        if face == "for":
            _, close = open_for(stream)
            assert wait_until_blocked(server).frames < PIECES
            close()
        elif face == "async for":

            async def main() -> None:
                async with stream as opened:
                    await anext(aiter(opened))
                    assert (await asyncio.to_thread(wait_until_blocked, server)).frames < PIECES

            run(main())
        else:
            proceed = threading.Event()
            subscription = stream.subscribe(lambda block: proceed.wait())
            assert wait_until_blocked(server).frames < PIECES
            subscription.dispose()
            proceed.set()
        assert server.requests[0].wait_closed()


def concurrent_source(count: int) -> tuple[Stream[int], list[threading.Thread]]:
    """Returns a source that violates the Rx grammar: several threads emit at once."""
    threads: list[threading.Thread] = []

    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        for _ in range(count):
            thread = threading.Thread(
                target=lambda: [observer.on_next(n) for n in range(LIMIT)], daemon=True
            )
            threads.append(thread)
            thread.start()
        return Disposable()

    return Stream(subscribe), threads


def all_end(threads: list[threading.Thread]) -> bool:
    return eventually(lambda: not any(thread.is_alive() for thread in threads))


def test_reader_releases_all_threads_that_wait_to_emit() -> None:
    stream, threads = concurrent_source(4)
    assert len(list(itertools.islice(stream, 4 * LIMIT - 3))) == 4 * LIMIT - 3
    assert all_end(threads)


def test_dispose_releases_all_threads_that_wait_to_emit() -> None:
    stream, threads = concurrent_source(4)
    _, close = open_for(stream)
    assert stable_count(lambda: sum(thread.is_alive() for thread in threads)) > 1
    close()
    assert all_end(threads)


# --- nothing lost, nothing reordered ---

SIZES = st.one_of(
    st.integers(0, 5),
    st.integers(LIMIT // 2 - 2, LIMIT // 2 + 2),
    st.integers(LIMIT - 2, LIMIT + 2),
    st.integers(2 * LIMIT - 2, 2 * LIMIT + 2),
    st.integers(0, 5000),
)
PACES = st.sampled_from(["fast", "slow producer", "slow consumer", "both random"])


class Pace:
    """Pauses at random, so that the other thread runs."""

    def __init__(self, slow: bool, seed: int) -> None:
        self._random = random.Random(seed)
        self._slow = slow
        self._pause = threading.Event()

    def step(self) -> None:
        if self._slow and self._random.random() < 0.01:
            self._pause.wait(0.0002)


@settings(deadline=None)
@given(size=SIZES, pace=PACES, seed=st.integers(0, 1000), failing=st.booleans())
def test_queue_loses_and_reorders_nothing(size: int, pace: str, seed: int, failing: bool) -> None:
    producer = Pace(pace in ("slow producer", "both random"), seed)
    consumer = Pace(pace in ("slow consumer", "both random"), seed + 1)

    def items() -> Iterator[int]:
        for number in range(size):
            producer.step()
            yield number

    error = OSError("at the end") if failing else None

    def with_for() -> list[Any]:
        received: list[Any] = []
        try:
            for item in Source(items(), error).stream():
                received.append(item)
                consumer.step()
        except OSError as raised:
            received.append(raised)
        return received

    async def with_async_for() -> list[Any]:
        received: list[Any] = []
        try:
            async for item in Source(items(), error).stream():
                received.append(item)
                consumer.step()
        except OSError as raised:
            received.append(raised)
        return received

    expected = [*range(size), *([error] if error else [])]
    assert with_for() == expected
    assert run(with_async_for()) == expected


def test_loops_on_many_threads_and_tasks_each_receive_all() -> None:
    stream = Source(range(3000)).stream()
    sums: list[int] = []
    threads = [
        threading.Thread(target=lambda: sums.append(sum(1 for _ in stream))) for _ in range(6)
    ]

    async def count() -> int:
        return len([item async for item in stream])

    async def main() -> list[int]:
        return await asyncio.gather(*[count() for _ in range(6)])

    for thread in threads:
        thread.start()
    assert run(main()) == [3000] * 6
    for thread in threads:
        thread.join(BOUND)
    assert sums == [3000] * 6


def test_async_for_over_a_fast_source_lets_other_tasks_run() -> None:
    iterations = 0

    async def other() -> None:
        nonlocal iterations
        while True:
            iterations += 1
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(other())
        async for _ in Stream.of(reactivex.range(0, 20 * LIMIT)):
            pass
        task.cancel()
        await asyncio.wait([task])

    run(main())
    assert iterations >= 10


# --- event loops ---


def test_stream_is_read_on_one_event_loop_and_then_another() -> None:
    stream = Source("abc").stream()

    async def main() -> list[Any]:
        return [item async for item in stream]

    assert run(main()) == run(main()) == ["a", "b", "c"]


def test_source_is_disposed_when_its_event_loop_is_closed() -> None:
    subject: Subject[int] = Subject()
    stream = Stream.of(subject)
    loop = asyncio.new_event_loop()
    iterator = aiter(stream)

    async def one() -> Any:
        return await anext(iterator)

    task = loop.create_task(one())
    loop.call_soon(subject.on_next, 1)
    assert loop.run_until_complete(task) == 1
    waiting = loop.create_task(one())
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    subject.on_next(2)  # does not raise
    assert not subject.observers
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]  # its event loop is closed, so nothing can end it
    del waiting


def test_source_on_the_event_loop_is_read_on_that_loop() -> None:
    async def main() -> list[Any]:
        scheduler = AsyncIOScheduler(asyncio.get_running_loop())
        ticks = reactivex.interval(0.001, scheduler=scheduler).pipe(ops.take(3))
        return [item async for item in Stream.of(ticks)]

    assert run(main()) == [0, 1, 2]


def test_loop_in_a_callback_of_a_synchronous_source_runs() -> None:
    inner: list[Any] = []

    def on_next(_: int) -> None:
        inner.extend(numbers())
        inner.append(run(Source("abc").stream()._last()))

    reactivex.of(0, 0).subscribe(on_next)
    assert inner == [1, 2, 3, "c"] * 2


def test_stream_is_read_within_a_loop_over_itself() -> None:
    stream = numbers()
    assert [(a, b) for a in stream for b in stream] == list(itertools.product([1, 2, 3], repeat=2))


def test_loop_body_may_emit_into_its_own_source() -> None:
    subject: Subject[int] = Subject()
    iterator = iter(Stream.of(subject))
    starter = threading.Thread(target=lambda: next(iterator))
    starter.start()
    assert eventually(lambda: bool(subject.observers))
    subject.on_next(0)
    starter.join(BOUND)
    reader = threading.Thread(target=lambda: [subject.on_next(n) for n in range(LIMIT - 1)])
    reader.start()
    reader.join(BOUND)
    assert [next(iterator) for _ in range(LIMIT - 1)] == list(range(LIMIT - 1))
    iterator.close()  # type: ignore[attr-defined]


# --- with ---


def test_with_block_continues_the_same_run_in_every_loop() -> None:
    source = Source(range(5))
    with source.stream() as opened:
        first = list(itertools.islice(opened, 2))
        for item in opened:
            first.append(item)
            break
        assert [*first, *opened] == [0, 1, 2, 3, 4]
        assert list(opened) == [0, 1, 2, 3, 4]  # a loop that has ended is not continued
    assert source.subscriptions == 1


def test_async_with_block_continues_the_same_run_in_every_loop() -> None:
    source = Source(range(5))

    async def main() -> None:
        async with source.stream() as opened:
            received = [await anext(aiter(opened))]
            async for item in opened:
                received.append(item)
                if item == 2:
                    break
            assert await opened == 4
            assert received == [0, 1, 2]

    run(main())
    assert source.subscriptions == 1


def test_stream_is_cold_again_after_its_with_block() -> None:
    source = Source(range(3))
    stream = source.stream()
    with stream as opened:
        next(iter(opened))
    assert list(stream) == [0, 1, 2]
    with stream as opened:
        assert list(opened) == [0, 1, 2]


def test_enter_raises_when_the_stream_is_open() -> None:
    stream = numbers()
    with stream, pytest.raises(RuntimeError, match="already open"):
        stream.__enter__()
    with stream:
        pass


def test_second_task_that_waits_for_the_same_run_raises() -> None:
    stream, _ = silent()

    async def main() -> None:
        async with stream as opened:
            first = asyncio.ensure_future(anext(aiter(opened)))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await anext(aiter(opened))
            first.cancel()
            await asyncio.wait([first])

    run(main())


def test_with_block_disposes_subscriptions_made_in_it() -> None:
    stream, disposed = silent()
    with stream as opened:
        opened.subscribe()
        assert not disposed.is_set()
    assert disposed.is_set()


def test_subscription_during_exit_is_disposed() -> None:
    disposed = threading.Event()

    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        stream.__exit__(None, None, None)  # as another thread may
        return Disposable(disposed.set)

    stream: Stream[Any] = Stream(subscribe)
    stream.__enter__()
    stream.subscribe()
    assert disposed.is_set()


def test_with_block_ends_a_piped_loop_on_another_thread() -> None:
    stream, disposed = first_then_silent()
    began, ended = threading.Event(), threading.Event()

    def loop(piped: Stream[Any]) -> None:
        for _ in piped:
            began.set()
        ended.set()

    with stream as opened:
        piped = opened.pipe(ops.map(str), ops.filter(bool))
        threading.Thread(target=loop, args=(piped,), daemon=True).start()
        assert began.wait(BOUND)
    assert disposed.wait(BOUND)
    assert ended.wait(BOUND)


# --- leaving early ---


def test_break_disposes() -> None:
    stream, disposed = first_then_silent()
    for _ in stream:
        break
    assert disposed.wait(BOUND)


def test_exception_in_the_loop_body_disposes() -> None:
    stream, disposed = first_then_silent()
    with pytest.raises(ZeroDivisionError):
        for _ in stream:
            raise ZeroDivisionError
    assert disposed.wait(BOUND)


def test_return_from_the_loop_disposes() -> None:
    stream, disposed = first_then_silent()

    def first() -> Any:
        for item in stream:
            return item
        return None

    assert first() == "first"
    assert disposed.wait(BOUND)


def test_closing_the_iterator_disposes() -> None:
    stream, disposed = first_then_silent()
    iterator = iter(stream)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert disposed.wait(BOUND)


@pytest.mark.parametrize("started", [True, False])
def test_dropping_the_iterator_disposes(started: bool) -> None:
    stream, disposed = first_then_silent()
    iterator = iter(stream)
    if started:
        next(iterator)
    del iterator
    assert disposed.wait(BOUND if started else 0) is started


def test_garbage_collection_disposes() -> None:
    stream, disposed = first_then_silent()
    iterator = iter(stream)
    next(iterator)
    cycle: list[Any] = [iterator]
    cycle.append(cycle)
    del cycle, iterator
    assert not disposed.is_set()
    gc.collect()
    assert disposed.wait(BOUND)


async def leave_by_break(stream: Stream[Any]) -> None:
    async for _ in stream:
        break


async def leave_by_exception(stream: Stream[Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        async for _ in stream:
            raise ZeroDivisionError


async def leave_by_return(stream: Stream[Any]) -> Any:
    async for item in stream:
        return item
    return None


async def leave_by_aclose(stream: Stream[Any]) -> None:
    iterator = aiter(stream)
    await anext(iterator)
    await iterator.aclose()  # type: ignore[attr-defined]


async def leave_by_dropping(stream: Stream[Any]) -> None:
    iterator = aiter(stream)
    await anext(iterator)
    del iterator


async def leave_by_cancel(stream: Stream[Any]) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            began.set()

    task = asyncio.create_task(read())
    await began.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_cancel_in_the_body(stream: Stream[Any]) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            began.set()
            await asyncio.sleep(BOUND)

    task = asyncio.create_task(read())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_timeout(stream: Stream[Any]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await stream


async def leave_by_task_group(stream: Stream[Any]) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            began.set()

    async def fail() -> None:
        await began.wait()
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(fail())


async def leave_by_async_with(stream: Stream[Any]) -> None:
    async with stream as opened:
        async for _ in opened:
            break


LEAVING = [
    leave_by_break,
    leave_by_exception,
    leave_by_return,
    leave_by_aclose,
    leave_by_dropping,
    leave_by_cancel,
    leave_by_cancel_in_the_body,
    leave_by_timeout,
    leave_by_task_group,
    leave_by_async_with,
]


@pytest.mark.parametrize("leave", LEAVING, ids=lambda leave: leave.__name__)
def test_leaving_an_async_for_disposes(leave: Callable[[Stream[Any]], Any]) -> None:
    stream, disposed = first_then_silent()

    async def main() -> None:
        await leave(stream)
        assert disposed.wait(BOUND)

    run(main())


def test_ended_async_loop_refers_to_nothing_and_stays_ended() -> None:
    error = OSError("once")

    async def main() -> None:
        iterator = aiter(Source([1], error).stream())
        assert await anext(iterator) == 1
        with pytest.raises(OSError, match="once"):
            await anext(iterator)
        with pytest.raises(StopAsyncIteration):
            await anext(iterator)
        await iterator.aclose()  # type: ignore[attr-defined]

    run(main())


def test_unstarted_iteration_is_closed_silently() -> None:
    async def main() -> None:
        await aiter(numbers()).aclose()  # type: ignore[attr-defined]

    run(main())


def test_error_raised_by_a_loop_is_in_no_reference_cycle() -> None:
    class Witness:
        pass

    def subscribe(observer: Any, scheduler: Any = None) -> Disposable:
        observer.on_error(KeyError())  # no other reference exists
        return Disposable()

    def fail() -> Any:
        witness = Witness()
        reference = weakref.ref(witness)
        try:
            for _ in Stream(subscribe):
                pass
        except KeyError:
            pass
        return reference

    async def fail_async() -> Any:
        witness = Witness()
        reference = weakref.ref(witness)
        try:
            async for _ in Stream(subscribe):
                pass
        except KeyError:
            pass
        return reference

    gc.disable()
    try:
        for reference in (fail(), run(fail_async())):
            assert eventually(lambda: reference() is None)  # noqa: B023  # called at once
    finally:
        gc.enable()


def test_reactivex_operators_that_end_early_dispose() -> None:
    stream, disposed = first_then_silent()
    assert list(stream.pipe(ops.take(1))) == ["first"]
    assert disposed.wait(BOUND)


@pytest.mark.parametrize(
    "read",
    [by_async_for, by_async_with, lambda stream: by_async_for(stream.shared())],
    ids=["loop", "block", "shared"],
)
def test_loop_ends_after_an_operator_has_left_the_source(read: Face) -> None:
    """A loop over an answer that `take` has left finds the outcome of the answer."""
    is_over, was_over = threading.Event(), []

    def subscribe(observer: Any, _: Any = None) -> Disposable:
        thread = threading.Thread(target=observer.on_next, args=(1,))
        asyncio.get_running_loop().call_soon(thread.start)  # after it has its Disposable
        return Disposable(lambda: was_over.append(is_over.wait(0.1)))

    assert read(Stream(subscribe).take(1)) == [1]
    is_over.set()
    assert eventually(lambda: len(was_over) == 1)
    assert was_over == [False]
