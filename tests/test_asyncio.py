"""The async faces under asyncio: every way to leave, at every await, with real sockets, in
debug mode, and without a call of the event loop's exception handler."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

import pytest
from faces import BOUND
from reactivex import operators as ops

from rxmistral import Mistral, StatusError, UserMessage, text
from rxmistral.rx.current_iteration import current_iteration
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire.reader import READERS

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

T = TypeVar("T")

BURST = 20_000
WHOLE: Script = [steps.role(), "One,", " two.", steps.finish(), steps.done()]


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Checks that asyncio logs nothing about leftovers."""
    yield
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


def run(main: Coroutine[Any, Any, T]) -> T:
    """Calls `asyncio.run` in debug mode; checks that no task is left to cancel."""

    async def alone() -> T:
        asyncio.get_running_loop().slow_callback_duration = BOUND  # for busy machines
        result = await main
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(alone(), debug=True)


class Call:
    """An answer that is being read, and its progress."""

    def __init__(self, server: ScriptedServer, client: Mistral, phase: str) -> None:
        self.server = server
        self.stream = client.chat.stream_async(model="m", messages=[UserMessage(content=phase)])
        self.phase = phase
        self.items = 0
        self._there = threading.Event()

    async def at_phase(self) -> None:
        await asyncio.to_thread(self.server.wait_for_requests, 1)
        if "headers" not in self.phase:
            assert await asyncio.to_thread(self._there.wait, BOUND)

    async def body(self) -> None:
        """The body of a loop."""
        self.items += 1
        if self.items > (BURST // 10 if self.phase == "in a burst" else 0):
            self._there.set()
            if self.phase == "in the body":
                await asyncio.Event().wait()

    async def closed(self) -> bool:
        request = self.server.requests[0]
        return await asyncio.to_thread(request.wait_closed, BOUND)

    def note(self, _: object) -> None:
        """A callback of `subscribe`."""
        self.items += 1
        if self.items > (BURST // 10 if self.phase == "in a burst" else 0):
            self._there.set()


PHASES: dict[str, Script] = {
    "before the headers": [steps.hang()],
    "after the headers": [steps.headers(), steps.hang()],
    "in silence": [steps.role(), "Hel", steps.hang()],
    "in a burst": [steps.role(), steps.text(*["x"] * BURST), steps.hang()],
    "in the body": [steps.role(), steps.text(*["x"] * 1000), steps.hang()],
}


# --- ways to read ---


async def async_for(call: Call) -> None:
    async for _ in call.stream:
        await call.body()


async def async_for_a_pipe(call: Call) -> None:
    async for _ in call.stream.pipe(text(), ops.map(str.upper)):
        await call.body()


async def async_with(call: Call) -> None:
    async with call.stream as opened:
        async for _ in opened:
            await call.body()


async def async_with_a_pipe(call: Call) -> None:
    async with call.stream as opened:
        async for _ in opened.pipe(text()):
            await call.body()


async def await_the_last(call: Call) -> None:
    await call.stream.pipe(text(), ops.do_action(call.note))


async def gather(call: Call) -> None:
    await asyncio.gather(call.stream.pipe(ops.do_action(call.note)), asyncio.sleep(0))


READING = [
    async_for,
    async_for_a_pipe,
    async_with,
    async_with_a_pipe,
    await_the_last,
    gather,
]
Reading = Callable[[Call], Coroutine[Any, Any, None]]


# --- ways to leave ---


def cancelling() -> int:
    """Returns the number of pending cancellation requests of the current task."""
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def task_cancel(read: Reading, call: Call) -> None:
    task = asyncio.create_task(read(call))
    await call.at_phase()
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def timeout(read: Reading, call: Call) -> None:
    async def expire() -> None:
        await call.at_phase()
        clock.reschedule(asyncio.get_running_loop().time())

    waiting = asyncio.create_task(expire())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as clock:
            await read(call)
    await waiting
    assert clock.expired()
    assert cancelling() == 0


async def wait_for(read: Reading, call: Call) -> None:
    task = asyncio.create_task(read(call))
    await call.at_phase()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(task, 0.01)
    assert task.cancelled()
    assert cancelling() == 0


async def a_sibling_fails(read: Reading, call: Call) -> None:
    async def fail() -> None:
        await call.at_phase()
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.TaskGroup() as group:
            group.create_task(read(call))
            group.create_task(fail())
    assert [type(error) for error in raised.value.exceptions] == [ZeroDivisionError]


LEAVING = [task_cancel, timeout, wait_for, a_sibling_fails]
CELLS = [
    (phase, read, leave)
    for phase in PHASES
    for read in READING
    for leave in LEAVING
    if not (phase == "in the body" and read in (await_the_last, gather))  # they have none
]


@pytest.mark.parametrize(
    ("phase", "read", "leave"),
    CELLS,
    ids=[f"{phase}-{read.__name__}-{leave.__name__}" for phase, read, leave in CELLS],
)
def test_leaving_closes_the_socket_and_leaves_no_task(
    phase: str, read: Reading, leave: Callable[[Reading, Call], Awaitable[None]]
) -> None:
    async def main() -> None:
        call = Call(server, client, phase)
        await leave(read, call)
        assert await call.closed()

    with (
        ScriptedServer(lambda _: PHASES[phase]) as server,
        Mistral(server_url=server.url) as client,
    ):
        run(main())
        assert len(server.requests) == 1


# --- other features of asyncio ---


def ask(client: Mistral, prompt: str) -> Any:
    return client.chat.stream_async(model="m", messages=[UserMessage(content=prompt)])


def answer(request: ReceivedRequest) -> Script:
    match request.json["messages"][-1]["content"]:
        case "hang":
            return [steps.role(), "Hel", steps.hang()]
        case "fail":
            return [steps.status(400, body={"message": "no"})]
        case _:
            return WHOLE


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(answer) as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Mistral]:
    with Mistral(server_url=server.url) as client:
        yield client


def test_failure_in_a_task_group_closes_the_other_sockets(
    server: ScriptedServer, client: Mistral
) -> None:
    begun = [asyncio.Event() for _ in range(5)]

    async def read(event: asyncio.Event) -> None:
        async for _ in ask(client, "hang"):
            event.set()

    async def fail() -> None:
        for event in begun:
            await event.wait()
        await ask(client, "fail").pipe(text())

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.TaskGroup() as group:
                for event in begun:
                    group.create_task(read(event))
                group.create_task(fail())
        assert [type(error) for error in raised.value.exceptions] == [StatusError]
        for request in server.requests[:5]:
            assert await asyncio.to_thread(request.wait_closed, BOUND)

    run(main())


def test_inner_timeout_expires_first(client: Mistral) -> None:
    async def main() -> None:
        async with asyncio.timeout(BOUND) as outer:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02) as inner:
                    await ask(client, "hang").pipe(text())
            assert await ask(client, "whole").pipe(text()) == " two."
        assert (inner.expired(), outer.expired()) == (True, False)

    run(main())


def test_shielded_answer_continues_when_its_awaiter_is_cancelled(client: Mistral) -> None:
    async def main() -> None:
        answer = asyncio.ensure_future(ask(client, "whole").pipe(text()))

        async def wait() -> None:
            await asyncio.shield(answer)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await answer == " two."

    run(main())


def test_stream_is_accepted_by_functions_of_awaitables(client: Mistral) -> None:
    async def main() -> None:
        def last() -> Any:
            return ask(client, "whole").pipe(text())

        assert await asyncio.wait_for(last(), BOUND) == " two."
        assert await asyncio.shield(last()) == " two."
        assert await asyncio.gather(last(), last()) == [" two.", " two."]
        done, _ = await asyncio.wait([asyncio.ensure_future(last())])
        assert [task.result() for task in done] == [" two."]
        assert [await each for each in asyncio.as_completed([last()])] == [" two."]

    run(main())


def test_cancel_with_the_last_item_is_not_swallowed(client: Mistral) -> None:
    async def main() -> None:
        async def read() -> None:
            async for _ in ask(client, "whole"):
                pass
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(0)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(read())

    run(main())


def test_cancelling_before_the_task_has_run_sends_nothing(
    server: ScriptedServer, client: Mistral
) -> None:
    async def main() -> None:
        async def read() -> None:
            await ask(client, "whole")

        task = asyncio.create_task(read())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert server.requests == []


def test_stream_is_read_on_two_loops_at_the_same_time(client: Mistral) -> None:
    made: list[Any] = []
    there: list[str] = []

    async def elsewhere() -> None:
        there.extend([token async for token in made[0]])

    async def main() -> None:
        made.append(ask(client, "whole").pipe(text()))
        thread = threading.Thread(target=lambda: run(elsewhere()))
        thread.start()
        assert [token async for token in made[0]] == ["One,", " two."]
        await asyncio.to_thread(thread.join, BOUND)

    run(main())
    assert there == ["One,", " two."]


def test_context_keeps_variables_of_the_loop_body_only(client: Mistral) -> None:
    seen: ContextVar[str] = ContextVar("seen", default="")

    async def main() -> None:
        before = set(copy_context())
        async for token in ask(client, "whole").pipe(text()):
            seen.set(seen.get() + token)
            assert current_iteration.get() is None
        assert seen.get() == "One, two."
        assert set(copy_context()) - before <= {seen, current_iteration}

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are eager from Python 3.12 on")
def test_eager_tasks_read_and_are_cancelled_like_others(
    server: ScriptedServer, client: Mistral
) -> None:
    async def last() -> Any:
        return await ask(client, "whole").pipe(text())

    async def hang() -> None:
        async for _ in ask(client, "hang"):
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        assert await asyncio.gather(last(), last()) == [" two.", " two."]
        task = asyncio.create_task(hang())
        request = (await asyncio.to_thread(server.wait_for_requests, 3))[-1]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(request.wait_closed, BOUND)

    run(main())


# --- unfinished at the end of asyncio.run ---

PROGRAMS = {
    "a task that reads": """
        async def main():
            begun = asyncio.Event()
            async def read():
                async for token in tokens:
                    begun.set()
            task = asyncio.create_task(read())
            await begun.wait()
    """,
    "a task that awaits the last": """
        async def main():
            begun = asyncio.Event()
            loop = asyncio.get_running_loop()
            tell = lambda _: loop.call_soon_threadsafe(begun.set)
            task = asyncio.ensure_future(tokens.pipe(ops.do_action(tell)))
            await begun.wait()
    """,
    "an iterator that is kept": """
        kept = []
        async def main():
            kept.append(aiter(tokens))
            await anext(kept[0])
    """,
    "a stream that is open": """
        kept = []
        async def main():
            opened = await stream.__aenter__()
            kept.append(opened)
            async for _ in opened:
                break
    """,
    "an async generator around it": """
        async def shouted():
            async for token in tokens:
                yield token.upper()
        kept = []
        async def main():
            kept.append(shouted())
            await anext(kept[0])
    """,
    "a body that is cancelled and goes on": """
        async def main():
            begun = asyncio.Event()
            async def read():
                async for token in tokens:
                    begun.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        await asyncio.sleep(0)
            task = asyncio.create_task(read())
            await begun.wait()
    """,
    "what was subscribed to, in with": """
        async def main():
            begun = asyncio.Event()
            loop = asyncio.get_running_loop()
            with tokens as opened:
                opened.subscribe(lambda _: loop.call_soon_threadsafe(begun.set))
                await begun.wait()
    """,
}
PREFACE = """
import asyncio, sys
from reactivex import operators as ops
from rxmistral import Mistral, text
client = Mistral(server_url=sys.argv[1])
stream = client.chat.stream(model="m", messages=[{"role": "user", "content": "Hi"}])
tokens = stream.pipe(text())
"""
RUN = f"""
async def run():
    asyncio.get_running_loop().slow_callback_duration = {BOUND}  # for busy machines
    await main()
asyncio.run(run())
"""


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_asyncio_run_ends_silently_with_unfinished_streams(program: str) -> None:
    code = PREFACE + textwrap.dedent(program) + RUN
    with ScriptedServer([steps.role(), "Hel", steps.hang()]) as server:
        process = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", code, server.url],
            capture_output=True,
            timeout=60,
        )
        assert server.requests[0].wait_closed(BOUND)
    assert (process.returncode, process.stdout, process.stderr) == (0, b"", b"")


def test_run_whose_wait_was_cancelled_does_not_look_complete() -> None:
    with ScriptedServer(["Hel", steps.hang()]) as server, Mistral(server_url=server.url) as client:

        async def main() -> None:
            tokens = aiter(ask(client, "hi").pipe(text()))
            assert await anext(tokens) == "Hel"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(tokens), 0.01)
            with pytest.raises(RuntimeError, match="cancelled"):
                await anext(tokens)

        run(main())


def test_iterator_of_another_event_loop_raises() -> None:
    async def first_of(iterator: Any) -> Any:
        return await anext(iterator)

    with ScriptedServer(lambda _: WHOLE) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="any", messages=[UserMessage(content="Hi")])
        iterator = aiter(stream.pipe(text()))
        assert asyncio.run(first_of(iterator)) == "One,"
        with pytest.raises(RuntimeError, match="begun on another event loop"):
            asyncio.run(first_of(iterator))
