"""Text that is JSON, to the values it stands for.

text ──parsed(type)───▶ the value, once it is whole
     ──partials(type)─▶ the value as it grows
     ──items(type)────▶ the items of an array, each as it becomes whole

The JSON may be all of the answer, or stand in a fenced code block or among words; see
`json_start`.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable
from types import UnionType
from typing import Any, TypeVar, get_args, overload

import msgspec
from reactivex import Observable

from ...errors import InvalidAnswerError
from ...model_json import decoder
from ...rx.state_machine import StateMachine, machine_operator
from ...rx.stream import Stream
from ..inputs import text_for
from .growing_value import GrowingValue
from .shapes import Openers, Record, Shape, openers_of, shape_of, whole_shape
from .start import JsonStart, decode_first

__all__ = ["items", "parsed", "partials"]

T = TypeVar("T")


# --- parsed ----------------------------------------------------------------------


@overload
def parsed(type: type[T]) -> Callable[[Observable[str]], Stream[T]]: ...
@overload
def parsed(type: UnionType) -> Callable[[Observable[str]], Stream[Any]]: ...


def parsed(type: Any) -> Callable[[Observable[str]], Stream[Any]]:
    """Text into the one value that it is the JSON of.

        --'{"na'--'me": "Crê'--'pes"}'-|->
        -------------------------------Recipe("Crêpes")|->

    The value is the first one in the text whose JSON begins as that of the type does: an
    object for a Struct, an array for a list. It may be the whole text, stand in a fenced
    code block, or among words; the words after it are ignored. Braces that are words, as
    in "use {x}", do not count. `{}`, `[]` and `[1]` among words count only if no other
    object or array of the type follows. Numbers, strings, true, false and null among
    words count only if just one value of the type is among them.

    Raw control characters in its strings are accepted, as models write them.

    Args:
        type: A msgspec Struct, or any other type that msgspec decodes from JSON without
            being told how. For another one `TypeError` is raised.

    Holds: the text.
    Emits: at completion; nothing before an error of the source.
    Errors: `InvalidAnswerError` if there is no such value in the text.

    >>> import reactivex
    >>> class Recipe(msgspec.Struct):
    ...     name: str
    ...     minutes: int
    >>> reactivex.of('{"name": "Crê', 'pes", "minutes": 20}').pipe(parsed(Recipe)).run()
    Recipe(name='Crêpes', minutes=20)
    """
    shape_of(type, growing_items=False)
    openers = openers_of(type)
    return machine_operator(lambda: _Parser(type, openers), text_for("parsed"))


class _Parser(StateMachine[str, Any]):
    def __init__(self, type: Any, openers: Openers) -> None:
        self._type = type
        self._openers = openers
        self.decode = decoder(type)
        self._texts: list[str] = []

    def feed(self, text: str) -> list[Any]:
        self._texts.append(text)
        return []

    def close(self) -> list[Any]:
        text = "".join(self._texts)
        try:
            return [decode_first(text, self._openers, self.decode)]
        except Exception as error:  # what a type's own __post_init__ raises, too
            self.error = _invalid(_name(self._type), _reason(error), text, error)
            return []

    def close_after_error(self) -> list[Any]:
        return []  # a broken answer may go on: "1" may be the beginning of "12"


def _name(type: Any) -> str:
    if isinstance(type, builtins.type) and not get_args(type):
        return type.__name__
    return re.sub(r"(?:[\w<>]+\.)+", "", str(type))  # without the modules


def _reason(error: Exception) -> str:
    return str(error) or error.__class__.__name__


def _invalid(type: str, reason: str, text: str, cause: Exception) -> InvalidAnswerError:
    error = InvalidAnswerError(type, reason, text)
    error.__cause__ = cause
    return error


# --- partials --------------------------------------------------------------------


@overload
def partials(
    type: type[T], *, growing_items: bool = False
) -> Callable[[Observable[str]], Stream[T]]: ...
@overload
def partials(
    type: UnionType, *, growing_items: bool = False
) -> Callable[[Observable[str]], Stream[Any]]: ...


def partials(type: Any, *, growing_items: bool = False) -> Callable[[Observable[str]], Stream[Any]]:
    """Text into the value that it is the JSON of, as it grows.

        --'{"na'----'me": "Crê'-----'pes", "minutes": 2'--'0}'--------------|->
        --Recipe()--Recipe("Crê")---Recipe("Crêpes")------Recipe("Crêpes", 20)|->

    Strings grow; numbers, booleans, null, enums, dates and whatever else is no string,
    object or list appears when it is whole. A field that has not come is its default,
    or `msgspec.UNSET`, which is false as an empty string is.

    Objects grow where they are Structs, dataclasses, TypedDicts or dicts with str keys;
    of a union of Structs where the tag comes first. Arrays grow where they are lists;
    as tuples, sets, NamedTuples and `array_like` Structs they appear when they are
    whole, and so does what is more than 32 containers deep.

    The value is the one that `parsed` emits. Among words its first characters are held
    until they are unmistakable, as `{"` is.

    Args:
        type: A msgspec Struct, or any other type that msgspec decodes from JSON without
            being told how. For another one `TypeError` is raised.
        growing_items: The last item of a list is shown as it grows. Not given: when it
            is whole.

    Holds: the text, and an open number until something follows it. Where the open
        string has more than 4 kB, or the open lists and dicts more than 256 items, a
        change until the text has grown by a 128th or has ended, so that the cost
        stays linear even if all values are kept.
    Emits: after each text that changed the value; no value changes once it was emitted,
        but they share what is the same in them. The last one is what
        `msgspec.json.decode` gives for the whole. `__post_init__` is called for
        objects that are whole only, and what msgspec's `Meta` asks of a value is
        checked when it is whole.
    Errors: `InvalidAnswerError` at completion if there is no such value in the text.
        Nothing is emitted from the place on that shows it.

    >>> import reactivex
    >>> class Recipe(msgspec.Struct):
    ...     name: str
    ...     minutes: int
    >>> answer = reactivex.of('{"name": "Crê', 'pes", "minutes": 2', '0}')
    >>> for recipe in answer.pipe(partials(Recipe)):
    ...     print(recipe)
    Recipe(name='Crê', minutes=UNSET)
    Recipe(name='Crêpes', minutes=UNSET)
    Recipe(name='Crêpes', minutes=20)
    """
    shape = shape_of(type, growing_items=growing_items)
    openers = openers_of(type)
    return machine_operator(lambda: _Partials(type, openers, shape), text_for("partials"))


class _Partials(StateMachine[str, Any]):
    def __init__(self, type: Any, openers: Openers, shape: Shape) -> None:
        self._answer = _Parser(type, openers)
        self._start = JsonStart(openers)
        self._growing = GrowingValue(shape)
        self._texts: list[str] = []  # of the value alone, without what stands around it
        self._last: Any = msgspec.UNSET
        self._over = False  # the whole value was seen, or something is wrong
        self._whole = False  # the whole value was emitted

    def feed(self, text: str) -> list[Any]:
        self._answer.feed(text)
        if self._over:
            return []
        self._scan(self._start.feed(text))
        changed, value = self._growing.take()
        if self._growing.closed:
            changed, value = self._take_whole(changed, value)
        if not changed:
            return []
        self._last = value
        return [value]

    def _scan(self, text: str) -> None:
        try:
            end = self._growing.feed(text)
            self._texts.append(text[:end])
        except Exception:  # completion says what is wrong, in msgspec's words
            self._over = True

    def _take_whole(self, changed: bool, value: Any) -> tuple[bool, Any]:
        self._over = True
        try:
            whole = self._answer.decode("".join(self._texts))
            changed = bool(whole != self._last)
        except Exception:  # as above
            return changed, value
        self._whole = True
        return changed, whole

    def close(self) -> list[Any]:
        if self._whole:
            return []
        values = self._answer.close()
        self.error = self._answer.error
        return values if self.error is None else self.close_after_error()

    def close_after_error(self) -> list[Any]:
        changed, value = self._growing.take(late=True)
        return [value] if changed else []


# --- items -----------------------------------------------------------------------


@overload
def items(type: type[T]) -> Callable[[Observable[str]], Stream[T]]: ...
@overload
def items(type: UnionType) -> Callable[[Observable[str]], Stream[Any]]: ...


def items(type: Any) -> Callable[[Observable[str]], Stream[Any]]:
    """Text that is a JSON array into its items, each when it is whole.

        --'[{"name": "fl'--'our"}, {"na'----'me": "milk"}]'-------|->
        -------------------Ingredient("flour")--Ingredient("milk")|->

    Args:
        type: The type of one item: a msgspec Struct, or any other type that msgspec
            decodes from JSON without being told how. For another one `TypeError` is
            raised.

    Holds: the text of the item that has not ended.
    Emits: the items of the first such array in the text; or of the first object, as most
        services want it, those of the first array among its values. What else is in the
        object is skipped, and so are words before and after. (`parsed` tells which
        brackets are words.)
    Completes: when the source does.
    Errors: `InvalidAnswerError` at the item that is none, after those before it; and at
        completion if the array has not ended, or if there is none.

    >>> import reactivex
    >>> class Ingredient(msgspec.Struct):
    ...     name: str
    >>> answer = reactivex.of('[{"name": "fl', 'our"}, {"na', 'me": "milk"}]')
    >>> for ingredient in answer.pipe(items(Ingredient)):
    ...     print(ingredient)
    Ingredient(name='flour')
    Ingredient(name='milk')
    """
    item = whole_shape(type)
    name = f"list[{_name(type)}]"
    openers = Openers("[{", openers_of(type).value)
    return machine_operator(lambda: _Items(name, openers, item), text_for("items"))


class _FirstArray(Shape):
    """Shows the items of one array."""

    def __init__(self, item: Shape) -> None:
        self._item = item
        self.items: list[Any] | None = None  # what has come of it and was not taken yet

    @property
    def item(self) -> Shape | None:
        return self._item if self.items is None else None

    def open_array(self) -> list[Any]:
        self.items = []
        return self.items

    def take(self) -> list[Any]:
        taken = list(self.items or ())
        if self.items:
            self.items.clear()
        return taken


class _InObject(Record):
    """Keeps nothing; looks into each value for the array."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def field(self, key: str) -> tuple[str, Shape] | None:
        return key, self._shape

    def set(self, value: Any, name: str, item: Any) -> None:
        pass


class _ArrayOrObject(Shape):
    def __init__(self, array: _FirstArray) -> None:
        self._array = array
        self.record = _InObject(array)

    @property
    def item(self) -> Shape | None:
        return self._array.item

    def open_array(self) -> list[Any]:
        return self._array.open_array()


class _Items(StateMachine[str, Any]):
    def __init__(self, name: str, openers: Openers, item: Shape) -> None:
        self._name = name
        self._array = _FirstArray(item)
        self._growing = GrowingValue(_ArrayOrObject(self._array))
        self._start = JsonStart(openers)
        self._count = 0  # items that were emitted

    def feed(self, text: str) -> list[Any]:
        return self._read(self._start.feed(text))

    def _read(self, text: str) -> list[Any]:
        if self._growing.closed or self.error is not None:
            return []
        failure: Exception | None = None
        try:
            self._growing.feed(text)
        except Exception as error:  # what a type's own __post_init__ raises, too
            failure = error
        taken = self._array.take()
        self._count += len(taken)
        if failure is not None:
            self._fail(failure, self._growing.unread or text)
        return taken

    def _fail(self, failure: Exception, text: str) -> None:
        reason = _placed(_reason(failure), self._growing.place(self._count))
        self.error = _invalid(self._name, reason, text, failure)

    def close(self) -> list[Any]:
        taken = [] if self._start.found else self._read(self._start.spare)
        if self.error is None and not self._growing.closed:
            self._fail(ValueError("Input data was truncated"), self._growing.unread)
        elif self.error is None and self._array.items is None:
            self._fail(ValueError("Expected `array`"), "")
        return taken

    def close_after_error(self) -> list[Any]:
        return []  # each item was emitted when it was whole


_PATH = re.compile(r" - at `\$(.*)`\Z", re.S)


def _placed(reason: str, place: str) -> str:
    """What msgspec says of one item, as it would say it of the whole."""
    path = _PATH.search(reason)
    if path is None:
        return f"{reason} - at `{place}`"
    return f"{reason[: path.start()]} - at `{place}{path[1]}`"
