"""Builds the lines of recordings, as they are written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

URL = "https://api.mistral.ai/v1/chat/completions"

Line = dict[str, Any]


def chunk(content: str, finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"


def body(prompt: str) -> str:
    """Returns the body that a client sends for `ask(client, prompt)`, in another order of keys."""
    messages = [{"role": "user", "content": prompt}]
    return json.dumps({"stream": True, "messages": messages, "model": "m"})


def exchange(
    prompt: str = "Hi",
    blocks: list[tuple[float, str]] | None = None,
    end: str = "eof",
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    end_time: float | None = None,
) -> list[Line]:
    """Returns the lines of one exchange, which begins to answer after 0.1 seconds."""
    if blocks is None:
        blocks = [(0.2, chunk("Hel")), (0.3, chunk("lo", "stop")), (0.4, "data: [DONE]\n\n")]
    request = {"method": "POST", "url": URL, "headers": {}, "body": body(prompt)}
    headers = headers or {"content-type": "text/event-stream"}
    return [
        {"rxmistral": 1, "request": request},
        {"t": 0.1, "response": {"status": status, "headers": headers}},
        *({"t": time, "text": text} for time, text in blocks),
        {"t": end_time or (blocks[-1][0] if blocks else 0.1), "end": end},
    ]


def write(path: Path, *exchanges: list[Line]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for lines in exchanges for line in lines))
    return path
