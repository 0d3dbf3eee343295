"""Schemas: which values of a type can be shown before all of their text has arrived.

A string can be shown while it grows, an object with the fields so far, an array with the
items so far. Any other value is atomic, that is, shown only when it is whole: half a number
is another number, and half a date is not a date. The type and the first character of the
JSON value decide: `str | list[int] | None` grows if it begins with a quote or a bracket.

A schema is made once for a type and never changes; the schemas inside it are made when they
are first needed, since a type may contain itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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

from ...lenient_decoding import decoder

__all__ = ["ObjectSchema", "Schema", "TaggedUnion", "atomic_schema", "schema_of"]


class Schema:
    """How a value of a type is shown while it grows; this one is atomic and ignored.

    Attributes:
        decode: Decodes the whole JSON text of a value; None: the value is ignored.
        partial_strings: Whether strings are shown while they grow.
        item: The schema of the items of arrays; None: arrays are atomic.
        object: The schema of objects; None: objects are atomic, unless there is a `union`.
        union: The schemas of objects by their tags.
    """

    decode: Callable[[str], Any] | None = None
    partial_strings = False
    object: ObjectSchema | None = None
    union: TaggedUnion | None = None

    @property
    def item(self) -> Schema | None:
        return None

    def open_array(self) -> list[Any]:
        """Returns the list for the items of an array."""
        return []


class TaggedUnion(NamedTuple):
    """The schemas of the Structs of a union, by their tags."""

    tag_field: str
    objects: dict[str | int, ObjectSchema]


class ObjectSchema:
    """How an object is shown while it grows: as a dict, or as an instance of a class.

    An object that was shown is never changed, only copied.
    """

    def field(self, key: str) -> tuple[str, Schema] | None:
        """Returns the name and schema of the value under this key; None: it is ignored."""
        raise NotImplementedError

    def new(self) -> Any:
        """Returns an object without any values."""
        return {}

    def copy(self, value: Any) -> Any:
        return value.copy()

    def size(self, value: Any) -> int:
        """Returns the number of items that a copy has to copy."""
        return len(value)

    def get(self, value: Any, name: str) -> Any:
        return value.get(name, UNSET)

    def set(self, value: Any, name: str, item: Any) -> None:
        value[name] = item

    def finish(self, value: Any) -> Any:
        """Returns the object when all of it has arrived."""
        return value


def schema_of(type: Any, *, growing_items: bool) -> Schema:
    """Returns the schema of a type.

    Args:
        growing_items: Whether the items of an array are shown while they grow.

    Raises:
        TypeError: msgspec cannot decode the type from JSON without a hook.
    """
    _check_decodable(type)
    return _TypeSchema(type, growing_items)


def atomic_schema(type: Any) -> Schema:
    """Returns a schema that shows values of the type when they are whole.

    Raises:
        TypeError: msgspec cannot decode the type from JSON without a hook.
    """
    _check_decodable(type)
    return _atomic(type)


def _atomic(type: Any) -> Schema:
    schema = Schema()
    schema.decode = decoder(type)
    return schema


def _check_decodable(type: Any) -> None:
    """Raises now: a `Decoder` of a custom type would fail only at the first value."""
    decoder(type)  # raises for anything but a type, and for ambiguous unions
    custom = _custom_type(inspect.type_info(type), set())
    if custom is not None:
        raise TypeError(f"msgspec cannot decode {custom!r} from JSON without a dec_hook")


def _custom_type(node: Any, seen: set[int]) -> Any:
    if id(node) in seen:
        return None
    seen.add(id(node))
    if isinstance(node, inspect.CustomType):
        return node.cls
    children: Any = node if isinstance(node, tuple) else ()
    if isinstance(node, (inspect.Type, inspect.Field)):
        children = [getattr(node, name) for name in node.__struct_fields__]
    found = (_custom_type(each, seen) for each in children)
    return next((each for each in found if each is not None), None)


# --- the schema of a type --------------------------------------------------------


class _TypeSchema(Schema):
    def __init__(self, type: Any, growing_items: bool) -> None:
        self._growing_items = growing_items
        self.decode = decoder(type)
        self._item: Schema | None = None
        self._item_type: Any = _NO_ITEMS
        objects: dict[Any, ObjectSchema] = {}
        tag_field: Any = None
        for member in _union_members(type):
            info = inspect.type_info(member)
            if isinstance(info, (inspect.StrType, inspect.AnyType)):
                self.partial_strings = True
            if isinstance(info, (inspect.ListType, inspect.AnyType)):
                self._item_type = _argument(member, 0)
            object_schema = self._object_schema(member, info)
            if object_schema is not None:
                objects[getattr(info, "tag", None)] = object_schema
                tag_field = getattr(info, "tag_field", None)
        if len(objects) == 1:
            (self.object,) = objects.values()
        elif objects:  # Structs with tags: msgspec refuses any other union of objects
            self.union = TaggedUnion(tag_field, objects)

    def _object_schema(self, member: Any, info: inspect.Type) -> ObjectSchema | None:
        if isinstance(info, inspect.StructType) and not info.array_like:
            return _StructSchema(member, self._growing_items)
        if isinstance(info, inspect.TypedDictType) and is_typeddict(member):
            hints = get_type_hints(member, include_extras=True)
            return _FieldsSchema({name: (name, hints[name]) for name in hints}, self._growing_items)
        if isinstance(info, inspect.DataclassType) and dataclasses.is_dataclass(member):
            return _DataclassSchema(member, info, self._growing_items)
        if isinstance(info, inspect.AnyType):
            return _DictSchema(Any, self._growing_items)
        if isinstance(info, inspect.DictType) and isinstance(
            info.key_type, (inspect.StrType, inspect.AnyType)
        ):
            return _DictSchema(_argument(member, 1), self._growing_items)
        return None

    @property
    def item(self) -> Schema | None:
        if self._item is None and self._item_type is not _NO_ITEMS:
            growing = self._growing_items
            self._item = _TypeSchema(self._item_type, True) if growing else _atomic(self._item_type)
        return self._item


_NO_ITEMS = object()


def _union_members(type: Any) -> list[Any]:
    """Returns the types of a union, without annotations and aliases."""
    origin = get_origin(type)
    if origin in (Annotated, Required, NotRequired):
        return _union_members(get_args(type)[0])
    if origin in (Union, UnionType):
        return [member for each in get_args(type) for member in _union_members(each)]
    if hasattr(type, "__supertype__"):  # a NewType
        return _union_members(type.__supertype__)
    if origin is None and hasattr(type, "__value__"):  # an alias by a `type` statement
        return _union_members(type.__value__)
    # The arguments of a generic alias are not those of its value.
    return [] if hasattr(origin, "__value__") else [type]


def _argument(type: Any, number: int) -> Any:
    arguments = get_args(type)
    return arguments[number] if arguments else Any


# --- objects ---------------------------------------------------------------------


class _DictSchema(ObjectSchema):
    def __init__(self, item: Any, growing_items: bool) -> None:
        self._item, self._growing_items = item, growing_items

    @cached_property
    def _schema(self) -> Schema:
        return _TypeSchema(self._item, self._growing_items)

    def field(self, key: str) -> tuple[str, Schema] | None:
        return key, self._schema


class _FieldsSchema(ObjectSchema):
    """The schema of an object whose keys have types of their own; others are ignored."""

    def __init__(self, fields: dict[str, tuple[str, Any]], growing_items: bool) -> None:
        self._fields, self._growing_items = fields, growing_items
        self._schemas: dict[str, tuple[str, Schema]] = {}

    def field(self, key: str) -> tuple[str, Schema] | None:
        found = self._schemas.get(key)
        if found is None and key in self._fields:
            name, field_type = self._fields[key]
            found = self._schemas[key] = name, _TypeSchema(field_type, self._growing_items)
        return found

    def size(self, value: Any) -> int:  # noqa: ARG002  # the same for every instance
        return len(self._fields)


class _InstanceSchema(_FieldsSchema):
    """The schema of an object that is an instance of a class.

    A field that has not arrived is its default, or UNSET. `__post_init__` is called for
    whole objects only.
    """

    def __init__(
        self, class_: Any, fields: dict[str, tuple[str, Any]], growing_items: bool
    ) -> None:
        super().__init__(fields, growing_items)
        self._class = class_
        self._post_init: Callable[[Any], None] | None = getattr(class_, "__post_init__", None)

    def get(self, value: Any, name: str) -> Any:
        return getattr(value, name)

    def finish(self, value: Any) -> Any:
        if self._post_init is not None:
            value = self.copy(value)
            value.__post_init__()
        return value


class _StructSchema(_InstanceSchema):
    def __init__(self, type: Any, growing_items: bool) -> None:
        fields = msgspec.structs.fields(type)
        class_ = get_origin(type) or type
        super().__init__(class_, {f.encode_name: (f.name, f.type) for f in fields}, growing_items)
        self._make = class_ if self._post_init is None else _without_post_init(class_)
        self._unset = {field.name: UNSET for field in fields if field.required}

    def new(self) -> Any:
        value = self._make(**self._unset)
        if self._make is not self._class:
            _set_class(value, self._class)
        return value

    def copy(self, value: Any) -> Any:
        return value.__copy__()

    def set(self, value: Any, name: str, item: Any) -> None:
        force_setattr(value, name, item)  # of a frozen class, too: this copy is unshared


def _without_post_init(struct: Any) -> Any:
    """Returns a class of the same layout whose instances can lack fields.

    `__post_init__` may check facts that hold for whole values only, and a Struct cannot be
    made without calling it: `object.__new__` refuses.
    """
    namespace = {"__post_init__": lambda _: None}
    return msgspec.defstruct(struct.__name__, [], bases=(struct,), namespace=namespace)


# A Struct's own `__setattr__` accepts fields only.
_set_class = object.__dict__["__class__"].__set__


class _DataclassSchema(_InstanceSchema):
    def __init__(self, type: Any, info: inspect.DataclassType, growing_items: bool) -> None:
        hints = get_type_hints(type, include_extras=True)
        fields = {f.encode_name: (f.name, hints[f.name]) for f in info.fields}
        super().__init__(type, fields, growing_items)
        self._info = info.fields

    def new(self) -> Any:
        return self._with_values(_default)

    def copy(self, value: Any) -> Any:
        return self._with_values(lambda field: getattr(value, field.name))

    def _with_values(self, value_of: Callable[[inspect.Field], Any]) -> Any:
        instance = object.__new__(self._class)
        for field in self._info:
            object.__setattr__(instance, field.name, value_of(field))
        return instance

    def set(self, value: Any, name: str, item: Any) -> None:
        object.__setattr__(value, name, item)  # of a frozen class, too


def _default(field: inspect.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return UNSET if field.default_factory is msgspec.NODEFAULT else field.default_factory()
