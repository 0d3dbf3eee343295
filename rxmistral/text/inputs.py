"""The items that operators on text accept."""

from __future__ import annotations

from ..rx.state_machine import InputType

__all__ = ["text_for"]

_REMEDIES = {
    "CompletionEvent": "put text() before it",
    "DeltaMessage": "put text() before it, in place of deltas()",
    "ChatCompletionResponse": "put text() before it, in place of to_response()",
    "TextChunk": "put a map() to the text of each chunk before it",
    "ThinkChunk": "put a map() to the text of each chunk before it",
    "TextDelta": "put text() before it, in place of parts()",
    "ThinkingDelta": "put text() before it, in place of parts()",
    "ServerSentEvent": "put completions() and text() before it",
    "bytes": "put lines(), events(), completions() and text() before it",
}


def text_for(operator: str) -> InputType:
    return InputType(operator, str, "text", _REMEDIES)
