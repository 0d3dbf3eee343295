"""The trimming of a history to whole turns: the latest ones, or those that `trim` chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import TypeAlias

from ..models import Message, SystemMessage, UserMessage
from .history import as_message, fitted

__all__ = ["Trim", "trimmed", "turns_within"]

Trim: TypeAlias = Callable[[list[Message]], Iterable[Message]]


def turns_within(max_messages: int) -> Trim:
    """Returns a function that keeps the latest turns that have at most so many messages.

    The system message does not count. The latest turn is always kept.
    """

    def trim(messages: list[Message]) -> list[Message]:
        head = _head_length(messages)
        borders = [
            index
            for index in range(head, len(messages))
            if index == head or isinstance(messages[index], UserMessage)
        ]
        begin = next((each for each in borders if len(messages) - each <= max_messages), None)
        if begin is None:
            begin = borders[-1] if borders else head
        return messages[:head] + messages[begin:]

    return trim


def trimmed(messages: list[Message], trim: Trim | None, interrupted: str) -> list[Message]:
    """Returns the messages that `trim` keeps. They can be sent, if the argument can be sent.

    If `trim` drops the user message of a turn, the rest of the turn is dropped, too.

    Raises:
        TypeError, ValueError: The result of `trim` lacks the last user message, or is not an
            iterable of messages.
    """
    if trim is None:
        return messages
    kept = [as_message(each, "a message that trim returns") for each in trim(list(messages))]
    head = _head_length(kept)
    if kept[head:] and kept[head] is not messages[_head_length(messages)]:
        rest = kept[head:]
        while rest and not isinstance(rest[0], UserMessage) and _is_in(rest[0], messages):
            del rest[0]
        kept = kept[:head] + rest
    if messages and isinstance(messages[-1], UserMessage) and messages[-1:] != kept[-1:]:
        raise ValueError("trim must keep the last user message, which the model is to answer")
    return fitted(kept, interrupted)


def _is_in(message: Message, messages: Iterable[Message]) -> bool:
    return any(message is each for each in messages)


def _head_length(messages: Sequence[Message]) -> int:
    return sum(1 for _ in takewhile(lambda each: isinstance(each, SystemMessage), messages))
