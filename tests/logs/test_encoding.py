"""Encoding: a line decodes to the item that was encoded, or the item is refused."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxmistral import errors
from rxmistral.errors import AllFailedError, LogError, MistralError, ReportedError
from rxmistral.logs.encoding import decode_ending, decode_item, encode_ending, encode_item

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
PYTHON = JSON | st.tuples(JSON) | st.binary() | st.sets(st.integers()) | st.integers()


@given(st.text())
def test_any_text_is_one_line_and_decodes_unchanged(text: str) -> None:
    encoded = encode_item(text)
    assert decode_item(encoded) == text
    assert b"\n" not in encoded


@given(PYTHON)
def test_item_decodes_equal_or_is_refused(item: Any) -> None:
    try:
        encoded = encode_item(item)
    except LogError:
        return
    assert decode_item(encoded) == item
    assert b"\n" not in encoded


class Own(msgspec.Struct):
    a: int = 1


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    "item",
    [
        *((1,), {1}, b"a", {1: 2}, [(1,)], float("nan"), 1 + 2j, object(), Own()),
        *(Colour.RED, datetime(2026, 1, 1), "\ud800"),
    ],
    ids=lambda item: type(item).__name__,
)
def test_item_that_changes_in_a_round_trip_is_refused(item: Any) -> None:
    with pytest.raises(LogError):
        encode_item(item)


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"1", b"{}", b"null", b'{"a":1,"b":2}', b'{"Own":{}}', b'{"CompletionEvent":{}}'),
        *(b'{"CustomConnector":{}}', b'{"Outcome":{"error":{}}}'),
    ],
)
def test_foreign_line_is_a_log_error(line: bytes) -> None:
    with pytest.raises(LogError):
        decode_item(line)


ALL = [getattr(errors, name) for name in errors.__all__]
ARGUMENTS: dict[str, Any] = {
    "status": 500, "headers": {"a": "b"}, "seconds": 1.5, "errors": (ReportedError("x"),),
    "position": 3, "missed": 4,
}  # fmt: skip


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_error_of_the_package_keeps_its_class_and_fields(kind: type[MistralError]) -> None:
    error = kind(*(ARGUMENTS.get(name, f"a {name}") for name in kind.__match_args__))
    decoded = decode_ending(encode_ending(error))
    assert type(decoded) is kind
    assert str(decoded) == str(error)
    for name in kind.__match_args__:
        if name != "errors":
            assert getattr(decoded, name) == getattr(error, name)


def test_nested_errors_are_decoded() -> None:
    decoded = decode_ending(encode_ending(AllFailedError([ReportedError("a"), KeyError("b")])))
    assert isinstance(decoded, AllFailedError)
    assert [str(error) for error in decoded.errors] == [
        str(ReportedError("a")),
        str(ReportedError("'b'", "KeyError")),
    ]


def test_foreign_error_is_decoded_as_reported_error() -> None:
    class StatusError(Exception):  # not the one of the package
        pass

    decoded = decode_ending(encode_ending(StatusError("that \ud800")))
    assert isinstance(decoded, ReportedError)
    assert (decoded.message, decoded.type) == ("that ?", "StatusError")


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"1", b"{}", b'{"end":3}', b'{"end":{"error":"KeyError","fields":[]}}'),
        b'{"end":{"error":"StatusError","fields":[1]}}',
        b'{"end":{"error":"LogUnavailableError","fields":["a","b"]}}',
        b'{"end":{"error":"AllFailedError","fields":[1]}}',
    ],
)
def test_foreign_ending_is_a_log_error(line: bytes) -> None:
    with pytest.raises(LogError):
        decode_ending(line)


@given(st.sampled_from(ALL), st.lists(JSON, max_size=5))
def test_error_with_foreign_fields_has_a_text_or_is_refused(
    kind: type[MistralError], fields: list[Any]
) -> None:
    line = msgspec.json.encode({"end": {"error": kind.__name__, "fields": fields}})
    try:
        decoded = decode_ending(line)
    except LogError:
        return
    assert type(decoded) is kind
    assert isinstance(str(decoded), str)


def test_completion_is_decoded_as_none() -> None:
    assert decode_ending(encode_ending(None)) is None
