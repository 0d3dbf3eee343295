"""Blocks to lines: where the lines of an event stream end, wherever its blocks do.

WHATWG HTML, 9.2.5 "Parsing an event stream":
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

Bytes are split first, and each line is decoded by itself later. The result is that of
decoding the stream first: the line ends are ASCII, and no ASCII byte is part of a longer
UTF-8 sequence. No method of str splits at these line ends alone: str.splitlines also splits
at U+2028, U+0085 and form feed, which models do write.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from reactivex import Observable

from ..checks import check_integer
from ..errors import ProtocolError
from ..rx.state_machine import InputType, StateMachine, machine_operator
from ..rx.stream import Stream

__all__ = ["BLOCKS", "MAX_EVENT_BYTES", "LineDecoder", "check_max_bytes", "lines"]

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The default bound on the data of one event, and so on that of one line, in bytes."""

BLOCKS = InputType("lines", bytes, "blocks of bytes", {})
"""The items that `lines()` accepts."""

_FIELD_BYTES = len(b"data: ")
_BOM = b"\xef\xbb\xbf"
_CR, _LF = b"\r\n"


class LineDecoder(StateMachine[bytes, bytes]):
    """Splits blocks into lines, each without its line end.

    A line is returned as soon as its end is certain. A CR ends a line at once; if the next
    byte is LF, it belongs to that line end and is skipped. Every byte is inspected once, so
    the cost grows with the bytes and not with the number of blocks.

    Args:
        max_bytes: The most data in one line, in bytes; default: 16 MiB. The `data: ` before
            the data does not count.

    Attributes:
        error: The error to raise after the lines that `feed` returned; None as long as no
            line was too long. `feed` does not raise it, since that would lose those lines.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_line_bytes = max_bytes + _FIELD_BYTES
        self._unfinished = bytearray()  # the beginning of a line that has not ended
        self._after_cr = False
        self._has_begun = False  # it is decided whether there is a BOM

    def feed(self, block: bytes) -> list[bytes]:
        """Returns the lines that end in this block, up to one that is too long."""
        if self.error is not None:
            return []
        if not self._has_begun:
            block = self._begin(block)
        if self._after_cr and block:
            self._after_cr = False
            if block[0] == _LF:
                block = block[1:]
        if not block:
            return []
        lines = block.splitlines()  # splits bytes at CR, LF and CRLF only
        last = block[-1]
        self._after_cr = last == _CR
        unfinished = None if last in (_LF, _CR) else lines.pop()
        if lines and self._unfinished:
            lines[0] = self._finish_line(lines[0])
        if unfinished is not None:
            self._unfinished += unfinished
        # Rare: a line is too long only in a huge block, or if it began in an earlier one.
        longest = max(len(block), len(self._unfinished), len(lines[0]) if lines else 0)
        return self._check_lengths(lines) if longest > self._max_line_bytes else lines

    def close(self) -> list[bytes]:
        """Returns the line that the end of the stream truncated, if there is one."""
        return [self._finish_line(b"")] if self._unfinished else []

    def _begin(self, block: bytes) -> bytes:
        # 9.2.5: "one leading U+FEFF BYTE ORDER MARK character [is] ignored"
        head = self._finish_line(block)
        if _BOM.startswith(head) and head != _BOM:
            self._unfinished += head
            return b""
        self._has_begun = True
        return head.removeprefix(_BOM)

    def _check_lengths(self, lines: list[bytes]) -> list[bytes]:
        """Returns the lines before the first that is too long; sets `error` if there is one."""
        limit = self._max_line_bytes
        allowed = list(takewhile(lambda line: len(line) <= limit, lines))
        if len(allowed) < len(lines) or len(self._unfinished) > limit:
            self.error = ProtocolError(
                f"a line of the stream is larger than {limit} bytes; "
                "allow more with max_event_bytes"
            )
            self._unfinished.clear()
        return allowed

    def _finish_line(self, end: bytes) -> bytes:
        line = bytes(self._unfinished) + end
        self._unfinished.clear()
        return line


def lines(*, max_bytes: int = MAX_EVENT_BYTES) -> Callable[[Observable[bytes]], Stream[bytes]]:
    r"""Blocks of bytes into the raw lines of an event stream, without their line ends.

        --"da"-----"ta: a\n\n:"------"\n"--|->
        -----------"data: a"-""------":"---|->

    Args:
        max_bytes: The most data in one line, in bytes; default: 16 MiB.

    Emits: each line as soon as its end is certain; a line that the end of the stream
        truncated is emitted at the end, also before an error.
    Errors: `ProtocolError` for a line with more data, after the lines before it.
    Source: WHATWG HTML, 9.2.5.

    >>> import reactivex
    >>> list(Stream.of(reactivex.of(b"data: a\r", b"\n\r\n")).pipe(lines()))
    [b'data: a', b'']
    """
    check_max_bytes(max_bytes)
    return machine_operator(lambda: LineDecoder(max_bytes), BLOCKS)


def check_max_bytes(max_bytes: object) -> None:
    """Raises unless the argument is a whole number of bytes, 1 or more."""
    check_integer("max_bytes", max_bytes)
