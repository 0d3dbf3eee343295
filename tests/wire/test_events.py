"""Lines to events: WHATWG HTML, 9.2.5 and 9.2.6, case by case and against a slow reference."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
import reactivex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reactivex import Observable, Subject

from rxmistral import DroppedStreamError, ProtocolError, ReportedError, Stream
from rxmistral.wire import EventDecoder, LineDecoder, ServerSentEvent, decode_events, events, lines

BOM = b"\xef\xbb\xbf"
no_deadline = settings(deadline=None)  # for loaded machines


def event(
    data: str, type: str = "message", id: str = "", retry: int | None = None
) -> ServerSentEvent:
    return ServerSentEvent(event=type, data=data, id=id, retry=retry)


CASES: dict[str, tuple[bytes | str, list[ServerSentEvent]]] = {
    # line ends
    "LF": ("data: a\n\n", [event("a")]),
    "CR": ("data: a\r\r", [event("a")]),
    "CRLF": ("data: a\r\n\r\n", [event("a")]),
    "LF CR": ("data: a\n\r", [event("a")]),
    "CR LF is one end": ("data: a\r\ndata: b\r\r", [event("a\nb")]),
    "CR CRLF": ("data: a\r\r\n", [event("a")]),
    "LF CRLF": ("data: a\n\r\n", [event("a")]),
    "CRLF LF": ("data: a\r\n\n", [event("a")]),
    "CRLF CR": ("data: a\r\n\r", [event("a")]),
    "mixed": ("data: a\r\ndata: b\ndata: c\r\rdata: d\n\n", [event("a\nb\nc"), event("d")]),
    "blank lines before": ("\n\r\n\rdata: a\n\n", [event("a")]),
    "blank lines between": ("data: a\n\n\n\n\r\rdata: b\n\n", [event("a"), event("b")]),
    "U+2028": ("data: a\u2028b\n\n", [event("a\u2028b")]),
    "U+2029": ("data: a\u2029\u2029b\n\n", [event("a\u2029\u2029b")]),
    "U+0085": ("data: a\x85\x85b\n\n", [event("a\x85\x85b")]),
    "form feed": ("data: a\x0c\x0cb\n\n", [event("a\x0c\x0cb")]),
    "vertical tab": ("data: a\x0b\x0bb\n\n", [event("a\x0b\x0bb")]),
    "file separators": ("data: a\x1c\x1d\x1eb\n\n", [event("a\x1c\x1d\x1eb")]),
    # the byte order mark
    "BOM": (BOM + b"data: a\n\n", [event("a")]),
    "BOM twice": (BOM + BOM + b"data: a\n\ndata: b\n\n", [event("b")]),
    "BOM before a later event": (b"data: a\n\n" + BOM + b"data: b\n\n", [event("a")]),
    "BOM in the data": (b"data: " + BOM + b"a\n\n", [event("\ufeffa")]),
    "BOM before a comment": (BOM + b": c\ndata: a\n\n", [event("a")]),
    "BOM before a blank line": (BOM + b"\ndata: a\n\n", [event("a")]),
    "BOM after a blank line": (b"\n" + BOM + b"data: a\n\n", []),
    "BOM and nothing": (BOM, []),
    "broken BOM": (b"\xef\xbbdata: a\n\ndata: b\n\n", [event("b")]),
    # comments
    "comment": (": keep-alive\n\n", []),
    "comment, empty": (":\n\n", []),
    "comment before data": (":c\ndata: a\n\n", [event("a")]),
    "comment amid data": ("data: a\n: c\ndata: b\n\n", [event("a\nb")]),
    "comment that looks like a field": (":data: x\ndata: a\n\n", [event("a")]),
    "comment after data": ("data: a\n:\n\n", [event("a")]),
    "space before a colon is not a comment": (" : c\ndata: a\n\n", [event("a")]),
    # data
    "no space": ("data:a\n\n", [event("a")]),
    "one space stripped": ("data:  a\n\n", [event(" a")]),
    "only the leading space": ("data: a \n\n", [event("a ")]),
    "tab is not a space": ("data:\ta\n\n", [event("\ta")]),
    "no-break space is not a space": ("data:\xa0a\n\n", [event("\xa0a")]),
    "colons in the value": ("data: a: b:c\n\n", [event("a: b:c")]),
    "value is a colon": ("data::\n\n", [event(":")]),
    "joined by LF": ("data: a\ndata: b\ndata: c\n\n", [event("a\nb\nc")]),
    "joined by LF, not by their own line ends": ("data: a\r\ndata: b\rdata: c\n\n", [event("a\nb\nc")]),
    "empty value": ("data:\n\n", [event("")]),
    "empty value, after a space": ("data: \n\n", [event("")]),
    "no colon": ("data\n\n", [event("")]),
    "two empty": ("data\ndata\n\n", [event("\n")]),
    "three empty": ("data:\ndata\ndata: \n\n", [event("\n\n")]),
    "empty between": ("data: a\ndata\ndata: b\n\n", [event("a\n\nb")]),
    "empty at the end": ("data: a\ndata\n\n", [event("a\n")]),
    "empty at the begin": ("data\ndata: a\n\n", [event("\na")]),
    "NUL in data": ("data: a\0b\n\n", [event("a\0b")]),
    "escapes are kept": ("data: a\\nb\n\n", [event("a\\nb")]),
    "no data, no event": ("event: x\nid: 1\n\n", []),
    "emoji": ("data: 😀\n\n", [event("😀")]),
    "two fields of the name with a space": ("data : a\n\n", []),
    "leading space": (" data: a\n\n", []),
    "upper case": ("DATA: a\nData: b\n\n", []),
    "longer name": ("datas: a\n\n", []),
    "shorter name": ("dat: a\n\n", []),
    "unknown field": ("foo: a\ndata: b\nbar\n\n", [event("b")]),
    "unknown field with JSON": ('{"a": 1}\ndata: b\n\n', [event("b")]),
    # the event type
    "event": ("event: x\ndata: a\n\n", [event("a", "x")]),
    "event after data": ("data: a\nevent: x\n\n", [event("a", "x")]),
    "last event counts": ("event: x\nevent: y\ndata: a\n\n", [event("a", "y")]),
    "event is reset": ("event: x\ndata: a\n\ndata: b\n\n", [event("a", "x"), event("b")]),
    "event is reset without data": ("event: x\n\ndata: a\n\n", [event("a")]),
    "event empty": ("event:\ndata: a\n\n", [event("a")]),
    "event without colon": ("event\ndata: a\n\n", [event("a")]),
    "event emptied": ("event: x\nevent:\ndata: a\n\n", [event("a")]),
    "event keeps inner spaces": ("event:  x y \ndata: a\n\n", [event("a", " x y ")]),
    "event of one space": ("event:  \ndata: a\n\n", [event("a", " ")]),
    "event with NUL": ("event: x\0\ndata: a\n\n", [event("a", "x\0")]),
    "event, upper case": ("EVENT: x\ndata: a\n\n", [event("a")]),
    # the id
    "id": ("id: 1\ndata: a\n\n", [event("a", id="1")]),
    "id after data": ("data: a\nid: 1\n\n", [event("a", id="1")]),
    "id is kept": ("id: 1\ndata: a\n\ndata: b\n\n", [event("a", id="1"), event("b", id="1")]),
    "id is kept without data": ("id: 1\n\ndata: a\n\n", [event("a", id="1")]),
    "id is emptied": ("id: 1\ndata: a\n\nid\ndata: b\n\n", [event("a", id="1"), event("b")]),
    "id is emptied with a colon": ("id: 1\n\nid:\ndata: b\n\n", [event("b")]),
    "last id counts": ("id: 1\nid: 2\ndata: a\n\n", [event("a", id="2")]),
    "id with NUL": ("id: 1\0\ndata: a\n\n", [event("a")]),
    "id with NUL keeps the one before": ("id: 1\nid: \0\x002\ndata: a\n\n", [event("a", id="1")]),
    "id of one space": ("id:  \ndata: a\n\n", [event("a", id=" ")]),
    "id in UTF-8": ("id: é\ndata: a\n\n", [event("a", id="é")]),
    "id, upper case": ("ID: 1\ndata: a\n\n", [event("a")]),
    # retry
    "retry": ("retry: 1500\ndata: a\n\n", [event("a", retry=1500)]),
    "retry, no space": ("retry:0\ndata: a\n\n", [event("a", retry=0)]),
    "retry is of its event": ("retry: 1\ndata: a\n\ndata: b\n\n", [event("a", retry=1), event("b")]),
    "retry with leading zeros": ("retry: 007\ndata: a\n\n", [event("a", retry=7)]),
    "retry negative": ("retry: -1\ndata: a\n\n", [event("a")]),
    "retry with sign": ("retry: +1\ndata: a\n\n", [event("a")]),
    "retry with fraction": ("retry: 1.5\ndata: a\n\n", [event("a")]),
    "retry with underscore": ("retry: 1_0\ndata: a\n\n", [event("a")]),
    "retry with spaces": ("retry:  1\ndata: a\n\n", [event("a")]),
    "retry with a trailing space": ("retry: 1 \ndata: a\n\n", [event("a")]),
    "retry hexadecimal": ("retry: 0x10\ndata: a\n\n", [event("a")]),
    "retry empty": ("retry:\ndata: a\n\n", [event("a")]),
    "retry without colon": ("retry\ndata: a\n\n", [event("a")]),
    "retry in Arabic digits": ("retry: ١٢\ndata: a\n\n", [event("a")]),
    "retry superscript": ("retry: ²\ndata: a\n\n", [event("a")]),
    "retry wrong keeps the one before": ("retry: 1\nretry: x\ndata: a\n\n", [event("a", retry=1)]),
    "retry long": ("retry: " + 30 * "9" + "\ndata: a\n\n", [event("a", retry=int(30 * "9"))]),
    # the end of the stream
    "nothing": ("", []),
    "only blank lines": ("\n\n\n", []),
    "unfinished, no line end": ("data: a", []),
    "unfinished, one line end": ("data: a\n", []),
    "unfinished after an event": ("data: a\n\ndata: b\n", [event("a")]),
    "unfinished CRLF": ("data: a\r\n", []),
    "unfinished CR": ("data: a\r", []),
    # UTF-8
    "invalid byte": (b"data: a\xffb\n\n", [event("a\ufffdb")]),
    "cut sequence": (b"data: \xf0\x9f\x98\n\n", [event("\ufffd")]),
    "cut sequence, then more": (b"data: \xe2\x82a\n\n", [event("\ufffda")]),
    "a sequence cut by a line end": (b"data: \xe2\ndata: \x82\xac\n\n", [event("\ufffd\n\ufffd\ufffd")]),
    "overlong": (b"data: \xc0\xaf\n\n", [event("\ufffd\ufffd")]),
    "surrogate": (b"data: \xed\xa0\x80\n\n", [event("\ufffd\ufffd\ufffd")]),
    "above U+10FFFF": (b"data: \xf4\x90\x80\x80\n\n", [event("\ufffd\ufffd\ufffd\ufffd")]),
    "invalid in the type": (b"event: \xff\ndata: a\n\n", [event("a", "\ufffd")]),
    "invalid in the id": (b"id: \xff\ndata: a\n\n", [event("a", id="\ufffd")]),
    "invalid in a name": (b"data\xff: a\n\ndata: b\n\n", [event("b")]),
    # Mistral's events, and those of gateways
    "completion": ('data: {"choices":[]}\n\ndata: [DONE]\n\n', [event('{"choices":[]}'), event("[DONE]")]),
    "comments of a gateway": (": ping\n\ndata: a\n\n: ping\n\ndata: b\n\n", [event("a"), event("b")]),
    "pretty-printed": ('data: {\ndata:   "a": 1\ndata: }\n\n', [event('{\n  "a": 1\n}')]),
}  # fmt: skip


def splits(body: bytes) -> Iterator[list[bytes]]:
    """Yields the body whole, byte by byte, and in two parts, each also with empty blocks."""
    pieces = [[body], [body[at : at + 1] for at in range(len(body))]]
    pieces += [[body[:at], body[at:]] for at in range(len(body) + 1)]
    for blocks in pieces:
        yield blocks
        yield [b"", *(each for block in blocks for each in (block, b"", b""))]


Decode = Callable[[list[bytes]], list[ServerSentEvent]]


def by_iterator(blocks: list[bytes]) -> list[ServerSentEvent]:
    return list(decode_events(blocks))


def by_decoders(blocks: list[bytes]) -> list[ServerSentEvent]:
    line_decoder, event_decoder = LineDecoder(), EventDecoder()
    found = [event_decoder.feed(line) for block in blocks for line in line_decoder.feed(block)]
    return [each for each in found if each is not None]


def by_operators(blocks: list[bytes]) -> list[ServerSentEvent]:
    emitted: list[ServerSentEvent] = []
    reactivex.from_iterable(blocks).pipe(lines(), events()).subscribe(emitted.append)
    return emitted


@pytest.mark.parametrize("decode", [by_iterator, by_decoders, by_operators])
@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_events_follow_the_standard_for_any_blocks(
    decode: Decode, body: bytes | str, expected: list[ServerSentEvent]
) -> None:
    body = body.encode() if isinstance(body, str) else body
    for blocks in splits(body):
        assert decode(blocks) == expected, blocks


# --- the reference ---------------------------------------------------------------


def reference(body: bytes) -> Iterator[ServerSentEvent]:
    """Follows 9.2.5 and 9.2.6 literally: decodes all, splits all, then reads line by line."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    *whole_lines, _unfinished = re.split("\r\n|\r|\n", text)
    data = kind = last_id = ""
    retry: int | None = None
    for line in whole_lines:
        if line == "":
            if data != "":
                yield event(data.removesuffix("\n"), kind or "message", last_id, retry)
            data = kind = ""
            retry = None
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            last_id = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            retry = int(value)


TRICKY_BYTES = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\n\n", b":", b" ", b"data", b"data:", b"data: ", b"event:", b"id:",
     b"id", b"retry:", b"7", b"x", b"\0", BOM, b"\xef", b"\xbb", b"\xbf", b"\x85", b"\xc2\x85",
     b"\xe2\x80\xa8", b"\x0c", b"\x0b", b"\x1e", b"\xf0\x9f", b"\x98\x80", b"\xff", b"\xed\xa0"]
)  # fmt: skip
TRICKY_BLOCKS = st.lists(st.lists(TRICKY_BYTES, max_size=8).map(b"".join), max_size=12)


@no_deadline
@given(TRICKY_BLOCKS)
@example([b"data: a\r", b"", b"\n", b"\r", b"\ndata: b\n\n"])
def test_events_equal_those_of_a_slow_reference(blocks: list[bytes]) -> None:
    expected = list(reference(b"".join(blocks)))
    assert by_iterator(blocks) == expected
    assert by_operators(blocks) == expected


@no_deadline
@given(st.binary(), st.integers(1, 5))
def test_arbitrary_bytes_raise_nothing(body: bytes, size: int) -> None:
    blocks = [body[at : at + size] for at in range(0, len(body), size)]
    assert by_iterator(blocks) == list(reference(body))


@pytest.mark.parametrize(("digits", "expected"), [(640, int(640 * "9")), (5000, None)])
def test_retry_with_thousands_of_digits_is_ignored(digits: int, expected: int | None) -> None:
    body = b"retry: " + digits * b"9" + b"\ndata: a\n\n"
    assert by_iterator([body]) == [event("a", retry=expected)]


# --- without delay ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "blank"),
    [(b"data: a\n", b"\n"), (b"data: a\r\n", b"\r"), (b"data: a\r", b"\r"), (b"data: a\n", b"\r")],
)
def test_event_is_emitted_when_its_blank_line_is_certain(before: bytes, blank: bytes) -> None:
    source: Subject[bytes] = Subject()
    emitted: list[ServerSentEvent] = []
    source.pipe(lines(), events()).subscribe(emitted.append)
    source.on_next(before)
    assert emitted == []
    source.on_next(blank)
    assert emitted == [event("a")]
    source.on_next(b"\n")  # after a CR the rest of a CRLF, otherwise another blank line
    assert emitted == [event("a")]


def test_decode_events_reads_blocks_lazily() -> None:
    consumed: list[bytes] = []

    def blocks() -> Iterator[bytes]:
        for block in (b"data: a\n\ndata: b\r\r", b"data: c\n\n"):
            consumed.append(block)
            yield block

    found = decode_events(blocks())
    assert [next(found), next(found)] == [event("a"), event("b")]
    assert len(consumed) == 1


# --- max_bytes -------------------------------------------------------------------


def collect(source: Observable[bytes], **options: int) -> list[object]:
    """Returns what lines() and events() emit, the terminal last."""
    emitted: list[object] = []
    source.pipe(lines(**options), events(**options)).subscribe(
        emitted.append, emitted.append, lambda: emitted.append("end")
    )
    return emitted


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"data: " + 10 * b"x", 10 * "x"),
        (b"data:" + 10 * b"x", 10 * "x"),
        (b"data: xxxx\ndata: yyyyy", "xxxx\nyyyyy"),
        (11 * b"data\n", 10 * "\n"),
    ],
)
def test_data_of_exactly_max_bytes_passes(body: bytes, data: str) -> None:
    for blocks in splits(body + b"\n\n"):
        assert collect(reactivex.from_iterable(blocks), max_bytes=10) == [event(data), "end"]
        assert list(decode_events(blocks, max_bytes=10)) == [event(data)]


@pytest.mark.parametrize(
    "body",
    [b"data: " + 11 * b"x", b"data: xxxxx\ndata: yyyyy", 12 * b"data\n", b":" + 16 * b"x"],
)
def test_larger_event_is_an_error_after_the_events_before_it(body: bytes) -> None:
    for blocks in splits(b"data: a\n\n" + body + b"\n\n"):
        first, error = collect(reactivex.from_iterable(blocks), max_bytes=10)
        assert first == event("a")
        assert isinstance(error, ProtocolError)
        found = decode_events(blocks, max_bytes=10)
        assert next(found) == event("a")
        with pytest.raises(ProtocolError, match="larger than"):
            next(found)


def test_endless_event_is_an_error_at_max_bytes() -> None:
    source: Subject[bytes] = Subject()
    emitted = collect(source, max_bytes=10)
    source.on_next(b"data: xxxxx\ndata: yyyyy\n")
    assert isinstance(emitted[0], ProtocolError)
    assert not source.observers


def test_max_bytes_limits_each_event_not_the_stream() -> None:
    assert len(list(decode_events([100 * b"data: xxxxxxxxxx\n\n"], max_bytes=10))) == 100


def test_fields_other_than_data_do_not_count() -> None:
    body = 100 * b": ping\nevent: x\nid: 1\nfoo: bar\n" + b"data: a\n\n"
    assert list(decode_events([body], max_bytes=10)) == [event("a", "x", "1")]


@pytest.mark.parametrize(("max_bytes", "error"), [(0, ValueError), ("1", TypeError)])
def test_invalid_max_bytes_is_refused_at_the_call(max_bytes: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_bytes"):
        events(max_bytes=max_bytes)
    with pytest.raises(error, match="max_bytes"):
        list(decode_events([], max_bytes=max_bytes))


# --- the cost --------------------------------------------------------------------


def one_huge_line(n: int) -> list[bytes]:
    return [b"data: ", *(n * [1024 * b"x"]), b"\n\n"]


def many_data_lines(n: int) -> list[bytes]:
    return [*(n * [b"data: x\n"]), b"\n"]


def single_bytes(n: int) -> list[bytes]:
    return [b"data: ", *(n * [b"x"]), b"\r\n\r\n"]


def many_events_in_one_block(n: int) -> list[bytes]:
    return [n * b"data: x\r\n\r\n"]


def many_crlf_halves(n: int) -> list[bytes]:
    return n * [b"data: x\r", b"\n\r", b"\n"]


def cpu_seconds(blocks: Iterable[bytes]) -> float:
    begin = time.thread_time()
    for _ in decode_events(blocks):
        pass
    return time.thread_time() - begin


@pytest.mark.parametrize(
    ("shape", "n"),
    [
        (one_huge_line, 2048),
        (many_data_lines, 25_000),
        (single_bytes, 25_000),
        (many_events_in_one_block, 25_000),
        (many_crlf_halves, 8_000),
    ],
)
def test_cost_is_linear_in_the_bytes(shape: Callable[[int], list[bytes]], n: int) -> None:
    small, large = shape(n), shape(8 * n)
    ratios = []
    for _ in range(8):  # CPU time of this thread; one undisturbed measurement is enough
        ratios.append(cpu_seconds(large) / cpu_seconds(small))
        if ratios[-1] < 24:  # 8 if it is linear, 64 if it is quadratic
            return
    pytest.fail(f"eight times the bytes took {ratios} times as long")


# --- reported errors ----------------------------------------------------

DROPPED = DroppedStreamError("reset")
FRAME = b'data: {"object":"error","message":"overloaded","type":"busy","code":1300}'
BARE = b'{"error":{"message":"overloaded","type":"busy","code":"1300"}}'


def then_end(*blocks: bytes) -> Observable[bytes]:
    return reactivex.from_iterable(blocks)


def then_drop(*blocks: bytes) -> Observable[bytes]:
    return reactivex.concat(then_end(*blocks), reactivex.throw(DROPPED))


def report_of(error: object) -> tuple[str, str | None, str | None]:
    assert isinstance(error, ReportedError)
    return error.message, error.type, error.code


@pytest.mark.parametrize("ending", [then_end, then_drop])
@pytest.mark.parametrize("rest", [b"", b"\n", b"\r\n", b"\n\n"])
def test_bare_json_error_is_raised_after_the_events_before_it(
    ending: Callable[..., Observable[bytes]], rest: bytes
) -> None:
    first, error = collect(ending(b"data: a\n\n", BARE + rest))
    assert first == event("a")
    assert report_of(error) == ("overloaded", "busy", "1300")


@pytest.mark.parametrize("rest", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("ending", [then_end, then_drop])
def test_error_event_without_blank_line_is_raised(
    ending: Callable[..., Observable[bytes]], rest: bytes
) -> None:
    first, error = collect(ending(b"data: a\n\n" + FRAME + rest))
    assert first == event("a")
    assert report_of(error) == ("overloaded", "busy", "1300")


def test_dropped_connection_is_the_cause_of_a_truncated_error() -> None:
    [error] = collect(then_drop(FRAME))
    assert isinstance(error, ReportedError)
    assert error.__cause__ is DROPPED


def test_truncated_event_of_type_error_is_raised_with_its_text() -> None:
    [error] = collect(then_end(b"event: error\ndata: no more"))
    assert report_of(error) == ("no more", None, None)


def test_complete_error_event_is_an_ordinary_event() -> None:
    emitted = collect(then_end(FRAME + b"\n\n"))
    assert [type(each) for each in emitted] == [ServerSentEvent, str]


@pytest.mark.parametrize(
    "rest",
    [
        b"data: b",
        b"data: b\n",
        b'data: {"choices": []}\n',
        b'data: {"error": null}\n',
        b"event: x\n",
        b"foo",
        b"foo: bar\n",
        b'{"choices": []}\n',
        b'{"error": null}\n',
        b'{"error": {"message": "cut',
        b'"error"\n',
        b"[]\n",
        b": error\n",
        b"event: error\n",
    ],
)
@pytest.mark.parametrize(("ending", "terminal"), [(then_end, "end"), (then_drop, DROPPED)])
def test_unknown_lines_and_truncated_events_are_ignored(
    ending: Callable[..., Observable[bytes]], terminal: object, rest: bytes
) -> None:
    assert collect(ending(b"data: a\n\n" + rest)) == [event("a"), terminal]


def test_decode_events_raises_no_reported_errors() -> None:
    assert list(decode_events([BARE + b"\ndata: a\n\n" + FRAME])) == [event("a")]


def test_close_returns_the_truncated_event_once() -> None:
    decoder = EventDecoder()
    decoder.feed(b"id: 1")
    assert decoder.close() is None
    decoder.feed(b"data: a")
    assert decoder.close() == event("a", id="1")
    assert decoder.close() is None


def test_subscriptions_share_no_state() -> None:
    source: Subject[bytes] = Subject()
    piped = source.pipe(events())
    first: list[ServerSentEvent] = []
    second: list[ServerSentEvent] = []
    piped.subscribe(first.append)
    source.on_next(b"data: a")
    source.on_next(b"id: 1")
    piped.subscribe(second.append)
    source.on_next(b"data: b")
    source.on_next(b"")
    assert first == [event("a\nb", id="1")]
    assert second == [event("b")]


def test_events_returns_a_stream() -> None:
    piped = reactivex.of(b"data: a", b"").pipe(events())
    assert isinstance(piped, Stream)
    assert list(piped) == [event("a")]
