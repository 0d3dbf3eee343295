"""Surrogate pairs that a server split over two chunks.

A model's token may be one half of an emoji. Servers write it as `"\\ud83d"`, which is not text
by itself; the other half follows in the next chunk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..error_report import join_surrogates
from .repair import REASONING_KEYS, as_part, dicts_in

__all__ = ["SurrogateJoiner"]


class SurrogateJoiner:
    """A joiner of surrogate pairs that were split over the chunks of one answer.

    A high surrogate at the end of a text waits for the next text of the same kind and choice,
    and is put in front of it. At the end of the choice it is released; a lone surrogate becomes
    U+FFFD, as in any decoder.

    Attributes:
        waiting: The high surrogates that wait, by the text that they belong to.
    """

    def __init__(self) -> None:
        self.waiting: dict[_TextKey, str] = {}

    def join(self, chunk: dict[str, Any]) -> Any:
        """Returns the decoded JSON of one chunk with whole characters only."""
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
            delta["content"] = content = [as_part(part) for part in content]
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
        """Appends a waiting half to the text; drops those of a thought and of arguments, which
        were cut off anyway."""
        half = self.waiting.get(_TextKey(index, "text"))
        if half is not None:
            content = delta.get("content")
            delta["content"] = [*content, as_part(half)] if isinstance(content, list) else half
        for key in [key for key in self.waiting if key.choice == index]:
            del self.waiting[key]


class _TextKey(NamedTuple):
    """The text that a delta adds to."""

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
