"""The scripted server, used by clients without rxmistral: http.client, socket, ssl.

No test sleeps. If one thing must follow another, the test waits for an event of the server or of
the socket. TIMEOUT_SECONDS only limits how long a failure takes.
"""

import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme

from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, Step, steps

TIMEOUT_SECONDS = 30.0
"""Seconds within which the server must notice an event; it takes milliseconds."""

REQUEST = (
    b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{"model":"small"}'
)
ENDING: list[Step | str] = [steps.finish(), steps.done()]
LARGE_BLOCK = bytes(64 << 20)
"""More than all the buffers between two sockets can contain."""


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """No thread and no descriptor outlives a test."""
    threads, descriptors = set(threading.enumerate()), len(os.listdir("/dev/fd"))
    yield
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/dev/fd")) <= descriptors  # fewer, if an earlier test left garbage


@dataclass
class Transport:
    """Serves and connects over plain TCP or TLS; closes what it opened after the test."""

    server_side: ssl.SSLContext | None = None
    client_side: ssl.SSLContext | None = None
    opened: list[socket.socket | http.client.HTTPConnection] = field(default_factory=list)

    def serve(self, *scripts: Any, **options: Any) -> ScriptedServer:
        return ScriptedServer(*scripts, tls=self.server_side, **options)

    def socket(self, server: ScriptedServer, *, ragged: bool = True) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_SECONDS)
        if self.client_side:
            client = self.client_side.wrap_socket(
                client, server_hostname="localhost", suppress_ragged_eofs=ragged
            )
        self.opened.append(client)
        return client

    def http(self, server: ScriptedServer) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)
        if self.client_side:
            connection = http.client.HTTPSConnection(
                "localhost", server.port, timeout=TIMEOUT_SECONDS, context=self.client_side
            )
        self.opened.append(connection)
        return connection

    def close(self) -> None:
        for each in self.opened:
            each.close()


@pytest.fixture(scope="session")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    return server_side, client_side


@pytest.fixture
def plain() -> Iterator[Transport]:
    with contextlib.closing(Transport()) as transport:
        yield transport


@pytest.fixture
def tls(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Transport]:
    with contextlib.closing(Transport(*contexts)) as transport:
        yield transport


@pytest.fixture(params=["plain", "tls"])
def transport(request: pytest.FixtureRequest, plain: Transport, tls: Transport) -> Transport:
    return tls if request.param == "tls" else plain


def post(
    connection: http.client.HTTPConnection, body: bytes = b'{"model":"small"}'
) -> http.client.HTTPResponse:
    connection.request("POST", "/v1/chat/completions", body)
    return connection.getresponse()


def body_of(*script: Step | str, **options: Any) -> bytes:
    with ScriptedServer(script, **options) as server:
        return fetch(server)[1]


def fetch(server: ScriptedServer) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)
    try:
        response = post(connection)
        return response, response.read()
    finally:
        connection.close()


def frames_of(body: bytes) -> list[Any]:
    assert body.endswith(b"\n\n")
    return [json.loads(frame.removeprefix(b"data: ")) for frame in body.split(b"\n\n")[:-1]]


def delta_of(step: Step | str) -> Any:
    (chunk,) = frames_of(body_of(step))
    (choice,) = chunk["choices"]
    assert choice["finish_reason"] is None
    return choice["delta"]


def read_to_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65_536), b""))


def read_until(client: socket.socket, end: bytes) -> None:
    data = b""
    while end not in data:
        data += client.recv(1000)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# --- steps ---


def test_chunk_has_the_shape_of_mistral_chunks() -> None:
    (chunk,) = frames_of(body_of("Bonjour", model="mistral-small-latest"))
    assert chunk == {
        "id": "scripted-0",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "mistral-small-latest",
        "choices": [{"index": 0, "delta": {"content": "Bonjour"}, "finish_reason": None}],
    }


def test_text_is_encoded_as_mistral_encodes_it() -> None:
    assert (
        body_of(steps.text("é\u2028\n", choice=1))
        == (
            'data: {"id":"scripted-0","object":"chat.completion.chunk","created":1700000000,"model":"scripted",'
            '"choices":[{"index":1,"delta":{"content":"é\u2028\\n"},"finish_reason":null}]}\n\n'
        ).encode()
    )


def test_string_in_a_script_is_a_text_step() -> None:
    assert (
        body_of("Hel", "lo")
        == body_of(steps.text("Hel", "lo"))
        == body_of(steps.text("Hel"), steps.text("lo"))
    )


def test_half_an_emoji_is_sent_as_a_surrogate_escape() -> None:
    body = body_of("\ud83d", steps.delta({"content": "\ude00"}))
    assert b'{"content":"\\ud83d"}' in body
    assert b'{"content":"\\ude00"}' in body


@pytest.mark.parametrize(
    ("step", "delta"),
    [
        (steps.role(), {"role": "assistant", "content": ""}),
        (steps.empty(), {"content": ""}),
        (
            steps.thinking("Okay"),
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Okay"}]}]},
        ),
        (steps.delta({"content": None, "x": 1}), {"content": None, "x": 1}),
        (
            steps.tool_call(id="call9", name="weather", arguments="", index=0, type="function"),
            {
                "tool_calls": [
                    {
                        "id": "call9",
                        "type": "function",
                        "function": {"name": "weather", "arguments": ""},
                        "index": 0,
                    }
                ]
            },
        ),
        (
            steps.tool_call(name="", arguments='{"city"', index=0),
            {"tool_calls": [{"function": {"name": "", "arguments": '{"city"'}, "index": 0}]},
        ),
        (
            steps.tool_call(arguments={"a": 1}),
            {"tool_calls": [{"function": {"arguments": {"a": 1}}}]},
        ),
        (steps.tool_call(id="null"), {"tool_calls": [{"id": "null"}]}),
    ],
)
def test_step_sends_its_delta(step: Step, delta: object) -> None:
    assert delta_of(step) == delta


@pytest.mark.parametrize(
    "step",
    [
        steps.role(choice=2),
        steps.text("a", choice=2),
        steps.empty(choice=2),
        steps.thinking("a", choice=2),
        steps.tool_call(id="a", choice=2),
        steps.delta({}, choice=2),
        steps.finish(choice=2),
    ],
)
def test_step_sends_the_index_of_its_choice(step: Step) -> None:
    (chunk,) = frames_of(body_of(step))
    assert chunk["choices"][0]["index"] == 2


def test_each_piece_is_one_frame() -> None:
    assert len(frames_of(body_of(steps.text("a", "b", "c")))) == 3
    assert len(frames_of(body_of(steps.thinking("a", "b", "c")))) == 3


def test_finish_sends_reason_and_usage_when_passed() -> None:
    bare, short, whole = frames_of(
        body_of(
            steps.finish(),
            steps.finish("length", usage=(3, 2)),
            steps.tool_call(id="a", finish="tool_calls", usage={"prompt_tokens": 9}),
        )
    )
    assert bare["choices"] == [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]
    assert "usage" not in bare
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"] == {"prompt_tokens": 3, "total_tokens": 5, "completion_tokens": 2}
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["usage"] == {"prompt_tokens": 9}


def test_usage_is_a_chunk_without_choices() -> None:
    (chunk,) = frames_of(
        body_of(steps.usage(prompt=3, completion=2, service_tier="standard", total_tokens=7))
    )
    assert chunk["choices"] == []
    assert chunk["usage"] == {
        "prompt_tokens": 3,
        "total_tokens": 7,
        "completion_tokens": 2,
        "service_tier": "standard",
    }


@pytest.mark.parametrize(
    ("step", "body"),
    [
        (steps.chunk({"id": "a", "x": [1]}), b'data: {"id":"a","x":[1]}\n\n'),
        (steps.done(), b"data: [DONE]\n\n"),
        (steps.comment(), b": keep-alive\n\n"),
        (steps.comment("hé"), ": hé\n\n".encode()),
        (
            steps.error("Overloaded", type="overloaded", code="3505", raw_status_code=503),
            b'data: {"object":"error","message":"Overloaded","type":"overloaded","code":"3505","raw_status_code":503}\n\n',
        ),
        (
            steps.error({"detail": []}, type=None),
            b'data: {"object":"error","message":{"detail":[]},"type":null,"code":null}\n\n',
        ),
        (steps.raw(b"\xffdata", b": \r", b"\n"), b"\xffdata: \r\n"),
    ],
)
def test_step_sends_its_bytes(step: Step, body: bytes) -> None:
    assert body_of(step) == body


def test_empty_block_does_not_end_a_chunked_body() -> None:
    assert body_of(steps.raw(b"a", b"", b"b")) == b"ab"


# --- framing ---

SCRIPT: Script = [steps.role(), "Hel", "lo", *ENDING]


@pytest.mark.parametrize(
    ("framing", "headers"),
    [
        (
            "chunked",
            {"Transfer-Encoding": "chunked", "Content-Encoding": None, "Content-Length": None},
        ),
        (
            "gzip",
            {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip", "Content-Length": None},
        ),
        ("close", {"Transfer-Encoding": None, "Content-Length": None, "Connection": "close"}),
        ("length", {"Transfer-Encoding": None, "Connection": None}),
    ],
)
def test_every_framing_delivers_the_same_body(
    transport: Transport, framing: str, headers: dict[str, str | None]
) -> None:
    with transport.serve(SCRIPT, framing=framing) as server:
        connection = transport.http(server)
        response = post(connection)
        body = response.read()
        if framing == "gzip":
            body = zlib.decompress(body, zlib.MAX_WBITS | 16)
        assert body == body_of(*SCRIPT)
        if framing == "length":
            headers = headers | {"Content-Length": str(len(body))}
        assert {name: response.headers[name] for name in headers} == headers
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert server.requests[0].wait_answered(TIMEOUT_SECONDS)
        assert server.requests[0].frames == 5
        connection.close()


def test_each_frame_is_one_http_chunk(plain: Transport) -> None:
    with (
        ScriptedServer([steps.raw(b"ab", b"c"), steps.end()]) as server,
        plain.socket(server) as client,
    ):
        client.sendall(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
        head, _, body = read_to_end(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


@pytest.mark.parametrize("framing", ["chunked", "gzip", "close", "length"])
def test_frame_arrives_before_the_next_is_sent(transport: Transport, framing: str) -> None:
    with transport.serve(["Hello", steps.hang()], framing=framing) as server:
        connection = transport.http(server)
        response = post(connection)
        frame = response.read1(65_536)
        if framing == "gzip":
            frame = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(frame)
        assert frame == body_of("Hello")
        assert server.requests[0].answered is None
        response.close()
        connection.close()


@pytest.mark.parametrize("framing", ["chunked", "gzip", "length"])
def test_dropped_body_is_incomplete_after_all_frames(transport: Transport, framing: str) -> None:
    with transport.serve(["Hello", steps.drop()], framing=framing) as server:
        connection = transport.http(server)
        with pytest.raises(http.client.IncompleteRead) as caught:
            post(connection).read()
        assert caught.value.partial
        connection.close()


def test_body_larger_than_the_buffers_arrives_whole(transport: Transport) -> None:
    block = b"".join(b"%08d" % number for number in range(2_000_000))
    with transport.serve([steps.raw(block, b"end")]) as server:
        assert post(transport.http(server)).read() == block + b"end"


def test_end_step_ends_the_body_cleanly(transport: Transport) -> None:
    for framing in ("chunked", "close", "length"):
        with transport.serve(["Hello", steps.end()], framing=framing) as server:
            connection = transport.http(server)
            assert post(connection).read() == body_of("Hello")
            connection.close()


def test_empty_script_is_an_empty_event_stream() -> None:
    with ScriptedServer([]) as server:
        response, body = fetch(server)
    assert (response.status, response.headers["Content-Type"][:17], body) == (
        200,
        "text/event-stream",
        b"",
    )


# --- statuses and headers ---


@pytest.mark.parametrize(
    ("body", "content_type", "content"),
    [
        ({"message": "Slow down"}, "application/json", b'{"message":"Slow down"}'),
        ("<html>", "text/plain; charset=utf-8", b"<html>"),
        (b"\xff", "application/octet-stream", b"\xff"),
        (None, None, b""),
    ],
)
@pytest.mark.parametrize("framing", ["chunked", "gzip", "close", "length"])
def test_status_with_a_body_is_whole_in_any_framing(
    framing: Any, body: object, content_type: str | None, content: bytes
) -> None:
    step = steps.status(429, body=body, headers={"Retry-After": "1"})
    with ScriptedServer([step], framing=framing) as server:
        response, received = fetch(server)
    assert (response.status, response.reason) == (429, "Too Many Requests")
    assert response.headers["Retry-After"] == "1"
    assert response.headers["Content-Type"] == content_type
    assert response.headers["Content-Length"] == str(len(content))
    assert received == content


@pytest.mark.parametrize(
    ("code", "passed", "reason"), [(529, None, ""), (520, "Odd", "Odd"), (404, "", "")]
)
def test_unregistered_statuses_and_reasons_are_sent(
    code: int, passed: str | None, reason: str
) -> None:
    with ScriptedServer([steps.status(code, reason=passed)]) as server:
        response, _ = fetch(server)
    assert (response.status, response.reason) == (code, reason)


def test_status_without_a_body_uses_the_next_steps() -> None:
    with ScriptedServer([steps.status(500), "Hello", *ENDING]) as server:
        response, body = fetch(server)
    assert (response.status, body) == (500, body_of("Hello", *ENDING))
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"


def test_status_204_has_no_content_length() -> None:
    with ScriptedServer([steps.status(204)]) as server:
        response, body = fetch(server)
    assert (response.status, body, response.headers["Content-Length"]) == (204, b"", None)


def test_headers_are_added_replaced_and_removed() -> None:
    script: Script = [steps.header("content-type", "text/plain"), steps.header("X-A", "b"), "Hello"]
    with ScriptedServer(script, [steps.header("Content-Type", None), "Hello"]) as server:
        first, second = fetch(server)[0], fetch(server)[0]
    assert first.headers.get_all("Content-Type") == ["text/plain"]
    assert first.headers["X-A"] == "b"
    assert second.headers["Content-Type"] is None


def test_status_with_a_body_keeps_its_content_type_header() -> None:
    with ScriptedServer(
        [steps.status(502, body="<p>", headers={"content-type": "text/html"})]
    ) as server:
        response, _ = fetch(server)
    assert response.headers.get_all("Content-Type") == ["text/html"]


def test_headers_step_sends_headers_before_any_frame(transport: Transport) -> None:
    with transport.serve([steps.headers(), steps.hang()]) as server:
        connection = transport.http(server)
        response = post(connection)
        assert response.status == 200
        assert server.requests[0].frames == 0
        assert server.requests[0].answered is None
        response.close()
        connection.close()


def test_headers_sent_early_are_not_sent_again() -> None:
    assert body_of(steps.headers(), "Hello", *ENDING) == body_of("Hello", *ENDING)


# --- scripts that cannot be played ---


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        (["a", steps.header("X", "y")], ValueError, "too late: the headers are already sent"),
        ([steps.headers(), steps.headers()], ValueError, "too late: the headers are already sent"),
        (
            [steps.headers(), steps.status(500)],
            ValueError,
            "too late: the headers are already sent",
        ),
        ([steps.end(), "a"], ValueError, "too late: the body has already ended"),
        ([steps.end(), steps.end()], ValueError, "too late: the body has already ended"),
        ([steps.status(500, body=""), "a"], ValueError, "too late: the body has already ended"),
        ([steps.drop(), "a"], ValueError, "can never run"),
        ([steps.abort(), steps.wait(1)], ValueError, "can never run"),
        ([steps.hang(), steps.done()], ValueError, "can never run"),
        ([steps.role(), 5], TypeError, "a step comes from"),
        ("Hello", TypeError, "a script is a sequence of steps"),
        (steps.done(), TypeError, "a script is a sequence of steps"),
    ],
)
def test_unplayable_script_is_refused_at_construction(
    script: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        ScriptedServer(script)
    if "sequence" not in message:
        assert "step 1 of the script" in caught.value.__notes__[0]


def test_negative_wait_and_unknown_framing_are_refused() -> None:
    with pytest.raises(ValueError, match="zero or more"):
        steps.wait(-1)
    with pytest.raises(ValueError, match="zero or more"):
        steps.until(-1)
    with pytest.raises(ValueError, match="chunked, close, gzip, length"):
        ScriptedServer([], framing="brotli")  # type: ignore[arg-type]


# --- received requests ---


def test_request_has_every_received_part(transport: Transport) -> None:
    before = time.monotonic()
    with transport.serve(ENDING) as server:
        connection = transport.http(server)
        connection.request(
            "POST", "/v1/x?y=1", b'{"messages":[{"role":"user"}]}', {"Authorization": "Bearer key"}
        )
        connection.getresponse().read()
        connection.close()
        (request,) = server.requests
    assert (request.number, request.connection, request.method, request.path) == (
        0,
        0,
        "POST",
        "/v1/x?y=1",
    )
    assert request.headers["authorization"] == "Bearer key"
    assert request.body == b'{"messages":[{"role":"user"}]}'
    assert request.json["messages"][0]["role"] == "user"
    assert before < request.received < time.monotonic()


def test_chunked_request_body_is_joined() -> None:
    with ScriptedServer(ENDING) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)
        connection.request("POST", "/", iter([b'{"model":', b'"small"}']))
        connection.getresponse().read()
        connection.close()
    assert server.requests[0].json == {"model": "small"}


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'"\xff"'])
def test_json_raises_when_the_body_is_not_an_object(body: bytes) -> None:
    with ScriptedServer(ENDING) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)
        post(connection, body).read()
        connection.close()
    with pytest.raises(
        ValueError,
        match=r"the body of <request 0 \(POST /v1/chat/completions\)> is not a JSON object",
    ):
        _ = server.requests[0].json


def test_url_and_port_are_known_once_started(transport: Transport) -> None:
    server = transport.serve()
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = server.url
    assert server.start() is server
    host = "https://localhost" if transport.server_side else "http://127.0.0.1"
    assert server.url == f"{host}:{server.port}"
    server.close()
    server.close()
    with pytest.raises(RuntimeError, match="started before"):
        server.start()


def test_wait_for_requests_reports_how_many_arrived() -> None:
    with ScriptedServer(ENDING) as server:
        fetch(server)
        assert len(server.wait_for_requests(1)) == 1
        with pytest.raises(TimeoutError, match=r"1 of 2 requests arrived within 0.01 seconds"):
            server.wait_for_requests(2, timeout=0.01)


def test_wait_for_requests_returns_when_they_arrive() -> None:
    with ScriptedServer(ENDING) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.wait_for_requests, 1)
        fetch(server)
        assert waiting.result(timeout=TIMEOUT_SECONDS)[0].wait_answered()


# --- connections ---


def test_several_requests_use_one_connection(transport: Transport) -> None:
    with transport.serve(ENDING, ENDING, ENDING) as server:
        connection = transport.http(server)
        for _ in range(2):
            post(connection).read()
        assert server.open_connections == 1
        connection.close()
        assert server.wait_idle()
        connection = transport.http(server)
        post(connection).read()
        connection.close()
    assert [request.connection for request in server.requests] == [0, 0, 1]
    assert server.connections == 2


def test_pipelined_requests_are_answered_in_order(plain: Transport) -> None:
    with ScriptedServer(["a"], ["b"]) as server, plain.socket(server) as client:
        client.sendall(REQUEST + REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
        answers = read_to_end(client)
    assert answers.index(b'"a"') < answers.index(b'"b"')
    assert [request.connection for request in server.requests] == [0, 0]


@pytest.mark.parametrize(
    ("script", "framing", "header"),
    [
        (ENDING, "close", b""),
        (ENDING, "chunked", b"Connection: close\r\n"),
        ([steps.header("Connection", "close"), *ENDING], "chunked", b""),
        ([*ENDING, steps.end(), steps.drop()], "chunked", b""),
    ],
)
def test_server_closes_its_side_and_waits_for_the_peer(
    transport: Transport, script: Script, framing: str, header: bytes
) -> None:
    with transport.serve(script, framing=framing) as server, transport.socket(server) as client:
        client.sendall(REQUEST.replace(b"Host", header + b"Host"))
        assert b"[DONE]" in read_to_end(client)
        (request,) = server.requests
        assert request.wait_answered(TIMEOUT_SECONDS)
        assert not request.cut
        assert (request.closed, server.open_connections) == (None, 1)
        client.close()
        assert request.wait_closed(TIMEOUT_SECONDS)
        assert server.wait_idle(TIMEOUT_SECONDS)


def test_close_sends_close_notify_and_drop_does_not(tls: Transport) -> None:
    with tls.serve(["a"], ["a", steps.drop()], framing="close") as server:
        for announced in (True, False):
            with tls.socket(server, ragged=False) as client:
                client.sendall(REQUEST)
                if announced:
                    read_to_end(client)
                else:
                    with pytest.raises(ssl.SSLEOFError):
                        read_to_end(client)


@pytest.mark.parametrize(
    "script", [[steps.abort()], ["Hello", steps.abort()], [*ENDING, steps.end(), steps.abort()]]
)
def test_abort_is_a_reset(transport: Transport, script: Script) -> None:
    with transport.serve(script) as server, transport.socket(server) as client:
        client.sendall(REQUEST)
        with pytest.raises(ConnectionResetError):
            # The bare socket, also for TLS: Python's ssl may show a reset as an end.
            while socket.socket.recv(client, 65_536):
                pass
        (request,) = server.requests
        assert not request.wait_closed(TIMEOUT_SECONDS)
        assert request.disconnected
        assert not request.cut


def test_drop_before_the_headers_is_not_a_reset(transport: Transport) -> None:
    with transport.serve([steps.drop()]) as server, transport.socket(server) as client:
        client.sendall(REQUEST)
        assert read_to_end(client) == b""


def test_wait_delays_the_following_steps(transport: Transport) -> None:
    with transport.serve([steps.wait(0.05), "a", steps.wait(0.05), *ENDING]) as server:
        connection = transport.http(server)
        response = post(connection)
        first = time.monotonic()
        response.read()
        last = time.monotonic()
        received = server.requests[0].received
        assert first - received >= 0.049
        assert last - received >= 0.098
        connection.close()


def test_until_counts_from_the_request(transport: Transport) -> None:
    script: Script = ["a", *[steps.until(0.1)] * 1000, *ENDING]  # the first one waits
    with transport.serve(script) as server:
        connection = transport.http(server)
        post(connection).read()
        request = server.requests[0]
        assert request.wait_answered(TIMEOUT_SECONDS)
        assert request.answered is not None
        assert request.answered - request.received >= 0.099
        connection.close()


# --- disconnects ---

LONG = steps.wait(60)


@pytest.mark.parametrize("disconnect", [socket.socket.close, reset], ids=["close", "reset"])
@pytest.mark.parametrize(
    ("script", "received"),
    [
        pytest.param([steps.hang()], b"", id="hangs before the headers"),
        pytest.param([LONG], b"", id="waits before the headers"),
        pytest.param([steps.headers(), steps.hang()], b"\r\n\r\n", id="hangs after the headers"),
        pytest.param([steps.headers(), LONG, "a"], b"\r\n\r\n", id="waits after the headers"),
        pytest.param(["Hello", steps.hang()], b"Hello", id="hangs in the body"),
        pytest.param(["Hello", LONG, "a"], b"Hello", id="waits in the body"),
        pytest.param([steps.raw(LARGE_BLOCK)], b"\r\n\r\n", id="is sending"),
        pytest.param([steps.end(), LONG], b"0\r\n\r\n", id="waits after the body"),
    ],
)
def test_server_notices_a_disconnect_while_it(
    transport: Transport,
    script: Script,
    received: bytes,
    disconnect: Callable[[socket.socket], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    with transport.serve(script) as server, transport.socket(server) as client:
        client.sendall(REQUEST)
        (request,) = server.wait_for_requests(1)
        read_until(client, received)
        assert request.closed is None
        left = time.monotonic()
        disconnect(client)
        assert request.wait_closed(TIMEOUT_SECONDS)
        assert request.closed is not None
        assert request.received < left < request.closed < left + TIMEOUT_SECONDS
        assert request.wait_answered(TIMEOUT_SECONDS)
        assert request.cut
        assert server.wait_idle(TIMEOUT_SECONDS)
    assert capfd.readouterr().err == ""


def test_server_notices_a_half_close_while_buffers_are_full(transport: Transport) -> None:
    """The buffers are full and stay full: only the FIN shows it."""
    with transport.serve([steps.raw(LARGE_BLOCK)]) as server, transport.socket(server) as client:
        client.sendall(REQUEST)
        (request,) = server.wait_for_requests(1)
        client.recv(1)
        socket.socket.shutdown(client, socket.SHUT_WR)  # of the bare socket, also for TLS
        assert request.wait_closed(TIMEOUT_SECONDS)
        assert request.frames == 0


def test_server_notices_an_idle_connection_close(transport: Transport) -> None:
    with transport.serve(ENDING, ENDING) as server:
        connection = transport.http(server)
        post(connection).read()
        post(connection).read()
        assert server.requests[1].wait_answered(TIMEOUT_SECONDS)
        assert server.open_connections == 1
        connection.close()
        assert all(request.wait_closed(TIMEOUT_SECONDS) for request in server.requests)
        assert [request.cut for request in server.requests] == [False, False]


def test_close_notify_of_the_peer_is_a_disconnect(tls: Transport) -> None:
    """A close_notify ends the connection, though the socket is still open."""
    with tls.serve(["Hello", steps.hang()]) as server, tls.socket(server) as client:
        assert isinstance(client, ssl.SSLSocket)
        client.sendall(REQUEST)
        read_until(client, b"Hello")
        client.setblocking(False)
        with contextlib.suppress(ssl.SSLError):  # the reply has not arrived, or never will
            client.unwrap()
        assert server.requests[0].wait_closed(TIMEOUT_SECONDS)


def test_pipelined_request_does_not_hide_a_disconnect(
    transport: Transport,
) -> None:
    with transport.serve([steps.hang()]) as server, transport.socket(server) as client:
        client.sendall(REQUEST + REQUEST)
        (request,) = server.wait_for_requests(1)
        client.close()
        assert request.wait_closed(TIMEOUT_SECONDS)


def test_peers_that_send_no_request_leave_no_trace(
    transport: Transport, capfd: pytest.CaptureFixture[str]
) -> None:
    with transport.serve() as server:
        for beginning in (b"", b"POST /", REQUEST[:-1]):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(beginning)
            reset(client) if beginning else client.close()
        with transport.socket(server) as client:
            client.sendall(REQUEST[:-1])
    assert server.requests == []
    assert capfd.readouterr().err == ""


def test_failed_tls_handshake_leaves_no_trace(
    tls: Transport, capfd: pytest.CaptureFixture[str]
) -> None:
    with tls.serve() as server:
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=TIMEOUT_SECONDS)
        with pytest.raises(ssl.SSLCertVerificationError):
            connection.request("GET", "/")
        connection.close()
        assert server.wait_idle(TIMEOUT_SECONDS)
    assert (server.connections, server.requests, capfd.readouterr().err) == (1, [], "")


# --- failures ---


def test_request_without_a_script_fails_the_test() -> None:
    server = ScriptedServer(ENDING).start()
    fetch(server)
    response, body = fetch(server)
    with pytest.raises(
        AssertionError, match=r"no script for <request 1 \(POST /v1/chat/completions\)>.* given 1"
    ):
        server.__exit__(None, None, None)
    error = json.loads(body)
    assert (response.status, error["type"]) == (500, "unscripted_request")
    assert "request 1 (POST /v1/chat/completions)" in error["message"]
    assert "was given 1" in error["message"]


def test_error_of_the_block_gets_a_note_of_failures() -> None:
    with pytest.raises(KeyError) as caught, ScriptedServer() as server:
        fetch(server)
        raise KeyError
    assert "no script for <request 0" in caught.value.__notes__[0]


def test_check_raises_each_failure_once() -> None:
    server = ScriptedServer().start()
    fetch(server)
    fetch(server)
    server.close()
    with pytest.raises(AssertionError, match="request 0") as caught:
        server.check()
    assert "request 1" in caught.value.__notes__[0]
    server.check()


def test_input_that_is_not_http_raises(plain: Transport) -> None:
    with (
        pytest.raises(ValueError, match="the request line is not HTTP"),
        ScriptedServer() as server,
        plain.socket(server) as client,
    ):
        client.sendall(b"hello\r\n\r\n")
        assert read_to_end(client) == b""


def test_one_function_answers_every_request() -> None:
    def answer(request: ReceivedRequest) -> Script:
        return [request.json["model"], *ENDING]

    with ScriptedServer(answer) as server:
        for _ in range(3):
            assert frames_of(fetch(server)[1].removesuffix(b"data: [DONE]\n\n"))[0]["choices"][0][
                "delta"
            ] == {"content": "small"}
    assert [request.number for request in server.requests] == [0, 1, 2]


def test_several_functions_answer_one_request_each() -> None:
    with ScriptedServer(lambda _: ["a"], ["b"], lambda _: ["c"]) as server:
        bodies = [fetch(server)[1] for _ in range(3)]
    chunks = [frames_of(body)[0] for body in bodies]
    assert [chunk["id"] for chunk in chunks] == ["scripted-0", "scripted-1", "scripted-2"]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["a", "b", "c"]


def test_scripts_are_added_to_a_running_server() -> None:
    with ScriptedServer() as server:
        server.script(["a"], lambda _: ["b"])
        server.script(["c"])
        with pytest.raises(ValueError, match="can never run"):
            server.script(["d"], [steps.drop(), "e"])
        bodies = [fetch(server)[1] for _ in range(3)]
    chunks = [frames_of(body)[0] for body in bodies]
    assert [chunk["id"] for chunk in chunks] == ["scripted-0", "scripted-1", "scripted-2"]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["a", "b", "c"]


class Interruption(BaseException):
    """Not an Exception, like the exception of pytest.fail()."""


@pytest.mark.parametrize("kind", [LookupError, Interruption])
def test_error_of_a_script_function_is_raised_again(
    kind: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    def answer(request: ReceivedRequest) -> Script:
        raise kind("nothing for you")

    server = ScriptedServer(answer).start()
    response, body = fetch(server)
    with pytest.raises(kind, match="nothing for you"):
        server.__exit__(None, None, None)
    error = json.loads(body)
    assert (response.status, error["type"]) == (500, "script_function_error")
    assert "nothing for you" in error["message"]
    assert capfd.readouterr().err == ""


def test_function_that_returns_a_wrong_script_raises() -> None:
    with (
        pytest.raises(ValueError, match="can never run"),
        ScriptedServer(lambda _: [steps.drop(), "a"]) as server,
    ):
        assert fetch(server)[0].status == 500


# --- closing, and concurrency ---


@pytest.mark.parametrize(
    ("script", "received", "ends"),
    [
        pytest.param([steps.hang()], b"", False, id="hang"),
        pytest.param([steps.headers(), LONG], b"\r\n\r\n", False, id="wait"),
        pytest.param([steps.raw(LARGE_BLOCK)], b"\r\n\r\n", False, id="client does not read"),
        pytest.param([steps.drop()], b"", True, id="client does not close"),
        pytest.param(ENDING, b"0\r\n\r\n", True, id="idle"),
    ],
)
def test_close_ends_every_script_at_once(
    transport: Transport, script: Script, received: bytes, ends: bool
) -> None:
    with transport.serve(script) as server, transport.socket(server) as client:
        client.sendall(REQUEST)
        (request,) = server.wait_for_requests(1)
        read_until(client, received)
        assert request.wait_answered(TIMEOUT_SECONDS if ends else 0) is ends
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < TIMEOUT_SECONDS
        assert request.disconnected
        assert request.closed is None
        assert request.cut is not ends
        assert server.open_connections == 0
        with pytest.raises(ConnectionRefusedError):
            transport.socket(server)


def test_close_ends_a_silent_connection(transport: Transport) -> None:
    """Before the request, and before the TLS handshake."""
    with (
        transport.serve() as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_SECONDS) as client,
    ):
        client.sendall(b"\x16")
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < TIMEOUT_SECONDS


def test_close_leaves_a_hanging_body_incomplete(transport: Transport) -> None:
    with transport.serve(["Hello", steps.hang()]) as server:
        connection = transport.http(server)
        response = post(connection)
        response.read1(65_536)
        server.close()
        with pytest.raises((http.client.IncompleteRead, http.client.BadStatusLine, ValueError)):
            response.read()
            raise AssertionError("the body ended as if it were whole")
        connection.close()


def test_fifty_connections_at_once(transport: Transport) -> None:
    """No request is answered before all of them have arrived."""
    all_arrived = threading.Barrier(50)

    def answer(request: ReceivedRequest) -> Script:
        all_arrived.wait(timeout=TIMEOUT_SECONDS)
        return SCRIPT

    def ask() -> bytes:
        connection = transport.http(server)
        body = post(connection).read()
        connection.close()
        return body

    with transport.serve(answer) as server, ThreadPoolExecutor(50) as pool:
        bodies = [asked.result() for asked in [pool.submit(ask) for _ in range(50)]]
        assert all(body.endswith(b"data: [DONE]\n\n") for body in bodies)
        assert server.wait_idle()
    assert server.connections == 50


@pytest.mark.parametrize("reuse", [True, False], ids=["one connection", "a connection each"])
def test_five_hundred_requests_in_a_row(reuse: bool) -> None:
    with ScriptedServer(*[SCRIPT] * 500) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_SECONDS)
        for _ in range(500):
            assert post(connection).read().endswith(b"data: [DONE]\n\n")
            if not reuse:
                connection.close()
        connection.close()
        assert server.wait_idle()
    assert server.connections == (1 if reuse else 500)


def test_twenty_thousand_frames_are_sent_quickly(plain: Transport) -> None:
    with ScriptedServer([steps.text(*["word "] * 20_000), *ENDING]) as server:
        began = time.monotonic()
        with plain.socket(server) as client:
            client.sendall(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
            received = read_to_end(client)
        assert time.monotonic() - began < TIMEOUT_SECONDS  # it takes a fraction of a second
        assert received.count(b"word ") == 20_000
        assert server.requests[0].frames == 20_002


def test_tls_must_be_a_context() -> None:
    with pytest.raises(TypeError, match="must be an ssl"):
        ScriptedServer(tls=True)  # type: ignore[arg-type]


NO_DESCRIPTORS = """
import os, resource, socket
from rxmistral.testing import ScriptedServer, steps

resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
server = ScriptedServer([steps.role(), steps.hang()]).start()
first, second = (socket.socket() for _ in range(2))
first.connect(("127.0.0.1", server.port))
first.sendall(b"POST / HTTP/1.1\\r\\nContent-Length: 0\\r\\n\\r\\n")
server.wait_for_requests(1)
descriptors = []
try:
    while True:
        descriptors.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    second.connect(("127.0.0.1", server.port))
while True:
    try:
        server.check()
    except OSError:
        break
for descriptor in descriptors:
    os.close(descriptor)
assert server.open_connections == 1  # the open one continues
server.close()
assert server.open_connections == 0
first.close()
second.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit cannot be set")
def test_server_closes_after_descriptors_ran_out() -> None:
    program = [sys.executable, "-X", "dev", "-c", NO_DESCRIPTORS]  # reports what is not closed
    done = subprocess.run(program, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_server_listens_on_the_requested_port() -> None:
    with ScriptedServer() as first:
        port = first.port
        with pytest.raises(OSError, match="in use"):
            ScriptedServer(port=port).start()
    with ScriptedServer(port=port) as second:
        assert second.port == port
