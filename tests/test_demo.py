"""A client of the embedded demo server: it needs no key, and leaves nothing behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from faces import Face, eventually
from faces import run as run_on_a_loop

from rxmistral import (
    DroppedStreamError,
    EventStream,
    Mistral,
    RequestError,
    TextDelta,
    ToolFailed,
    ToolReturned,
    text,
)
from rxmistral.demo import demo_server


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert eventually(lambda: set(threading.enumerate()) <= before), threading.enumerate()


def ask(client: Mistral, prompt: str) -> EventStream:
    return client.chat.stream(model="m", messages=[{"role": "user", "content": prompt}])


def server_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("scripted-server")]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Runs code as a separate program, in which every warning is an error."""
    return subprocess.run(
        # From 3.12 on, Python warns of a fork in a process with threads, which is tested here.
        [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore:This process", "-c", code],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


PROGRAM = """
from rxmistral import Mistral, text
client = Mistral.demo()
answer = client.chat.stream(model="m", messages=[{"role": "user", "content": "Say hello."}])
"""


def test_demo_answers_on_every_face_without_a_key(
    monkeypatch: pytest.MonkeyPatch, read: Face
) -> None:
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    with Mistral.demo() as client:
        assert "".join(read(ask(client, "Say hello.").pipe(text()))) in ("Hello", "lo")


def test_demo_ignores_the_server_and_key_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MISTRAL_SERVER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("MISTRAL_API_KEY", "secret")
    with Mistral.demo() as client:
        assert client._authorize(client._server_url)() == "Bearer demo"
        assert list(ask(client, "Say hello.").pipe(text())) == ["Hel", "lo"]


def test_demo_accepts_the_options_of_a_client() -> None:
    with Mistral.demo(api_key="k", timeout_ms=5000, reader="thread") as client:
        assert client._policies.timeouts.first == 5
        assert client._authorize(client._server_url)() == "Bearer k"


def test_demo_with_a_wrong_option_leaves_no_server() -> None:
    with pytest.raises(ValueError, match="timeout_ms"):
        Mistral.demo(timeout_ms=-1)


def test_demo_of_a_subclass_is_an_instance_of_it() -> None:
    class Ours(Mistral):
        pass

    with Ours.demo() as client:
        assert isinstance(client, Ours)


def test_leaving_the_client_closes_the_demo_server() -> None:
    with Mistral.demo() as client:
        assert list(ask(client, "Say hello.").pipe(text())) == ["Hel", "lo"]
    assert not server_threads()
    with pytest.raises(RequestError):
        ask(client, "Say hello.").run()


def test_leaving_the_client_cuts_a_running_answer() -> None:
    with Mistral.demo() as client:
        tokens = iter(ask(client, "Count forever.").pipe(text()))
        assert next(tokens) == "one, "
    with pytest.raises(DroppedStreamError):
        list(tokens)


async def _ask_and_leave() -> list[str]:
    async with Mistral.demo() as client:
        return [token async for token in ask(client, "Say hello.").pipe(text())]


def test_async_with_closes_the_demo_server() -> None:
    assert run_on_a_loop(_ask_and_leave()) == ["Hel", "lo"]
    assert not server_threads()


def test_garbage_collection_closes_the_demo_server() -> None:
    client = Mistral.demo()
    ask(client, "Say hello.").run()
    assert server_threads()
    del client
    gc.collect()
    assert eventually(lambda: not server_threads())


def test_stream_keeps_the_demo_server_of_its_client() -> None:
    tokens = ask(Mistral.demo(), "Say hello.").pipe(text())
    gc.collect()
    assert list(tokens) == ["Hel", "lo"]
    assert list(tokens) == ["Hel", "lo"]
    del tokens
    gc.collect()
    assert eventually(lambda: not server_threads())


@pytest.mark.parametrize(
    ("ending", "printed"),
    [
        ("", ""),
        ("print(list(answer.pipe(text())))", "['Hel', 'lo']\n"),
        ("answer.pipe(text()).subscribe(print)", "Hel\nlo\n"),
        ("del client; answer.pipe(text()).subscribe(print)", "Hel\nlo\n"),
        ("it = iter(answer.pipe(text())); print(next(it))", "Hel\n"),
        ("import os; os.fork() or os._exit(0); os.wait(); print(*answer.pipe(text()))", "Hel lo\n"),
        (  # a child process that exits as a program does
            "import os, sys; os.fork() or sys.exit(); os.wait(); print(*answer.pipe(text()))",
            "Hel lo\n",
        ),
        (
            "import os\nwith client:\n    if not os.fork(): raise SystemExit\n"
            "    os.wait(); print(*answer.pipe(text()))",
            "Hel lo\n",
        ),
    ],
)
def test_program_that_closes_nothing_ends(ending: str, printed: str) -> None:
    if "fork" in ending and not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    done = run(PROGRAM + ending)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, "")


def test_demo_continues_a_broken_answer() -> None:
    messages = [
        {"role": "user", "content": "Fail."},
        {"role": "assistant", "content": "One, two, th", "prefix": True},
    ]
    with Mistral.demo() as client:
        with pytest.raises(DroppedStreamError):
            ask(client, "Fail.").run()
        rest = client.chat.stream(model="m", messages=messages).pipe(text())
        assert list(rest) == ["ree, four, five."]


@pytest.mark.parametrize("prompt", ["Hi", [{"type": "text", "text": "Hi"}], None])
def test_demo_answers_any_prompt(prompt: Any) -> None:
    with Mistral.demo() as client:
        answer = client.chat.stream(model="m", messages=[{"role": "user", "content": prompt}])
        assert "demo server" in "".join(answer.pipe(text()).take(8))


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "expected"),
    [
        ("GET", "/", "", 404, "POST /v1/chat/completions"),
        ("POST", "/chat/completions", "{}", 404, "POST /v1/chat/completions"),
        ("POST", "/v1/chat/completions", "{", 422, "JSON object with messages"),
        ("POST", "/v1/chat/completions", "{}", 422, "JSON object with messages"),
        ("POST", "/v1/chat/completions", "[]", 422, "JSON object with messages"),
    ],
)
def test_demo_server_refusal_names_the_reason(
    method: str, path: str, body: str, status: int, expected: str
) -> None:
    with demo_server() as server:
        response = requests.request(method, server.url + path, data=body, timeout=10)
    assert response.status_code == status
    assert expected in response.json()["detail"]


def test_demo_writes_markdown() -> None:
    with Mistral.demo() as client:
        written = "".join(ask(client, "Show me Markdown.").pipe(text()))
    assert written.startswith("# Markdown, as it arrives\n\nA model writes *emphasis*")
    assert written.endswith("| part | a typed piece of one answer |\n")


def zone() -> str:
    """Returns the time zone."""
    return "UTC"


def clock(hours: int) -> str:
    """Returns a time."""
    return f"{hours} h"


@pytest.mark.parametrize(
    ("prompt", "results"),
    [("What time is it?", ["clock"]), ("Use your tools.", ["clock", "zone"])],
)
def test_demo_calls_tools(prompt: str, results: list[str]) -> None:
    messages = [{"role": "user", "content": prompt}]
    with Mistral.demo() as client:
        parts = list(client.chat.run(model="m", messages=messages, tools=[clock, zone]))
    (failed,) = [part for part in parts if isinstance(part, ToolFailed)]
    returned = [part for part in parts if isinstance(part, ToolReturned)]
    assert [part.call.function.name for part in (failed, *returned)] == results
    answer = "".join(part.text for part in parts if isinstance(part, TextDelta))
    assert answer.startswith("A tool answered: ")


def test_demo_calls_no_tools_if_it_has_none() -> None:
    with Mistral.demo() as client:
        assert "demo server" in "".join(ask(client, "What time is it?").pipe(text()).take(8))
