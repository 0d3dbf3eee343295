"""The parts of a run that are not parts of an answer: the results of its tools, and its rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..models import ToolCall

if TYPE_CHECKING:
    Anything = object  # no `Any` reaches the program
else:
    Anything = Any  # msgspec passes an `object` to the decoding hook of a program

__all__ = ["RoundEnded", "ToolFailed", "ToolProgress", "ToolReturned"]


class ToolReturned(msgspec.Struct, frozen=True, tag="tool_returned"):
    """The result of a tool call, as the text that the model reads."""

    call: ToolCall
    content: str


class ToolFailed(msgspec.Struct, frozen=True, tag="tool_failed"):
    """A tool call without a result, and the reason that the model reads instead."""

    call: ToolCall
    message: str


class ToolProgress(msgspec.Struct, frozen=True, tag="tool_progress"):
    """An item that a tool emitted before its result, which the model does not read."""

    call: ToolCall
    item: Anything


class RoundEnded(msgspec.Struct, frozen=True, gc=False, tag="round_ended"):
    """The end of a round: an answer, and the results of its tool calls.

    Attributes:
        number: The number of requests so far, from 1; a repeated request counts once.
    """

    number: int
