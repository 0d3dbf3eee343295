"""The reader: its threads and connections, and exactly one terminal for each request."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from faces import BOUND, Face, by_for, eventually
from leftovers import our_threads
from one_request import ANSWER, BODY, RecordingObserver, ask
from reactivex import operators as ops
from reactivex.disposable import SingleAssignmentDisposable
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse

from rxmistral.errors import DroppedStreamError, StatusError
from rxmistral.rx import reused_threads
from rxmistral.rx.stream import Stream
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import READERS, Request
from rxmistral.wire.session import open_session

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)


def test_slow_subscriber_causes_no_timeout() -> None:
    received = []
    with ScriptedServer([steps.raw(BODY[0]), steps.raw(BODY[1])]) as server:
        for block in ask(server, read_timeout=0.5):
            received.append(block)
            threading.Event().wait(0.6)
    assert b"".join(received) == b"".join(BODY)


# --- sessions ---


def test_session_of_the_caller_is_used_and_not_closed() -> None:
    class Counting(HTTPAdapter):
        sent = closed = 0

        def send(self, *args: Any, **kwargs: Any) -> Any:
            self.sent += 1
            return super().send(*args, **kwargs)

        def close(self) -> None:
            self.closed += 1
            super().close()

    adapter = Counting()
    with ScriptedServer(lambda _: ANSWER) as server, requests.Session() as session:
        session.mount("http://", adapter)
        session.headers["X-Mine"] = "yes"
        list(ask(server, session=session))
        assert (adapter.sent, adapter.closed) == (1, 0)
        assert server.requests[0].headers["X-Mine"] == "yes"


def test_dispose_does_not_cancel_the_request_of_a_callback() -> None:
    def play(request: ReceivedRequest) -> Script:
        return [steps.raw(BODY[0]), steps.hang()] if request.path == "/v1" else ANSWER

    with ScriptedServer(play) as server, requests.Session() as session:
        nested = RecordingObserver()

        def on_next(_: bytes) -> None:
            session.get(server.url + "/tool").close()
            nested.on_completed()

        subscription = ask(server, session=session).subscribe(on_next)
        assert nested.ended.wait(BOUND)
        subscription.dispose()
        assert server.requests[0].wait_closed()


def test_adapter_without_urllib3_connections_is_read() -> None:
    class Canned(BaseAdapter):
        def send(self, request: Any, **kwargs: Any) -> requests.Response:
            response = requests.Response()
            response.status_code = 200
            response.request = request
            response.raw = HTTPResponse(io.BytesIO(BODY[0]), preload_content=False)
            return response

        def close(self) -> None:
            pass

    with requests.Session() as session:
        session.mount("http://", Canned())
        assert list(blocks(Request("POST", "http://canned/"), session=session)) == [BODY[0]]


# --- many at once ---


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_silent_servers_delay_no_other_request(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The servers send no headers, or no TLS handshake."""
    monkeypatch.setattr(reused_threads, "_LONGEST_START_SECONDS", 2 * BOUND)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(BOUND)
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/"
        subscriptions = [blocks(Request("POST", url)).subscribe() for _ in range(5)]
        accepted = [listener.accept()[0] for _ in subscriptions]
        assert all(each.recv(1) for each in accepted)
        for subscription in subscriptions:
            subscription.dispose()
        for each in accepted:
            each.close()


# --- exactly one terminal ---


@pytest.mark.parametrize(
    "script",
    [
        ANSWER,
        [steps.status(500)],
        [steps.drop()],
        [*ANSWER, steps.drop()],
        [*ANSWER, steps.hang()],
        [steps.hang()],
        [steps.status(200, body={})],
    ],
)
def test_every_response_has_exactly_one_terminal(script: Script) -> None:
    with ScriptedServer(script) as server:
        observer = RecordingObserver()
        ask(server, read_timeout=0.05).subscribe(observer)
        assert observer.ended.wait(BOUND)
        assert server.wait_idle()
    assert len(observer.terminals) == 1


@contextmanager
def excepthook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """Yields the exceptions that reach `threading.excepthook`."""
    seen: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
        yield seen


def test_exception_of_on_next_reaches_on_error_and_closes() -> None:
    error = ZeroDivisionError("mine")

    def fail(_: bytes) -> None:
        raise error

    with ScriptedServer([*ANSWER, steps.hang()]) as server:
        observer = RecordingObserver()
        ask(server).subscribe(fail, observer.on_error, observer.on_completed)
        assert observer.ended.wait(BOUND)
        assert server.requests[0].wait_closed()
    assert observer.terminals == [error]


def test_exception_of_on_next_reaches_excepthook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = ZeroDivisionError("mine")

    def fail(_: bytes) -> None:
        raise error

    with excepthook(monkeypatch) as seen, ScriptedServer([*ANSWER, steps.hang()]) as server:
        ask(server).subscribe(fail)
        assert eventually(lambda: bool(seen))
        assert server.requests[0].wait_closed()
    assert seen == [error]


def test_unhandled_error_reaches_excepthook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with excepthook(monkeypatch) as seen, ScriptedServer([steps.status(500)]) as server:
        ask(server).subscribe()
        assert eventually(lambda: bool(seen))
    assert [type(error) for error in seen] == [StatusError]


@pytest.mark.parametrize("script", [ANSWER, [steps.status(500)]], ids=["completed", "error"])
def test_exception_of_a_terminal_callback_reaches_excepthook(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        raise ZeroDivisionError

    with excepthook(monkeypatch) as seen, ScriptedServer(script) as server:
        ask(server).subscribe(on_error=fail, on_completed=fail)
        assert eventually(lambda: bool(seen))
        assert server.wait_idle()
    assert [type(error) for error in seen] == [ZeroDivisionError]
    assert calls == [1]


def test_exception_after_dispose_reaches_excepthook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subscribed = threading.Event()
    subscription: Any = None

    def fail(_: bytes) -> None:
        subscribed.wait()
        subscription.dispose()
        raise ZeroDivisionError

    with excepthook(monkeypatch) as seen, ScriptedServer([*ANSWER, steps.hang()]) as server:
        observer = RecordingObserver()
        subscription = ask(server).subscribe(fail, observer.on_error, observer.on_completed)
        subscribed.set()
        assert eventually(lambda: bool(seen))
        assert server.requests[0].wait_closed()
    assert [type(error) for error in seen] == [ZeroDivisionError]
    assert observer.terminals == []


def test_system_exit_of_a_callback_ends_the_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leave(_: bytes) -> None:
        raise SystemExit

    with excepthook(monkeypatch), ScriptedServer([*ANSWER, steps.hang()]) as server:
        stream = ask(server).pipe(ops.do_action(leave))
        observer = RecordingObserver()
        threading.Thread(target=lambda: observer.items.extend(by_for(stream)), daemon=True).start()
        assert eventually(lambda: bool(observer.items))
        assert isinstance(observer.items[0], RuntimeError)
        assert "SystemExit" in str(observer.items[0])
        assert server.requests[0].wait_closed()


def test_generator_exit_of_a_callback_is_an_error(read: Face) -> None:
    def leave(_: bytes) -> None:
        raise GeneratorExit

    with ScriptedServer([*ANSWER, steps.hang()]) as server:
        *_, error = read(ask(server).pipe(ops.do_action(leave)))
        assert isinstance(error, RuntimeError)
        assert "GeneratorExit" in str(error)
        assert server.requests[0].wait_closed()


def test_dispose_in_on_response_closes_the_socket() -> None:
    subscription = SingleAssignmentDisposable()
    with ScriptedServer([steps.headers(), steps.hang()]) as server:
        stream = ask(server, on_response=lambda _: subscription.dispose())
        subscription.disposable = stream.subscribe()
        server.wait_for_requests(1)
        assert server.requests[0].wait_closed()


def test_exception_of_on_response_is_the_error_of_the_stream() -> None:
    def fail(_: requests.Response) -> None:
        raise ZeroDivisionError

    with ScriptedServer(ANSWER) as server:
        with pytest.raises(ZeroDivisionError):
            list(ask(server, on_response=fail))
        assert server.wait_idle()


def test_on_response_is_called_before_the_first_block() -> None:
    seen: list[Any] = []
    with ScriptedServer([steps.header("X-Mine", "yes"), *ANSWER]) as server:
        stream = ask(server, on_response=lambda answer: seen.append(answer.headers["X-Mine"]))
        stream.pipe(ops.do_action(seen.append)).run()
    assert seen[0] == "yes"
    assert b"".join(seen[1:]) == b"".join(BODY)


# --- the program closes the response or the session ---

SILENT: Script = [steps.raw(b"data: one\n\n"), steps.hang()]

CLOSE: dict[str, Callable[[requests.Response], None]] = {
    "response": lambda response: response.close(),
    "raw": lambda response: response.raw.close(),
}


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("close", CLOSE.values(), ids=CLOSE.keys())
@pytest.mark.parametrize("on_own_thread", [True, False])
def test_closed_response_ends_its_stream_and_no_other(
    framing: Any, close: Callable[[requests.Response], None], on_own_thread: bool, session: Any
) -> None:
    with ScriptedServer(lambda _: SILENT, framing=framing) as server:
        others = [RecordingObserver() for _ in range(2)]
        subscriptions = [ask(server, session=session).subscribe(each) for each in others]
        responses: list[requests.Response] = []
        received, closed = threading.Event(), RecordingObserver()

        def on_next(_: bytes) -> None:
            if on_own_thread:
                close(responses[0])
            received.set()

        ask(server, session=session, on_response=responses.append).subscribe(
            on_next, closed.on_error, closed.on_completed
        )
        assert received.wait(BOUND)
        if not on_own_thread:
            close(responses[0])
        assert closed.ended.wait(BOUND)
        (error,) = closed.terminals
        assert isinstance(error, DroppedStreamError)
        assert "the program closed the response" in str(error)
        third = RecordingObserver()
        subscriptions.append(
            ask(server, session=session).subscribe(third)
        )  # may get the same descriptor
        assert eventually(lambda: all(each.items == BODY[:1] for each in (*others, third)))
        assert not any(each.terminals for each in (*others, third))
        for each in subscriptions:
            each.dispose()
        assert server.wait_idle(BOUND)


def test_closed_session_ends_no_stream(read: Face) -> None:
    script: Script = [steps.raw(BODY[0]), steps.wait(0.05), steps.raw(BODY[1])]
    with ScriptedServer(script) as server, open_session() as session:
        stream = ask(server, session=session).pipe(ops.do_action(lambda _: session.close()))
        assert b"".join(filter(None, read(stream))).endswith(BODY[1])
        assert server.wait_idle(BOUND)


def test_response_may_be_closed_after_its_end(session: Any) -> None:
    with ScriptedServer(lambda _: ANSWER) as server:
        responses: list[requests.Response] = []
        for _ in range(3):
            assert b"".join(ask(server, session=session, on_response=responses.append)) == b"".join(
                BODY
            )
            for each in responses:
                each.close()
        assert server.connections == 1


LEAVE: dict[str, Callable[[Stream[bytes]], Stream[Any]]] = {
    "take": lambda stream: stream.pipe(ops.take(1)),
    "take_while": lambda stream: stream.pipe(ops.take_while(lambda _: False)),
    "callback": lambda stream: stream.pipe(ops.map(lambda _: 1 / 0)),
    "timeout": lambda stream: stream,
}


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE.keys())
@pytest.mark.parametrize("tls", [False, True])
def test_close_is_seen_when_another_process_has_the_socket(
    leave: Callable[[Stream[bytes]], Stream[Any]], tls: bool, session: Any, server_tls: Any
) -> None:
    copies: list[int] = []  # as a forked child has them

    def copy(response: requests.Response) -> None:
        copies.append(os.dup(response.raw.connection.sock.fileno()))

    with ScriptedServer(SILENT, tls=server_tls if tls else None) as server:
        ended = threading.Event()
        stream = ask(server, session=session, on_response=copy, read_timeout=0.2)
        leave(stream).subscribe(on_error=lambda _: ended.set(), on_completed=ended.set)
        assert ended.wait(BOUND)
        assert server.requests[0].wait_closed(BOUND)
        os.close(*copies)


@pytest.mark.parametrize("tls", [False, True])
def test_adapter_that_swallows_exceptions_can_be_cancelled(
    tls: bool, session: Any, server_tls: Any
) -> None:
    """Custom adapters often have an `except Exception`."""

    class Stubborn(HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            while True:
                with contextlib.suppress(Exception):
                    return super().send(*args, **kwargs)

    for scheme in ("http://", "https://"):
        session.mount(scheme, Stubborn())
    with ScriptedServer(lambda _: [steps.hang()], tls=server_tls if tls else None) as server:
        subscription = ask(server, session=session).subscribe()
        server.wait_for_requests(1)
        server.close()
        subscription.dispose()
        assert eventually(lambda: not our_threads())
