"""What a response is: an event stream, a refusal, another body or a broken one."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from faces import BOUND, Face
from one_request import ANSWER, BODY, KEY, RecordingObserver, ask, body_of, error_of
from urllib3 import HTTPResponse

from rxmistral.errors import DroppedStreamError, ProtocolError, StatusError, StreamTimeoutError
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import READERS, Request

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)


@pytest.mark.parametrize("framing", ["chunked", "close", "length", "gzip"])
def test_body_is_emitted_whole_in_every_framing(framing: Any) -> None:
    with ScriptedServer(ANSWER, framing=framing) as server:
        received = list(ask(server))
        assert b"".join(received) == b"".join(BODY)
        assert b"" not in received
        assert server.wait_idle()


def test_compressed_block_is_emitted_before_the_next_is_sent() -> None:
    with ScriptedServer([steps.raw(BODY[0]), steps.hang()], framing="gzip") as server:
        iterator = iter(ask(server))
        assert next(iterator) == BODY[0]
        del iterator
        assert server.requests[0].wait_closed()


def test_deflate_is_decompressed() -> None:
    body = zlib.compress(BODY[0])
    header = steps.header("Content-Encoding", "deflate")
    assert body_of(header, steps.raw(body)) == BODY[0]


def test_compressed_body_may_arrive_byte_by_byte() -> None:
    body = gzip.compress(b"".join(BODY))
    script = [
        steps.header("Content-Encoding", "gzip"),
        steps.raw(*[bytes([byte]) for byte in body]),
    ]
    assert body_of(*script) == b"".join(BODY)


def test_body_not_matching_its_encoding_is_a_protocol_error() -> None:
    error = error_of(steps.header("Content-Encoding", "gzip"), *ANSWER)
    assert isinstance(error, ProtocolError)
    assert "cannot be decompressed" in str(error)


def test_empty_body_completes(read: Face) -> None:
    with ScriptedServer([steps.headers()]) as server:
        assert [item for item in read(ask(server)) if isinstance(item, bytes)] == []


def test_status_206_is_a_success() -> None:
    assert body_of(steps.status(206), *ANSWER) == b"".join(BODY)


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
def test_event_stream_is_recognized_whatever_its_label(label: str | None, body: bytes) -> None:
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
def test_other_body_is_a_protocol_error_that_shows_it(label: str | None, body: bytes) -> None:
    header = steps.header("Content-Type", label)
    for split in (steps.raw(body), steps.raw(*[bytes([byte]) for byte in body])):
        error = error_of(header, split)
        assert isinstance(error, ProtocolError)
        charset = "latin-1" if label and "latin" in label else "utf-8"
        assert error.body == body.decode(charset, "replace")
        assert (label or "no content type") in str(error)


def test_unlabelled_body_is_shown_up_to_a_limit() -> None:
    error = error_of(steps.header("Content-Type", "text/html"), steps.raw(*[b"<" * 65_536] * 40))
    assert isinstance(error, ProtocolError)
    assert error.body is not None
    assert len(error.body) == 1 << 20


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
def test_refusal_has_the_message_and_code_of_the_service(
    body: object, message: str, code: str | None
) -> None:
    error = error_of(steps.status(422, body=body, headers={"Retry-After": "7"}))
    assert isinstance(error, StatusError)
    assert (error.status, error.message, error.code) == (422, message, code)
    assert error.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [304, 400, 401, 403, 404, 429, 500, 503, 520, 529, 599])
def test_any_status_but_2xx_is_a_status_error(status: int) -> None:
    error = error_of(steps.status(status, reason=""))
    assert isinstance(error, StatusError)
    assert error.status == status


@pytest.mark.parametrize("framing", ["chunked", "close", "gzip"])
def test_refusal_is_read_in_every_framing(framing: Any) -> None:
    error = error_of(steps.status(400), steps.raw(b"wrong", b" model"), framing=framing)
    assert isinstance(error, StatusError)
    assert error.body == "wrong model"


@pytest.mark.parametrize("ending", [steps.drop(), steps.abort()])
def test_refusal_with_broken_body_is_a_status_error(ending: Any) -> None:
    error = error_of(steps.status(400), steps.raw(b"wrong"), ending)
    assert isinstance(error, StatusError)
    assert error.body in ("wrong", "")  # a reset may overtake the data before it


def test_endless_refusal_is_limited_in_time_and_size() -> None:
    error = error_of(steps.status(500), steps.raw(b"wrong"), steps.hang(), read_timeout=0.5)
    assert isinstance(error, StatusError)
    assert error.body == "wrong"
    error = error_of(steps.status(500), steps.raw(*[b"x" * 65_536] * 40))
    assert isinstance(error, StatusError)
    assert len(error.body) == 1 << 20


def echo(request: ReceivedRequest) -> Script:
    message = f"no such key: {request.headers['Authorization']} ({KEY})"
    return [steps.status(401, body={"message": message})]


def test_key_is_redacted_in_a_refusal() -> None:
    with ScriptedServer(echo) as server, pytest.raises(StatusError) as raised:
        list(ask(server))
    error = raised.value
    assert "no such key" in str(error)
    for text in (str(error), repr(error), error.body, error.message):
        assert KEY not in text


def test_key_is_redacted_in_a_body_that_is_not_a_stream() -> None:
    error = error_of(steps.header("Content-Type", "text/html"), steps.raw(f"<p>{KEY}</p>".encode()))
    assert KEY not in str(error) + repr(error)
    assert "[key]" in str(error)


@pytest.mark.parametrize("framing", ["chunked", "length", "gzip"])
@pytest.mark.parametrize("ending", [steps.drop(), steps.abort()], ids=["drop", "abort"])
def test_broken_body_is_dropped_after_the_blocks_before_it(framing: Any, ending: Any) -> None:
    with ScriptedServer([steps.raw(*BODY), steps.wait(0.4), ending], framing=framing) as server:
        observer = RecordingObserver()
        ask(server).subscribe(observer)
        assert observer.ended.wait(BOUND)
    assert b"".join(observer.items) == b"".join(BODY)
    (error,) = observer.terminals
    assert isinstance(error, DroppedStreamError)
    assert error.__cause__ is not None


def test_reset_of_an_unframed_body_is_dropped() -> None:
    error = error_of(*ANSWER, steps.wait(0.05), steps.abort(), framing="close")
    assert isinstance(error, DroppedStreamError)


def test_invalid_chunk_is_dropped() -> None:
    script = [steps.header("Transfer-Encoding", "chunked"), steps.raw(b"not a chunk")]
    assert isinstance(error_of(*script, framing="close"), DroppedStreamError)


def test_truncated_chunk_is_dropped_after_its_content() -> None:
    with ScriptedServer(
        [steps.header("Transfer-Encoding", "chunked"), steps.raw(b"ff\r\ndata: 1\n\n")],
        framing="close",
    ) as server:
        observer = RecordingObserver()
        ask(server).subscribe(observer)
        assert observer.ended.wait(BOUND)
    assert observer.items == [b"data: 1\n\n"]
    assert isinstance(observer.terminals[0], DroppedStreamError)


@pytest.mark.parametrize("framing", ["chunked", "close", "length", "gzip"])
def test_silence_is_a_timeout_after_the_blocks_before_it(framing: Any) -> None:
    with ScriptedServer([steps.raw(BODY[0]), steps.hang()], framing=framing) as server:
        observer = RecordingObserver()
        ask(server, read_timeout=0.5).subscribe(observer)
        assert observer.ended.wait(BOUND)
        assert server.requests[0].wait_closed()
    assert observer.items == [BODY[0]]
    (error,) = observer.terminals
    assert isinstance(error, StreamTimeoutError)
    assert (error.clock, error.seconds) == ("gap", 0.5)


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


def test_labelled_body_without_a_field_is_limited_in_size() -> None:
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
        received = read(ask(server))
    assert b"".join(filter(None, received)) == b"".join(BODY)
    error = error_of(header, LABEL, steps.raw(b"\x1f\x8b\x08"))
    assert isinstance(error, ProtocolError)
    assert f"Content-Encoding {encoding.strip()}" in str(error)


def test_unsupported_compression_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = [name for name in HTTPResponse.CONTENT_DECODERS if name != "zstd"]
    monkeypatch.setattr(HTTPResponse, "CONTENT_DECODERS", decoders)
    error = error_of(steps.header("Content-Encoding", "zstd"), *ANSWER)
    assert isinstance(error, ProtocolError)
    assert "cannot be decompressed here: it is compressed with 'zstd'" in str(error)
