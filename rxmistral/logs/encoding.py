"""Items as lines of JSON, and back; never pickle, since a log may be anybody's.

    "Hello"                 {"value":"Hello"}
    CompletionEvent(...)    {"CompletionEvent":{...}}
    the end                 {"end":null}
    the end, by an error    {"end":{"error":"ReportedError","fields":["overloaded",null,null]}}

The name is one of our own classes, looked up in a table: nothing else is ever made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec

from ..errors import LogError, MistralError, ReportedError, StoppedError
from ..models import decode_hook
from ..outcome import Outcome

__all__ = ["STOPPED", "decode_ending", "decode_item", "encode_ending", "encode_item"]


# Looked up in the package by name, so that a log does not depend on the modules that define
# them; from_log() and to_log() are part of that package, which is therefore there.
_PACKAGE = __name__.partition(".")[0]


@cache
def _public_class(name: str, base: type[Any]) -> type[Any] | None:
    """Returns the class of this name that the package exports, if it is a subclass of `base`."""
    package = sys.modules[_PACKAGE]
    found = getattr(package, name, None) if name in package.__all__ else None
    return found if isinstance(found, type) and issubclass(found, base) else None


_encode = msgspec.json.Encoder().encode
_decode_tagged = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


def _tag_of(kind: type[Any]) -> str:
    """Returns the name that tags items of this type; "value" for JSON values."""
    name = kind.__name__
    is_ours = _public_class(name, msgspec.Struct) is kind
    return name if is_ours and kind is not Outcome else "value"  # an Outcome holds an exception


@cache
def _decoder(name: str) -> Callable[[bytes], Any]:
    struct = _public_class(name, msgspec.Struct)
    if struct is None:
        raise KeyError(name)
    return msgspec.json.Decoder(struct, dec_hook=decode_hook).decode


# --- items -----------------------------------------------------------------------


def encode_item(item: object) -> bytes:
    """An item as a line of JSON.

    Raises:
        LogError: What would be read is not what was written.
    """
    name = _tag_of(type(item))
    try:
        encoded = _encode({name: item})
        if name != "value":
            _decoder(name)  # what is only ever sent has none
        elif not isinstance(item, str) and decode_item(encoded) != item:
            raise TypeError("it would be read as something else")
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise LogError(f"an item of the type {type(item).__name__}: {error}") from error
    return encoded


def decode_item(encoded: bytes) -> Any:
    try:
        ((name, value),) = _decode_tagged(encoded).items()
        return _decode(value) if name == "value" else _decoder(name)(value)
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise LogError(f"it holds what this version cannot read: {error!r}") from error


# --- endings ---------------------------------------------------------------------


def encode_ending(error: Exception | None) -> bytes:
    """The end of a run as a line of JSON; None is completion."""
    return _encode({"end": None if error is None else _described(error)})


def decode_ending(encoded: bytes) -> Exception | None:
    """The error that a run ended with, or None."""
    try:
        described = _decode(encoded)["end"]
        if described is None:
            return None
        return _error_from(described["error"], described["fields"])
    except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise LogError(f"it holds what this version cannot read: {error!r}") from error


def _described(error: Exception) -> dict[str, Any]:
    """An error of ours by its class and its fields; of any other, what it says."""
    name = type(error).__name__
    if not isinstance(error, MistralError) or _public_class(name, MistralError) is not type(error):
        return _described(ReportedError(_text(str(error)), name))
    fields = [_plain(getattr(error, field)) for field in error.__match_args__]
    return {"error": name, "fields": fields}


def _plain(field: Any) -> Any:
    if isinstance(field, Exception):
        return _described(field)
    if isinstance(field, Mapping):
        return {_text(str(name)): _plain(value) for name, value in field.items()}
    if isinstance(field, (list, tuple)):
        return [_plain(each) for each in field]
    return _text(field) if isinstance(field, str) else field


def _text(text: str) -> str:
    """JSON has no lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _field_from(plain: Any) -> Any:
    """The reverse of `_plain`."""
    if isinstance(plain, list):
        return [_field_from(each) for each in plain]
    if isinstance(plain, dict) and plain.keys() == {"error", "fields"}:
        return _error_from(plain["error"], plain["fields"])
    return plain


def _error_from(name: str, fields: list[Any]) -> MistralError:
    kind = _public_class(name, MistralError)
    if kind is None:
        raise KeyError(name)
    error: MistralError = kind(*map(_field_from, fields))
    return error


STOPPED = encode_ending(StoppedError())
