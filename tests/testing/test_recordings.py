"""The format of recordings: what is written is read again, and what is broken is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_builders import exchange, write

from rxmistral.testing.recordings import (
    Block,
    Exchange,
    RecordedRequest,
    RecordedResponse,
    encode_exchange,
    read_recording,
)

TIMES = st.integers(0, 10**9).map(lambda microseconds: microseconds / 1e6)
REQUEST = RecordedRequest("POST", "https://h/v1", {"content-type": "application/json"}, "{}")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings") / "one.jsonl"


@given(st.lists(st.builds(Block, TIMES, st.binary(min_size=1))), st.text(), TIMES)
def test_exchange_is_read_as_it_was_written(
    path: Path, blocks: list[Block], body: str, time: float
) -> None:
    response = RecordedResponse(time, 429, {"retry-after": "1"})
    written = Exchange(REQUEST._replace(body=body), response, blocks, "drop", time)
    path.write_bytes(encode_exchange(written) * 2)
    assert read_recording(path) == [written, written]


def test_body_that_is_not_utf_8_survives(path: Path) -> None:
    body = b"\xff{}".decode("utf-8", "surrogateescape")
    written = Exchange(REQUEST._replace(body=body), end="timeout")
    path.write_bytes(encode_exchange(written))
    assert read_recording(path) == [written]


def test_lines_have_the_documented_keys() -> None:
    response = RecordedResponse(0.25, 200, {"content-type": "text/event-stream"})
    blocks = [Block(0.5, "Zürich".encode()), Block(1.0, b"\xc3")]
    written = encode_exchange(Exchange(REQUEST, response, blocks, "eof", 1.5))
    assert [json.loads(line) for line in written.splitlines()] == [
        {"rxmistral": 1, "request": REQUEST._asdict()},
        {"t": 0.25, "response": {"status": 200, "headers": {"content-type": "text/event-stream"}}},
        {"t": 0.5, "text": "Zürich"},
        {"t": 1.0, "b64": "ww=="},
        {"t": 1.5, "end": "eof"},
    ]


def test_body_may_be_json_itself(tmp_path: Path) -> None:
    lines = exchange()
    lines[0]["request"]["body"] = {"model": "m"}
    (read,) = read_recording(write(tmp_path / "a.jsonl", lines))
    assert read.request is not None
    assert json.loads(read.request.body) == {"model": "m"}


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_events_of_an_sse_file_are_blocks(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "answer.sse"
    events = [f"data: {number}{newline}{newline}".encode() for number in (1, 2)]
    path.write_bytes(b"".join(events) + b"data: 3")
    (read,) = read_recording(path)
    assert [block.data for block in read.blocks] == [*events, b"data: 3"]
    assert (read.request, read.end) == (None, "eof")


def test_empty_file_is_an_empty_recording(tmp_path: Path) -> None:
    assert read_recording(write(tmp_path / "a.jsonl")) == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"t": 1, "text": "a"}], r"expected a request.* \(line 1\)"),
        (exchange()[:-1], r"the last exchange has no end \(line 5\)"),
        (exchange()[:-1] + exchange(), r"before this request has no end.* \(line 6\)"),
        ([*exchange(), {"t": 1, "text": "a"}], r"expected a request.* \(line 7\)"),
        ([*exchange()[:-1], {"t": 1, "end": "bang"}], "unknown end 'bang'"),
        ([{"rxmistral": 2, "request": {}}], "unknown version 2, expected 1"),
        ([*exchange()[:2], {"text": "a"}], r"KeyError\('t'\)"),
        ([*exchange()[:2], {"t": 1, "b64": "*"}], r"\(line 3\)"),
        ([[]], r"\(line 1\)"),
        ([5], r"\(line 1\)"),
    ],
)
def test_broken_recording_raises_value_error(tmp_path: Path, lines: list, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.jsonl' is not a recording: .*{message}"):
        read_recording(write(tmp_path / "a.jsonl", lines))
