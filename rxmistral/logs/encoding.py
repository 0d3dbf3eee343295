"""Items and endings of a run as lines of JSON, and back.

    "Hello"                 {"value":"Hello"}
    CompletionEvent(...)    {"CompletionEvent":{...}}
    completion              {"end":null}
    an error                {"end":{"error":"ReportedError","fields":["overloaded",null,null]}}

Not pickle: other programs may be able to write into the log, and unpickling runs code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

import msgspec

from ..errors import LogError, MistralError, ReportedError, StoppedError
from ..models import decode_hook
from ..outcome import Outcome

__all__ = ["STOPPED_ENDING", "decode_ending", "decode_item", "encode_ending", "encode_item"]

# Strategy: a line names the class of its item, such as CompletionEvent or CodeBlock. Logs must
# not import the folders that define these classes, so they are looked up at run time, in what
# the package exports. That is sound, since
#   - the package is complete when this module is loaded: it loads the logs only when one of
#     their names is used;
#   - nothing but an exported Struct or MistralError can be built, whatever a line contains;
#   - the lookup while encoding compares the class itself, so that a class of the program with
#     the name of an exported one is not mistaken for it.
_PACKAGE = __name__.removesuffix(".logs.encoding")


@lru_cache(maxsize=256)  # bounded: the names are read from the log
def _public_class(name: str, base: type[Any]) -> type[Any] | None:
    package = sys.modules[_PACKAGE]
    exported = getattr(package, name, None) if name in package.__all__ else None
    return exported if isinstance(exported, type) and issubclass(exported, base) else None


_encode = msgspec.json.Encoder().encode
_decode_tagged = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


def _tag_of(kind: type[Any]) -> str:
    name = kind.__name__
    is_public = _public_class(name, msgspec.Struct) is kind
    return name if is_public and kind is not Outcome else "value"  # an Outcome has an exception


@cache
def _decoder(name: str) -> Callable[[bytes], Any]:
    struct = _public_class(name, msgspec.Struct)
    if struct is None:
        raise KeyError(name)
    return msgspec.json.Decoder(struct, dec_hook=decode_hook).decode


def encode_item(item: object) -> bytes:
    """Returns an item as a line of JSON; raises LogError unless that decodes to an equal item."""
    name = _tag_of(type(item))
    try:
        encoded = _encode({name: item})
        if name != "value":
            _decoder(name)  # raises for a Struct that is only ever sent, and has no decoder
        elif not isinstance(item, str) and decode_item(encoded) != item:
            raise TypeError("its value does not survive a JSON round trip")
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise LogError(f"cannot log an item of type {type(item).__name__}: {error}") from error
    return encoded


def decode_item(encoded: bytes) -> Any:
    """Returns the item of a line; raises LogError if this version cannot decode it."""
    try:
        ((name, value),) = _decode_tagged(encoded).items()
        return _decode(value) if name == "value" else _decoder(name)(value)
    except (KeyError, TypeError, ValueError, NotImplementedError, msgspec.MsgspecError) as error:
        raise LogError(f"cannot decode an item: {error!r}") from error


def encode_ending(error: Exception | None) -> bytes:
    """Returns the ending of a run as a line of JSON; None stands for completion."""
    return _encode({"end": None if error is None else _encodable_error(error)})


def decode_ending(encoded: bytes) -> Exception | None:
    """Returns the error of an ending, or None; raises LogError if it cannot be decoded."""
    try:
        encodable = _decode(encoded)["end"]
        return None if encodable is None else _error_from(encodable["error"], encodable["fields"])
    except Exception as error:  # an error class may raise anything, given fields of other types
        raise LogError(f"cannot decode an ending: {error!r}") from error


def _encodable_error(error: Exception) -> dict[str, Any]:
    """Returns the class and fields of an error; those of a ReportedError for a foreign one."""
    name = type(error).__name__
    if not isinstance(error, MistralError) or _public_class(name, MistralError) is not type(error):
        return _encodable_error(ReportedError(_without_surrogates(str(error)), name))
    fields = [_encodable(getattr(error, field)) for field in error.__match_args__]
    return {"error": name, "fields": fields}


def _encodable(field: Any) -> Any:
    if isinstance(field, Exception):
        return _encodable_error(field)
    if isinstance(field, Mapping):
        return {_without_surrogates(str(name)): _encodable(value) for name, value in field.items()}
    if isinstance(field, (list, tuple)):
        return [_encodable(each) for each in field]
    return _without_surrogates(field) if isinstance(field, str) else field


def _without_surrogates(text: str) -> str:
    """Returns the text with ? for each lone surrogate, which UTF-8 cannot contain."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _field_from(encodable: Any) -> Any:
    if isinstance(encodable, list):
        return [_field_from(each) for each in encodable]
    if isinstance(encodable, dict) and encodable.keys() == {"error", "fields"}:
        return _error_from(encodable["error"], encodable["fields"])
    return encodable


def _error_from(name: str, fields: list[Any]) -> MistralError:
    kind = _public_class(name, MistralError)
    if kind is None:
        raise KeyError(name)
    error: MistralError = kind(*map(_field_from, fields))
    str(error)  # raises if a field has a type that the class cannot format
    return error


STOPPED_ENDING = encode_ending(StoppedError())
