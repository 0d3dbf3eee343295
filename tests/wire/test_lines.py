"""Blocks to lines: the line ends and the byte order mark of WHATWG HTML, 9.2.5."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import reactivex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reactivex import Subject

from rxmistral import DroppedStreamError, ProtocolError, Stream
from rxmistral.wire import LineDecoder, lines

BOM = b"\xef\xbb\xbf"
no_deadline = settings(deadline=None)  # for loaded machines

CASES = {
    "nothing": (b"", []),
    "LF": (b"a\nb\n", [b"a", b"b"]),
    "CR": (b"a\rb\r", [b"a", b"b"]),
    "CRLF": (b"a\r\nb\r\n", [b"a", b"b"]),
    "all three": (b"a\rb\nc\r\nd\n", [b"a", b"b", b"c", b"d"]),
    "LF alone": (b"\n", [b""]),
    "CR alone": (b"\r", [b""]),
    "CRLF alone": (b"\r\n", [b""]),
    "CR CR": (b"\r\r", [b"", b""]),
    "LF LF": (b"\n\n", [b"", b""]),
    "LF CR": (b"\n\r", [b"", b""]),
    "CRLF CRLF": (b"\r\n\r\n", [b"", b""]),
    "CR CRLF": (b"\r\r\n", [b"", b""]),
    "CR LF LF": (b"\r\n\n", [b"", b""]),
    "LF CRLF CR": (b"\n\r\n\r", [b"", b"", b""]),
    "unfinished": (b"a\nb", [b"a", b"b"]),
    "unfinished only": (b"ab", [b"ab"]),
    "unfinished after CR": (b"a\rb", [b"a", b"b"]),
    "BOM": (BOM + b"a\n", [b"a"]),
    "BOM only": (BOM, []),
    "BOM twice": (BOM + BOM + b"a\n", [BOM + b"a"]),
    "BOM later": (b"a\n" + BOM + b"b\n", [b"a", BOM + b"b"]),
    "BOM before LF": (BOM + b"\na\n", [b"", b"a"]),
    "BOM before CRLF": (BOM + b"\r\na\n", [b"", b"a"]),
    "LF before BOM": (b"\n" + BOM + b"a\n", [b"", BOM + b"a"]),
    "begin of a BOM": (b"\xef\xbba\n", [b"\xef\xbba"]),
    "one byte of a BOM": (b"\xef\n", [b"\xef"]),
    "unfinished BOM, one byte": (b"\xef", [b"\xef"]),
    "unfinished BOM, two bytes": (b"\xef\xbb", [b"\xef\xbb"]),
    "UTF-16 BOM": (b"\xff\xfea\n", [b"\xff\xfea"]),
    "U+2028": ("a\u2028b\n".encode(), ["a\u2028b".encode()]),
    "U+2029": ("a\u2029b\n".encode(), ["a\u2029b".encode()]),
    "U+0085": ("a\x85b\n".encode(), ["a\x85b".encode()]),
    "byte 0x85": (b"a\x85b\n", [b"a\x85b"]),
    "form feed": (b"a\x0cb\n", [b"a\x0cb"]),
    "vertical tab": (b"a\x0bb\n", [b"a\x0bb"]),
    "FS, GS, RS": (b"a\x1cb\x1dc\x1ed\n", [b"a\x1cb\x1dc\x1ed"]),
    "NUL": (b"a\0b\n", [b"a\0b"]),
    "U+0A0D": ("a\u0a0db\n".encode(), ["a\u0a0db".encode()]),
    "invalid UTF-8": (b"\xc3\n\x80\r\xf0\x9f\n", [b"\xc3", b"\x80", b"\xf0\x9f"]),
}


def splits(body: bytes) -> Iterator[list[bytes]]:
    """Yields the body whole, byte by byte, and in two parts, each also with empty blocks."""
    pieces = [[body], [body[at : at + 1] for at in range(len(body))]]
    pieces += [[body[:at], body[at:]] for at in range(len(body) + 1)]
    for blocks in pieces:
        yield blocks
        yield [b"", *(each for block in blocks for each in (block, b"", b""))]


def by_decoder(blocks: list[bytes]) -> list[bytes]:
    decoder = LineDecoder()
    return [line for block in blocks for line in decoder.feed(block)] + decoder.close()


def by_operator(blocks: list[bytes]) -> list[bytes]:
    emitted: list[bytes] = []
    reactivex.from_iterable(blocks).pipe(lines()).subscribe(emitted.append)
    return emitted


@pytest.mark.parametrize("split", [by_decoder, by_operator])
@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_lines_follow_the_standard_for_any_blocks(
    split: object, body: bytes, expected: list[bytes]
) -> None:
    for blocks in splits(body):
        assert split(blocks) == expected, blocks  # type: ignore[operator]


PIECE = st.sampled_from(
    [b"a", b"\r", b"\n", b"\r\n", b"\xef", b"\xbb", b"\xbf", b"\x85", b"\x0c", b""]
)
BLOCKS = st.lists(st.lists(PIECE, max_size=8).map(b"".join), max_size=12)


def expected_lines(body: bytes) -> list[bytes]:
    found = re.split(rb"\r\n|\r|\n", body.removeprefix(BOM))
    return found if found[-1] else found[:-1]


@no_deadline
@given(BLOCKS)
@example([BOM[:1], b"", BOM[1:], b"a\r", b"", b"\nb"])
def test_lines_equal_those_of_the_whole_body(blocks: list[bytes]) -> None:
    assert by_decoder(blocks) == expected_lines(b"".join(blocks))


@no_deadline
@given(BLOCKS, st.integers(1, 4))
def test_max_bytes_holds_for_any_blocks(blocks: list[bytes], max_bytes: int) -> None:
    longest = max_bytes + len("data: ")
    decoder = LineDecoder(max_bytes)
    emitted = [line for block in blocks for line in decoder.feed(block)] + decoder.close()
    expected = expected_lines(b"".join(blocks))
    too_long = [at for at, line in enumerate(expected) if len(line) > longest]
    assert emitted == expected[: too_long[0] if too_long else None]
    assert (decoder.error is not None) == bool(too_long)


@pytest.mark.parametrize(
    ("blocks", "then", "now"),
    [
        ([b"a"], b"\n", [b"a"]),
        ([b"a"], b"\r", [b"a"]),  # without waiting for a possible LF
        ([b"a\r"], b"\n", []),
        ([b"a\r", b"\n"], b"\r", [b""]),
        ([b"a\r"], b"\r", [b""]),
        ([b"\xef", b"\xbb"], b"\xbf\n", [b""]),
        ([], b"a\nb\nc", [b"a", b"b"]),
    ],
)
def test_line_is_returned_when_its_end_is_certain(
    blocks: list[bytes], then: bytes, now: list[bytes]
) -> None:
    decoder = LineDecoder()
    for block in blocks:
        decoder.feed(block)
    assert decoder.feed(then) == now


def test_close_returns_the_truncated_line_once() -> None:
    decoder = LineDecoder()
    decoder.feed(b"a\nb")
    assert decoder.close() == [b"b"]
    assert decoder.close() == []


# --- max_bytes -------------------------------------------------------------------


def collect(source: reactivex.Observable[bytes], **options: int) -> list[object]:
    """Returns what lines() emits, its terminal last."""
    emitted: list[object] = []
    source.pipe(lines(**options)).subscribe(
        emitted.append, emitted.append, lambda: emitted.append("end")
    )
    return emitted


def test_line_may_have_max_bytes_of_data() -> None:
    body = b"data: " + 10 * b"x"
    for blocks in splits(body + b"\n"):
        assert collect(reactivex.from_iterable(blocks), max_bytes=10) == [body, "end"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_longer_line_is_an_error_after_the_lines_before_it(end: bytes) -> None:
    body = b"a\n\r\n" + b"data: " + 11 * b"x" + end + b"b\n"
    for blocks in splits(body):
        *before, error = collect(reactivex.from_iterable(blocks), max_bytes=10)
        assert before == [b"a", b""]
        assert isinstance(error, ProtocolError)
        assert "16 bytes" in str(error)


def test_endless_line_is_an_error_at_max_bytes() -> None:
    source: Subject[bytes] = Subject()
    emitted = collect(source, max_bytes=10)
    source.on_next(16 * b"x")
    assert emitted == []
    source.on_next(b"x")
    assert isinstance(emitted[0], ProtocolError)
    assert not source.observers


def test_decoder_buffers_nothing_after_a_line_too_long() -> None:
    decoder = LineDecoder(10)
    for _ in range(3):
        assert decoder.feed(20 * b"x") == []
        assert decoder.error is not None
    assert decoder.feed(b"\na\n") == []
    assert decoder.close() == []


def test_max_bytes_is_16_mib_by_default() -> None:
    data = bytes(16 * 1024 * 1024)
    assert len(collect(reactivex.of(b"data: " + data, b"\n"))) == 2
    assert isinstance(collect(reactivex.of(b"data: " + data, b"x"))[0], ProtocolError)


@pytest.mark.parametrize(
    ("max_bytes", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError), (True, TypeError)],
)
def test_invalid_max_bytes_is_refused_at_the_call(max_bytes: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_bytes"):
        lines(max_bytes=max_bytes)


# --- the ends --------------------------------------------------------------------


def test_truncated_line_is_emitted_before_completion() -> None:
    assert collect(reactivex.of(b"a\nb")) == [b"a", b"b", "end"]


def test_truncated_line_is_emitted_before_an_error() -> None:
    dropped = DroppedStreamError("reset")
    source = reactivex.concat(reactivex.of(b"a\nb"), reactivex.throw(dropped))
    assert collect(source) == [b"a", b"b", dropped]


def test_no_empty_line_is_emitted_at_the_end() -> None:
    assert collect(reactivex.of(b"a\n")) == [b"a", "end"]
    assert collect(reactivex.empty()) == ["end"]


def test_subscriptions_share_no_state() -> None:
    source: Subject[bytes] = Subject()
    piped = source.pipe(lines())
    first: list[bytes] = []
    second: list[bytes] = []
    piped.subscribe(first.append)
    source.on_next(b"a")
    piped.subscribe(second.append)
    source.on_next(b"b\n")
    assert (first, second) == ([b"ab"], [b"b"])


def test_no_line_is_emitted_after_dispose_within_a_block() -> None:
    source: Subject[bytes] = Subject()
    emitted: list[bytes] = []

    def dispose_after_one(line: bytes) -> None:
        emitted.append(line)
        subscription.dispose()

    subscription = source.pipe(lines()).subscribe(dispose_after_one)
    source.on_next(b"a\nb\nc\n")
    assert emitted == [b"a"]


def test_lines_returns_a_stream() -> None:
    piped = reactivex.of(b"a\n").pipe(lines())
    assert isinstance(piped, Stream)
    assert list(piped) == [b"a"]
