r"""Where in an answer its JSON begins.

# Strategy: an answer that is being streamed has to be judged by what has arrived, so the
# place is chosen by how a value begins, and by nothing that follows. There are three ranks.
#
# 1. The answer itself, or the content of a fenced code block, begins with a value of the
#    type's kind: an object for a Struct, an array for a list, a quote for a string.
# 2. Such a value stands among words, and its beginning is unmistakable: `{"`, `[{"`,
#    `["`, `[1,`. Braces that prose has do not count: `{x}`, `[see above]`, `[x]`.
# 3. At the end, if there was none of those: the first `{}`, `[]` or `[1]`, which prose has
#    too; then a number or word that the answer or a code block begins with; then the only
#    string, number, true, false or null that is of the type.
#
# A value of another kind is skipped as a whole: nobody wants what is inside of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from .growing_value import GrowingValue
from .shapes import Openers, Shape

__all__ = ["JsonStart", "decode_first"]

_BLANK = re.compile(r"[ \t\r\n\ufeff]*+")  # some begin with a byte order mark
_WORDS = re.compile(r"[^\n{\[]*+")

# A line that opens or closes a code block; and what may still become one. Bounded, since
# it is looked at again with each piece.
_FENCE = re.compile(r"[ \t]{0,9}+(?:`{3,9}+|~{3,9}+)[^`{\[\n]{0,99}+\n")
_FENCE_SO_FAR = re.compile(
    r"[ \t]{0,9}+(?:`{0,9}+|~{0,9}+)\Z|[ \t]{0,9}+[`~]{3,9}+[^`{\[\n]{0,99}+\Z"
)

_GAP = r"[ \t\r\n]{0,99}+"
_NUMBER = r"-?[0-9][0-9.eE+-]{0,40}+"
_VALUE = re.compile(
    rf"""
    (?P<spare>\{{\}}|\[\]|\[{_GAP}{_NUMBER}{_GAP}\])
  | (?P<object>\{{{_GAP}")
  | \[{_GAP}(?P<item>\{{{_GAP}["}}] | \[{_GAP}[\[{{"0-9\]-] | "
                    | {_NUMBER}(?={_GAP},) | (?:true|false|null)(?={_GAP}[,\]]))
    """,
    re.X,
)
_VALUE_SO_FAR = re.compile(
    rf"\{{{_GAP}\Z|\[{_GAP}(?:\Z|[\[{{]{_GAP}\Z|-?(?:{_NUMBER})?{_GAP}\Z|[a-z]{{1,5}}+{_GAP}\Z)"
)

_SCALAR = re.compile(
    r"""
    "(?:[^"\\\n]++|\\.)*+"
  | (?<!\w)(?:true|false|null)(?!\w)
  | (?<![\w.,:/+-])-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+
    (?![\w%]|[.,:/ \xa0\u202f-][0-9])
    """,
    re.X,
)
_NUMBERED_LINE = re.compile(r"[0-9]++\.[ \t]++\S")


class JsonStart:
    """Finds where the JSON of one answer begins.

    Attributes:
        found: Whether the value has begun.
        spare: A short value that prose might have too; empty if there was none.
    """

    def __init__(self, openers: Openers) -> None:
        self.found = False
        self.spare = ""
        self._scalar_at: int | None = None  # where a number or word begins, see 3.
        self._openers = openers
        self._held = ""
        self._passed = 0  # characters of the answer before those that are held
        self._may_begin = True  # the answer, or the content of a code block, begins here
        self._line_begins = True
        self._fenced = False
        self._skipped: GrowingValue | None = None

    def feed(self, text: str) -> str:
        """Returns as much of the text as belongs to the value or follows it."""
        return text if self.found else self._search(text)

    def _search(self, text: str) -> str:
        text, at = self._held + text, 0
        while at < len(text):
            before, at = at, self._pass(text, at)
            if self.found or at == before:  # it takes more to tell
                break
        self._held = "" if self.found else text[at:]
        self._passed += at
        return text[at:] if self.found else ""

    def first_scalar(self, text: str) -> str:
        """The number or word that the answer, of which this is all, begins with."""
        if self._scalar_at is None or _NUMBERED_LINE.match(text, self._scalar_at):
            return ""
        found = _SCALAR.match(text, self._scalar_at)
        return found[0] if found else ""

    def _pass(self, text: str, at: int) -> int:
        """Where it goes on; here, if the value begins or more has to arrive."""
        if self._skipped is not None:
            return self._pass_skipped(self._skipped, text, at)
        if self._may_begin:
            return self._pass_beginning(text, at)
        if self._line_begins:
            return self._pass_line_beginning(text, at)
        if text[at] in "{[":
            return self._pass_bracket(text, at)
        if text[at] == "\n":
            self._line_begins = True
            return at + 1
        return _end_of(_WORDS, text, at)

    def _pass_beginning(self, text: str, at: int) -> int:
        begin = _end_of(_BLANK, text, at)
        if begin == len(text):
            return begin
        self._may_begin = False
        if text[begin] in '{["':
            return self._begin(text, begin, text[begin] in self._openers.value)
        if text[begin] in self._openers.value and self._scalar_at is None:
            self._scalar_at = self._passed + begin
        return begin if begin > at else self._pass_line_beginning(text, at)

    def _pass_line_beginning(self, text: str, at: int) -> int:
        fence = _FENCE.match(text, at)
        if fence is None and _FENCE_SO_FAR.match(text, at):
            return at
        self._line_begins = False
        if fence is None:
            return self._pass(text, at)
        self._fenced = not self._fenced
        self._line_begins, self._may_begin = True, self._fenced
        return fence.end()

    def _pass_bracket(self, text: str, at: int) -> int:
        value = _VALUE.match(text, at)
        if value is None:
            return at if _VALUE_SO_FAR.match(text, at) else at + 1
        wanted = text[at] in self._openers.value and self._is_item(value["item"])
        if value["spare"] is None:
            return self._begin(text, at, wanted)
        if wanted and self._is_item(value["spare"][1:-1].strip()):
            self.spare = self.spare or value["spare"]
        return value.end()

    def _is_item(self, item: str | None) -> bool:
        return not item or item[0] in self._openers.item

    def _begin(self, text: str, at: int, wanted: bool) -> int:
        self._line_begins = False
        self.found = wanted
        if wanted:
            return at
        self._skipped = GrowingValue(Shape())
        return self._pass_skipped(self._skipped, text, at)

    def _pass_skipped(self, skipped: GrowingValue, text: str, at: int) -> int:
        end = at + skipped.feed(text[at:])
        if skipped.closed:
            self._skipped = None
        return end


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def decode_first(text: str, openers: Openers, decode: Callable[[str], Any]) -> Any:
    """Returns the value of a whole answer; raises whatever the decoder does."""
    start = JsonStart(openers)
    body = start.feed(text)
    if start.found:
        value = GrowingValue(Shape())
        return decode(body[: value.feed(body)])
    short = start.first_scalar(text) or start.spare
    if short:
        return decode(short)
    values = list(_scalars(text, openers, decode))
    if values and all(each == values[0] for each in values):
        return values[0]
    return decode(text.strip(" \t\r\n\ufeff"))  # which says what is wrong


def _scalars(text: str, openers: Openers, decode: Callable[[str], Any]) -> Iterator[Any]:
    """The strings, numbers and words among the words of an answer that are of the type."""
    for found in _SCALAR.finditer(text):
        if found[0][0] in openers.value:
            with suppress(Exception):  # a type's own check may raise anything
                yield decode(found[0])
