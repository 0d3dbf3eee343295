"""Runs examples/observe.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from brokers import free_port
from faces import BOUND

EXAMPLE = Path(__file__).parents[2] / "examples" / "observe.py"


def spans_in(text: str) -> list[dict[str, Any]]:
    """Returns the spans that the console exporter has written, among other lines."""
    spans, decoder = [], json.JSONDecoder()
    while (begin := text.find("{")) >= 0:
        span, end = decoder.raw_decode(text, begin)
        spans.append(span)
        text = text[end:]
    return spans


def test_example_shows_spans_and_serves_metrics() -> None:
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-W", "error", str(EXAMPLE)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "Hello\n":
                break
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=BOUND) as response:
            page = response.read().decode()
        process.send_signal(signal.SIGINT)
        lines.append(process.communicate(timeout=BOUND)[0])
    assert process.returncode == 0
    answer, greeting = spans_in("".join(lines))
    assert (answer["name"], greeting["name"]) == ("chat mistral-small-latest", "greeting")
    assert answer["parent_id"] == greeting["context"]["span_id"]
    assert "gen_ai_client_operation_duration_seconds_count{" in page
    assert 'gen_ai_token_type="output"' in page
