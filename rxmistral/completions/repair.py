"""Chunks that are not quite chunks, made ones.

Servers put all kinds of things beside a text: null for an object, a date for a number, the
reasoning into a key of its own, a whole answer as a message. None of that is a reason to
lose the text. So all of a chunk that can be read is read, and the rest is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from ..lenient_decoding import scalar_to_text
from ..models import CompletionChunk, ContentChunk, TextChunk, ThinkChunk

__all__ = ["REASONING", "Reasoning", "add_thoughts", "is_keep_alive", "repair_choices"]

_KEEP_ALIVES = ("ping", "pong", "keepalive", "heartbeat", "noop")


class Reasoning(Struct, gc=False):
    """What a delta has in the keys for it: a text, or something with a text in it."""

    reasoning_content: Any = None
    reasoning: Any = None


REASONING = Reasoning.__struct_fields__


def is_keep_alive(word: object) -> bool:
    """Whether an event of this type, or an object, is there to keep a connection open."""
    letters = "".join(filter(str.isalpha, word.lower())) if isinstance(word, str) else ""
    return letters in _KEEP_ALIVES


# --- reasoning -------------------------------------------------------------------


def add_thoughts(chunk: CompletionChunk, reasonings: Iterable[Reasoning | None]) -> None:
    """Put the reasoning that stands beside the contents of a chunk's choices into them."""
    for choice, reasoning in zip(chunk.choices, reasonings, strict=True):
        if reasoning is None:
            continue
        one, other = reasoning.reasoning_content, reasoning.reasoning
        if one or other:
            thought = _joined(_text_in(one), _text_in(other))
            choice.delta.content = _with_thought(thought, choice.delta.content)


def _joined(one: str, other: str) -> str:
    """Both, but what is in both counts once: many servers write it into two keys."""
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
    said = (part.thinking for part in content if isinstance(part, ThinkChunk))
    return content if chunk.thinking in said else [chunk, *content]


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


def repair_choices(choices: Any, has_begun: Callable[[int], bool]) -> list[dict[str, Any]]:
    """The choices of a decoded chunk that are any, each with a delta.

    Args:
        choices: What is there in the place of the choices.
        has_begun: Whether the answer with this index has brought anything before.
    """
    repaired = [each for each in choices if isinstance(each, dict)]
    for choice in repaired:
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        message, index = choice.get("message"), choice.get("index")
        # A message that follows deltas, or stands beside one, repeats them.
        if isinstance(message, dict) and not (
            _brings_something(delta) or has_begun(index if isinstance(index, int) else 0)
        ):
            delta = message
        content = delta.get("content")
        if isinstance(content, dict):
            content = [content]
        choice["delta"] = {**delta, "content": scalar_to_text(content)}
    return repaired


def _brings_something(delta: dict[str, Any]) -> bool:
    return any(delta.get(key) for key in ("content", "tool_calls", *REASONING))
