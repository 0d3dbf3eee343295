"""The fast path emits what the slow path emits, whatever the body and its cuts."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import reactivex
from hypothesis import example, given
from hypothesis import strategies as st
from reactivex import Subject

from rxmistral import CompletionEvent, StreamError
from rxmistral.completions.accumulator import CompletionAccumulator
from rxmistral.completions.decoding import CompletionDecoder, completions_into
from rxmistral.completions.fast_path import completions_of_blocks
from rxmistral.rx.stream import Stream
from rxmistral.wire import events, lines

MAX = 3000


def chunk(content: Any, choice: Any = None, delta: Any = None, **more: Any) -> str:
    delta = {"content": content, **(delta or {})}
    choice = {"index": 0, "delta": delta, "finish_reason": None, **(choice or {})}
    return json.dumps({"id": "a1", "choices": [choice], **more})


CALL = {"id": "c1", "index": 0, "function": {"name": "f", "arguments": "{}"}}
LOGPROBS = {"content": [{"token": "Hi", "logprob": -0.1, "bytes": [], "top_logprobs": []}]}


FINISH = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
BARE_ERROR = b'{"error": "bare"}\n'

PIECES: list[bytes] = [
    *[b"data: " + chunk(word).encode() + b"\n\n" for word in ("Hi", "", "é\u2028", '"error"')],
    b"data: " + chunk("x", usage={"total_tokens": 3, "new": 1}).encode() + b"\n\n",
    b"data: " + chunk("second", {"index": 1}).encode() + b"\n\n",
    b"data: " + chunk("call", delta={"tool_calls": [CALL]}).encode() + b"\n\n",
    b"data: " + chunk("logprobs", {"logprobs": LOGPROBS}).encode() + b"\n\n",
    b"data: " + chunk([{"type": "text", "text": "part"}]).encode() + b"\n\n",
    b"data: " + chunk("long" * 300).encode() + b"\n\n",
    b"data:" + chunk("no space").encode() + b"\n\n",
    b"data: " + chunk("crlf").encode() + b"\r\n\r\n",
    b"data: " + chunk("cr").encode() + b"\r\r",
    b"data: " + chunk("z" * 200).encode() + b"\n\n",
    b"data: " + chunk("\ud83d").encode() + b"\n\n",
    b"data: " + chunk("\ude00").encode() + b"\n\n",
    b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "a"}}],\ndata: "id": "b"}\n\n',
    b'data: {"choices": [{"delta": {"content": "a"}}],\n"id": "b"}\n\n',
    b'data: {"choices": []}\n\n',
    FINISH,
    b'data: {"choices": [{"delta": {"content": "e"}, "finish_reason": "error"}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "a"}}], "error": "busy"}\n\n',
    b'data: {"error": {"message": "busy"}}\n\n',
    b"data: [DONE]\n\n",
    b"data: {\n\n",
    b"data: \n\n",
    b"data\n\n",
    b": keep-alive\n\n",
    b": keep-alive\n",
    b"\n",
    b"id: 3\n",
    b"event: error\n",
    b"retry: 10\n\n",
    BARE_ERROR,
    b"\xef\xbb\xbf",
    b"data: ",
    b"data: " + b"y" * MAX + b"\n\n",
]


def read_by_path(is_fast: bool, blocks: list[bytes], ending: Any) -> tuple[list[Any], Any]:
    """Returns the notifications by one path, and the response at the end."""
    received = CompletionAccumulator()
    source: Subject[bytes] = Subject()
    if is_fast:
        completions = Stream.of(source).pipe(
            completions_of_blocks(
                lambda: CompletionDecoder(received), max_bytes=MAX, accept_clean_end=False
            )
        )
    else:
        completions = Stream.of(source).pipe(
            lines(max_bytes=MAX),
            events(max_bytes=MAX),
            completions_into(lambda: CompletionDecoder(received), False),
        )
    items: list[Any] = []

    def fail(error: Exception) -> None:
        partial = error.partial if isinstance(error, StreamError) else None
        items.append((repr(error), partial))

    subscription = completions.subscribe(items.append, fail, lambda: items.append("completed"))
    for block in blocks:
        source.on_next(block)
        items.append("block")  # marks which items this block caused
    if ending is None:
        source.on_completed()
    else:
        source.on_error(ending)
    subscription.dispose()
    return items, received.response(with_unfinished=True)


def cut(body: bytes, places: set[int]) -> list[bytes]:
    inner = sorted(place for place in places if 0 < place < len(body))
    return [body[a:b] for a, b in pairwise([0, *inner, len(body)])]


piece_lists = st.lists(st.sampled_from(PIECES) | st.just(PIECES[0]), max_size=12)
bodies = piece_lists.map(b"".join)
endings = st.sampled_from([None, ConnectionError("reset")])


@given(bodies, st.sets(st.integers(0, 2000), max_size=8), endings)
@example(FINISH + BARE_ERROR + PIECES[0], set(), None)  # an end in the middle of a block
def test_fast_path_equals_slow_path(body: bytes, places: set[int], ending: Any) -> None:
    blocks = cut(body, places)
    assert without_block_marks(read_by_path(True, blocks, ending)) == without_block_marks(
        read_by_path(False, blocks, ending)
    )


@given(piece_lists, endings)
def test_fast_path_equals_slow_path_piece_by_piece(blocks: list[bytes], ending: Any) -> None:
    assert read_by_path(True, blocks, ending) == read_by_path(False, blocks, ending)


@given(bodies)
def test_fast_path_equals_slow_path_byte_by_byte(body: bytes) -> None:
    blocks = [body[place : place + 1] for place in range(len(body))]
    assert without_block_marks(read_by_path(True, blocks, None)) == without_block_marks(
        read_by_path(False, blocks, None)
    )


def without_block_marks(notifications: tuple[list[Any], Any]) -> tuple[list[Any], Any]:
    """Ignores in which block an item was emitted; a subscriber cannot tell."""
    items, response = notifications
    return [each for each in items if each != "block"], response


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("before", [b"", PIECES[0], PIECES[0] + PIECES[0]])
def test_fast_path_emits_as_early_as_slow_path(piece: bytes, before: bytes) -> None:
    for size in (1, 7, 1000):
        body = before + piece
        blocks = [body[place : place + size] for place in range(0, len(body), size)]
        assert read_by_path(True, blocks, None)[0] == read_by_path(False, blocks, None)[0]


def test_fast_path_is_taken_for_simple_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first event and the last take the slow path, of a thousand."""
    fed_events: list[object] = []
    feed = CompletionDecoder.feed

    def counting(self: CompletionDecoder, event: Any) -> CompletionEvent | None:
        fed_events.append(event)
        return feed(self, event)

    monkeypatch.setattr(CompletionDecoder, "feed", counting)
    body = PIECES[0] * 1000 + b"data: [DONE]\n\n"
    blocks = cut(body, set(range(0, len(body), 997)))
    decoder = CompletionDecoder(CompletionAccumulator())
    stream = Stream.of(reactivex.from_iterable(blocks)).pipe(
        completions_of_blocks(lambda: decoder, max_bytes=MAX, accept_clean_end=False)
    )
    assert len(list(stream)) == 1000
    assert len(fed_events) < 30
