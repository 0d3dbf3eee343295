"""The base of the encoders of whole answers: items to parts, and the tool calls among them.

    completions  text  content chunks  parts
                       │
                       ▼
    parts of the first answer ──▶ add_part() ──▶ messages of a protocol ──▶ bytes

Each protocol has its own class, which writes a part and the ending in the protocol's words.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeAlias

import msgspec

from ..completions.parts import (
    AnswerEnded,
    Part,
    PartSplitter,
    TextDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    parts_of_content,
)
from ..errors import InvalidAnswerError
from ..models import CompletionEvent, ContentChunk
from ..outcome import Status, status_of
from .encoder import Describe, Encoder

__all__ = ["Item", "PartEncoder", "RelayedCall"]

Item: TypeAlias = CompletionEvent | ContentChunk | str | Part

_ID_LENGTH = 9  # the length that Mistral requires when a tool call is sent back

_json = msgspec.json.Encoder().encode


class PartEncoder(Encoder[Item, bytes]):
    """Encodes an answer as messages of JSON, each in a Server-Sent Event of its own."""

    def __init__(self, relay: str, describe: Describe) -> None:
        self.describe = describe
        self.open_calls: list[RelayedCall] = []  # in the order in which they started
        self._relay = relay  # in error messages
        self._splitter = PartSplitter()
        self._ended: AnswerEnded | None = None
        self._messages: list[bytes] = []  # that were not returned yet
        self._call_ids: set[str] = set()

    def id_origin(self) -> str:
        """Returns a text that identifies the answer, the same for each page that receives it."""
        raise NotImplementedError

    def add_part(self, part: Part) -> None:
        """Adds the messages for one part of any kind but `AnswerEnded`."""
        raise NotImplementedError

    def add_ending(self, ended: AnswerEnded, status: Status, description: str) -> None:
        """Adds the messages for the end of the answer.

        Args:
            ended: The last part of the answer.
            status: How the stream ended; another status than that of the part if the stream
                failed after it.
            description: What a page may know of the error; "" if there is no error.
        """
        raise NotImplementedError

    def encode(self, item: Item) -> bytes:
        self._add_parts(self._parts_of(item))
        return self.flush()

    def end(self, error: Exception | None) -> bytes:
        if error is None:
            self._add_parts(self._splitter.close())
        ended = self._ended or self._splitter.ending(error)
        status = ended.status if error is None else status_of(error)
        description = ended.error or "" if error is None else self.describe(error)
        self.add_ending(ended, status, description)
        return self.flush()

    def add_message(self, type: str, **fields: object) -> None:
        self._messages.append(b"data: %b\n\n" % _json({"type": type, **fields}))

    def flush(self) -> bytes:
        messages = b"".join(self._messages)
        self._messages.clear()
        return messages

    def _parts_of(self, item: Item) -> Iterable[Part]:
        if isinstance(item, CompletionEvent):
            return self._splitter.feed(item)
        if isinstance(item, str):
            return [TextDelta(item)] if item else []
        if isinstance(item, ContentChunk):
            return parts_of_content([item])
        if isinstance(item, Part):
            return [item]
        raise TypeError(
            f"{self._relay} accepts completions, content chunks, parts and text, "
            f"got {type(item).__name__}"
        )

    def _add_parts(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if isinstance(part, AnswerEnded):
                self._ended = part
            else:
                self.add_part(part)

    # tool calls

    def open_call(self, started: ToolCallStarted) -> RelayedCall:
        call = RelayedCall(started, self._unique_id(started.id))
        self.open_calls.append(call)
        return call

    def continue_call(self, delta: ToolCallDelta) -> RelayedCall | None:
        """Returns the open call that this piece of arguments belongs to."""
        for call in self.open_calls:
            if call.started.index == delta.index:
                call.pieces.append(delta.arguments)
                return call
        return None

    def close_call(self, ready: ToolCallReady) -> tuple[list[RelayedCall], RelayedCall | None]:
        """Returns the open call that is complete, and those before it, which never will be.

        Complete calls are emitted in the order in which they began, so a call that was passed
        over has been cut.
        """
        for position, call in enumerate(self.open_calls):
            if call.is_of(ready):
                cut = self.open_calls[:position]
                del self.open_calls[: position + 1]
                return cut, call
        return [], None

    def cut_error(self, call: RelayedCall) -> InvalidAnswerError:
        expected = f"object, the arguments of {call.started.name}"
        return InvalidAnswerError(expected, "the answer was cut", call.arguments())

    def _unique_id(self, call_id: str | None) -> str:
        """Returns the model's id; if it is missing or not unique, one that is made from the
        answer, so that every page that receives this answer gets the same ids."""
        if call_id is None or call_id in self._call_ids:
            origin = f"{self.id_origin()} {len(self._call_ids)}"
            call_id = blake2b(origin.encode()).hexdigest()[:_ID_LENGTH]
        self._call_ids.add(call_id)
        return call_id


class RelayedCall:
    """A tool call, as far as the page has received it."""

    def __init__(self, started: ToolCallStarted, id: str) -> None:
        self.started = started
        self.id = id
        self.pieces: list[str] = []  # of its arguments

    def arguments(self) -> str:
        return "".join(self.pieces)

    def is_of(self, ready: ToolCallReady) -> bool:
        if ready.call.id is not None and ready.call.id == self.started.id:
            return True
        arguments = ready.call.function.arguments or ""
        text = arguments if isinstance(arguments, str) else _json(arguments).decode()
        return text == self.arguments()
