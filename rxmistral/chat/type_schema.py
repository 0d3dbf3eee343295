"""The JSON schema of a type, as services require it: of an object, at its top."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from ..lenient_decoding import check_decodable, custom_types, type_name
from ..pydantic_models import is_root_model, model_schemas

__all__ = ["closed_schema", "object_schema"]

_DEFINITIONS = "#/$defs/"


def object_schema(type: Any) -> dict[str, Any]:
    """Returns the JSON schema of a type, with `"type": "object"` at its top.

    If a value of the type is never an object, as a list, the schema is that of an object
    `{"value": ...}` around it. The operators of `text/structured` unwrap it.

    Raises:
        TypeError: The type has no schema, or cannot be decoded, or only some of its values are
            objects.
    """
    check_decodable(type)
    models = list(custom_types(type))
    references, definitions = model_schemas(models, _DEFINITIONS + "{model}")
    schema = msgspec.json.schema(type, schema_hook=references.__getitem__)
    own_definitions = schema.pop("$defs", {})
    for name in own_definitions.keys() & definitions.keys():
        raise TypeError(f"two types are named {name!r}: rename one of them")
    definitions.update(own_definitions)
    kinds = _kinds(schema, definitions)
    if kinds == {"object"}:
        schema, definitions = _resolved(schema, definitions)
    elif kinds & {"object", "any"} or any(map(is_root_model, models)):
        raise TypeError(
            "some values of the type are objects and some are not; make it a field of a Struct: "
            f"write `class Answer(msgspec.Struct): value: {type_name(type)}`, and pass Answer here "
            "and to parsed()"
        )
    else:
        schema = {"properties": {"value": schema}, "required": ["value"]}
    return {**schema, "type": "object", **({"$defs": definitions} if definitions else {})}


def _resolved(
    schema: dict[str, Any], definitions: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a schema that is not a reference, and the definitions that are then needed."""
    if "$ref" not in schema:
        return schema, definitions
    reference = schema["$ref"]
    name = reference.removeprefix(_DEFINITIONS)
    # Its other keys, such as a description, are about this use of the definition.
    schema = {**definitions[name], **{key: schema[key] for key in schema if key != "$ref"}}
    is_recursive = json.dumps(reference) in json.dumps(definitions)
    rest = {key: each for key, each in definitions.items() if is_recursive or key != name}
    return _resolved(schema, rest)


def _kinds(schema: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """Returns the JSON types of the values of a schema; "any" for one that allows all."""
    if "$ref" in schema:
        return _kinds(definitions[schema["$ref"].removeprefix(_DEFINITIONS)], definitions)
    members = schema.get("anyOf") or schema.get("oneOf")
    if members:
        return set().union(*(_kinds(member, definitions) for member in members))
    if "enum" in schema or "const" in schema:
        return {"scalar"}
    kinds = schema.get("type", "any")
    return {kinds} if isinstance(kinds, str) else set(kinds)


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
