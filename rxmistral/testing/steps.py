"""The steps of a script: what a `ScriptedServer` sends, when, and how it ends.

A script is a sequence of steps; a plain string in it is a step of text:

    [steps.role(), "Hel", "lo", steps.wait(0.2), steps.text("!", "!"), steps.finish("stop"), steps.done()]

    chunks of this answer    role text thinking tool_call empty finish usage delta
    other parts of the body  chunk error done comment raw
    time                     headers wait until hang
    beginning                status header
    ending                   end drop abort, or the end of the list, which is a clean end

The chunks of one answer have one `id`, a fixed `created`, and the server's `model`. Each chunk is
one frame (`data: {...}` and a blank line), which is sent in one piece as one HTTP chunk.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec


class Step(msgspec.Struct, frozen=True):
    """One step of a script; the functions of this module return steps."""


class TextStep(Step, frozen=True):
    """One chunk for each piece, with the piece as the `content` of its delta."""

    pieces: tuple[str, ...]
    choice: int


class ChunksStep(Step, frozen=True):
    """Chunks, each by its fields (choices, usage) after `id`, `object`, `created` and `model`."""

    fields: tuple[dict[str, object], ...]


class RawStep(Step, frozen=True):
    """Bytes of the body exactly as they are, sent block by block."""

    blocks: tuple[bytes, ...]


class WaitStep(Step, frozen=True):
    """Silence for this many seconds."""

    seconds: float


class UntilStep(Step, frozen=True):
    """Silence until this many seconds after the request."""

    seconds: float


class HeaderStep(Step, frozen=True):
    """A response header; None as the value removes it."""

    name: str
    value: str | None


class StatusStep(Step, frozen=True):
    """Another status line, which may have a body of its own."""

    code: int
    reason: str | None
    headers: tuple[HeaderStep, ...]
    body: bytes | None


class ActionStep(Step, frozen=True):
    """An action on the response or its connection."""

    name: Literal["headers", "end", "drop", "abort", "hang"]


Script: TypeAlias = Sequence[Step | str]
"""The answer to one request. A plain string stands for `text(string)`.

Type checkers infer `list[object]` for a list of both, so annotate it: `script: Script = [...]`.
"""

Usage: TypeAlias = Mapping[str, object] | tuple[int, int]
"""The usage as it is sent, or only the (prompt, completion) tokens."""


def encode(value: object) -> bytes:
    """Returns the value as compact JSON; a lone surrogate becomes its escape (`"\\ud83d"`)."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        # UTF-8 has no lone surrogates, but servers that split an emoji send them as escapes.
        return json.dumps(value, separators=(",", ":")).encode("ascii")


def _frame(value: object) -> RawStep:
    return RawStep((b"data: " + encode(value) + b"\n\n",))


def _usage(prompt: int, completion: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }


def _chunk(
    delta: Mapping[str, object],
    choice: int,
    finish_reason: str | None = None,
    usage: Usage | None = None,
) -> dict[str, object]:
    choices = [{"index": choice, "delta": dict(delta), "finish_reason": finish_reason}]
    if isinstance(usage, tuple):
        usage = _usage(*usage)
    return {"choices": choices} if usage is None else {"choices": choices, "usage": dict(usage)}


def _without_none(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def role(*, choice: int = 0) -> Step:
    """Sends the chunk that an answer begins with: delta `{"role":"assistant","content":""}`."""
    return delta({"role": "assistant", "content": ""}, choice=choice)


def text(*pieces: str, choice: int = 0) -> Step:
    """Sends one chunk for each piece: delta `{"content": piece}`."""
    return TextStep(pieces, choice)


def empty(*, choice: int = 0) -> Step:
    """Sends a chunk that adds nothing: delta `{"content": ""}`."""
    return text("", choice=choice)


def thinking(*pieces: str, choice: int = 0) -> Step:
    """Sends one chunk of reasoning for each piece: content
    `[{"type":"thinking","thinking":[{"type":"text","text": piece}]}]`."""
    texts = ([{"type": "text", "text": piece}] for piece in pieces)
    contents = ([{"type": "thinking", "thinking": text}] for text in texts)
    return ChunksStep(tuple(_chunk({"content": content}, choice) for content in contents))


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
    """Sends a chunk with one tool call, whole or a fragment, with only the keys that are passed.

    A whole call, with its finish_reason in the same chunk:

        tool_call(id="call9", name="weather", arguments='{"city": "Paris"}', finish="tool_calls")

    The same call in fragments:

        tool_call(id="call9", name="weather", arguments="", index=0)
        tool_call(name="", arguments='{"city": ', index=0)
        tool_call(name="", arguments='"Paris"}', index=0)
        finish("tool_calls")

    Several calls in one delta, or an explicit null, are written with `delta`.

    Args:
        name: The name of the function.
        arguments: JSON text, or an object that is sent as an object.
        id: The id of the call.
        index: The place of the call among the calls.
        type: The type of the call, `"function"`.
        choice: The index of the choice.
        finish: The finish_reason of the chunk; None: null.
        usage: The usage in this chunk, whole or as (prompt, completion) tokens; None: no usage.
    """
    function = _without_none(name=name, arguments=arguments) or None
    call = _without_none(id=id, type=type, function=function, index=index)
    return ChunksStep((_chunk({"tool_calls": [call]}, choice, finish, usage),))


def delta(part: Mapping[str, object], *, choice: int = 0) -> Step:
    """Sends a chunk with this delta, unchanged."""
    return ChunksStep((_chunk(part, choice),))


def usage(prompt: int = 0, completion: int = 0, **details: object) -> Step:
    """Sends a chunk with `"choices": []` and the usage.

    Args:
        prompt: The `prompt_tokens`.
        completion: The `completion_tokens`; `total_tokens` is the sum of both.
        details: More keys of the usage, such as `prompt_tokens_details`; they override the
            others.
    """
    return ChunksStep(({"choices": [], "usage": _usage(prompt, completion) | details},))


def finish(reason: str = "stop", *, choice: int = 0, usage: Usage | None = None) -> Step:
    """Sends the chunk that a choice ends with: delta `{"content": ""}` and its finish_reason.

    Args:
        reason: `stop`, `length`, `model_length`, `tool_calls`, `error`, or any other.
        choice: The index of the choice.
        usage: The usage in this chunk, whole or as (prompt, completion) tokens; None: no usage.
    """
    return ChunksStep((_chunk({"content": ""}, choice, reason, usage),))


def chunk(whole: Mapping[str, object]) -> Step:
    """Sends `data: ` and this whole chunk; nothing is added."""
    return _frame(whole)


def error(
    message: object,
    *,
    type: str | None = "server_error",
    code: str | int | None = None,
    **more: object,
) -> Step:
    """Reports an error inside the stream: `data: {"object":"error","message":...,"type":...,"code":...}`.

    Args:
        message: The message; some services send an object.
        type: The kind of error in the service's words; None: null.
        code: Digits as a string, an int, or None: null.
        more: More keys of the frame, such as `raw_status_code`.
    """
    return _frame({"object": "error", "message": message, "type": type, "code": code} | more)


def done() -> Step:
    """Sends the last frame: `data: [DONE]`."""
    return RawStep((b"data: [DONE]\n\n",))


def comment(words: str = "keep-alive") -> Step:
    """Sends a comment, which readers of an event stream ignore: `: keep-alive` and a blank line."""
    return RawStep((f": {words}\n\n".encode(),))


def raw(*blocks: bytes) -> Step:
    """Sends bytes of the body unchanged: each block at once, and as one HTTP chunk."""
    return RawStep(blocks)


def headers() -> Step:
    """Sends the status line and the headers now, instead of with the first bytes of the body."""
    return ActionStep("headers")


def wait(seconds: float) -> Step:
    """Sends nothing for this many seconds, or until the peer closes the connection."""
    if not seconds >= 0:
        raise ValueError(f"wait() needs seconds, zero or more, got {seconds!r}")
    return WaitStep(seconds)


def until(seconds: float) -> Step:
    """Sends nothing until this many seconds after the request was received.

    Unlike a sum of `wait`s, a sequence of these does not drift. A moment that is over already is
    no wait.
    """
    if not seconds >= 0:
        raise ValueError(f"until() needs seconds, zero or more, got {seconds!r}")
    return UntilStep(seconds)


def hang() -> Step:
    """Sends nothing until the peer closes the connection or the server is closed.

    As the first step, it holds back the headers, too.
    """
    return ActionStep("hang")


def status(
    code: int,
    *,
    body: object = None,
    headers: Mapping[str, str | None] | None = None,
    reason: str | None = None,
) -> Step:
    """Answers with another status.

    A body that is passed here is the whole answer, sent at once with its Content-Length. Without
    it, the steps that follow make the body; if there are none, the body is empty.

    Args:
        code: The status, such as 429; it need not be registered.
        body: Bytes (`application/octet-stream`), a string (`text/plain; charset=utf-8`), or an
            object that becomes JSON (`application/json`). None: no body.
        headers: Headers to set; None as a value removes the header.
        reason: The reason phrase. None: the standard one, if there is one.
    """
    changes = tuple(HeaderStep(name, value) for name, value in (headers or {}).items())
    match body:
        case None:
            return StatusStep(code, reason, changes, None)
        case bytes():
            content_type, content = "application/octet-stream", body
        case str():
            content_type, content = "text/plain; charset=utf-8", body.encode()
        case _:
            content_type, content = "application/json", encode(body)
    return StatusStep(code, reason, (HeaderStep("Content-Type", content_type), *changes), content)


def header(name: str, value: str | None) -> Step:
    """Sets a header of the answer, in place of the server's own; None removes it.

    It does not change the framing: a script may send a Content-Length that is wrong.
    """
    return HeaderStep(name, value)


def end() -> Step:
    """Ends the body here, cleanly; without this step, it ends after the last step.

    Only `wait`, `hang`, `drop` and `abort` can follow: they act on a connection that the client
    considers idle. With the framing `close`, the body ends when the connection is closed, after
    the last step.
    """
    return ActionStep("end")


def drop() -> Step:
    """Closes the connection inside the body: the peer sees a FIN, and over TLS no close_notify."""
    return ActionStep("drop")


def abort() -> Step:
    """Resets the connection: the peer sees a RST (`ConnectionResetError`)."""
    return ActionStep("abort")
