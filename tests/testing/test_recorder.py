"""The recorder, driven as the reader of a response drives it."""

from __future__ import annotations

import json
import stat
import threading
import warnings
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from requests import PreparedRequest, Request

from rxmistral.testing import record
from rxmistral.testing.compiler import compile_script
from rxmistral.testing.recorder import ClientRecorder
from rxmistral.wire.taps import End, Exchange, Tap, observe

KEY = "sk-0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings" / "one.jsonl"


def prepared(body: str = '{"model": "m"}', **headers: str) -> PreparedRequest:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"} | headers
    url = "https://api.example/v1/chat/completions?token=private"
    return Request("POST", url, headers=headers, data=body.encode()).prepare()


def observed(request: PreparedRequest | None = None, own: Tap | None = None) -> Exchange:
    exchange = observe(request or prepared(), own)
    assert exchange is not None
    return exchange


def answer(*blocks: bytes, end: End = "eof", own: Tap | None = None, **headers: str) -> None:
    exchange = observed(own=own)
    exchange.on_response(200, {"Content-Type": "text/event-stream"} | headers)
    for block in blocks:
        exchange.on_block(block)
    exchange.on_end(end)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def blocks_of(path: Path) -> list[str]:
    return [line["text"] for line in lines_of(path) if "text" in line]


# --- what is recorded ---


def test_record_writes_one_line_per_event_of_the_exchange(path: Path) -> None:
    with record(path):
        answer(b"data: Z\xc3", b"\xbcrich\n\n")
    request, response, first, second, end = lines_of(path)
    assert request == {
        "rxmistral": 1,
        "request": {
            "method": "POST",
            "url": "https://api.example/v1/chat/completions",
            "headers": {"content-type": "application/json"},
            "body": '{"model": "m"}',
        },
    }
    assert response["response"] == {
        "status": 200,
        "headers": {"content-type": "text/event-stream"},
    }
    assert first["b64"] == b64encode(b"data: Z\xc3").decode()
    assert second["b64"] == b64encode(b"\xbcrich\n\n").decode()
    assert end["end"] == "eof"
    times = [line["t"] for line in (response, first, second, end)]
    assert 0 <= times[0] <= times[1] <= times[2] <= times[3] < 60


@pytest.mark.parametrize("end", ["eof", "drop", "timeout", "left"])
def test_first_end_counts(path: Path, end: End) -> None:
    with record(path):
        exchange = observed()
        exchange.on_end(end)
        exchange.on_end("eof")
        exchange.on_block(b"late")
        exchange.on_response(200, {})
    assert [line.get("end") for line in lines_of(path)] == [None, end]


def test_only_allowed_headers_are_written(path: Path) -> None:
    allowed = {
        "Content-Type": "text/event-stream",
        "Retry-After": "1",
        "retry-after-ms": "1000",
        "x-ratelimit-remaining-tokens-minute": "2",
        "X-RateLimitBySize-Limit": "3",
        "RateLimit-Reset": "4",
        "mistral-correlation-id": "5",
        "Deprecation": "6",
        "Sunset": "7",
        "x-model-deprecation-timestamp": "8",
    }
    with record(path):
        answer(**allowed, **{"Set-Cookie": "private", "X-Api-Key": "private", "Server": "private"})
        observe(prepared(Cookie="private", **{"X-Anything": "private"}))
    assert lines_of(path)[1]["response"]["headers"] == {
        name.lower(): value for name, value in allowed.items()
    }
    assert "private" not in path.read_text()


def test_credentials_in_the_url_are_not_written(path: Path) -> None:
    with record(path):
        observe(Request("GET", "https://user:password@h/v1").prepare())
    assert lines_of(path)[0]["request"]["url"] == "https://h/v1"


def test_nothing_is_observed_outside_the_block(path: Path) -> None:
    assert observe(prepared()) is None
    with record(path):
        assert observe(prepared()) is not None
    assert observe(prepared()) is None


def test_running_exchange_is_left_at_the_end_of_the_block(path: Path) -> None:
    with record(path):
        exchange = observed()
        exchange.on_block(b"a")
    exchange.on_block(b"b")
    exchange.on_end("eof")
    assert blocks_of(path) == ["a"]
    assert lines_of(path)[-1]["end"] == "left"


def test_exchanges_are_written_in_the_order_of_requests(path: Path) -> None:
    with record(path):
        first, second = observed(prepared("1")), observed(prepared("2"))
        second.on_end("eof")
        first.on_end("eof")
    bodies = [line["request"]["body"] for line in lines_of(path) if "request" in line]
    assert bodies == ["1", "2"]


def test_record_replaces_an_older_file(path: Path) -> None:
    for block in (b"old", b"new"):
        with record(path):
            answer(block)
    assert blocks_of(path) == ["new"]
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & stat.S_IRGRP == Path(__file__).stat().st_mode & stat.S_IRGRP


def test_block_that_raises_is_recorded(path: Path) -> None:
    with pytest.raises(KeyError), record(path):
        answer(b"a")
        raise KeyError
    assert blocks_of(path) == ["a"]


def test_nested_blocks_both_record(path: Path) -> None:
    other = path.with_name("other.jsonl")
    with record(path):
        with record(other):
            answer(b"a")
        answer(b"b")
    assert (blocks_of(path), blocks_of(other)) == (["a", "b"], ["a"])


def test_concurrent_exchanges_do_not_mix(path: Path) -> None:
    started = threading.Barrier(8)

    def run(number: int) -> None:
        exchange = observed(prepared(str(number)))
        started.wait(60)
        for _ in range(50):
            exchange.on_block(b"%d" % number)
        exchange.on_end("eof")

    with record(path), ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    own: list[str] = []
    for line in lines_of(path):
        if "request" in line:
            own.append(line["request"]["body"])
        elif "text" in line:
            assert line["text"] == own[-1]
    assert sorted(own) == [str(number) for number in range(8)]


# --- the key ---


def event(content: str) -> bytes:
    (frame,) = compile_script([content], "close", "m", "id").operations[:1]
    assert isinstance(frame, bytes)
    return frame


LEAKS: dict[str, Callable[[], object]] = {
    "in a block": lambda: answer(f"your key {KEY}".encode()),
    "in two blocks": lambda: answer(KEY[:9].encode(), KEY[9:].encode()),
    "in base64": lambda: answer(b"\xff" + KEY.encode()),
    "in tokens": lambda: answer(b"".join(event(piece) for piece in (KEY[:3], KEY[3:9], KEY[9:]))),
    "in escapes": lambda: answer(KEY.replace("-", "\\u002D").encode()),
    "in escaped escapes": lambda: answer(KEY.replace("-", "\\\\u002d").encode()),
    "with an escaped character": lambda: (answer(b"sk\\/1234"), observe(prepared(**{"api-key": "sk/1234"}))),
    "in a header": lambda: answer(**{"retry-after": KEY}),
    "in the request": lambda: observe(prepared(KEY)),
    "in the path": lambda: observe(
        Request("GET", f"https://h/{KEY}", headers={"X-Api-Key": KEY}).prepare()
    ),
    "of another request": lambda: (answer(b"sk-of-another"), observe(prepared(**{"api-key": "sk-of-another"}))),
}  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_key_lets_record_write_nothing(path: Path, leak: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="the key occurs in an exchange") as caught, record(path):
        answer(b"harmless")
        leak()
    assert not path.exists()
    assert KEY not in str(caught.value)


def test_key_does_not_hide_the_error_of_the_block(path: Path) -> None:
    with pytest.raises(KeyError) as caught, record(path):
        answer(KEY.encode())
        raise KeyError
    assert "the key occurs in an exchange" in caught.value.__notes__[0]
    assert not path.exists()


def test_word_that_is_too_short_for_a_key_is_written(path: Path) -> None:
    with record(path):
        exchange = observed(prepared(Authorization="Bearer demo"))
        exchange.on_block(b"the demo server")
        exchange.on_end("eof")
    assert blocks_of(path) == ["the demo server"]


# --- redact ---


def test_redact_changes_bodies(path: Path) -> None:
    with record(path, redact=lambda data: data.replace(b"Ada", b"[name]")):
        exchange = observed(prepared('{"name": "Ada"}'))
        for block in (b"data: I am ", b"Ad", b"a\n\n", b"data: a\n\n", b"data: Ada"):
            exchange.on_block(block)
        exchange.on_end("eof")
    assert blocks_of(path) == ["data: I am [name]\n\n", "data: a\n\n", "data: [name]"]
    assert lines_of(path)[0]["request"]["body"] == '{"name": "[name]"}'


def test_unchanged_event_keeps_its_blocks(path: Path) -> None:
    with record(path, redact=lambda data: data):
        answer(b"data: a", b"\n\n", b"data: b\n\n")
    assert blocks_of(path) == ["data: a", "\n\n", "data: b\n\n"]


def test_redacted_key_may_be_written(path: Path) -> None:
    with record(path, redact=lambda data: data.replace(KEY.encode(), b"[key]")):
        answer(KEY.encode())
    assert blocks_of(path) == ["[key]"]


def test_redact_may_remove_an_event(path: Path) -> None:
    with record(path, redact=lambda data: b"" if b"b" in data else data):
        answer(b"a\n\n", b"b\n\n")
    assert blocks_of(path) == ["a\n\n"]


@pytest.mark.parametrize(
    ("redact", "kind"), [(lambda data: 1 / 0, ZeroDivisionError), (lambda data: "a", TypeError)]
)
def test_error_of_redact_writes_nothing(
    path: Path, redact: Callable[[bytes], bytes], kind: type[Exception]
) -> None:
    with pytest.raises(kind), record(path, redact):
        answer(b"a")
    assert not path.exists()


def test_redact_must_be_callable(path: Path) -> None:
    with pytest.raises(TypeError, match="redact must be callable"):
        record(path, redact="Ada")  # type: ignore[arg-type]


# --- the recorder of a client ---


def test_client_recorder_appends_each_ended_exchange(path: Path) -> None:
    tap = ClientRecorder(path)
    running = observed(own=tap)
    answer(b"a", own=tap)
    assert blocks_of(path) == ["a"]
    running.on_block(b"b")
    running.on_end("drop")
    assert blocks_of(path) == ["a", "b"]


def test_client_recorder_skips_an_exchange_with_the_key(path: Path) -> None:
    tap = ClientRecorder(path)
    with pytest.warns(UserWarning, match="not recorded: the key occurs"):
        answer(KEY.encode(), own=tap)
    answer(b"a", own=tap)
    assert blocks_of(path) == ["a"]


def test_client_recorder_remembers_the_keys_of_the_client(path: Path) -> None:
    tap = ClientRecorder(path)
    answer(own=tap)
    with pytest.warns(UserWarning, match="not recorded: the key occurs"):
        observed(prepared(KEY, Authorization="Bearer sk-of-another"), tap).on_end("drop")
    assert KEY not in path.read_text()


def test_warning_that_is_an_error_does_not_reach_the_reader(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer(KEY.encode(), own=ClientRecorder(path))


def test_full_disk_is_a_warning(path: Path) -> None:
    tap = ClientRecorder(path)
    path.mkdir()
    with pytest.warns(UserWarning, match="not recorded"):
        answer(b"a", own=tap)


def test_block_and_client_both_record(path: Path) -> None:
    other = path.with_name("other.jsonl")
    with record(path):
        answer(b"a", own=ClientRecorder(other))
    assert blocks_of(path) == blocks_of(other) == ["a"]
