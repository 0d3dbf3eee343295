"""A search for keys in an exchange that is to be recorded, in any spelling of them.

A body may escape the characters of a key (`sk\\/1`, `sk\\u002f1`), at any depth of JSON within JSON.
A block may end within a key. A model writes a key in several tokens, each in an event of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from msgspec import to_builtins

from ..completions.accumulator import CompletionAccumulator
from ..completions.decoding import CompletionDecoder
from ..errors import MistralError
from ..wire import decode_events
from .steps import encode

__all__ = ["contains_key", "keys_of"]

_KEY_HEADERS = ("authorization", "api-key", "x-api-key")
_MIN_KEY_LENGTH = 6  # a shorter one, such as that of the demo server, may be any word
_ESCAPE = re.compile(rb"(?<!\\)\\+u00([0-7][0-9a-f])", re.IGNORECASE)


def keys_of(headers: Mapping[str, str]) -> Iterator[str]:
    """Yields the keys in the headers of a request."""
    for name, value in headers.items():
        key = value.rpartition(" ")[2]
        if name.lower() in _KEY_HEADERS and len(key) >= _MIN_KEY_LENGTH:
            yield key


def contains_key(keys: Iterable[str], texts: Iterable[bytes], body: bytes) -> bool:
    """Returns whether a key occurs in a text, in the body of a response, or in its answer."""
    searched = [_unescaped(text) for text in (*texts, body, _answer_in(body))]
    unescaped_keys = [_unescaped(key.encode("utf-8")) for key in keys]
    return any(key in text for key in unescaped_keys for text in searched)


def _unescaped(text: bytes) -> bytes:
    """Returns a text without the escapes of JSON and without backslashes."""
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text).replace(b"\\", b"")


def _answer_in(body: bytes) -> bytes:
    """Returns the answer, with its tokens joined, as JSON; as far as the body has one."""
    received = CompletionAccumulator()
    decoder = CompletionDecoder(received)
    with suppress(MistralError):  # an answer that broke
        for event in decode_events([body]):
            decoder.feed(event)
    return encode(to_builtins(received.response(with_unfinished=True)))
