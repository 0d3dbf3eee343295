"""Unusual and invalid HTTP/1.1 responses on a leased connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from typing import Any

import pytest
import requests

from rxmistral import DroppedStreamError, RequestError
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire import blocks

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\n:hi\n\n\r\n"
END = b"0\r\n\r\n"

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(*responses: Serve) -> Iterator[tuple[str, list[bytes]]]:
    """Runs a server that calls one function for each request; yields its URL and the requests."""
    requests_seen: list[bytes] = []
    pending = list(responses)

    def serve(listener: socket.socket) -> None:
        while pending:
            connection, _ = listener.accept()
            with connection:
                while pending and (request := receive_request(connection)):
                    requests_seen.append(request)
                    pending.pop(0)(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", requests_seen
        thread.join(timeout=60)
        assert not thread.is_alive()


def receive_request(connection: socket.socket) -> bytes:
    """Returns one small request with its body; b"" if the peer has closed."""
    request = b""
    while b"\r\n\r\n" not in request or not request.endswith(b"{}"):
        try:
            piece = connection.recv(65536)
        except ConnectionError:
            return b""
        if not piece:
            return b""
        request += piece
    return request


def sending(*pieces: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return serve


def sending_then_close(*pieces: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        sending(*pieces)(connection)
        connection.shutdown(socket.SHUT_WR)

    return serve


def read(url: str, session: requests.Session) -> bytes:
    return b"".join(blocks(requests.Request("POST", url, data=b"{}"), session=session))


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
def test_interim_responses_are_skipped(interim: bytes) -> None:
    first = sending(interim, CHUNKED, b"2\r\n:a\r\n", END)
    second = sending(CHUNKED, b"2\r\n:b\r\n", END)
    with serving(first, second) as (url, seen), requests.Session() as session:
        assert read(url, session) == b":a"
        assert read(url, session) == b":b"  # not the response to the first request
    assert len(seen) == 2


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\n", OK, OK[:-1], CHUNKED[:-2], CHUNKED[:-9]]
)
def test_close_within_the_headers_is_a_request_error(head: bytes) -> None:
    with (
        serving(sending_then_close(head)) as (url, _),
        requests.Session() as session,
        pytest.raises(RequestError),
    ):
        read(url, session)


@pytest.mark.parametrize(
    ("pieces", "count"), [([b"{}"], 1), ([b"-" * 100_000], 2), ([], 1), ([b"-", b"{}"], 4)]
)
def test_request_with_a_small_body_is_one_packet(
    pieces: list[bytes], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    send = HTTPConnection.send

    def record(connection: HTTPConnection, data: bytes) -> None:
        sent.append(data)
        send(connection, data)

    monkeypatch.setattr(HTTPConnection, "send", record)
    body = pieces[0] if len(pieces) == 1 else iter(pieces)
    with ScriptedServer([steps.raw(b":hi\n\n")]) as server:
        list(blocks(requests.Request("POST", server.url, data=body if pieces else None)))
        (request,) = server.requests
    assert len(sent) == count
    assert request.body == b"".join(pieces)


def test_many_chunks_are_read_as_one_block() -> None:
    """One read of the socket for many chunks is what makes reading fast."""
    with serving(sending(CHUNKED + HELLO * 1000 + END)) as (url, _), requests.Session() as session:
        request = requests.Request("POST", url, data=b"{}")
        sizes = [len(block) for block in blocks(request, session=session)]
    assert sum(sizes) == 5000
    assert len(sizes) < 100


def test_short_answer_is_read_by_one_thread() -> None:
    """The second packet arrives while the first one is emitted."""
    emitted, sent, ended = threading.Event(), threading.Event(), threading.Event()
    threads: list[str] = []

    def answer(connection: socket.socket) -> None:
        connection.sendall(CHUNKED + HELLO)
        emitted.wait(60)
        connection.sendall(HELLO + END)
        sent.set()

    def on_next(_: bytes) -> None:
        threads.append(threading.current_thread().name)
        emitted.set()
        sent.wait(60)

    with serving(answer) as (url, _), requests.Session() as session:
        source = blocks(requests.Request("POST", url, data=b"{}"), session=session)
        source.subscribe(on_next, on_completed=ended.set)
        assert ended.wait(60)
    assert threads == ["rxmistral-reader"] * 2


@pytest.mark.parametrize("cut", range(len(HELLO + END)))
def test_truncated_chunked_body_is_an_error_at_any_byte(cut: int) -> None:
    body = (HELLO + END)[:cut]
    with (
        serving(sending_then_close(CHUNKED + body)) as (url, _),
        requests.Session() as session,
        pytest.raises(DroppedStreamError, match="closed before the end of the body"),
    ):
        read(url, session)


def test_data_after_a_body_is_not_the_next_response() -> None:
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
    responses = (sending(CHUNKED + HELLO + END + stray), sending(CHUNKED + HELLO + END))
    with serving(*responses) as (url, _), requests.Session() as session:
        assert read(url, session) == b":hi\n\n"
        assert read(url, session) == b":hi\n\n"


def test_response_closed_late_leaves_the_next_request_alone() -> None:
    """A response closes its connection last, when another request may have it."""
    connections: list[Any] = []
    closed = threading.Event()

    def respond_when_closed(connection: socket.socket) -> None:
        connection.sendall(CHUNKED + HELLO)
        assert closed.wait(60)
        connection.sendall(HELLO + END)

    first = sending(CHUNKED + HELLO + END)
    with serving(first, respond_when_closed) as (url, _), requests.Session() as session:
        request = requests.Request("POST", url, data=b"{}")

        def keep(response: requests.Response) -> None:
            connections.append(response.raw._connection)

        assert list(blocks(request, session=session, on_response=keep)) == [b":hi\n\n"]
        second = iter(blocks(request, session=session))
        assert next(second) == b":hi\n\n"
        connections[0].close()
        closed.set()
        assert list(second) == [b":hi\n\n"]


@pytest.mark.parametrize("reader", ["shared", "thread"], indirect=True)
def test_connection_returned_by_the_program_is_not_used_again() -> None:
    responses: list[requests.Response] = []
    is_released = threading.Event()

    def send_all_when_released(connection: socket.socket) -> None:
        connection.sendall(CHUNKED + HELLO)
        assert is_released.wait(60)
        with suppress(OSError):  # shut down
            connection.sendall(HELLO + END)

    second = sending(CHUNKED + HELLO + END)
    with serving(send_all_when_released, second) as (url, _), requests.Session() as session:
        request = requests.Request("POST", url, data=b"{}")
        answer = iter(blocks(request, session=session, on_response=responses.append))
        assert next(answer) == b":hi\n\n"
        responses[0].raw.release_conn()
        is_released.set()
        with pytest.raises(DroppedStreamError, match="the program closed the response"):
            list(answer)
        assert list(blocks(request, session=session)) == [b":hi\n\n"]


def test_chunk_longer_than_its_size_is_an_error() -> None:
    with (
        serving(sending_then_close(CHUNKED + b"3\r\n:hi there\r\n")) as (url, _),
        requests.Session() as session,
        pytest.raises(DroppedStreamError, match="longer than its stated size"),
    ):
        read(url, session)


def test_response_that_is_not_http_is_quoted() -> None:
    with (
        serving(sending_then_close(b"SSH-2.0-OpenSSH_9\r\n")) as (url, _),
        requests.Session() as session,
        pytest.raises(
            RequestError, match=r"expected HTTP, got 'SSH-2\.0-OpenSSH_9'; check server_url"
        ),
    ):
        read(url, session)
