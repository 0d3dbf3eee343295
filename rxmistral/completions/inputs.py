"""The input type of operators on completions."""

from __future__ import annotations

from ..models import CompletionEvent
from ..rx.state_machine import InputType

__all__ = ["completions_for"]

_REMEDIES = {
    "str": "put it before text()",
    "DeltaMessage": "put it before deltas()",
    "ServerSentEvent": "put completions() before it",
    "bytes": "put lines(), events() and completions() before it",
}


def completions_for(operator: str) -> InputType:
    """Returns completions as the input type of an operator."""
    remedies = dict(_REMEDIES)
    if operator == "text":
        remedies["str"] = "leave the second text() out"
    return InputType(operator, CompletionEvent, "completions", remedies)
