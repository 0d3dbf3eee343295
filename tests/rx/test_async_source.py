"""from_async_iterable: the right event loop, backpressure, stopping, exactly one terminal."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, by_for, by_subscribing, eventually, run
from reactivex import operators as ops

from rxmistral import (
    Mistral,
    StoppedError,
    Stream,
    UserMessage,
    answer_each,
    from_async_iterable,
    sentences,
    text,
)
from rxmistral.rx.backpressure import emitting
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import Request

LIMIT = 512
"""The most items that the queue of a loop contains."""


class Counter:
    """An async iterable of numbers that records where it is read, and when it is closed."""

    def __init__(self, stop: int | None = None, error: Exception | None = None) -> None:
        self.stop = stop
        self.error = error
        self.pulled = 0
        self.iterated = 0
        self.cancelled = False
        self.closed = threading.Event()
        self.closed_on: asyncio.AbstractEventLoop | None = None
        self.thread: int | None = None

    async def __aiter__(self) -> AsyncIterator[int]:
        self.iterated += 1
        self.thread = threading.get_ident()
        try:
            for number in itertools.count():
                if number == self.stop:
                    break
                await asyncio.sleep(0)
                self.pulled = number + 1
                yield number
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        finally:
            await asyncio.sleep(0.001)  # closing may take some time
            self.closed_on = asyncio.get_running_loop()
            self.closed.set()


class Silent:
    """Returns an async iterable that yields one item, and then waits."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.cancelled = threading.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "first"
        try:
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


class LoopInAThread:
    """An event loop that runs on a separate thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def do(self, work: Callable[[], Any]) -> Any:
        async def call() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(BOUND)

    def __enter__(self) -> LoopInAThread:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(BOUND)
        self.loop.close()


# --- every face ---


def test_every_face_emits_all_items_in_order(read: Face) -> None:
    assert read(from_async_iterable(Counter(1500)))[-1500:] == list(range(1500))


def test_every_face_raises_the_error_after_the_items(read: Face) -> None:
    error = KeyError("broke")
    assert read(from_async_iterable(Counter(3, error)))[-4:] == [0, 1, 2, error]


def test_each_subscription_iterates_anew(read: Face) -> None:
    counter = Counter(3)
    stream = from_async_iterable(counter).pipe(ops.map(str))
    assert counter.iterated == 0
    assert read(stream)[-3:] == read(stream)[-3:] == ["0", "1", "2"]
    assert counter.iterated == 2


def test_function_is_called_for_each_subscription(read: Face) -> None:
    async def letters() -> AsyncIterator[str]:
        for letter in "abc":
            yield letter

    stream = from_async_iterable(letters)
    assert read(stream)[-3:] == read(stream)[-3:] == ["a", "b", "c"]


def test_iterator_raises_at_its_second_subscription(read: Face) -> None:
    async def letters() -> AsyncIterator[str]:
        yield "a"

    stream = from_async_iterable(letters())
    assert read(stream)[-1] == "a"
    error = read(stream)[-1]
    assert isinstance(error, RuntimeError)
    assert "this async_generator was read before" in str(error)


@pytest.mark.parametrize("other", [[1, 2], "text", None, iter(())])
def test_iterable_of_a_wrong_type_is_rejected_at_the_call(other: Any) -> None:
    with pytest.raises(TypeError, match=f"got {type(other).__name__}"):
        from_async_iterable(other)


def test_function_that_returns_another_type_is_an_error() -> None:
    (error,) = by_for(from_async_iterable(lambda: [1]))  # type: ignore[arg-type, return-value]
    assert isinstance(error, TypeError)


# --- the event loop ---


def test_source_made_on_a_loop_runs_there_for_other_threads() -> None:
    counter = Counter(3)
    with LoopInAThread() as home:
        stream = home.do(lambda: from_async_iterable(counter))
        assert list(stream) == [0, 1, 2]
        assert counter.thread == home.thread.ident
        assert counter.closed_on is home.loop


def test_source_made_on_one_loop_is_read_on_another() -> None:
    counter = Counter(2000)

    async def read(stream: Stream[int]) -> list[int]:
        return [item async for item in stream]

    with LoopInAThread() as home:
        stream = home.do(lambda: from_async_iterable(counter))
        assert run(read(stream)) == list(range(2000))
        assert counter.thread == home.thread.ident


def test_for_loop_that_would_block_its_event_loop_raises() -> None:
    async def main() -> None:
        stream = from_async_iterable(Counter(3))
        for wait in (stream.run, lambda: list(stream.pipe(ops.map(str)))):
            with pytest.raises(RuntimeError, match="use async for"):
                wait()
        assert await stream == 2
        assert await asyncio.to_thread(list, stream) == [0, 1, 2]

    run(main())


def test_source_made_without_a_loop_is_read_by_for_on_a_loop() -> None:
    stream = from_async_iterable(Counter(3))

    async def main() -> list[int]:
        return list(stream)

    assert run(main()) == [0, 1, 2]


def test_source_made_without_a_loop_runs_on_its_reader_s_loop() -> None:
    counter = Counter(3)
    stream = from_async_iterable(counter)

    async def main() -> None:
        assert [item async for item in stream] == [0, 1, 2]
        assert counter.closed_on is asyncio.get_running_loop()

    run(main())
    assert counter.thread == threading.get_ident()


def test_source_of_an_ended_loop_runs_on_its_reader_s_loop() -> None:
    counter = Counter(3)

    async def make() -> Stream[int]:
        return from_async_iterable(counter)

    async def last(stream: Stream[int]) -> int:
        return await stream

    stream = run(make())
    assert run(last(stream)) == 2
    assert stream.run() == 2


def test_source_without_any_loop_runs_on_its_own_thread() -> None:
    counter = Counter(3)
    assert list(from_async_iterable(counter)) == [0, 1, 2]
    assert counter.thread != threading.get_ident()


def test_iterable_runs_in_the_context_of_the_subscriber() -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")

    async def context_names() -> AsyncIterator[str]:
        yield user.get()

    def subscribe() -> list[Any]:
        user.set("Ada")
        return by_subscribing(from_async_iterable(context_names))

    async def main() -> str:
        user.set("Bob")
        return await from_async_iterable(context_names)

    assert threading_context(subscribe) == ["Ada"]
    assert run(main()) == "Bob"


def threading_context(work: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start()
    thread.join(BOUND)
    return result[0]


def test_nothing_is_emitted_before_subscribe_has_returned() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        if sys.version_info >= (3, 12):
            loop.set_task_factory(asyncio.eager_task_factory)
        received: list[int] = []
        ended = asyncio.Event()
        from_async_iterable(Counter(2)).subscribe(received.append, on_completed=ended.set)
        assert received == []
        await ended.wait()
        assert received == [0, 1]

    asyncio.run(main())


def test_script_ending_in_subscribe_prints_everything() -> None:
    program = """
        import asyncio
        from rxmistral import from_async_iterable

        async def letters():
            for letter in "ab":
                await asyncio.sleep(0.05)
                yield letter

        from_async_iterable(letters).subscribe(print)
    """
    assert output_of(program) == (b"a\nb\n", b"")


def test_script_with_an_unfinished_loop_exits() -> None:
    program = """
        import asyncio
        from rxmistral import from_async_iterable

        async def letters():
            yield "a"
            await asyncio.Event().wait()

        iterator = iter(from_async_iterable(letters))
        print(next(iterator))
    """
    assert output_of(program) == (b"a\n", b"")


def output_of(program: str) -> tuple[bytes, bytes]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-X", "dev", "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    return process.communicate(timeout=60)


# --- backpressure ---


def test_for_loop_that_does_not_read_pauses_the_source() -> None:
    counter = Counter()
    iterator = iter(from_async_iterable(counter))
    next(iterator)
    assert eventually(lambda: counter.pulled >= LIMIT)
    assert not counter.closed.wait(0.05)
    assert counter.pulled <= LIMIT + 1
    for _ in range(3 * LIMIT):
        next(iterator)
    assert counter.pulled >= 3 * LIMIT
    iterator.close()  # type: ignore[attr-defined]
    assert counter.closed.wait(BOUND)


def test_task_on_the_same_loop_pauses_the_source() -> None:
    counter = Counter()

    async def main() -> None:
        iterator = aiter(from_async_iterable(counter))
        await anext(iterator)
        for _ in range(4 * LIMIT):
            await asyncio.sleep(0)  # lets other tasks run, and the source
        assert LIMIT <= counter.pulled <= LIMIT + 1
        for _ in range(3 * LIMIT):
            await anext(iterator)
        await iterator.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(counter.closed.wait, BOUND)

    asyncio.run(main())


def test_iterable_that_never_awaits_is_paused() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(20 * LIMIT):
            yield number

    async def main() -> list[int]:
        return [item async for item in from_async_iterable(numbers)]

    assert run(main()) == list(range(20 * LIMIT))


def test_paused_source_continues_when_resumed() -> None:
    received: list[Any] = []
    ended = threading.Event()

    def on_next(number: int) -> None:
        received.append(number)
        if number == 1:
            source = emitting.source
            assert source is not None
            source.pause()
            threading.Thread(target=source.resume).start()

    from_async_iterable(Counter(3)).subscribe(on_next, on_completed=ended.set)
    assert ended.wait(BOUND)
    assert received == [0, 1, 2]


# --- leaving ---


def leave_by_break(stream: Stream[Any], silent: Silent) -> None:
    for _ in stream:
        assert silent.waiting.wait(BOUND)
        break


def leave_by_dispose(stream: Stream[Any], silent: Silent) -> None:
    subscription = stream.subscribe()
    assert silent.waiting.wait(BOUND)
    subscription.dispose()


def leave_by_with(stream: Stream[Any], silent: Silent) -> None:
    with stream as opened:
        opened.subscribe()
        assert silent.waiting.wait(BOUND)


@pytest.mark.parametrize("home", ["loop in a thread", "none"])
@pytest.mark.parametrize("leave", [leave_by_break, leave_by_dispose, leave_by_with])
def test_leaving_cancels_the_pending_await(
    leave: Callable[[Stream[Any], Silent], None], home: str
) -> None:
    silent = Silent()
    if home == "none":
        leave(from_async_iterable(silent), silent)
        assert silent.cancelled.wait(BOUND)
    else:
        with LoopInAThread() as loop:
            leave(loop.do(lambda: from_async_iterable(silent)), silent)
            assert silent.cancelled.wait(BOUND)
            assert eventually(lambda: not loop.do(lambda: asyncio.all_tasks() - {current()}))


def current() -> Any:
    return asyncio.current_task()


def test_leaving_on_the_same_loop_cancels_the_task() -> None:
    silent = Silent()

    async def main() -> None:
        async for _ in from_async_iterable(silent):
            break
        assert await asyncio.to_thread(silent.cancelled.wait, BOUND)

    asyncio.run(main())


def test_dispose_in_a_callback_closes_without_a_cancel() -> None:
    counter = Counter()

    async def main() -> None:
        assert await from_async_iterable(counter).pipe(ops.take(3)) == 2
        assert await asyncio.to_thread(counter.closed.wait, BOUND)

    asyncio.run(main())
    assert counter.pulled == 3
    assert not counter.cancelled


def test_source_disposed_before_its_start_is_not_iterated() -> None:
    counter = Counter()

    async def main() -> None:
        from_async_iterable(counter).subscribe().dispose()
        for _ in range(10):
            await asyncio.sleep(0)

    run(main())
    assert counter.iterated == 0


def test_dispose_at_any_moment_emits_at_most_one_terminal() -> None:
    pause = threading.Event()
    terminals: list[list[Any]] = []
    for number in range(200):
        mine: list[Any] = []
        terminals.append(mine)
        subscription = from_async_iterable(Counter(30)).subscribe(
            on_error=mine.append, on_completed=partial(mine.append, None)
        )
        pause.wait(number * 0.00003)
        subscription.dispose()
    assert eventually(lambda: not ours())
    assert max(map(len, terminals)) <= 1
    assert {error for mine in terminals for error in mine} <= {None}


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rxmistral-async"]


def test_abandoned_async_generator_is_silent_when_its_loop_ends() -> None:
    program = """
        import asyncio
        from rxmistral import from_async_iterable

        async def letters():
            try:
                yield "a"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                print("closed")

        async def main():
            async for letter in from_async_iterable(letters):
                break

        asyncio.run(main(), debug=True)
    """
    assert output_of(program) == (b"closed\n", b"")


# --- one terminal ---


def test_loop_that_ends_stops_its_readers_on_other_threads() -> None:
    silent = Silent()
    received: list[Any] = []
    readers: list[threading.Thread] = []

    async def main() -> None:
        stream = from_async_iterable(silent)
        readers.append(threading.Thread(target=lambda: received.extend(by_for(stream))))
        readers[0].start()
        assert await asyncio.to_thread(silent.waiting.wait, BOUND)

    asyncio.run(main())
    readers[0].join(BOUND)
    assert received[0] == "first"
    assert isinstance(received[1], StoppedError)
    assert silent.cancelled.is_set()


def test_iterable_that_cancels_itself_is_an_error(read: Face) -> None:
    async def cancelling() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    assert isinstance(read(from_async_iterable(cancelling))[-1], StoppedError)


def test_exception_of_a_callback_goes_to_on_error() -> None:
    counter = Counter()
    ended = threading.Event()
    errors: list[Exception] = []

    def fail(_: int) -> None:
        raise ZeroDivisionError

    def on_error(error: Exception) -> None:
        assert counter.closed.is_set()
        errors.append(error)
        ended.set()

    from_async_iterable(counter).subscribe(fail, on_error)
    assert ended.wait(BOUND)
    assert [type(error) for error in errors] == [ZeroDivisionError]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_callback_that_exits_does_not_block_its_reader() -> None:
    stream = from_async_iterable(Counter()).pipe(ops.do_action(lambda _: sys.exit()))
    (error,) = by_for(stream)
    assert "the iterable or a callback raised SystemExit()" in str(error)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_base_exception_of_the_iterable_does_not_block_readers() -> None:
    class Abort(BaseException):
        pass

    async def aborting() -> AsyncIterator[int]:
        yield 1
        raise Abort

    item, error = by_for(from_async_iterable(aborting))
    assert item == 1
    assert "the iterable or a callback raised Abort()" in str(error)


def test_error_of_aclose_after_dispose_goes_to_the_loop() -> None:
    async def failing() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            raise LookupError("while it was closed")

    async def main() -> list[Any]:
        reported: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        async for _ in from_async_iterable(failing):
            break
        for _ in range(10):
            await asyncio.sleep(0)
            gc.collect()
        return reported

    (error,) = run(main())
    assert isinstance(error, LookupError)


# --- with other operators ---


def test_answer_passes_through_an_async_generator() -> None:
    with ScriptedServer(lambda _: [steps.raw(b"data: 1\n\n"), steps.hang()]) as server:
        source = blocks(Request("POST", server.url))

        async def shouted() -> AsyncIterator[bytes]:
            async for block in source:
                yield block.upper()

        assert list(from_async_iterable(shouted).pipe(ops.take(1))) == [b"DATA: 1\n\n"]
        assert server.requests[0].wait_closed()


def test_stream_read_by_the_iterable_is_not_part_of_the_loop() -> None:
    inner = Stream.of(from_async_iterable(Counter(1)))

    async def opening() -> AsyncIterator[int]:
        with inner as opened:
            opened.subscribe()
            yield 1
        yield 2  # the end of the block does not end the outer loop

    assert list(from_async_iterable(opening)) == [1, 2]


# --- several async sources in sequence ---


async def letters(count: int = 2) -> AsyncIterator[str]:
    for letter in "abcdef"[:count]:
        await asyncio.sleep(0)
        yield letter


CHAINED: dict[str, tuple[Callable[[], Stream[str]], list[str]]] = {
    "added": (lambda: from_async_iterable(letters) + from_async_iterable(letters), [*"abab"]),
    "repeated": (lambda: from_async_iterable(letters).repeat(3), [*"ababab"]),
    "answer_each": (
        lambda: Stream.of(reactivex.of(1, 2)).pipe(
            answer_each(lambda count: from_async_iterable(partial(letters, count)), "queue")
        ),
        [*"aab"],
    ),
    "concat_map": (
        lambda: from_async_iterable(letters).pipe(
            ops.concat_map(lambda _: from_async_iterable(letters))
        ),
        [*"abab"],
    ),
    "retried": (
        lambda: Stream.of(
            (from_async_iterable(letters) + Stream.of(reactivex.throw(KeyError()))).pipe(
                ops.retry(2), ops.catch(reactivex.of("|"))
            )
        ),
        [*"abab|"],
    ),
}


@pytest.mark.parametrize("name", CHAINED)
def test_async_source_after_async_source_emits_all(name: str, read: Face) -> None:
    make, expected = CHAINED[name]
    assert read(make()) == expected


def test_concat_map_runs_an_async_source_for_each_sentence(read: Face) -> None:
    async def speak(sentence: str) -> AsyncIterator[str]:
        for word in sentence.split():
            await asyncio.sleep(0)
            yield word

    with (
        ScriptedServer([steps.role(), "One two. ", "Three.", steps.done()]) as server,
        Mistral(server_url=server.url) as client,
    ):
        answer = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
        spoken = answer.pipe(
            text(),
            sentences(),
            ops.concat_map(lambda each: from_async_iterable(partial(speak, each))),
        )
        assert read(spoken) == ["One", "two.", "Three."]


# --- the argument `loop` ---


def test_given_loop_runs_the_iterable_and_the_callbacks() -> None:
    async def where() -> AsyncIterator[asyncio.AbstractEventLoop]:
        yield asyncio.get_running_loop()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        received = await asyncio.to_thread(lambda: by_for(from_async_iterable(where, loop=loop)))
        assert received == [loop]

    run(main())


def test_given_loop_that_is_not_running_is_an_error(read: Face) -> None:
    loop = asyncio.new_event_loop()
    (error,) = read(from_async_iterable(letters, loop=loop))
    loop.close()
    assert isinstance(error, RuntimeError)
    assert "is not running" in str(error)


def test_given_loop_of_another_type_is_rejected_at_the_call() -> None:
    with pytest.raises(TypeError, match="loop must be an asyncio event loop, got str"):
        from_async_iterable(letters, loop="main")  # type: ignore[arg-type]
