"""JSON as models write it.

RFC 8259, 7: "All Unicode characters may be placed within the quotation marks, except for
the characters that MUST be escaped: quotation mark, reverse solidus, and the control
characters (U+0000 through U+001F)." Models put raw line ends and tabs into their strings
all the same. msgspec refuses them, so what it refuses is decoded once more, with those
characters escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["decoder", "with_escapes"]

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.S)
_CONTROL = re.compile(r"\\.|[\x00-\x1f]", re.S)
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.S,
)


def decoder(type: Any) -> Callable[[str], Any]:
    """Returns a decoder of one JSON text that accepts control characters in its strings.

    Raises what `msgspec.json.decode` raises; an escape that is half of a surrogate pair,
    which stands for no character, is named in the error.
    """
    decode = msgspec.json.Decoder(type).decode

    def decode_leniently(text: str) -> Any:
        try:
            return decode(text)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            escaped = with_escapes(text)
        try:
            return decode(escaped)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            _refuse_half_pair(decode, escaped)
            raise

    return decode_leniently


def with_escapes(text: str) -> str:
    """The JSON text, or the beginning of one, with the control characters escaped that
    stand in its strings."""
    return _STRING.sub(lambda string: _CONTROL.sub(_escaped, string[0]), text)


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0][0] == "\\" else f"\\u{ord(found[0]):04x}"


def _refuse_half_pair(decode: Callable[[str], Any], text: str) -> None:
    """Raise if nothing else is wrong with the text."""
    halves = [found["half"] for found in _ESCAPE.finditer(text) if found["half"]]
    if not halves:
        return
    try:
        decode(_ESCAPE.sub(lambda found: r"\ufffd" if found["half"] else found[0], text))
    except msgspec.ValidationError:
        pass
    except msgspec.DecodeError:
        return
    raise msgspec.DecodeError(f"JSON is malformed: \\{halves[0]} is half of a surrogate pair")
