"""Completions to tool calls.

A tool call arrives whole in one delta, or as fragments of its arguments in many. Both may lack
an index, an id or a name, and several calls may be interleaved.

Strategy: the first of these rules that applies assigns a fragment to its call.

1. It has an index: it continues the latest call with that index. Later fragments may have
   another id, `"null"` or none, and repeat the name or leave it empty.
2. It has the id of an earlier call: it continues that call.
3. It has no name: it continues the last call.
4. Otherwise it begins a call. Two calls are never merged only because both lack an index.

By rules 1 and 2, a call whose arguments are a whole JSON object is not continued by a fragment
with arguments or another name: some servers give all their calls the same index.

A call is known to be complete when the answer has a finish_reason or has ended normally. It is
known earlier if a later call has begun and its own arguments are a whole JSON object. (Either
alone is not enough: calls may be interleaved, and blanks may follow whole arguments.) Calls are
emitted in the order in which they began, so an incomplete one holds back those after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import takewhile
from typing import Any

import msgspec
from msgspec import structs
from reactivex import Observable

from ..models import CompletionEvent, FunctionCall, ToolCall, UnfinishedToolCall
from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from ..text.structured.incremental_parser import IncrementalParser
from ..text.structured.schema import atomic_schema
from .choice import check_choice, completions_for

__all__ = ["PartialToolCall", "ToolCallAccumulator", "tool_calls"]

# Reasons that end an answer in the middle. A call whose arguments the model has not begun to
# write looks the same as a call without arguments, so only whole arguments count as complete.
_TRUNCATING_REASONS = ("length", "model_length", "content_filter", "error")


class ToolCallAccumulator:
    """The tool calls of one answer, put together from fragments."""

    def __init__(self) -> None:
        self._open: list[PartialToolCall] = []  # not returned yet, in the order they began
        self._by_index: dict[int, PartialToolCall] = {}
        self._by_id: dict[str, PartialToolCall] = {}
        self._last: PartialToolCall | None = None

    def feed(self, fragments: Iterable[ToolCall]) -> list[ToolCall]:
        for fragment in fragments:
            self.add(fragment)
        return self.pop_complete()

    def add(self, fragment: ToolCall) -> PartialToolCall:
        """Adds a fragment; returns the call that it continues or begins."""
        call = self._continued_by(fragment) or self._begin(fragment)
        call.add(fragment)
        self._last = call
        return call

    def pop_complete(self) -> list[ToolCall]:
        """Returns the calls that are known to be complete and were not returned before."""
        if len(self._open) < 2:  # for most fragments
            return []
        complete = [*takewhile(PartialToolCall.is_whole, self._open[:-1])]
        del self._open[: len(complete)]
        return [call.tool_call() for call in complete]

    def close(self, finish_reason: str | None = None) -> list[ToolCall]:
        """Returns the remaining calls of an answer that has ended. If it was truncated, calls
        whose arguments are not whole are `UnfinishedToolCall`s."""
        remaining, self._open = self._open, []
        is_truncated = finish_reason in _TRUNCATING_REASONS
        return [
            call.unfinished() if is_truncated and not call.is_whole() else call.tool_call()
            for call in remaining
        ]

    def unfinished(self) -> list[UnfinishedToolCall]:
        """Returns the remaining calls of a broken answer."""
        remaining, self._open = self._open, []
        return [call.unfinished() for call in remaining]

    def _continued_by(self, fragment: ToolCall) -> PartialToolCall | None:
        call_id = _real_id(fragment)
        if fragment.index is not None:
            call = self._by_index.get(fragment.index)
        elif call_id in self._by_id:
            call = self._by_id[call_id]
        else:
            return None if fragment.function.name else self._last
        return None if call is None or call.cannot_continue_with(fragment) else call

    def _begin(self, fragment: ToolCall) -> PartialToolCall:
        call = PartialToolCall()
        self._open.append(call)
        call_id = _real_id(fragment)
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        if call_id is not None:
            self._by_id[call_id] = call
        return call


class PartialToolCall:
    """One call, as far as it has arrived."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.pieces: list[str] = []  # of its arguments that are text
        self._type: str | None = None
        self._index: int | None = None
        self.object: dict[str, Any] | None = None  # arguments that were sent as an object
        self._json = IncrementalParser(atomic_schema(dict))  # reads each piece once

    def add(self, fragment: ToolCall) -> None:
        self.id = self.id or _real_id(fragment)
        self._type = self._type or fragment.type
        self._index = fragment.index if self._index is None else self._index
        self.name = self.name or fragment.function.name
        arguments = fragment.function.arguments
        if isinstance(arguments, dict):
            self.object = {**(self.object or {}), **arguments}
        elif arguments:
            self.pieces.append(arguments)
            with suppress(ValueError, msgspec.MsgspecError, RecursionError):  # not JSON
                self._json.feed(arguments)

    def cannot_continue_with(self, fragment: ToolCall) -> bool:
        if not self.is_whole():
            return False
        name = fragment.function.name
        return bool(name and name != self.name) or _has_arguments(fragment.function)

    def is_whole(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        return self.object is not None or self._json.closed

    def tool_call(self) -> ToolCall:
        arguments = "".join(self.pieces) if self.object is None else self.object
        return ToolCall(
            id=self.id,
            type=self._type,
            index=self._index,
            function=FunctionCall(name=self.name, arguments=arguments),
        )

    def unfinished(self) -> UnfinishedToolCall:
        return UnfinishedToolCall(**structs.asdict(self.tool_call()))


def _real_id(fragment: ToolCall) -> str | None:
    return fragment.id if fragment.id != "null" else None


def _has_arguments(function: FunctionCall) -> bool:
    arguments = function.arguments
    return bool(arguments.strip()) if isinstance(arguments, str) else arguments is not None


def tool_calls(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[ToolCall]]:
    """Completions into the complete tool calls of one answer.

        --a{"x--":1}--b{"y":2}--tool_calls-|->
        --------------a{"x":1}---b{"y":2}--|->

    Args:
        choice: Index of the answer among the `n` answers.

    Emits: each call when it is known to be complete: when the next call has begun, at the
        finish_reason, or at the end. Arguments are a string of JSON, or an object if the
        server sent one; an id that was not sent is None.
    Holds: the call that is arriving, and those after a call that may still get arguments.
    Errors: as the source does. An incomplete call is never emitted. If the finish_reason says
        that the answer was truncated ("length", "content_filter"), each call is incomplete
        whose arguments are not a whole JSON object, including calls without arguments.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk, CompletionResponseStreamChoice
    >>> from rxmistral.models import DeltaMessage
    >>> def event(arguments, name=None):
    ...     call = ToolCall(index=0, function=FunctionCall(name=name, arguments=arguments))
    ...     choice = CompletionResponseStreamChoice(delta=DeltaMessage(tool_calls=[call]))
    ...     return CompletionEvent(data=CompletionChunk(choices=[choice]))
    >>> fragments = reactivex.of(event('{"city": "Par', "weather"), event('is"}'))
    >>> fragments.pipe(tool_calls()).run().function
    FunctionCall(name='weather', arguments='{"city": "Paris"}')
    """
    check_choice(choice)
    return machine_operator(lambda: _ToolCalls(choice), completions_for("tool_calls"))


class _ToolCalls(StateMachine[CompletionEvent, ToolCall]):
    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._accumulator = ToolCallAccumulator()
        self._finish_reason: str | None = None

    def feed(self, event: CompletionEvent) -> list[ToolCall]:
        calls: list[ToolCall] = []
        for each in event.data.choices:
            if (each.index or 0) == self._choice:
                if each.delta.tool_calls:
                    calls += self._accumulator.feed(each.delta.tool_calls)
                if each.finish_reason and each.finish_reason != "error":
                    self._finish_reason = each.finish_reason
                    calls += self.close()
        return calls

    def close(self) -> list[ToolCall]:
        closed = self._accumulator.close(self._finish_reason)
        return [call for call in closed if not isinstance(call, UnfinishedToolCall)]

    def close_after_error(self) -> list[ToolCall]:
        return []  # incomplete calls
