"""Conversion of decoded JSON to a type, keeping every part that can be converted.

msgspec refuses a whole value for one wrong field. Servers that imitate the service send such
fields, and one of them must not cost the rest of a chunk.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct

__all__ = ["convert_leniently", "keep_convertible_fields", "scalar_to_text"]

DecodeHook = Callable[[type, Any], Any]


def scalar_to_text(value: Any) -> Any:
    """Returns the JSON of a number or a truth value; any other value unchanged.

    >>> scalar_to_text(1.5), scalar_to_text(True), scalar_to_text("a"), scalar_to_text(None)
    ('1.5', 'true', 'a', None)
    """
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def convert_leniently(value: Any, type: Any, dec_hook: DecodeHook) -> Any:
    """Returns the value as this type, with every part of it that can be converted.

    A field that cannot be converted has its default, and such an item of a list is left out.

    Args:
        value: JSON as dicts, lists, strings, numbers, truth values and None.
        type: A type that msgspec knows, or a union of such types.
        dec_hook: Decodes the types that msgspec does not know, as in `msgspec.convert`.

    Returns:
        The converted value, or UNSET if no part can be converted.
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
    """Returns an object's keys that the Struct type has, without the optional ones whose
    value cannot be converted."""
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
