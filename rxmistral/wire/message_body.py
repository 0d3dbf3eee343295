"""Bodies: where one ends, and what is in it.

RFC 9112, 6.3 "Message Body Length": https://www.rfc-editor.org/rfc/rfc9112#section-6.3
and 7.1 "Chunked Transfer Coding": https://www.rfc-editor.org/rfc/rfc9112#section-7.1

http.client decodes one chunk at a call, and servers send one token a chunk. This takes
what the socket gave, however many chunks that is, and gives their content at once.
"""

from __future__ import annotations

import re
from http.client import HTTPException, IncompleteRead
from typing import Protocol

__all__ = ["ChunkedDecoder", "Decoder", "LengthDecoder", "UntilCloseDecoder"]

_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n").match
_LONGEST_LINE = 65536  # bytes of a size with its extensions, or of a trailer, as http.client has it


class Decoder(Protocol):
    """Takes a body in any pieces and gives its content."""

    @property
    def ended(self) -> bool: ...
    @property
    def rest(self) -> bytes:
        """What came after the end: it is not of this body."""
        ...

    def feed(self, data: bytes) -> bytes:
        """The content in this piece of the body."""
        ...

    def close(self) -> None:
        """The connection was closed: the end, or an IncompleteRead."""


class ChunkedDecoder:
    """Takes a chunked body in any pieces and gives its content.

    A chunk is a line with its size in hexadecimal, that many bytes, and a line end; the
    last has the size 0, and is followed by trailers and a blank line. Extensions and
    trailers are skipped, as 7.1.1 and 7.1.2 allow. A line may end in LF alone, which
    2.2 lets a recipient accept.
    """

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""  # what came after the end: it is not of this body
        self._line = b""  # a line whose end has not come
        self._left = 0  # bytes of the chunk that are still to come
        self._in_chunk = False  # the line end after the content counts as part of it
        self._in_trailers = False

    def feed(self, data: bytes) -> bytes:
        """The content in this piece of the body.

        Raises:
            HTTPException: This is no chunked body.
        """
        content: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._left:
                piece = data[at : at + self._left]
                content.append(piece)
                self._left -= len(piece)
                at += len(piece)
            elif self._in_chunk or self._in_trailers or self._line:
                at = self._read_line(data, at)
            else:
                taken = self._take_whole_chunks(data, at, content)
                at = taken if taken > at else self._read_line(data, at)
        if self.ended:
            self.rest += data[at:]
        return content[0] if len(content) == 1 else b"".join(content)

    def close(self) -> None:
        """8: "a message body [...] is incomplete if the zero-sized chunk that terminates the
        encoding has not been received"."""
        raise IncompleteRead(b"")

    def _take_whole_chunks(self, data: bytes, at: int, content: list[bytes]) -> int:
        """Nearly all chunks come whole and plain: take them without a look at each line."""
        while (plain := _PLAIN_SIZE(data, at)) is not None:
            begin = plain.end()
            end = begin + int(plain[1], 16)
            if data[end : end + 2] != b"\r\n" or begin == end:
                break
            content.append(data[begin:end])
            at = end + 2
        return at

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        line = self._line + data[at : end or len(data)]
        if len(line) > _LONGEST_LINE:
            raise HTTPException("a line between the chunks of the body is too long")
        if not end:
            self._line = line
            return len(data)
        self._line = b""
        self._end_line(line)
        return end

    def _end_line(self, line: bytes) -> None:
        if self._in_trailers:
            self.ended = line in (b"\r\n", b"\n")
        elif self._in_chunk:
            if line not in (b"\r\n", b"\n"):
                raise HTTPException("a chunk of the body is longer than it says")
            self._in_chunk = False
        else:
            self._begin_chunk(line)

    def _begin_chunk(self, line: bytes) -> None:
        size = line.partition(b";")[0].strip()
        # int() would also take a sign, underscores and 0x.
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise HTTPException(f"a chunk of the body must begin with its size, got {line[:40]!r}")
        self._left = int(size, 16)
        self._in_chunk = self._left > 0
        self._in_trailers = self._left == 0


class LengthDecoder:
    """Of a body after a Content-Length."""

    def __init__(self, length: int) -> None:
        self.rest = b""
        self._left = length  # bytes

    @property
    def ended(self) -> bool:
        return self._left <= 0

    def feed(self, data: bytes) -> bytes:
        content = data[: self._left]
        self.rest += data[self._left :]
        self._left -= len(content)
        return content

    def close(self) -> None:
        """8: "a response [...] is incomplete if the number of bytes received is less than
        the value given"."""
        raise IncompleteRead(b"", self._left)


class UntilCloseDecoder:
    """Of a body that nothing ends but the connection; 6.3: "there is no way to distinguish
    a successfully completed [one] from a partially received [one]"."""

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        self.ended = True
