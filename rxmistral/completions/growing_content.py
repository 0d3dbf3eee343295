"""The content of a message while it grows: neighbouring texts and thoughts become one.

Strategy: a snapshot after each completion must cost what is new, not what has accumulated. CPython
appends to a string in place if nothing else refers to it, so an open text grows at its
end; only a snapshot that is kept costs a copy of the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, groupby
from typing import TypeAlias, cast

from ..models import ContentChunk, TextChunk, ThinkChunk, ToolCall
from .tool_calls import ToolCallAccumulator

__all__ = ["Content", "GrowingContent", "GrowingMessage"]

Content: TypeAlias = str | list[ContentChunk]


class GrowingContent:
    """The parts of a message, or of a thought; the last part is still open."""

    def __init__(self) -> None:
        self._closed: list[ContentChunk] = []
        # At most one of these two is open.
        self._text: str | None = None
        self._thought: _GrowingThought | None = None

    def add(self, contents: list[Content]) -> None:
        for kind, group in groupby(contents, type):
            if kind is str:
                self._add_text("".join(cast("Iterator[str]", group)))
            else:
                for part in chain.from_iterable(group):
                    self._add_part(cast("ContentChunk", part))

    def parts(self) -> list[ContentChunk]:
        parts = [*self._closed]
        if self._text:
            parts.append(TextChunk(text=self._text))
        if self._thought is not None:
            parts.append(self._thought.chunk())
        return parts

    def content(self) -> Content | None:
        """Returns one string if all of it is text, and its parts otherwise; None if empty."""
        return self.parts() if self._closed or self._thought is not None else self._text

    def _add_part(self, part: ContentChunk) -> None:
        if isinstance(part, TextChunk):
            self._add_text(part.text)
        elif isinstance(part, ThinkChunk):
            if self._thought is None:
                self._close()
                self._thought = _GrowingThought()
            self._thought.add(part)
        else:
            self._close()
            self._closed.append(part)

    def _add_text(self, piece: str) -> None:
        if piece and self._thought is not None:
            self._close()
        text, self._text = self._text or "", None
        text += piece  # in place, since no other name refers to it
        self._text = text

    def _close(self) -> None:
        self._closed = self.parts()
        self._text = self._thought = None


class _GrowingThought:
    def __init__(self) -> None:
        self._content = GrowingContent()
        self._signature: str | None = None
        self._closed: bool | None = None

    def add(self, part: ThinkChunk) -> None:
        self._content.add([part.thinking])
        self._signature = part.signature or self._signature
        self._closed = part.closed

    def chunk(self) -> ThinkChunk:
        return ThinkChunk(
            thinking=self._content.parts(), signature=self._signature, closed=self._closed
        )


class GrowingMessage:
    """The content and complete tool calls of a message, updated for each snapshot."""

    def __init__(self) -> None:
        self.content = GrowingContent()
        self.tool_calls: list[ToolCall] = []
        self._call_accumulator = ToolCallAccumulator()
        self._content_count = self._fragment_count = 0  # included already

    def update(self, contents: list[Content], fragments: list[ToolCall]) -> None:
        """Adds what these lists have gained since the last update."""
        self.content.add(contents[self._content_count :])
        self.tool_calls += self._call_accumulator.feed(fragments[self._fragment_count :])
        self._content_count, self._fragment_count = len(contents), len(fragments)
