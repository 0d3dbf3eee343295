"""The JSON schema of a type, as services require it: of an object, at its top."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..lenient_decoding import check_decodable, custom_types
from ..pydantic_models import model_schemas

__all__ = ["closed_schema", "object_schema"]

_DEFINITIONS = "#/$defs/"


def object_schema(type: Any) -> dict[str, Any]:
    """Returns the JSON schema of a type whose JSON is an object.

    The top of the schema has `"type": "object"`, and is not a reference.

    Raises:
        TypeError: The type has no schema, cannot be decoded, or its JSON may be anything but
            an object.
    """
    check_decodable(type)
    references, definitions = model_schemas(custom_types(type), _DEFINITIONS + "{model}")
    schema = msgspec.json.schema(type, schema_hook=references.__getitem__)
    for name in schema.get("$defs", {}):
        if name in definitions:
            raise TypeError(f"two types are named {name!r}: rename one of them")
    return _with_object_at_top(schema, {**definitions, **schema.pop("$defs", {})})


def _with_object_at_top(root: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    definitions = dict(definitions)
    if "$ref" in root:
        reference, name = root["$ref"], root["$ref"].removeprefix(_DEFINITIONS)
        # A description of the reference describes this use of the type.
        root = {**definitions[name], **{key: root[key] for key in root if key != "$ref"}}
        if json.dumps(reference) not in json.dumps(definitions):  # not a recursive type
            del definitions[name]
    if not _is_object(root, definitions):
        raise TypeError("its JSON is not always an object; make it a field of a Struct")
    return {**root, "type": "object", **({"$defs": definitions} if definitions else {})}


def _is_object(schema: dict[str, Any], definitions: dict[str, Any]) -> bool:
    """Returns whether every value is an object, as are those of a union of Structs."""
    if "$ref" in schema:
        return _is_object(definitions[schema["$ref"].removeprefix(_DEFINITIONS)], definitions)
    members = schema.get("anyOf") or schema.get("oneOf")
    if members:
        return all(_is_object(member, definitions) for member in members)
    return schema.get("type") == "object"


def closed_schema(schema: Any) -> Any:
    """Returns a schema in which no object may have other keys than those it names."""
    if isinstance(schema, list):
        return [closed_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: closed_schema(each) for key, each in schema.items()}
    # The schema of a dict names no keys, and any key is valid in it.
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed["additionalProperties"] = False
    return closed
