"""Text to words, lines and paragraphs.

Three facts hold for all of them: joined, the pieces are the text; how the text was cut
before they cut it does not change them; and each character is looked at a fixed number
of times. For that, what is held is a list that is joined once, when a piece is
complete, and what decides about a cut is never looked at before it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from reactivex import Observable

from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from .inputs import text_for

__all__ = ["LineCutter", "LineEnds", "WhiteSpaceCutter", "paragraphs", "text_lines", "words"]

_find_runs = re.compile(r"\s+|\S+").findall

# A line feed, a carriage return not followed by one, or both: CommonMark 0.31, 2.1.
_LINE_END = r"(?:\r\n|\n|\r(?!\n))"
_split_lines = re.compile(rf"[^\r\n]*{_LINE_END}|[^\r\n]+").findall
_find_blank_lines = re.compile(rf"{_LINE_END}(?:[^\S\r\n]*{_LINE_END})+").search


class WhiteSpaceCutter(StateMachine[str, str]):
    """Cuts text in some of its runs of white space.

    `place` gives the offset in a whole run at which to cut, or None. A run is whole when
    something visible follows. White space that begins the text belongs to what follows.
    """

    def __init__(self, place: Callable[[str], int | None]) -> None:
        self._place = place
        self._held: list[str] = []
        self._white: list[str] = []

    def feed(self, text: str) -> list[str]:
        pieces: list[str] = []
        for run in _find_runs(text):
            if run.isspace():
                self._white.append(run)
            else:
                if self._white:
                    self._turn(pieces)
                self._held.append(run)
        return pieces

    def close(self) -> list[str]:
        rest = "".join(self._held + self._white)
        self._held, self._white = [], []
        return [rest] if rest else []

    def _turn(self, pieces: list[str]) -> None:
        """Something visible has come after white space."""
        white = "".join(self._white)
        self._white = []
        at = self._place(white) if self._held else None
        if at is None:
            self._held.append(white)
        else:
            self._held.append(white[:at])
            pieces.append("".join(self._held))
            self._held = [white[at:]] if at < len(white) else []


def _after_blank_lines(white: str) -> int | None:
    found = _find_blank_lines(white)
    return found and found.end()


class LineEnds:
    """Splits text after its line ends; the last part may be without one.

    A carriage return is not let go before it is known whether a line feed follows.
    """

    def __init__(self) -> None:
        self._return = ""

    def feed(self, text: str) -> list[str]:
        if "\n" not in text and "\r" not in text and not self._return:
            return [text] if text else []  # most of what comes
        text = self._return + text
        self._return = "\r" if text.endswith("\r") else ""
        return _split_lines(text[:-1] if self._return else text)

    def close(self) -> list[str]:
        rest, self._return = self._return, ""
        return [rest] if rest else []


class LineCutter(StateMachine[str, str]):
    """Cuts text into lines, with their line ends."""

    def __init__(self) -> None:
        self._ends = LineEnds()
        self._held: list[str] = []

    def feed(self, text: str) -> list[str]:
        return self._join(self._ends.feed(text))

    def close(self) -> list[str]:
        lines = self._join(self._ends.close())
        rest, self._held = "".join(self._held), []
        return [*lines, rest] if rest else lines

    def _join(self, parts: list[str]) -> list[str]:
        lines: list[str] = []
        for part in parts:
            self._held.append(part)
            if part[-1] in "\r\n":
                lines.append("".join(self._held))
                self._held = []
        return lines


# --- the operators ---------------------------------------------------------------


def words() -> Callable[[Observable[str]], Stream[str]]:
    """Text into words, each with the white space behind it.

        --"Hel"--"lo w"----"orld"-|-------->
        ---------"Hello "---------"world"|->

    Emits: runs of visible characters, with their punctuation, as `str.split` finds
        them; joined, they are the text. White space that begins the text stands before
        the first word.
    Holds: a word until the next one begins. In languages that are written without
        blanks (Chinese, Japanese, Thai) that is a whole clause or paragraph.
    Completes: what is held is emitted before that.
    Errors: likewise, before the error.

    >>> import reactivex
    >>> list(Stream.of(reactivex.of("Hel", "lo  wor", "ld!")).pipe(words()))
    ['Hello  ', 'world!']
    """
    return machine_operator(lambda: WhiteSpaceCutter(len), text_for("words"))


def text_lines() -> Callable[[Observable[str]], Stream[str]]:
    r"""Text into lines, each with its line end.

        --"a"--"b\nc"----"d"-|------>
        -------"ab\n"--------"cd"|-->

    Emits: lines that end in `"\n"`, `"\r\n"` or `"\r"`, the last one perhaps in none;
        joined, they are the text.
    Holds: a line until its end has come; one that ends in `"\r"` until the next
        character has.
    Completes: what is held is emitted before that.
    Errors: likewise, before the error.
    Source: CommonMark 0.31, 2.1. Unlike `str.splitlines` it takes nothing else for a
        line end.

    >>> import reactivex
    >>> list(Stream.of(reactivex.of("a\r", "\nb", "c\n", "d")).pipe(text_lines()))
    ['a\r\n', 'bc\n', 'd']
    """
    return machine_operator(LineCutter, text_for("text_lines"))


def paragraphs() -> Callable[[Observable[str]], Stream[str]]:
    r"""Text into paragraphs, each with the blank lines behind it.

        --"a\n"--"\n"--"b"-----|----->
        ---------------"a\n\n"-"b"|-->

    Emits: what stands between blank lines, which are lines of nothing but white space,
        in fenced code too; joined, the paragraphs are the text. Blank lines that begin
        the text stand before the first one.
    Holds: a paragraph until the first visible character of the next one has come.
    Completes: what is held is emitted before that.
    Errors: likewise, before the error.

    >>> import reactivex
    >>> list(Stream.of(reactivex.of("One\ntwo.\n", "\nThree.")).pipe(paragraphs()))
    ['One\ntwo.\n\n', 'Three.']
    """
    return machine_operator(lambda: WhiteSpaceCutter(_after_blank_lines), text_for("paragraphs"))
