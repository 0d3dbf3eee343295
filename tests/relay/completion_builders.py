"""Builders of completions to relay."""

from __future__ import annotations

from typing import Any

from rxmistral import (
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DeltaMessage,
    FunctionCall,
    ToolCall,
)


def completion(
    content: Any = None, *calls: ToolCall, finish: str | None = None, choice: int | None = 0
) -> CompletionEvent:
    delta = DeltaMessage(content=content, tool_calls=list(calls) or None)
    one = CompletionResponseStreamChoice(index=choice, delta=delta, finish_reason=finish)
    return CompletionEvent(data=CompletionChunk(id="a1", created=1, choices=[one]))


def call(
    arguments: Any = None, name: str | None = None, id: str | None = None, index: int | None = 0
) -> ToolCall:
    return ToolCall(id=id, index=index, function=FunctionCall(name=name, arguments=arguments))
