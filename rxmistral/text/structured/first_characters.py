"""The first characters of a type: those that the JSON of its values may begin with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec import inspect

__all__ = ["FirstCharacters", "first_characters_of"]

_NUMBERS = "-0123456789"
_ANYTHING = '{["tfn' + _NUMBERS


class FirstCharacters(NamedTuple):
    """The characters that the JSON of a value of a type may begin with.

    Attributes:
        value: Of the value itself.
        item: Of the first item, if the value is an array.
    """

    value: str
    item: str


def first_characters_of(type: Any) -> FirstCharacters:
    """Returns the first characters of a type."""
    node = inspect.type_info(type)
    return FirstCharacters(
        _first_of_type(node), "".join(_first_of_items(each) for each in _alternatives(node))
    )


def _alternatives(node: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(node, inspect.Metadata):
        return _alternatives(node.type)
    return node.types if isinstance(node, inspect.UnionType) else (node,)


def _first_of_type(node: inspect.Type) -> str:
    return "".join(_first_of_alternative(each) for each in _alternatives(node))


def _first_of_alternative(node: inspect.Type) -> str:
    match node:
        case inspect.StructType() if not node.array_like:
            return "{"
        case inspect.DictType() | inspect.TypedDictType() | inspect.DataclassType():
            return "{"
        case _ if isinstance(node, _ARRAYS):
            return "["
        case inspect.NoneType():
            return "n"
        case inspect.BoolType():
            return "tf"
        case inspect.IntType() | inspect.FloatType():
            return _NUMBERS
        case inspect.DecimalType():
            return '"' + _NUMBERS
        case inspect.LiteralType():
            return _first_of_values(node.values)
        case inspect.EnumType():
            return _first_of_values(each.value for each in node.cls)
        case inspect.AnyType() | inspect.RawType():
            return _ANYTHING
        case _:
            return '"'  # dates, times, bytes and the like are strings in JSON


_ARRAYS = (
    inspect.StructType,
    inspect.NamedTupleType,
    inspect.TupleType,
    inspect.VarTupleType,
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
)


def _first_of_values(values: Iterable[Any]) -> str:
    return "".join('"' if isinstance(each, str) else _NUMBERS for each in values)


def _first_of_items(node: inspect.Type) -> str:
    if isinstance(node, inspect.TupleType):
        return "".join(map(_first_of_type, node.item_types[:1]))
    item = getattr(node, "item_type", None)
    return _ANYTHING if item is None else _first_of_type(item)
