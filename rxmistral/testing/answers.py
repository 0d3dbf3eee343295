"""A script into the bytes of one HTTP answer. No socket, no clock.

The whole answer is written down before the first byte is sent, for two reasons: a test that measures the reader
must not wait for the writer, and a script that cannot be played (a header after the headers, a frame after the end)
is refused where it was written. So the lines of the answer are ready `bytes`; what is left to do while it is sent
is to wait, and to treat the connection badly.
"""

import zlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Literal, TypeAlias

import msgspec

from .steps import (
    Act,
    Chunks,
    Header,
    Raw,
    Script,
    Status,
    Step,
    Text,
    Wait,
    encode,
)

Framing: TypeAlias = Literal["chunked", "close", "gzip", "length"]
"""How the client knows where the body ends: see `ScriptedServer`."""

CREATED = 1_700_000_000
"""The `created` of every chunk, in seconds since 1970. It never changes, so that recorded answers compare equal."""

_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Answer(msgspec.Struct, frozen=True):
    """What to send for one request.

    `operations` are done in their order: bytes are one frame of the body, with the head in front of the first one;
    `Act("headers")` sends `head`; `Act("end")` sends `tail`. `closes`: the connection is not used again.
    """

    operations: tuple[bytes | Wait | Act, ...]
    head: bytes
    tail: bytes
    closes: bool


def compose(script: Script, framing: Framing, model: str, answer_id: str) -> Answer:
    """Write the answer of a script. Raises TypeError or ValueError for a script that cannot be played."""
    if isinstance(script, str | bytes) or not hasattr(script, "__iter__"):
        raise TypeError(
            f"a script is a sequence of steps such as [text('Hello'), finish(), done()], not {script!r}"
        )
    if framing not in _FRAMERS:
        raise ValueError(f"framing is one of {', '.join(_FRAMERS)}, not {framing!r}")
    draft = _Draft(framing, model, answer_id)
    for number, step in enumerate(script):
        try:
            draft.add(Text((step,), 0) if isinstance(step, str) else step)
        except (TypeError, ValueError) as error:
            error.add_note(f"This is step {number} of the script, counted from 0: {step!r:.200}")
            raise
    return draft.answer()


class _Plain:
    """The body as it is: it ends with the connection, or at its length."""

    def frame(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class _Chunked(_Plain):
    def frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def end(self) -> bytes:
        return b"0\r\n\r\n"


class _Gzip(_Chunked):
    def __init__(self) -> None:
        self._gzip = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)

    def frame(self, data: bytes) -> bytes:
        # The sync flush lets the reader decode this frame before the next one is there.
        return super().frame(self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH))

    def end(self) -> bytes:
        return super().frame(self._gzip.flush()) + super().end()


_FRAMERS: dict[Framing, type[_Plain]] = {
    "chunked": _Chunked,
    "close": _Plain,
    "gzip": _Gzip,
    "length": _Plain,
}
_FRAMING_HEADERS: dict[Framing, dict[str, str]] = {
    "chunked": {"Transfer-Encoding": "chunked"},
    "close": {"Connection": "close"},
    "gzip": {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"},
    "length": {},  # its header is known at the end only
}


class _Draft:
    """An answer while its script is read.

    It passes through four phases. "head": nothing was sent, status and headers may change. "body": they may not.
    "ended": the body is whole, only its connection is left. "over": nothing can follow (`drop`, `abort`, `hang`).
    """

    def __init__(self, framing: Framing, model: str, answer_id: str) -> None:
        self._framing: Framing = framing
        self._framer = _FRAMERS[framing]()
        self._opening = _opening(model, answer_id)
        self._status: Status | None = None
        self._changes: list[Header] = []
        self._operations: list[bytes | Wait | Act] = []
        self._length = 0
        self._complete = False
        self._phase: Literal["head", "body", "ended", "over"] = "head"

    def add(self, step: Step) -> None:
        if self._phase == "over":
            raise ValueError("this step can never run: the one before it leaves nothing to follow")
        match step:
            case Wait():
                self._operations.append(step)
            case Act():
                self._act(step)
            case Header():
                self._require("head", "the headers are already sent")
                self._changes.append(step)
            case Status():
                self._answer_with(step)
            case Text() | Chunks() | Raw():
                self._require("body", "the body has already ended")
                self._write(step)
            case _:
                raise TypeError(
                    f"a step comes from rxmistral.testing.steps or is a string, not {type(step).__name__}"
                )

    def _require(self, phase: Literal["head", "body"], otherwise: str) -> None:
        if self._phase != "head" and self._phase != phase:
            raise ValueError(f"this step comes too late: {otherwise}")

    def _act(self, act: Act) -> None:
        match act.word:
            case "headers":
                self._require("head", "the headers are already sent")
                self._phase = "body"
            case "end":
                self._require("body", "the body has already ended")
                self._complete = True
                self._phase = "ended"
            case "drop" | "abort" | "hang":
                self._phase = "over"
        self._operations.append(act)

    def _answer_with(self, status: Status) -> None:
        self._require("head", "the headers are already sent")
        self._status = status
        self._changes += status.headers
        if status.body is not None:
            self._frame_by_length()
            self._write(Raw((status.body,)))
            self._act(Act("end"))

    def _frame_by_length(self) -> None:
        self._framing, self._framer = "length", _Plain()

    def _write(self, step: Text | Chunks | Raw) -> None:
        frames = [
            data for data in self._frames(step) if data
        ]  # an empty HTTP chunk would end the body
        if frames:
            self._phase = "body"
        self._length += sum(map(len, frames))
        self._operations += map(self._framer.frame, frames)

    def _frames(self, step: Text | Chunks | Raw) -> Iterator[bytes]:
        match step:
            case Raw():
                yield from step.blocks
            case Chunks():
                for fields in step.fields:
                    yield self._opening + encode(fields)[1:] + b"\n\n"
            case Text():
                # A load test sends very many of these: only the piece itself is encoded for each.
                before = self._opening + b'"choices":[{"index":%d,"delta":{"content":' % step.choice
                for piece in step.pieces:
                    yield before + encode(piece) + b'},"finish_reason":null}]}\n\n'

    def answer(self) -> Answer:
        if self._phase in ("head", "body"):
            self._finish()
        head, closes = self._head()
        tail = self._framer.end()
        return Answer(*self._place(head, tail), closes=closes)

    def _finish(self) -> None:
        if self._status is not None and self._phase == "head":
            self._frame_by_length()
        self._act(Act("end"))

    def _place(
        self, head: bytes, tail: bytes
    ) -> tuple[tuple[bytes | Wait | Act, ...], bytes, bytes]:
        """Put the head in front of what is sent first: a frame, the tail, or itself alone."""
        for position, operation in enumerate(self._operations):
            if operation == Act("headers"):
                break
            if operation == Act("end"):
                tail = head + tail
                break
            if isinstance(operation, bytes):
                self._operations[position] = head + operation
                break
        return tuple(self._operations), head, tail

    def _head(self) -> tuple[bytes, bool]:
        fields = {name.lower(): (name, value) for name, value in self._headers().items()}
        for change in self._changes:
            fields.pop(change.name.lower(), None)
            if change.value is not None:
                fields[change.name.lower()] = change.name, change.value
        lines = [
            self._status_line(),
            *(f"{name}: {value}" for name, value in fields.values()),
            "",
            "",
        ]
        closes = fields.get("connection", ("", ""))[1].lower() == "close"
        return "\r\n".join(lines).encode("latin-1"), closes

    def _headers(self) -> dict[str, str]:
        headers = dict(_FRAMING_HEADERS[self._framing])
        if self._framing == "length" and self._code() not in _BODILESS:
            # One byte more than there is, where the script never ends the body: the client must go on waiting for it.
            headers["Content-Length"] = str(self._length + (not self._complete))
        if self._length or self._status is None:
            headers = {"Content-Type": "text/event-stream; charset=utf-8"} | headers
        return headers

    def _code(self) -> int:
        return 200 if self._status is None else self._status.code

    def _status_line(self) -> str:
        reason = None if self._status is None else self._status.reason
        return f"HTTP/1.1 {self._code()} {_standard_reason(self._code()) if reason is None else reason}"


def _standard_reason(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:  # 520, 529: statuses that only proxies know
        return ""


def _opening(model: str, answer_id: str) -> bytes:
    """The chunk up to the choices, with the comma behind which they go."""
    common = {
        "id": answer_id,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
    }
    return b"data: " + encode(common)[:-1] + b","
