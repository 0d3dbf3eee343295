"""Completions to what they add up to.

Everything that came is kept in lists that only grow, one for each kind; what they add
up to at some moment is told by how long they were then. So a snapshot is a few numbers,
and the text of it is joined when somebody reads it: a hundred thousand snapshots cost
ten times ten thousand, and not a hundred times.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, cast

from msgspec import UNSET
from reactivex import Observable, abc

from ..machine import Machine, driven_by, operator
from ..models import (
    AssistantMessage,
    ChatCompletionChoice,
    ChatCompletionResponse,
    ChatCompletionResponseChoiceLogprobs,
    ChatCompletionResponseTokenLogprobsTopK,
    CompletionEvent,
    CompletionResponseStreamChoice,
    ContentChunk,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UsageInfo,
)
from ..stream import Stream
from .parts import check_choice
from .tools import ToolCallGatherer

__all__ = ["ResponseBuilder", "finish_reason", "snapshots", "to_response", "usage"]


class ResponseBuilder:
    """Adds up the completions of one answer to the response they stand for."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._model: str | None = None
        self._created: int | float | None = None
        self._usage: UsageInfo | None = None
        self._choices: dict[int, _GrowingChoice] = {}
        self.began = False

    def feed(self, event: CompletionEvent) -> None:
        chunk = event.data
        self.began = True
        self._id = self._id or chunk.id
        self._model = self._model or chunk.model
        self._created = self._created or chunk.created
        self._usage = chunk.usage or self._usage  # where it comes twice the last one counts
        for choice in chunk.choices:
            index = choice.index or 0
            if index not in self._choices:
                self._choices[index] = _GrowingChoice(index)
            self._choices[index].add(choice)

    def response(self, *, complete: bool = False) -> ChatCompletionResponse:
        """All that came until now; `complete` where the answer has ended as it should."""
        response = ChatCompletionResponse(**self._head())
        response.choices = [choice.until(choice.mark(complete)) for choice in self._growing()]
        return response

    def snapshot(self) -> ChatCompletionResponse:
        """The same, with the choices left for who reads them."""
        response = ChatCompletionResponse(**self._head())
        _choices.__set__(response, [_Marked(choice, choice.mark()) for choice in self._growing()])
        response.__class__ = _Unread
        return response

    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion",
            "model": self._model,
            "created": self._created,
            "usage": self._usage,
        }

    def _growing(self) -> list[_GrowingChoice]:
        return [self._choices[index] for index in sorted(self._choices)]


class _Mark(NamedTuple):
    """How long the lists of a choice were at some moment."""

    contents: int
    fragments: int
    logprobs: int
    finish_reason: str | None
    complete: bool


class _GrowingChoice:
    """One of the `n` answers: lists that only grow."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._contents: list[str | list[ContentChunk]] = []
        self._fragments: list[ToolCall] = []
        self._logprobs: list[ChatCompletionResponseTokenLogprobsTopK] = []
        self._finish_reason: str | None = None

    def add(self, choice: CompletionResponseStreamChoice) -> None:
        delta = choice.delta
        if delta.content is not None:
            self._contents.append(delta.content)
        if delta.tool_calls:
            self._fragments += delta.tool_calls
        if choice.logprobs is not None:
            self._logprobs += choice.logprobs.content or []
        self._finish_reason = choice.finish_reason or self._finish_reason

    def mark(self, complete: bool = False) -> _Mark:
        return _Mark(
            len(self._contents),
            len(self._fragments),
            len(self._logprobs),
            self._finish_reason,
            complete or self._finish_reason not in (None, "error"),
        )

    def until(self, mark: _Mark) -> ChatCompletionChoice:
        gatherer = ToolCallGatherer()
        calls = gatherer.feed(self._fragments[: mark.fragments])
        if mark.complete:
            calls += gatherer.close()
        logprobs = self._logprobs[: mark.logprobs]
        return ChatCompletionChoice(
            index=self._index,
            message=AssistantMessage(
                content=_joined(self._contents[: mark.contents]), tool_calls=calls or None
            ),
            finish_reason=mark.finish_reason,
            logprobs=ChatCompletionResponseChoiceLogprobs(content=logprobs) if logprobs else None,
        )


# --- snapshots that nobody has read ----------------------------------------------

_choices: Any = ChatCompletionResponse.choices  # the field, behind the property below


class _Unread(ChatCompletionResponse):
    """A response in whose `choices` only the marks stand; the first look puts the choices
    there, and makes it a response like any other. It has no field of its own."""

    @property  # type: ignore[misc]  # in front of the field
    def choices(  # pyright: ignore[reportIncompatibleVariableOverride]
        self,
    ) -> list[ChatCompletionChoice]:
        return _read(self).choices

    @choices.setter
    def choices(self, choices: list[ChatCompletionChoice]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        _read(self).choices = choices

    def __repr__(self) -> str:
        return repr(_read(self))

    def __eq__(self, other: object) -> bool:
        return _read(self) == other

    def __reduce__(self) -> Any:
        return _read(self).__reduce__()

    def __copy__(self) -> Any:
        return copy(_read(self))


def _read(snapshot: _Unread) -> ChatCompletionResponse:
    # Two threads may read at once; whoever comes second finds some choices there.
    marked: list[_Marked | ChatCompletionChoice] = _choices.__get__(snapshot)
    whole = [each.whole() if isinstance(each, _Marked) else each for each in marked]
    _choices.__set__(snapshot, whole)
    snapshot.__class__ = ChatCompletionResponse  # type: ignore[assignment]  # the base, again
    return snapshot


@dataclass
class _Fields:
    """The fields of a choice, for who encodes one."""

    index: int
    message: AssistantMessage
    finish_reason: str
    logprobs: ChatCompletionResponseChoiceLogprobs


class _Marked:
    """A choice, by what it was at some moment. msgspec takes it for a dataclass, so that
    a snapshot that nobody has read is encoded as what it stands for."""

    __slots__ = ("_choice", "_mark", "_whole")
    __dataclass_fields__ = _Fields.__dataclass_fields__

    def __init__(self, choice: _GrowingChoice, mark: _Mark) -> None:
        self._choice = choice
        self._mark = mark
        self._whole: ChatCompletionChoice | None = None

    def whole(self) -> ChatCompletionChoice:
        if self._whole is None:
            self._whole = self._choice.until(self._mark)
        return self._whole

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.whole(), name)
        return UNSET if value is None else value


def _joined(contents: list[str | list[ContentChunk]]) -> str | list[ContentChunk] | None:
    """The content of a message: one string where it is all text, else its parts."""
    parts: list[ContentChunk] = []
    for content in contents:
        parts += [TextChunk(text=content)] if isinstance(content, str) else content
    merged = _merged(parts)
    if not contents:
        return None
    if all(isinstance(part, TextChunk) for part in merged):
        return "".join(part.text for part in merged if isinstance(part, TextChunk))
    return [part for part in merged if not (isinstance(part, TextChunk) and not part.text)]


def _merged(parts: list[ContentChunk]) -> list[ContentChunk]:
    """Neighbours of the same kind as one, where they are text or thinking."""
    merged: list[ContentChunk] = []
    for kind, group in groupby(parts, type):
        run = list(group)
        if kind is TextChunk:
            merged.append(
                TextChunk(text="".join(part.text for part in cast("list[TextChunk]", run)))
            )
        elif kind is ThinkChunk:
            merged.append(_one_thought(cast("list[ThinkChunk]", run)))
        else:
            merged += run
    return merged


def _one_thought(run: list[ThinkChunk]) -> ThinkChunk:
    return ThinkChunk(
        thinking=_merged([thought for part in run for thought in part.thinking]),
        signature=next((part.signature for part in reversed(run) if part.signature), None),
        closed=run[-1].closed,
    )


# --- the operators ---------------------------------------------------------------


def snapshots() -> Callable[[Observable[CompletionEvent]], Stream[ChatCompletionResponse]]:
    """Completions into growing responses: all that came until then, with each.

        --"Hel"----"lo"------stop-------|->
        --"Hel"----"Hello"---"Hello"----|->

    Emits: a `ChatCompletionResponse` for each completion, of all `n` answers. Its
        choices are put together when they are first read, so one that nobody reads
        costs next to nothing.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk, DeltaMessage
    >>> def event(content):
    ...     choice = CompletionResponseStreamChoice(delta=DeltaMessage(content=content))
    ...     return CompletionEvent(data=CompletionChunk(choices=[choice]))
    >>> growing = reactivex.of(event("Hel"), event("lo")).pipe(snapshots())
    >>> [response.choices[0].message.content for response in growing]
    ['Hel', 'Hello']
    """

    def start(
        observer: abc.ObserverBase[ChatCompletionResponse],
    ) -> Callable[[CompletionEvent], None]:
        builder = ResponseBuilder()

        def on_next(event: CompletionEvent) -> None:
            builder.feed(event)
            observer.on_next(builder.snapshot())

        return on_next

    return operator(start)


def to_response() -> Callable[[Observable[CompletionEvent]], Stream[ChatCompletionResponse]]:
    """Completions into the one response that they add up to.

        --"Hel"--"lo"--stop-|->
        --------------------"Hello"|->

    Emits: what the endpoint gives without streaming: message with text, thinking and
        tool calls, usage, finish_reason, of all `n` answers.
    Holds: everything.
    Errors: of the source, after the response as far as it came.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk, DeltaMessage
    >>> def event(content):
    ...     choice = CompletionResponseStreamChoice(delta=DeltaMessage(content=content))
    ...     return CompletionEvent(data=CompletionChunk(choices=[choice]))
    >>> response = reactivex.of(event("Hel"), event("lo")).pipe(to_response()).run()
    >>> response.choices[0].message.content
    'Hello'
    """

    return driven_by(_WholeResponse)


class _WholeResponse(Machine[CompletionEvent, ChatCompletionResponse]):
    def __init__(self) -> None:
        self._builder = ResponseBuilder()

    def feed(self, event: CompletionEvent) -> tuple[()]:
        self._builder.feed(event)
        return ()

    def close(self) -> list[ChatCompletionResponse]:
        return [self._builder.response(complete=True)] if self._builder.began else []

    def abandon(self) -> list[ChatCompletionResponse]:
        return [self._builder.response()] if self._builder.began else []


def usage() -> Callable[[Observable[CompletionEvent]], Stream[UsageInfo]]:
    """Completions into what they cost, at the end; where it came twice the last counts.

        --a--b--{usage}-|->
        ----------------usage|->

    Emits: one `UsageInfo`, or nothing where the service sent none.
    Holds: the latest one.
    Errors: of the source, after the usage that came before.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk
    >>> event = CompletionEvent(data=CompletionChunk(usage=UsageInfo(total_tokens=3)))
    >>> reactivex.of(event).pipe(usage()).run().total_tokens
    3
    """

    return driven_by(_LatestUsage)


class _LatestUsage(Machine[CompletionEvent, UsageInfo]):
    def __init__(self) -> None:
        self._latest: UsageInfo | None = None

    def feed(self, event: CompletionEvent) -> tuple[()]:
        self._latest = event.data.usage or self._latest
        return ()

    def close(self) -> list[UsageInfo]:
        return [] if self._latest is None else [self._latest]


def finish_reason(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[str]]:
    """Completions into the word that says why one answer ended.

        --a--b--c(stop)--usage-|->
        --------"stop"---------|->

    Args:
        choice: Which of the `n` answers.

    Emits: "stop", "length", "model_length", "tool_calls", "error", or a newer word.

    >>> import reactivex
    >>> from rxmistral.models import CompletionChunk
    >>> last = CompletionResponseStreamChoice(index=0, finish_reason="length")
    >>> event = CompletionEvent(data=CompletionChunk(choices=[last]))
    >>> reactivex.of(event).pipe(finish_reason()).run()
    'length'
    """
    check_choice(choice)

    def start(observer: abc.ObserverBase[str]) -> Callable[[CompletionEvent], None]:
        def on_next(event: CompletionEvent) -> None:
            for each in event.data.choices:
                if each.finish_reason and (each.index or 0) == choice:
                    observer.on_next(each.finish_reason)

        return on_next

    return operator(start)
