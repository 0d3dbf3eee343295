"""An incremental JSON parser: the value of a text so far, after each piece of it.

The text may be cut anywhere. A snapshot is an object of the requested type, and does not
change afterwards. Each character is inspected once, by regular expressions that run over
whole stretches of text: decoding the text so far again for each piece would be quadratic,
and so would converting a growing tree of dicts.

Strategy: a parser with a state function and

- `_stack`: the open containers that are shown while they grow, outermost first, each with
  its value so far;
- `_open_string`: the pieces of an open string that is shown while it grows;
- `_raw`: the text of an open value that is atomic, that is, shown only when it is whole.
  It is skipped, not parsed; when it ends, msgspec decodes it to its type.

A snapshot costs one shallow copy of each open container (all else is shared) and of the
open string. These copies would be quadratic for a list of thousands of items, or a string
as long as a chapter. So a heavy value changes only when the text has grown by a 128th since
the last snapshot: all copies together are then at most about a hundred times the whole, in
time, and in memory if all snapshots are kept.

Only as much of the grammar is checked as is needed to find the way. At its end msgspec
decodes the text as a whole, and that result counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import UNSET

from ...lenient_decoding import decoder
from .schema import ContainerSchema, Schema, TaggedUnion

__all__ = ["IncrementalParser", "end_of"]

_MAX_DEPTH = 32  # open containers that are shown while they grow; deeper ones are atomic

_LIGHT_ITEMS = 256  # items of open containers that may be copied for each piece of text
_CHARS_PER_ITEM = 16  # characters of an open string that cost as much to copy as an item
_HEAVY_FRACTION = 128  # of the text: a heavy value is shown when the text has grown by this

_SPACE = re.compile(r"[ \t\n\r]*+")  # RFC 8259, 2: ws
_SCALAR = re.compile(r'[^ \t\n\r,:"\[\]{}]*+')
_KEY = re.compile(r'"([^"\\]*+)"[ \t\n\r]*+:')
_STRING_CONTENT = re.compile(r'(?:[^"\\]++|\\.)*+', re.S)
_NO_BRACKET = re.compile(r'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.S)

# RFC 8259, 7: the complete characters of a string, surrogate pairs among them; and raw
# control characters, see `lenient_decoding`.
_COMPLETE_CHARS = re.compile(
    r"""(?:
        [^"\\]++
      | \\["\\/bfnrt]
      | \\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}
      | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
    )*+""",
    re.X,
)
_LONGEST_ESCAPE = len(r"\ud83d\ude00")

# The first key of an object and its value, if that may be a tag; and the beginnings of
# such a text. Bounded, since they are matched again with each piece.
_GAP = r"[ \t\n\r]{0,99}+"
_TAGGED = re.compile(
    rf'\{{{_GAP}"([^"\\]{{0,99}}+)"{_GAP}:{_GAP}("[^"\\]{{0,99}}+"|-?[0-9]{{1,19}}+(?=[\s,}}]))'
)
_TAGGED_SO_FAR = re.compile(
    rf'\{{{_GAP}(?:\Z|"[^"\\]{{0,99}}+(?:\Z|"{_GAP}(?:\Z|:{_GAP}(?:\Z|"[^"\\]{{0,99}}+\Z|-?[0-9]{{0,19}}+\Z))))'
)

_MALFORMED = "JSON is malformed"
_decode = decoder(Any)
_IGNORED = Schema()


class _OpenContainer:
    """An array or object that is not closed yet.

    `key`, in an array the index, and `member_schema` belong to the current member.
    """

    def __init__(self, schema: ContainerSchema) -> None:
        self.schema = schema
        self.value = schema.new()
        self.is_unshared = True  # in no snapshot, so that it may be changed without a copy
        self.key: str | int = ""
        self._name, self.member_schema = "", _IGNORED
        self.is_array = schema.closer == "]"
        if self.is_array:
            self.enter(0)

    def enter(self, key: str | int) -> None:
        self.key = key
        self._name, self.member_schema = self.schema.member(key) or ("", _IGNORED)

    def end_member(self) -> None:
        if isinstance(self.key, int):
            self.enter(self.key + 1)

    def put(self, item: Any) -> bool:
        """Sets the current member; returns whether it differs from before or its default."""
        old = self.schema.get(self.value, self._name)
        self.replace(item)
        return old is UNSET or bool(old != item)

    def replace(self, item: Any) -> None:
        if not self.is_unshared:
            self.value, self.is_unshared = self.schema.copy(self.value), True
        self.schema.set(self.value, self._name, item)


class IncrementalParser:
    """A parser of one JSON value, which has the value so far at any time."""

    def __init__(self, schema: Schema) -> None:
        self.closed = False  # whether the value is complete
        self._value: Any = None
        self._changed = False
        self._stack: list[_OpenContainer] = []
        self._schema = schema  # of the next value
        self._state: Callable[[str, int], int] = self._expect_value
        self._undecided = ""  # text that depends on more of it; short
        self._open_string: list[str] | None = None
        self._string_length = 0  # characters of the open string
        self._text_length = 0  # characters received
        self._snapshot_length = 0  # characters received at the last snapshot
        self._raw: list[str] = []
        self._depth = 0  # of the brackets in the raw text
        self._decode_raw: Callable[[str], None] = self._decode_value

    def feed(self, text: str) -> int:
        """Parses more text; returns how many of its characters belong to the value.

        Raises:
            Exception: The text is not a value of the type.
        """
        before, self._undecided = self._undecided, ""
        self._text_length += len(text)
        text, at = before + text, 0
        while at < len(text) and not self.closed:
            at = self._state(text, at)
        return at - len(before)

    def snapshot(self, *, force: bool = False) -> tuple[bool, Any]:
        """Returns whether the value has changed since the last snapshot, and the value.

        A heavy value counts as unchanged until the text has grown by a 128th, unless `force`.
        """
        if not force and self._is_heavy():
            return False, None
        if self._open_string is not None:
            self._put(_join_in_place(self._open_string))
        for parent, child in zip(self._stack[-2::-1], self._stack[::-1], strict=False):
            if child.is_unshared:
                parent.replace(child.value)
        for container in self._stack:
            container.is_unshared = False
        changed, self._changed = self._changed, False
        self._snapshot_length = self._text_length
        return changed, self._stack[0].value if self._stack else self._value

    def _is_heavy(self) -> bool:
        weight = self._string_length // _CHARS_PER_ITEM
        for container in self._stack:
            weight += container.schema.size(container.value)
        grown = (self._text_length - self._snapshot_length) * _HEAVY_FRACTION
        return weight > _LIGHT_ITEMS and grown < self._text_length

    def path(self) -> str:
        """Returns the path of the current value in msgspec's notation."""
        keys = [f"[{each.key}]" if each.is_array else f".{each.key}" for each in self._stack]
        return "$" + "".join(keys)

    @property
    def raw(self) -> str:
        """Returns the text so far of the open atomic value."""
        return "".join(self._raw)

    def _put(self, value: Any) -> None:
        if self._stack:
            self._changed |= self._stack[-1].put(value)
        else:
            self._changed |= value != self._value
            self._value = value

    # --- state functions: each parses the text from `at` on, and returns where it ended ---

    def _expect_value(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        opener, schema = text[at], self._schema
        if opener == '"' and schema.partial_strings:
            self._open_string, self._string_length, self._state = [], 0, self._in_open_string
            return at + 1
        if opener in "[{" and len(self._stack) < _MAX_DEPTH:
            container = schema.array if opener == "[" else schema.object
            if container is not None:
                return self._open(container, at)
            if opener == "{" and schema.union is not None:
                return self._open_tagged(text, at, schema.union)
        return self._begin_atomic(opener, at)

    def _open(self, schema: ContainerSchema, at: int) -> int:
        container = _OpenContainer(schema)
        self._put(container.value)
        self._stack.append(container)
        self._state = self._expect_first
        return at + 1

    def _open_tagged(self, text: str, at: int, union: TaggedUnion) -> int:
        """Opens an object of a union, if its first key is the tag: without its tag nothing
        of the object is certain."""
        found = _TAGGED.match(text, at)
        if found is None and _TAGGED_SO_FAR.match(text, at):
            self._undecided = text[at:]
            return len(text)
        schema = None
        if found is not None and found[1] == union.tag_field:
            schema = union.objects.get(_decode(found[2]))
        return self._begin_atomic("{", at) if schema is None else self._open(schema, at)

    def _in_open_string(self, text: str, at: int) -> int:
        found = _COMPLETE_CHARS.match(text, at)
        assert found is not None  # it matches the empty string
        assert self._open_string is not None
        piece, at = found[0], found.end()
        piece = _decode(f'"{piece}"') if "\\" in piece else piece
        self._open_string.append(piece)
        self._string_length += len(piece)
        if text[at : at + 1] == '"':
            self._put(_join_in_place(self._open_string))
            self._open_string, self._string_length = None, 0
            self._end_value()
            return at + 1
        if at < len(text) and (text[at] != "\\" or len(text) - at >= _LONGEST_ESCAPE):
            raise ValueError(_MALFORMED)
        self._undecided = text[at:]
        return len(text)

    def _expect_first(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if text[at : at + 1] == self._stack[-1].schema.closer:
            self._close()
            return at + 1
        if at < len(text):
            self._expect_member()
        return at

    def _expect_member(self) -> None:
        container = self._stack[-1]
        self._state = self._expect_value if container.is_array else self._expect_key
        self._schema = container.member_schema

    def _expect_key(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        found = _KEY.match(text, at)
        if found is not None:
            self._enter_key(found[1])
            return found.end()
        if at == len(text):
            return at
        if text[at] != '"':
            raise ValueError(_MALFORMED)
        self._decode_raw = self._decode_key
        return self._begin_atomic('"', at)

    def _decode_key(self, text: str) -> None:
        self._enter_key(_decode(text))
        self._state = self._expect_colon

    def _enter_key(self, key: str) -> None:
        self._stack[-1].enter(key)
        self._state, self._schema = self._expect_value, self._stack[-1].member_schema

    def _expect_colon(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at < len(text):
            if text[at] != ":":
                raise ValueError(_MALFORMED)
            self._state = self._expect_value
        return at + 1

    def _expect_comma_or_closer(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at == len(text):
            return at
        if text[at] == ",":
            self._expect_member()
        elif text[at] == self._stack[-1].schema.closer:
            self._close()
        else:
            raise ValueError(_MALFORMED)
        return at + 1

    def _close(self) -> None:
        container = self._stack.pop()
        before, value = container.value, container.schema.finish(container.value)
        self._changed |= value is not before and value != before
        if self._stack:
            self._stack[-1].replace(value)
        else:
            self._value = value
        self._end_value()

    def _end_value(self) -> None:
        self._state = self._expect_comma_or_closer
        if self._stack:
            self._stack[-1].end_member()
        else:
            self.closed = True

    # --- atomic values ---

    def _begin_atomic(self, opener: str, at: int) -> int:
        self._raw, self._depth = [], 0
        if opener == '"':
            self._raw, self._state = ['"'], self._in_string
            return at + 1
        self._state = self._in_container if opener in "[{" else self._in_scalar
        return at

    def _in_scalar(self, text: str, at: int) -> int:
        end = end_of(_SCALAR, text, at)
        self._raw.append(text[at:end])
        if end < len(text):
            self._end_atomic()
        return end

    def _in_string(self, text: str, at: int) -> int:
        end = end_of(_STRING_CONTENT, text, at)
        if text[end : end + 1] == '"':
            self._raw.append(text[at : end + 1])
            if self._depth:
                self._state = self._in_container
            else:
                self._end_atomic()
            return end + 1
        self._raw.append(text[at:end])
        self._undecided = text[end:]  # half an escape, or nothing
        return len(text)

    def _in_container(self, text: str, at: int) -> int:
        start = at
        while (at := end_of(_NO_BRACKET, text, at)) < len(text):
            char, at = text[at], at + 1
            if char == '"':  # an open string
                self._state = self._in_string
                break
            self._depth += 1 if char in "[{" else -1
            if not self._depth:
                self._raw.append(text[start:at])
                self._end_atomic()
                return at
        self._raw.append(text[start:at])
        return at

    def _end_atomic(self) -> None:
        decode, self._decode_raw = self._decode_raw, self._decode_value
        decode("".join(self._raw))

    def _decode_value(self, text: str) -> None:
        if self._schema.decode is not None:
            self._put(self._schema.decode(text))
        self._raw = []
        self._end_value()


def _join_in_place(pieces: list[str]) -> str:
    """Returns the joined pieces, and replaces them, so that each is joined only once."""
    pieces[:] = ["".join(pieces)]
    return pieces[0]


def end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Returns the end of the pattern's match at this offset; the offset if there is none."""
    found = pattern.match(text, at)
    return found.end() if found else at


def _skip_space(text: str, at: int) -> int:
    return end_of(_SPACE, text, at)
