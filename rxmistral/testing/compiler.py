"""Compiles a script into the bytes of one HTTP response, without a socket or a clock.

The whole response is written before its first byte is sent, for two reasons: a test that measures
a reader must not wait for the writer, and a script that cannot be played (a header after the
headers, a frame after the end) must fail where it was written.
"""

import zlib
from collections.abc import Iterator
from email.message import Message
from http.client import responses
from typing import Literal, TypeAlias

import msgspec

from .steps import (
    ActionStep,
    ChunksStep,
    HeaderStep,
    RawStep,
    Script,
    StatusStep,
    Step,
    TextStep,
    UntilStep,
    WaitStep,
    encode,
)

Framing: TypeAlias = Literal["chunked", "close", "gzip", "length"]
"""How the client finds the end of the body; see `ScriptedServer`."""

_CREATED = 1_700_000_000  # seconds since 1970: constant, so that recordings are equal

Operation: TypeAlias = bytes | WaitStep | UntilStep | ActionStep


class CompiledScript(msgspec.Struct, frozen=True):
    """What to send for one request.

    Bytes among the operations are one frame of the body. The head is sent with the first of
    them, by `ActionStep("headers")`, or with the tail, which is sent by `ActionStep("end")`.
    """

    operations: tuple[Operation, ...]
    status: int
    headers: Message
    head: bytes  # the status line and the headers
    tail: bytes  # the bytes that end the body
    closes: bool  # whether the connection cannot be used for another request


def compile_script(script: Script, framing: Framing, model: str, answer_id: str) -> CompiledScript:
    """Returns the response of a script; raises TypeError or ValueError if it cannot be played."""
    if isinstance(script, str | bytes) or not hasattr(script, "__iter__"):
        raise TypeError(
            "a script is a sequence of steps such as [text('Hello'), finish(), done()], "
            f"got {script!r}"
        )
    if framing not in _FRAMINGS:
        raise ValueError(f"framing must be one of {', '.join(_FRAMINGS)}, got {framing!r}")
    compiler = _Compiler(framing, model, answer_id)
    for number, step in enumerate(script):
        try:
            compiler.add(TextStep((step,), 0) if isinstance(step, str) else step)
        except (TypeError, ValueError) as error:
            error.add_note(f"This is step {number} of the script, counted from 0: {step!r:.200}")
            raise
    return compiler.result()


class _PlainBody:
    """A body without framing: it ends with the connection, or at its length."""

    def frame(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class _ChunkedBody(_PlainBody):
    def frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def end(self) -> bytes:
        return b"0\r\n\r\n"


class _GzipBody(_ChunkedBody):
    def __init__(self) -> None:
        self._gzip = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)

    def frame(self, data: bytes) -> bytes:
        # The sync flush lets the reader decode this frame before the next one arrives.
        return super().frame(self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH))

    def end(self) -> bytes:
        return super().frame(self._gzip.flush()) + super().end()


_FRAMINGS: dict[Framing, tuple[type[_PlainBody], dict[str, str]]] = {
    "chunked": (_ChunkedBody, {"Transfer-Encoding": "chunked"}),
    "close": (_PlainBody, {"Connection": "close"}),
    "gzip": (_GzipBody, {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}),
    "length": (_PlainBody, {}),  # its header is known at the end only
}
_DEFAULT_STATUS = StatusStep(200, None, (), None)


class _Compiler:
    """The response while its script is being read, in one of four phases.

    "head": nothing has been sent; status and headers may change. "body": they may not.
    "ended": the body is whole; only the connection is left. "over": nothing can follow (`drop`,
    `abort`, `hang`).
    """

    def __init__(self, framing: Framing, model: str, answer_id: str) -> None:
        self._framing: Framing = framing
        self._body = _FRAMINGS[framing][0]()
        common = {"id": answer_id, "object": "chat.completion.chunk", "created": _CREATED}
        # The beginning of each chunk, up to and with the comma before its choices.
        self._chunk_start = b"data: " + encode(common | {"model": model})[:-1] + b","
        self._status = _DEFAULT_STATUS
        self._changes: list[HeaderStep] = []
        self._operations: list[Operation] = []
        self._length = 0
        self._is_complete = False
        self._phase: Literal["head", "body", "ended", "over"] = "head"

    def add(self, step: Step) -> None:
        if self._phase == "over":
            raise ValueError("this step can never run: nothing can follow the step before it")
        match step:
            case WaitStep() | UntilStep():
                self._operations.append(step)
            case ActionStep():
                self._add_action(step)
            case HeaderStep():
                self._require("head")
                self._changes.append(step)
            case StatusStep():
                self._add_status(step)
            case TextStep() | ChunksStep() | RawStep():
                self._require("body")
                self._add_frames(step)
            case _:
                raise TypeError(
                    "a step comes from rxmistral.testing.steps or is a string, "
                    f"got {type(step).__name__}"
                )

    def _require(self, phase: Literal["head", "body"]) -> None:
        if self._phase not in ("head", phase):
            over = {"head": "the headers are already sent", "body": "the body has already ended"}
            raise ValueError(f"this step comes too late: {over[phase]}")

    def _add_action(self, action: ActionStep) -> None:
        match action.name:
            case "headers":
                self._require("head")
                self._phase = "body"
            case "end":
                self._require("body")
                self._is_complete = True
                self._phase = "ended"
            case "drop" | "abort" | "hang":
                self._phase = "over"
        self._operations.append(action)

    def _add_status(self, status: StatusStep) -> None:
        self._require("head")
        self._status = status
        self._changes += status.headers
        if status.body is not None:
            self._frame_by_length()
            self._add_frames(RawStep((status.body,)))
            self._add_action(ActionStep("end"))

    def _frame_by_length(self) -> None:
        self._framing, self._body = "length", _PlainBody()

    def _add_frames(self, step: TextStep | ChunksStep | RawStep) -> None:
        # Without empty ones: an empty HTTP chunk would end the body.
        frames = [data for data in self._frames(step) if data]
        if frames:
            self._phase = "body"
        self._length += sum(map(len, frames))
        self._operations += map(self._body.frame, frames)

    def _frames(self, step: TextStep | ChunksStep | RawStep) -> Iterator[bytes]:
        match step:
            case RawStep():
                yield from step.blocks
            case ChunksStep():
                for fields in step.fields:
                    yield self._chunk_start + encode(fields)[1:] + b"\n\n"
            case TextStep():
                # Load tests send very many of these: only the piece itself is encoded for each.
                delta_start = b'"choices":[{"index":%d,"delta":{"content":' % step.choice
                start = self._chunk_start + delta_start
                for piece in step.pieces:
                    yield start + encode(piece) + b'},"finish_reason":null}]}\n\n'

    def result(self) -> CompiledScript:
        if self._phase in ("head", "body"):
            if self._status is not _DEFAULT_STATUS and self._phase == "head":
                self._frame_by_length()
            self._add_action(ActionStep("end"))
        headers = self._headers()
        code, reason = self._status.code, self._status.reason
        if reason is None:
            reason = responses.get(code, "")  # 520, 529: statuses that only proxies use
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return CompiledScript(
            tuple(self._operations),
            code,
            headers,
            head=f"HTTP/1.1 {code} {reason}\r\n{lines}\r\n".encode("latin-1"),
            tail=self._body.end(),
            closes=headers.get("Connection", "").lower() == "close",
        )

    def _headers(self) -> Message:
        headers = Message()  # finds its keys in any case
        if self._length or self._status is _DEFAULT_STATUS:
            headers["Content-Type"] = "text/event-stream; charset=utf-8"
        for name, value in _FRAMINGS[self._framing][1].items():
            headers[name] = value
        if self._framing == "length" and self._status.code not in (204, 304):  # without a body
            # One byte too many, if the script never ends the body: the client must keep waiting.
            headers["Content-Length"] = str(self._length + (not self._is_complete))
        for change in self._changes:
            del headers[change.name]
            if change.value is not None:
                headers[change.name] = change.value
        return headers
