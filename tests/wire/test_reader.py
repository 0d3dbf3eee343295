"""The reader: every ending of a request, each told as what it was, exactly once."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import certifi
import pytest
import requests
from faces import BOUND, Face, by_for, eventually
from leftovers import our_threads
from reactivex import operators as ops
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse

from rxmistral.errors import (
    DroppedStreamError,
    MistralError,
    ProtocolError,
    RequestError,
    RequestTimeoutError,
    StatusError,
    StreamTimeoutError,
)
from rxmistral.rx.stream import Stream
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import READERS, Request
from rxmistral.wire.sender import post
from rxmistral.wire.session import open_session

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

BODY = [b"data: one\n\n", b"data: two\n\n"]
ANSWER: Script = [steps.raw(*BODY)]
KEY = "sk-3141592653589793"


def ask(server: ScriptedServer, **options: Any) -> Stream[bytes]:
    return blocks(post(server.url + "/v1", {}, b'{"q":1}', f"Bearer {KEY}"), **options)


def body_of(*script: Any, **framing: Any) -> bytes:
    with ScriptedServer(script, **framing) as server:
        return b"".join(ask(server))


def error_of(*script: Any, **options: Any) -> MistralError:
    framing = {"framing": options.pop("framing")} if "framing" in options else {}
    with ScriptedServer(script, **framing) as server, pytest.raises(MistralError) as raised:
        list(ask(server, **options))
    return raised.value


class Ending:
    """An observer that counts how a Stream ends."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.terminals: list[Exception | None] = []
        self.ended = threading.Event()

    def on_next(self, item: Any) -> None:
        self.items.append(item)

    def on_error(self, error: Exception) -> None:
        self.terminals.append(error)
        self.ended.set()

    def on_completed(self) -> None:
        self.terminals.append(None)
        self.ended.set()


# --- what is sent ---


def test_the_request_is_sent_as_it_is() -> None:
    with ScriptedServer(ANSWER) as server:
        list(ask(server))
        (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1", b'{"q":1}')
    assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_a_prepared_request_and_a_function_are_requests_too() -> None:
    with ScriptedServer(lambda _: ANSWER) as server:
        plain = Request("POST", server.url, data=b"x")
        numbers = iter("01")
        for request in (plain, plain.prepare()):
            assert b"".join(blocks(request)) == b"".join(BODY)
        stream = blocks(lambda: Request("POST", server.url, data=next(numbers)))
        list(stream)
        list(stream)
        assert [request.body for request in server.requests] == [b"x", b"x", b"0", b"1"]


def test_what_the_function_raises_is_the_error_of_the_stream(read: Face) -> None:
    def refuse() -> Request:
        raise LookupError("no key today")

    assert isinstance(read(blocks(refuse))[-1], LookupError)


def test_netrc_has_no_say_where_no_authorization_is_given(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(path))
    with ScriptedServer(ANSWER) as server:
        list(blocks(post(server.url, {}, b"", None)))
        assert "Authorization" not in server.requests[0].headers


# --- how the body is framed ---


@pytest.mark.parametrize("framing", ["chunked", "close", "length", "gzip"])
def test_the_body_arrives_whole_in_every_framing(framing: Any) -> None:
    with ScriptedServer(ANSWER, framing=framing) as server:
        came = list(ask(server))
        assert b"".join(came) == b"".join(BODY)
        assert b"" not in came
        assert server.wait_idle()


def test_a_compressed_frame_is_emitted_before_the_next_one_is_sent() -> None:
    with ScriptedServer([steps.raw(BODY[0]), steps.hang()], framing="gzip") as server:
        iterator = iter(ask(server))
        assert next(iterator) == BODY[0]
        del iterator
        assert server.requests[0].wait_closed()


def test_deflate_is_decompressed_too() -> None:
    body = zlib.compress(BODY[0])
    header = steps.header("Content-Encoding", "deflate")
    assert body_of(header, steps.raw(body)) == BODY[0]


def test_a_compressed_body_may_come_byte_by_byte() -> None:
    body = gzip.compress(b"".join(BODY))
    script = [
        steps.header("Content-Encoding", "gzip"),
        steps.raw(*[bytes([byte]) for byte in body]),
    ]
    assert body_of(*script) == b"".join(BODY)


def test_a_body_that_is_not_what_its_encoding_says_is_a_protocol_error() -> None:
    error = error_of(steps.header("Content-Encoding", "gzip"), *ANSWER)
    assert isinstance(error, ProtocolError)
    assert "cannot be decompressed" in str(error)


def test_an_empty_body_completes(read: Face) -> None:
    with ScriptedServer([steps.headers()]) as server:
        assert [item for item in read(ask(server)) if isinstance(item, bytes)] == []


def test_a_status_of_success_other_than_200_is_a_success() -> None:
    assert body_of(steps.status(206), *ANSWER) == b"".join(BODY)


# --- what the body is ---


@pytest.mark.parametrize("label", [None, "text/plain", "application/json", "TEXT/EVENT-STREAM"])
@pytest.mark.parametrize(
    "body",
    [
        b"data: 1\n\n",
        b": comment\n\ndata: 1\n\n",
        b"event: error\ndata: 1\n\n",
        b"id: 7\n\n",
        b"retry: 7\n\n",
        b"data\n\n",
        b"id\r\n\r\n",
        b"\n\n  data: 1\n\n",
        b"\xef\xbb\xbfdata: 1\n\n",
    ],
)
def test_an_event_stream_is_one_whatever_its_label_and_blocks(
    label: str | None, body: bytes
) -> None:
    header = steps.header("Content-Type", label)
    assert body_of(header, steps.raw(body)) == body
    assert body_of(header, steps.raw(*[bytes([byte]) for byte in body])) == body


@pytest.mark.parametrize(
    ("label", "body"),
    [
        ("application/json", b'{"object":"error","message":"no such model"}'),
        ("text/html; charset=utf-8", b"<html>Bad gateway</html>"),
        ("text/plain", b"upstream connect error"),
        ("text/plain", b"dat"),
        (None, b"datum"),
        ("text/plain; charset=latin-1", "déjà vu".encode("latin-1")),
        ("text/plain", "déjà vu".encode()),
        ("text/event-stream", "déjà vu".encode()),
        ("text/plain; charset=nobody-knows", "déjà vu".encode()),
        ("application/json", b"\xef\xbb\xbf{}"),
        ("application/json", b"\xef\xbb"),
    ],
)
def test_a_200_with_another_body_is_a_protocol_error_that_shows_it(
    label: str | None, body: bytes
) -> None:
    header = steps.header("Content-Type", label)
    for split in (steps.raw(body), steps.raw(*[bytes([byte]) for byte in body])):
        error = error_of(header, split)
        assert isinstance(error, ProtocolError)
        charset = "latin-1" if label and "latin" in label else "utf-8"
        assert error.body == body.decode(charset, "replace")
        assert (label or "no content type") in str(error)


def test_an_unlabelled_body_is_shown_up_to_a_bound() -> None:
    error = error_of(steps.header("Content-Type", "text/html"), steps.raw(*[b"<" * 65_536] * 40))
    assert isinstance(error, ProtocolError)
    assert error.body is not None
    assert len(error.body) == 1 << 20


# --- refusals ---


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"detail": "Unauthorized"}, "Unauthorized", None),
        (
            {"detail": [{"type": "t", "loc": ["body", "model"], "msg": "missing", "input": {}}]},
            "body.model: missing",
            None,
        ),
        ({"message": "Requests rate limit exceeded"}, "Requests rate limit exceeded", None),
        ({"object": "error", "message": "busy", "type": "t", "code": "1300"}, "busy", "1300"),
        ({"object": "error", "message": "busy", "type": "t", "code": 1300}, "busy", "1300"),
        ({"object": "error", "message": {"detail": [{"msg": "no"}]}, "code": None}, "no", None),
        ("<html>", "<html>", None),
        (b"", "", None),
    ],
)
def test_a_refusal_tells_what_the_service_said(
    body: object, message: str, code: str | None
) -> None:
    error = error_of(steps.status(422, body=body, headers={"Retry-After": "7"}))
    assert isinstance(error, StatusError)
    assert (error.status, error.message, error.code) == (422, message, code)
    assert error.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 429, 500, 503, 520, 529, 599])
def test_every_other_status_is_a_refusal(status: int) -> None:
    error = error_of(steps.status(status, reason=""))
    assert isinstance(error, StatusError)
    assert error.status == status


@pytest.mark.parametrize("framing", ["chunked", "close", "gzip"])
def test_a_refusal_is_read_in_every_framing(framing: Any) -> None:
    error = error_of(steps.status(400), steps.raw(b"wrong", b" model"), framing=framing)
    assert isinstance(error, StatusError)
    assert error.body == "wrong model"


@pytest.mark.parametrize("ending", [steps.drop(), steps.abort()])
def test_a_refusal_that_breaks_off_is_still_that_refusal(ending: Any) -> None:
    error = error_of(steps.status(400), steps.raw(b"wrong"), ending)
    assert isinstance(error, StatusError)
    assert error.body in ("wrong", "")  # a reset may overtake what was sent before it


def test_a_refusal_that_never_ends_is_bounded_in_time_and_size() -> None:
    error = error_of(steps.status(500), steps.raw(b"wrong"), steps.hang(), read_timeout=0.5)
    assert isinstance(error, StatusError)
    assert error.body == "wrong"
    error = error_of(steps.status(500), steps.raw(*[b"x" * 65_536] * 40))
    assert isinstance(error, StatusError)
    assert len(error.body) == 1 << 20


def echo(request: ReceivedRequest) -> Script:
    said = f"no such key: {request.headers['Authorization']} ({KEY})"
    return [steps.status(401, body={"message": said})]


def test_the_key_is_in_no_text_of_a_refusal() -> None:
    with ScriptedServer(echo) as server, pytest.raises(StatusError) as raised:
        list(ask(server))
    error = raised.value
    assert "no such key" in str(error)
    for text in (str(error), repr(error), error.body, error.message):
        assert KEY not in text


def test_the_key_is_in_no_text_of_a_body_that_is_no_event_stream() -> None:
    error = error_of(steps.header("Content-Type", "text/html"), steps.raw(f"<p>{KEY}</p>".encode()))
    assert KEY not in str(error) + repr(error)
    assert "[key]" in str(error)


@pytest.mark.parametrize(
    "value", [f"Bearer {KEY}\n", f"Bearer\n{KEY}", f" {KEY}", [KEY], f"’{KEY}"]
)
def test_the_key_is_in_no_text_of_a_request_that_cannot_be_sent(value: Any) -> None:
    with ScriptedServer() as server:
        request = Request("POST", server.url, headers={"Authorization": value})
        with pytest.raises(RequestError) as raised:
            list(blocks(request))
    assert KEY not in str(raised.value) + repr(raised.value) + str(raised.value.__cause__)


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["/elsewhere", "elsewhere", "{url}/elsewhere#top"])
def test_redirect_repeats_the_request_with_its_body(status: int, location: str) -> None:
    def play(request: ReceivedRequest) -> Script:
        if request.path == "/elsewhere":
            return ANSWER
        return [steps.status(status, headers={"Location": location.format(url=server.url)})]

    with ScriptedServer(play) as server:
        request = post(server.url + "/v1", {"Content-Type": "text/x"}, b"{}", f"Bearer {KEY}")
        assert b"".join(blocks(request)) == b"".join(BODY)
        first, second = server.requests
    assert (second.method, second.path, second.body) == ("POST", "/elsewhere", first.body)
    for name in ("Authorization", "Content-Type", "Content-Length"):
        assert second.headers.get_all(name) == first.headers.get_all(name)


def test_redirect_repeats_a_body_that_is_a_file() -> None:
    with ScriptedServer([steps.status(302, headers={"Location": "/b"})], ANSWER) as server:
        list(blocks(Request("POST", server.url, data=io.BytesIO(b"from a file"))))
        assert [request.body for request in server.requests] == [b"from a file"] * 2


def test_redirect_keeps_the_cookies_of_the_session() -> None:
    script = steps.status(302, headers={"Location": "/b", "Set-Cookie": "seen=1"})
    with ScriptedServer([script], ANSWER) as server, requests.Session() as session:
        list(ask(server, session=session))
        assert server.requests[1].headers["Cookie"] == "seen=1"
        assert session.cookies["seen"] == "1"


def test_redirect_to_a_get_is_a_refusal_that_names_it(read: Face) -> None:
    script = steps.status(303, headers={"Location": "https://me:pass@other.example/login?key=k"})
    with ScriptedServer([script]) as server:
        (error,) = (item for item in read(ask(server)) if item is not None)
    assert isinstance(error, StatusError)
    assert (error.status, error.url) == (303, server.url + "/v1")
    assert "it redirects to 'https://other.example/login'" in str(error)
    assert "pass" not in str(error)


def test_redirect_to_a_get_is_followed_by_a_get() -> None:
    with ScriptedServer([steps.status(303, headers={"Location": "/b"})], ANSWER) as server:
        assert b"".join(blocks(Request("GET", server.url))) == b"".join(BODY)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_without_location_is_a_refusal(status: int) -> None:
    error = error_of(steps.status(status))
    assert isinstance(error, StatusError)
    assert error.status == status


def test_redirect_without_tls_does_not_take_the_key_along(
    server_tls: Any, session: requests.Session
) -> None:
    with ScriptedServer(ANSWER) as plain:
        redirect = steps.status(302, headers={"Location": plain.url + "/b"})
        with ScriptedServer([redirect], tls=server_tls) as server:
            list(ask(server, session=session))
            assert "Authorization" in server.requests[0].headers
        assert "Authorization" not in plain.requests[0].headers


def test_a_redirect_uses_the_same_connection() -> None:
    with ScriptedServer([steps.status(307, headers={"Location": "/elsewhere"})], ANSWER) as server:
        list(ask(server))
        assert server.connections == 1


def test_a_redirect_to_another_host_does_not_take_the_key_along() -> None:
    with ScriptedServer(ANSWER) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with ScriptedServer([steps.status(307, headers={"Location": elsewhere})]) as server:
            assert b"".join(ask(server)) == b"".join(BODY)
        assert "Authorization" not in other.requests[0].headers
        assert other.requests[0].body == b'{"q":1}'


def test_redirects_in_a_circle_end_in_an_error() -> None:
    with (
        ScriptedServer(lambda _: [steps.status(307, headers={"Location": "/again"})]) as server,
        pytest.raises(RequestError, match="more than 30 redirects") as raised,
    ):
        list(ask(server))
    assert raised.value.is_permanent


# --- breaking ---


@pytest.mark.parametrize("framing", ["chunked", "length", "gzip"])
@pytest.mark.parametrize("ending", [steps.drop(), steps.abort()], ids=["drop", "abort"])
def test_a_body_that_breaks_off_is_dropped_after_what_came(framing: Any, ending: Any) -> None:
    with ScriptedServer([steps.raw(*BODY), steps.wait(0.4), ending], framing=framing) as server:
        ending_seen = Ending()
        ask(server).subscribe(ending_seen)
        assert ending_seen.ended.wait(BOUND)
    assert b"".join(ending_seen.items) == b"".join(BODY)
    (error,) = ending_seen.terminals
    assert isinstance(error, DroppedStreamError)
    assert error.__cause__ is not None


def test_a_reset_of_a_body_without_frame_is_dropped() -> None:
    error = error_of(*ANSWER, steps.wait(0.05), steps.abort(), framing="close")
    assert isinstance(error, DroppedStreamError)


def test_a_chunk_that_is_no_chunk_is_dropped() -> None:
    script = [steps.header("Transfer-Encoding", "chunked"), steps.raw(b"not a chunk")]
    assert isinstance(error_of(*script, framing="close"), DroppedStreamError)


def test_a_chunk_cut_in_its_middle_is_dropped_after_what_came() -> None:
    with ScriptedServer(
        [steps.header("Transfer-Encoding", "chunked"), steps.raw(b"ff\r\ndata: 1\n\n")],
        framing="close",
    ) as server:
        ending = Ending()
        ask(server).subscribe(ending)
        assert ending.ended.wait(BOUND)
    assert ending.items == [b"data: 1\n\n"]
    assert isinstance(ending.terminals[0], DroppedStreamError)


@pytest.mark.parametrize("ending", [steps.drop(), steps.abort()])
def test_an_end_before_the_headers_is_no_answer(ending: Any) -> None:
    error = error_of(ending)
    assert isinstance(error, RequestError)
    assert not isinstance(error, RequestTimeoutError)


def test_where_nobody_listens_there_is_no_answer() -> None:
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
def test_an_address_that_leads_nowhere_gives_no_answer(url: str) -> None:
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
    assert str(error).startswith("no answer came from nowhere.example:81: ")
    assert "not known" in str(error)
    assert "secret" not in repr(error)


def test_a_server_that_speaks_no_http_gives_no_answer() -> None:
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


def test_a_certificate_that_nobody_vouches_for_gives_no_answer(server_tls: Any) -> None:
    with (
        ScriptedServer(tls=server_tls) as server,
        pytest.raises(RequestError, match="certificate verify failed") as raised,
    ):
        list(ask(server))
    assert raised.value.host == server.url.removeprefix("https://")
    assert raised.value.is_permanent
    assert "REQUESTS_CA_BUNDLE" in str(raised.value)


def test_certificates_that_do_not_exist_give_no_answer(server_tls: Any) -> None:
    with ScriptedServer(tls=server_tls) as server, requests.Session() as session:
        session.verify = "/no/such/file.pem"
        with pytest.raises(RequestError, match="no/such/file") as raised:
            list(ask(server, session=session))
    assert raised.value.is_permanent


def test_server_without_tls_is_named() -> None:
    with ScriptedServer(lambda _: ANSWER) as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(RequestError) as raised:
            list(blocks(Request("POST", url)))
        server.requests.clear()
    assert raised.value.host in str(raised.value)


# --- clocks ---


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port that answers no more connection attempts."""
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


def test_a_connection_that_is_not_accepted_runs_out_of_time() -> None:
    with full_backlog() as port, pytest.raises(RequestTimeoutError) as raised:
        list(blocks(Request("POST", f"http://127.0.0.1:{port}"), connect_timeout=0.1))
    assert (raised.value.clock, raised.value.seconds) == ("connect", 0.1)


def test_a_handshake_that_is_not_answered_is_a_connection_that_took_too_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RequestTimeoutError) as raised:
            list(blocks(Request("POST", url), connect_timeout=0.1))
    assert (raised.value.clock, raised.value.seconds) == ("connect", 0.1)


def test_headers_that_do_not_come_run_out_of_time() -> None:
    error = error_of(steps.hang(), read_timeout=0.1)
    assert isinstance(error, RequestTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.clock, error.seconds) == ("gap", 0.1)


@pytest.mark.parametrize("framing", ["chunked", "close", "length", "gzip"])
def test_a_gap_in_the_answer_runs_out_of_time_after_what_came(framing: Any) -> None:
    with ScriptedServer([steps.raw(BODY[0]), steps.hang()], framing=framing) as server:
        ending = Ending()
        ask(server, read_timeout=0.5).subscribe(ending)
        assert ending.ended.wait(BOUND)
        assert server.requests[0].wait_closed()
    assert ending.items == [BODY[0]]
    (error,) = ending.terminals
    assert isinstance(error, StreamTimeoutError)
    assert (error.clock, error.seconds) == ("gap", 0.5)


def test_the_time_that_a_subscriber_takes_is_no_gap() -> None:
    came = []
    with ScriptedServer([steps.raw(BODY[0]), steps.raw(BODY[1])]) as server:
        for block in ask(server, read_timeout=0.5):
            came.append(block)
            threading.Event().wait(0.6)
    assert b"".join(came) == b"".join(BODY)


# --- connections ---


def test_answers_that_were_read_to_their_end_leave_their_connection() -> None:
    with ScriptedServer(lambda _: ANSWER) as server, open_session() as session:
        for _ in range(5):
            list(ask(server, session=session))
        assert server.connections == 1


@pytest.mark.parametrize("status", [400, 429, 500])
def test_refusals_leave_their_connection(status: int) -> None:
    with (
        ScriptedServer(lambda _: [steps.status(status, body={"message": "no"})]) as server,
        open_session() as session,
    ):
        for _ in range(5):
            with pytest.raises(StatusError):
                list(ask(server, session=session))
        assert server.connections == 1


def test_the_connection_is_free_before_the_terminal_is_emitted() -> None:
    with ScriptedServer(lambda _: ANSWER) as server, open_session() as session:
        second, ended = Ending(), threading.Event()

        def again() -> None:
            ask(server, session=session).subscribe(second)
            ended.set()

        ask(server, session=session).subscribe(on_completed=again)
        assert ended.wait(BOUND)
        assert second.ended.wait(BOUND)
        assert server.connections == 1


def test_the_connection_of_an_error_is_closed_before_the_error_is_emitted() -> None:
    with ScriptedServer([steps.hang()], ANSWER) as server:
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
            second = Ending()
            ask(server, session=session, read_timeout=0.05).subscribe(
                on_error=lambda _: ask(server, session=session).subscribe(second)
            )
            assert second.ended.wait(BOUND)
        assert second.terminals == [None]


def test_a_session_of_ones_own_is_used_and_not_closed() -> None:
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


def test_a_closed_session_has_no_open_connection_though_its_response_is_kept() -> None:
    kept: list[Any] = []
    with ScriptedServer(ANSWER) as server:
        with open_session() as session:
            list(ask(server, session=session, on_response=kept.append))
            assert server.open_connections == 1
        assert server.wait_idle()
    assert kept


def endings() -> dict[str, tuple[Script, Callable[[Stream[bytes]], None]]]:
    def read_all(stream: Stream[bytes]) -> None:
        list(stream)

    def fails(stream: Stream[bytes]) -> None:
        with pytest.raises(MistralError):
            list(stream)

    def leave(stream: Stream[bytes]) -> None:
        next(iter(stream))

    def cancel(stream: Stream[bytes]) -> None:
        stream.subscribe().dispose()

    return {
        "complete": (ANSWER, read_all),
        "refused": ([steps.status(429, body={"message": "no"})], fails),
        "refused, and broken off": ([steps.status(429), steps.raw(b"no"), steps.abort()], fails),
        "no event stream": ([steps.status(200, body={"message": "no"})], fails),
        "dropped": ([*ANSWER, steps.drop()], fails),
        "no headers": ([steps.drop()], fails),
        "timed out": ([steps.hang()], fails),
        "left": ([*ANSWER, steps.hang()], leave),
        "cancelled": ([steps.hang()], cancel),
    }


@pytest.mark.parametrize(("script", "end"), endings().values(), ids=endings().keys())
def test_a_pool_of_one_connection_never_starves(
    script: Script, end: Callable[[Stream[bytes]], None]
) -> None:
    def play(request: ReceivedRequest) -> Script:
        return ANSWER if request.path == "/last" else script

    with ScriptedServer(play) as server, requests.Session() as session:
        session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
        for _ in range(3):
            end(ask(server, session=session, read_timeout=0.5))
        last = blocks(Request("POST", server.url + "/last"), session=session)
        ending = Ending()
        last.subscribe(ending)
        assert ending.ended.wait(BOUND)
        assert ending.terminals == [None]


def test_a_connection_that_the_session_had_before_can_be_cancelled_too() -> None:
    with ScriptedServer(ANSWER, [steps.hang()]) as server, requests.Session() as session:
        session.get(server.url)
        subscription = ask(server, session=session).subscribe()
        second = server.wait_for_requests(2)[1]
        assert second.connection == 0
        subscription.dispose()
        assert second.wait_closed()


def test_a_request_that_a_callback_sends_is_not_what_is_cancelled() -> None:
    def play(request: ReceivedRequest) -> Script:
        return [steps.raw(BODY[0]), steps.hang()] if request.path == "/v1" else ANSWER

    with ScriptedServer(play) as server, requests.Session() as session:
        nested = Ending()

        def on_next(_: bytes) -> None:
            session.get(server.url + "/tool").close()
            nested.on_completed()

        subscription = ask(server, session=session).subscribe(on_next)
        assert nested.ended.wait(BOUND)
        subscription.dispose()
        assert server.requests[0].wait_closed()


def test_an_adapter_that_is_not_urllib3s_is_read_from() -> None:
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


def test_it_reads_through_a_proxy() -> None:
    with ScriptedServer(ANSWER) as proxy, requests.Session() as session:
        session.proxies = {"http": proxy.url}
        stream = blocks(Request("POST", "http://mistral.invalid/v1"), session=session)
        assert b"".join(stream) == b"".join(BODY)
        assert proxy.requests[0].path == "http://mistral.invalid/v1"


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
def test_there_is_exactly_one_terminal(script: Script) -> None:
    with ScriptedServer(script) as server:
        ending = Ending()
        ask(server, read_timeout=0.05).subscribe(ending)
        assert ending.ended.wait(BOUND)
        assert server.wait_idle()
    assert len(ending.terminals) == 1


@contextmanager
def excepthook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """What reaches the hook of the threads."""
    seen: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
        yield seen


def test_what_on_next_raises_reaches_on_error_and_closes_the_socket() -> None:
    error = ZeroDivisionError("mine")

    def fail(_: bytes) -> None:
        raise error

    with ScriptedServer([*ANSWER, steps.hang()]) as server:
        ending = Ending()
        ask(server).subscribe(fail, ending.on_error, ending.on_completed)
        assert ending.ended.wait(BOUND)
        assert server.requests[0].wait_closed()
    assert ending.terminals == [error]


def test_what_on_next_raises_without_on_error_reaches_the_hook_of_the_threads(
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


def test_an_error_without_on_error_reaches_the_hook_of_the_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with excepthook(monkeypatch) as seen, ScriptedServer([steps.status(500)]) as server:
        ask(server).subscribe()
        assert eventually(lambda: bool(seen))
    assert [type(error) for error in seen] == [StatusError]


@pytest.mark.parametrize("script", [ANSWER, [steps.status(500)]], ids=["completed", "error"])
def test_what_a_terminal_raises_reaches_the_hook_of_the_threads(
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


def test_what_on_next_raises_after_it_disposed_reaches_the_hook_of_the_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subscribed = threading.Event()
    subscription: Any = None

    def fail(_: bytes) -> None:
        subscribed.wait()
        subscription.dispose()
        raise ZeroDivisionError

    with excepthook(monkeypatch) as seen, ScriptedServer([*ANSWER, steps.hang()]) as server:
        ending = Ending()
        subscription = ask(server).subscribe(fail, ending.on_error, ending.on_completed)
        subscribed.set()
        assert eventually(lambda: bool(seen))
        assert server.requests[0].wait_closed()
    assert [type(error) for error in seen] == [ZeroDivisionError]
    assert ending.terminals == []


def test_a_callback_that_ends_its_thread_leaves_no_loop_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leave(_: bytes) -> None:
        raise SystemExit

    with excepthook(monkeypatch), ScriptedServer([*ANSWER, steps.hang()]) as server:
        stream = ask(server).pipe(ops.do_action(leave))
        ending = Ending()
        threading.Thread(target=lambda: ending.items.extend(by_for(stream)), daemon=True).start()
        assert eventually(lambda: bool(ending.items))
        assert isinstance(ending.items[0], RuntimeError)
        assert "SystemExit" in str(ending.items[0])
        assert server.requests[0].wait_closed()


def test_what_on_response_raises_is_the_error_of_the_stream() -> None:
    def fail(_: requests.Response) -> None:
        raise ZeroDivisionError

    with ScriptedServer(ANSWER) as server:
        with pytest.raises(ZeroDivisionError):
            list(ask(server, on_response=fail))
        assert server.wait_idle()


def test_on_response_sees_the_headers_before_the_first_block() -> None:
    seen: list[Any] = []
    with ScriptedServer([steps.header("X-Mine", "yes"), *ANSWER]) as server:
        stream = ask(server, on_response=lambda answer: seen.append(answer.headers["X-Mine"]))
        stream.pipe(ops.do_action(seen.append)).run()
    assert seen[0] == "yes"
    assert b"".join(seen[1:]) == b"".join(BODY)


LABEL = steps.header("Content-Type", "text/event-stream; charset=utf-8")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("Internal Server Error", "Internal Server Error"),
        ("upstream connect error\nreset reason: overflow\n", "reset reason: overflow"),
        ("Error: no such\r\nmodel", "Error: no such model"),
        ("\n<html><title>Log &amp; in</title><script>\ndata: 1\n</script></html>", "Log & in"),
        ("<!doctype html>\n<h1>502</h1><p>Bad Gateway</p>", "502 Bad Gateway"),
        ('{"choices":[{"message":{"content":"whole"}}]}', "whole"),
        ('{\n  "object": "error",\n  "message": "no such model"\n}', "no such model"),
        ("[DONE]", "[DONE]"),
        ("da", "da"),
    ],
)
def test_labelled_body_that_is_not_a_stream_is_shown(body: str, shown: str, read: Face) -> None:
    with ScriptedServer([LABEL, steps.raw(body.encode())]) as server:
        (error,) = (item for item in read(ask(server)) if item is not None)
    assert isinstance(error, ProtocolError)
    assert error.body == body
    assert shown in str(error)
    assert "text/event-stream" in str(error)
    assert "<" not in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"x-unknown: 1\nunknown\n\ndata: 1\n\n",
        b"unknown\rdata: 1\r\r",
        b"\xef\xbb\xbf\r\n\r\nunknown: a: b\r\n: comment\r\n",
        b'{"error": "busy"}\n',
        b'{"error": "busy"}',
        b'{"not": "an error"}\ndata: 1\n\n',
        b"\n\n",
    ],
)
def test_labelled_stream_may_begin_with_ignored_lines(body: bytes) -> None:
    assert body_of(LABEL, steps.raw(body)) == body
    assert body_of(LABEL, steps.raw(*[bytes([byte]) for byte in body])) == body


def test_labelled_error_line_is_emitted_before_the_body_ends() -> None:
    line = b'{"error": "busy"}\n'
    with ScriptedServer([LABEL, steps.raw(line), steps.hang()]) as server:
        assert next(iter(ask(server))) == line


def test_labelled_body_without_a_field_is_bounded() -> None:
    error = error_of(LABEL, steps.raw(*[b"x" * 65_536] * 40))
    assert isinstance(error, ProtocolError)
    assert error.body is not None
    assert len(error.body) == 1 << 20


@pytest.mark.parametrize("status", [404, 405, 500])
def test_refusal_names_the_url_and_the_title_of_a_page(status: int) -> None:
    page = "<html><head><title>Nothing here</title></head><body><h1>nginx</h1></body></html>"
    with ScriptedServer([steps.status(status, body=page)]) as server:
        request = Request("POST", server.url + "/v1/models?api-key=secret")
        with pytest.raises(StatusError) as raised:
            list(blocks(request))
    error = raised.value
    assert (error.url, error.body) == (server.url + "/v1/models", page)
    assert f": Nothing here (asked {error.url})" in str(error)


@pytest.mark.parametrize("encoding", ["none", "utf-8", "chunked", "rot13", "identity", "NONE, "])
def test_encoding_that_is_not_a_compression_is_ignored(encoding: str, read: Face) -> None:
    header = steps.header("Content-Encoding", encoding)
    with ScriptedServer([header, *ANSWER]) as server:
        came = read(ask(server))
    assert b"".join(filter(None, came)) == b"".join(BODY)
    error = error_of(header, LABEL, steps.raw(b"\x1f\x8b\x08"))
    assert isinstance(error, ProtocolError)
    assert f"Content-Encoding {encoding.strip()}" in str(error)


def test_compression_that_nothing_decompresses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = [name for name in HTTPResponse.CONTENT_DECODERS if name != "zstd"]
    monkeypatch.setattr(HTTPResponse, "CONTENT_DECODERS", decoders)
    error = error_of(steps.header("Content-Encoding", "zstd"), *ANSWER)
    assert isinstance(error, ProtocolError)
    assert "cannot be decompressed here: it is compressed with 'zstd'" in str(error)


def test_a_session_s_own_certificates_go_before_the_environment_s(
    session: requests.Session, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    session.trust_env = True
    with ScriptedServer(["Hi"], tls=server_tls) as server:
        request = requests.Request("POST", server.url)
        assert b"Hi" in b"".join(blocks(request, session=session))


# --- the response is in the program's hands --------------------------------------

SILENT: Script = [steps.raw(b"data: one\n\n"), steps.hang()]

CLOSE: dict[str, Callable[[requests.Response], None]] = {
    "response": lambda response: response.close(),
    "raw": lambda response: response.raw.close(),
}


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("close", CLOSE.values(), ids=CLOSE.keys())
@pytest.mark.parametrize("on_own_thread", [True, False])
def test_closed_response_ends_its_answer_and_no_other(
    framing: Any, close: Callable[[requests.Response], None], on_own_thread: bool, session: Any
) -> None:
    with ScriptedServer(lambda _: SILENT, framing=framing) as server:
        others = [Ending() for _ in range(2)]
        subscriptions = [ask(server, session=session).subscribe(each) for each in others]
        answers: list[requests.Response] = []
        came, closed = threading.Event(), Ending()

        def note(_: bytes) -> None:
            if on_own_thread:
                close(answers[0])
            came.set()

        ask(server, session=session, on_response=answers.append).subscribe(
            note, closed.on_error, closed.on_completed
        )
        assert came.wait(BOUND)
        if not on_own_thread:
            close(answers[0])
        assert closed.ended.wait(BOUND)
        (error,) = closed.terminals
        assert isinstance(error, DroppedStreamError)
        assert "the program closed the response" in str(error)
        third = Ending()
        subscriptions.append(ask(server, session=session).subscribe(third))  # over the same number
        assert eventually(lambda: all(each.items == BODY[:1] for each in (*others, third)))
        assert not any(each.terminals for each in (*others, third))
        for each in subscriptions:
            each.dispose()
        assert server.wait_idle(BOUND)


def test_closed_session_ends_no_answer(read: Face) -> None:
    script: Script = [steps.raw(BODY[0]), steps.wait(0.05), steps.raw(BODY[1])]
    with ScriptedServer(script) as server, open_session() as session:
        stream = ask(server, session=session).pipe(ops.do_action(lambda _: session.close()))
        assert b"".join(filter(None, read(stream))).endswith(BODY[1])
        assert server.wait_idle(BOUND)


def test_response_may_be_closed_when_its_answer_is_over(session: Any) -> None:
    with ScriptedServer(lambda _: ANSWER) as server:
        answers: list[requests.Response] = []
        for _ in range(3):
            assert b"".join(ask(server, session=session, on_response=answers.append)) == b"".join(
                BODY
            )
            for each in answers:
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
def test_server_sees_the_end_when_another_process_has_the_socket(
    leave: Callable[[Stream[bytes]], Stream[Any]], tls: bool, session: Any, server_tls: Any
) -> None:
    copies: list[int] = []  # such as a child of a fork has

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
def test_adapter_that_swallows_exceptions_keeps_no_cancelled_reader(
    tls: bool, session: Any, server_tls: Any
) -> None:
    """An adapter of the user's own, with the `except Exception` that many have."""

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
