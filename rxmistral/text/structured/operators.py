"""JSON text into values: `parsed`, `partials` and `items`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from reactivex import Observable

from ...errors import InvalidAnswerError
from ...lenient_decoding import decoder, type_name
from ...rx.state_machine import StateMachine, machine_operator
from ...rx.stream import Stream
from ..inputs import text_for
from .incremental_parser import IncrementalParser
from .locator import FirstCharacters, JsonLocator, decode_first, first_characters_of
from .schema import ArraySchema, ContainerSchema, Schema, atomic_schema, schema_of

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # PEP 747: the type of unions, too

__all__ = ["items", "parsed", "partials"]

T = TypeVar("T")


def parsed(type: TypeForm[T]) -> Callable[[Observable[str]], Stream[T]]:
    """JSON text into its one value.

        --'{"na'--'me": "Crê'--'pes"}'-|->
        -------------------------------Recipe("Crêpes")|->

    The value is the first one in the text whose JSON begins as that of the type does: an
    object for a Struct, an array for a list. It may be the whole text, be in a fenced code
    block, or among words, which are ignored, and so are braces in prose, as in "use {x}". Among
    words, `{}`, `[]` and `[1]` count only if no other object or array of the type follows,
    and numbers, strings, true, false and null only if just one value is of the type. Raw
    control characters in strings are accepted, since models write them.

    As `response_format`, a type that is never an object, such as a list, is sent as an object
    `{"value": ...}`. An answer or code block that begins so is unwrapped.

    Args:
        type: A msgspec Struct, a dataclass, a TypedDict, a pydantic model, or any other
            type that msgspec decodes from JSON without a hook. Any other type raises
            `TypeError`.

    Holds: the text.
    Emits: the value, at completion; nothing before an error of the source.
    Errors: `InvalidAnswerError` if there is no such value in the text.

    >>> import reactivex
    >>> class Recipe(msgspec.Struct):
    ...     name: str
    ...     minutes: int
    >>> reactivex.of('{"name": "Crê', 'pes", "minutes": 20}').pipe(parsed(Recipe)).run()
    Recipe(name='Crêpes', minutes=20)
    """
    atomic_schema(type)
    first = first_characters_of(type)
    return machine_operator(lambda: _WholeValue(type, first), text_for("parsed"))


class _WholeValue(StateMachine[str, Any]):
    def __init__(self, type: Any, first: FirstCharacters) -> None:
        self._type, self._first, self._decode = type, first, decoder(type)
        self._texts: list[str] = []

    def feed(self, text: str) -> list[Any]:
        self._texts.append(text)
        return []

    def close(self) -> list[Any]:
        text = "".join(self._texts)
        try:
            return [decode_first(text, self._first, self._decode)]
        except Exception as error:  # of msgspec, or of a __post_init__
            self.error = _invalid_answer(type_name(self._type), _reason(error), text, error)
            return []

    def close_after_error(self) -> list[Any]:
        return []  # "1" may be the beginning of "12"


def _reason(error: Exception) -> str:
    return str(error) or error.__class__.__name__


def _invalid_answer(type: str, reason: str, text: str, cause: Exception) -> InvalidAnswerError:
    error = InvalidAnswerError(type, reason, text)
    error.__cause__ = cause
    return error


def partials(
    type: TypeForm[T], *, growing_items: bool = False
) -> Callable[[Observable[str]], Stream[T]]:
    """JSON text into its value, as it grows.

        --'{"na'----'me": "Crê'-----'pes", "minutes": 2'--'0}'--------------|->
        --Recipe()--Recipe("Crê")---Recipe("Crêpes")------Recipe("Crêpes", 20)|->

    The value is the one that `parsed` emits. Among words, its first characters are held
    until they are unmistakable, as `{"` is. A field that has not arrived is its default, or
    `msgspec.UNSET`, which is false, as an empty string is.

    These values grow: strings, lists, Structs, dataclasses, TypedDicts, pydantic models, dicts
    with str keys, and Structs of a union if the tag is the first key. All others appear when they are whole:
    numbers, booleans, null, enums, dates, tuples, sets, NamedTuples, `array_like` Structs, and
    values that are more than 32 containers deep.

    Args:
        type: A msgspec Struct, a dataclass, a TypedDict, a pydantic model, or any other
            type that msgspec decodes from JSON without a hook. Any other type raises
            `TypeError`.
        growing_items: True: the last item of a list is shown while it grows; False: when
            it is whole.

    Emits: the value so far, after each text that changed it. An emitted value never
        changes, but values share their equal parts. The last one is the result of
        `msgspec.json.decode` for the whole. `__post_init__` is called, and the constraints
        of msgspec's `Meta` are checked, for whole objects and values only. The validators
        of a pydantic model run for the whole answer and for whole items of a list.
    Holds: the text, and an open number until something follows it. If the open string has
        more than 4 kB, or the open lists and dicts have more than 256 items, a change is
        held until the text has grown by a 128th or has ended, so that the cost stays linear
        even if all values are kept.
    Errors: `InvalidAnswerError` at completion if there is no such value in the text;
        nothing is emitted from the first invalid character on.

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
    schema = schema_of(type, growing_items=growing_items)
    first = first_characters_of(type)
    return machine_operator(lambda: _PartialValues(type, first, schema), text_for("partials"))


class _PartialValues(_WholeValue):
    def __init__(self, type: Any, first: FirstCharacters, schema: Schema) -> None:
        super().__init__(type, first)
        self._locator = JsonLocator(first)
        self._parser = IncrementalParser(schema)
        self._value_texts: list[str] = []  # without the text around the value
        self._emitted: Any = msgspec.UNSET
        self._is_done = False  # the value is closed, or invalid
        self._emitted_whole = False

    def feed(self, text: str) -> list[Any]:
        super().feed(text)
        if self._is_done:
            return []
        text = self._locator.feed(text)
        try:
            self._value_texts.append(text[: self._parser.feed(text)])
        except Exception:  # at completion, msgspec reports what is wrong
            self._is_done = True
        changed, value = self._parser.snapshot()
        if self._parser.closed:
            self._is_done = True
            with suppress(Exception):  # reported at completion
                whole = self._decode("".join(self._value_texts))
                changed, value = bool(whole != self._emitted), whole
                self._emitted_whole = True
        if not changed:
            return []
        self._emitted = value
        return [value]

    def close(self) -> list[Any]:
        if self._emitted_whole:
            return []
        return super().close() or self.close_after_error()

    def close_after_error(self) -> list[Any]:
        changed, value = self._parser.snapshot(force=True)
        return [value] if changed else []


def items(type: TypeForm[T]) -> Callable[[Observable[str]], Stream[T]]:
    """Text of a JSON array into its items, each when it is whole.

        --'[{"name": "fl'--'our"}, {"na'----'me": "milk"}]'-------|->
        -------------------Ingredient("flour")--Ingredient("milk")|->

    Args:
        type: The type of one item: a msgspec Struct, a dataclass, a TypedDict, a pydantic
            model, or any other type that msgspec decodes from JSON without a hook. Any
            other type raises `TypeError`.

    Emits: the items of the first such array in the text. If an object is first, as most
        services require, the items of the first array among its values. The rest of the
        object is skipped, and so are words before and after (for brackets in prose, see
        `parsed`).
    Holds: the text of the item that has not ended.
    Completes: when the source does.
    Errors: `InvalidAnswerError` at the first invalid item, after the items before it; and
        at completion if the array has not ended, or if there is none.

    >>> import reactivex
    >>> class Ingredient(msgspec.Struct):
    ...     name: str
    >>> answer = reactivex.of('[{"name": "fl', 'our"}, {"na', 'me": "milk"}]')
    >>> for ingredient in answer.pipe(items(Ingredient)):
    ...     print(ingredient)
    Ingredient(name='flour')
    Ingredient(name='milk')
    """
    atomic_schema(type)
    first = FirstCharacters("[{", first_characters_of(type).value)
    return machine_operator(lambda: _ArrayItems(type, first), text_for("items"))


class _FirstArray(ArraySchema):
    """The schema of the first array of an answer."""

    def __init__(self, type: Any) -> None:
        super().__init__(type, growing_items=False)
        self.items: list[Any] = []  # not emitted yet
        self.found = False
        self._in_object = Schema(array=self)
        self.schema = Schema(array=self, object=_ObjectAroundArray(self._in_object))

    def new(self) -> list[Any]:
        self.found = True
        self._in_object.array = None  # the arrays after it are ignored
        return self.items


class _ObjectAroundArray(ContainerSchema):
    def __init__(self, value: Schema) -> None:
        self._value = value

    def member(self, key: Any) -> tuple[Any, Schema]:
        return key, self._value


class _ArrayItems(StateMachine[str, Any]):
    def __init__(self, type: Any, first: FirstCharacters) -> None:
        self._type_name = f"list[{type_name(type)}]"
        self._array = _FirstArray(type)
        self._parser = IncrementalParser(self._array.schema)
        self._locator = JsonLocator(first)

    def feed(self, text: str) -> list[Any]:
        return self._parse(self._locator.feed(text))

    def _parse(self, text: str) -> list[Any]:
        if self._parser.closed or self.error is not None:
            return []
        try:
            self._parser.feed(text)
        except Exception as error:  # of msgspec, or of a __post_init__
            self._fail(error, self._parser.raw or text)
        items = self._array.items.copy()
        self._array.items.clear()
        return items

    def _fail(self, failure: Exception, text: str) -> None:
        path = self._parser.path()
        reason = _PATH.sub(lambda inner: f" - at `{path}{inner[1] or ''}`", _reason(failure), 1)
        self.error = _invalid_answer(self._type_name, reason, text, failure)

    def close(self) -> list[Any]:
        items = [] if self._locator.found else self._parse(self._locator.fallback)
        if self.error is None and not self._parser.closed:
            self._fail(ValueError("Input data was truncated"), self._parser.raw)
        elif self.error is None and not self._array.found:
            self._fail(ValueError("Expected `array`"), "")
        return items

    def close_after_error(self) -> list[Any]:
        return []  # each item was emitted when it was whole


_PATH = re.compile(r"(?: - at `\$(.*)`)?\Z", re.S)  # of an error of msgspec
