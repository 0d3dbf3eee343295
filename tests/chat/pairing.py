"""The rules by which Mistral accepts a history, as a checker.

They were tried against the service: a result follows the message whose call it answers, each call
is answered exactly once, and an assistant message has text or calls.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

_FOLLOWERS = {  # the roles that may follow a role; "tool": after the results of all calls
    "": {"system", "user"},
    "system": {"system", "user"},
    "user": {"assistant"},
    "assistant": {"user"},
    "tool": {"assistant"},
}
_CALL_ID = re.compile("[a-zA-Z0-9]{9}")


def problems(messages: Iterable[Any], declared: Collection[str] = ()) -> list[str]:
    """Returns what Mistral would refuse in a history to which a user message or, after a result
    of a tool, an answer is added.

    Args:
        messages: The history, as it would be sent.
        declared: The names of the tools whose calls may be open at the end.
    """
    found: list[str] = []
    previous, seen = "", set[str]()
    waiting: dict[str, str] = {}  # ids of calls without a result, with the name of the tool
    for index, message in enumerate(msgspec.to_builtins(list(messages))):
        role = message["role"]
        if role == "tool":
            call_id = message.get("tool_call_id")
            if call_id not in waiting:
                found.append(f"{index}: a result without a call, or the second one: {call_id}")
            elif waiting.pop(call_id) != message.get("name"):
                found.append(f"{index}: a result of another tool")
            if not isinstance(message["content"], str):
                found.append(f"{index}: a result without content")
        else:
            if waiting:
                found.append(f"{index}: {role} follows calls without results: {[*waiting]}")
            if role not in _FOLLOWERS[previous]:
                found.append(f"{index}: {role} follows {previous or 'nothing'}")
            waiting = {}
        if role == "assistant":
            calls = message.get("tool_calls") or []
            if not calls and not _text(message.get("content")).strip():
                found.append(f"{index}: an empty assistant message")
            for call in calls:
                if not _CALL_ID.fullmatch(call["id"]) or call["id"] in seen:
                    found.append(
                        f"{index}: the id of a call is invalid or used twice: {call['id']}"
                    )
                seen.add(call["id"])
                waiting[call["id"]] = call["function"]["name"]
        previous = role
    found += [f"the call {each} is open" for each, name in waiting.items() if name not in declared]
    return found


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""
