"""Text with tags in it to thinking and text, for servers that put both into one."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from ..models import TextChunk, ThinkChunk
from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from ..text.inputs import text_for

__all__ = ["TagSplitter", "think_tags"]


class TagSplitter(StateMachine[str, TextChunk | ThinkChunk]):
    """Splits text at the one tag that is awaited: the open tag outside of thinking, the
    close tag in it.

    What could still become that tag is the longest end of the text that the tag begins
    with; everything before it is let go at once.
    """

    def __init__(self, open: str, close: str, begins_open: bool = False) -> None:
        self._open, self._close = open, close
        self._thinking = begins_open
        self._awaited = close if begins_open else open
        self._held = ""

    def feed(self, piece: str) -> list[TextChunk | ThinkChunk]:
        text = self._held + piece
        chunks: list[TextChunk | ThinkChunk] = []
        begin = 0
        while (at := text.find(self._awaited, begin)) >= 0:
            self._add(chunks, text[begin:at])
            begin = at + len(self._awaited)
            self._turn()
        end = _end_before(self._awaited, text, begin)
        self._add(chunks, text[begin:end])
        self._held = text[end:]
        return chunks

    def close(self) -> list[TextChunk | ThinkChunk]:
        chunks: list[TextChunk | ThinkChunk] = []
        self._add(chunks, self._held)
        self._held = ""
        return chunks

    def _turn(self) -> None:
        self._thinking = not self._thinking
        self._awaited = self._close if self._thinking else self._open

    def _add(self, chunks: list[TextChunk | ThinkChunk], text: str) -> None:
        if text:
            chunk = TextChunk(text=text)
            chunks.append(ThinkChunk(thinking=[chunk]) if self._thinking else chunk)


def _end_before(tag: str, text: str, begin: int) -> int:
    """Where the text ends before what could still become the tag."""
    at = text.find(tag[0], max(begin, len(text) - len(tag) + 1))
    while at >= 0 and not tag.startswith(text[at:]):
        at = text.find(tag[0], at + 1)
    return len(text) if at < 0 else at


def think_tags(
    open: str = "<think>", close: str = "</think>", *, begins_open: bool = False
) -> Callable[[Observable[str]], Stream[TextChunk | ThinkChunk]]:
    """Text with tags in it into text and thinking, without the tags.

        --"<thi"--"nk>hm"--"m</"--"think>Yes"-|->
        ----------[hm]-----[m]-----Yes--------|->

    Args:
        open: The tag that thinking begins with.
        close: The tag that it ends with.
        begins_open: The text begins in the middle of thinking, as it does where the
            model's chat template has written the open tag already.

    Emits: a `TextChunk` for text and a `ThinkChunk` for thinking, never an empty one.
        Without the tag that is awaited everything is what it was: a close tag outside
        of thinking is text, an open tag in thinking is thinking. White space about the
        tags is kept.
    Holds: what could still become the tag, one character less than that at most.
    Completes: what is held is then emitted as what it was; thinking that was never
        closed is thinking.
    Errors: likewise, before the error.

    >>> import reactivex
    >>> pieces = reactivex.of("<thi", "nk>Hm.</think", ">Yes", ", 1 < 2")
    >>> [chunk.type for chunk in Stream.of(pieces).pipe(think_tags())]
    ['thinking', 'text', 'text']
    """
    _check_tag("open", open)
    _check_tag("close", close)
    return machine_operator(lambda: TagSplitter(open, close, begins_open), text_for("think_tags"))


def _check_tag(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name} must not be empty")
