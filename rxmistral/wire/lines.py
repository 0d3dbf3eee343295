"""Blocks to lines: how an event stream is cut, whatever the blocks.

WHATWG HTML, 9.2.5 "Parsing an event stream":
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

Cutting bytes and decoding each line for itself gives what decoding the stream and
cutting it would: the line ends are ASCII, and no byte of ASCII is part of a longer
UTF-8 sequence. It is done on bytes because no str method cuts at these line ends alone
(str.splitlines also cuts at U+2028, U+0085 and form feed, which models do write).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from reactivex import Observable

from ..checks import check_integer
from ..errors import ProtocolError
from ..rx.input_type import InputType
from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream

__all__ = ["MAX_EVENT_BYTES", "LineDecoder", "check_max_bytes", "lines"]

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The default bound on the data of one event, and so on that of one line, in bytes."""

_FIELD = len(b"data: ")
_BOM = b"\xef\xbb\xbf"
_CR, _LF = b"\r\n"


class LineDecoder(StateMachine[bytes, bytes]):
    """Cuts blocks into lines, each without its line end.

    A line is given as soon as its end is certain. A CR ends a line at once: should the
    next byte be LF, it belongs to that end and is swallowed. Every byte is looked at
    once, so the cost grows with the bytes and not with how they are cut.

    Args:
        max_bytes: The most data that a line may carry; a line may be as long as that and
            the `data: ` before it.

    Attributes:
        error: What to raise after the lines that `feed` gave; None as long as no line
            was too long. It is not raised by `feed`, which would lose those lines.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._longest = max_bytes + _FIELD
        self._begun = bytearray()  # a line whose end has not come
        self._after_cr = False
        self._head: bytes | None = b""  # what may still be a BOM; None once that is settled

    def feed(self, block: bytes) -> list[bytes]:
        """The lines that end in this block, up to one that is too long."""
        if self.error is not None:
            return []
        if self._head is not None:
            block = self._without_bom(block)
        if self._after_cr and block:
            self._after_cr = False
            if block[0] == _LF:
                block = block[1:]
        if not block:
            return []
        lines = block.splitlines()  # of bytes: at CR, LF and CRLF, nowhere else
        last = block[-1]
        self._after_cr = last == _CR
        unfinished = None if last in (_LF, _CR) else lines.pop()
        if lines and self._begun:
            lines[0] = self._finished(lines[0])
        if unfinished is not None:
            self._begun += unfinished
        # Nearly never: only a huge block, or what began in an earlier one, can be too long.
        if max(len(block), len(self._begun), len(lines[0]) if lines else 0) > self._longest:
            lines = self._up_to_too_long(lines)
        return lines

    def close(self) -> list[bytes]:
        """The line that the end of the stream cut short, if there is one."""
        block, self._head = self._head, None
        if block:  # shorter than a BOM, and the beginning of one
            self._begun += block
        return [self._finished(b"")] if self._begun else []

    def _without_bom(self, block: bytes) -> bytes:
        # 9.2.5: "one leading U+FEFF BYTE ORDER MARK character [is] ignored"
        head = (self._head or b"") + block
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _up_to_too_long(self, lines: list[bytes]) -> list[bytes]:
        fitting = list(takewhile(lambda line: len(line) <= self._longest, lines))
        if len(fitting) < len(lines) or len(self._begun) > self._longest:
            self.error = ProtocolError(
                f"a line of the stream is larger than {self._longest} bytes; "
                "allow more with max_event_bytes"
            )
            self._begun.clear()
        return fitting

    def _finished(self, piece: bytes) -> bytes:
        line = bytes(self._begun) + piece
        self._begun.clear()
        return line


def lines(*, max_bytes: int = MAX_EVENT_BYTES) -> Callable[[Observable[bytes]], Stream[bytes]]:
    r"""Blocks of bytes into raw lines of an event stream, without their line ends.

        --"da"-----"ta: a\n\n:"------"\n"--|->
        -----------"data: a"-""------":"---|->

    Args:
        max_bytes: The most data that a line may carry, in bytes.

    Emits: each line as soon as its end has come; a line that the end of the stream cut
        short comes with the end, and with an error too.
    Errors: `ProtocolError` for a line with more than that, after the lines before it.
    Source: WHATWG HTML, 9.2.5.

    >>> import reactivex
    >>> list(Stream.of(reactivex.of(b"data: a\r", b"\n\r\n")).pipe(lines()))
    [b'data: a', b'']
    """
    check_max_bytes(max_bytes)
    return machine_operator(
        lambda: LineDecoder(max_bytes), InputType("lines", bytes, "blocks of bytes", {})
    )


def check_max_bytes(max_bytes: object) -> None:
    """Raise for what cannot be a number of bytes."""
    check_integer("max_bytes", max_bytes)
