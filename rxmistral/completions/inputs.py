"""The items that operators on completions accept."""

from __future__ import annotations

from ..models import CompletionEvent
from ..rx.input_type import InputType

__all__ = ["completions_for"]

_BEFORE_COMPLETIONS = {
    "str": "put it before text()",
    "DeltaMessage": "put it before deltas()",
    "ServerSentEvent": "put completions() before it",
    "bytes": "put lines(), events() and completions() before it",
}


def completions_for(operator: str) -> InputType:
    """What an operator of completions takes."""
    remedies = dict(_BEFORE_COMPLETIONS)
    if operator == "text":
        remedies["str"] = "leave the second text() out"
    return InputType(operator, CompletionEvent, "completions", remedies)
