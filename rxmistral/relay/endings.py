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


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run ended.

    Attributes:
        status: As in `Outcome`: "completed", "cancelled", "refused", "timed_out",
            "dropped", "truncated", "reported" or "failed".
        error: The name of the error's class, or None.
        message: The description of the error, or None.
    """

    status: Status
    error: str | None = None
    message: str | None = None


def ending_of(error: Exception | None, describe: Describe) -> Ending:
    """Returns how a run ended, with an error or None for completion."""
    if error is None:
        return Ending(status="completed")
    return Ending(status=status_of(error), error=type(error).__name__, message=describe(error))


def described(error: Exception) -> str:
    """Returns the description of an error for a browser, on one line.

    For a `MistralError` that is its text, which quotes the service but never contains a key.
    The text of any other error may contain details of the program, and is not sent.

    >>> from rxmistral import DroppedStreamError
    >>> described(DroppedStreamError("reset by peer"))
    'the connection broke in the middle of the answer: reset by peer'
    >>> described(KeyError("password"))
    'internal error'
    """
    return excerpt(str(error)) if isinstance(error, MistralError) else "internal error"
