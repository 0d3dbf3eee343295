"""No thread starts, Ctrl-C in subscribe(), fork: every stream ends, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from faces import BOUND, Face, by_subscribing, eventually
from leftovers import our_threads
from reactivex.observer import AutoDetachObserver

from rxmistral import (
    Limit,
    MemoryLog,
    Mistral,
    RequestError,
    Retry,
    UserMessage,
    coalesced,
    from_async_iterable,
    from_log,
    sentences,
    text,
    to_log,
    until_finished,
)
from rxmistral.chat.event_stream import EventStream
from rxmistral.rx.stream import Stream
from rxmistral.rx.threads import SubscriptionScope, start_thread
from rxmistral.testing import Script, ScriptedServer, steps
from rxmistral.wire.reader import READERS

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

HELLO: Script = ["Hel", steps.wait(0.01), "lo", steps.finish(), steps.done()]


def ask(client: Mistral) -> EventStream:
    return client.chat.stream(model="m", messages=[UserMessage(content="Hi")])


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Prevents threads of this library from starting, after the first `after` threads."""

    def exhaust(after: int = 0) -> None:
        begin, left = threading.Thread.start, [None] * after

        def start(self: threading.Thread) -> None:
            if self.name.startswith("rxmistral-") or isinstance(self, threading.Timer):
                if not left:
                    raise RuntimeError("can't start new thread")
                left.pop()
            begin(self)

        monkeypatch.setattr(threading.Thread, "start", start)

    return exhaust


# --- no thread ---


def test_stream_ends_with_request_error_when_no_thread_starts(
    no_threads: Callable[..., None], read: Face
) -> None:
    with ScriptedServer(lambda _: HELLO) as server, Mistral(server_url=server.url) as client:
        stream = ask(client).pipe(text())
        no_threads()
        received = read(stream)
        assert isinstance(received[-1], RequestError)
        assert "no thread can be started" in str(received[-1])
        assert not server.requests


@pytest.mark.parametrize("count", range(6))
def test_stream_ends_when_threads_run_out(
    no_threads: Callable[..., None], read: Face, count: int
) -> None:
    with ScriptedServer(lambda _: HELLO) as server, Mistral(server_url=server.url) as client:
        pipe = ask(client).pipe(text(), coalesced(0.001), sentences(max_wait=0.5))
        no_threads(after=count)
        *received, last = [each for each in read(pipe) if each is not None]
        assert isinstance(last, RequestError) or "".join([*received, last]) == "Hello"


def test_limit_frees_its_slot_when_no_thread_starts(
    monkeypatch: pytest.MonkeyPatch, no_threads: Callable[..., None], read: Face
) -> None:
    limit = Limit(concurrent=1)
    with (
        ScriptedServer(lambda _: HELLO) as server,
        Mistral(server_url=server.url, limit=limit, retry=Retry(attempts=3)) as client,
    ):
        no_threads()
        assert isinstance(read(ask(client))[-1], RequestError)
        monkeypatch.undo()
        assert "".join(ask(client).pipe(text())) == "Hello"


def test_limit_frees_its_slot_when_no_thread_starts_for_a_retry(
    monkeypatch: pytest.MonkeyPatch, no_threads: Callable[..., None]
) -> None:
    limit = Limit(concurrent=1)
    scripts: list[Script] = [[steps.status(503)], HELLO]
    retry = Retry(attempts=2, initial=0, on_retry=lambda *_: no_threads())
    with (
        ScriptedServer(*scripts) as server,
        Mistral(server_url=server.url, limit=limit, retry=retry) as client,
    ):
        # A loop would have an idle thread, the one that has subscribed.
        error = by_subscribing(ask(client))[-1]
        assert isinstance(error, RequestError)
        assert "no thread" in str(error)
        monkeypatch.undo()
        assert "".join(ask(client).pipe(text())) == "Hello"


async def count_to_two() -> AsyncIterator[str]:
    yield "1"
    yield "2"


def test_other_sources_fail_when_no_thread_starts(
    no_threads: Callable[..., None],
) -> None:
    log = MemoryLog()
    source = Stream.of(from_async_iterable(count_to_two))
    sources: dict[str, Stream[Any]] = {
        "async": source,
        "shared": source.shared(),
        "to log": source.pipe(to_log(log, "run")),
        "from log": from_log(log, "run"),
    }
    no_threads()
    for name, each in sources.items():
        ended: list[Exception] = []
        each.subscribe(on_error=ended.append)
        assert [type(error) for error in ended] == [RequestError], name


def test_until_finished_completes_when_no_timer_starts(no_threads: Callable[..., None]) -> None:
    script: Script = ["Hel", steps.wait(0.05), "lo", steps.finish(), steps.hang()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        received: list[str] = []
        begun, ended = threading.Event(), threading.Event()

        def note(piece: str) -> None:
            received.append(piece)
            begun.set()

        ask(client).pipe(until_finished(), text()).subscribe(note, on_completed=ended.set)
        assert begun.wait(BOUND)
        no_threads()
        assert ended.wait(BOUND)
        assert "".join(received) == "Hello"


def test_opened_answer_is_read_when_no_thread_starts(no_threads: Callable[..., None]) -> None:
    with ScriptedServer(lambda _: HELLO) as server, Mistral(server_url=server.url) as client:
        stream = ask(client)
        assert stream.response.ok
        assert eventually(lambda: len(our_threads()) >= 1)
        no_threads()
        received: list[Any] = []
        ended = threading.Event()
        stream.pipe(text()).subscribe(received.append, received.append, ended.set)
        assert ended.wait(BOUND)
        assert "".join(received) == "Hello"


# --- Ctrl-C ---

INTERRUPTED = """
import signal, sys, threading, time
from rxmistral import Mistral, text
client = Mistral("a-key-of-twenty-letters", server_url=sys.argv[1], reader=sys.argv[2])
hello = [{{"role": "user", "content": "Hi"}}]
begun, rounds = 0.0002, 80

def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
for number in range(rounds):
    answer = client.chat.stream(model="m", messages=hello)
    try:
        with {opened} as stream:
            try:
                signal.setitimer(signal.ITIMER_REAL, begun + number * 3e-5)
                {work}
                time.sleep(1)
            except KeyboardInterrupt:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
print("left", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no such timer")
@pytest.mark.parametrize(
    ("opened", "work"),
    [
        ("answer", "stream.subscribe(lambda _: None)"),
        ("answer", "stream.response"),
        ("answer", "stream.pipe(text()).subscribe(lambda _: None)"),
        ("answer.pipe(text())", "stream.subscribe(lambda _: None)"),
    ],
)
def test_with_block_stops_an_interrupted_subscription(reader: str, opened: str, work: str) -> None:
    with (
        ScriptedServer(lambda _: [steps.headers(), steps.hang()]) as server,
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                INTERRUPTED.format(opened=opened, work=work),
                server.url,
                reader,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b"left\n"
        assert server.wait_idle(BOUND)
        process.kill()


def test_with_block_stops_a_subscription_interrupted_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keep = AutoDetachObserver.set_disposable

    def interrupt(self: Any, value: Any) -> None:
        if isinstance(value, SubscriptionScope):  # the scope of the open Stream
            raise KeyboardInterrupt
        keep(self, value)

    monkeypatch.setattr(AutoDetachObserver, "subscription", property(fset=interrupt))
    with (
        ScriptedServer([steps.headers(), steps.hang()]) as server,
        Mistral(server_url=server.url) as client,
        ask(client).pipe(text()) as stream,
    ):
        with contextlib.suppress(KeyboardInterrupt):
            stream.subscribe()
        gc.collect()
        server.wait_for_requests(1)
        stream.__exit__(None, None, None)
        assert server.wait_idle(BOUND)


def test_start_thread_raises_the_interrupt_hidden_by_its_error() -> None:
    class Interrupted(threading.Thread):
        def start(self) -> None:  # like CPython 3.11 within Condition.wait()
            try:
                raise KeyboardInterrupt
            finally:
                raise RuntimeError("release unlocked lock")

    with pytest.raises(KeyboardInterrupt):
        start_thread(Interrupted())
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:  # an earlier one, already handled
        with pytest.raises(RequestError):
            start_thread(Refusing())


class Refusing(threading.Thread):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


# --- forks ---

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

PROGRAM = """
import faulthandler, os, random, sys, threading, time
import requests
from rxmistral import Limit, Mistral, MistralError, UserMessage, text

URL, READER = sys.argv[1:3]

def connect(**options):
    return Mistral("a-key-of-twenty-letters", server_url=URL, reader=READER, **options)

def ask(client, about="Hi"):
    return client.chat.stream(model="m", messages=[UserMessage(content=about)])

def forked(work):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(20, exit=True)
        try:
            os._exit(0 if work() else 3)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(4)
    return pid

def ended(pids):
    return all(os.waitpid(pid, 0)[1] == 0 for pid in pids)

def sockets():
    found = []
    for each in os.listdir("/dev/fd"):
        try:
            found.append(os.readlink(f"/dev/fd/{each}"))
        except OSError:
            pass
    return [each for each in found if "socket:" in each or "eventpoll" in each]
"""


def run_program(
    reader: str, server: ScriptedServer, program: str, *arguments: str, stdin: Any = None
) -> None:
    code = PROGRAM + textwrap.dedent(program)
    command = [sys.executable, "-c", code, server.url, reader, *arguments]
    subprocess.run(command, check=True, timeout=120, stdin=stdin)


def echo(request: Any) -> Script:
    about = request.json["messages"][0]["content"]
    return [about, steps.wait(0.01), about, steps.finish(), steps.done()]


@forking
@pytest.mark.parametrize("session", ["None", "requests.Session()"])
@pytest.mark.parametrize("tls", [False, True])
def test_parent_and_children_share_no_connection(
    reader: str, tls: bool, session: str, server_tls: Any, authority: Any, tmp_path: Any
) -> None:
    program = f"""
    session = {session}
    if len(sys.argv) > 3 and session is None:
        from rxmistral.wire.session import open_session
        session = open_session()
    if len(sys.argv) > 3:
        session.verify = sys.argv[3]
    client = connect(session=session)
    assert "".join(ask(client, "first").pipe(text())) == "firstfirst"

    def use(name):
        return all("".join(ask(client, name).pipe(text())) == name * 2 for _ in range(6))

    children = [forked(lambda: use(f"child{{number}}")) for number in range(3)]
    assert use("parent")
    assert ended(children)
    """
    certificate = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(certificate))
    with ScriptedServer(echo, tls=server_tls if tls else None) as server:
        run_program(reader, server, program, *([str(certificate)] if tls else []))
        assert server.connections == 4


@forking
def test_children_ask_while_threads_of_the_parent_ask(reader: str) -> None:
    program = """
    limit = Limit(concurrent=3)
    client = connect(limit=limit)
    over = False

    def come_and_go():
        while not over:
            subscription = ask(client).pipe(text()).subscribe()
            time.sleep(random.random() * 0.01)
            subscription.dispose()

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()

    def use():
        return all("".join(ask(each).pipe(text())) == "HiHi" for each in (connect(), client))

    for _ in range(15):
        time.sleep(0.01)
        assert ended([forked(use)])
    over = True
    """
    with ScriptedServer(echo) as server:
        run_program(reader, server, program)


@forking
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_fork_waits_for_threads_that_exit(reader: str) -> None:
    program = """
    from rxmistral.rx.threads import record_thread_exit
    exiting = threading.Event()

    def work():
        record_thread_exit()
        exiting.set()
        time.sleep(0.05)

    thread = threading.Thread(target=work)
    thread.start()
    assert exiting.wait(10)
    path = f"/proc/{os.getpid()}/task/{thread.native_id}"
    assert ended([forked(lambda: not os.path.exists(path))])
    """
    with ScriptedServer() as server:
        run_program(reader, server, program)


@forking
def test_child_has_all_slots_of_an_inherited_limit(reader: str) -> None:
    program = """
    client = connect(limit=Limit(concurrent=1))
    begun = threading.Event()
    first = ask(client, "long").pipe(text()).subscribe(lambda _: begun.set())
    assert begun.wait(10)
    assert ended([forked(lambda: "".join(ask(client).pipe(text())) == "HiHi")])
    first.dispose()
    assert "".join(ask(client).pipe(text())) == "HiHi"
    """
    with ScriptedServer(echo_or_hang) as server:
        run_program(reader, server, program)


def echo_or_hang(request: Any) -> Script:
    script = [*echo(request)]
    return [script[0], steps.hang()] if script[0] == "long" else script


@forking
def test_child_keeps_no_descriptor_and_disturbs_no_answer(reader: str) -> None:
    program = """
    client, other = connect(), connect()
    assert "".join(ask(client).pipe(text())) == "HiHi"  # leaves an idle connection
    loop = iter(ask(client, "slow").pipe(text()))
    opened = ask(client, "slow")
    opened.response
    received = [next(loop)]

    def check():
        left = sockets()
        opened.close()
        loop.close()
        return not left or print(left)

    assert ended([forked(check)])
    assert received + list(loop) == ["slow"] * 2
    assert list(opened.pipe(text())) == ["slow"] * 2
    """

    def slow(request: Any) -> Script:
        head, _, *rest = echo(request)
        return [head, steps.wait(0.5 if head == "slow" else 0), *rest]

    with ScriptedServer(slow) as server:
        run_program(reader, server, program)


@forking
def test_child_cannot_continue_an_answer_but_may_ask_again(reader: str) -> None:
    program = """
    client = connect()
    loop = iter(ask(client, "long").pipe(text()))
    assert next(loop) == "long"
    shared = ask(client, "long").pipe(text()).shared()
    watching = iter(shared)
    assert next(watching) == "long"
    opened = ask(client)
    opened.response
    waiting = ask(client, "late")
    threading.Thread(target=lambda: waiting.response, daemon=True).start()
    sys.stdin.readline()  # it was sent

    def read_on():
        for each in (loop, watching, iter(shared)):
            try:
                print(list(each))
                return False
            except MistralError as error:
                assert "fork" in str(error), error
        return waiting.response.ok and "".join(opened.pipe(text())) == "HiHi"

    assert ended([forked(read_on)])
    assert "".join(opened.pipe(text())) == "HiHi"
    os._exit(0)
    """

    def late(request: Any) -> Script:
        about = request.json["messages"][0]["content"]
        return [steps.hang()] if about == "late" and request.number == 3 else echo_or_hang(request)

    with ScriptedServer(late) as server:
        notifier = threading.Thread(
            target=lambda: server.wait_for_requests(4) and proceed.write(b"\n")
        )
        receive, send = os.pipe()
        with open(send, "wb", buffering=0) as proceed, open(receive, "rb") as signal:
            notifier.start()
            run_program(reader, server, program, stdin=signal)
            notifier.join()
        assert len(server.requests) == 6
