"""A decoder for JSON that a model wrote.

RFC 8259, 7: "All Unicode characters may be placed within the quotation marks, except for
the characters that MUST be escaped: quotation mark, reverse solidus, and the control
characters (U+0000 through U+001F)." Models nevertheless put raw line ends and tabs into
strings, and msgspec refuses them. So text that msgspec refuses is decoded a second time, with
those characters escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["decoder"]

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.S)
_CONTROL = re.compile(r"\\.|[\x00-\x1f]", re.S)
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.S,
)


def decoder(type: Any) -> Callable[[str], Any]:
    """Returns a decoder of one JSON text that accepts raw control characters in strings.

    The decoder raises what `msgspec.json.decode` raises. If the text contains half of a
    surrogate pair as an escape, which stands for no character, the error names the escape.
    """
    decode = msgspec.json.Decoder(type).decode

    def decode_leniently(text: str) -> Any:
        try:
            return decode(text)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            escaped = _escape_control_characters(text)
        try:
            return decode(escaped)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            _raise_half_pair(decode, escaped)
            raise

    return decode_leniently


def _escape_control_characters(text: str) -> str:
    """Returns a JSON text, or the beginning of one, with the control characters in its strings
    escaped."""
    return _STRING.sub(lambda string: _CONTROL.sub(_escape, string[0]), text)


def _escape(match: re.Match[str]) -> str:
    return match[0] if match[0][0] == "\\" else f"\\u{ord(match[0]):04x}"


def _raise_half_pair(decode: Callable[[str], Any], text: str) -> None:
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
