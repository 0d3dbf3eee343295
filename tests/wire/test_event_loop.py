"""The event loop: many responses on one thread, none of which delays another."""

from __future__ import annotations

import gzip
import os
import re
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any

import pytest
from faces import BOUND, Face, eventually
from leftovers import threads_named
from reactivex import from_iterable
from reactivex import operators as ops

from rxmistral import DroppedStreamError, Mistral, UserMessage, text
from rxmistral.chat.event_stream import EventStream
from rxmistral.rx.stream import Stream
from rxmistral.rx.worker import WorkerPool
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.event_loop import EventLoops, _PollingWorker, _SelectorPoller
from rxmistral.wire.reader import Request

pytestmark = pytest.mark.parametrize("reader", ["shared"], indirect=True)

IN_PIECES: Script = [steps.raw(b"data: 1\n\n"), steps.wait(0.2), steps.raw(b"data: 2\n\n")]
BODY = b"data: 1\n\ndata: 2\n\n"
SILENT: Script = [steps.raw(b"data: 1\n\n"), steps.hang()]


@pytest.fixture
def no_task_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents tasks from moving to other threads, which happens on a busy machine."""
    monkeypatch.setattr(EventLoops, "isolate", lambda *_: None)
    monkeypatch.setattr(EventLoops, "displace", lambda *_: None)


def ask(server: ScriptedServer, path: str = "", **options: Any) -> Stream[bytes]:
    return blocks(Request("POST", server.url + path), **options)


def start_iterations(server: ScriptedServer, count: int) -> list[Iterator[bytes]]:
    """Returns iterators, each after its first item."""
    iterators = [iter(ask(server)) for _ in range(count)]
    for each in iterators:
        next(each)
    return iterators


def by_path(**scripts: Script) -> Any:
    return lambda request: scripts[request.path.strip("/")]


# --- one thread ---


def test_reader_threads_end_after_the_first_block(no_task_is_slow: None) -> None:
    with ScriptedServer(lambda _: SILENT) as server:
        iterators = start_iterations(server, 5)
        assert eventually(lambda: not threads_named("rxmistral-reader"))
        assert len(threads_named("rxmistral-event-loop")) == 1
        del iterators
        assert eventually(lambda: not threads_named("rxmistral-event-loop"))


def test_event_loop_is_a_daemon_for_iteration_only(no_task_is_slow: None) -> None:
    with ScriptedServer(lambda _: SILENT) as server:
        iterators = start_iterations(server, 1)
        assert eventually(
            lambda: [t.daemon for t in threads_named("rxmistral-event-loop")] == [True]
        )
        subscription = ask(server).subscribe()
        assert eventually(
            lambda: sorted(t.daemon for t in threads_named("rxmistral-event-loop")) == [False, True]
        )
        subscription.dispose()
        del iterators


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_event_loop_reads_every_framing_to_its_end(framing: Any, read: Face) -> None:
    with ScriptedServer(IN_PIECES, framing=framing) as server:
        assert read(ask(server))[-1] == b"data: 2\n\n"


@pytest.mark.parametrize("framing", ["chunked", "length"])
def test_event_loop_returns_connections_to_the_pool(framing: Any, session: Any, read: Face) -> None:
    with ScriptedServer(lambda _: IN_PIECES, framing=framing) as server:
        for _ in range(3):
            read(ask(server, session=session))
        assert server.connections == 1


def test_event_loop_keeps_its_thread_between_short_tasks() -> None:
    class Short:
        """A task that ends in its first step."""

        worker = None
        paused = False

        def __init__(self) -> None:
            self.stepped_by: SimpleQueue[threading.Thread] = SimpleQueue()
            self.context = copy_context()

        def step(self) -> bool:
            self.stepped_by.put(threading.current_thread())
            return False

    pool: Any = EventLoops(daemon=True)
    threads = set()
    for _ in range(5):
        task = Short()
        pool.schedule(task)
        threads.add(task.stepped_by.get(timeout=BOUND))
        assert eventually(lambda task=task: task.worker is None)
    assert len(threads) == 1


def test_compressed_body_stays_on_the_reader_thread() -> None:
    script: Script = [
        steps.header("Content-Encoding", "gzip"),
        steps.raw(gzip.compress(b"data: 1\n\n")),
        steps.hang(),
    ]
    with ScriptedServer(script) as server:
        iterators = start_iterations(server, 1)
        assert threads_named("rxmistral-reader")
        assert not threads_named("rxmistral-event-loop")
        del iterators


def test_decrypted_tls_data_is_read_without_waiting(server_tls: Any, session: Any) -> None:
    """A TLS record has 16 KB; a descriptor is not readable for data that is decrypted already."""
    pieces = [b"data: " + b"x" * size + b"\n\n" for size in (1, 16_384, 40_000, 200_000)]
    script = [each for piece in pieces for each in (steps.raw(piece), steps.wait(0.01))]
    with ScriptedServer(script, tls=server_tls) as server:
        assert b"".join(ask(server, session=session)) == b"".join(pieces)


class TlsServer:
    """A server of one answer, each piece of which is a TLS record; `end` ends the connection.

    Its client gets the first block when all has been sent, and the connection stays open until the
    client has the end, and has closed it.
    """

    is_left = False

    def __init__(self, context: Any, head: bytes, pieces: list[bytes], end: Any) -> None:
        self._context, self._head, self._pieces, self._end = context, head, pieces, end
        self._all_sent, self._ended = threading.Event(), threading.Event()
        self.blocks: list[bytes] = []
        self.error: Exception | None = None

    def read(self, session: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=self._send, args=(listener,))
            server.start()
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            stream = blocks(Request("POST", url), session=session)
            stream.subscribe(self._receive, self._fail, self._ended.set)
            assert self._ended.wait(BOUND)
            server.join(BOUND)

    def _send(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with self._context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            for piece in (self._head, *self._pieces):
                secure.sendall(piece)
            self._end(secure)
            self._all_sent.set()
            assert self._ended.wait(BOUND)
            secure.settimeout(BOUND)
            self.is_left = not socket.socket.recv(secure, 1)

    def _receive(self, block: bytes) -> None:
        assert self._all_sent.wait(BOUND)
        self.blocks.append(block)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._ended.set()


UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
CHUNKED = UNTIL_CLOSE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
PIECES = [b"data: %d\n\n" % number for number in range(500)]
CHUNKS = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in PIECES]


def close_notify(secure: ssl.SSLSocket) -> None:
    secure.setblocking(False)
    with suppress(ssl.SSLWantReadError):  # the answer of the client
        secure.unwrap()


def invalid_record(secure: ssl.SSLSocket) -> None:
    socket.socket.send(secure, b"no TLS record")


def test_late_reader_reads_many_tls_records_at_once(server_tls: Any, session: Any) -> None:
    server = TlsServer(server_tls, UNTIL_CLOSE, PIECES, close_notify)
    server.read(session)
    assert b"".join(server.blocks) == b"".join(PIECES)
    assert len(server.blocks) < 100


@pytest.mark.parametrize(
    ("head", "pieces", "end", "expected"),
    [
        (UNTIL_CLOSE, PIECES, close_notify, None),
        (CHUNKED, CHUNKS, close_notify, "closed before the end of the body"),
        (CHUNKED, CHUNKS, invalid_record, "(?i)ssl|tls|version"),
    ],
    ids=["end of the body", "too early", "error"],
)
def test_end_of_tls_after_records_is_noticed_at_once(
    head: bytes, pieces: list[bytes], end: Any, expected: str | None, server_tls: Any, session: Any
) -> None:
    server = TlsServer(server_tls, head, pieces, end)
    server.read(session)
    assert b"".join(server.blocks) == b"".join(PIECES)
    if expected is None:
        assert server.error is None
    else:
        assert isinstance(server.error, DroppedStreamError)
        assert re.search(expected, str(server.error))


def test_connection_that_tls_has_ended_is_not_kept(server_tls: Any, session: Any) -> None:
    server = TlsServer(server_tls, CHUNKED, [*CHUNKS, b"0\r\n\r\n"], close_notify)
    server.read(session)
    assert server.error is None
    assert server.is_left


# --- slow and stuck tasks ---


def test_blocked_callback_delays_no_other_task() -> None:
    go_on = threading.Event()
    with ScriptedServer(by_path(slow=IN_PIECES, quick=IN_PIECES)) as server:
        received: list[bytes] = []
        ended = threading.Event()

        def block(value: bytes) -> None:
            if value == b"data: 2\n\n":
                assert go_on.wait(BOUND)
            received.append(value)

        ask(server, "/slow").subscribe(block, on_completed=ended.set)
        assert eventually(lambda: received != [])
        quick: list[bytes] = []
        completed = threading.Event()
        ask(server, "/quick").subscribe(quick.append, on_completed=completed.set)
        assert completed.wait(BOUND)
        assert b"".join(quick) == BODY
        assert len(received) == 1
        go_on.set()
        assert ended.wait(BOUND)
        assert b"".join(received) == BODY


def test_task_with_slow_callback_moves_to_its_own_thread() -> None:
    pieces: Script = [each for _ in range(12) for each in (steps.raw(b": \n\n"), steps.wait(0.02))]
    with ScriptedServer(by_path(slow=[*pieces, steps.hang()], other=SILENT)) as server:
        other = ask(server, "/other").subscribe()
        slow = ask(server, "/slow").subscribe(lambda _: time.sleep(0.02))
        assert eventually(lambda: len(threads_named("rxmistral-event-loop")) == 2)
        assert eventually(lambda: len(threads_named("rxmistral-watchdog")) == 1)
        slow.dispose()
        other.dispose()


def test_tasks_wait_for_a_blocked_one_when_threads_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocked = threading.Event()
    go_on = threading.Event()

    def refuse(self: threading.Thread) -> None:
        go_on.set()
        raise RuntimeError("can't start new thread")

    def block(value: bytes) -> None:
        if value == b"data: 2\n\n":
            monkeypatch.setattr(threading.Thread, "start", refuse)
            blocked.set()
            assert go_on.wait(BOUND)

    later: Script = [steps.raw(b"data: 1\n\n"), steps.hang()]
    with ScriptedServer(by_path(slow=IN_PIECES, other=later)) as server:
        received, completed = threading.Event(), threading.Event()
        other = ask(server, "/other").subscribe(lambda _: received.set())
        assert received.wait(BOUND)
        ask(server, "/slow").subscribe(block, on_completed=completed.set)
        assert blocked.wait(BOUND)
        assert completed.wait(BOUND)
        monkeypatch.undo()
        other.dispose()
        assert server.wait_idle(BOUND)


def test_each_blocked_task_gets_its_own_thread() -> None:
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


def test_operator_may_block_on_another_response() -> None:
    with ScriptedServer(lambda _: IN_PIECES) as server:
        nested = ask(server).pipe(ops.map(lambda value: (value, b"".join(ask(server)))))
        assert list(nested) == [(b"data: 1\n\n", BODY), (b"data: 2\n\n", BODY)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_exception_of_on_completed_ends_no_other_task() -> None:
    with ScriptedServer(by_path(bad=IN_PIECES, long=[*IN_PIECES, steps.wait(0.2)])) as server:
        ended = threading.Event()

        def fail() -> None:
            raise ZeroDivisionError

        ask(server, "/long").subscribe(on_completed=ended.set)
        ask(server, "/bad").subscribe(on_completed=fail)
        assert ended.wait(BOUND)


@pytest.mark.parametrize("missing", ["Thread", "socketpair"])
def test_reader_thread_continues_when_event_loop_cannot_start(
    monkeypatch: pytest.MonkeyPatch, missing: str, read: Face
) -> None:
    def refuse_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    refusing = type("Thread", (threading.Thread,), {"start": refuse_thread})
    replacement = refusing if missing == "Thread" else no_descriptor
    module = WorkerPool if missing == "Thread" else EventLoops
    monkeypatch.setattr(sys.modules[module.__module__], missing, replacement)
    with ScriptedServer(IN_PIECES) as server:
        assert read(ask(server))[-1] == b"data: 2\n\n"
        assert server.wait_idle()


def no_descriptor(*_: Any) -> None:
    raise OSError(24, "Too many open files")


PAUSED_OFTEN: Script = [
    each for _ in range(6) for each in (steps.raw(b"data: 1\n\n"), steps.wait(0.02))
]


def test_slow_task_stays_when_descriptors_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ScriptedServer(lambda _: PAUSED_OFTEN) as server:
        received, ended = threading.Event(), [threading.Event() for _ in range(2)]
        errors: list[Exception] = []
        ask(server).subscribe(lambda _: received.set(), errors.append, ended[0].set)
        assert received.wait(BOUND)
        assert eventually(lambda: len(threads_named("rxmistral-event-loop")) == 1)
        monkeypatch.setattr(sys.modules[EventLoops.__module__], "socketpair", no_descriptor)
        ask(server).subscribe(lambda _: time.sleep(0.02), errors.append, ended[1].set)
        assert all(each.wait(BOUND) for each in ended)
        assert not errors


def test_tasks_leave_a_stuck_one_when_descriptors_are_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused, go_on = threading.Event(), threading.Event()

    def refuse() -> None:
        refused.set()
        no_descriptor()

    def block(value: bytes) -> None:
        if value == b"data: 2\n\n":
            monkeypatch.setattr(sys.modules[EventLoops.__module__], "socketpair", refuse)
            assert go_on.wait(BOUND)

    with ScriptedServer(by_path(stuck=IN_PIECES, quick=15 * PAUSED_OFTEN)) as server:
        received, ended = threading.Event(), [threading.Event() for _ in range(2)]
        ask(server, "/quick").subscribe(lambda _: received.set(), on_completed=ended[0].set)
        assert received.wait(BOUND)
        ask(server, "/stuck").subscribe(block, on_completed=ended[1].set)
        assert refused.wait(BOUND)  # while the quick task continues
        monkeypatch.undo()
        assert ended[0].wait(BOUND)
        go_on.set()
        assert ended[1].wait(BOUND)


class CountedTask:
    """A task that ends after a number of steps."""

    paused = False
    worker: Any = None

    def __init__(self, descriptor: int, steps: int) -> None:
        self.descriptor = descriptor
        self.steps_left = steps
        self.stepped = threading.Semaphore(0)
        self.context = copy_context()
        self.failed: list[BaseException] = []

    def step(self) -> bool:
        self.steps_left -= 1
        self.stepped.release()
        return self.steps_left > 0

    def fileno(self) -> int:
        return self.descriptor

    def remaining(self) -> float:
        return 60.0

    def fail(self, error: BaseException) -> None:
        self.failed.append(error)

    def pause(self) -> None: ...

    def resume(self) -> None: ...


def test_descriptor_of_a_closed_socket_serves_the_next_task() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        event_loop = EventLoops(daemon=True)
        former, later = CountedTask(ours.fileno(), 2), CountedTask(ours.fileno(), 2)
        for task in (former, later):
            event_loop.schedule(task)
            assert task.stepped.acquire(timeout=BOUND)
        assert former.stepped.acquire(timeout=BOUND)  # it checks its socket, which is closed
        peer.send(b"!")
        assert later.stepped.acquire(timeout=BOUND)
        assert not former.failed + later.failed


class OverdueTask(CountedTask):
    """A task whose timeout has expired whenever it is checked; each step then receives a block."""

    def remaining(self) -> float:
        return -1.0


def test_timeout_that_a_block_overtakes_is_checked_again() -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        task = OverdueTask(ours.fileno(), 4)
        EventLoops(daemon=True).schedule(task)
        for _ in range(4):
            assert task.stepped.acquire(timeout=BOUND)
    assert not task.failed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tasks_move_to_another_thread_when_theirs_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    run_once, deaths = _PollingWorker.run_once, iter(range(3))

    def die(self: _PollingWorker, seconds: float | None) -> None:
        run_once(self, seconds)
        if len(self.tasks) == 2 and self.steps and next(deaths, None) is not None:
            raise MemoryError

    monkeypatch.setattr(_PollingWorker, "run_once", die)
    with ScriptedServer(lambda _: PAUSED_OFTEN) as server:
        ended = [threading.Event() for _ in range(2)]
        for each in ended:
            ask(server).subscribe(on_completed=each.set)
        assert all(each.wait(BOUND) for each in ended)
    assert next(deaths, None) is None


def test_answers_are_read_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[EventLoops.__module__], "_Poller", _SelectorPoller)
    with ScriptedServer(lambda _: PAUSED_OFTEN) as server:
        ended = [threading.Event() for _ in range(2)]
        for each in ended:
            ask(server).subscribe(on_completed=each.set)
        assert all(each.wait(BOUND) for each in ended)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tasks_end_with_an_error_when_every_thread_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(_SelectorPoller):
        def poll(self, seconds: float) -> list[tuple[int, int]]:
            if broken.is_set():
                raise OSError(9, "Bad file descriptor")
            return super().poll(0.01)

    broken = threading.Event()
    monkeypatch.setattr(sys.modules[EventLoops.__module__], "_Poller", Broken)
    with ScriptedServer(lambda _: SILENT) as server:
        iterators = start_iterations(server, 3)
        assert eventually(lambda: not threads_named("rxmistral-reader"))
        broken.set()
        for each in iterators:
            with pytest.raises(DroppedStreamError):
                next(each)
        broken.clear()
        iterators = start_iterations(server, 1)
        del iterators


def test_task_with_unwatchable_socket_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Choosy(_SelectorPoller):
        def register(self, descriptor: int, events: int) -> None:
            is_first = not self._selector.get_map()  # the socket that wakes the thread
            if refused and not is_first:
                raise PermissionError(1, "Operation not permitted")
            super().register(descriptor, events)
            if not is_first:
                watched.release()

    refused: list[bool] = []
    watched = threading.Semaphore(0)
    monkeypatch.setattr(sys.modules[EventLoops.__module__], "_Poller", Choosy)
    with ScriptedServer(lambda _: SILENT) as server:
        iterators = start_iterations(server, 1)
        assert watched.acquire(timeout=BOUND)
        refused.append(True)
        with pytest.raises(DroppedStreamError, match="not permitted"):
            list(ask(server))
        refused.clear()
        iterators += start_iterations(server, 1)
        assert eventually(lambda: server.open_connections == 2)
        del iterators


EXHAUSTED = """
    import os, resource, threading
    from rxmistral import MistralError
    number = resource.RLIMIT_NOFILE
    resource.setrlimit(number, ({limit}, resource.getrlimit(number)[1]))
    endings, ended = [], threading.Semaphore(0)
    def end(error=None):
        endings.append(error)
        ended.release()
    for _ in range(60):
        stream.subscribe(lambda _: None, end, end)
    for _ in range(60):
        assert ended.acquire(timeout=20)
    assert all(error is None or isinstance(error, MistralError) for error in endings), endings
    assert None in endings
    print("".join(stream))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
@pytest.mark.parametrize("limit", [16, 21, 28, 40, 64])
def test_every_response_ends_when_descriptors_run_out(limit: int) -> None:
    with ScriptedServer(lambda _: HELLO) as server:
        assert output_of(EXHAUSTED.format(limit=limit), server) == "Hello\n"


# --- backpressure ---


def test_unread_response_delays_no_other_response() -> None:
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


def test_slow_iteration_delays_no_other_and_loses_nothing() -> None:
    numbers = [b"data: %d\n\n" % number for number in range(3000)]
    long: Script = [steps.raw(numbers[0]), steps.wait(0.02), steps.raw(*numbers[1:])]
    with ScriptedServer(by_path(long=long, quick=IN_PIECES)) as server:
        lines = ops.flat_map(lambda block: from_iterable(block.splitlines(keepends=True)))
        slow = iter(ask(server, "/long").pipe(lines))
        received = [next(slow)]
        assert b"".join(ask(server, "/quick")) == BODY
        received += slow
        assert b"".join(received) == b"".join(numbers)


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


def test_script_ending_in_subscribe_prints_the_whole_answer() -> None:
    with ScriptedServer(HELLO) as server:
        assert output_of("stream.subscribe(print)", server).split() == ["Hel", "lo"]


def test_open_iteration_does_not_keep_the_interpreter_alive() -> None:
    with ScriptedServer(["Hel", steps.hang()]) as server:
        assert output_of("loop = iter(stream)\nprint(next(loop))", server).split() == ["Hel"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_reads_on_its_own_thread() -> None:
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


def test_unknown_reader_is_refused() -> None:
    with pytest.raises(ValueError, match="thread, shared"):
        Mistral("key", reader="mine")  # type: ignore[arg-type]
