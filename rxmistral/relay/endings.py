"""How a run ended, in words for a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from ..error_report import excerpt
from ..errors import MistralError
from ..outcome import Status, status_of

__all__ = ["Describe", "Ending", "described", "ending_of"]

Describe: TypeAlias = Callable[[Exception], str]

_FAULT = "the program that answers has a fault"


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run ended.

    Attributes:
        status: As in `Outcome`: "completed", "cancelled", "refused", "timed_out",
            "dropped", "truncated", "reported" or "failed".
        error: The name of the error's class, or None.
        message: What is said of the error, or None.
    """

    status: Status
    error: str | None = None
    message: str | None = None


def ending_of(error: Exception | None, describe: Describe) -> Ending:
    if error is None:
        return Ending(status="completed")
    return Ending(status=status_of(error), error=type(error).__name__, message=describe(error))


def described(error: Exception) -> str:
    """What a page is told of an error: the text of a `MistralError`, on one line, which
    has the service's words in it and never a key. What any other error says is for who
    runs the program, and no page is told.

    >>> from rxmistral import DroppedStreamError
    >>> described(DroppedStreamError("reset by peer"))
    'the connection broke in the middle of the answer: reset by peer'
    >>> described(KeyError("password"))
    'the program that answers has a fault'
    """
    return excerpt(str(error)) if isinstance(error, MistralError) else _FAULT
