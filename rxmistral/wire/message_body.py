"""Decoders of HTTP/1.1 bodies: which bytes are content, and where a body ends.

RFC 9112, 6.3 "Message Body Length": https://www.rfc-editor.org/rfc/rfc9112#section-6.3
and 7.1 "Chunked Transfer Coding": https://www.rfc-editor.org/rfc/rfc9112#section-7.1

http.client decodes one chunk per call, and servers send one token per chunk. These decoders
accept whatever the socket received, however many chunks that is, and return all its content.
They do no I/O.
"""

from __future__ import annotations

import re
from http.client import HTTPException, IncompleteRead

__all__ = ["BodyDecoder", "ChunkedDecoder", "LengthDecoder", "UntilCloseDecoder"]

_PLAIN_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n").match
_LINE_ENDS = (b"\r\n", b"\n")  # 2.2 allows a recipient to accept LF alone
_MAX_LINE_BYTES = 65536  # of a size with its extensions, or of a trailer; http.client's limit


class BodyDecoder:
    """A decoder of one body."""

    ended = False
    unused_data = b""  # after the end: it does not belong to this body

    def feed(self, data: bytes) -> bytes:
        """Returns the content in the next piece; raises `HTTPException` if that is invalid."""
        raise NotImplementedError

    def close(self) -> None:
        """Notes the end of the connection; raises `IncompleteRead` if it is too early."""
        # Section 8: "A message body that uses the chunked transfer coding is incomplete if the
        # zero-sized chunk that terminates the encoding has not been received. A message that
        # uses a valid Content-Length is incomplete if the size of the message body received
        # (in octets) is less than the value given by Content-Length."
        raise IncompleteRead(b"")


class ChunkedDecoder(BodyDecoder):
    """Decodes the chunked transfer coding.

    A chunk is a line with its size in hexadecimal, that many bytes, and a line end. The last
    chunk has the size 0, and is followed by trailers and a blank line. Extensions and
    trailers are skipped, as 7.1.1 and 7.1.2 allow.
    """

    # Strategy: nearly all chunks arrive whole, with a size line of CRLF and no extension, and
    # often alone. `_read_whole_chunks` slices these at two searches per chunk; at the first chunk
    # that is different, the slow path reads one line or one piece of content at a time.

    __slots__ = ("_chunk_bytes_left", "_in_chunk", "_in_trailers", "_line")

    def __init__(self) -> None:
        self._line = b""  # the beginning of an unfinished line
        self._chunk_bytes_left = 0
        self._in_chunk = False  # includes the line end after the content
        self._in_trailers = False

    def feed(self, data: bytes) -> bytes:
        if not (self._in_chunk or self._in_trailers or self._line):
            size_line = _PLAIN_SIZE_LINE(data)
            if size_line is not None:
                begin = size_line.end()
                end = begin + int(size_line[1], 16)
                if data[end:] == b"\r\n" and begin < end:
                    return data[begin:end]
        content: list[bytes] = []
        at = 0
        while at < len(data) and not self.ended:
            if self._chunk_bytes_left:
                piece = data[at : at + self._chunk_bytes_left]
                content.append(piece)
                self._chunk_bytes_left -= len(piece)
                at += len(piece)
            elif self._in_chunk or self._in_trailers or self._line:
                at = self._read_line(data, at)
            else:
                end = self._read_whole_chunks(data, at, content)
                at = end if end > at else self._read_line(data, at)
        if self.ended:
            self.unused_data += data[at:]
        return content[0] if len(content) == 1 else b"".join(content)

    def _read_whole_chunks(self, data: bytes, at: int, content: list[bytes]) -> int:
        """Appends the content of the whole, plain chunks from `at` on; returns their end."""
        while (size_line := _PLAIN_SIZE_LINE(data, at)) is not None:
            begin = size_line.end()
            end = begin + int(size_line[1], 16)
            if data[end : end + 2] != b"\r\n" or begin == end:
                break
            content.append(data[begin:end])
            at = end + 2
        return at

    def _read_line(self, data: bytes, at: int) -> int:
        """Reads up to the end of the line or of the data; returns the position after it."""
        end = data.find(b"\n", at) + 1
        line = self._line + data[at : end or len(data)]
        if len(line) > _MAX_LINE_BYTES:
            raise HTTPException("a line between the chunks of the body is too long")
        if not end:
            self._line = line
            return len(data)
        self._line = b""
        if self._in_trailers:
            self.ended = line in _LINE_ENDS
        elif not self._in_chunk:
            self._begin_chunk(line)
        elif line in _LINE_ENDS:
            self._in_chunk = False
        else:
            raise HTTPException("a chunk of the body is longer than its stated size")
        return end

    def _begin_chunk(self, line: bytes) -> None:
        size = line.partition(b";")[0].strip()
        # int() would also accept a sign, underscores and 0x.
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise HTTPException(f"a chunk of the body must begin with its size, got {line[:40]!r}")
        self._chunk_bytes_left = int(size, 16)
        self._in_chunk = self._chunk_bytes_left > 0
        self._in_trailers = not self._in_chunk


class LengthDecoder(BodyDecoder):
    """Decodes a body with a Content-Length, of which this many bytes are unread."""

    def __init__(self, length: int) -> None:
        self._bytes_left = length
        self.ended = length <= 0

    def feed(self, data: bytes) -> bytes:
        content = data[: self._bytes_left]
        self.unused_data += data[self._bytes_left :]
        self._bytes_left -= len(content)
        self.ended = self._bytes_left <= 0
        return content

    def close(self) -> None:
        raise IncompleteRead(b"", self._bytes_left)


class UntilCloseDecoder(BodyDecoder):
    """Decodes a body that only the end of the connection ends.

    6.3: "there is no way to distinguish a successfully completed, close-delimited response
    message from a partially received message interrupted by network failure".
    """

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        self.ended = True
