"""Texts in pieces, to test that output does not depend on how its text was cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from rxmistral.rx.state_machine import StateMachine


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> list[str]:
    """A text in pieces, some of them empty."""
    text = draw(texts)
    places = draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def every_way(text: str) -> Iterable[list[str]]:
    """The whole text, its characters, and the text cut in two at each place."""
    yield [text]
    yield list(text)
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]


def through(machine: StateMachine[str, Any], pieces: Iterable[str]) -> list[Any]:
    """The output of a machine for the pieces and the end."""
    output = [item for piece in pieces for item in machine.feed(piece)]
    return [*output, *machine.close()]
