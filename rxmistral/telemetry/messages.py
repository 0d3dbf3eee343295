"""Mistral's messages to JSON in the shape of the semantic conventions: a role and parts.

{"role": "user", "content": "Hi"}
{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from ..outcome import Outcome

__all__ = ["input_messages", "output_messages"]


def input_messages(messages: msgspec.Raw) -> str:
    """Returns the messages of a request, as JSON."""
    return _encode([_message(each) for each in msgspec.json.decode(messages)])


def output_messages(outcome: Outcome) -> str:
    """Returns the message of each choice of an answer, as far as it was received, as JSON."""
    return _encode([*_output_messages(outcome)])


def _output_messages(outcome: Outcome) -> Iterator[dict[str, Any]]:
    for choice in outcome.response.choices:
        if choice.message is not None:
            message = _message(msgspec.to_builtins(choice.message))
            yield {**message, "finish_reason": choice.finish_reason or "error"}


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role, content = message.get("role"), message.get("content")
    if role == "tool":
        call_id = message.get("tool_call_id")
        parts = [{"type": "tool_call_response", "id": call_id, "response": content}]
    else:
        calls = message.get("tool_calls") or ()
        parts = [*map(_content_part, _chunks(content)), *map(_call_part, calls)]
    return {"role": role, "parts": parts}


def _chunks(content: Any) -> Any:
    if not content:
        return ()
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _content_part(chunk: Any) -> Any:
    match chunk:
        case {"type": "text", "text": text}:
            return {"type": "text", "content": text}
        case {"type": "thinking", "thinking": list(thoughts)}:
            texts = (str(each["text"]) for each in thoughts if "text" in each)
            return {"type": "reasoning", "content": "".join(texts)}
        case _:  # the conventions allow a part of any other type
            return chunk


def _call_part(call: Any) -> Any:
    match call:
        case {"function": {"name": name, "arguments": arguments}}:
            if isinstance(arguments, str):
                with suppress(msgspec.DecodeError):  # incomplete, or not JSON
                    arguments = msgspec.json.decode(arguments)
            return {
                "type": "tool_call",
                "id": call.get("id"),
                "name": name,
                "arguments": arguments,
            }
        case _:
            return call


def _encode(messages: list[dict[str, Any]]) -> str:
    text = json.dumps(messages, ensure_ascii=False, separators=(",", ":"))
    # An exporter could not write half of a surrogate pair.
    return text.encode("utf-8", "replace").decode()
