"""Schemas: which values of a type can be shown before all of their text has arrived.

Strings grow, and objects and arrays with their members. Any other value is atomic, that is,
shown only when it is whole: half a number is another number, and half a date is not a date.
The type and the first character of the JSON value decide: `str | list[int] | None` grows if
it begins with a quote or a bracket.

The schemas inside a schema are made when they are first needed: a type may contain itself.
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
)

import msgspec
from msgspec import UNSET, inspect
from msgspec.structs import force_setattr

from ...lenient_decoding import check_decodable, decoder
from ...pydantic_models import annotation_decoder, is_model, is_root_model

__all__ = ["ArraySchema", "ContainerSchema", "Schema", "TaggedUnion", "atomic_schema", "schema_of"]


@dataclasses.dataclass
class Schema:
    """How a value of a type is shown while it grows; without a schema for its kind, when whole."""

    decode: Callable[[str], Any] | None = None  # the whole JSON text; None: ignores the value
    partial_strings: bool = False  # whether strings are shown while they grow
    array: ContainerSchema | None = None
    object: ContainerSchema | None = None
    union: TaggedUnion | None = None  # in place of `object`


class TaggedUnion(NamedTuple):
    """The schemas of the Structs of a union, by their tags."""

    tag_field: str
    objects: dict[str | int, ContainerSchema]


class ContainerSchema:
    """How an array or object is shown while it grows: as a list, a dict or an instance.

    A value that was shown is never changed, only copied.
    """

    closer = "}"

    def member(self, key: Any) -> tuple[Any, Schema] | None:
        """Returns the name and schema of the member with this key or index; None: ignored."""
        raise NotImplementedError

    def new(self) -> Any:
        return {}

    def copy(self, value: Any) -> Any:
        return value.copy()

    def size(self, value: Any) -> int:
        """Returns the number of items that a copy has to copy."""
        return len(value)

    def get(self, value: Any, name: Any) -> Any:
        return value.get(name, UNSET)

    def set(self, value: Any, name: Any, item: Any) -> None:
        value[name] = item

    def finish(self, value: Any) -> Any:
        """Returns the value when all of it has arrived."""
        return value


def schema_of(type: Any, *, growing_items: bool) -> Schema:
    """Returns the schema of a type; `growing_items`: the items of arrays grow, too.

    Raises:
        TypeError: msgspec cannot decode the type from JSON without a hook.
    """
    check_decodable(type)
    return _growing(type, growing_items)


def atomic_schema(type: Any) -> Schema:
    """Returns a schema that shows values when they are whole; raises as `schema_of` does."""
    check_decodable(type)
    return Schema(decoder(type))


# --- the schema of a type --------------------------------------------------------


def _growing(type: Any, growing_items: bool) -> Schema:
    schema = Schema(decoder(type))
    objects: dict[Any, ContainerSchema] = {}
    tag_field: Any = None
    for member in _union_members(type):
        info = inspect.type_info(member)
        if isinstance(info, (inspect.StrType, inspect.AnyType)):
            schema.partial_strings = True
        if isinstance(info, (inspect.ListType, inspect.AnyType)):
            schema.array = ArraySchema(_argument(member, 0), growing_items)
        object_schema = _object_schema(member, info, growing_items)
        if object_schema is not None:
            objects[getattr(info, "tag", None)] = object_schema
            tag_field = getattr(info, "tag_field", None)
    if len(objects) == 1:
        (schema.object,) = objects.values()
    elif objects:  # Structs with tags: msgspec refuses any other union of objects
        schema.union = TaggedUnion(tag_field, objects)
    return schema


def _object_schema(type: Any, info: inspect.Type, growing_items: bool) -> ContainerSchema | None:
    if isinstance(info, inspect.StructType) and not info.array_like:
        return _StructSchema(type, growing_items)
    # A generic TypedDict or dataclass with arguments is atomic: its hints have type variables.
    if isinstance(info, inspect.TypedDictType) and get_origin(type) is None:
        hints = get_type_hints(type, include_extras=True)
        fields = {name: (name, _without_qualifier(hint)) for name, hint in hints.items()}
        return _FieldsSchema(fields, growing_items)
    if isinstance(info, inspect.DataclassType) and dataclasses.is_dataclass(type):
        return _DataclassSchema(type, info, growing_items)
    if is_model(type) and not is_root_model(type):
        return _ModelSchema(type, growing_items)
    if isinstance(info, inspect.AnyType) or (
        isinstance(info, inspect.DictType)
        and isinstance(info.key_type, (inspect.StrType, inspect.AnyType))
    ):
        return _DictSchema(_argument(type, 1), growing_items)
    return None


def _union_members(type: Any) -> list[Any]:
    """Returns the types of a union, without annotations and aliases."""
    origin = get_origin(type)
    if origin is Annotated:
        return _union_members(get_args(type)[0])
    if origin in (Union, UnionType):
        return [member for each in get_args(type) for member in _union_members(each)]
    if hasattr(type, "__supertype__"):  # a NewType
        return _union_members(type.__supertype__)
    if origin is None and hasattr(type, "__value__"):  # an alias by a `type` statement
        return _union_members(type.__value__)
    # The arguments of a generic alias are not those of its value.
    return [] if hasattr(origin, "__value__") else [type]


def _without_qualifier(hint: Any) -> Any:
    """Returns the type of a key of a TypedDict, which may be marked as required or not."""
    return get_args(hint)[0] if get_origin(hint) in (Required, NotRequired) else hint


def _argument(type: Any, number: int) -> Any:
    arguments = get_args(type)
    return arguments[number] if arguments else Any


# --- arrays and objects ----------------------------------------------------------


class _DictSchema(ContainerSchema):
    def __init__(self, item: Any, growing_items: bool) -> None:
        self._item, self._growing_items = item, growing_items

    @cached_property
    def _schema(self) -> Schema:
        return _growing(self._item, self._growing_items)

    def member(self, key: Any) -> tuple[Any, Schema] | None:
        return key, self._schema


class ArraySchema(_DictSchema):
    closer = "]"

    @cached_property
    def _schema(self) -> Schema:
        return _growing(self._item, True) if self._growing_items else Schema(decoder(self._item))

    def new(self) -> list[Any]:
        return []

    def get(self, value: Any, name: Any) -> Any:
        return value[name] if name < len(value) else UNSET

    def set(self, value: Any, name: Any, item: Any) -> None:
        if name < len(value):
            value[name] = item
        else:
            value.append(item)


class _FieldsSchema(ContainerSchema):
    """The schema of an object whose keys have types of their own; other keys are ignored."""

    def __init__(self, fields: dict[str, tuple[str, Any]], growing_items: bool) -> None:
        self._fields, self._growing_items = fields, growing_items
        self._schemas: dict[str, tuple[str, Schema]] = {}

    def member(self, key: Any) -> tuple[Any, Schema] | None:
        if key not in self._schemas and key in self._fields:
            name, field_type = self._fields[key]
            self._schemas[key] = name, self._schema_of(field_type)
        return self._schemas.get(key)

    def _schema_of(self, field_type: Any) -> Schema:
        return _growing(field_type, self._growing_items)

    def size(self, value: Any) -> int:  # noqa: ARG002  # the same for every instance
        return len(self._fields)


class _InstanceSchema(_FieldsSchema):
    """The schema of an instance of a class, whose `__post_init__` is called when it is whole.

    A field that has not arrived is its default, or UNSET.
    """

    def __init__(
        self, class_: Any, fields: dict[str, tuple[str, Any]], growing_items: bool
    ) -> None:
        super().__init__(fields, growing_items)
        self._class = class_
        self._post_init: Callable[[Any], None] | None = getattr(class_, "__post_init__", None)

    def get(self, value: Any, name: Any) -> Any:
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
        _set_class(value, self._class)
        return value

    def copy(self, value: Any) -> Any:
        return value.__copy__()

    def set(self, value: Any, name: Any, item: Any) -> None:
        force_setattr(value, name, item)  # of a frozen class, too: this copy is unshared


def _without_post_init(struct: Any) -> Any:
    """Returns a class of the same layout, since a Struct cannot be made without calling its
    `__post_init__`: `object.__new__` refuses."""
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

    def set(self, value: Any, name: Any, item: Any) -> None:
        object.__setattr__(value, name, item)  # of a frozen class, too


def _default(field: inspect.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return UNSET if field.default_factory is msgspec.NODEFAULT else field.default_factory()


class _ModelSchema(_InstanceSchema):
    """The schema of a pydantic model, whose validators run when the whole answer has arrived.

    An instance is made as `model_construct` makes it, but without `model_post_init`, which is
    for whole instances. Tested with pydantic 2.14.
    """

    def __init__(self, model: Any, growing_items: bool) -> None:
        super().__init__(model, _model_keys(model), growing_items)

    def _schema_of(self, field_type: Any) -> Schema:
        convert = annotation_decoder(field_type)
        try:
            schema = schema_of(field_type, growing_items=self._growing_items)
        except TypeError:  # a type that pydantic knows and msgspec does not
            schema = Schema()
        schema.decode = lambda text: convert(_decode_any(text))
        return schema

    def new(self) -> Any:
        value = object.__new__(self._class)
        fields = self._class.model_fields.items()
        extra: Any = {} if self._class.model_config.get("extra") == "allow" else None
        _set(value, "__dict__", {name: _model_default(field) for name, field in fields})
        _set(value, "__pydantic_fields_set__", set())
        _set(value, "__pydantic_extra__", extra)
        _set(value, "__pydantic_private__", None)
        return value

    def copy(self, value: Any) -> Any:
        return value.model_copy()

    def set(self, value: Any, name: Any, item: Any) -> None:
        value.__dict__[name] = item  # of a frozen class, too
        value.__pydantic_fields_set__.add(name)


_set = object.__setattr__
_decode_any = decoder(Any)


def _model_keys(model: Any) -> dict[str, tuple[str, Any]]:
    """Returns the name and annotation of each field of a model, by the keys of its JSON."""
    config = model.model_config
    keys: dict[str, tuple[str, Any]] = {}
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        aliases = [name] if alias is None else getattr(alias, "choices", [alias])
        for key in [*aliases, *([name] if by_name else [])]:
            if isinstance(key, str):  # the path of an AliasPath leads into another value
                keys[key] = name, field.annotation
    return keys


def _model_default(field: Any) -> Any:
    if field.is_required() or getattr(field, "default_factory_takes_validated_data", False):
        return UNSET
    return field.get_default(call_default_factory=True)
