"""What taps are passed, and which end an error stands for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from requests import PreparedRequest, Request

from rxmistral.errors import (
    DroppedStreamError,
    ProtocolError,
    RequestError,
    RequestTimeoutError,
    StreamTimeoutError,
    refusal,
)
from rxmistral.rx.cancellation import Cancelled
from rxmistral.wire.taps import ending_of, observe


def observed(request: PreparedRequest) -> tuple[Any, ...]:
    received: list[Any] = []

    def tap(*parts: Any) -> Any:
        received.extend(parts)

    observe(request, tap)
    return tuple(received)


def test_tap_receives_the_parts_of_the_request() -> None:
    request = Request("POST", "http://h/p?q=1", headers={"A": "b"}, data=b"body").prepare()
    method, url, headers, body = observed(request)
    assert (method, url, headers["A"], body) == ("POST", "http://h/p?q=1", "b", b"body")


def pieces() -> Iterator[bytes]:
    yield b"read only once"


@pytest.mark.parametrize(
    ("data", "body"), [(None, b""), ("Zürich", "Zürich".encode()), (pieces(), b"")]
)
def test_tap_receives_any_body_as_bytes(data: Any, body: bytes) -> None:
    assert observed(Request("POST", "http://h/", data=data).prepare())[3] == body


def test_tap_receives_headers_as_text() -> None:
    request = Request("GET", "http://h/").prepare()
    request.headers["Authorization"] = b"Basic \xe9"  # type: ignore[assignment]  # as requests does
    assert observed(request)[2]["Authorization"] == "Basic \xe9"


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (None, "eof"),
        (refusal(429, {}, "", None), "eof"),
        (ProtocolError("not an event stream"), "eof"),
        (DroppedStreamError("reset"), "drop"),
        (RequestError("refused"), "drop"),
        (RequestTimeoutError("first", 60.0), "timeout"),
        (StreamTimeoutError("gap", 60.0), "timeout"),
        (Cancelled(), "left"),
        (GeneratorExit(), "left"),
        (ZeroDivisionError(), "left"),
    ],
)
def test_error_stands_for_an_end(error: BaseException | None, end: str) -> None:
    assert ending_of(error) == end
