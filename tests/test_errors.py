"""The tree of errors, their texts, and the shapes in which services report errors."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import reactivex
from faces import Face
from requests.structures import CaseInsensitiveDict

import rxmistral
from rxmistral import (
    AllFailedError,
    AuthenticationError,
    BusyError,
    ChunkError,
    DroppedStreamError,
    FencedError,
    GuardError,
    IncompleteStreamError,
    InvalidAnswerError,
    LaggedError,
    LogError,
    LogUnavailableError,
    LostProducerError,
    MemoryLog,
    Mistral,
    MistralError,
    ProtocolError,
    RateLimitError,
    ReportedError,
    RequestError,
    RequestTimeoutError,
    RoundLimitError,
    StatusError,
    StoppedError,
    Stream,
    StreamError,
    StreamTimeoutError,
    UnknownRunError,
    UserMessage,
    to_log,
)
from rxmistral.error_report import excerpt, read_report, without_secrets
from rxmistral.errors import redacted, reported_error
from rxmistral.relay import server_sent_events
from rxmistral.testing import ScriptedServer, steps

HEADERS = CaseInsensitiveDict({"Retry-After": "7"})

EACH: list[tuple[MistralError, str]] = [
    (RequestError("refused"), "no answer: refused"),
    (
        RequestError("refused", "api.mistral.ai", "proxy.local:3128", True),
        "no answer from api.mistral.ai through the proxy proxy.local:3128: refused",
    ),
    (
        RequestTimeoutError("connect", 10.0, "localhost:8000"),
        "no answer from localhost:8000: the connect timeout expired: "
        "waited 10 s for a connection; allow more in Timeouts(connect=...)",
    ),
    (
        RequestTimeoutError("first", 0.25),
        "no answer: the first timeout expired: "
        "waited 0.25 s for the headers of the answer; allow more in Timeouts(first=...)",
    ),
    (
        StatusError(429, HEADERS, '{"message": "rate limit", "type": "rate", "code": "1300"}'),
        "the service refused with status 429 Too Many Requests: rate limit; "
        "try again later, as Retry does",
    ),
    (
        StatusError(529, HEADERS, ""),
        "the service refused with status 529: (an empty body); try again later, as Retry does",
    ),
    (
        StatusError(404, HEADERS, '{"detail": "Not Found"}', "http://localhost/v1"),
        "the service refused with status 404 Not Found: Not Found (asked http://localhost/v1); "
        "check server_url and model",
    ),
    (
        StatusError(303, {"Location": "https://me:secret@b/?key=secret"}, "", "https://a/v1"),
        "the service refused with status 303 See Other: (an empty body) (asked https://a/v1); "
        "it redirects to 'https://b/', which was not followed",
    ),
    (StatusError(400, {}, "no"), "the service refused with status 400 Bad Request: no"),
    (
        AuthenticationError(401, {}, "no", "http://localhost/v1"),
        "the service refused with status 401 Unauthorized: no (asked http://localhost/v1); "
        "check the API key",
    ),
    (
        RateLimitError(429, HEADERS, "no"),
        "the service refused with status 429 Too Many Requests: no; try again later, as Retry does",
    ),
    (
        AllFailedError([RequestError("refused"), ZeroDivisionError("a\nb"), KeyError()]),
        "none of 3 streams returned an answer: (1) no answer: refused; (2) a b; (3) KeyError",
    ),
    (ProtocolError("too large"), "too large"),
    (
        ProtocolError("not an event stream (text/html)", "<html>\n hi"),
        "not an event stream (text/html): hi",
    ),
    (
        ProtocolError("not an event stream (text/plain)", ""),
        "not an event stream (text/plain): (an empty body)",
    ),
    (
        ChunkError("[1]", "Expected `object`"),
        "an event does not contain a chunk (Expected `object`): [1]",
    ),
    (ReportedError("overloaded"), "the service reported an error: overloaded"),
    (
        ReportedError("overloaded", "busy", "1300"),
        "the service reported an error: overloaded (busy, code 1300)",
    ),
    (ReportedError("a\nb", None, "7"), "the service reported an error: a b (code 7)"),
    (
        InvalidAnswerError("Recipe", "Object missing required field `name`", "{}"),
        "the answer is not JSON of the type Recipe (Object missing required field `name`): {}",
    ),
    (
        RoundLimitError([UserMessage(content="hi")], 3),
        "the model still called tools in round 3, the last one allowed; increase max_rounds, "
        "or send the messages of this error again",
    ),
    (GuardError(4), "the text was stopped before a match at character 4"),
    (ReportedError(""), "the service reported an error: (without a message)"),
    (
        StreamTimeoutError("gap", 60.0),
        "the gap timeout expired: nothing useful arrived for 60 s; allow more in Timeouts(gap=...)",
    ),
    (
        StreamTimeoutError("total", 5.0),
        "the total timeout expired: the answer took more than 5 s; allow more in Timeouts(total=...)",
    ),
    (DroppedStreamError("reset"), "the connection broke in the middle of the answer: reset"),
    (
        IncompleteStreamError(),
        "the answer may be cut short: it ended with neither a finish_reason nor [DONE]; "
        "accept_clean_end=True accepts such an end",
    ),
    (
        IncompleteStreamError("it ended inside an event"),
        "the answer is incomplete: it ended inside an event",
    ),
    (LogError("READONLY"), "the log failed: READONLY"),
    (LogUnavailableError("refused", 2.5), "the log was unavailable for 2.5 s: refused"),
    (UnknownRunError("r1"), "the log does not contain the run 'r1': not begun yet, or expired"),
    (
        FencedError("r1"),
        "another producer writes the run 'r1': the items of this producer are no longer kept",
    ),
    (
        BusyError(),
        'the conversation is still answering another prompt; when_busy="queue" waits for it',
    ),
    (StoppedError(), "the answer was stopped, for all its readers"),
    (
        LaggedError(3),
        "this reader lags too far: 3 items are no longer kept; increase max_items, or read faster",
    ),
    (
        LostProducerError("r1", 10.0),
        "the producer of the run 'r1' is lost: no sign of life for 10 s",
    ),
]
each_error = pytest.mark.parametrize(
    ("error", "text"), EACH, ids=[f"{type(error).__name__}-{at}" for at, (error, _) in enumerate(EACH)]
)  # fmt: skip


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (MistralError, [Exception]),
        (RequestError, [MistralError]),
        (RequestTimeoutError, [RequestError, TimeoutError]),
        (StatusError, [MistralError]),
        (AuthenticationError, [StatusError]),
        (RateLimitError, [StatusError]),
        (AllFailedError, [MistralError]),
        (InvalidAnswerError, [MistralError]),
        (GuardError, [MistralError]),
        (StreamError, [MistralError]),
        (ProtocolError, [StreamError]),
        (ChunkError, [StreamError]),
        (ReportedError, [StreamError]),
        (StreamTimeoutError, [StreamError, TimeoutError]),
        (DroppedStreamError, [StreamError]),
        (IncompleteStreamError, [StreamError]),
        (LogError, [MistralError]),
        (LogUnavailableError, [LogError]),
        (UnknownRunError, [LogError]),
        (FencedError, [LogError]),
        (BusyError, [MistralError]),
        (StoppedError, [StreamError]),
        (LaggedError, [StreamError]),
        (LostProducerError, [StreamError]),
    ],
)
def test_error_bases_match_the_drawn_tree(
    error: type[Exception], bases: list[type[Exception]]
) -> None:
    assert list(error.__bases__) == bases


def test_every_error_is_exported_by_the_package() -> None:
    for name in rxmistral.errors.__all__:
        assert getattr(rxmistral, name) is getattr(rxmistral.errors, name)
        assert name in rxmistral.__all__


def test_every_error_class_has_a_sample() -> None:
    parents = {MistralError, StreamError}
    concrete = {getattr(rxmistral.errors, name) for name in rxmistral.errors.__all__} - parents
    assert {type(error) for error, _ in EACH} == concrete


@each_error
def test_error_text_is_one_line(error: MistralError, text: str) -> None:
    assert str(error) == text
    assert "\n" not in text


@each_error
def test_errors_survive_pickling_and_copying(error: MistralError, text: str) -> None:
    error.add_note("while asking for a poem")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == text
        assert repr(again.args) == repr(error.args)  # an error in it is equal to itself alone
        assert repr(vars(again)) == repr(vars(error))
        assert again.__notes__ == error.__notes__


@pytest.mark.parametrize(
    "error",
    [
        ReportedError(message="overloaded", code="1300"),
        RequestTimeoutError(seconds=10.0, clock="connect"),
        StreamTimeoutError(clock="gap", seconds=60.0),
    ],
)
def test_errors_made_by_keywords_survive_pickling(error: MistralError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_subclass_with_extra_attributes_pickles() -> None:
    error = MarkedError("reset")
    error.mark = 7
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.reason, again.mark) == (MarkedError, "reset", 7)


class MarkedError(DroppedStreamError):
    mark = 0


def test_errors_match_by_position() -> None:
    match ReportedError("overloaded", "busy", "1300"):
        case ReportedError(message, type, code):
            assert (message, type, code) == ("overloaded", "busy", "1300")
    match RequestTimeoutError("connect", 10.0):
        case RequestTimeoutError(clock, seconds):
            assert (clock, seconds) == ("connect", 10.0)


def test_errors_need_only_their_required_attributes() -> None:
    match StatusError(404, HEADERS, "no", "http://localhost"):
        case StatusError(status, headers, body):
            assert (status, headers, body) == (404, HEADERS, "no")
    assert StatusError(404, HEADERS, "no").url is None
    assert RequestError("refused").host is None
    assert RequestTimeoutError("connect", 10.0).proxy is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@host:1/v1?key=secret#secret", "https://host:1/v1"),
        ("https://me:sec/ret@host/v1", "https://host/v1"),
        ("https://me:sec?ret@host/v1", "https://host/v1"),
        ("me:secret@host/v1", "host/v1"),
        ("https://host/v1", "https://host/v1"),
        ("", ""),
    ],
)
def test_without_secrets_removes_credentials_and_query(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (RequestError("a"), "RequestError('a')"),
        (RequestError(reason="a", host=None), "RequestError('a')"),
        (RequestError("a", "host"), "RequestError('a', 'host')"),
        (RequestError("a", is_permanent=True), "RequestError('a', None, None, True)"),
        (RequestTimeoutError("gap", 1.5), "RequestTimeoutError('gap', 1.5)"),
        (StatusError(404, {}, "no"), "StatusError(404, {}, 'no')"),
        (ReportedError("a", code="7"), "ReportedError('a', None, '7')"),
        (UnknownRunError("r1"), "UnknownRunError('r1')"),
        (IncompleteStreamError(), "IncompleteStreamError()"),
        (LogUnavailableError("a", 1.5), "LogUnavailableError('a', 1.5)"),
        (MistralError("a"), "MistralError('a')"),
    ],
)
def test_repr_of_an_error_omits_defaults_at_the_end(error: MistralError, shown: str) -> None:
    assert repr(error) == shown


def test_base_classes_show_their_argument_as_text() -> None:
    assert (str(MistralError("a")), str(StreamError("b")), str(MistralError())) == ("a", "b", "")


# An error among the items is a mistake of the program, even if it is one of our dataclasses.


@each_error
@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: {"error": [error]}])
def test_error_as_an_item_cannot_be_encoded(
    error: MistralError, text: str, wrap: Callable[[MistralError], object]
) -> None:
    with pytest.raises(TypeError, match=f"{type(error).__name__} is unsupported"):
        msgspec.json.encode(wrap(error))


def test_to_log_refuses_an_error_as_an_item() -> None:
    source = reactivex.of("a", RequestError("b"))
    with pytest.raises(LogError, match="cannot log an item of type RequestError"):
        Stream.of(source).pipe(to_log(MemoryLog(), "run")).run()


def test_server_sent_events_refuses_an_error_as_an_item() -> None:
    received: list[bytes] = []
    errors: list[Exception] = []
    source = reactivex.of("a", RequestError("b"))
    server_sent_events(source).subscribe(received.append, errors.append)
    assert [type(error) for error in errors] == [TypeError]
    assert b'"a"' in b"".join(received)
    assert b'"b"' not in b"".join(received)


def test_timeouts_have_no_errno() -> None:
    assert RequestTimeoutError("connect", 10.0).errno is None
    assert StreamTimeoutError("gap", 60.0).errno is None


# --- the shapes of error bodies ----------------------------------------------

Reported = tuple[str | None, str | None, str | None]

SHAPES: dict[str, tuple[Any, Reported]] = {
    "detail": ({"detail": "Unauthorized"}, ("Unauthorized", None, None)),
    "validation": (
        {"detail": [{"type": "missing", "loc": ["body", "messages", 0], "msg": "Field required", "input": {}}]},
        ("body.messages.0: Field required", "missing", None),
    ),
    "two problems": (
        {"detail": [{"loc": ["body", "a"], "msg": "x"}, {"loc": ["body", "b"], "msg": "y"}]},
        ("body.a: x; body.b: y", None, None),
    ),
    "problem without location": ({"detail": [{"msg": "x"}]}, ("x", None, None)),
    "problems that are strings": ({"detail": ["x", "y"]}, ("x; y", None, None)),
    "message": ({"message": "Requests rate limit exceeded"}, ("Requests rate limit exceeded", None, None)),
    "object": (
        {"object": "error", "message": "Busy", "type": "rate_limit", "param": None, "code": "1300", "raw_status_code": 429},
        ("Busy", "rate_limit", "1300"),
    ),
    "code as int": ({"object": "error", "message": "Busy", "type": "x", "code": 1300}, ("Busy", "x", "1300")),
    "code null": ({"object": "error", "message": "Busy", "type": "x", "code": None}, ("Busy", "x", None)),
    "code 0": ({"object": "error", "message": "Busy", "code": 0}, ("Busy", None, "0")),
    "code an object": ({"message": "Busy", "code": {}}, ("Busy", None, None)),
    "message an object": (
        {"object": "error", "message": {"detail": [{"type": "missing", "loc": ["body"], "msg": "No"}]}, "type": "invalid", "code": 7},
        ("body: No", "invalid", "7"),
    ),
    "message an object, no inner type": (
        {"object": "error", "message": {"detail": "No"}, "type": "invalid"}, ("No", "invalid", None)
    ),
    "message an object with its own fields": (
        {"object": "error", "message": {"message": "No", "type": "inner", "code": 1}, "type": "outer", "code": 7},
        ("No", "outer", "7"),
    ),
    "own message first": (
        {"message": "Busy", "error": {"message": "inner", "type": "inner", "code": 1}}, ("Busy", "inner", "1")
    ),
    "an envelope that is just an error": ({"type": "error", "error": {"type": "busy", "message": "Busy"}}, ("Busy", "busy", None)),
    "msg": ({"code": 500, "msg": "Busy"}, ("Busy", None, "500")),
    "errors": ({"errors": [{"message": "Busy", "code": 7}, {"message": "Late"}]}, ("Busy; Late", None, "7")),
    "errors that are strings": ({"errors": ["Busy"]}, ("Busy", None, None)),
    "error": ({"error": {"message": "Busy", "type": "x", "code": "7"}}, ("Busy", "x", "7")),
    "error as text": ({"error": "Busy"}, ("Busy", None, None)),
    "error as text, with a code": ({"error": "Busy", "code": 7}, ("Busy", None, "7")),
    "error without message": ({"error": {"type": "x", "code": 7}}, (None, "x", "7")),
    "a string": ("Busy", ("Busy", None, None)),
    "surrogates": ({"message": "\ud83d\ude00 \ud83d", "type": "\ud83d", "code": "\ud83d"}, ("😀 \ufffd", "\ufffd", "\ufffd")),
    "location with a surrogate": ({"detail": [{"loc": ["\ud83d"], "msg": "x"}]}, ("\ufffd: x", None, None)),
    "empty message": ({"message": ""}, (None, None, None)),
    "empty object": ({}, (None, None, None)),
    "number": (7, (None, None, None)),
    "null": (None, (None, None, None)),
    "unknown keys": ({"oops": "x"}, (None, None, None)),
    "type that is not a string": ({"message": "Busy", "type": 7}, ("Busy", None, None)),
}  # fmt: skip


@pytest.mark.parametrize(("body", "reported"), SHAPES.values(), ids=SHAPES)
def test_report_is_found_in_every_shape(body: Any, reported: Reported) -> None:
    text = json.dumps(body)
    assert read_report(text) == reported
    error = StatusError(400, {}, text)
    assert (error.message, error.type, error.code) == (reported[0] or text, *reported[1:])
    assert (error.status, error.headers, error.body) == (400, {}, text)
    str(error).encode()  # whatever was received can be printed


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>\n<h1>Bad Gateway</h1></html>", "Bad Gateway"),
        ("\ufeff <!DOCTYPE html><TITLE class='a'>\n502 &amp; out</TITLE><h1>x", "502 & out"),
        ("<html><title> </title><style>p{}</style><p>Log&nbsp;in<script>f('a'<b)", "Log in"),
        ("<Error><Code>NoSuchBucket</Code></Error>", "NoSuchBucket"),
        ("<html>", "<html>"),
        ("<" * 100_000, "<" * 500 + "..."),
        ("5 < 6", "5 < 6"),
        ("", ""),
        ("upstream connect error", "upstream connect error"),
        ('{"message": "cut', '{"message": "cut'),
        ('{"message": "a\x01b"}', "a\x01b"),
        ('{"message": "a", "x": NaN}', "a"),
    ],
)
def test_message_is_the_text_of_any_other_body(body: str, message: str) -> None:
    assert StatusError(502, {}, body).message == message


def test_status_error_quotes_the_service_behind_a_gateway() -> None:
    body = '{"error":{"message":"Provider returned error","code":429,"metadata":{"raw":"Busy"}}}'
    error = StatusError(429, {}, body)
    assert error.message == "Provider returned error"
    assert ": Provider returned error: Busy;" in str(error)


@pytest.mark.parametrize("status", [418, 499, 520, 529, 599, 999])
def test_status_error_accepts_unregistered_statuses(status: int) -> None:
    assert f"status {status}" in str(StatusError(status, {}, "x"))


def test_headers_are_found_in_any_case() -> None:
    assert StatusError(429, HEADERS, "").headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("data", "event", "reported"),
    [
        ('{"object":"error","message":"Busy","type":"x","code":"7"}', "message", ("Busy", "x", "7")),
        ('{"object":"error"}', "message", ('{"object":"error"}', None, None)),
        ('{"error":{"message":"Busy"}}', "message", ("Busy", None, None)),
        ('{"error":"Busy"}', "message", ("Busy", None, None)),
        ('{"error":true}', "message", ('{"error":true}', None, None)),
        ('{"error":{"code":7}}', "message", ('{"error":{"code":7}}', None, "7")),
        ('{"error":"a\x01b"}', "message", ("a\x01b", None, None)),
        ('{"error":"\\ud83d"}', "message", ("\ufffd", None, None)),
        ('{"message":"Busy"}', "error", ("Busy", None, None)),
        ('{"code":500,"msg":"Busy"}', "message", ("Busy", None, "500")),
        ('{"errors":[{"message":"Busy","type":"x"}]}', "message", ("Busy", "x", None)),
        ('{"error":{"message":"Failed","code":502,"metadata":{"raw":"Busy"}}}', "message", ("Failed: Busy", None, "502")),
        ('{"error":{"message":"Failed","metadata":{"raw":"{\\"error\\":{\\"message\\":\\"Busy\\"}}"}}}', "message", ("Failed: Busy", None, None)),
        ('{"error":{"message":"Failed","metadata":{"raw":{"message":"Busy"}}}}', "message", ("Failed: Busy", None, None)),
        ('{"error":{"message":"Failed: Busy","metadata":{"raw":"Busy"}}}', "message", ("Failed: Busy", None, None)),
        ('{"error":{"message":"Failed","metadata":{"raw":null}}}', "message", ("Failed", None, None)),
        ("Busy", "error", ("Busy", None, None)),
        ("", "error", ("", None, None)),
    ],
)  # fmt: skip
def test_reported_error_reads_every_shape(data: str, event: str, reported: Reported) -> None:
    error = reported_error(data, event)
    assert error is not None
    assert (error.message, error.type, error.code) == reported


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[DONE]",
        "error",
        '"error"',
        "[]",
        "null",
        '{"choices":[]}',
        '{"error":null}',
        '{"error":{}}',
        '{"error":""}',
        '{"error":false}',
        '{"message":"hi","choices":[]}',
        '{"message":{"role":"assistant"}}',
        '{"detail":null}',
        '{"code":0,"msg":"ok"}',
        '{"code":200,"msg":"ok"}',
        '{"errors":[]}',
        '{"msg":"hi","choices":[]}',
        '{"object":"chat.completion.chunk"}',
    ],
)
def test_reported_error_is_none_for_other_events(data: str) -> None:
    assert reported_error(data) is None


@pytest.mark.parametrize("depth", [100, 400, 900, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [('{"error":', "}"), ("[", "]"), ('{"x":[', "]}")])
def test_deep_nesting_neither_raises_nor_takes_long(depth: int, opening: str, closing: str) -> None:
    text = '{"error":' + opening * depth + '"x"' + closing * depth + "}"
    read_report(text)  # visits each part once, or it would not return in time
    StatusError(500, {}, text)
    reported_error(text)


# --- excerpts --------------------------------------------------------------------


def test_excerpt_is_short_and_on_one_line() -> None:
    assert excerpt("a\r\n\t b\u2028c ") == "a b c"
    assert excerpt(500 * "x") == 500 * "x"
    assert excerpt(501 * "x") == 500 * "x" + "..."
    assert excerpt(10_000_000 * "x") == 500 * "x" + "..."
    assert excerpt("a" + 10_000 * " " + "b") == "a..."


@pytest.mark.parametrize(
    "error",
    [
        StatusError(500, {}, 10_000 * "x"),
        StatusError(500, {}, json.dumps({"message": 10_000 * "x"})),
        ProtocolError("not an event stream", 10_000 * "x"),
        ChunkError(10_000 * "x", "no"),
        ReportedError(10_000 * "x"),
    ],
)
def test_error_text_shows_only_the_beginning_of_a_body(error: MistralError) -> None:
    assert len(str(error)) < 620
    assert "x..." in str(error)


def test_attributes_contain_the_whole_body() -> None:
    body = json.dumps({"message": 10_000 * "x"})
    assert StatusError(500, {}, body).body == body
    assert StatusError(500, {}, body).message == 10_000 * "x"
    assert ChunkError(body, "no").data == body
    assert ReportedError(10_000 * "x").message == 10_000 * "x"


@pytest.mark.parametrize(
    "error",
    [
        RequestError("SECRET-KEY is not HTTP"),
        StatusError(
            401, {"x-echo": "SECRET-KEY"}, '{"message": "bad key SECRET-KEY", "type": "SECRET-KEY"}'
        ),
        ProtocolError("not an event stream", "<html>SECRET-KEY"),
        ChunkError("SECRET-KEY", "malformed"),
        ReportedError("bad key SECRET-KEY", "SECRET-KEY", "SECRET-KEY"),
        DroppedStreamError("SECRET-KEY"),
    ],
)
def test_redacted_removes_the_key_from_every_text(error: MistralError) -> None:
    error.__cause__ = ValueError("SECRET-KEY")
    shown = redacted(error, "SECRET-KEY")
    assert shown is error
    texts = [str(error), repr(error), *map(str, vars(error).values()), *map(str, error.args)]
    texts += traceback.format_exception(error)
    assert not [text for text in texts if "SECRET-KEY" in text]
    assert any("[key]" in text for text in texts)


def test_redacted_keeps_a_cause_without_the_key() -> None:
    error = DroppedStreamError("reset")
    error.__cause__ = cause = OSError("reset")
    assert redacted(error, "SECRET-KEY").__cause__ is cause
    assert redacted(error, "").__cause__ is cause


@pytest.mark.parametrize("key", ["", "k", "key", "test"])
def test_redacted_ignores_secrets_too_short_for_a_key(key: str) -> None:
    error = StatusError(429, {}, '{"message": "the test key is out of tokens"}')
    assert redacted(error, key).message == "the test key is out of tokens"
    assert redacted(error, key).body == '{"message": "the test key is out of tokens"}'


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, StatusError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, StatusError),
        (429, RateLimitError),
        (503, StatusError),
    ],
)
def test_refusal_has_the_class_of_its_status(read: Face, status: int, kind: type) -> None:
    with (
        ScriptedServer([steps.status(status, headers={"Retry-After": "7"})]) as server,
        Mistral(server_url=server.url) as client,
    ):
        (error,) = read(client.chat.stream(model="any", messages=[UserMessage(content="Hi")]))
        assert type(error) is kind
        assert error.retry_after == 7
        assert error.url == f"{server.url}/v1/chat/completions"
