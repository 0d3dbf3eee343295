"""One reader for many answers: nobody waits for another, and it leaves nothing behind."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from faces import BOUND, Face, eventually
from reactivex import from_iterable
from reactivex import operators as ops

from rxmistral import Mistral, UserMessage, text
from rxmistral.answer import EventStream
from rxmistral.stream import Stream
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.blocks import Request
from rxmistral.wire.pump import Pump

pytestmark = pytest.mark.parametrize("reader", ["shared"], indirect=True)

IN_PIECES: Script = [steps.raw(b"data: 1\n\n"), steps.wait(0.2), steps.raw(b"data: 2\n\n")]
BODY = b"data: 1\n\ndata: 2\n\n"
SILENT: Script = [steps.raw(b"data: 1\n\n"), steps.hang()]


@pytest.fixture
def nobody_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread of its own for who is taken for slow, as is anybody on a busy machine."""
    monkeypatch.setattr(Pump, "isolate", lambda *_: None)
    monkeypatch.setattr(Pump, "displace", lambda *_: None)


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def ask(server: ScriptedServer, path: str = "", **options: Any) -> Stream[bytes]:
    return blocks(Request("POST", server.url + path), **options)


def opened(server: ScriptedServer, count: int) -> list[Iterator[bytes]]:
    """Loops, each at its first item."""
    loops = [iter(ask(server)) for _ in range(count)]
    for loop in loops:
        next(loop)
    return loops


def by_path(**scripts: Script) -> Any:
    return lambda request: scripts[request.path.strip("/")]


# --- one thread ---


def test_the_thread_that_sent_the_request_ends_with_the_first_block(nobody_is_slow: None) -> None:
    with ScriptedServer(lambda _: SILENT) as server:
        loops = opened(server, 5)
        assert eventually(lambda: not named("rxmistral-reader"))
        assert len(named("rxmistral-pump")) == 1
        del loops
        assert eventually(lambda: not named("rxmistral-pump"))


def test_loops_are_read_by_a_daemon_and_subscriptions_by_none(nobody_is_slow: None) -> None:
    with ScriptedServer(lambda _: SILENT) as server:
        loops = opened(server, 1)
        assert eventually(lambda: [t.daemon for t in named("rxmistral-pump")] == [True])
        subscription = ask(server).subscribe()
        assert eventually(
            lambda: sorted(t.daemon for t in named("rxmistral-pump")) == [False, True]
        )
        subscription.dispose()
        del loops


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_every_framing_comes_whole(framing: Any, read: Face) -> None:
    with ScriptedServer(IN_PIECES, framing=framing) as server:
        assert read(ask(server))[-1] == b"data: 2\n\n"


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_the_connection_serves_the_next_request(framing: Any, session: Any, read: Face) -> None:
    with ScriptedServer(lambda _: IN_PIECES, framing=framing) as server:
        for _ in range(3):
            read(ask(server, session=session))
        assert server.connections == 1


def test_a_compressed_body_stays_with_its_thread() -> None:
    script: Script = [
        steps.header("Content-Encoding", "gzip"),
        steps.raw(gzip.compress(b"data: 1\n\n")),
        steps.hang(),
    ]
    with ScriptedServer(script) as server:
        loops = opened(server, 1)
        assert named("rxmistral-reader")
        assert not named("rxmistral-pump")
        del loops


def test_what_tls_has_decrypted_is_not_left_lying(server_tls: Any, session: Any) -> None:
    """A record holds 16 KB, and a descriptor tells nothing of what was taken from it."""
    pieces = [b"data: " + b"x" * size + b"\n\n" for size in (1, 16_384, 40_000, 200_000)]
    script = [each for piece in pieces for each in (steps.raw(piece), steps.wait(0.01))]
    with ScriptedServer(script, tls=server_tls) as server:
        assert b"".join(ask(server, session=session)) == b"".join(pieces)


# --- who holds it up ---


def test_a_callback_that_blocks_holds_up_nobody_else() -> None:
    go_on = threading.Event()
    with ScriptedServer(by_path(slow=IN_PIECES, quick=IN_PIECES)) as server:
        came: list[bytes] = []
        ended = threading.Event()

        def block(value: bytes) -> None:
            if value == b"data: 2\n\n":
                assert go_on.wait(BOUND)
            came.append(value)

        ask(server, "/slow").subscribe(block, on_completed=ended.set)
        assert eventually(lambda: came != [])
        quick: list[bytes] = []
        over = threading.Event()
        ask(server, "/quick").subscribe(quick.append, on_completed=over.set)
        assert over.wait(BOUND)
        assert b"".join(quick) == BODY
        assert len(came) == 1
        go_on.set()
        assert ended.wait(BOUND)
        assert b"".join(came) == BODY


def test_a_callback_that_is_slow_each_time_gets_a_thread_of_its_own() -> None:
    pieces: Script = [each for _ in range(4) for each in (steps.raw(b": \n\n"), steps.wait(0.01))]
    with ScriptedServer(by_path(slow=[*pieces, steps.hang()], other=SILENT)) as server:
        other = ask(server, "/other").subscribe()
        slow = ask(server, "/slow").subscribe(lambda _: time.sleep(0.02))
        assert eventually(lambda: len(named("rxmistral-pump")) == 2)
        assert eventually(lambda: len(named("rxmistral-guard")) == 1)
        slow.dispose()
        other.dispose()


def test_where_no_thread_can_be_started_who_blocks_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocked = threading.Event()
    go_on = threading.Event()

    def refuse(self: threading.Thread) -> None:
        go_on.set()
        raise RuntimeError("can't start new thread")

    def block(value: bytes) -> None:
        if value == b"data: 2\n\n":
            monkeypatch.setattr(sys.modules[Pump.__module__].Thread, "start", refuse)
            blocked.set()
            assert go_on.wait(BOUND)

    later: Script = [steps.raw(b"data: 1\n\n"), steps.hang()]
    with ScriptedServer(by_path(slow=IN_PIECES, other=later)) as server:
        came, over = threading.Event(), threading.Event()
        other = ask(server, "/other").subscribe(lambda _: came.set())
        assert came.wait(BOUND)
        ask(server, "/slow").subscribe(block, on_completed=over.set)
        assert blocked.wait(BOUND)
        assert over.wait(BOUND)
        monkeypatch.undo()
        other.dispose()
        assert server.wait_idle(BOUND)


def test_many_that_block_each_have_a_thread_in_the_end() -> None:
    count = 5
    meeting = threading.Barrier(count)  # all are in a callback at the same time
    with ScriptedServer(lambda _: IN_PIECES) as server:
        ended = [threading.Event() for _ in range(count)]

        def meet(value: bytes) -> None:
            if value.endswith(b"data: 2\n\n"):
                meeting.wait(BOUND)

        for each in ended:
            ask(server).subscribe(meet, on_completed=each.set)
        assert all(each.wait(BOUND) for each in ended)


def test_an_operator_may_wait_for_another_answer() -> None:
    with ScriptedServer(lambda _: IN_PIECES) as server:
        nested = ask(server).pipe(ops.map(lambda value: (value, b"".join(ask(server)))))
        assert list(nested) == [(b"data: 1\n\n", BODY), (b"data: 2\n\n", BODY)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_a_callback_raises_at_the_end_is_shown_and_ends_nobody_else() -> None:
    with ScriptedServer(by_path(bad=IN_PIECES, long=[*IN_PIECES, steps.wait(0.2)])) as server:
        ended = threading.Event()

        def fail() -> None:
            raise ZeroDivisionError

        ask(server, "/long").subscribe(on_completed=ended.set)
        ask(server, "/bad").subscribe(on_completed=fail)
        assert ended.wait(BOUND)


def test_where_no_thread_can_be_started_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, read: Face
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    module = sys.modules[Pump.__module__]
    monkeypatch.setattr(module, "Thread", type("Thread", (threading.Thread,), {"start": refuse}))
    with ScriptedServer(SILENT) as server:
        came = read(ask(server))
        assert isinstance(came[-1], RuntimeError)
        assert server.wait_idle()


# --- backpressure ---


def test_an_answer_that_waits_to_be_read_lets_others_pass() -> None:
    head = steps.raw(b": the headers, and nothing to hold back\n\n")
    script: Script = [head, steps.wait(0.02), "Hel", steps.wait(0.02), "lo", steps.finish()]
    with ScriptedServer(lambda _: script) as server, Mistral(server_url=server.url) as client:
        waiting = chat(client)
        assert waiting.response.status_code == 200
        assert "".join(chat(client).pipe(text())) == "Hello"
        assert "".join(waiting.pipe(text())) == "Hello"
        assert len(server.requests) == 2


def chat(client: Mistral) -> EventStream:
    return client.chat.stream(model="m", messages=[UserMessage(content="Hi")])


def test_a_loop_that_is_slow_lets_others_pass_and_loses_nothing() -> None:
    numbers = [b"data: %d\n\n" % number for number in range(3000)]
    long: Script = [steps.raw(numbers[0]), steps.wait(0.02), steps.raw(*numbers[1:])]
    with ScriptedServer(by_path(long=long, quick=IN_PIECES)) as server:
        lines = ops.flat_map(lambda block: from_iterable(block.splitlines(keepends=True)))
        slow = iter(ask(server, "/long").pipe(lines))
        came = [next(slow)]
        assert b"".join(ask(server, "/quick")) == BODY
        came += slow
        assert b"".join(came) == b"".join(numbers)


# --- the interpreter ---

SCRIPT = """
    from rxmistral import Mistral, UserMessage, text
    client = Mistral(server_url={url!r}, reader="shared")
    stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")]).pipe(text())
"""


def output_of(script: str, server: ScriptedServer) -> str:
    code = textwrap.dedent(SCRIPT).format(url=server.url) + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=BOUND
    ).stdout


HELLO: Script = ["Hel", steps.wait(0.1), "lo", steps.wait(0.1), steps.finish(), steps.done()]


def test_a_script_that_ends_in_subscribe_prints_the_whole_answer() -> None:
    with ScriptedServer(HELLO) as server:
        assert output_of("stream.subscribe(print)", server).split() == ["Hel", "lo"]


def test_a_loop_that_is_left_open_does_not_keep_the_interpreter() -> None:
    with ScriptedServer(["Hel", steps.hang()]) as server:
        assert output_of("loop = iter(stream)\nprint(next(loop))", server).split() == ["Hel"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_child_of_a_fork_reads_with_a_thread_of_its_own() -> None:
    script = """
    import os
    loop = iter(stream)
    print(next(loop), flush=True)
    if os.fork() == 0:
        print("".join(stream), flush=True)
        os._exit(0)
    os.wait()
    print("".join(loop))
    """
    with ScriptedServer(lambda _: HELLO) as server:
        assert output_of(script, server).split() == ["Hel", "Hello", "lo"]


def test_a_reader_has_one_of_two_names() -> None:
    with pytest.raises(ValueError, match="thread, shared"):
        Mistral("key", reader="mine")  # type: ignore[arg-type]
