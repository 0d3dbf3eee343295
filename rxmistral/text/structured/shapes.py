"""Types as shapes: what of a value may be shown before all of it has come.

A string may be shown as it grows, an object with the fields that it has so far, an array
with the items that it has so far. Everything else is shown when it is whole: half a
number is another number, and half a date is none. Which it is, is decided by the type
and by how the JSON value begins: `str | list[int] | None` grows if it begins with a quote
or a bracket.

A shape is made once for a type and never changes; the shapes inside it are made when
they are first needed, since a type may hold itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cached_property
from types import UnionType
from typing import (
    Annotated,
    Any,
    NamedTuple,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec
from msgspec import UNSET, inspect
from msgspec.structs import force_setattr

from ...model_json import decoder

__all__ = ["Openers", "Record", "Shape", "openers_of", "shape_of", "whole_shape"]


class Shape:
    """How a value of a type is shown while it comes.

    Attributes:
        decode: The whole JSON text to the value; None where the value is of no interest.
        text: A string may be shown as it grows.
        item: The shape of the items of an array that may be shown as it grows.
        record: How an object is shown as it grows.
        kinds: The same, where the value of the object's tag decides.
    """

    decode: Callable[[str], Any] | None = None
    text = False
    record: Record | None = None
    kinds: Kinds | None = None

    @property
    def item(self) -> Shape | None:
        return None

    def open_array(self) -> list[Any]:
        """The list that the items of an array go into."""
        return []


class Kinds(NamedTuple):
    """The Structs of a union, by their tags."""

    tag_field: str
    records: dict[str | int, Record]


class Record:
    """How an object is shown while it comes: as a dict, or as an instance of a class.

    What was shown is never changed; whoever has more of it makes a copy.
    """

    def field(self, key: str) -> tuple[str, Shape] | None:
        """Where the value under this key goes, and its shape; None where it is ignored."""
        raise NotImplementedError

    def blank(self) -> Any:
        """An object of which nothing has come."""
        return {}

    def copy(self, value: Any) -> Any:
        return value.copy()

    def size(self, value: Any) -> int:
        """How many items a copy has to take over."""
        return len(value)

    def get(self, value: Any, name: str) -> Any:
        return value.get(name, UNSET)

    def set(self, value: Any, name: str, item: Any) -> None:
        value[name] = item

    def finished(self, value: Any) -> Any:
        """The object of which all has come."""
        return value


def shape_of(type: Any, *, growing_items: bool) -> Shape:
    """The shape of a type.

    Args:
        growing_items: The items of an array are shown as they grow; not only when they
            are whole.

    Raises:
        TypeError: msgspec cannot decode the type from JSON without being told how.
    """
    _refuse_custom(type)
    return _Typed(type, growing_items)


def whole_shape(type: Any) -> Shape:
    """A shape that shows a value of the type when it is whole; raises as `shape_of`."""
    _refuse_custom(type)
    return _whole(type)


def _whole(type: Any) -> Shape:
    shape = Shape()
    shape.decode = decoder(type)
    return shape


def _refuse_custom(type: Any) -> None:
    """A `Decoder` takes a type that it cannot decode, and fails at the first value."""
    decoder(type)  # refuses what is no type, and unions that it cannot tell apart
    custom = _custom_in(inspect.type_info(type), set())
    if custom is not None:
        raise TypeError(f"msgspec cannot decode {custom!r} from JSON without a dec_hook")


def _custom_in(node: Any, seen: set[int]) -> Any:
    if id(node) in seen:
        return None
    seen.add(id(node))
    if isinstance(node, inspect.CustomType):
        return node.cls
    inner: Any = node if isinstance(node, tuple) else ()
    if isinstance(node, (inspect.Type, inspect.Field)):
        inner = [getattr(node, name) for name in node.__struct_fields__]
    found = (_custom_in(each, seen) for each in inner)
    return next((each for each in found if each is not None), None)


# --- how the JSON of a type begins ------------------------------------------------

_NUMBERS = "-0123456789"
_ANYTHING = '{["tfn' + _NUMBERS


class Openers(NamedTuple):
    """The characters that the JSON of a value of a type may begin with.

    Attributes:
        value: Those of the value.
        item: Those of its first item, if it is an array.
    """

    value: str
    item: str


def openers_of(type: Any) -> Openers:
    node = inspect.type_info(type)
    return Openers(_openers(node), "".join(_item_openers(each) for each in _alternatives(node)))


def _alternatives(node: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(node, inspect.Metadata):
        return _alternatives(node.type)
    return node.types if isinstance(node, inspect.UnionType) else (node,)


def _openers(node: inspect.Type) -> str:
    return "".join(_opener(each) for each in _alternatives(node))


def _opener(node: inspect.Type) -> str:
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
            return _openers_of_values(node.values)
        case inspect.EnumType():
            return _openers_of_values(each.value for each in node.cls)
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


def _openers_of_values(values: Iterable[Any]) -> str:
    return "".join('"' if isinstance(each, str) else _NUMBERS for each in values)


def _item_openers(node: inspect.Type) -> str:
    if isinstance(node, inspect.TupleType):
        return "".join(map(_openers, node.item_types[:1]))
    item = getattr(node, "item_type", None)
    return _ANYTHING if item is None else _openers(item)


# --- the shape of a type ---------------------------------------------------------


class _Typed(Shape):
    def __init__(self, type: Any, growing_items: bool) -> None:
        self._growing_items = growing_items
        self.decode = decoder(type)
        self._item: Shape | None = None
        self._item_type: Any = _NONE
        records: dict[Any, Record] = {}
        tag_field: Any = None
        for member in _members(type):
            info = inspect.type_info(member)
            if isinstance(info, (inspect.StrType, inspect.AnyType)):
                self.text = True
            if isinstance(info, (inspect.ListType, inspect.AnyType)):
                self._item_type = _argument(member, 0)
            record = self._record(member, info)
            if record is not None:
                records[getattr(info, "tag", None)] = record
                tag_field = getattr(info, "tag_field", None)
        if len(records) == 1:
            (self.record,) = records.values()
        elif records:  # Structs with tags: msgspec refuses any other union of objects
            self.kinds = Kinds(tag_field, records)

    def _record(self, member: Any, info: inspect.Type) -> Record | None:
        if isinstance(info, inspect.StructType) and not info.array_like:
            return _StructRecord(member, self._inner)
        if isinstance(info, inspect.TypedDictType) and is_typeddict(member):
            return _TypedDictRecord(member, self._inner)
        if isinstance(info, inspect.DataclassType) and dataclasses.is_dataclass(member):
            return _DataclassRecord(member, info, self._inner)
        if isinstance(info, inspect.AnyType):
            return _DictRecord(Any, self._inner)
        if isinstance(info, inspect.DictType) and isinstance(
            info.key_type, (inspect.StrType, inspect.AnyType)
        ):
            return _DictRecord(_argument(member, 1), self._inner)
        return None

    def _inner(self, type: Any) -> Shape:
        return _Typed(type, self._growing_items)

    @property
    def item(self) -> Shape | None:
        if self._item is None and self._item_type is not _NONE:
            make = self._inner if self._growing_items else _whole
            self._item = make(self._item_type)
        return self._item


_NONE = object()


def _members(type: Any) -> list[Any]:
    """The types of a union, without what only says more about a type."""
    origin = get_origin(type)
    if origin in (Annotated, Required, NotRequired):
        return _members(get_args(type)[0])
    if origin in (Union, UnionType):
        return [member for each in get_args(type) for member in _members(each)]
    if hasattr(type, "__supertype__"):  # a NewType
        return _members(type.__supertype__)
    if origin is None and hasattr(type, "__value__"):  # an alias by a `type` statement
        return _members(type.__value__)
    # The arguments of a generic alias are not those of what it stands for.
    return [] if hasattr(origin, "__value__") else [type]


def _argument(type: Any, number: int) -> Any:
    arguments = get_args(type)
    return arguments[number] if arguments else Any


# --- objects ---------------------------------------------------------------------

_Inner = Callable[[Any], Shape]


class _DictRecord(Record):
    def __init__(self, item: Any, inner: _Inner) -> None:
        self._item, self._inner = item, inner

    @cached_property
    def _shape(self) -> Shape:
        return self._inner(self._item)

    def field(self, key: str) -> tuple[str, Shape] | None:
        return key, self._shape


class _FieldsRecord(Record):
    """An object whose keys have types of their own; any other key is ignored."""

    def __init__(self, fields: dict[str, tuple[str, Any]], inner: _Inner) -> None:
        self._fields, self._inner = fields, inner
        self._shapes: dict[str, tuple[str, Shape]] = {}

    def field(self, key: str) -> tuple[str, Shape] | None:
        found = self._shapes.get(key)
        if found is None and key in self._fields:
            name, inner = self._fields[key]
            found = self._shapes[key] = name, self._inner(inner)
        return found

    def size(self, value: Any) -> int:  # noqa: ARG002  # the same for every instance
        return len(self._fields)


class _TypedDictRecord(_FieldsRecord):
    def __init__(self, type: Any, inner: _Inner) -> None:
        hints = get_type_hints(type, include_extras=True)
        super().__init__({name: (name, hint) for name, hint in hints.items()}, inner)


class _StructRecord(_FieldsRecord):
    """A field that has not come is UNSET, or its default."""

    def __init__(self, type: Any, inner: _Inner) -> None:
        fields = msgspec.structs.fields(type)
        super().__init__({f.encode_name: (f.name, f.type) for f in fields}, inner)
        self._class = get_origin(type) or type
        self._post_init = getattr(self._class, "__post_init__", None)
        self._make = self._class if self._post_init is None else _without_post_init(self._class)
        self._unset = {field.name: UNSET for field in fields if field.required}

    def blank(self) -> Any:
        value = self._make(**self._unset)
        if self._make is not self._class:
            _set_class(value, self._class)
        return value

    def copy(self, value: Any) -> Any:
        return value.__copy__()

    def get(self, value: Any, name: str) -> Any:
        return getattr(value, name)

    def set(self, value: Any, name: str, item: Any) -> None:
        force_setattr(value, name, item)  # frozen, too: nobody has seen this copy yet

    def finished(self, value: Any) -> Any:
        return value if self._post_init is None else _after_post_init(self.copy(value))


def _without_post_init(struct: Any) -> Any:
    """A class of the same layout that can be made with fields missing.

    What `__post_init__` checks is true of whole values, and there is no other way to
    make a Struct without calling it: `object.__new__` refuses.
    """
    nothing = {"__post_init__": lambda _: None}
    return msgspec.defstruct(struct.__name__, [], bases=(struct,), namespace=nothing)


# A Struct's own `__setattr__` knows fields only.
_set_class = object.__dict__["__class__"].__set__


class _DataclassRecord(_FieldsRecord):
    """As a Struct; the class may be frozen and have slots."""

    def __init__(self, type: Any, info: inspect.DataclassType, inner: _Inner) -> None:
        hints = get_type_hints(type, include_extras=True)
        super().__init__({f.encode_name: (f.name, hints[f.name]) for f in info.fields}, inner)
        self._class = type
        self._defaults = info.fields
        self._post_init = getattr(type, "__post_init__", None)

    def blank(self) -> Any:
        value = object.__new__(self._class)
        for field in self._defaults:
            object.__setattr__(value, field.name, _default(field))
        return value

    def copy(self, value: Any) -> Any:
        copied = object.__new__(self._class)
        for field in self._defaults:
            object.__setattr__(copied, field.name, getattr(value, field.name))
        return copied

    def get(self, value: Any, name: str) -> Any:
        return getattr(value, name)

    def set(self, value: Any, name: str, item: Any) -> None:
        object.__setattr__(value, name, item)

    def finished(self, value: Any) -> Any:
        return value if self._post_init is None else _after_post_init(self.copy(value))


def _after_post_init(value: Any) -> Any:
    value.__post_init__()
    return value


def _default(field: inspect.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return UNSET if field.default_factory is msgspec.NODEFAULT else field.default_factory()
