"""Pydantic models among the types that msgspec knows, without importing pydantic.

A program that passes a model has imported pydantic itself. msgspec calls these functions as
its hooks for the classes that it does not know, wherever in a type they are.
"""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

__all__ = [
    "annotation_decoder", "check_model", "decode_model", "encode_model", "is_model", "is_pydantic_dataclass",
    "is_root_model", "model_schemas", "with_joined_path",
]  # fmt: skip


def is_model(type: Any) -> bool:
    """Returns whether the type is a model of pydantic 2."""
    return _is_subclass(type, "BaseModel") and hasattr(type, "model_validate_json")


def check_model(model: Any) -> None:
    """Raises TypeError if an annotation of a model is not defined."""
    try:
        model.model_rebuild()  # does nothing if it is complete
    except NameError as error:
        raise TypeError(f"{model!r} is not fully defined: {error}") from None


def is_root_model(type: Any) -> bool:
    """Returns whether the JSON of a model is that of its only field, of any kind."""
    return _is_subclass(type, "RootModel")


def is_pydantic_dataclass(type: Any) -> bool:
    """Returns whether the type is a dataclass of pydantic, whose validation msgspec omits."""
    return hasattr(type, "__pydantic_validator__") and not is_model(type)


def _is_subclass(type: Any, base: str) -> bool:
    base_class = getattr(sys.modules.get("pydantic"), base, None)
    return (
        base_class is not None and isinstance(type, builtins.type) and issubclass(type, base_class)
    )


# --- values ----------------------------------------------------------------------


def decode_model(type: Any, value: Any) -> Any:
    """Returns decoded JSON as a model; the `dec_hook` of msgspec.

    Raises:
        ValueError: The value is not valid for the model. The text is that of pydantic's first
            error, with its path in msgspec's notation.
    """
    if type is object:  # which msgspec does not know
        return value
    if not is_model(type):
        raise NotImplementedError(f"cannot decode {type!r}")
    return _validated(type.model_validate_json, value)


def annotation_decoder(annotation: Any) -> Callable[[Any], Any]:
    """Returns a function that converts decoded JSON as pydantic does for this annotation."""
    adapter = sys.modules["pydantic"].TypeAdapter(annotation)
    return lambda value: _validated(adapter.validate_json, value)


def _validated(validate_json: Callable[[bytes], Any], value: Any) -> Any:
    """Validates JSON, since a strict model refuses a str for a date only in Python values."""
    try:
        return validate_json(msgspec.json.encode(value))
    except sys.modules["pydantic"].ValidationError as error:
        problem = error.errors(include_url=False)[0]
        keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in problem["loc"])
        path = "".join(keys)
        raise ValueError(problem["msg"] + (f" - at `${path}`" if path else "")) from error


_TWO_PATHS = re.compile(r" - at `\$([^`]*)` - at `\$([^`]*)`\Z")


def with_joined_path(error: msgspec.ValidationError) -> msgspec.ValidationError:
    """Returns msgspec's error with one path: that of the model, and then that inside of it."""
    text = str(error)
    joined = _TWO_PATHS.sub(r" - at `$\2\1`", text)
    return error if joined == text else msgspec.ValidationError(joined)


def encode_model(value: Any) -> Any:
    """Returns a model as values that msgspec encodes."""
    return value.model_dump(mode="json")


# --- schemas ---------------------------------------------------------------------


def model_schemas(
    models: Iterable[Any], ref_template: str
) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Returns the JSON schema of each model, a reference, and the definitions of all of them.

    Raises:
        TypeError: A field of a model has no JSON schema, or its annotation is not defined.
    """
    modes = [(model, "validation") for model in models]
    if not modes:
        return {}, {}
    pydantic = sys.modules["pydantic"]
    try:
        schemas, rest = pydantic.json_schema.models_json_schema(modes, ref_template=ref_template)
    except pydantic.PydanticUserError as error:
        raise TypeError(error.message) from None
    return {model: schema for (model, _), schema in schemas.items()}, rest.get("$defs", {})
