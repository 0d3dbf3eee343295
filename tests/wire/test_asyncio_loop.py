"""Answers that the event loop of the program reads itself, and what happens at its end."""

# ruff: noqa: SIM117  # in one line, many of these would be too long

from __future__ import annotations

import asyncio
import gc
import operator
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from types import SimpleNamespace
from typing import Any, TypeVar
from weakref import ref

import pytest
from faces import BOUND, eventually
from reactivex import operators as ops

from rxmistral import (
    DroppedStreamError,
    Limit,
    Mistral,
    StreamTimeoutError,
    Timeouts,
    UserMessage,
    text,
)
from rxmistral.chat.event_stream import EventStream
from rxmistral.rx.stream import Stream
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.asyncio_loop import AsyncioLoop
from rxmistral.wire.reader import Request

pytestmark = pytest.mark.parametrize("reader", ["shared"], indirect=True)

IN_PIECES: Script = [
    each for number in b"123" for each in (steps.raw(b"data: %c\n\n" % number), steps.wait(0.01))
]
BODY = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
SILENT: Script = [steps.raw(b"data: 1\n\n"), steps.hang()]
ANSWER: Script = [steps.role(), "Hel", steps.wait(0.01), "lo", steps.finish(), steps.wait(0.01)]


T = TypeVar("T")


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """Like the ProactorEventLoop of Windows."""

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError


MakeLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, MakeLoop] = {
    "asyncio": asyncio.SelectorEventLoop,
    "without readers": LoopWithoutReaders,
}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def make_loop(request: pytest.FixtureRequest) -> MakeLoop:
    make: MakeLoop = request.param
    return make


def ask(server: ScriptedServer, **options: Any) -> Stream[bytes]:
    return blocks(Request("POST", server.url), **options)


def chat(client: Mistral) -> EventStream:
    return client.chat.stream(model="m", messages=[UserMessage(content="Hi")])


def run(make_loop: MakeLoop, main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(main)


async def read(stream: Stream[Any]) -> list[Any]:
    return [each async for each in stream]


async def read_one(items: AsyncIterator[Any]) -> Any:
    return await anext(items)


async def leave_after_one(stream: Stream[Any]) -> None:
    async for _ in stream:
        break


def event_loop_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "rxmistral-event-loop"]


# --- on the loop ---


def test_answer_is_received_on_the_thread_of_the_loop(make_loop: MakeLoop) -> None:
    threads: list[threading.Thread] = []
    with ScriptedServer(IN_PIECES) as server, asyncio.Runner(loop_factory=make_loop) as runner:
        note = ops.do_action(lambda _: threads.append(threading.current_thread()))
        received = runner.run(read(ask(server).pipe(note)))
    assert b"".join(received) == BODY
    is_own = threads[-1] is threading.current_thread()
    assert is_own == (make_loop is not LoopWithoutReaders)


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_loop_reads_every_framing_to_its_end(framing: Any, make_loop: MakeLoop) -> None:
    with ScriptedServer(IN_PIECES, framing=framing) as server:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            assert b"".join(runner.run(read(ask(server)))) == BODY


def test_loop_reads_bytes_that_tls_has_decrypted(
    server_tls: Any, session: Any, make_loop: MakeLoop
) -> None:
    pieces = [b"data: " + b"x" * size + b"\n\n" for size in (1, 16_384, 40_000, 200_000)]
    script = [each for piece in pieces for each in (steps.raw(piece), steps.wait(0.01))]
    with ScriptedServer(script, tls=server_tls) as server:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            received = runner.run(read(ask(server, session=session)))
    assert b"".join(received) == b"".join(pieces)


def test_slow_loop_body_receives_everything(make_loop: MakeLoop) -> None:
    count = 20_000
    script: Script = [steps.role(), steps.wait(0.01), steps.text(*["x"] * count), steps.finish()]

    async def read_slowly(stream: Stream[str]) -> int:
        received = 0
        async for piece in stream:
            received += len(piece)
            if received % 1000 == 0:
                await asyncio.sleep(0.001)
        return received

    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            assert runner.run(read_slowly(chat(client).pipe(text()))) == count


def test_silent_server_times_out_on_the_loop(make_loop: MakeLoop) -> None:
    script: Script = [steps.role(), steps.wait(0.01), "Hi", steps.hang()]
    timeouts = Timeouts(gap=0.1)
    with ScriptedServer(script) as server:
        with Mistral(server_url=server.url, timeouts=timeouts) as client:
            with asyncio.Runner(loop_factory=make_loop) as runner:
                with pytest.raises(StreamTimeoutError):
                    runner.run(read(chat(client)))


def test_operators_on_the_loop_see_the_subscribers_context(make_loop: MakeLoop) -> None:
    tenant: ContextVar[str] = ContextVar("tenant")

    async def read_as(name: str, stream: Stream[bytes]) -> set[str]:
        tenant.set(name)
        return set(await read(stream.pipe(ops.map(lambda _: tenant.get()))))

    async def main() -> list[set[str]]:
        return await asyncio.gather(read_as("a", ask(server)), read_as("b", ask(server)))

    with ScriptedServer(lambda _: IN_PIECES) as server:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            assert runner.run(main()) == [{"a"}, {"b"}]


@pytest.mark.parametrize("exit_error", [SystemExit, KeyboardInterrupt])
def test_exit_in_a_callback_ends_the_loop_and_no_other(
    exit_error: type[BaseException], make_loop: MakeLoop
) -> None:
    """The next answers get the same descriptor, which the loop must have forgotten."""

    def leave(block: bytes) -> None:
        if b"2" in block:
            raise exit_error

    if make_loop is LoopWithoutReaders:
        pytest.skip("its callbacks run on another thread")
    with ScriptedServer(lambda _: IN_PIECES) as server:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            main = read(ask(server).pipe(ops.do_action(leave)))
            task = runner.get_loop().create_task(main)
            with pytest.raises(exit_error):
                runner.get_loop().run_until_complete(task)
            with pytest.raises(RuntimeError, match=exit_error.__name__):
                runner.get_loop().run_until_complete(task)
            for _ in range(3):
                assert b"".join(runner.run(read(ask(server)))) == BODY


# --- at its end ---


@pytest.mark.parametrize("tls", [False, True])
def test_runs_left_at_the_finish_use_one_connection(
    tls: bool, make_loop: MakeLoop, server_tls: Any, session: Any
) -> None:
    async def leave_at_the_finish(stream: EventStream) -> None:
        async for each in stream:
            if each.data.choices[0].finish_reason is not None:
                break

    with ScriptedServer(lambda _: ANSWER, tls=server_tls if tls else None) as server:
        with Mistral(server_url=server.url, session=session) as client:
            for _ in range(5):
                with asyncio.Runner(loop_factory=make_loop) as runner:
                    runner.run(leave_at_the_finish(chat(client)))
            assert server.connections == 1


def test_left_answer_is_released_when_its_loop_only_closes(make_loop: MakeLoop) -> None:
    """The loop is closed without shutdown_asyncgens(), at once."""
    script: Script = [steps.role(), steps.wait(0.01), "Hi", steps.hang()]
    limit = Limit(concurrent=1)
    with ScriptedServer(lambda _: script) as server:
        with Mistral(server_url=server.url, limit=limit) as client:
            for _ in range(5):
                loop = make_loop()
                loop.run_until_complete(leave_after_one(chat(client).pipe(text())))
                loop.close()
            assert eventually(lambda: "(0 in use, 0 waiting)" in repr(limit))
        assert server.wait_idle(BOUND)


def test_answer_left_after_its_loop_is_released(make_loop: MakeLoop) -> None:
    with ScriptedServer(lambda _: SILENT) as server:
        for closes in (True, False):
            loop = make_loop()
            items = aiter(ask(server))
            loop.run_until_complete(read_one(items))
            if closes:
                loop.close()
            del items
            assert server.wait_idle(BOUND)
            loop.close()


def test_iterator_continues_in_a_later_run_of_its_loop(make_loop: MakeLoop) -> None:
    pieces = ["x"] * 3000  # more than the queue holds
    script: Script = [steps.role(), steps.wait(0.01), steps.text(*pieces), steps.finish()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            items = aiter(chat(client).pipe(text()))
            received = [runner.run(read_one(items)) for _ in range(5)]

            async def read_the_rest() -> list[str]:
                return [each async for each in items]

            assert received + runner.run(read_the_rest()) == pieces


def test_answer_is_handed_over_at_the_end_of_its_loop(make_loop: MakeLoop) -> None:
    with ScriptedServer(lambda _: SILENT) as server:
        items = aiter(ask(server))
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(read_one(items))
            runner.run(asyncio.sleep(0.01))
        assert eventually(lambda: len(event_loop_threads()) == 1)
        del items
        assert server.wait_idle(BOUND)


@pytest.mark.parametrize("shuts_down", [True, False])
def test_ended_loop_is_not_kept_alive(shuts_down: bool, make_loop: MakeLoop) -> None:
    def run_once() -> ref[asyncio.AbstractEventLoop]:
        loop = make_loop()
        assert b"".join(loop.run_until_complete(read(ask(server)))) == BODY
        if shuts_down:
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        return ref(loop)

    with ScriptedServer(lambda _: IN_PIECES) as server:
        ended = run_once()
        if not shuts_down:
            run_once()  # the next loop drops those that are closed
        gc.collect()
        assert eventually(lambda: ended() is None)


def test_answer_ends_when_it_cannot_be_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "rxmistral-event-loop":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with ScriptedServer(SILENT) as server:
        with asyncio.Runner(loop_factory=LoopWithoutReaders) as runner:
            with pytest.raises(DroppedStreamError, match="thread"):
                runner.run(read(ask(server)))
        assert server.wait_idle(BOUND)


# --- a loop that the program blocks ---


@pytest.mark.parametrize("last", ["lo", "!"])
def test_thread_receives_an_answer_whose_loop_waits_for_it(
    last: str, make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop may wait in the middle of a block, and again after it has gone on."""
    monkeypatch.setattr("rxmistral.rx.blocked_loops._BLOCKED_SECONDS", 0.05)
    script = [steps.role(), "Hel", steps.wait(0.1), "lo", steps.wait(0.1), "!", steps.finish()]

    async def main(client: Mistral) -> tuple[str, str]:
        async with chat(client) as answer:
            await leave_after_one(answer.text())
            until_last = answer.text().take_while(lambda token: token != last, inclusive=True)
            blocked = threads.submit(until_last.reduce(operator.add).run).result(BOUND)
            return blocked, await answer.text().join()

    threads = ThreadPoolExecutor()
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        blocked, joined = run(make_loop, main(client))
        assert "Hello!".startswith(blocked)
        assert blocked.endswith(last)
        assert joined == "Hello!"
        assert len(server.requests) == 1


class HeldTask:
    """A task whose step waits until the test lets it go on."""

    paused = False

    def __init__(self, event_loop: Any) -> None:
        self.event_loop = event_loop
        self.context = copy_context()
        self.started, self.released = threading.Event(), threading.Event()
        self.ended = threading.Event()

    def step(self) -> bool:
        self.started.set()
        assert self.released.wait(BOUND)
        self.ended.set()
        return False


def test_step_that_is_running_is_not_handed_over() -> None:
    scheduled: list[HeldTask] = []
    successor: Any = SimpleNamespace(schedule=scheduled.append)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reader = AsyncioLoop(loop, successor)
        running, waiting = tasks = HeldTask(reader), HeldTask(reader)

        def take_over() -> None:
            assert running.started.wait(BOUND)
            reader.leave_blocked_loop()
            running.released.set()

        thread = threading.Thread(target=take_over)
        thread.start()
        for task in tasks:
            reader.schedule(task)  # type: ignore[arg-type]
        await asyncio.to_thread(thread.join)
        assert running.ended.is_set()
        assert not waiting.started.is_set()
        assert (running.event_loop, waiting.event_loop) == (reader, successor)
        assert scheduled == [waiting]

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_takes_nothing_from_the_loop(make_loop: MakeLoop) -> None:
    """The child drops its copies, of which the loop of the parent notices nothing."""

    async def fork_within(stream: Stream[bytes]) -> bytes:
        received = b""
        async for each in stream:
            received += each
            child = os.fork()
            if not child:
                del stream
                gc.collect()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0  # noqa: ASYNC222  # it exits at once
        return received

    with ScriptedServer(IN_PIECES) as server, asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(fork_within(ask(server))) == BODY
