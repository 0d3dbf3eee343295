"""Recordings: files of exchanges with a server, with the time of each block.

A recording is JSON Lines. Each exchange begins with its request and ends with how it ended; `t`
is the number of seconds since the request was sent:

    {"rxmistral": 1, "request": {"method": "POST", "url": "https://...", "headers": {}, "body": "{}"}}
    {"t": 0.31, "response": {"status": 200, "headers": {"content-type": "text/event-stream"}}}
    {"t": 0.32, "text": "data: ..."}        a block of the body, after chunking and compression;
    {"t": 0.35, "b64": "4oI="}              in Base64 if it is not UTF-8
    {"t": 0.36, "end": "eof"}               or "drop", "timeout", or "left" by its reader

A request that no response followed has no `response`. If a request was redirected, the `response`
is that of the last server.
Exchanges follow each other in the order in which they were sent, or ended. A file that is called
`.sse` contains the body of one answer, to any request.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import urlsplit

from ..wire.taps import End
from .steps import encode

__all__ = ["Block", "Exchange", "RecordedRequest", "encode_exchange", "read_recording"]

_VERSION = 1
_ENDS = get_args(End)
_EVENT = re.compile(rb".*?(?:\n\n|\r\n\r\n|\r\r)|.+", re.DOTALL)


class RecordedRequest(NamedTuple):
    method: str
    url: str
    headers: dict[str, str]
    body: str

    @property
    def path(self) -> str:
        """The path of the URL, without the query."""
        return urlsplit(self.url).path or "/"


class RecordedResponse(NamedTuple):
    time: float  # seconds since the request, as all times here
    status: int
    headers: dict[str, str]


class Block(NamedTuple):
    time: float
    data: bytes


@dataclass
class Exchange:
    """A request, its response, and the end."""

    request: RecordedRequest | None  # None: any
    response: RecordedResponse | None = None
    blocks: list[Block] = field(default_factory=list)
    end: End | None = None  # None: it goes on
    end_time: float = 0.0


# --- writing ---


def encode_exchange(exchange: Exchange) -> bytes:
    """Returns the lines of an exchange."""
    return b"".join(encode(line) + b"\n" for line in _lines_of(exchange))


def _lines_of(exchange: Exchange) -> Iterator[dict[str, object]]:
    assert exchange.request is not None
    yield {"rxmistral": _VERSION, "request": exchange.request._asdict()}
    if exchange.response is not None:
        time, status, headers = exchange.response
        yield {"t": round(time, 6), "response": {"status": status, "headers": headers}}
    for block in exchange.blocks:
        yield {"t": round(block.time, 6), **_content_of(block.data)}
    yield {"t": round(exchange.end_time, 6), "end": exchange.end}


def _content_of(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"b64": b64encode(data).decode("ascii")}


# --- reading ---


def read_recording(path: str | PathLike[str]) -> list[Exchange]:
    """Returns the exchanges of a file; raises ValueError if the file is not a recording."""
    file = Path(path)
    if file.suffix == ".sse":
        return [_exchange_of_events(file.read_bytes())]
    exchanges: list[Exchange] = []
    number = 0
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                _read_line(json.loads(line), exchanges)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise _not_a_recording(path, number, repr(error)) from error
    if exchanges and exchanges[-1].end is None:
        raise _not_a_recording(path, number, "the last exchange has no end")
    return exchanges


def _not_a_recording(path: str | PathLike[str], line: int, reason: str) -> ValueError:
    return ValueError(f"{fspath(path)!r} is not a recording: {reason} (line {line})")


def _exchange_of_events(body: bytes) -> Exchange:
    response = RecordedResponse(0.0, 200, {"content-type": "text/event-stream"})
    blocks = [Block(0.0, event) for event in _EVENT.findall(body)]
    return Exchange(None, response, blocks, "eof")


def _read_line(line: dict[str, Any], exchanges: list[Exchange]) -> None:
    if "rxmistral" in line:
        if line["rxmistral"] != _VERSION:
            raise ValueError(f"unknown version {line['rxmistral']!r}, expected {_VERSION}")
        _check_ended(exchanges)
        exchanges.append(Exchange(_request_of(**line["request"])))
        return
    if not exchanges or exchanges[-1].end is not None:
        raise ValueError("expected a request")
    exchange, time = exchanges[-1], float(line["t"])
    if "response" in line:
        response = line["response"]
        headers = dict(response.get("headers") or {})
        exchange.response = RecordedResponse(time, int(response["status"]), headers)
    elif "end" in line:
        if line["end"] not in _ENDS:
            raise ValueError(f"unknown end {line['end']!r}, expected one of {', '.join(_ENDS)}")
        exchange.end, exchange.end_time = line["end"], time
    elif "b64" in line:
        exchange.blocks.append(Block(time, b64decode(line["b64"], validate=True)))
    else:
        exchange.blocks.append(Block(time, line["text"].encode("utf-8")))


def _check_ended(exchanges: Iterable[Exchange]) -> None:
    if any(exchange.end is None for exchange in exchanges):
        raise ValueError("the exchange before this request has no end")


def _request_of(
    method: str, url: str, headers: dict[str, str] | None = None, body: object = "", **_: object
) -> RecordedRequest:
    # A body that was written by hand may be JSON itself.
    text = body if isinstance(body, str) else json.dumps(body)
    return RecordedRequest(method, url, dict(headers or {}), text)
