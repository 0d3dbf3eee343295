"""Recordings of real clients, whatever the ending, and their replay."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from faces import BOUND, Face, eventually

from rxmistral import (
    AuthenticationError,
    DroppedStreamError,
    EventStream,
    Mistral,
    RateLimitError,
    Resume,
    Retry,
    StreamTimeoutError,
    Timeouts,
    text,
)
from rxmistral.testing import Script, ScriptedServer, record, replay, steps
from rxmistral.wire.reader import READERS

KEY = "sk-0123456789abcdef"
HELLO: Script = ["Hel", steps.wait(0.02), "lo é", steps.finish(), steps.done()]


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.jsonl"


@pytest.fixture
def client_of(reader: Any) -> Callable[..., Mistral]:
    def client_of(server: ScriptedServer, **options: Any) -> Mistral:
        return Mistral(api_key=KEY, server_url=server.url, reader=reader, **options)

    return client_of


def ask(client: Mistral, prompt: str = "Hi") -> EventStream:
    return client.chat.stream(model="m", messages=[{"role": "user", "content": prompt}])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def ends_of(path: Path) -> list[str]:
    return [line["end"] for line in lines_of(path) if "end" in line]


def body_of(path: Path) -> str:
    return "".join(line.get("text", "") for line in lines_of(path))


@pytest.mark.parametrize("framing", ["chunked", "gzip", "close", "length"])
def test_recorded_answer_is_replayed_byte_for_byte(
    path: Path, client_of: Callable[..., Mistral], framing: Any
) -> None:
    with (
        ScriptedServer(HELLO, framing=framing) as server,
        record(path),
        client_of(server) as client,
    ):
        assert "".join(ask(client).pipe(text())) == "Hello é"
        sent = json.dumps(server.requests[0].json)
    assert ends_of(path) == ["eof"]
    assert KEY not in path.read_text()
    times = [line["t"] for line in lines_of(path)[1:]]
    assert times == sorted(times)
    assert times[-1] >= 0.02
    with replay(path, speed=None) as server:
        url = f"{server.url}/v1/chat/completions"
        response = requests.post(url, sent.encode(), timeout=BOUND)
    assert response.content.decode() == body_of(path)
    assert response.content.endswith(b"data: [DONE]\n\n")


def test_every_face_is_recorded(path: Path, client_of: Callable[..., Mistral], read: Face) -> None:
    with ScriptedServer(HELLO) as server, record(path), client_of(server) as client:
        read(ask(client).pipe(text()))
    assert ends_of(path) == ["eof"]
    assert "[DONE]" in body_of(path)
    with replay(path, speed=None) as server, client_of(server) as client:
        assert list(ask(client).pipe(text())) == ["Hel", "lo é"]


@pytest.mark.parametrize(
    ("ending", "error", "end"),
    [
        (steps.drop(), DroppedStreamError, "drop"),
        (steps.abort(), DroppedStreamError, "drop"),
        (steps.hang(), StreamTimeoutError, "timeout"),
    ],
)
def test_broken_answer_is_recorded_and_replayed(
    path: Path, client_of: Callable[..., Mistral], ending: Any, error: type[Exception], end: str
) -> None:
    timeouts = Timeouts(gap=0.2)
    with ScriptedServer(["Hel", ending]) as server, record(path):  # noqa: SIM117
        with client_of(server, timeouts=timeouts) as client, pytest.raises(error):
            ask(client).run()
    assert ends_of(path) == [end]
    with replay(path, None) as server, client_of(server, timeouts=timeouts) as client:
        answer = ask(client)
        with pytest.raises(error):
            answer.run()
        assert answer.outcome is not None
        assert answer.outcome.response.choices[0].message.content == "Hel"


def test_answer_that_was_left_is_recorded_so_far(
    path: Path, client_of: Callable[..., Mistral]
) -> None:
    script = ["Hel", steps.wait(0.02), "lo", steps.hang()]
    with ScriptedServer(script) as server, record(path), client_of(server) as client:
        for token in ask(client).pipe(text()):
            if token == "lo":
                break
    assert ends_of(path) == ["left"]
    assert '"lo"' in body_of(path)
    with replay(path) as server, client_of(server) as client:
        assert list(ask(client).pipe(text()).take(2)) == ["Hel", "lo"]


def test_request_without_an_answer_is_recorded(
    path: Path, client_of: Callable[..., Mistral]
) -> None:
    with ScriptedServer([steps.drop()], HELLO) as server, record(path):  # noqa: SIM117
        with client_of(server, retry=Retry(initial=0.01)) as client:
            ask(client).run()
    assert ends_of(path) == ["drop", "eof"]
    with replay(path, None) as server, client_of(server, retry=Retry(initial=0.01)) as client:
        assert list(ask(client).pipe(text())) == ["Hel", "lo é"]


def test_refusal_is_recorded_with_its_body(path: Path, client_of: Callable[..., Mistral]) -> None:
    headers = {"Retry-After": "7", "Set-Cookie": "private"}
    refusal = steps.status(429, body={"message": "slow down"}, headers=headers)
    with ScriptedServer([refusal]) as server, record(path):  # noqa: SIM117
        with client_of(server) as client, pytest.raises(RateLimitError):
            ask(client).run()
    assert "private" not in path.read_text()
    with replay(path, None) as server, client_of(server) as client:
        with pytest.raises(RateLimitError, match="slow down") as caught:
            ask(client).run()
        assert caught.value.retry_after == 7


def test_resumed_answer_is_replayed(path: Path, client_of: Callable[..., Mistral]) -> None:
    scripts: list[Script] = [["Hel", steps.drop()], ["lo", steps.finish(), steps.done()]]
    with ScriptedServer(*scripts) as server, record(path):  # noqa: SIM117
        with client_of(server, resume=Resume()) as client:
            assert "".join(ask(client).pipe(text())) == "Hello"
    with replay(path, None) as server, client_of(server, resume=Resume()) as client:
        assert "".join(ask(client).pipe(text())) == "Hello"


def test_key_that_a_refusal_quotes_is_not_written(
    path: Path, client_of: Callable[..., Mistral]
) -> None:
    refusal = steps.status(401, body={"message": f"invalid key {KEY}"})
    with (
        ScriptedServer([refusal]) as server,
        pytest.raises(ValueError, match="the key occurs"),
        record(path),
        client_of(server) as client,
        pytest.raises(AuthenticationError),
    ):
        ask(client).run()
    assert not path.exists()


def test_demo_can_be_recorded(path: Path) -> None:
    with record(path), Mistral.demo() as client:
        assert list(ask(client, "Say hello.").pipe(text())) == ["Hel", "lo"]
    with replay(path, None) as server, Mistral(server_url=server.url) as client:
        assert list(ask(client, "Say hello.").pipe(text())) == ["Hel", "lo"]


def test_concurrent_answers_are_recorded(path: Path, client_of: Callable[..., Mistral]) -> None:
    together = threading.Barrier(8)

    def answer(request: Any) -> Script:
        together.wait(BOUND)
        return [request.json["messages"][0]["content"], steps.finish(), steps.done()]

    def run(client: Mistral, prompt: str) -> str:
        return "".join(ask(client, prompt).pipe(text()))

    prompts = [f"prompt {number}" for number in range(8)]
    with (
        ScriptedServer(answer) as server,
        record(path),
        client_of(server) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda prompt: run(client, prompt), prompts))
    with replay(path, None) as server, client_of(server) as client:
        assert [run(client, prompt) for prompt in reversed(prompts)] == prompts[::-1]


def test_client_records_its_own_answers_only(path: Path, client_of: Callable[..., Mistral]) -> None:
    with (
        ScriptedServer(HELLO, HELLO, HELLO) as server,
        client_of(server, record=path) as client,
        client_of(server) as other,
    ):
        ask(other, "other").run()
        ask(client).run()
        ask(client).run()
    assert ends_of(path) == ["eof", "eof"]
    assert "other" not in path.read_text()


def test_client_skips_an_exchange_with_its_key(
    path: Path, client_of: Callable[..., Mistral]
) -> None:
    scripts: list[Script] = [[KEY, steps.finish()], HELLO]
    with ScriptedServer(*scripts) as server, client_of(server, record=path) as client:
        with pytest.warns(UserWarning, match="the key occurs"):
            ask(client).run()
        ask(client).run()
    assert ends_of(path) == ["eof"]
    assert KEY not in path.read_text()


def test_client_records_an_answer_that_was_left(
    path: Path, client_of: Callable[..., Mistral]
) -> None:
    with ScriptedServer(["Hel", steps.hang()]) as server, client_of(server, record=path) as client:
        for _ in ask(client).pipe(text()):
            break
        assert eventually(path.exists)
    assert ends_of(path) == ["left"]


@pytest.mark.parametrize("wrong", [5, b"bytes"])
def test_client_needs_a_path_to_record_to(wrong: Any) -> None:
    with pytest.raises(TypeError, match="record must be a path"):
        Mistral(server_url="http://127.0.0.1:9", record=wrong)
