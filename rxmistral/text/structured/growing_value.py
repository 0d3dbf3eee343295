"""A JSON value while it comes.

What it must do: take a text cut anywhere, and after each piece have the value of what
has come so far, as an object of the type that was asked for. What was given away must
not change afterwards.

What it may cost: each character is looked at once, by regular expressions that run
over whole stretches of text. Decoding the text so far again for each piece, partial or
not, is quadratic, and so is converting a growing tree of dicts.

The way: a scanner that keeps

- `_frames`: the containers that are open and shown as they grow, outermost first, each
  with the value that it has so far;
- `_open_string`: the pieces of the string that is open and shown as it grows;
- `_pieces`: the text of the one value that is open and shown when it is whole. It is
  skipped, not parsed; when it ends msgspec decodes it, with its type.

A piece costs its characters, one decoding for each value that became whole in it, and,
when the value is given away, one shallow copy of each open container (they share all
that did not change) and of the open string. Those copies would be quadratic in a list
of thousands or a string of a book's chapter. So what is heavy is given away when the
text has grown by a 128th since: all copies together are then at most some hundred
times the whole, in time and in the memory of who keeps them all.

Only as much of the grammar is checked as it takes to find the way. The text as a whole
is decoded by msgspec when it has ended, and that is what counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from msgspec import UNSET

from ...model_json import decoder
from .shapes import Kinds, Record, Shape

__all__ = ["GrowingValue", "MalformedError"]

_DEEPEST = 32  # open containers; what is deeper is shown when it is whole

_LIGHT = 256  # items of open containers that may be copied for each piece of text
_ITEM = 16  # characters of an open string that cost as much to copy as an item
_STEP = 128  # what is heavy is shown when the text has grown by this part of it

_SPACE = re.compile(r"[ \t\n\r]*+")  # RFC 8259, 2: ws
_SCALAR = re.compile(r'[^ \t\n\r,:"\[\]{}]*+')
_KEY = re.compile(r'"([^"\\]*+)"[ \t\n\r]*+:')
_STRING_REST = re.compile(r'(?:[^"\\]++|\\.)*+', re.S)
_NO_BRACKET = re.compile(r'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.S)

# RFC 8259, 7: the characters of a string that are certain, surrogate pairs among them;
# and raw control characters, see `model_json`.
_CERTAIN = re.compile(
    r"""(?:
        [^"\\]++
      | \\["\\/bfnrt]
      | \\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}
      | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
    )*+""",
    re.X,
)
_LONGEST_ESCAPE = len(r"\ud83d\ude00")

# The first key of an object and its value, where that may be a tag; and what may still
# become that. Bounded, since it is looked at again with each piece.
_GAP = r"[ \t\n\r]{0,99}+"
_TAGGED = re.compile(
    rf'\{{{_GAP}"([^"\\]{{0,99}}+)"{_GAP}:{_GAP}("[^"\\]{{0,99}}+"|-?[0-9]{{1,19}}+(?=[\s,}}]))'
)
_TAGGED_SO_FAR = re.compile(
    rf'\{{{_GAP}(?:\Z|"[^"\\]{{0,99}}+(?:\Z|"{_GAP}(?:\Z|:{_GAP}(?:\Z|"[^"\\]{{0,99}}+\Z|-?[0-9]{{0,19}}+\Z))))'
)

_decode = decoder(Any)


class MalformedError(ValueError):
    """The text is not JSON."""

    def __init__(self) -> None:
        super().__init__("JSON is malformed")


class GrowingValue:
    """The value of one JSON text.

    Attributes:
        closed: All of the value has come; what follows is not its own.
    """

    def __init__(self, shape: Shape) -> None:
        self.closed = False
        self._value: Any = None
        self._changed = False
        self._frames: list[_Object | _Array] = []
        self._shape = shape  # of the value that comes next
        self._step: Callable[[str, int], int] = self._begin
        self._tail = ""  # what is not certain before more has come; short
        self._open_string: list[str] | None = None
        self._length = 0  # of the string
        self._size = 0  # of the text
        self._size_taken = 0  # when the value was taken last
        self._pieces: list[str] = []
        self._depth = 0  # of the brackets in the pieces
        self._after_string = self._end_whole
        self._use: Callable[[str], None] = self._use_value

    def feed(self, text: str) -> int:
        """Take more of the text.

        Returns:
            How much of it belongs to the value: all, unless the value has closed.

        Raises:
            Exception: Whatever says that the text is no value of the type.
        """
        held, self._tail = self._tail, ""
        self._size += len(text)
        text, at = held + text, 0
        while at < len(text) and not self.closed:
            at = self._step(text, at)
        return at - len(held)

    def take(self, *, late: bool = False) -> tuple[bool, Any]:
        """Whether the value has changed since it was taken last, and the value.

        What it gives is never changed afterwards. A heavy value is said not to have
        changed until the text has grown by a 128th, or it is getting late.
        """
        if not late and self._is_heavy():
            return False, None
        if self._open_string is not None:
            self._put(_joined(self._open_string))
        for parent, child in reversed(list(pairwise(self._frames))):
            if child.fresh:
                parent.replace(child.value)
        for frame in self._frames:
            frame.fresh = False
        changed, self._changed = self._changed, False
        self._size_taken = self._size
        return changed, self._frames[0].value if self._frames else self._value

    def _is_heavy(self) -> bool:
        weight = self._length // _ITEM + sum(frame.size() for frame in self._frames)
        return weight > _LIGHT and (self._size - self._size_taken) * _STEP < self._size

    def place(self, index: int) -> str:
        """Where the text is now, as msgspec writes it, in an array at this index."""
        places = (f".{f.key}" if isinstance(f, _Object) else f"[{index}]" for f in self._frames)
        return "$" + "".join(places)

    @property
    def unread(self) -> str:
        """What has come of the value that is shown when it is whole."""
        return "".join(self._pieces)

    def _put(self, value: Any) -> None:
        if self._frames:
            self._changed |= self._frames[-1].put(value)
        else:
            self._changed |= value != self._value
            self._value = value

    # --- the steps: each takes the text from `at` on, and says how far it came ---

    def _begin(self, text: str, at: int) -> int:
        """A value begins."""
        at = _skip_space(text, at)
        if at == len(text):
            return at
        opener, shape = text[at], self._shape
        if opener == '"' and shape.text:
            self._open_string, self._length, self._step = [], 0, self._grow
            return at + 1
        if opener in "[{" and len(self._frames) < _DEEPEST:
            if opener == "[" and (item := shape.item) is not None:
                return self._open(_Array(shape.open_array(), item), self._first_item, at)
            if opener == "{" and shape.record is not None:
                return self._open(_Object(shape.record), self._first_key, at)
            if opener == "{" and shape.kinds is not None:
                return self._begin_tagged(text, at, shape.kinds)
        return self._begin_whole(opener, at)

    def _open(self, frame: _Object | _Array, step: Callable[[str, int], int], at: int) -> int:
        self._put(frame.value)
        self._frames.append(frame)
        self._step = step
        return at + 1

    def _begin_tagged(self, text: str, at: int, kinds: Kinds) -> int:
        """An object of a union grows if its tag comes first: nothing of it is certain
        before."""
        found = _TAGGED.match(text, at)
        if found is None and _TAGGED_SO_FAR.match(text, at):
            self._tail = text[at:]
            return len(text)
        record = None
        if found is not None and found[1] == kinds.tag_field:
            record = kinds.records.get(_decode(found[2]))
        if record is None:
            return self._begin_whole("{", at)
        return self._open(_Object(record), self._first_key, at)

    def _grow(self, text: str, at: int) -> int:
        """In a string that is shown as it grows."""
        found = _CERTAIN.match(text, at)
        assert found is not None  # it matches the empty string
        assert self._open_string is not None
        piece, at = found[0], found.end()
        piece = _decode(f'"{piece}"') if "\\" in piece else piece
        self._open_string.append(piece)
        self._length += len(piece)
        if text[at : at + 1] == '"':
            self._put(_joined(self._open_string))
            self._open_string, self._length = None, 0
            self._end_value()
            return at + 1
        if at < len(text) and (text[at] != "\\" or len(text) - at >= _LONGEST_ESCAPE):
            raise MalformedError
        self._tail = text[at:]
        return len(text)

    def _first_item(self, text: str, at: int) -> int:
        return self._first(text, at, "]", self._begin)

    def _first_key(self, text: str, at: int) -> int:
        return self._first(text, at, "}", self._key)

    def _first(self, text: str, at: int, closer: str, step: Callable[[str, int], int]) -> int:
        at = _skip_space(text, at)
        if text[at : at + 1] == closer:
            self._close()
            return at + 1
        if at < len(text):
            self._step, self._shape = step, self._frames[-1].shape
        return at

    def _key(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        found = _KEY.match(text, at)
        if found is not None:
            self._name(found[1])
            return found.end()
        if at < len(text):
            if text[at] != '"':
                raise MalformedError
            self._use = self._use_key
            at = self._begin_whole('"', at)
        return at

    def _use_key(self, text: str) -> None:
        self._name(_decode(text))
        self._step = self._colon

    def _name(self, key: str) -> None:
        frame = self._frames[-1]
        assert isinstance(frame, _Object)
        frame.enter(key)
        self._step, self._shape = self._begin, frame.shape

    def _colon(self, text: str, at: int) -> int:
        at = _skip_space(text, at)
        if at < len(text):
            if text[at] != ":":
                raise MalformedError
            self._step = self._begin
        return at + 1

    def _next(self, text: str, at: int) -> int:
        """After a value in a container."""
        at = _skip_space(text, at)
        if at == len(text):
            return at
        frame = self._frames[-1]
        if text[at] == ",":
            self._step = self._key if isinstance(frame, _Object) else self._begin
            frame.advance()
            self._shape = frame.shape
        elif text[at] == frame.closer:
            self._close()
        else:
            raise MalformedError
        return at + 1

    def _close(self) -> None:
        frame = self._frames.pop()
        before, value = frame.value, frame.finished()
        self._changed |= value is not before and value != before
        if self._frames:
            self._frames[-1].replace(value)
        else:
            self._value = value
        self._end_value()

    def _end_value(self) -> None:
        self._step = self._next
        self.closed = not self._frames

    # --- values that are shown when they are whole ---

    def _begin_whole(self, opener: str, at: int) -> int:
        if opener == '"':
            self._pieces, self._after_string = ['"'], self._end_whole
            self._step = self._string
            return at + 1
        self._pieces, self._depth = [], 0
        self._step = self._container if opener in "[{" else self._scalar
        return at

    def _scalar(self, text: str, at: int) -> int:
        end = _end_of(_SCALAR, text, at)
        self._pieces.append(text[at:end])
        if end < len(text):
            self._end_whole()
        return end

    def _string(self, text: str, at: int) -> int:
        end = _end_of(_STRING_REST, text, at)
        if text[end : end + 1] == '"':
            self._pieces.append(text[at : end + 1])
            self._after_string()
            return end + 1
        self._pieces.append(text[at:end])
        self._tail = text[end:]  # half an escape, or nothing
        return len(text)

    def _container(self, text: str, at: int) -> int:
        begin = at
        while (at := _end_of(_NO_BRACKET, text, at)) < len(text):
            char, at = text[at], at + 1
            if char == '"':  # a string that has not ended yet
                self._after_string, self._step = self._resume_container, self._string
                break
            self._depth += 1 if char in "[{" else -1
            if not self._depth:
                self._pieces.append(text[begin:at])
                self._end_whole()
                return at
        self._pieces.append(text[begin:at])
        return at

    def _resume_container(self) -> None:
        self._step = self._container

    def _end_whole(self) -> None:
        use, self._use = self._use, self._use_value
        use("".join(self._pieces))

    def _use_value(self, text: str) -> None:
        if self._shape.decode is not None:
            self._put(self._shape.decode(text))
        self._pieces = []
        self._end_value()


def _joined(pieces: list[str]) -> str:
    """The text of the pieces, which become one: each is copied once for each look."""
    pieces[:] = ["".join(pieces)]
    return pieces[0]


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _skip_space(text: str, at: int) -> int:
    return _end_of(_SPACE, text, at)


# --- open containers -------------------------------------------------------------

_IGNORED = Shape()


class _Object:
    """An object that is open.

    Attributes:
        value: What it has so far.
        fresh: Nobody has seen the value yet: it may be changed rather than copied.
        shape: Of the value that comes next.
    """

    closer = "}"

    def __init__(self, record: Record) -> None:
        self.value = record.blank()
        self.fresh = True
        self.shape = _IGNORED
        self.key = ""
        self._record = record
        self._name = ""

    def enter(self, key: str) -> None:
        """A key has come: it says what the next value is."""
        self.key = key
        self._name, self.shape = self._record.field(key) or ("", _IGNORED)

    def put(self, item: Any) -> bool:
        """Whether it is another value than the default that stood there."""
        old = self._record.get(self.value, self._name)
        self.replace(item)
        return old is UNSET or bool(old != item)

    def replace(self, item: Any) -> None:
        if not self.fresh:
            self.value, self.fresh = self._record.copy(self.value), True
        self._record.set(self.value, self._name, item)

    def size(self) -> int:
        return self._record.size(self.value)

    def advance(self) -> None:
        pass

    def finished(self) -> Any:
        return self._record.finished(self.value)


class _Array:
    """An array that is open; the attributes are those of `_Object`."""

    closer = "]"

    def __init__(self, value: list[Any], shape: Shape) -> None:
        self.value = value
        self.fresh = True
        self.shape = shape
        self._begun = False  # the last item is the one that comes

    def put(self, item: Any) -> bool:
        changed = not self._begun or bool(self.value[-1] != item)
        self.replace(item)
        return changed

    def replace(self, item: Any) -> None:
        if not self.fresh:
            self.value, self.fresh = self.value.copy(), True
        if self._begun:
            self.value[-1] = item
        else:
            self.value.append(item)
            self._begun = True

    def size(self) -> int:
        return len(self.value)

    def advance(self) -> None:
        self._begun = False

    def finished(self) -> list[Any]:
        return self.value
