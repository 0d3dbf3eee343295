"""Repeating a request: the conditions and the waits."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest
from faces import Face, by_for
from requests.structures import CaseInsensitiveDict

from rxmistral import (
    BackoffStrategy,
    ChunkError,
    DroppedStreamError,
    GuardError,
    IncompleteStreamError,
    Mistral,
    MistralError,
    ProtocolError,
    ReportedError,
    RequestError,
    RequestTimeoutError,
    Retry,
    RetryConfig,
    StatusError,
    StreamTimeoutError,
    Timeouts,
    text,
)
from rxmistral.chat.policies.retry import as_retry, may_be_repeated, retry_after
from rxmistral.testing import Script, ScriptedServer, steps

MESSAGES = [{"role": "user", "content": "?"}]
ANSWER: Script = [steps.role(), "Hel", "lo", steps.finish(), steps.done()]
SOON = Retry(initial=0.001)


def status(code: int, **headers: str) -> StatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return StatusError(code, CaseInsensitiveDict(named), "")


# --- the conditions and the waits ------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        RequestError("refused"),
        RequestTimeoutError("connect", 1),
        RequestTimeoutError("first", 1),
        StreamTimeoutError("first", 1),
        status(429),
        status(500),
        status(503),
        status(529),
        ReportedError("busy"),
        DroppedStreamError("reset"),
        IncompleteStreamError(),
    ],
)
def test_temporary_error_is_repeated(error: MistralError) -> None:
    assert may_be_repeated(error)


@pytest.mark.parametrize(
    "error",
    [
        status(400),
        status(401),
        status(404),
        status(408),
        status(422),
        RequestTimeoutError("total", 1),
        RequestError("unknown host", "nowhere.invalid", None, True),
        StreamTimeoutError("total", 1),
        ProtocolError("a page"),
        ChunkError("{", "cut"),
        GuardError(1),
    ],
)
def test_permanent_error_is_not_repeated(error: MistralError) -> None:
    assert not may_be_repeated(error)


def waits(retry: Retry, number: int) -> list[float | None]:
    return [retry.wait_after(ReportedError("busy"), attempt, 0) for attempt in range(1, number + 1)]


def test_waits_grow_to_the_maximum() -> None:
    retry = Retry(attempts=6, initial=1, maximum=5, multiplier=2, jitter=0)
    assert waits(retry, 6) == [1, 2, 4, 5, 5, None]


def test_attempts_include_the_first_request() -> None:
    assert waits(Retry(attempts=1), 1) == [None]


def test_jitter_shortens_a_wait() -> None:
    found = [Retry(initial=1, jitter=0.5).wait_after(ReportedError(""), 1, 0) for _ in range(200)]
    assert all(wait is not None and 0.5 <= wait <= 1 for wait in found)
    assert len(set(found)) > 100


def test_waits_do_not_overflow() -> None:
    retry = Retry(attempts=None, maximum=3, multiplier=10, jitter=0)
    assert retry.wait_after(ReportedError(""), 100_000, 0) == 3


def test_no_request_is_sent_after_max_elapsed() -> None:
    retry = Retry(attempts=None, initial=1, jitter=0, max_elapsed=10)
    assert retry.wait_after(ReportedError(""), 1, 9) == 1
    assert retry.wait_after(ReportedError(""), 1, 9.5) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "0.5"}, 0.5),
        ({"Retry_After": "7", "retry_after_ms": "1500"}, 1.5),
        ({"retry_after_ms": "nonsense", "Retry_After": "2"}, 2),
        ({"Retry_After": formatdate(0)}, 0),
        ({"Retry_After": "-1"}, None),
        ({"Retry_After": "nan"}, None),
        ({"Retry_After": "inf"}, None),
        ({"Retry_After": "tomorrow"}, None),
        ({"Retry_After": "Fri, 99 Nov 2026 08:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_the_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(status(429, **headers)) == seconds


def test_retry_after_may_be_a_date() -> None:
    seconds = retry_after(status(503, Retry_After=formatdate(time.time() + 100)))
    assert seconds is not None
    assert 90 < seconds <= 101


def test_retry_after_is_bounded_by_maximum() -> None:
    retry = Retry(maximum=2, initial=0.1)
    assert retry.wait_after(status(429, Retry_After="3600"), 1, 0) == 2
    assert retry.wait_after(status(429, Retry_After="1"), 1, 0) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"initial": -1},
        {"maximum": float("nan")},
        {"maximum": 10**400},
        {"multiplier": 0.5},
        {"jitter": 1.1},
        {"max_elapsed": "1"},
        {"attempts": None, "max_elapsed": None},
        {"on_retry": 1},
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        Retry(**wrong)


def test_retry_config_is_converted() -> None:
    config = RetryConfig("backoff", BackoffStrategy(500, 4000, 1.5, 30_000), False)
    assert as_retry(config) == Retry(
        attempts=None,
        initial=0.5,
        maximum=4,
        multiplier=1.5,
        max_elapsed=30,
        connection_errors=False,
    )
    assert as_retry(RetryConfig("none", BackoffStrategy(1, 1, 1, 1), True)) is None
    for wrong in (3, "backoff", RetryConfig("sometimes", BackoffStrategy(1, 1, 1, 1), True)):
        with pytest.raises(TypeError, match="retry must be"):
            as_retry(wrong)
    with pytest.raises(ValueError, match="max_interval"):
        as_retry(RetryConfig("backoff", BackoffStrategy(1, 10**400, 1, 1), True))


# --- with a server ------------------------------------------------------------------


def ask(read: Face, *scripts: Script, requests: int, **options: Any) -> Any:
    """Returns the items of the text; checks the number of requests."""
    with ScriptedServer(*scripts) as server:
        with Mistral(server_url=server.url) as client:
            stream = client.chat.stream(model="m", messages=MESSAGES, **options)
            received = read(stream.pipe(text()))
        assert len(server.requests) == requests
        assert server.connections <= requests
        return received


@pytest.mark.parametrize(
    "failure",
    [
        [steps.status(429, body={})],
        [steps.status(500, body={})],
        [steps.status(529)],
        [steps.drop()],
        [steps.abort()],
        [steps.role(), steps.drop()],
        [steps.role(), steps.empty(), steps.abort()],
        [steps.role()],
        [],
        [steps.role(), steps.error("busy")],
        [steps.finish("error")],
        [steps.raw(b'{"error": "busy"}\n')],
    ],
)
def test_failed_request_is_repeated(read: Face, failure: Script) -> None:
    received = ask(read, failure, ANSWER, requests=2, retry=SOON)
    assert received in (["Hel", "lo"], ["lo"])


@pytest.mark.parametrize("silence", [[steps.comment(), steps.empty()], []])
def test_silent_request_is_repeated(silence: list[Any]) -> None:
    received = ask(
        by_for,
        [*silence, steps.hang()],
        ANSWER,
        requests=2,
        retry=SOON,
        timeouts=Timeouts(first=1),
    )
    assert received == ["Hel", "lo"]


@pytest.mark.parametrize(
    "useful",
    ["He", steps.thinking("Hm"), steps.tool_call(name="f", arguments="{}"), steps.finish()],
)
def test_request_is_not_repeated_after_useful_output(read: Face, useful: Any) -> None:
    *_, error = ask(read, [useful, steps.error("busy")], requests=1, retry=SOON)
    assert isinstance(error, ReportedError)


@pytest.mark.parametrize("code", [400, 401, 404, 408, 422])
def test_permanent_refusal_is_not_repeated(read: Face, code: int) -> None:
    (error,) = ask(read, [steps.status(code, body={})], requests=1, retry=SOON)
    assert isinstance(error, StatusError)


def test_nothing_is_repeated_by_default(read: Face) -> None:
    (error,) = ask(read, [steps.status(503, body={})], requests=1)
    assert isinstance(error, StatusError)


def test_last_error_is_raised(read: Face) -> None:
    failures: list[Script] = [
        [steps.status(503, body={})],
        [steps.drop()],
        [steps.status(500, body={"message": "the last"})],
    ]
    (error,) = ask(read, *failures, requests=3, retry=SOON)
    assert isinstance(error, StatusError)
    assert error.message == "the last"


def test_on_retry_is_called_before_each_wait(read: Face) -> None:
    seen: list[Any] = []
    retry = Retry(initial=0.001, on_retry=lambda *what: seen.append(what))
    ask(read, [steps.status(503, body={})], [steps.role()], ANSWER, requests=3, retry=retry)
    assert [(type(error), attempt) for error, attempt, _ in seen] == [
        (StatusError, 1),
        (IncompleteStreamError, 2),
    ]
    assert all(0 <= wait <= 0.002 for *_, wait in seen)


def test_error_of_on_retry_ends_the_stream(read: Face) -> None:
    def on_retry(*_: object) -> None:
        raise ZeroDivisionError

    retry = Retry(initial=0.001, on_retry=on_retry)
    (error,) = ask(read, [steps.status(503, body={})], requests=1, retry=retry)
    assert isinstance(error, ZeroDivisionError)


def test_error_of_a_subscriber_is_not_retried() -> None:
    with ScriptedServer([steps.role(), *ANSWER]) as server:
        with Mistral(server_url=server.url, retry=SOON) as client:
            stream = client.chat.stream(model="m", messages=MESSAGES)

            def fail(_: object) -> None:
                raise DroppedStreamError("the subscriber's own")

            with pytest.raises(DroppedStreamError, match="own"):
                stream.do_action(fail).run()
        assert len(server.requests) == 1


def test_refused_connection_is_repeated() -> None:
    with ScriptedServer() as server:
        url = server.url
    seen: list[Any] = []
    retry = Retry(initial=0.001, on_retry=lambda *what: seen.append(what))
    with Mistral(server_url=url, retry=retry) as client, pytest.raises(RequestError):
        client.chat.stream(model="m", messages=MESSAGES).run()
    assert len(seen) == 2


def test_retry_of_the_call_overrides_the_client(read: Face) -> None:
    script: Script = [steps.status(503, body={})]
    with ScriptedServer(script) as server, Mistral(server_url=server.url, retry=SOON) as client:
        (error,) = read(client.chat.stream(model="m", messages=MESSAGES, retry=None))
        assert isinstance(error, StatusError)


def test_official_names_work_on_client_and_call(read: Face) -> None:
    config = RetryConfig("backoff", BackoffStrategy(1, 10, 1.5, 10_000), True)
    scripts: list[Script] = [[steps.status(503, body={})], ANSWER]
    with ScriptedServer(*scripts, *scripts) as server:
        with Mistral(server_url=server.url, retry_config=config) as client:
            assert read(client.chat.stream(model="m", messages=MESSAGES).pipe(text()))[-1] == "lo"
        with Mistral(server_url=server.url) as client:
            stream = client.chat.stream(model="m", messages=MESSAGES, retries=config)
            assert read(stream.pipe(text()))[-1] == "lo"
    with pytest.raises(ValueError, match="not both"):
        Mistral(retry=SOON, retry_config=config)
    with pytest.raises(ValueError, match="not both"):
        Mistral("k").chat.stream(model="m", messages=MESSAGES, retry=SOON, retries=config)
