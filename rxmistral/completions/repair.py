"""Repairs chunks that do not quite follow the API.

Servers write all kinds of things next to a text: null for an object, a date for a number,
reasoning in keys of its own, a whole answer as a message, half of a surrogate pair. None of that
is a reason to lose the text. So every field of a chunk that can be read is read, and the others
are None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from ..error_report import join_surrogates
from ..lenient_decoding import scalar_to_text
from ..models import CompletionChunk, ContentChunk, TextChunk, ThinkChunk

__all__ = [
    "REASONING_KEYS",
    "Reasoning",
    "SurrogateJoiner",
    "add_reasoning",
    "decode_reasoning",
    "dicts_in",
    "is_keep_alive",
    "repair_choices",
]

_KEEP_ALIVE_TYPES = ("ping", "pong", "keepalive", "heartbeat", "noop")


def is_keep_alive(event_type: object) -> bool:
    """Whether an event of this type, or a JSON object, only keeps a connection open."""
    letters = filter(str.isalpha, event_type.lower()) if isinstance(event_type, str) else ()
    return "".join(letters) in _KEEP_ALIVE_TYPES


def dicts_in(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _as_part(part: Any) -> Any:
    """Returns a bare string in a content list, as some servers write it, as a text part."""
    return {"type": "text", "text": part} if isinstance(part, str) else part


# --- reasoning -------------------------------------------------------------------


class Reasoning(Struct, gc=False):
    """The reasoning in the keys of a delta: a text, or an object that contains one."""

    reasoning_content: Any = None
    reasoning: Any = None


class _ChoiceReasoning(Struct, gc=False):
    delta: Reasoning | None = None


class _ChunkReasoning(Struct, gc=False):
    choices: list[_ChoiceReasoning] = []


REASONING_KEYS = Reasoning.__struct_fields__
_decode_reasoning = msgspec.json.Decoder(_ChunkReasoning).decode


def decode_reasoning(data: bytes | str) -> list[Reasoning | None]:
    return [choice.delta for choice in _decode_reasoning(data).choices]


def add_reasoning(chunk: CompletionChunk, reasonings: Iterable[Reasoning | None]) -> None:
    for choice, reasoning in zip(chunk.choices, reasonings, strict=True):
        if reasoning is None:
            continue
        one, other = reasoning.reasoning_content, reasoning.reasoning
        if one or other:
            thought = _merged(_text_in(one), _text_in(other))
            choice.delta.content = _with_thought(thought, choice.delta.content)


def _merged(one: str, other: str) -> str:
    """Returns both texts, without a repetition: many servers write one text into two keys."""
    if other in one:
        return one
    return other if one in other else one + other


def _with_thought(
    thought: str, content: str | list[ContentChunk] | None
) -> str | list[ContentChunk] | None:
    if not thought:
        return content
    chunk = ThinkChunk(thinking=[TextChunk(text=thought)])
    if not isinstance(content, list):
        return [chunk, TextChunk(text=content)] if content else [chunk]
    is_repeated = any(
        part.thinking == chunk.thinking for part in content if isinstance(part, ThinkChunk)
    )
    return content if is_repeated else [chunk, *content]


def _text_in(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_text_in, value))
    if isinstance(value, dict):
        texts = (_text_in(value.get(key)) for key in ("text", "content", "thinking", "summary"))
        return next(filter(None, texts), "")
    return ""


# --- choices ---------------------------------------------------------------------


def repair_choices(
    choices: list[Any], has_output_in: Callable[[int], bool]
) -> list[dict[str, Any]]:
    """Returns the choices of a decoded chunk that are objects, each with a delta;
    `has_output_in` checks whether earlier chunks have content for the choice of an index."""
    repaired = dicts_in(choices)
    for choice in repaired:
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        message = choice.get("message")
        # A message after deltas, or in the same choice as one, repeats them.
        if isinstance(message, dict) and not (
            _has_output(delta) or has_output_in(_index(choice) or 0)
        ):
            delta = message
        content = delta.get("content")
        if isinstance(content, dict):
            content = [content]
        choice["delta"] = {**delta, "content": scalar_to_text(content)}
    return repaired


def _has_output(delta: dict[str, Any]) -> bool:
    return any(delta.get(key) for key in ("content", "tool_calls", *REASONING_KEYS))


# --- split surrogate pairs -------------------------------------------------------


class SurrogateJoiner:
    """A joiner of surrogate pairs that were split over the chunks of one answer.

    A model's token may be one half of an emoji: servers write it as `"\\ud83d"`, which is not
    text by itself, and the other half in the next chunk. A high surrogate at the end of a text
    waits for the next text of the same kind and choice, and is put in front of it. At the end of
    the choice it is released; a lone surrogate becomes U+FFFD, as in any decoder.
    """

    def __init__(self) -> None:
        self.waiting: dict[_TextKey, str] = {}  # the high surrogates

    def join(self, chunk: dict[str, Any]) -> Any:
        for choice in dicts_in(chunk.get("choices")):
            self._join_choice(choice, _index(choice) or 0)
        return _without_surrogates(chunk)

    def _join_choice(self, choice: dict[str, Any], index: int) -> None:
        is_last = bool(choice.get("finish_reason"))
        delta = choice["delta"]
        for field in REASONING_KEYS:
            self._join_text(delta, field, _TextKey(index, field), is_last)
        content = delta.get("content")
        if isinstance(content, str):
            self._join_text(delta, "content", _TextKey(index, "text"), is_last)
        elif isinstance(content, list):
            delta["content"] = content = [_as_part(part) for part in content]
        for part in dicts_in(content):
            self._join_text(part, "text", _TextKey(index, "text"), is_last)
            for thought in dicts_in(part.get("thinking")):
                self._join_text(thought, "text", _TextKey(index, "thinking"), is_last)
        for call in dicts_in(delta.get("tool_calls")):
            # A call without an index is complete: no later fragment can belong to it.
            key = _TextKey(index, "arguments", _index(call))
            is_whole = is_last or key.call is None
            self._join_text(call.get("function"), "arguments", key, is_whole)
        if is_last:
            self._release(delta, index)

    def _join_text(self, container: Any, field: str, key: _TextKey, is_last: bool) -> None:
        if isinstance(container, dict) and isinstance(container.get(field), str):
            text = self.waiting.pop(key, "") + container[field]
            if not is_last and "\ud800" <= text[-1:] <= "\udbff":
                self.waiting[key] = text[-1]
                text = text[:-1]
            container[field] = text

    def _release(self, delta: dict[str, Any], index: int) -> None:
        # The half of a thought or of arguments, which were cut off anyway, is dropped.
        half = self.waiting.get(_TextKey(index, "text"))
        if half is not None:
            content = delta.get("content")
            delta["content"] = [*content, _as_part(half)] if isinstance(content, list) else half
        for key in [key for key in self.waiting if key.choice == index]:
            del self.waiting[key]


class _TextKey(NamedTuple):
    choice: int
    kind: str
    call: int | None = None


def _index(container: dict[str, Any]) -> int | None:
    index = container.get("index")
    return index if isinstance(index, int) else None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return join_surrogates(value)
    if isinstance(value, list):
        return [_without_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(each) for key, each in value.items()}
    return value
