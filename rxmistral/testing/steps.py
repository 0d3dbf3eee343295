"""The words of a script: what a `ScriptedServer` sends, when, and how it ends.

A script is a sequence of steps, and a plain string in it is a step of text:

    [steps.role(), "Hel", "lo", steps.wait(0.2), steps.text("!", "!"), steps.finish("stop"), steps.done()]

    what it says     role text thinking tool_call empty finish usage delta    chunks of this answer
                     chunk error done comment raw                             anything else on the wire
    when it says it  headers wait hang
    how it begins    status header
    how it ends      end drop abort, or the end of the list, which is a clean end

Chunks of one answer have one `id`, a fixed `created`, and the server's `model`. Each chunk is one frame
(`data: {...}` and a blank line), sent in one piece as one HTTP chunk.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One step of a script. Made by the functions of this module."""


class Text(Step, frozen=True):
    """One chunk for each piece, with the piece as the delta's `content`."""

    pieces: tuple[str, ...]
    choice: int


class Chunks(Step, frozen=True):
    """One chunk for each: its fields (choices, usage) behind the `id`, `object`, `created`, `model` of the answer."""

    fields: tuple[dict[str, object], ...]


class Raw(Step, frozen=True):
    """Bytes for the body exactly as they are, one send for each block."""

    blocks: tuple[bytes, ...]


class Wait(Step, frozen=True):
    """Silence for so many seconds."""

    seconds: float


class Header(Step, frozen=True):
    """A response header set, or with `value=None` left out."""

    name: str
    value: str | None


class Status(Step, frozen=True):
    """Another status line, and maybe a whole body of its own."""

    code: int
    reason: str | None
    headers: tuple[Header, ...]
    body: bytes | None


class Act(Step, frozen=True):
    """Something done to the answer or its connection."""

    word: Literal["headers", "end", "drop", "abort", "hang"]


Script: TypeAlias = Sequence[Step | str]
"""What one request is answered with. A plain string stands for `text(string)`.

A type checker takes a list of both that stands alone for a `list[object]`: annotate it, `script: Script = [...]`.
"""

Usage: TypeAlias = Mapping[str, object] | tuple[int, int]
"""Usage as it goes out, or just the (prompt, completion) tokens."""


def encode(value: object) -> bytes:
    """Write `value` as compact JSON; a lone surrogate becomes its escape (`"\\ud83d"`)."""
    try:
        return msgspec.json.encode(value)
    except (
        UnicodeEncodeError
    ):  # UTF-8 has no lone surrogates, but servers that cut an emoji in two send their escapes
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def _frame(value: object) -> Raw:
    return Raw((b"data: " + encode(value) + b"\n\n",))


def _usage(prompt: int, completion: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }


def _chunk(
    part: Mapping[str, object],
    choice: int,
    finish_reason: str | None = None,
    usage: Usage | None = None,
) -> dict[str, object]:
    choices = [{"index": choice, "delta": dict(part), "finish_reason": finish_reason}]
    if usage is None:
        return {"choices": choices}
    return {
        "choices": choices,
        "usage": _usage(*usage) if isinstance(usage, tuple) else dict(usage),
    }


def _thought(piece: str) -> dict[str, object]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": piece}]}


def _present(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


# What it says, in chunks of this answer.


def role(*, choice: int = 0) -> Step:
    """Send the chunk an answer begins with: delta `{"role":"assistant","content":""}`."""
    return delta({"role": "assistant", "content": ""}, choice=choice)


def text(*pieces: str, choice: int = 0) -> Step:
    """Send one chunk for each piece: delta `{"content": piece}`."""
    return Text(pieces, choice)


def empty(*, choice: int = 0) -> Step:
    """Send a chunk that adds nothing: delta `{"content": ""}`."""
    return Text(("",), choice)


def thinking(*pieces: str, choice: int = 0) -> Step:
    """Send one chunk for each piece: content `[{"type":"thinking","thinking":[{"type":"text","text": piece}]}]`."""
    return Chunks(tuple(_chunk({"content": [_thought(piece)]}, choice) for piece in pieces))


def tool_call(
    *,
    name: str | None = None,
    arguments: str | Mapping[str, object] | None = None,
    id: str | None = None,
    index: int | None = None,
    type: str | None = None,
    choice: int = 0,
    finish: str | None = None,
    usage: Usage | None = None,
) -> Step:
    """Send a chunk with one tool call, whole or a fragment: only what is given is there.

    A whole call, its finish_reason in the same chunk:

        tool_call(id="call9", name="weather", arguments='{"city": "Paris"}', finish="tool_calls")

    The same in fragments:

        tool_call(id="call9", name="weather", arguments="", index=0)
        tool_call(name="", arguments='{"city": ', index=0)
        tool_call(name="", arguments='"Paris"}', index=0)
        finish("tool_calls")

    Args:
        name: the function's name.
        arguments: JSON text, or an object that goes out as an object.
        id: the id of the call.
        index: the place of the call among the calls.
        type: `"function"`, where the call has a type.
        choice: the index of the choice.
        finish: the chunk's finish_reason; null if it is not given.
        usage: usage in the same chunk, whole or as (prompt, completion) tokens.

    Several calls in one delta, or an explicit null, are written with `delta`.
    """
    call = _present(
        id=id, type=type, function=_present(name=name, arguments=arguments) or None, index=index
    )
    return Chunks((_chunk({"tool_calls": [call]}, choice, finish, usage),))


def delta(part: Mapping[str, object], *, choice: int = 0) -> Step:
    """Send a chunk with this delta, whatever it holds."""
    return Chunks((_chunk(part, choice),))


def usage(prompt: int = 0, completion: int = 0, **details: object) -> Step:
    """Send a chunk with `"choices": []` and the usage.

    Args:
        prompt: `prompt_tokens`.
        completion: `completion_tokens`; `total_tokens` is their sum.
        details: more keys of the usage, such as `prompt_tokens_details`; they win over those above.
    """
    return Chunks(({"choices": [], "usage": _usage(prompt, completion) | details},))


def finish(
    reason: str = "stop",
    *,
    choice: int = 0,
    usage: Usage | None = None,
) -> Step:
    """Send the chunk a choice ends with: delta `{"content": ""}` and its finish_reason.

    Args:
        reason: `stop`, `length`, `model_length`, `tool_calls`, `error`, or a new word.
        choice: the index of the choice.
        usage: usage in the same chunk, whole or as (prompt, completion) tokens; absent if it is not given.
    """
    return Chunks((_chunk({"content": ""}, choice, reason, usage),))


# What it says, in anything else.


def chunk(whole: Mapping[str, object]) -> Step:
    """Send `data: ` and this whole chunk as it is: nothing is added."""
    return _frame(whole)


def error(
    message: object,
    *,
    type: str | None = "server_error",
    code: str | int | None = None,
    **more: object,
) -> Step:
    """Report an error inside the stream: `data: {"object":"error","message":...,"type":...,"code":...}`.

    Args:
        message: the service's text; now and then an object.
        type: the service's word for the kind of error; may be null.
        code: digits as a string, an int, or null.
        more: more keys of the frame, such as `raw_status_code`.
    """
    return _frame({"object": "error", "message": message, "type": type, "code": code} | more)


def done() -> Step:
    """Send the last frame: `data: [DONE]`."""
    return Raw((b"data: [DONE]\n\n",))


def comment(words: str = "keep-alive") -> Step:
    """Send a comment, which readers of an event stream ignore: `: keep-alive` and a blank line."""
    return Raw((f": {words}\n\n".encode(),))


def raw(*blocks: bytes) -> Step:
    """Send bytes of the body exactly as given: one send, and one HTTP chunk, for each block."""
    return Raw(blocks)


# When it says it.


def headers() -> Step:
    """Send the status line and the headers now. Without this step they go out with the first bytes of the body."""
    return Act("headers")


def wait(seconds: float) -> Step:
    """Stay silent for so many seconds, to the millisecond, or until the peer closes the connection."""
    if not seconds >= 0:
        raise ValueError(f"wait() takes seconds, zero or more, not {seconds!r}")
    return Wait(seconds)


def hang() -> Step:
    """Stay silent until the peer closes the connection or the server is closed. Before any other step: no headers."""
    return Act("hang")


# How it begins.


def status(
    code: int,
    *,
    body: object = None,
    headers: Mapping[str, str | None] | None = None,
    reason: str | None = None,
) -> Step:
    """Answer with another status. A body given here is the whole answer, sent at once with its Content-Length.

    Without a body, the steps that follow make one as usual; if none does, the answer has an empty body.

    Args:
        code: the status, such as 429; unknown ones are fine.
        body: bytes (`application/octet-stream`), a string (`text/plain; charset=utf-8`), or an object that becomes JSON
            (`application/json`).
        headers: set or, with None, left out, as by `header`.
        reason: the words behind the status; the standard ones, or none, if not given.
    """
    given = tuple(Header(name, value) for name, value in (headers or {}).items())
    if body is None:
        return Status(code, reason, given, None)
    content_type, content = _body(body)
    return Status(code, reason, (Header("Content-Type", content_type), *given), content)


def _body(body: object) -> tuple[str, bytes]:
    if isinstance(body, bytes):
        return "application/octet-stream", body
    if isinstance(body, str):
        return "text/plain; charset=utf-8", body.encode()
    return "application/json", encode(body)


def header(name: str, value: str | None) -> Step:
    """Set a header of the answer, in place of the server's own; None leaves it out.

    The framing of the body stays as it is: a script may promise a Content-Length that is not true.
    """
    return Header(name, value)


# How it ends.


def end() -> Step:
    """End the body here, cleanly; without it, the body ends after the last step.

    Only `wait`, `hang`, `drop` and `abort` can follow: they are done to a connection that the client takes for idle.
    With framing `close` the end is the closing itself, after the last step.
    """
    return Act("end")


def drop() -> Step:
    """Close the connection without ending the body: the peer sees a FIN (over TLS without a close_notify)."""
    return Act("drop")


def abort() -> Step:
    """Reset the connection: the peer sees a RST (`ConnectionResetError`)."""
    return Act("abort")
