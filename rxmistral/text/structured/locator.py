r"""The place in an answer at which its JSON begins.

Strategy: a streamed answer offers only its text so far. So the place is chosen by how a
value begins, never by the text after that. There are three ranks.

1. The answer itself, or the content of a fenced code block, begins with a value of the
   type's kind: an object for a Struct, an array for a list, a quote for a string.
2. Such a value is among words, and its beginning is unmistakable: `{"`, `[{"`,
   `["`, `[1,`. Brackets that occur in prose do not count: `{x}`, `[see above]`, `[x]`.
3. At the end, if there was none of those: the first `{}`, `[]` or `[1]`, which occur in
   prose too; then a number or word that the answer or a code block begins with; then the
   only string, number, true, false or null that is of the type.

A value of another kind is skipped as a whole, with everything inside of it. One object is not:
a response format has an object `{"value": ...}` around a value that is not an object itself, since
services require one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from msgspec import inspect

from ...pydantic_models import is_root_model
from .incremental_parser import IncrementalParser, end_of
from .schema import Schema

__all__ = ["FirstCharacters", "JsonLocator", "decode_first", "first_characters_of"]

_BLANK = re.compile(r"[ \t\r\n\ufeff]*+")  # some answers begin with a byte order mark
_WORDS = re.compile(r"[^\n{\[]*+")

# A line that opens or closes a code block; and the beginnings of such a line. Bounded, since
# they are matched again with each piece.
_FENCE = re.compile(r"[ \t]{0,9}+(?:`{3,9}+|~{3,9}+)[^`{\[\n]{0,99}+\n")
_FENCE_SO_FAR = re.compile(
    r"[ \t]{0,9}+(?:`{0,9}+|~{0,9}+)\Z|[ \t]{0,9}+[`~]{3,9}+[^`{\[\n]{0,99}+\Z"
)

_GAP = r"[ \t\r\n]{0,99}+"
_WRAPPER = re.compile(rf'\{{{_GAP}"value"{_GAP}:')
_WRAPPER_SO_FAR = re.compile(rf'\{{{_GAP}(?:\Z|"[a-z]{{0,5}}+(?:\Z|"{_GAP}\Z))')
_NUMBER = r"-?[0-9][0-9.eE+-]{0,40}+"
_VALUE = re.compile(
    rf"""
    (?P<fallback>\{{\}}|\[\]|\[{_GAP}{_NUMBER}{_GAP}\])
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


class JsonLocator:
    """Finds where the JSON of one answer begins."""

    def __init__(self, first: FirstCharacters) -> None:
        self.found = False  # whether the value has begun
        self.fallback = ""  # the first short value that might be prose
        self._scalar_offset: int | None = None  # of a number or word of rank 3
        self._first = first
        self._undecided = ""
        self._offset = 0  # of `_undecided` in the answer
        self._at_content_start = True  # of the answer, or of a code block
        self._at_line_start = True
        self._in_code_block = False
        self._skipped: IncrementalParser | None = None

    def feed(self, text: str) -> str:
        """Returns as much of the text as belongs to the value or follows it."""
        if self.found:
            return text
        text, at = self._undecided + text, 0
        while at < len(text):
            before, at = at, self._advance(text, at)
            if self.found or at == before:  # undecided without more text
                break
        self._undecided = "" if self.found else text[at:]
        self._offset += at
        return text[at:] if self.found else ""

    def first_scalar(self, text: str) -> str:
        """Returns the number or word that the whole answer begins with, or ""."""
        if self._scalar_offset is None:
            return ""
        text = text[self._scalar_offset :]
        found = None if _NUMBERED_LINE.match(text) else _SCALAR.match(text)
        return found[0] if found else ""

    def _advance(self, text: str, at: int) -> int:
        """Returns where to continue: here, if the value begins or more text is needed."""
        if self._skipped is not None:
            return self._skip(self._skipped, text, at)
        if self._at_content_start:
            return self._begin_content(text, at)
        if self._at_line_start:
            return self._begin_line(text, at)
        if text[at] in "{[":
            return self._inspect_bracket(text, at)
        if text[at] == "\n":
            self._at_line_start = True
            return at + 1
        return end_of(_WORDS, text, at)

    def _begin_content(self, text: str, at: int) -> int:
        begin = end_of(_BLANK, text, at)
        if begin == len(text):
            return begin
        if text[begin] == "{" and "{" not in self._first.value:
            wrapper = _WRAPPER.match(text, begin)
            if wrapper is not None:
                return wrapper.end()
            if _WRAPPER_SO_FAR.match(text, begin):
                return begin
        self._at_content_start = False
        if text[begin] in '{["':
            return self._begin_value(text, begin, text[begin] in self._first.value)
        if text[begin] in self._first.value and self._scalar_offset is None:
            self._scalar_offset = self._offset + begin
        return begin if begin > at else self._begin_line(text, at)

    def _begin_line(self, text: str, at: int) -> int:
        fence = _FENCE.match(text, at)
        if fence is None and _FENCE_SO_FAR.match(text, at):
            return at
        self._at_line_start = False
        if fence is None:
            return self._advance(text, at)
        self._in_code_block = not self._in_code_block
        self._at_line_start, self._at_content_start = True, self._in_code_block
        return fence.end()

    def _inspect_bracket(self, text: str, at: int) -> int:
        value = _VALUE.match(text, at)
        if value is None:
            return at if _VALUE_SO_FAR.match(text, at) else at + 1
        is_wanted = text[at] in self._first.value and self._may_be_item(value["item"])
        if value["fallback"] is None:
            return self._begin_value(text, at, is_wanted)
        if is_wanted and self._may_be_item(value["fallback"][1:-1].strip()):
            self.fallback = self.fallback or value["fallback"]
        return value.end()

    def _may_be_item(self, item: str | None) -> bool:
        return not item or item[0] in self._first.item

    def _begin_value(self, text: str, at: int, is_wanted: bool) -> int:
        self._at_line_start = False
        self.found = is_wanted
        if is_wanted:
            return at
        self._skipped = IncrementalParser(Schema())
        return self._skip(self._skipped, text, at)

    def _skip(self, skipped: IncrementalParser, text: str, at: int) -> int:
        end = at + skipped.feed(text[at:])
        if skipped.closed:
            self._skipped = None
        return end


def decode_first(text: str, first: FirstCharacters, decode: Callable[[str], Any]) -> Any:
    """Returns the value in a whole answer; raises the error of the decoder."""
    locator = JsonLocator(first)
    body = locator.feed(text)
    if locator.found:
        return decode(body[: IncrementalParser(Schema()).feed(body)])
    short = locator.first_scalar(text) or locator.fallback
    if short:
        return decode(short)
    values: list[Any] = []
    for scalar in _SCALAR.finditer(text):
        if scalar[0][0] in first.value:
            with suppress(Exception):  # `__post_init__` may raise anything
                values.append(decode(scalar[0]))
    if values and all(each == values[0] for each in values):
        return values[0]
    return decode(text.strip(" \t\r\n\ufeff"))  # its error names the problem


# --- the first characters of a type ------------------------------------------------

_DIGITS = "-0123456789"
_ANY = '{["tfn' + _DIGITS
_FIRST_CHARACTERS: dict[type[inspect.Type], str] = {
    **dict.fromkeys((inspect.AnyType, inspect.RawType), _ANY),
    inspect.NoneType: "n",
    inspect.BoolType: "tf",
    **dict.fromkeys((inspect.IntType, inspect.FloatType), _DIGITS),
    inspect.DecimalType: '"' + _DIGITS,
    **dict.fromkeys((inspect.DictType, inspect.TypedDictType, inspect.DataclassType), "{"),
    **dict.fromkeys((inspect.NamedTupleType, inspect.TupleType, inspect.VarTupleType), "["),
    **dict.fromkeys((inspect.ListType, inspect.SetType, inspect.FrozenSetType), "["),
}  # the others, such as dates and bytes, are strings


class FirstCharacters(NamedTuple):
    """The characters that the JSON of a value of a type may begin with."""

    value: str
    item: str  # of the first item, if the value is an array


def first_characters_of(type: Any) -> FirstCharacters:
    node = inspect.type_info(type)
    return FirstCharacters(_first_of(node), _first_of_items(node))


def _first_of(node: inspect.Type) -> str:
    if isinstance(node, inspect.Metadata):
        return _first_of(node.type)
    if isinstance(node, inspect.UnionType):
        return "".join(map(_first_of, node.types))
    if isinstance(node, inspect.StructType):
        return "[" if node.array_like else "{"
    if isinstance(node, inspect.CustomType):  # a pydantic model
        return _ANY if is_root_model(node.cls) else "{"
    if isinstance(node, inspect.LiteralType):
        return _first_of_values(node.values)
    if isinstance(node, inspect.EnumType):
        return _first_of_values(each.value for each in node.cls)
    return _FIRST_CHARACTERS.get(type(node), '"')


def _first_of_values(values: Iterable[Any]) -> str:
    return "".join('"' if isinstance(each, str) else _DIGITS for each in values)


def _first_of_items(node: inspect.Type) -> str:
    if isinstance(node, inspect.Metadata):
        return _first_of_items(node.type)
    if isinstance(node, inspect.UnionType):
        return "".join(map(_first_of_items, node.types))
    if isinstance(node, inspect.TupleType):
        return "".join(map(_first_of, node.item_types[:1]))
    item = getattr(node, "item_type", None)
    return _ANY if item is None else _first_of(item)
