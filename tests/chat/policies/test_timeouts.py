"""The timeouts of a call, with a simulated time and over a real socket."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import msgspec
import pytest
from faces import BOUND, Face

from rxmistral import (
    ChatCompletionResponse,
    Mistral,
    RequestTimeoutError,
    StreamTimeoutError,
    TextChunk,
    Timeouts,
)
from rxmistral.chat.policies.timeouts import ResponseTimeouts
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.models import CompletionChunk, decode_hook
from rxmistral.testing import Script, ScriptedServer, steps

decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode

TEXT: dict[str, Any] = {"content": "Hi"}
THOUGHT: dict[str, Any] = {
    "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]
}
CALL: dict[str, Any] = {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
NOTHING: list[dict[str, Any]] = [
    {"role": "assistant", "content": ""},
    {"content": None},
    {"content": []},
    {"content": [{"type": "reference", "reference_ids": []}]},
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": ""}]}]},
    {"content": [{"type": "text", "text": ""}]},
]


class SimulatedReader:
    """A reader in a simulated time."""

    def __init__(self, **timeouts: float) -> None:
        self.now = 100.0
        self.received = CompletionAccumulator()
        self.timeouts = ResponseTimeouts(Timeouts(**timeouts), self.received, lambda: self.now)
        self.timeouts.restart()

    def receive(self, delta: dict[str, Any] | None, after: float, handled_in: float = 0.0) -> None:
        self.timeouts.start_wait()
        self.now += after
        self.timeouts.end_wait()
        if delta is not None:
            self.received.feed(decode(json.dumps({"choices": [{"delta": delta}]})))
        self.now += handled_in

    def remaining(self) -> float:
        self.timeouts.start_wait()
        return self.timeouts.remaining()

    def expired(self) -> tuple[str, float]:
        return self.timeouts.expired()


def test_first_timeout_runs_until_something_useful() -> None:
    wait = SimulatedReader(first=10, gap=3)
    assert wait.remaining() == 10
    wait.receive(None, after=4)
    assert wait.remaining() == 6
    wait.receive(TEXT, after=4)
    assert wait.remaining() == 3


@pytest.mark.parametrize("delta", [TEXT, THOUGHT, CALL])
def test_text_thinking_and_tool_calls_are_useful(delta: dict[str, Any]) -> None:
    wait = SimulatedReader(first=10, gap=3)
    wait.receive(delta, after=1)
    assert wait.remaining() == 3
    assert wait.expired() == ("gap", 3)


@pytest.mark.parametrize("delta", NOTHING)
def test_empty_delta_restarts_no_timeout(
    delta: dict[str, Any],
) -> None:
    wait = SimulatedReader(first=10, gap=3)
    wait.receive(delta, after=1)
    assert wait.remaining() == 9
    assert wait.expired() == ("first", 10)
    wait.receive(TEXT, after=1)
    wait.receive(delta, after=1)
    assert wait.remaining() == 2
    assert wait.expired() == ("gap", 3)


def test_time_of_the_subscriber_does_not_count() -> None:
    wait = SimulatedReader(first=10, gap=3, total=20)
    wait.receive(TEXT, after=1, handled_in=1000)
    assert wait.remaining() == 3
    wait.receive(TEXT, after=1, handled_in=1000)
    assert wait.remaining() == 3
    assert wait.timeouts.total_remaining() == 18


def test_thinking_gap_replaces_gap_while_thinking() -> None:
    wait = SimulatedReader(gap=3, thinking_gap=30)
    wait.receive(THOUGHT, after=1)
    assert wait.remaining() == 30
    assert wait.expired() == ("thinking_gap", 30)
    wait.receive(TEXT, after=20)
    assert wait.remaining() == 3
    plain = SimulatedReader(gap=3)
    plain.receive(THOUGHT, after=1)
    assert plain.remaining() == 3


def test_total_counts_all_waits_and_requests() -> None:
    wait = SimulatedReader(first=10, gap=3, total=12)
    wait.receive(TEXT, after=9)
    wait.receive(TEXT, after=2)
    assert wait.remaining() == 1
    assert wait.expired() == ("total", 12)
    wait.timeouts.restart()
    assert wait.remaining() == 1
    wait.timeouts.add_wait(0.5)
    assert wait.remaining() == 0.5


def test_first_timeout_restarts_with_each_request() -> None:
    wait = SimulatedReader(first=10, gap=3)
    wait.receive(None, after=9)
    wait.timeouts.restart()
    assert wait.remaining() == 10


def test_longest_gap_excludes_the_subscriber() -> None:
    wait = SimulatedReader(gap=60)
    wait.receive(TEXT, after=5, handled_in=100)
    assert wait.timeouts.longest_gap is None
    wait.receive(NOTHING[0], after=2, handled_in=100)
    wait.receive(TEXT, after=2, handled_in=100)
    wait.receive(TEXT, after=1)
    wait.timeouts.apply_news()
    assert wait.timeouts.longest_gap == 4
    assert wait.timeouts.first_at == 105
    assert wait.timeouts.last_at == 410


def test_default_timeouts_are_finite() -> None:
    assert Timeouts() == Timeouts(connect=10, first=60, gap=60, thinking_gap=None, total=None)


@pytest.mark.parametrize("name", ["connect", "first", "gap", "thinking_gap", "total"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 10**400, "1", True])
def test_wrong_seconds_are_refused(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        Timeouts(**{name: value})


# --- over a socket ---------------------------------------------------------------

BUSY = [steps.comment(), steps.empty(), steps.role(), steps.wait(0.02)] * 200
"""Four seconds of bytes without content."""


def text_of(response: ChatCompletionResponse) -> str:
    """Returns the text of a response, without thinking."""
    content = response.choices[0].message.content if response.choices else None  # type: ignore[union-attr]
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content or () if isinstance(part, TextChunk))


def ending(read: Face, script: Script, **timeouts: float) -> list[Any]:
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(
            model="m",
            messages=[{"role": "user", "content": "?"}],
            timeouts=Timeouts(**timeouts),
        )
        return read(stream)


@pytest.mark.parametrize(
    ("script", "clock", "text"),
    [
        ([*BUSY, "late"], "first", ""),
        ([steps.headers(), steps.hang()], "first", ""),
        (["Hi", *BUSY, "late"], "gap", "Hi"),
        (["Hi", steps.hang()], "gap", "Hi"),
        (["Hi", steps.thinking("Hm"), *BUSY], "thinking_gap", "Hi"),
        (["Hi", *([steps.thinking("Hm"), steps.wait(0.05)] * 80)], "total", "Hi"),
    ],
)
def test_expired_timeout_is_named_and_keeps_the_partial(
    read: Face, script: Script, clock: str, text: str
) -> None:
    *_, error = ending(read, script, **{"first": 10, "gap": 10, clock: 0.8})
    assert isinstance(error, StreamTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.clock, error.seconds) == (clock, 0.8)
    assert error.partial is not None
    assert text_of(error.partial) == text


def test_missing_headers_expire_the_first_timeout(read: Face) -> None:
    (error,) = ending(read, [steps.hang()], first=0.1)
    assert isinstance(error, RequestTimeoutError)
    assert (error.clock, error.seconds) == ("first", 0.1)


def test_trickling_headers_do_not_restart_first(read: Face) -> None:
    """Each byte would restart the timeout of a socket."""

    def drip(listener: Any) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not stop.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                pass

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        with Mistral(server_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            stream = client.chat.stream(
                model="m",
                messages=[{"role": "user", "content": "?"}],
                timeouts=Timeouts(first=0.3),
            )
            (error,) = read(stream)
        stop.set()
        thread.join(BOUND)
    assert isinstance(error, RequestTimeoutError)
    assert error.clock == "first"


def test_slow_subscriber_causes_no_timeout() -> None:
    script: Script = ["a", "b", "c", steps.done()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(
            model="m",
            messages=[{"role": "user", "content": "?"}],
            timeouts=Timeouts(first=1, gap=0.5, total=1),
        )
        slow = threading.Event()
        for _ in stream:
            slow.wait(0.6)  # the subscriber is slow, and the reader does not wait
        assert stream.outcome is not None
        assert stream.outcome.status == "completed"
