"""Text with tags to thinking and text, for servers that write both into one string."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from ..models import TextChunk, ThinkChunk
from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from ..text.inputs import text_for

__all__ = ["TagSplitter", "think_tags"]


class TagSplitter(StateMachine[str, TextChunk | ThinkChunk]):
    """A splitter of text at the next tag: the open tag, or inside of thinking the close tag.

    The longest suffix of the text that is a prefix of that tag may still become the tag, so it
    is buffered; everything before it is emitted at once.
    """

    def __init__(self, open: str, close: str, begins_open: bool = False) -> None:
        self._open, self._close = open, close
        self._is_thinking = begins_open
        self._next_tag = close if begins_open else open
        self._buffer = ""

    def feed(self, piece: str) -> list[TextChunk | ThinkChunk]:
        text = self._buffer + piece
        chunks: list[TextChunk | ThinkChunk] = []
        begin = 0
        while (at := text.find(self._next_tag, begin)) >= 0:
            self._add_chunk(chunks, text[begin:at])
            begin = at + len(self._next_tag)
            self._is_thinking = not self._is_thinking
            self._next_tag = self._close if self._is_thinking else self._open
        end = _tag_prefix_start(self._next_tag, text, begin)
        self._add_chunk(chunks, text[begin:end])
        self._buffer = text[end:]
        return chunks

    def close(self) -> list[TextChunk | ThinkChunk]:
        chunks: list[TextChunk | ThinkChunk] = []
        self._add_chunk(chunks, self._buffer)
        self._buffer = ""
        return chunks

    def _add_chunk(self, chunks: list[TextChunk | ThinkChunk], text: str) -> None:
        if text:
            chunk = TextChunk(text=text)
            chunks.append(ThinkChunk(thinking=[chunk]) if self._is_thinking else chunk)


def _tag_prefix_start(tag: str, text: str, begin: int) -> int:
    """Returns the index from which on the text may still become the tag."""
    at = text.find(tag[0], max(begin, len(text) - len(tag) + 1))
    while at >= 0 and not tag.startswith(text[at:]):
        at = text.find(tag[0], at + 1)
    return len(text) if at < 0 else at


def think_tags(
    open: str = "<think>", close: str = "</think>", *, begins_open: bool = False
) -> Callable[[Observable[str]], Stream[TextChunk | ThinkChunk]]:
    """Text with tags into text and thinking, without the tags.

        --"<thi"--"nk>hm"--"m</"--"think>Yes"-|->
        ----------[hm]-----[m]-----Yes--------|->

    Args:
        open: The tag that thinking begins with.
        close: The tag that thinking ends with.
        begins_open: Whether the text begins inside of thinking, because the model's chat
            template has written the open tag already; default False.

    Emits: a `TextChunk` for text and a `ThinkChunk` for thinking, never an empty one. Only the
        next expected tag counts: a close tag outside of thinking is text, an open tag inside
        of it is thinking. White space around the tags is kept.
    Holds: a suffix that may still become the tag, at most one character less than the tag.
    Completes: after the buffered suffix, which is text or thinking as before it; thinking that
        was never closed is thinking.
    Errors: after the buffered suffix, too.

    >>> import reactivex
    >>> pieces = reactivex.of("<thi", "nk>Hm.</think", ">Yes", ", 1 < 2")
    >>> [chunk.type for chunk in Stream.of(pieces).pipe(think_tags())]
    ['thinking', 'text', 'text']
    """
    for name, tag in (("open", open), ("close", close)):
        if not isinstance(tag, str):
            raise TypeError(f"{name} must be a str, got {type(tag).__name__}")
        if not tag:
            raise ValueError(f"{name} must not be empty")
    return machine_operator(lambda: TagSplitter(open, close, begins_open), text_for("think_tags"))
