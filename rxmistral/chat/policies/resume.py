"""The policy that continues an answer that broke.

The text received so far is sent back, as a message of the assistant with `prefix: true`, and the
new answer continues it. Some servers begin with an echo of that text, which is removed:

    sent back      "The sky is "
    received       "The sky is " "blue."     or "The sky is" " blue."    or "blue."
    emitted                      "blue."                     "blue."        "blue."
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from ...checks import check_callback, check_integer
from ...completions.accumulator import texts_in
from ...completions.finish import is_empty_choice
from ...errors import (
    DroppedStreamError,
    IncompleteStreamError,
    MistralError,
    ReportedError,
    StreamError,
    StreamTimeoutError,
)
from ...models import CompletionEvent, ContentChunk, TextChunk

__all__ = [
    "EchoFilter",
    "Resume",
    "can_be_continued",
    "continuation_of",
    "is_break",
    "requested_answers",
]

OnResume = Callable[[StreamError, int], object]


@dataclass(frozen=True, slots=True)
class Resume:
    """How an answer that broke after text was emitted is continued.

    The request is repeated with the text received so far as a message of the assistant with
    `prefix: true`, and the items of the new answer are emitted by the same stream. An answer
    is not continued after the beginning of a tool call or after a finish_reason, or if the
    request asks for more than one answer (`n`). The model continues without the thoughts
    that it had.

    Args:
        attempts: The largest number of continuations of one answer; by default 1.
        structured: Whether to continue also if the request has a `response_format` of JSON.
            False by default: a model may continue a broken value as a different value.
        on_resume: Called before each continuation with the error and the number of the
            continuation, from 1, on the reader's thread.
    """

    attempts: int = 1
    structured: bool = False
    on_resume: OnResume | None = None

    def __post_init__(self) -> None:
        check_integer("attempts", self.attempts)
        if self.on_resume is not None:
            check_callback("on_resume", self.on_resume)


def is_break(error: MistralError) -> bool:
    """Returns whether the end of an answer that failed with this error may be requested."""
    if isinstance(error, StreamTimeoutError):
        return error.clock != "total"
    return isinstance(error, (DroppedStreamError, IncompleteStreamError, ReportedError))


# --- the request -----------------------------------------------------------------

_decode_body = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_messages = msgspec.json.Decoder(list[msgspec.Raw]).decode


def can_be_continued(body: bytes, structured: bool) -> bool:
    """Returns whether an answer to this request can be continued; `structured` allows JSON."""
    response_format = msgspec.json.decode(_decode_body(body).get("response_format", b"{}")) or {}
    is_text = response_format.get("type", "text") == "text"
    return requested_answers(body) == 1 and (structured or is_text)


def requested_answers(body: bytes) -> int:
    if b'"n":' not in body:
        return 1
    n = msgspec.json.decode(_decode_body(body).get("n", b"1"))
    return n if isinstance(n, int) else 1


def continuation_of(body: bytes, text: str) -> tuple[bytes, str]:
    """Returns the request that continues an answer with a text, and the text that it continues.

    If the request already ended in a prefix, this prefix is the beginning of that text,
    whether or not the service repeated it.
    """
    fields = _decode_body(body)
    messages = _decode_messages(fields["messages"])
    last: dict[str, Any] = msgspec.json.decode(messages[-1]) if messages else {}
    prefix = last.get("content")
    if last.get("role") == "assistant" and last.get("prefix") and isinstance(prefix, str):
        text = text if text.startswith(prefix) else prefix + text
        del messages[-1]
    message = {"role": "assistant", "content": text, "prefix": True}
    messages.append(msgspec.Raw(msgspec.json.encode(message)))
    fields["messages"] = msgspec.Raw(msgspec.json.encode(messages))
    return msgspec.json.encode(fields), text


# --- the answer ------------------------------------------------------------------


class EchoFilter:
    """A filter that removes the echo of a text from the answer that continues it.

    Events that may be part of an echo are buffered until that is certain: it is an echo if
    the whole text was received, or all of it except the white space at its end. That white
    space may be repeated by the beginning of the continuation, and is removed there.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._trimmed = text.rstrip()
        self._buffered: list[CompletionEvent] = []
        self._matched = 0  # characters received that are equal to those of the text
        self._is_decided = False

    def feed(self, event: CompletionEvent) -> list[CompletionEvent]:
        if self._is_decided:
            return [event]
        self._buffered.append(event)
        received = _text_of(event)
        if not self._text.startswith(received, self._matched):
            return self._decide(self._text[: self._matched] + received)
        self._matched += len(received)
        if self._matched == len(self._text):
            return self._flush(self._matched)
        if any(choice.finish_reason for choice in event.data.choices):
            return self.close()
        return []

    def close(self) -> list[CompletionEvent]:
        """Returns the rest after an answer that completed; not called if it broke."""
        return [] if self._is_decided else self._decide(self._text[: self._matched])

    def _decide(self, received: str) -> list[CompletionEvent]:
        if received.startswith(self._text):
            return self._flush(len(self._text))
        if not self._trimmed or not received.startswith(self._trimmed):
            return self._flush(0)
        length = len(self._trimmed)
        return self._flush(length + self._overlap(received[length:]))

    def _overlap(self, continuation: str) -> int:
        """Returns how many blanks that it begins with were emitted before."""
        blanks = self._text[len(self._trimmed) :]
        lengths = range(len(blanks), 0, -1)
        return next((n for n in lengths if continuation.startswith(blanks[-n:])), 0)

    def _flush(self, echo_length: int) -> list[CompletionEvent]:
        """Returns the buffered events without so many characters at their beginning."""
        self._is_decided = True
        buffered, self._buffered = self._buffered, []
        flushed = []
        for event in buffered:
            remainder, echo_length = _without_text(event, echo_length)
            # An event may have nothing new, such as a second role or a removed echo.
            if remainder.data.usage is not None or not all(
                map(is_empty_choice, remainder.data.choices)
            ):
                flushed.append(remainder)
        return flushed


def _text_of(event: CompletionEvent) -> str:
    return "".join(texts_in(choice.delta.content or "" for choice in event.data.choices))


def _without_text(event: CompletionEvent, length: int) -> tuple[CompletionEvent, int]:
    """Returns an event without its first characters, and how many more to remove."""
    if not length:
        return event, 0
    choices = []
    for choice in event.data.choices:
        content, length = _cut(choice.delta.content, length)
        delta = structs.replace(choice.delta, content=content)
        choices.append(structs.replace(choice, delta=delta))
    return structs.replace(event, data=structs.replace(event.data, choices=choices)), length


def _cut(
    content: str | list[ContentChunk] | None, length: int
) -> tuple[str | list[ContentChunk] | None, int]:
    if content is None:
        return None, length
    if isinstance(content, str):
        return content[length:], max(0, length - len(content))
    parts: list[ContentChunk] = []
    for part in content:
        if isinstance(part, TextChunk):
            text, length = part.text[length:], max(0, length - len(part.text))
            parts += [structs.replace(part, text=text)] if text else []
        else:
            parts.append(part)
    return parts, length
