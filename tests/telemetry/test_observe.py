"""Runs examples/observe.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

from brokers import free_port
from faces import BOUND

EXAMPLE = Path(__file__).parents[2] / "examples" / "observe.py"


def test_example_shows_spans_and_serves_metrics() -> None:
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        answer, greeting = read_span(process.stdout), read_span(process.stdout)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=BOUND) as response:
            page = response.read().decode()
        process.terminate()
    assert (answer["name"], greeting["name"]) == ("chat mistral-small-latest", "greeting")
    assert answer["parent_id"] == greeting["context"]["span_id"]
    assert "gen_ai_client_operation_duration_seconds_count{" in page
    assert 'gen_ai_token_type="output"' in page


def read_span(lines: IO[str]) -> dict[str, Any]:
    """Returns the next span of the console exporter: an object on several lines."""
    text = "".join(iter(partial(next, lines), "}\n"))
    span: dict[str, Any] = json.loads(text[text.index("{") :] + "}")
    return span
