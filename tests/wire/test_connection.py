"""What http.client makes of an answer that others get wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from rxmistral import DroppedStreamError, RequestError
from rxmistral.wire import blocks

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\n:hi\n\n\r\n"
END = b"0\r\n\r\n"

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(*answers: Serve) -> Iterator[tuple[str, list[bytes]]]:
    """A server that lets a function answer each request, over whatever connection."""
    requests_seen: list[bytes] = []
    left = list(answers)

    def serve(listener: socket.socket) -> None:
        while left:
            connection, _ = listener.accept()
            with connection:
                while left and (request := received(connection)):
                    requests_seen.append(request)
                    left.pop(0)(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", requests_seen
        thread.join(timeout=60)
        assert not thread.is_alive()


def received(connection: socket.socket) -> bytes:
    """One request of a few bytes, with its body; b"" where the peer is gone."""
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


def cutting(*pieces: bytes) -> Serve:
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
def test_an_interim_answer_is_not_the_answer(interim: bytes) -> None:
    first = sending(interim, CHUNKED, b"2\r\n:a\r\n", END)
    second = sending(CHUNKED, b"2\r\n:b\r\n", END)
    with serving(first, second) as (url, seen), requests.Session() as session:
        assert read(url, session) == b":a"
        assert read(url, session) == b":b"  # and not the answer to the first request
    assert len(seen) == 2


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\n", OK, OK[:-1], CHUNKED[:-2], CHUNKED[:-9]]
)
def test_a_connection_that_closes_in_the_headers_brought_no_answer(head: bytes) -> None:
    with (
        serving(cutting(head)) as (url, _),
        requests.Session() as session,
        pytest.raises(RequestError),
    ):
        read(url, session)


def test_many_chunks_are_one_block() -> None:
    """One look at the socket, however many chunks are there; it is what makes it fast."""
    with serving(sending(CHUNKED + HELLO * 1000 + END)) as (url, _), requests.Session() as session:
        request = requests.Request("POST", url, data=b"{}")
        sizes = [len(block) for block in blocks(request, session=session)]
    assert sum(sizes) == 5000
    assert len(sizes) < 100


@pytest.mark.parametrize("cut", range(len(HELLO + END)))
def test_a_chunked_body_that_is_cut_is_told_anywhere(cut: int) -> None:
    body = (HELLO + END)[:cut]
    with (
        serving(cutting(CHUNKED + body)) as (url, _),
        requests.Session() as session,
        pytest.raises(DroppedStreamError, match="closed before the end of the body"),
    ):
        read(url, session)


def test_what_follows_a_body_is_not_the_next_answer() -> None:
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
    answers = (sending(CHUNKED + HELLO + END + stray), sending(CHUNKED + HELLO + END))
    with serving(*answers) as (url, _), requests.Session() as session:
        assert read(url, session) == b":hi\n\n"
        assert read(url, session) == b":hi\n\n"


def test_a_chunk_of_the_wrong_size_is_told() -> None:
    with (
        serving(cutting(CHUNKED + b"3\r\n:hi there\r\n")) as (url, _),
        requests.Session() as session,
        pytest.raises(DroppedStreamError, match="longer than its stated size"),
    ):
        read(url, session)


def test_what_speaks_no_http_is_told_in_words() -> None:
    with (
        serving(cutting(b"SSH-2.0-OpenSSH_9\r\n")) as (url, _),
        requests.Session() as session,
        pytest.raises(
            RequestError, match=r"expected HTTP, got 'SSH-2\.0-OpenSSH_9'; check server_url"
        ),
    ):
        read(url, session)
