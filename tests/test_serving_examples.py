"""The examples that serve until somebody stops them: started as they say, and asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import msgspec
from faces import BOUND, eventually

from rxmistral.demo import demo_server
from rxmistral.relay import SSE_HEADERS
from rxmistral.wire import decode_events

EXAMPLES = Path(__file__).parent.parent / "examples"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=BOUND).close()
    except ConnectionError:
        return False
    return True


@contextmanager
def serving(name: str, *arguments: str) -> Iterator[str]:
    """Where an example serves, in a process of its own."""
    port = free_port()
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen(command, env=environment) as process:
        try:
            assert eventually(lambda: listens(port) or process.poll() is not None, 3 * BOUND)
            assert process.poll() is None
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def demo_answer() -> str:
    with demo_server() as service:
        request = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
        with urlopen(f"{service.url}/v1/chat/completions", request, timeout=BOUND) as response:
            events = [event.data for event in decode_events([response.read()])]
    deltas = [msgspec.json.decode(data)["choices"][0]["delta"] for data in events[:-1]]
    return "".join(delta.get("content", "") for delta in deltas)


def test_the_flask_example_answers_as_its_docstring_says() -> None:
    query = urlencode({"prompt": "Why is the sky blue?"})
    with serving("relay_flask") as url, urlopen(f"{url}/answer?{query}", timeout=BOUND) as response:
        assert dict(response.headers).items() >= SSE_HEADERS.items()
        *tokens, end = decode_events([response.read()])
    assert "".join(msgspec.json.decode(event.data) for event in tokens) == demo_answer()
    assert end.data == '{"status":"completed"}'
