"""Cancellation: leaving early closes the socket at once, from any thread and in any phase."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from faces import BOUND, eventually, run
from reactivex import operators as ops

from rxmistral import Mistral, StatusError, UserMessage, text
from rxmistral.chat.event_stream import EventStream, EventStreamAsync
from rxmistral.rx.live_subscriptions import _live_lock as _tracking
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.connection import lease_lock
from rxmistral.wire.reader import READERS, Request

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

PHASES: dict[str, Script] = {
    "before the headers": [steps.hang()],
    "after the headers": [steps.headers(), steps.hang()],
    "in the middle": [steps.role(), "Hel", steps.hang()],
}


class Call:
    """One call to a server that is silent from a certain phase on."""

    def __init__(self, client: Mistral, server: ScriptedServer, phase: str) -> None:
        self.client = client
        self.server = server
        self.phase = phase
        self.count = len(server.requests) + 1
        self.at_phase = threading.Event()

    def ask(self) -> EventStream:
        return self.client.chat.stream(model="m", messages=[UserMessage(content="Hi")])

    def ask_async(self) -> EventStreamAsync:
        return self.client.chat.stream_async(model="m", messages=[UserMessage(content="Hi")])

    def begun(self, *_: Any) -> None:
        """Notes the first item, after which the server is silent; a callback."""
        self.at_phase.set()

    def wait(self) -> ReceivedRequest:
        """Waits until the call is in its phase; returns its request."""
        request = self.server.wait_for_requests(self.count)[-1]
        if self.phase == "in the middle":
            assert self.at_phase.wait(BOUND)
        return request

    def closed(self) -> bool:
        return self.server.wait_for_requests(self.count)[self.count - 1].wait_closed(BOUND)


def in_background(target: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def joined(thread: threading.Thread) -> bool:
    thread.join(BOUND)
    return not thread.is_alive()


# --- the ways to leave, and the phases in which each is possible ---


def dispose_from_another_thread(call: Call) -> None:
    subscription = call.ask().subscribe(call.begun)
    call.wait()
    thread = in_background(subscription.dispose)
    assert joined(thread)


def close_from_another_thread(call: Call) -> None:
    stream = call.ask()

    def loop() -> None:
        for _ in stream.pipe(text()):
            call.begun()

    thread = in_background(loop)
    call.wait()
    stream.close()
    assert joined(thread)


def leave_with_after_subscribe(call: Call) -> None:
    with call.ask() as stream:
        stream.subscribe(call.begun)
        call.wait()


def close_after_opening(call: Call) -> None:
    stream = call.ask()
    opening = in_background(lambda: suppressed(lambda: stream.response))
    if call.phase == "in the middle":
        assert joined(opening)  # the items stay in the stream
        call.begun()
    call.wait()
    stream.close()
    assert joined(opening)


def suppressed(work: Callable[[], Any]) -> None:
    with contextlib.suppress(RuntimeError):  # closed before the headers
        work()


def cancel_a_task(call: Call) -> None:
    async def read() -> None:
        async for _ in call.ask_async():
            call.begun()

    run(cancelling(call, read))


def cancel_a_task_in_async_with(call: Call) -> None:
    async def read() -> None:
        async with call.ask_async() as stream:
            async for _ in stream:
                call.begun()

    run(cancelling(call, read))


def cancel_a_task_that_awaits_the_last(call: Call) -> None:
    async def read() -> None:
        await call.ask().pipe(ops.do_action(call.begun))

    run(cancelling(call, read))


async def cancelling(call: Call, read: Callable[[], Any]) -> None:
    task = asyncio.create_task(read())
    await asyncio.to_thread(call.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(call.closed)


def time_out(call: Call) -> None:
    async def expire(clock: asyncio.Timeout) -> None:
        await asyncio.to_thread(call.wait)
        clock.reschedule(asyncio.get_running_loop().time())

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as clock:
                expiring = asyncio.create_task(expire(clock))
                async for _ in call.ask_async():
                    call.begun()
        await expiring
        assert await asyncio.to_thread(call.closed)

    run(main())


def dispose_inside_a_callback(call: Call) -> None:
    subscribed = threading.Event()
    subscription: Any = None

    def leave(_: Any) -> None:
        subscribed.wait()
        subscription.dispose()

    subscription = call.ask().subscribe(leave)
    subscribed.set()


def take_one(call: Call) -> None:
    assert len(list(call.ask().pipe(ops.take(1)))) == 1


def take_one_by_subscribing(call: Call) -> None:
    ended = threading.Event()
    call.ask().pipe(ops.take(1)).subscribe(on_completed=ended.set)
    assert ended.wait(BOUND)


def break_out(call: Call) -> None:
    for _ in call.ask():
        break


def raise_in_the_body(call: Call) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in call.ask():
            raise ZeroDivisionError


def leave_with(call: Call) -> None:
    with call.ask() as stream:
        for _ in stream:
            break


def leave_with_by_an_exception(call: Call) -> None:
    with pytest.raises(ZeroDivisionError), call.ask() as stream:
        for _ in stream.pipe(text()):
            raise ZeroDivisionError


def drop_the_iterator(call: Call) -> None:
    iterator = iter(call.ask())
    next(iterator)
    del iterator


def collect_the_iterator(call: Call) -> None:
    iterator = iter(call.ask())
    next(iterator)
    cycle = [iterator]
    cycle.append(cycle)  # type: ignore[arg-type]
    del iterator, cycle
    gc.collect()


def break_out_of_async_for(call: Call) -> None:
    async def main() -> None:
        async for _ in call.ask_async():
            break
        assert await asyncio.to_thread(call.closed)

    run(main())


def leave_async_with(call: Call) -> None:
    async def main() -> None:
        async with call.ask_async() as stream:
            async for _ in stream.pipe(text()):
                break
        assert await asyncio.to_thread(call.closed)

    run(main())


def drop_the_async_iterator(call: Call) -> None:
    async def main() -> None:
        iterator = aiter(call.ask_async())
        await anext(iterator)
        del iterator
        assert await asyncio.to_thread(call.closed)

    run(main())


def raise_in_a_callback(call: Call) -> None:
    ended = threading.Event()

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    call.ask().subscribe(fail, lambda _: ended.set())
    assert ended.wait(BOUND)


AT_ANY_PHASE = [
    dispose_from_another_thread,
    close_from_another_thread,
    leave_with_after_subscribe,
    close_after_opening,
    cancel_a_task,
    cancel_a_task_in_async_with,
    cancel_a_task_that_awaits_the_last,
    time_out,
]
WITH_AN_ITEM = [
    dispose_inside_a_callback,
    take_one,
    take_one_by_subscribing,
    break_out,
    raise_in_the_body,
    leave_with,
    leave_with_by_an_exception,
    drop_the_iterator,
    collect_the_iterator,
    break_out_of_async_for,
    leave_async_with,
    drop_the_async_iterator,
    raise_in_a_callback,
]
CELLS = [(phase, leave) for phase in PHASES for leave in AT_ANY_PHASE] + [
    ("in the middle", leave) for leave in WITH_AN_ITEM
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize(
    ("phase", "leave"), CELLS, ids=[f"{phase}-{leave.__name__}" for phase, leave in CELLS]
)
def test_leaving_closes_the_socket(
    phase: str, leave: Callable[[Call], None], tls: bool, server_tls: Any, session: Any
) -> None:
    with (
        ScriptedServer(lambda _: PHASES[phase], tls=server_tls if tls else None) as server,
        Mistral("key", server_url=server.url, session=session) as client,
    ):
        call = Call(client, server, phase)
        leave(call)
        assert call.closed()
        assert len(server.requests) == 1


def test_dispose_closes_the_socket_during_a_callback() -> None:
    began, go_on = threading.Event(), threading.Event()

    def on_next(_: Any) -> None:
        began.set()
        go_on.wait()

    with ScriptedServer([steps.raw(b"data: 1\n\n"), steps.hang()]) as server:
        subscription = blocks(Request("POST", server.url)).subscribe(on_next)
        assert began.wait(BOUND)
        subscription.dispose()
        assert server.requests[0].wait_closed()
        go_on.set()


@pytest.mark.parametrize("lock", [lease_lock, _tracking], ids=["lease", "tracking"])
def test_garbage_collection_under_a_lock_does_not_deadlock(lock: Any) -> None:
    with (
        ScriptedServer(PHASES["in the middle"]) as server,
        Mistral(server_url=server.url) as client,
    ):
        stream = Call(client, server, "in the middle").ask()

        def collect() -> None:
            iterator = iter(stream)
            next(iterator)
            with lock:
                del iterator
                stream.close()

        assert joined(in_background(collect))
        assert server.requests[0].wait_closed()


def test_no_item_is_emitted_after_dispose_returned() -> None:
    for _ in range(30):
        with ScriptedServer([steps.text(*"x" * 2000), steps.finish(), steps.done()]) as server:
            began, disposed, late = threading.Event(), threading.Event(), []

            def on_next(
                _: Any, began: Any = began, disposed: Any = disposed, late: Any = late
            ) -> None:
                began.set()
                if disposed.is_set():
                    late.append(1)

            subscription = blocks(Request("POST", server.url)).subscribe(on_next)
            assert began.wait(BOUND)
            subscription.dispose()
            disposed.set()
            assert server.wait_idle()
            assert len(late) <= 1  # the one whose callback had been called


def test_dispose_while_connecting_does_not_wait_for_the_thread() -> None:
    listener = socket.socket()
    waiting = []
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended: list[Any] = []
        subscription = blocks(Request("POST", url), connect_timeout=2.0).subscribe(
            on_error=ended.append, on_completed=lambda: ended.append(None)
        )
        readers = [t for t in threading.enumerate() if t.name == "rxmistral-reader"]
        assert len(readers) == 1
        subscription.dispose()
        assert readers[0].is_alive()  # dispose() has not waited for it
        assert joined(readers[0])
        assert ended == []
        for client in waiting:
            client.close()


# --- nothing is left behind ---


def growth(work: Callable[[], None]) -> dict[str, int]:
    """Returns by how much the numbers of threads and descriptors have grown."""

    def count() -> dict[str, int]:
        return {
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/dev/fd")),
        }

    def more() -> dict[str, int]:
        return {key: now - before[key] for key, now in count().items() if now > before[key]}

    before = count()
    work()
    eventually(lambda: not more())
    return more()


def test_500_calls_cancelled_at_random_leave_nothing_behind() -> None:
    dice = random.Random(7)
    pause = threading.Event()

    def play(request: ReceivedRequest) -> Script:
        return PHASES[dice.choice(list(PHASES))]

    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:

        def work() -> None:
            for number in range(500):
                stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
                subscription = stream.subscribe()
                if number % 2:
                    pause.wait(dice.random() * 0.003)
                subscription.dispose()
            assert server.wait_idle(BOUND)

        work()
        assert growth(work) == {}


def test_50_concurrent_calls_are_cancelled_at_once() -> None:
    with (
        ScriptedServer(lambda _: PHASES["before the headers"]) as server,
        Mistral(server_url=server.url) as client,
    ):
        stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        subscriptions = [stream.subscribe() for _ in range(50)]
        server.wait_for_requests(50)
        for subscription in subscriptions:
            subscription.dispose()
        assert server.wait_idle(BOUND)


def test_50_concurrent_tasks_are_cancelled_at_once() -> None:
    async def main(server: ScriptedServer, client: Mistral) -> None:
        async def read() -> None:
            stream = client.chat.stream_async(model="m", messages=[UserMessage(content="Hi")])
            async with stream:
                async for _ in stream:
                    pass

        tasks = [asyncio.create_task(read()) for _ in range(50)]
        await asyncio.to_thread(server.wait_for_requests, 50)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert await asyncio.to_thread(server.wait_idle, BOUND)

    with (
        ScriptedServer(lambda _: PHASES["in the middle"]) as server,
        Mistral(server_url=server.url) as client,
    ):
        run(main(server, client))


def test_500_refusals_use_one_connection_and_leave_nothing() -> None:
    refusal = [steps.status(429, body={"message": "slow down"})]
    with ScriptedServer(lambda _: refusal) as server, Mistral(server_url=server.url) as client:

        def work() -> None:
            for _ in range(250):
                stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
                with pytest.raises(StatusError):
                    list(stream)

        work()
        assert growth(work) == {}
        assert server.connections == 1


# --- cancelling at the natural end ---

WHOLE: Script = [steps.role(), *"0123456789", steps.finish(), steps.done()]


def test_cancel_at_the_natural_end_emits_one_terminal_at_most() -> None:
    dice = random.Random(11)
    pause = threading.Event()
    with ScriptedServer(lambda _: WHOLE) as server, Mistral(server_url=server.url) as client:
        terminals: list[int] = []
        durations: list[float] = []
        for _ in range(5):
            began = time.monotonic()
            client.chat.stream(model="m", messages=[UserMessage(content="Hi")]).run()
            durations.append(time.monotonic() - began)
        for _ in range(300):
            count: list[Any] = []
            stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
            subscription = stream.subscribe(
                on_error=count.append, on_completed=lambda count=count: count.append(None)
            )
            pause.wait(dice.random() * 2 * min(durations))
            subscription.dispose()
            terminals.append(len(count))
            assert [error for error in count if error is not None] == []
        assert set(terminals) == {0, 1}, "the moments were not spread around the end"


def cancel_near_the_end(ask: Callable[[], EventStream], stop: threading.Event, seed: int) -> None:
    dice = random.Random(seed)
    while not stop.is_set():
        seen, near_the_end = threading.Event(), dice.choice("89")

        def on_next(piece: str, seen: Any = seen, near_the_end: str = near_the_end) -> None:
            if piece == near_the_end:
                seen.set()

        subscription = ask().pipe(text()).subscribe(on_next)
        seen.wait(BOUND)
        stop.wait(dice.random() * 0.0005)
        subscription.dispose()


def test_cancelled_stream_breaks_no_other_of_its_client() -> None:
    stop = threading.Event()
    texts: list[Any] = []
    with ScriptedServer(lambda _: WHOLE) as server, Mistral(server_url=server.url) as client:

        def ask() -> EventStream:
            return client.chat.stream(model="m", messages=[UserMessage(content="Hi")])

        def read() -> None:
            for _ in range(150):
                try:
                    texts.append("".join(ask().pipe(text())))
                except Exception as error:
                    texts.append(error)

        cancelling = [
            in_background(lambda seed=seed: cancel_near_the_end(ask, stop, seed))
            for seed in range(3)
        ]
        reading = [in_background(read) for _ in range(2)]
        assert all(joined(thread) for thread in reading)
        stop.set()
        assert all(joined(thread) for thread in cancelling)
        assert server.connections < len(server.requests), "no connection was used again"
    assert texts == ["0123456789"] * 300


# --- Ctrl-C ---

PROGRAMS = {
    "for": """
        for chunk in stream:
            print("begun", flush=True)
    """,
    "for over a pipe in with": """
        with stream as opened:
            for piece in opened.pipe(text()):
                print("begun", flush=True)
    """,
    "run": """
        stream.pipe(ops.do_action(lambda _: print("begun", flush=True))).run()
    """,
    "async for": """
        async def main():
            async for chunk in stream:
                print("begun", flush=True)
        asyncio.run(main())
    """,
    "async with": """
        async def main():
            async with client.chat.stream_async(model="m", messages=hello) as opened:
                async for chunk in opened:
                    print("begun", flush=True)
        asyncio.run(main())
    """,
    "await": """
        async def main():
            await stream.pipe(ops.do_action(lambda _: print("begun", flush=True)))
        asyncio.run(main())
    """,
    "subscribe in with, and wait": """
        with stream as opened:
            begun = threading.Event()
            opened.subscribe(lambda _: begun.set())
            print("subscribed", flush=True)
            while not begun.wait(0.1): pass
            print("begun", flush=True)
            while True: time.sleep(0.1)
    """,
    "response": """
        assert stream.response
        print("begun", flush=True)
        while True: time.sleep(0.1)
    """,
}
# A wait of Python misses a Ctrl-C at the moment at which it begins: those above are short.
PREFACE = """
import asyncio, sys, threading, time
from reactivex import operators as ops
from rxmistral import Mistral, text
hello = [{"role": "user", "content": "Hi"}]
client = Mistral(server_url=sys.argv[1])
stream = client.chat.stream(model="m", messages=hello)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one process there")
@pytest.mark.parametrize("phase", ["before the headers", "in the middle"])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_ctrl_c_ends_the_program_and_closes_the_socket(program: str, phase: str) -> None:
    if phase == "before the headers" and "response" in program:
        program = "stream.response"
    script: Script = [steps.role(), "Hel", steps.hang()]
    with ScriptedServer(PHASES[phase] if phase == "before the headers" else script) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", PREFACE + textwrap.dedent(program), server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:
            (request,) = server.wait_for_requests(1, timeout=60)
            assert process.stdout is not None
            if "subscribed" in program:  # not while it is subscribing
                assert process.stdout.readline() == b"subscribed\n"
            if phase == "in the middle":
                assert process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGINT)
            closed = request.wait_closed(BOUND)
            if not closed:
                process.kill()
            _, error = process.communicate(timeout=60)
    assert closed
    assert process.returncode == -signal.SIGINT
    assert error.strip().endswith(b"KeyboardInterrupt")


def test_dispose_during_the_tls_handshake_closes_the_socket() -> None:
    """The server has accepted the connection, but does not answer the ClientHello."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with Mistral("k" * 20, server_url=url) as client:
            stream = client.chat.stream(model="m", messages=[{"role": "user", "content": "?"}])
            subscription = stream.subscribe()
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(BOUND)
                assert peer.recv(65536)  # the ClientHello
                subscription.dispose()
                assert peer.recv(65536) == b""
