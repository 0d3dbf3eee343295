"""Requests without a response: which error they raise, and what it says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from one_request import ANSWER, ask, error_of

from rxmistral.errors import RequestError, RequestTimeoutError
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import READERS, Request

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)


@pytest.mark.parametrize("ending", [steps.drop(), steps.abort()])
def test_close_before_the_headers_is_a_request_error(ending: Any) -> None:
    error = error_of(ending)
    assert isinstance(error, RequestError)
    assert not isinstance(error, RequestTimeoutError)


def test_refused_connection_is_a_request_error() -> None:
    with ScriptedServer() as server:
        url = server.url
    with pytest.raises(RequestError, match="refused") as raised:
        list(blocks(Request("POST", url)))
    assert (raised.value.host, raised.value.proxy) == (url.removeprefix("http://"), None)
    assert raised.value.host in str(raised.value)
    assert not raised.value.is_permanent


@pytest.mark.parametrize(
    "url", ["http://nowhere.invalid/", "nothing://x", "http://", "no url at all", "http://*/"]
)
def test_invalid_address_is_a_permanent_request_error(url: str) -> None:
    with pytest.raises(RequestError) as raised:
        list(blocks(Request("POST", url)))
    assert raised.value.is_permanent


@pytest.mark.parametrize(
    ("errno", "permanent"), [(socket.EAI_NONAME, True), (socket.EAI_AGAIN, False)]
)
def test_host_that_does_not_resolve_is_named(
    errno: int, permanent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise socket.gaierror(errno, "not known")

    with pytest.raises(RequestError) as raised, monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fail)
        list(blocks(Request("POST", "http://me:secret@nowhere.example:81/")))
    error = raised.value
    assert (error.host, error.is_permanent) == ("nowhere.example:81", permanent)
    assert str(error).startswith("no answer from nowhere.example:81: ")
    assert "not known" in str(error)
    assert "secret" not in repr(error)


def test_server_that_is_not_http_is_a_request_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(RequestError):
            list(blocks(Request("POST", f"http://127.0.0.1:{listener.getsockname()[1]}")))
        thread.join()


def test_untrusted_certificate_is_a_permanent_error(server_tls: Any) -> None:
    with (
        ScriptedServer(tls=server_tls) as server,
        pytest.raises(RequestError, match="certificate verify failed") as raised,
    ):
        list(ask(server))
    assert raised.value.host == server.url.removeprefix("https://")
    assert raised.value.is_permanent
    assert "REQUESTS_CA_BUNDLE" in str(raised.value)


def test_missing_certificate_file_is_a_permanent_error(server_tls: Any) -> None:
    with ScriptedServer(tls=server_tls) as server, requests.Session() as session:
        session.verify = "/no/such/file.pem"
        with pytest.raises(RequestError, match="no/such/file") as raised:
            list(ask(server, session=session))
    assert raised.value.is_permanent


def test_server_without_tls_is_named() -> None:
    with ScriptedServer(lambda _: ANSWER) as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(RequestError) as raised:
            list(blocks(Request("POST", url), connect_timeout=0.5))
        server.requests.clear()
    assert raised.value.host in str(raised.value)


@contextmanager
def full_backlog() -> Iterator[int]:
    """Yields a port that accepts no more connections."""
    listener = socket.socket()
    waiting = []
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        try:
            for _ in range(8):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
                waiting.append(client)
            yield listener.getsockname()[1]
        finally:
            for client in waiting:
                client.close()


def test_connection_not_accepted_in_time_is_a_timeout() -> None:
    with full_backlog() as port, pytest.raises(RequestTimeoutError) as raised:
        list(blocks(Request("POST", f"http://127.0.0.1:{port}"), connect_timeout=0.1))
    assert (raised.value.clock, raised.value.seconds) == ("connect", 0.1)


def test_unanswered_tls_handshake_is_a_connect_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RequestTimeoutError) as raised:
            list(blocks(Request("POST", url), connect_timeout=0.1))
    assert (raised.value.clock, raised.value.seconds) == ("connect", 0.1)


def test_missing_headers_are_a_timeout() -> None:
    error = error_of(steps.hang(), read_timeout=0.1)
    assert isinstance(error, RequestTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.clock, error.seconds) == ("gap", 0.1)
