"""Replays of recordings, read by real clients and in virtual time."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from faces import BOUND, Face
from reactivex.scheduler import VirtualTimeScheduler
from reactivex.testing import TestScheduler
from recording_builders import body, chunk, exchange, write

from rxmistral import (
    DroppedStreamError,
    EventStream,
    IncompleteStreamError,
    Mistral,
    RateLimitError,
    RequestError,
    RequestTimeoutError,
    Retry,
    StatusError,
    StreamTimeoutError,
    Timeouts,
    completions,
    text,
)
from rxmistral.rx.stream import Stream
from rxmistral.testing import ScriptedServer, replay
from rxmistral.wire import events, lines

EVENTS = chunk("Bonjour") + chunk(", monde", "stop") + "data: [DONE]\n\n"


def ask(client: Mistral, prompt: str = "Hi", **options: Any) -> EventStream:
    messages = [{"role": "user", "content": prompt}]
    return client.chat.stream(model="m", messages=messages, **options)


def client_of(server: ScriptedServer, **options: Any) -> Mistral:
    return Mistral(api_key="secret", server_url=server.url, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.jsonl"


# --- as a server ---


def test_replay_answers_on_every_face(path: Path, read: Face) -> None:
    write(path, exchange())
    with replay(path, speed=None) as server, client_of(server) as client:
        assert "".join(read(ask(client).pipe(text()))) in ("Hello", "lo")


def test_replay_sends_the_recorded_bytes_and_headers(path: Path) -> None:
    headers = {"content-type": "text/event-stream", "mistral-correlation-id": "c1"}
    lines = exchange(blocks=[(0.2, "data: Zür"), (0.3, "ich\n\n")], headers=headers)
    lines.insert(4, {"t": 0.3, "b64": "/w=="})
    write(path, lines)
    with replay(path, speed=None) as server:
        response = requests.post(
            f"{server.url}/v1/chat/completions", body("Hi").encode(), timeout=BOUND
        )
    assert response.content == "data: Zürich\n\n".encode() + b"\xff"
    assert response.headers["Mistral-Correlation-Id"] == "c1"


def test_replay_keeps_the_recorded_times(path: Path) -> None:
    write(path, exchange(blocks=[(0.3, chunk("a")), (0.6, chunk("b", "stop"))]))
    for speed, seconds in ((1, 0.6), (3, 0.2)):
        with replay(path, speed=speed) as server, client_of(server) as client:
            began = time.monotonic()
            assert list(ask(client).pipe(text())) == ["a", "b"]
            assert seconds <= time.monotonic() - began


def test_body_matches_in_any_order_of_keys(path: Path) -> None:
    write(path, exchange())
    with replay(path, speed=None) as server:
        reordered = json.dumps(dict(reversed(json.loads(body("Hi")).items())))
        url = f"{server.url}/v1/chat/completions?ignored=1"
        assert requests.post(url, reordered.encode(), timeout=BOUND).ok


def test_equal_requests_are_answered_in_recorded_order(path: Path) -> None:
    write(
        path,
        exchange("A", [(0, chunk("first", "stop"))]),
        exchange("B", [(0, chunk("other", "stop"))]),
        exchange("A", [(0, chunk("second", "stop"))]),
    )
    with replay(path) as server, client_of(server) as client:
        answers = ["".join(ask(client, prompt).pipe(text())) for prompt in "AAB"]
    assert answers == ["first", "second", "other"]


def test_unknown_request_shows_the_nearest(path: Path) -> None:
    write(path, exchange("Something else entirely"), exchange("What is the capital of France?"))
    server = replay(path, speed=None).start()
    with client_of(server) as client, pytest.raises(StatusError, match="was not recorded"):
        ask(client, "What is the capital of Spain?").run()
    with pytest.raises(AssertionError) as caught:
        server.__exit__(None, None, None)
    shown = str(caught.value)
    assert "<request 0 (POST /v1/chat/completions)> was not recorded" in shown
    assert '-      "content": "What is the capital of France?"' in shown
    assert '+      "content": "What is the capital of Spain?"' in shown
    assert "secret" not in shown


def test_error_of_the_block_shows_the_nearest_in_lines(path: Path) -> None:
    write(path, exchange("A"))
    with pytest.raises(StatusError) as caught, replay(path) as server, client_of(server) as client:
        ask(client, "B").run()
    assert '\n-      "content": "A",\n' in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/v1/chat/completions"), ("POST", "/v1/models")]
)
def test_method_and_path_must_match(path: Path, method: str, target: str) -> None:
    write(path, exchange())
    with pytest.raises(AssertionError, match="was not recorded"), replay(path) as server:
        response = requests.request(
            method, server.url + target, data=body("Hi").encode(), timeout=BOUND
        )
        assert response.status_code == 400


def test_one_request_too_many_fails(path: Path) -> None:
    write(path, exchange())
    with (
        pytest.raises(AssertionError, match=r"request 1 .* recorded once, and this is one more"),
        replay(path, speed=None) as server,
        client_of(server) as client,
    ):
        ask(client).run()
        with pytest.raises(StatusError, match="one more"):
            ask(client).run()


def test_empty_recording_answers_nothing(path: Path) -> None:
    write(path)
    with pytest.raises(AssertionError, match="the recording is empty"), replay(path) as server:
        requests.get(server.url, timeout=BOUND)


def test_redacted_requests_match_with_redact(path: Path) -> None:
    def redact(data: bytes) -> bytes:
        return data.replace(b"Ada", b"[name]")

    write(path, exchange("I am [name]"))
    with replay(path, speed=None, redact=redact) as server, client_of(server) as client:
        assert list(ask(client, "I am Ada").pipe(text())) == ["Hel", "lo"]


def test_refusal_is_replayed_with_its_headers(path: Path) -> None:
    refusal = exchange(
        blocks=[(0.2, '{"message": "slow down"}')], status=429, headers={"retry-after": "0"}
    )
    write(path, refusal, exchange())
    with replay(path, speed=None) as server, client_of(server) as client:
        with pytest.raises(RateLimitError, match="slow down") as caught:
            ask(client).run()
        assert caught.value.retry_after == 0
        assert list(ask(client).pipe(text())) == ["Hel", "lo"]
    with replay(path, speed=None) as server, client_of(server, retry=Retry()) as client:
        assert list(ask(client).pipe(text())) == ["Hel", "lo"]


@pytest.mark.parametrize("status", [204, 304, 500])
def test_response_without_a_body_leaves_the_connection_usable(path: Path, status: int) -> None:
    write(path, exchange("A", [], status=status), exchange("B"))
    with replay(path, speed=None) as server, requests.Session() as session:
        url = f"{server.url}/v1/chat/completions"
        empty = session.post(url, body("A").encode(), timeout=BOUND)
        assert (empty.status_code, empty.content) == (status, b"")
        assert "Transfer-Encoding" not in empty.headers  # RFC 9112, 6.1
        assert session.post(url, body("B").encode(), timeout=BOUND).ok
    assert server.connections == 1


def test_request_without_a_response_is_dropped_again(path: Path) -> None:
    lines = exchange("Hi", [], "drop")
    write(path, [lines[0], lines[-1]])
    with replay(path) as server, client_of(server) as client, pytest.raises(RequestError):
        ask(client).run()


@pytest.mark.parametrize(
    ("end", "error"),
    [("drop", DroppedStreamError), ("timeout", StreamTimeoutError), ("left", StreamTimeoutError)],
)
def test_recorded_end_is_replayed(path: Path, end: str, error: type[Exception]) -> None:
    write(path, exchange(blocks=[(0.1, chunk("Hel"))], end=end))
    timeouts = Timeouts(gap=0.2)
    with replay(path, speed=None) as server, client_of(server, timeouts=timeouts) as client:
        received: list[str] = []
        with pytest.raises(error):
            received.extend(ask(client).pipe(text()))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("cut", IncompleteStreamError),
        ("drop", DroppedStreamError),
        ("stall", StreamTimeoutError),
    ],
)
def test_fault_replaces_its_block_and_the_rest(
    path: Path, fault: Any, error: type[Exception]
) -> None:
    write(path, exchange())
    timeouts = Timeouts(gap=0.2)
    with (
        replay(path, None, {2: fault}) as server,
        client_of(server, timeouts=timeouts) as client,
        pytest.raises(error) as caught,
    ):
        ask(client).run()
    assert caught.value.partial.choices[0].message.content == "Hel"  # type: ignore[attr-defined]


def test_blocks_of_faults_are_counted_through_the_file(path: Path) -> None:
    write(path, exchange(), exchange())  # three blocks each
    with replay(path, None, {1: "drop"}) as server, client_of(server) as client:
        with pytest.raises(DroppedStreamError):
            ask(client).run()
        assert list(ask(client).pipe(text())) == ["Hel", "lo"]
    with replay(path, None, {4: "drop"}) as server, client_of(server) as client:
        assert list(ask(client).pipe(text())) == ["Hel", "lo"]
        with pytest.raises(DroppedStreamError):
            ask(client).run()


def test_sse_file_answers_any_request_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "bonjour.sse"
    file.write_text(EVENTS, encoding="utf-8")
    with replay(file) as server, client_of(server) as client:
        for prompt in "AB":
            assert list(ask(client, prompt).pipe(text())) == ["Bonjour", ", monde"]


# --- as a Stream ---


def replayed(path: Path, scheduler: Any, **options: Any) -> tuple[list[Any], Stream[bytes]]:
    stream = replay(path, scheduler=scheduler, **options)
    received: list[Any] = []

    def at(item: Any) -> None:
        received.append((scheduler.to_seconds(scheduler.now), item))

    stream.subscribe(at, at, lambda: at("end"))
    return received, stream


@pytest.mark.parametrize("make", [TestScheduler, VirtualTimeScheduler])
def test_hour_passes_in_virtual_time(path: Path, make: type[VirtualTimeScheduler]) -> None:
    blocks = [(1.0, "a"), (1.0, "b"), (1800.5, "c")]
    write(path, exchange(blocks=blocks, end_time=3600.0))
    scheduler = make()
    received, stream = replayed(path, scheduler)
    assert received == []
    scheduler.start()
    expected = [(1, b"a"), (1, b"b"), (1800.5, b"c"), (3600, "end")]
    assert received == [(pytest.approx(at), item) for at, item in expected]
    again: list[bytes] = []
    stream.subscribe(again.append)
    scheduler.start()
    assert again == [b"a", b"b", b"c"]


def test_many_blocks_do_not_drift_in_virtual_time(path: Path) -> None:
    times = [number / 10 for number in range(1, 10_000)]
    write(path, exchange(blocks=[(each, "x") for each in times]))
    scheduler = VirtualTimeScheduler()
    received, _ = replayed(path, scheduler)
    scheduler.start()
    assert [at for at, _ in received[:-1]] == pytest.approx(times, abs=1e-3)


def test_speed_divides_virtual_time(path: Path) -> None:
    write(path, exchange(blocks=[(30.0, "a")]))
    for speed, at in ((10, 3.0), (None, 0.0)):
        scheduler = VirtualTimeScheduler()
        received, _ = replayed(path, scheduler, speed=speed)
        scheduler.start()
        assert received[0] == (pytest.approx(at), b"a")


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("drop", "the connection broke"),
        ("left", "the recording ends here: its reader left"),
        ("timeout", "nothing useful arrived for 60 s"),
    ],
)
def test_stream_ends_as_recorded(path: Path, end: str, error: str) -> None:
    write(path, exchange(blocks=[(5.0, "a")], end=end, end_time=65.0))
    scheduler = VirtualTimeScheduler()
    received, _ = replayed(path, scheduler)
    scheduler.start()
    (_, block), (ended, raised) = received
    assert (block, ended) == (b"a", 65.0)
    assert error in str(raised)


def test_stream_without_a_response_is_a_timeout(path: Path) -> None:
    lines = exchange("Hi", [], "timeout", end_time=60.0)
    write(path, [lines[0], lines[-1]])
    scheduler = VirtualTimeScheduler()
    received, _ = replayed(path, scheduler)
    scheduler.start()
    assert [type(error) for _, error in received] == [RequestTimeoutError]


def test_stalled_stream_stays_silent(path: Path) -> None:
    write(path, exchange(end="left"))
    scheduler = VirtualTimeScheduler()
    received, _ = replayed(path, scheduler, faults={2: "stall"})
    scheduler.start()
    assert len(received) == 1


def test_stream_of_a_refusal_is_a_status_error(path: Path) -> None:
    write(path, exchange(blocks=[(1.0, '{"message": "no"}')], status=401))
    scheduler = VirtualTimeScheduler()
    received, _ = replayed(path, scheduler)
    scheduler.start()
    ((_, error),) = received
    assert (error.status, error.message) == (401, "no")


def test_stream_goes_into_the_usual_pipe(path: Path) -> None:
    write(path, exchange())
    scheduler = TestScheduler()
    tokens: list[str] = []
    stream = replay(path, scheduler=scheduler).pipe(lines(), events(), completions(), text())
    stream.subscribe(tokens.append, scheduler=scheduler)
    scheduler.start()
    assert tokens == ["Hel", "lo"]


# --- arguments ---


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"speed": 0}, ValueError, "speed must be more than 0"),
        ({"speed": "fast"}, TypeError, "speed must be a number"),
        ({"faults": {0: "cut"}}, ValueError, "a block in faults must be 1 or more"),
        ({"faults": {"1": "cut"}}, TypeError, "a block in faults must be an int"),
        ({"faults": {7: "cut"}}, ValueError, "no block 7 among the 6 recorded"),
        ({"faults": {1: "bang"}}, ValueError, "one of cut, drop, stall, got 'bang'"),
        ({"scheduler": TestScheduler()}, ValueError, "plays one exchange.* contains 2"),
        ({"scheduler": "virtual"}, TypeError, "must be a reactivex scheduler, got str"),
        ({"redact": "key"}, TypeError, "redact must be"),
    ],
)
def test_wrong_argument_raises_at_the_call(
    path: Path, options: Any, kind: type[Exception], message: str
) -> None:
    write(path, exchange(), exchange())
    with pytest.raises(kind, match=message):
        replay(path, **options)


def test_missing_recording_raises_at_the_call(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay(path)
