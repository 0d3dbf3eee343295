"""Completions to the parts of one of the `n` answers: all kinds of output, in order, and typed.

    TextDelta  ThinkingDelta  References  UsageReported      as they arrive
    ToolCallStarted ──▶ ToolCallDelta ... ──▶ ToolCallReady  for each call; calls may be interleaved
    AnswerEnded                                              always the last one

A part is encoded as a JSON object whose `type` is the name of its class in snake_case, so that
a page or a log can carry it; `msgspec.json.decode(data, type=Part)` decodes it. `Part` includes
the parts that only a run of tools emits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec
from reactivex import Observable, abc

from ..errors import described
from ..models import (
    CompletionEvent,
    ContentChunk,
    ReferenceChunk,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UnfinishedToolCall,
    UsageInfo,
)
from ..outcome import Status, status_of
from ..rx.state_machine import operate
from ..rx.stream import Stream
from .choice import check_choice, completions_for
from .tool_calls import PartialToolCall, ToolCallAccumulator
from .tool_parts import RoundEnded, ToolFailed, ToolProgress, ToolReturned

__all__ = [
    "AnswerEnded",
    "AnswerPart",
    "Part",
    "PartSplitter",
    "References",
    "TextDelta",
    "ThinkingDelta",
    "ToolCallDelta",
    "ToolCallReady",
    "ToolCallStarted",
    "UsageReported",
    "parts",
    "parts_of_content",
]

# --- the parts -------------------------------------------------------------------


class TextDelta(msgspec.Struct, frozen=True, gc=False, tag="text_delta"):
    """A text that adds to the answer; never empty."""

    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, gc=False, tag="thinking_delta"):
    """A text that adds to the reasoning; never empty."""

    text: str


class ToolCallStarted(msgspec.Struct, frozen=True, gc=False, tag="tool_call_started"):
    """A tool call that has begun to arrive.

    Attributes:
        id: The id that the service has sent so far; None if it has sent none.
        name: The name of the tool; empty if the whole call arrived without a name.
        index: The number of calls that have started before; not the index on the wire, which
            servers leave out or repeat.
    """

    id: str | None
    name: str
    index: int


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False, tag="tool_call_delta"):
    """A piece of the arguments of the call with this `index`; joined, they are its JSON."""

    index: int
    arguments: str


class ToolCallReady(msgspec.Struct, frozen=True, tag="tool_call_ready"):
    """A complete tool call, as `tool_calls()` emits it."""

    call: ToolCall


class References(msgspec.Struct, frozen=True, tag="references"):
    """References to sources, by the ids that a tool or the caller chose."""

    ids: list[int | str]


class UsageReported(msgspec.Struct, frozen=True, tag="usage_reported"):
    """The usage that the service reported; if it reports several times, the last one counts."""

    usage: UsageInfo


class AnswerEnded(msgspec.Struct, frozen=True, tag="answer_ended"):
    """The end of the answer, and always the last part.

    Attributes:
        status: How the answer ended, in the words of `Outcome.status`; only "completed" means
            whole.
        finish_reason: Why the model stopped; None if it is not known.
        usage: The last usage that the service reported, or None.
        error: The text of the error that follows, without keys; "internal error" for a fault of
            the program; None if there is no error.
    """

    status: Status
    finish_reason: str | None = None
    usage: UsageInfo | None = None
    error: str | None = None


AnswerPart: TypeAlias = (
    TextDelta
    | ThinkingDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallReady
    | References
    | UsageReported
    | AnswerEnded
)
"""A part of one answer."""

Part: TypeAlias = AnswerPart | ToolReturned | ToolFailed | ToolProgress | RoundEnded
"""A part of an answer, or of a run of several answers and tool calls."""


# --- the state machines ----------------------------------------------------------


class PartSplitter:
    """Splits the completions of one answer into parts.

    Args:
        choice: Index of the answer among the `n` answers.
        choose_id: Returns the id of a tool call, called with the id that has arrived when the
            call starts. None: the calls keep their ids.
    """

    def __init__(
        self, choice: int = 0, choose_id: Callable[[str | None], str] | None = None
    ) -> None:
        self._choice = choice
        self._calls = _CallSplitter(choose_id)
        self._finish_reason: str | None = None
        self._usage: UsageInfo | None = None

    def feed(self, event: CompletionEvent) -> list[AnswerPart]:
        parts: list[AnswerPart] = []
        for choice in event.data.choices:
            if (choice.index or 0) != self._choice:
                continue
            content = choice.delta.content
            if content:
                if isinstance(content, str):
                    parts.append(TextDelta(content))
                else:
                    parts += parts_of_content(content)
            if choice.delta.tool_calls:
                parts += self._calls.feed(choice.delta.tool_calls)
            # "error" is not a reason why the model stopped: an error follows.
            if choice.finish_reason and choice.finish_reason != "error":
                self._finish_reason = choice.finish_reason
                parts += self._calls.close(choice.finish_reason)
        if event.data.usage is not None:
            self._usage = event.data.usage
            parts.append(UsageReported(self._usage))
        return parts

    def close(self) -> list[AnswerPart]:
        """Returns the remaining parts of an answer that ended normally, before its ending."""
        return self._calls.close(self._finish_reason)

    def ending(self, error: Exception | None) -> AnswerEnded:
        description = None if error is None else described(error)
        return AnswerEnded(status_of(error), self._finish_reason, self._usage, description)


def parts_of_content(content: Iterable[ContentChunk]) -> Iterator[AnswerPart]:
    for chunk in content:
        if isinstance(chunk, TextChunk):
            if chunk.text:
                yield TextDelta(chunk.text)
        elif isinstance(chunk, ThinkChunk):
            for thought in chunk.thinking:
                if isinstance(thought, TextChunk) and thought.text:
                    yield ThinkingDelta(thought.text)
                elif isinstance(thought, ReferenceChunk) and thought.reference_ids:
                    yield References(thought.reference_ids)
        elif isinstance(chunk, ReferenceChunk) and chunk.reference_ids:
            yield References(chunk.reference_ids)


class _CallSplitter:
    """Splits fragments of tool calls into parts.

    Calls start in the order in which they began, as they are ready in that order: a call
    without a name holds back those after it.
    """

    def __init__(self, choose_id: Callable[[str | None], str] | None) -> None:
        self._choose_id = choose_id
        self._accumulator = ToolCallAccumulator()
        self._known: set[PartialToolCall] = set()
        self._open: deque[_OpenCall] = deque()  # in the order in which they began
        self._started_count = 0

    def feed(self, fragments: Iterable[ToolCall]) -> list[AnswerPart]:
        parts: list[AnswerPart] = []
        for fragment in fragments:
            accumulated = self._accumulator.add(fragment)
            if accumulated not in self._known:
                self._known.add(accumulated)
                self._open.append(_OpenCall(accumulated))
            for call in self._open:
                if not call.accumulated.name:
                    break
                parts += self._new_parts(call)
        return parts + self._close_calls(self._accumulator.pop_complete())

    def close(self, finish_reason: str | None) -> list[AnswerPart]:
        return self._close_calls(self._accumulator.close(finish_reason))

    def _close_calls(self, closed: list[ToolCall]) -> list[AnswerPart]:
        parts: list[AnswerPart] = []
        for each in closed:
            call = self._open.popleft()
            if not isinstance(each, UnfinishedToolCall):
                parts += self._new_parts(call)
                if self._choose_id is not None:
                    each = msgspec.structs.replace(each, id=call.id)
                parts.append(ToolCallReady(each))
        return parts

    def _new_parts(self, call: _OpenCall) -> Iterator[AnswerPart]:
        accumulated = call.accumulated
        if call.index is None:
            call.index = self._started_count
            self._started_count += 1
            call.id = accumulated.id
            if self._choose_id is not None:
                call.id = self._choose_id(call.id)
            yield ToolCallStarted(call.id, accumulated.name or "", call.index)
        if accumulated.object is None:
            pieces = accumulated.pieces[call.emitted_count :]
        else:
            pieces = [] if call.emitted_count else [_json(accumulated.object).decode()]
        if pieces:
            call.emitted_count += len(pieces)
            yield ToolCallDelta(call.index, "".join(pieces))


_json = msgspec.json.Encoder().encode


class _OpenCall:
    """A tool call, and how much of it was emitted."""

    def __init__(self, accumulated: PartialToolCall) -> None:
        self.accumulated = accumulated
        self.index: int | None = None  # of a call that has started
        self.id: str | None = None  # with which it has started
        self.emitted_count = 0  # pieces of its arguments


# --- the operator ----------------------------------------------------------------


def parts(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[AnswerPart]]:
    """Completions into the typed parts of one answer, of which the last is its ending.

        --[thinking "Hm", "Hel"]--------"lo"--stop----|->
        --ThinkingDelta--TextDelta--TextDelta--AnswerEnded|->

    Args:
        choice: Index of the answer among the `n` answers.

    Emits: a `TextDelta`, `ThinkingDelta`, `References` or `UsageReported` when it arrives. A
        `ToolCallStarted` when the name of the call has arrived, a `ToolCallDelta` for each
        piece of its arguments, and a `ToolCallReady` when `tool_calls()` would emit it.
        Arguments that the server sent as an object are one piece of JSON. Other kinds of
        content are left out. At the end, also before an error, one `AnswerEnded`.
    Holds: a tool call until its name has arrived, and those after it.
    Completes: after `AnswerEnded`. A call that may be incomplete never gets a `ToolCallReady`.
    Errors: after `AnswerEnded`, which has the status and the text of the error.

    >>> from rxmistral import Mistral, UserMessage
    >>> with Mistral.demo() as client:
    ...     answer = client.chat.stream(model="any", messages=[UserMessage(content="Say hello.")])
    ...     for part in answer.pipe(parts()):
    ...         match part:
    ...             case TextDelta(text):
    ...                 print(text)
    ...             case AnswerEnded(status, finish_reason):
    ...                 print(status, finish_reason)
    Hel
    lo
    completed stop
    """
    check_choice(choice)
    accepted = completions_for("parts")

    def subscribe_to(
        stream: Stream[CompletionEvent],
        observer: abc.ObserverBase[AnswerPart],
        scheduler: abc.SchedulerBase | None,
    ) -> abc.DisposableBase:
        splitter, emit = PartSplitter(choice), observer.on_next

        def on_next(event: object) -> None:
            try:
                if not isinstance(event, CompletionEvent):
                    raise accepted.error_for(event)
                new = splitter.feed(event)
            except Exception as error:
                on_error(error)
                return
            for part in new:
                emit(part)

        def on_error(error: Exception) -> None:
            emit(splitter.ending(error))
            observer.on_error(error)

        def on_completed() -> None:
            for part in splitter.close():
                emit(part)
            emit(splitter.ending(None))
            observer.on_completed()

        return stream.subscribe(on_next, on_error, on_completed, scheduler=scheduler)

    return operate(subscribe_to)
