"""Text to the fenced code blocks in its Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from reactivex import Observable

from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from .inputs import text_for
from .words_lines import LineEndSplitter

__all__ = ["CodeBlock", "CodeBlockParser", "code_blocks"]


class CodeBlock(msgspec.Struct, frozen=True):
    """A fenced code block, or a part of one.

    Attributes:
        language: The first word of the info string, or None.
        content: The lines between the fences, with their line ends; in a streamed block,
            the content since the previous part.
        closed: Whether the closing fence has arrived.
        info: The info string, that is, the text after the opening fence.
        index: Number of the block in the text, counted from 0.
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
# In a list item the three spaces count from the start of the item's text (5.2).
_match_opening = re.compile(
    r"(?P<indent> *)(?P<fence>`{3,}(?=[^`]*\Z)|~{3,})(?P<info>[^\r\n]*)[\r\n]*\Z"
).match


_match_list_mark = re.compile(r" *(?:[-*+]|\d{1,9}[.)]) +").match


def _item_indent_after(line: str, item_indent: int) -> int:
    """Returns the column of the text of the list item that may continue after this line; 0
    outside of a list."""
    mark = _match_list_mark(line)
    if mark is not None:
        return mark.end()
    text = line.lstrip(" ")
    return item_indent if not text.strip() or len(line) - len(text) >= item_indent else 0


class _ClosingFence:
    """A line that is still arriving, and may close the block.

    CommonMark 0.31, 4.5: "a closing code fence of the same type as the code block began
    with (backticks or tildes), and with at least as many backticks or tildes as the
    opening code fence. ... The closing code fence may be preceded by up to three spaces
    of indentation, and may be followed only by spaces or tabs".
    """

    def __init__(self, opening: re.Match[str]) -> None:
        self._mark, self._length = opening["fence"][0], len(opening["fence"])
        self._max_indent = len(opening["indent"]) + 3
        self._indent = self._marks = 0
        self._marks_ended = False  # only blanks may follow

    @property
    def complete(self) -> bool:
        return self._marks >= self._length

    def continues_with(self, part: str) -> bool:
        if not self._marks:
            text = part.lstrip(" ")
            self._indent, part = self._indent + len(part) - len(text), text
        if not self._marks_ended:
            text = part.lstrip(self._mark)
            self._marks, part = self._marks + len(part) - len(text), text
            self._marks_ended = bool(part)
        blanks_follow = not part or (self.complete and not part.strip(" \t"))
        return blanks_follow and self._indent <= self._max_indent


class CodeBlockParser(StateMachine[str, CodeBlock]):
    """A machine that parses the code blocks of a text.

    Outside of a block, a line is buffered until it is complete; inside, while it may be the
    closing fence. Then it is content, which a streamed block emits at the end of each `feed`.
    """

    def __init__(self, streaming: bool = False) -> None:
        self._streaming = streaming
        self._splitter = LineEndSplitter()
        self._index = -1
        self._item_indent = 0  # the column of the text of the current list item
        self._opening: re.Match[str] | None = None
        self._closing: _ClosingFence | None = None  # None: this line does not close the block
        self._line: list[str] = []
        self._content: list[str] = []

    def feed(self, text: str) -> list[CodeBlock]:
        blocks = self._parse(self._splitter.feed(text))
        if self._streaming and self._content:
            blocks.append(self._block(closed=False))
        return blocks

    def close(self) -> list[CodeBlock]:
        """CommonMark 0.31, 4.5: "If the end of the containing block (or document) is
        reached and no closing code fence has been found, the code block contains all of
        the lines after the opening code fence"."""
        blocks = self._parse(self._splitter.close())
        if self._line:
            self._end_line(blocks)
        if self._opening and (self._content or not self._streaming):
            blocks.append(self._block(closed=False))
        self._opening = None
        return blocks

    def _parse(self, parts: list[str]) -> list[CodeBlock]:
        blocks: list[CodeBlock] = []
        for part in parts:
            if self._opening is not None and self._closing is None:
                self._content.append(part)
            else:
                self._line.append(part)
                if self._closing and not self._closing.continues_with(part.rstrip("\r\n")):
                    self._closing = None
                    self._move_line_to_content()
            if part[-1] in "\r\n":
                self._end_line(blocks)
        return blocks

    def _move_line_to_content(self) -> None:
        """CommonMark 0.31, 4.5: "If the leading code fence is preceded by N spaces of
        indentation, then up to N spaces of indentation are removed from each line of the
        content (if present)."
        """
        assert self._opening is not None
        line, self._line = "".join(self._line), []
        indent = len(line) - len(line.lstrip(" "))
        self._content.append(line[min(indent, len(self._opening["indent"])) :])

    def _end_line(self, blocks: list[CodeBlock]) -> None:
        if self._opening is None:
            line, self._line = "".join(self._line), []
            self._open(line, blocks)
        elif self._closing is not None and self._closing.complete:
            self._line = []
            blocks.append(self._block(closed=True))
            self._opening = None
        elif self._closing is not None:
            self._move_line_to_content()
        self._closing = _ClosingFence(self._opening) if self._opening else None

    def _open(self, line: str, blocks: list[CodeBlock]) -> None:
        found = _match_opening(line)
        if found is None or len(found["indent"]) > self._item_indent + 3:
            self._item_indent = _item_indent_after(line, self._item_indent)
            return
        self._opening = found
        self._index += 1
        if self._streaming:
            blocks.append(self._block(closed=False))

    def _block(self, closed: bool) -> CodeBlock:
        assert self._opening is not None
        content, self._content = "".join(self._content), []
        info = self._opening["info"].strip(" \t")
        language = next(iter(info.split()), None)
        return CodeBlock(language, content, closed, info, self._index)


def code_blocks(*, streaming: bool = False) -> Callable[[Observable[str]], Stream[CodeBlock]]:
    r"""Markdown text into its fenced code blocks.

        --"See:\n"--"```py\n1"--"+1\n"--"```\n"--"Done."-|->
        ----------------------------------(py, 1+1)-------|->

    Args:
        streaming: True: emit each block in parts: an empty one when the opening fence is
            complete, then parts with the content since the previous part, and at the end
            one with `closed=True`. The parts of one block have the same `index`.
            False: emit each block when it is closed.

    Emits: a `CodeBlock` for each block, when the line of its closing fence has ended. The
        text between the blocks is dropped.
    Holds: a block until it is closed. In a streamed block, the current line while it may be
        the closing fence.
    Completes: after a block that was not closed, which has `closed=False`.
    Errors: after a block that was not closed, which has `closed=False`.
    Source: CommonMark 0.31, 4.5; a fence in a block quote, or directly after the mark of a
        list item, is not recognized.

    >>> import reactivex
    >>> answer = reactivex.of("See:\n``", "`py\n1", " + 1\n", "```\nDone.")
    >>> for block in Stream.of(answer).pipe(code_blocks()):
    ...     print(block.language, repr(block.content))
    py '1 + 1\n'
    """
    return machine_operator(lambda: CodeBlockParser(streaming), text_for("code_blocks"))
