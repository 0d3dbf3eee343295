"""The pieces of a text to the whole text."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable

from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from .inputs import text_for

__all__ = ["join"]


def join() -> Callable[[Observable[str]], Stream[str]]:
    """Text into one string, the whole text.

        --"Hel"--"lo"-|->
        --------------"Hello"|->

    Emits: exactly one string at the end; "" if the source emitted none.
    Holds: the whole text.
    Errors: as the source does, after the text so far, if there is any.

    >>> import reactivex
    >>> reactivex.of("Hel", "lo").pipe(join()).run()
    'Hello'
    >>> Stream.of(reactivex.empty()).pipe(join()).run()
    ''
    """
    return machine_operator(_Joined, text_for("join"))


class _Joined(StateMachine[str, str]):
    def __init__(self) -> None:
        self._pieces: list[str] = []

    def feed(self, text: str) -> tuple[()]:
        self._pieces.append(text)
        return ()

    def close(self) -> tuple[str]:
        return ("".join(self._pieces),)

    def close_after_error(self) -> list[str]:
        text = "".join(self._pieces)
        return [text] if text else []  # a refused request must not look like an empty answer
