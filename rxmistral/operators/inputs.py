"""What the operators of completions and of text take."""

from __future__ import annotations

from ..models import CompletionEvent
from ..rx.input_type import Input

__all__ = ["completions_for", "text_for"]

_BEFORE_COMPLETIONS = {
    "str": "put it before text()",
    "DeltaMessage": "put it before deltas()",
    "ServerSentEvent": "put completions() before it",
    "bytes": "put lines(), events() and completions() before it",
}
_BEFORE_TEXT = {
    "CompletionEvent": "put text() before it",
    "DeltaMessage": "put text() before it, in place of deltas()",
    "ChatCompletionResponse": "put text() before it, in place of what makes responses",
    "TextChunk": "put a map() to the text of each chunk before it",
    "ThinkChunk": "put a map() to the text of each chunk before it",
    "ServerSentEvent": "put completions() and text() before it",
    "bytes": "put lines(), events(), completions() and text() before it",
}


def completions_for(operator: str) -> Input:
    """What an operator of completions takes."""
    remedies = dict(_BEFORE_COMPLETIONS)
    if operator == "text":
        remedies["str"] = "leave the second text() out"
    return Input(operator, CompletionEvent, "completions", remedies)


def text_for(operator: str) -> Input:
    """What an operator of text takes."""
    return Input(operator, str, "text", _BEFORE_TEXT)
