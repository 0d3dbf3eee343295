"""Text to words, lines and paragraphs.

The joined items are the text, they do not depend on how the text was cut before, and each
character is inspected a fixed number of times. So buffered text is a list that is joined once,
and a run of white space or a line end is inspected only when it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reactivex import Observable

from ..rx.fluent import returning
from ..rx.state_machine import StateMachine, machine_operator
from .inputs import text_for
from .text_stream import TextStream

__all__ = ["LineEndSplitter", "paragraphs", "text_lines", "words"]

_find_runs = re.compile(r"\s+|\S+").findall

# A line feed, a carriage return not followed by one, or both: CommonMark 0.31, 2.1.
_LINE_END = r"(?:\r\n|\n|\r(?!\n))"
_split_lines = re.compile(rf"[^\r\n]*{_LINE_END}|[^\r\n]+").findall
_find_blank_lines = re.compile(rf"{_LINE_END}(?:[^\S\r\n]*{_LINE_END})+").search


class WhiteSpaceCutter(StateMachine[str, str]):
    """A machine that cuts text in some of its runs of white space.

    A run is complete when a visible character follows; `cut_in` returns the offset in it at
    which to cut, or None.
    """

    def __init__(self, cut_in: Callable[[str], int | None]) -> None:
        self._cut_in = cut_in
        self._item: list[str] = []
        self._white_space: list[str] = []  # after the item

    def feed(self, text: str) -> list[str]:
        items: list[str] = []
        for run in _find_runs(text):
            if run.isspace():
                self._white_space.append(run)
            else:
                if self._white_space:
                    self._end_white_space(items)
                self._item.append(run)
        return items

    def close(self) -> list[str]:
        text = "".join(self._item + self._white_space)
        self._item, self._white_space = [], []
        return [text] if text else []

    def _end_white_space(self, items: list[str]) -> None:
        run, self._white_space = "".join(self._white_space), []
        at = self._cut_in(run) if self._item else None
        if at is None:
            self._item.append(run)
        else:
            items.append("".join(self._item) + run[:at])
            self._item = [run[at:]] if at < len(run) else []


def _after_blank_lines(white_space: str) -> int | None:
    found = _find_blank_lines(white_space)
    return found and found.end()


class LineEndSplitter:
    """Splits text after its line ends; buffers a carriage return, which a line feed may follow."""

    def __init__(self) -> None:
        self._return = ""

    def feed(self, text: str) -> list[str]:
        if "\n" not in text and "\r" not in text and not self._return:
            return [text] if text else []  # the most frequent case
        text = self._return + text
        self._return = "\r" if text.endswith("\r") else ""
        return _split_lines(text[:-1] if self._return else text)

    def close(self) -> list[str]:
        buffered, self._return = self._return, ""
        return [buffered] if buffered else []


class LineCutter(StateMachine[str, str]):
    def __init__(self) -> None:
        self._splitter = LineEndSplitter()
        self._line: list[str] = []

    def feed(self, text: str) -> list[str]:
        return self._lines(self._splitter.feed(text))

    def close(self) -> list[str]:
        lines = self._lines(self._splitter.close())
        last, self._line = "".join(self._line), []
        return [*lines, last] if last else lines

    def _lines(self, parts: list[str]) -> list[str]:
        lines: list[str] = []
        for part in parts:
            self._line.append(part)
            if part[-1] in "\r\n":
                lines.append("".join(self._line))
                self._line = []
        return lines


def words() -> Callable[[Observable[str]], TextStream]:
    """Text into words, each with the white space after it.

        --"Hel"--"lo w"----"orld"-|-------->
        ---------"Hello "---------"world"|->

    Emits: runs of visible characters, with their punctuation, as `str.split` finds
        them; joined, they are the text. White space at the beginning of the text is part
        of the first word.
    Holds: a word until the next one begins. In languages that are written without
        spaces (Chinese, Japanese, Thai) that is a whole clause or paragraph.
    Completes: after the held text.
    Errors: after the held text.

    >>> import reactivex
    >>> list(TextStream.of(reactivex.of("Hel", "lo  wor", "ld!")).pipe(words()))
    ['Hello  ', 'world!']
    """
    return returning(TextStream, machine_operator(lambda: WhiteSpaceCutter(len), text_for("words")))


def text_lines() -> Callable[[Observable[str]], TextStream]:
    r"""Text into lines, each with its line end.

        --"a"--"b\nc"----"d"-|------>
        -------"ab\n"--------"cd"|-->

    Emits: lines that end in `"\n"`, `"\r\n"` or `"\r"`; the last one may have no line end.
        Joined, they are the text.
    Holds: a line until its end has arrived; one that ends in `"\r"` until the next
        character has arrived.
    Completes: after the held text.
    Errors: after the held text.
    Source: CommonMark 0.31, 2.1. Unlike in `str.splitlines`, no other character ends a
        line.

    >>> import reactivex
    >>> list(TextStream.of(reactivex.of("a\r", "\nb", "c\n", "d")).pipe(text_lines()))
    ['a\r\n', 'bc\n', 'd']
    """
    return returning(TextStream, machine_operator(LineCutter, text_for("text_lines")))


def paragraphs() -> Callable[[Observable[str]], TextStream]:
    r"""Text into paragraphs, each with the blank lines after it.

        --"a\n"--"\n"--"b"-----|----->
        ---------------"a\n\n"-"b"|-->

    Emits: the text between blank lines, that is, lines of white space, in fenced code too;
        joined, the paragraphs are the text. Blank lines at the beginning of the text are
        part of the first paragraph.
    Holds: a paragraph until the first visible character of the next one has arrived.
    Completes: after the held text.
    Errors: after the held text.

    >>> import reactivex
    >>> list(TextStream.of(reactivex.of("One\ntwo.\n", "\nThree.")).pipe(paragraphs()))
    ['One\ntwo.\n\n', 'Three.']
    """
    return returning(
        TextStream,
        machine_operator(lambda: WhiteSpaceCutter(_after_blank_lines), text_for("paragraphs")),
    )
