"""Decoders of bodies: content and end, for pieces of any size."""

from __future__ import annotations

from http.client import HTTPException, IncompleteRead

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxmistral.wire.message_body import ChunkedDecoder, LengthDecoder, UntilCloseDecoder

BODIES: list[tuple[bytes, bytes, bytes]] = [
    (b"0\r\n\r\n", b"", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", b""),
    (b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789", b""),
    (b"a\n0123456789\n0\n\n", b"0123456789", b""),
    (b'3;name=value;q="x\t"\r\nabc\r\n0;last\r\n\r\n', b"abc", b""),
    (b"3 \r\nabc\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n", b"abc", b""),
    (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", b""),
    (b"3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200", b"abc", b"HTTP/1.1 200"),
]


def feed_all(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    decoder = ChunkedDecoder()
    content = b"".join(decoder.feed(piece) for piece in pieces)
    return content, decoder.ended, decoder.unused_data


@pytest.mark.parametrize(("body", "content", "unused"), BODIES)
def test_chunked_decoder_accepts_any_pieces(body: bytes, content: bytes, unused: bytes) -> None:
    assert feed_all([body]) == (content, True, unused)
    assert feed_all([body[i : i + 1] for i in range(len(body))]) == (content, True, unused)
    for cut in range(len(body)):
        assert feed_all([body[:cut], b"", body[cut:]]) == (content, True, unused)


@pytest.mark.parametrize("body", [body for body, _, unused in BODIES if not unused])
def test_chunked_decoder_has_not_ended_when_truncated(body: bytes) -> None:
    for cut in range(len(body)):
        assert not feed_all([body[:cut]])[1]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"0x5\r\nhello",
        b"1_0\r\n",
        b"5\r\nhello!\r\n",
        b"1\r\nab\r\n",
        b";\r\n",
    ],
)
def test_chunked_decoder_refuses_invalid_chunks(body: bytes) -> None:
    with pytest.raises(HTTPException):
        feed_all([body])
    with pytest.raises(HTTPException):
        feed_all([body[i : i + 1] for i in range(len(body))])


def test_chunked_decoder_refuses_an_endless_line() -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(HTTPException, match="too long"):
        for _ in range(100):
            decoder.feed(b"0" * 1024)


@given(chunks=st.lists(st.binary(min_size=1, max_size=40)), data=st.data())
def test_chunked_decoder_returns_any_chunks_in_any_pieces(
    chunks: list[bytes], data: st.DataObject
) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.sets(st.integers(0, len(body)), max_size=8)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert feed_all(pieces) == (b"".join(chunks), True, b"")


def test_chunked_decoder_closed_early_is_incomplete() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"5\r\nhello\r\n")
    with pytest.raises(IncompleteRead):
        decoder.close()


@given(st.binary(max_size=20), st.binary(max_size=5), st.integers(0, 25))
def test_length_decoder_returns_that_many_bytes(body: bytes, unused: bytes, cut: int) -> None:
    decoder = LengthDecoder(len(body))
    whole = body + unused
    assert decoder.feed(whole[:cut]) + decoder.feed(whole[cut:]) == body
    assert decoder.ended
    assert decoder.unused_data == unused


def test_length_decoder_closed_early_is_incomplete() -> None:
    decoder = LengthDecoder(3)
    assert decoder.feed(b"ab") == b"ab"
    assert not decoder.ended
    with pytest.raises(IncompleteRead):
        decoder.close()


def test_until_close_decoder_ends_when_closed() -> None:
    decoder = UntilCloseDecoder()
    assert decoder.feed(b"ab") == b"ab"
    assert not decoder.ended
    decoder.close()
    assert decoder.ended
