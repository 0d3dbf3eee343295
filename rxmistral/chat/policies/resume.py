"""Going on with an answer that broke.

Mistral goes on with a text where the last message is the assistant's and has
`prefix: true`. So what was received is sent back as such, and the new answer is the
rest of the old one, after the echo of what was sent, which some servers prepend:

    sent back      "The sky is "
    comes          "The sky is " "blue."     or "The sky is" " blue."    or "blue."
    is emitted                   "blue."                     "blue."        "blue."
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from ...checks import check_callback, check_integer
from ...errors import (
    DroppedStreamError,
    IncompleteStreamError,
    MistralError,
    ReportedError,
    StreamError,
    StreamTimeoutError,
)
from ...models import CompletionEvent, ContentChunk, TextChunk

__all__ = ["EchoFilter", "Resume", "can_be_continued", "continued"]

OnResume = Callable[[StreamError, int], object]


@dataclass(frozen=True, slots=True)
class Resume:
    """Whether an answer that broke after text was emitted is continued.

    The request is repeated with the text so far as a message of the assistant with
    `prefix: true`, and what comes is the rest of the same stream. Not where a tool call
    had begun, where the request asks for more than one answer (`n`), or after a
    finish_reason. The model writes the rest without the thoughts it had.

    Args:
        attempts: How many times one answer is continued at most.
        structured: Also where the request has a `response_format` of JSON; the rest of a
            broken value is not always the rest of the same value.
        on_resume: Called before each continuation with the error, and its number from 1.
            It runs on the reader's thread.
    """

    attempts: int = 1
    structured: bool = False
    on_resume: OnResume | None = None

    def __post_init__(self) -> None:
        check_integer("attempts", self.attempts)
        if self.on_resume is not None:
            check_callback("on_resume", self.on_resume)


def is_break(error: MistralError) -> bool:
    """Whether the rest of an answer that ended so may be had by asking for it."""
    if isinstance(error, StreamTimeoutError):
        return error.clock != "total"
    return isinstance(error, (DroppedStreamError, IncompleteStreamError, ReportedError))


# --- what is sent ----------------------------------------------------------------

_decode_body = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode


def can_be_continued(body: bytes, structured: bool) -> bool:
    """Whether the answer to this request can be continued at all."""
    fields = _decode_body(body)
    n = msgspec.json.decode(fields.get("n", b"1"))
    asked = msgspec.json.decode(fields.get("response_format", b"null")) or {}
    return n in (1, None) and (structured or asked.get("type", "text") == "text")


def answers_asked_for(body: bytes) -> int:
    """How many answers this request asks for."""
    if b'"n":' not in body:
        return 1
    n = msgspec.json.decode(_decode_body(body).get("n", b"1"))
    return n if isinstance(n, int) else 1


def continued(body: bytes, text: str) -> tuple[bytes, str]:
    """The request for the rest of an answer, and the text that may come back as an echo.

    A message of the assistant that the request had for a prefix already is part of that
    text, whether the service had echoed it or not.
    """
    fields = _decode_body(body)
    messages = _decode_messages(fields["messages"])
    last: dict[str, Any] = msgspec.json.decode(messages[-1]) if messages else {}
    begun = last.get("content")
    if last.get("role") == "assistant" and last.get("prefix") and isinstance(begun, str):
        text = text if text.startswith(begun) else begun + text
        del messages[-1]
    message = {"role": "assistant", "content": text, "prefix": True}
    messages.append(msgspec.Raw(msgspec.json.encode(message)))
    fields["messages"] = msgspec.Raw(msgspec.json.encode(messages))
    return msgspec.json.encode(fields), text


# --- what comes ------------------------------------------------------------------


class EchoFilter:
    """Takes the echo of a text out of the answer that goes on with it.

    What could be the echo is held until it is certain: it is one when all of the text
    has come, or all but the white space at its end, which may then come with the rest
    and is hidden there.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._trimmed = text.rstrip()
        self._held: list[CompletionEvent] = []
        self._same = 0  # characters that came and are those of the text
        self._decided = False

    def feed(self, event: CompletionEvent) -> list[CompletionEvent]:
        if self._decided:
            return [event]
        self._held.append(event)
        came = _text_of(event)
        if not self._text.startswith(came, self._same):
            return self._decide(self._text[: self._same] + came)
        self._same += len(came)
        if self._same == len(self._text):
            return self._release(self._same)
        if any(choice.finish_reason for choice in event.data.choices):
            return self.close()
        return []

    def close(self) -> list[CompletionEvent]:
        """The answer has ended as it should; what is held of one that broke stays held."""
        return [] if self._decided else self._decide(self._text[: self._same])

    def _decide(self, came: str) -> list[CompletionEvent]:
        if came.startswith(self._text):
            return self._release(len(self._text))
        if not self._trimmed or not came.startswith(self._trimmed):
            return self._release(0)
        length = len(self._trimmed)
        return self._release(length + self._seam(came[length:]))

    def _seam(self, rest: str) -> int:
        """How much of the white space that begins the rest was emitted already."""
        blanks = self._text[len(self._trimmed) :]
        return next((n for n in range(len(blanks), 0, -1) if rest.startswith(blanks[-n:])), 0)

    def _release(self, hidden: int) -> list[CompletionEvent]:
        """What is held, but for so many characters."""
        self._decided = True
        held, self._held = self._held, []
        released = []
        for event in held:
            length = len(_text_of(event))
            rest = event if not hidden else _without_text(event, hidden)
            hidden -= min(hidden, length)
            released.append(rest)
        return [event for event in released if not _is_empty(event)]


def _text_of(event: CompletionEvent) -> str:
    return "".join(text for choice in event.data.choices for text in _texts(choice.delta.content))


def _texts(content: str | list[ContentChunk] | None) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.text for part in content or () if isinstance(part, TextChunk)]


def _without_text(event: CompletionEvent, hidden: int) -> CompletionEvent:
    choices = []
    for choice in event.data.choices:
        content, hidden = _cut(choice.delta.content, hidden)
        delta = structs.replace(choice.delta, content=content)
        choices.append(structs.replace(choice, delta=delta))
    return structs.replace(event, data=structs.replace(event.data, choices=choices))


def _cut(
    content: str | list[ContentChunk] | None, hidden: int
) -> tuple[str | list[ContentChunk] | None, int]:
    if content is None:
        return None, hidden
    if isinstance(content, str):
        return content[hidden:], max(0, hidden - len(content))
    parts: list[ContentChunk] = []
    for part in content:
        if isinstance(part, TextChunk):
            text, hidden = part.text[hidden:], max(0, hidden - len(part.text))
            parts += [structs.replace(part, text=text)] if text else []
        else:
            parts.append(part)
    return parts, hidden


def _is_empty(event: CompletionEvent) -> bool:
    """Whether it brings nothing: the role again, or what is left of an echo."""
    chunk = event.data
    return chunk.usage is None and not any(
        choice.finish_reason or choice.delta.content or choice.delta.tool_calls
        for choice in chunk.choices
    )
