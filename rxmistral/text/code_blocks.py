"""Text to the fenced code blocks in it."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from reactivex import Observable

from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from .inputs import text_for
from .words_lines import LineEnds

__all__ = ["CodeBlock", "FenceReader", "code_blocks"]


class CodeBlock(msgspec.Struct, frozen=True):
    """A fenced code block, or a part of one.

    Attributes:
        language: The first word of the info string, or None.
        content: The lines between the fences, with their line ends; where the content
            is streamed, those that came since the last part.
        closed: Whether the closing fence has come.
        info: The info string: what stands behind the opening fence.
        index: Which block of the text, counted from 0.
    """

    language: str | None
    content: str
    closed: bool = True
    info: str = ""
    index: int = 0


# CommonMark 0.31, 4.5: "A code fence is a sequence of at least three consecutive
# backtick characters (`) or tildes (~). ... A fenced code block begins with a code fence,
# preceded by up to three spaces of indentation." And: "this is trimmed of leading and
# trailing spaces or tabs and called the info string. If the info string comes after a
# backtick fence, it may not contain any backtick characters."
#
# In a list item the three spaces count from where its text begins (5.2).
_match_opening = re.compile(
    r"(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^\r\n]*)[\r\n]*\Z"
).match


class _Opening:
    """The line that opens a block."""

    def __init__(self, indent: str, fence: str, info: str) -> None:
        self.indent = len(indent)
        self.mark = fence[0]
        self.length = len(fence)
        self.info = info.strip(" \t")
        self.language = next(iter(self.info.split()), None)


def _opening(line: str, item: int) -> _Opening | None:
    """The opening that the line is, in a list item whose text begins at `item`."""
    found = _match_opening(line)
    if found is None or (found["fence"][0] == "`" and "`" in found["info"]):
        return None
    if len(found["indent"]) > item + 3:
        return None
    return _Opening(found["indent"], found["fence"], found["info"])


_match_list_mark = re.compile(r" *(?:[-*+]|\d{1,9}[.)]) +").match


def _item_after(line: str, item: int) -> int:
    """Where the text of the list item begins that the next line may be in; 0 outside."""
    mark = _match_list_mark(line)
    if mark is not None:
        return mark.end()
    text = line.lstrip(" ")
    return item if not text.strip() or len(line) - len(text) >= item else 0


class _ClosingFence:
    """Follows a line that is coming, as long as it may close the block.

    CommonMark 0.31, 4.5: "a closing code fence of the same type as the code block began
    with (backticks or tildes), and with at least as many backticks or tildes as the
    opening code fence. ... The closing code fence may be preceded by up to three spaces
    of indentation, and may be followed only by spaces or tabs".
    """

    def __init__(self, opening: _Opening) -> None:
        self._opening = opening
        self._indent = self._marks = 0
        self._ended = False  # the marks have; only blanks may follow

    @property
    def complete(self) -> bool:
        return self._marks >= self._opening.length

    def may_be(self, part: str) -> bool:
        return all(map(self._may_go_on, part))

    def _may_go_on(self, character: str) -> bool:
        if character == self._opening.mark and not self._ended:
            self._marks += 1
            return True
        if character == " " and not self._marks:
            self._indent += 1
            return self._indent <= self._opening.indent + 3
        self._ended = True
        return character in " \t" and self.complete


class FenceReader(StateMachine[str, CodeBlock]):
    """Reads text part of a line by part of a line, and gives the code blocks in it.

    Outside of a block a line is held until it is complete. In a block it is held while
    it may be the closing fence; from then on it is content. The content since the last
    `CodeBlock` is a list: all of it where blocks are given when they are complete, the
    parts of one `feed` where they are streamed.
    """

    def __init__(self, streaming: bool = False) -> None:
        self._streaming = streaming
        self._ends = LineEnds()
        self._index = -1
        self._item = 0  # where the text of the list item begins that this is in
        self._opening: _Opening | None = None
        self._closing: _ClosingFence | None = None  # None: this line is none
        self._line: list[str] = []  # held
        self._content: list[str] = []

    def feed(self, text: str) -> list[CodeBlock]:
        blocks = self._read(self._ends.feed(text))
        if self._streaming and self._content:
            blocks.append(self._block(closed=False))
        return blocks

    def close(self) -> list[CodeBlock]:
        """CommonMark 0.31, 4.5: "If the end of the containing block (or document) is
        reached and no closing code fence has been found, the code block contains all of
        the lines after the opening code fence"."""
        blocks = self._read(self._ends.close())
        if self._line:
            self._end_line(blocks)
        if self._opening and (self._content or not self._streaming):
            blocks.append(self._block(closed=False))
        self._opening = None
        return blocks

    def _read(self, parts: list[str]) -> list[CodeBlock]:
        blocks: list[CodeBlock] = []
        for part in parts:
            if self._opening is None:
                self._line.append(part)
            else:
                self._read_inside(part)
            if part[-1] in "\r\n":
                self._end_line(blocks)
        return blocks

    def _read_inside(self, part: str) -> None:
        if self._closing is None:
            self._content.append(part)
        elif self._closing.may_be(part.rstrip("\r\n")):
            self._line.append(part)
        else:
            self._closing = None
            self._line.append(part)
            self._begin_content()

    def _begin_content(self) -> None:
        """What is held of the line is content.

        "If the leading code fence is preceded by N spaces of indentation, then up to N
        spaces of indentation are removed from each line of the content (if present)."
        """
        assert self._opening is not None
        line, self._line = "".join(self._line), []
        indent = len(line) - len(line.lstrip(" "))
        self._content.append(line[min(indent, self._opening.indent) :])

    def _end_line(self, blocks: list[CodeBlock]) -> None:
        if self._opening is None:
            line, self._line = "".join(self._line), []
            self._open(line, blocks)
        elif self._closing is not None and self._closing.complete:
            self._line = []
            blocks.append(self._block(closed=True))
            self._opening = None
        elif self._closing is not None:
            self._begin_content()
        self._closing = _ClosingFence(self._opening) if self._opening else None

    def _open(self, line: str, blocks: list[CodeBlock]) -> None:
        self._opening = _opening(line, self._item)
        if self._opening is None:
            self._item = _item_after(line, self._item)
        else:
            self._index += 1
            if self._streaming:
                blocks.append(self._block(closed=False))

    def _block(self, closed: bool) -> CodeBlock:
        opening, self._content, content = self._opening, [], "".join(self._content)
        assert opening is not None
        return CodeBlock(opening.language, content, closed, opening.info, self._index)


def code_blocks(*, streaming: bool = False) -> Callable[[Observable[str]], Stream[CodeBlock]]:
    r"""Text into the fenced code blocks of its Markdown.

        --"See:\n"--"```py\n1"--"+1\n"--"```\n"--"Done."-|->
        ----------------------------------(py, 1+1)-------|->

    Args:
        streaming: Give each block in parts, as it comes: an empty one when the opening
            fence is complete, then parts with the content since the last, at the end
            one with `closed=True`. Parts of one block have the same `index`.

    Emits: a `CodeBlock` for each block when its closing fence is complete, which it is
        when its line has ended. The text between the blocks is dropped.
    Holds: the line that is coming; in a streamed block only as long as it may be the
        closing fence. A block that is not streamed is held until it is closed.
    Completes: a block that was not closed is emitted then, with `closed=False`.
    Errors: likewise, before the error.
    Source: CommonMark 0.31, 4.5; a fence in a block quote, or right behind the mark of a
        list item, is none.

    >>> import reactivex
    >>> answer = reactivex.of("See:\n``", "`py\n1", " + 1\n", "```\nDone.")
    >>> for block in Stream.of(answer).pipe(code_blocks()):
    ...     print(block.language, repr(block.content))
    py '1 + 1\n'
    """
    return machine_operator(lambda: FenceReader(streaming), text_for("code_blocks"))
