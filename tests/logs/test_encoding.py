"""What is kept is read as what it was."""

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
def test_any_text_comes_back_as_one_line(text: str) -> None:
    encoded = encode_item(text)
    assert decode_item(encoded) == text
    assert b"\n" not in encoded


@given(PYTHON)
def test_an_item_comes_back_equal_or_is_refused(item: Any) -> None:
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
def test_what_would_come_back_as_something_else_is_refused(item: Any) -> None:
    with pytest.raises(LogError):
        encode_item(item)


@pytest.mark.parametrize(
    "kept", [b"", b"1", b"{}", b"null", b'{"a":1,"b":2}', b'{"Own":{}}', b'{"CompletionEvent":{}}']
)
def test_what_we_did_not_write_is_an_error_of_ours(kept: bytes) -> None:
    with pytest.raises(LogError):
        decode_item(kept)


ALL = [getattr(errors, name) for name in errors.__all__]
ARGUMENTS: dict[str, Any] = {
    "status": 500, "headers": {"a": "b"}, "seconds": 1.5, "errors": (ReportedError("x"),),
    "position": 3, "missed": 4,
}  # fmt: skip


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_of_ours_comes_back_with_its_class_and_fields(kind: type[MistralError]) -> None:
    error = kind(*(ARGUMENTS.get(name, f"a {name}") for name in kind.__match_args__))
    came = decode_ending(encode_ending(error))
    assert type(came) is kind
    assert str(came) == str(error)
    for name in kind.__match_args__:
        if name != "errors":
            assert getattr(came, name) == getattr(error, name)


def test_the_errors_of_many_come_back() -> None:
    came = decode_ending(encode_ending(AllFailedError([ReportedError("a"), KeyError("b")])))
    assert isinstance(came, AllFailedError)
    assert [str(error) for error in came.errors] == [
        str(ReportedError("a")),
        str(ReportedError("'b'", "KeyError")),
    ]


def test_an_error_that_is_not_ours_comes_back_as_what_it_said() -> None:
    class StatusError(Exception):  # of somebody else
        pass

    came = decode_ending(encode_ending(StatusError("that \ud800")))
    assert isinstance(came, ReportedError)
    assert (came.message, came.type) == ("that ?", "StatusError")


@pytest.mark.parametrize(
    "kept",
    [
        *(b"", b"1", b"{}", b'{"end":3}', b'{"end":{"error":"KeyError","fields":[]}}'),
        b'{"end":{"error":"StatusError","fields":[1]}}',
    ],
)
def test_an_ending_that_we_did_not_write_is_an_error_of_ours(kept: bytes) -> None:
    with pytest.raises(LogError):
        decode_ending(kept)


def test_the_end_is_none() -> None:
    assert decode_ending(encode_ending(None)) is None
