"""Decoding of JSON that msgspec refuses: written by a model, or sent by a server that imitates
the service.

RFC 8259, 7: "All Unicode characters may be placed within the quotation marks, except for
the characters that MUST be escaped: quotation mark, reverse solidus, and the control
characters (U+0000 through U+001F)." Models nevertheless put raw line ends and tabs into
strings. So text that msgspec refuses is decoded a second time, with those characters escaped.

msgspec also refuses a whole value for one field of the wrong type. Such a field must not cost
the rest of a chunk, so every part that can be converted is kept.
"""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct, inspect

from .pydantic_models import (
    check_model,
    decode_model,
    is_model,
    is_pydantic_dataclass,
    with_joined_path,
)

__all__ = [
    "check_decodable", "convert_leniently", "custom_types", "decoder", "keep_convertible_fields",
    "scalar_to_text", "type_name",
]  # fmt: skip

DecodeHook = Callable[[type, Any], Any]

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.S)
_CONTROL = re.compile(r"\\.|[\x00-\x1f]", re.S)
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.S,
)


# --- text of a model -------------------------------------------------------------


def decoder(type: Any) -> Callable[[str], Any]:
    """Returns a decoder of one JSON text that accepts raw control characters in strings.

    The decoder raises the errors of `msgspec.json.decode`, also for pydantic models. If the text
    contains half of a surrogate pair as an escape, which stands for no character, the error
    names the escape.
    """
    try:
        decode = msgspec.json.Decoder(type, dec_hook=decode_model).decode
    except TypeError as error:
        raise TypeError(f"expected a type that msgspec decodes, got {type!r}: {error}") from None

    def decode_leniently(text: str) -> Any:
        try:
            return decode(text)
        except msgspec.ValidationError as error:
            raise with_joined_path(error) from error.__cause__
        except msgspec.DecodeError:
            escaped = _escape_control_characters(text)
        try:
            return decode(escaped)
        except msgspec.ValidationError as error:
            raise with_joined_path(error) from error.__cause__
        except msgspec.DecodeError:
            _raise_if_half_pair(decode, escaped)
            raise

    return decode_leniently


def check_decodable(type: Any) -> None:
    """Raises TypeError unless `decoder(type)` decodes every value of the type.

    A `Decoder` of a class that msgspec does not know would fail only at the first value.
    """
    decoder(type)  # raises for anything but a type, and for ambiguous unions
    for custom in custom_types(type):
        if is_pydantic_dataclass(custom):
            raise TypeError(
                f"the validation of the pydantic dataclass {custom!r} would be omitted; "
                "make it a pydantic model, or a dataclass of the standard library"
            )
        if not is_model(custom):
            raise TypeError(f"msgspec cannot decode {custom!r} from JSON without a dec_hook")
        check_model(custom)


def type_name(type: Any) -> str:
    """Returns the name of a type as a program contains it, without its modules."""
    if isinstance(type, builtins.type) and not get_args(type):
        return type.__name__
    return re.sub(r"(?:[\w<>]+\.)+", "", str(type))


def custom_types(type: Any) -> Iterator[Any]:
    """Emits each class within a type that msgspec does not know, or not fully."""
    return _custom_types(inspect.type_info(type), set())


def _custom_types(node: Any, seen: set[int]) -> Iterator[Any]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, inspect.CustomType) or (
        isinstance(node, inspect.DataclassType) and is_pydantic_dataclass(node.cls)
    ):
        yield node.cls
    children: Any = node if isinstance(node, tuple) else ()
    if isinstance(node, (inspect.Type, inspect.Field)):
        children = [getattr(node, name) for name in node.__struct_fields__]
    for each in children:
        yield from _custom_types(each, seen)


def _escape_control_characters(text: str) -> str:
    """Returns JSON, or its beginning, with the control characters in its strings escaped."""
    return _STRING.sub(lambda string: _CONTROL.sub(_escape, string[0]), text)


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0][0] == "\\" else f"\\u{ord(match[0]):04x}"


def _raise_if_half_pair(decode: Callable[[str], Any], text: str) -> None:
    """Raises if the text is malformed by nothing but halves of surrogate pairs."""
    halves = [match["half"] for match in _ESCAPE.finditer(text) if match["half"]]
    if not halves:
        return
    try:
        decode(_ESCAPE.sub(lambda match: r"\ufffd" if match["half"] else match[0], text))
    except msgspec.ValidationError:
        pass
    except msgspec.DecodeError:
        return
    raise msgspec.DecodeError(f"JSON is malformed: \\{halves[0]} is half of a surrogate pair")


# --- values of a server ----------------------------------------------------------


def scalar_to_text(value: Any) -> Any:
    """Returns the JSON of a number or a truth value; any other value unchanged.

    >>> scalar_to_text(1.5), scalar_to_text(True), scalar_to_text("a"), scalar_to_text(None)
    ('1.5', 'true', 'a', None)
    """
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def convert_leniently(value: Any, type: Any, dec_hook: DecodeHook) -> Any:
    """Returns decoded JSON as this type, with every part that can be converted; UNSET if none can.

    A field that cannot be converted has its default, and such an item of a list is left out.
    """
    try:
        # Not strict: a number in a string is accepted as a number.
        return msgspec.convert(value, type, strict=False, dec_hook=dec_hook)
    except msgspec.ValidationError:
        pass
    for member in get_args(type) if isinstance(type, UnionType) else (type,):
        if isinstance(value, dict) and hasattr(member, "__struct_fields__"):
            return _convert_struct(value, member, dec_hook)
        if isinstance(value, list) and get_origin(member) is list:
            items = (convert_leniently(item, get_args(member)[0], dec_hook) for item in value)
            return [item for item in items if item is not UNSET]
    return UNSET


def keep_convertible_fields(
    value: dict[str, Any], type: Any, dec_hook: DecodeHook
) -> dict[str, Any]:
    """Returns the fields of a Struct that an object has, without optional ones of a wrong type."""
    return {
        field.encode_name: value[field.encode_name]
        for field in msgspec.structs.fields(type)
        if field.encode_name in value
        and (
            field.required
            or convert_leniently(value[field.encode_name], field.type, dec_hook) is not UNSET
        )
    }


def _convert_struct(value: dict[str, Any], type: Any, dec_hook: DecodeHook) -> Struct:
    converted = {
        field.name: convert_leniently(value[field.encode_name], field.type, dec_hook)
        for field in msgspec.structs.fields(type)
        if field.encode_name in value
    }
    struct: Struct = type(**{name: each for name, each in converted.items() if each is not UNSET})
    return struct
