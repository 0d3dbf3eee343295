"""The examples that are servers: started as their docstrings say, and sent requests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import msgspec
import pytest
from brokers import free_port
from faces import BOUND, eventually

from rxmistral.demo import demo_server
from rxmistral.relay import SSE_HEADERS
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire import decode_events

EXAMPLES = Path(__file__).parent.parent / "examples"


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=BOUND).close()
    except ConnectionError:
        return False
    return True


@contextmanager
def serving(name: str, *arguments: str) -> Iterator[str]:
    """Starts an example in a process of its own; yields its URL."""
    port = free_port()
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen(command, env=environment) as process:
        try:
            assert eventually(lambda: listens(port) or process.poll() is not None, 3 * BOUND)
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(3 * BOUND)


def demo_answer() -> str:
    with demo_server() as service:
        request = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
        with urlopen(f"{service.url}/v1/chat/completions", request, timeout=BOUND) as response:
            events = [event.data for event in decode_events([response.read()])]
    deltas = [msgspec.json.decode(data)["choices"][0]["delta"] for data in events[:-1]]
    contents = [delta.get("content", "") for delta in deltas]
    return "".join(content for content in contents if isinstance(content, str))


def test_flask_example_answers_as_documented() -> None:
    query = urlencode({"prompt": "Why is the sky blue?"})
    with (
        serving("relay_flask.py") as url,
        urlopen(f"{url}/answer?{query}", timeout=BOUND) as response,
    ):
        assert dict(response.headers).items() >= SSE_HEADERS.items()
        *tokens, end = decode_events([response.read()])
    assert "".join(msgspec.json.decode(event.data) for event in tokens) == demo_answer()
    assert end.data == '{"status":"completed"}'


# --- the server of the chat page; test_web_chat tests the page in a browser ------


@contextmanager
def requesting(url: str, method: str, body: bytes | None = None, **headers: str) -> Iterator[Any]:
    """Yields a response whose body is not read yet."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(url, body, {"Content-Type": "application/json", **names}, method=method)
    with urlopen(request, timeout=BOUND) as response:
        yield response


def start_run(url: str, prompt: str = "Hi") -> str:
    """Starts a run; returns its URL."""
    with requesting(f"{url}/runs", "POST", msgspec.json.encode({"prompt": prompt})) as response:
        return f"{url}/runs/{msgspec.json.decode(response.read())['id']}"


def refused_status(url: str, method: str, body: bytes | None = None, **headers: str) -> int:
    with pytest.raises(HTTPError) as caught, requesting(url, method, body, **headers):
        pass
    with caught.value as response:
        return response.code


def test_chat_answers_without_a_key() -> None:
    with (
        serving("web_chat/app.py") as url,
        requesting(f"{start_run(url)}/events", "GET") as response,
    ):
        *events, end = decode_events([response.read()])
    parts = [msgspec.json.decode(event.data) for event in events]
    thinking = "".join(part["text"] for part in parts if part["type"] == "thinking_delta")
    assert thinking.startswith("Nobody gave me a key.")
    assert "".join(part["text"] for part in parts if part["type"] == "text_delta") == demo_answer()
    assert end.data == '{"status":"completed"}'


def test_chat_resumes_after_the_last_event_id() -> None:
    with serving("web_chat/app.py") as url:
        run = start_run(url)
        with requesting(f"{run}/events", "GET") as response:
            whole = response.read()
        with requesting(f"{run}/events", "GET", Last_Event_ID="50") as response:
            rest = response.read()
    cut = whole.index(b"id: 51\n")
    assert rest.removeprefix(b": heartbeat\n\n") == whole[cut:]


def test_stopped_chat_reports_that_to_later_readers() -> None:
    with serving("web_chat/app.py") as url:
        run = start_run(url)
        with requesting(run, "DELETE") as response:
            assert response.status == 204
        with requesting(f"{run}/events", "GET") as response:
            (end,) = decode_events([response.read()])
    assert msgspec.json.decode(end.data)["status"] == "cancelled"


def test_chat_accepts_requests_of_its_own_page_only() -> None:
    question = b'{"prompt":"Hi"}'
    with serving("web_chat/app.py") as url:
        assert refused_status(f"{url}/runs", "POST", question, Content_Type="text/plain") == 415
        assert refused_status(f"{url}/runs", "POST", question, Host="rebound.example") == 400
        assert refused_status(f"{url}/runs", "OPTIONS", Origin="http://other.example") == 405


def test_chat_refuses_invalid_questions() -> None:
    with serving("web_chat/app.py") as url:
        for body in (b"", b"[]", b'{"prompt":""}', b'{"prompt":1}', b'{"prompt":"\xff"}'):
            assert refused_status(f"{url}/runs", "POST", body) == 400
        assert refused_status(f"{url}/runs/unknown/events", "GET") == 404
        assert refused_status(f"{url}/runs/unknown", "DELETE") == 404
        assert refused_status(f"{url}/runs/unknown", "GET") == 404
        assert refused_status(f"{url}/runs", "POST", b'{"prompt":"Hi","after":"unknown"}') == 404


def test_chat_does_not_serve_its_own_code() -> None:
    with serving("web_chat/app.py") as url:
        for path in ("app.py", "../app.py", "%2e%2e/app.py", "..%2fapp.py", "runs"):
            assert refused_status(f"{url}/{path}", "GET") == 404


def test_chat_keeps_a_thousand_turns() -> None:
    with serving("web_chat/app.py") as url:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=BOUND)
        ids: list[str] = []
        for _ in range(1001):
            question = {"prompt": "Hi", "after": ids[-1] if ids else None}
            body = msgspec.json.encode(question)
            connection.request("POST", "/runs", body, {"Content-Type": "application/json"})
            ids.append(msgspec.json.decode(connection.getresponse().read())["id"])
        connection.close()
        assert refused_status(f"{url}/runs/{ids[0]}", "DELETE") == 404
        with requesting(f"{url}/runs/{ids[-1]}", "GET") as response:
            turns = msgspec.json.decode(response.read())["turns"]
        assert turns == [{"id": each, "prompt": "Hi"} for each in ids[1:]]


def test_chat_exits_on_interrupt_while_a_client_reads() -> None:
    with ScriptedServer([steps.role(), "Hi", steps.hang()]) as service, ExitStack() as afterwards:
        with serving("web_chat/app.py", "--server-url", service.url) as url:
            response = afterwards.enter_context(requesting(f"{start_run(url)}/events", "GET"))
            assert any(b'"text_delta"' in line for line in response)
        assert service.requests[0].wait_closed(BOUND)
