"""Completions to tool calls.

A tool call comes whole in one delta, or as fragments of its arguments over many. Both
come with and without an index, an id or a name, and several calls may be interleaved.
So a fragment looks for its call by these rules, the first that applies:

1. It has an index: it goes on with the latest call of that index. Later fragments may
   carry another id, `"null"` or none, and the name again or an empty one.
2. It has the id of an earlier call: it goes on with that.
3. It has no name: it goes on with the last call.
4. Else it begins a call. Two calls are never one only because both lack an index.

By 1 and 2 nothing goes on with a call whose arguments are a whole JSON object already,
if it brings arguments or another name: some servers number all their calls alike.

A call is certain to be complete when the answer has its finish_reason, or has ended as
it should; and before that when a later call has begun and its own arguments are a whole
JSON object. (That a later one has begun is not enough where calls are interleaved, and
arguments that are whole are not enough where blanks may follow.) Calls are given in the
order in which they began, so one that is not certain holds back those behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import structs
from reactivex import Observable

from ..models import CompletionEvent, FunctionCall, ToolCall, UnfinishedToolCall
from ..rx.state_machine import StateMachine, machine_operator
from ..rx.stream import Stream
from ..text.structured.incremental_parser import IncrementalParser
from ..text.structured.schema import atomic_schema
from .choice import check_choice
from .inputs import completions_for

__all__ = ["PartialToolCall", "ToolCallAccumulator", "tool_calls"]


# The reasons that end an answer in the middle. A call that the model has not begun to
# write the arguments of has the same fragment as one without arguments, so what was whole
# by then is the only thing to go by.
_CUT = ("length", "model_length", "content_filter", "error")


class ToolCallAccumulator:
    """Puts the tool calls of one answer together."""

    def __init__(self) -> None:
        self._begun: list[PartialToolCall] = []  # and not given yet, in the order they began
        self._by_index: dict[int, PartialToolCall] = {}
        self._by_id: dict[str, PartialToolCall] = {}
        self._last: PartialToolCall | None = None

    def feed(self, fragments: Iterable[ToolCall]) -> list[ToolCall]:
        """The calls that are certain to be complete now that these fragments came."""
        for fragment in fragments:
            self.add(fragment)
        return self.take_certain()

    def add(self, fragment: ToolCall) -> PartialToolCall:
        """The call that this fragment goes on with, or begins, as far as that has come."""
        call = self._continued(fragment) or self._begin(fragment)
        call.add(fragment)
        self._last = call
        return call

    def take_certain(self) -> list[ToolCall]:
        """The calls that are certain to be complete and were not given yet."""
        return self._give(self._certain()) if len(self._begun) > 1 else []

    def close(self, finish_reason: str | None = None) -> list[ToolCall]:
        """The calls that are left when the answer has ended. If it was cut, those that are
        not whole are `UnfinishedToolCall`s."""
        left, self._begun = self._begun, []
        cut = finish_reason in _CUT
        return [
            call.unfinished() if cut and not call.is_whole() else call.tool_call() for call in left
        ]

    def unfinished(self) -> list[UnfinishedToolCall]:
        """The calls that are left when the answer has broken."""
        left, self._begun = self._begun, []
        return [call.unfinished() for call in left]

    def _continued(self, fragment: ToolCall) -> PartialToolCall | None:
        call_id = _real_id(fragment)
        if fragment.index is not None:
            call = self._by_index.get(fragment.index)
        elif call_id in self._by_id:
            call = self._by_id[call_id]
        else:
            return None if fragment.function.name else self._last
        return None if call is None or call.cannot_go_on_with(fragment) else call

    def _begin(self, fragment: ToolCall) -> PartialToolCall:
        call = PartialToolCall()
        self._begun.append(call)
        call_id = _real_id(fragment)
        if fragment.index is not None:
            self._by_index[fragment.index] = call
        if call_id is not None:
            self._by_id[call_id] = call
        return call

    def _certain(self) -> int:
        """How many of the oldest calls are complete."""
        count = 0
        for call in self._begun[:-1]:
            if not call.is_whole():
                break
            count += 1
        return count

    def _give(self, count: int) -> list[ToolCall]:
        given, self._begun = self._begun[:count], self._begun[count:]
        return [call.tool_call() for call in given]


class PartialToolCall:
    """One call, as far as it came; `pieces` are those of its arguments that are text."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.pieces: list[str] = []
        self._type: str | None = None
        self._index: int | None = None
        self._object: dict[str, Any] | None = None
        self._json = IncrementalParser(atomic_schema(dict))  # reads each piece once

    def add(self, fragment: ToolCall) -> None:
        self.id = self.id or _real_id(fragment)
        self._type = self._type or fragment.type
        self._index = fragment.index if self._index is None else self._index
        self.name = self.name or fragment.function.name
        arguments = fragment.function.arguments
        if isinstance(arguments, dict):
            self._object = {**(self._object or {}), **arguments}
        elif arguments:
            self.pieces.append(arguments)
            with suppress(ValueError, msgspec.MsgspecError, RecursionError):  # no JSON, then
                self._json.feed(arguments)

    def cannot_go_on_with(self, fragment: ToolCall) -> bool:
        if not self.is_whole():
            return False
        name = fragment.function.name
        return bool(name and name != self.name) or _brings_arguments(fragment.function)

    def is_whole(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        return self._object is not None or self._json.closed

    def tool_call(self) -> ToolCall:
        arguments = "".join(self.pieces) if self._object is None else self._object
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


def _brings_arguments(function: FunctionCall) -> bool:
    arguments = function.arguments
    return bool(arguments.strip()) if isinstance(arguments, str) else arguments is not None


def tool_calls(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[ToolCall]]:
    """Completions into the complete tool calls of one answer.

        --a{"x--":1}--b{"y":2}--tool_calls-|->
        --------------a{"x":1}---b{"y":2}--|->

    Args:
        choice: Which of the `n` answers.

    Emits: each call as soon as it is certain to be complete: another one has begun, or
        the finish_reason has come, or the end. Arguments are a string of JSON, or an
        object where the server sent one; an id that never came is None.
    Holds: the call that is coming; and those behind one that has no arguments yet, which
        may still get some.
    Errors: of the source. A call that was not complete is never emitted. If the answer
        was cut (by the finish_reason "length" or "content_filter") that is each call
        whose arguments are not a whole JSON object, also one without any.

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
        self._gatherer = ToolCallAccumulator()

    def feed(self, event: CompletionEvent) -> list[ToolCall]:
        calls: list[ToolCall] = []
        for each in event.data.choices:
            if (each.index or 0) == self._choice:
                if each.delta.tool_calls:
                    calls += self._gatherer.feed(each.delta.tool_calls)
                if each.finish_reason and each.finish_reason != "error":
                    calls += _complete(self._gatherer.close(each.finish_reason))
        return calls

    def close(self) -> list[ToolCall]:
        return self._gatherer.close()

    def close_after_error(self) -> list[ToolCall]:
        return []  # a call that was not complete


def _complete(calls: list[ToolCall]) -> list[ToolCall]:
    return [call for call in calls if not isinstance(call, UnfinishedToolCall)]
