"""Completions to what they add up to.

Everything that came is kept in lists that only grow, one for each kind; what they add
up to at some moment is told by how long they were then. So a snapshot is a few numbers,
and the text of it is joined when somebody reads it: a hundred thousand snapshots cost
ten times ten thousand, and not a hundred times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
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
    CompletionChunk,
    CompletionEvent,
    ContentChunk,
    ReferenceChunk,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UsageInfo,
)
from ..stream import Stream
from .parts import check_choice
from .tools import ToolCallGatherer

__all__ = ["ResponseBuilder", "finish_reason", "snapshots", "to_response", "usage"]

_PIECE = 64  # bytes that a piece of text takes beside its characters
_JOIN_AT = 256 * 1024  # bytes of pieces that are not joined
_MOST = 16 * 1024 * 1024  # characters that are kept in case an answer breaks


class ResponseBuilder:
    """Adds up the completions of one answer to the response they stand for.

    Args:
        bounded: For an answer that is kept only in case it breaks. Pieces of text are
            joined now and then, and what goes beyond 16 MiB, which no model's answer
            does, is forgotten. Then no snapshots can be taken.

    Attributes:
        news: What the latest completion that brought anything brought: "text",
            "thinking", "tool call", or "finish" where it brought nothing else. A role and
            an empty delta are no news. Whoever waits for some sets it back to "".
        useful: Whether there ever was news.
        finished: Whether a finish_reason has come, in any of the `n` answers.
        failed: Whether the finish_reason "error" has, which finishes nothing.
        overflowed: Whether something was forgotten.
    """

    def __init__(self, *, bounded: bool = False) -> None:
        self.news = ""
        self.useful = False
        self.finished = False
        self.failed = False
        self.overflowed = False
        self.usage: UsageInfo | None = None
        self.began = False
        self._id: str | None = None
        self._model: str | None = None
        self._created: int | float | None = None
        self._choices: dict[int, _GrowingChoice] = {}
        self._join_at = _JOIN_AT if bounded else math.inf

    def feed(self, chunk: CompletionChunk) -> None:
        # On the path of every token: what is rare is elsewhere.
        if chunk.usage is not None:  # where it comes twice the last one counts
            self.usage = chunk.usage
        for choice in chunk.choices:
            growing = self._choices.get(choice.index or 0) or self._begin(choice.index or 0)
            delta = choice.delta
            content = delta.content
            if content:
                growing.contents.append(content)
                if content.__class__ is str:
                    self.news = "text"
                    growing.weight += len(content) + _PIECE
                    if growing.weight > self._join_at:
                        self.overflowed |= growing.join()
                else:
                    self.news = _news_of(cast("list[ContentChunk]", content)) or self.news
            elif content is not None:
                growing.has_content = True
            if delta.tool_calls:
                growing.fragments += delta.tool_calls
                self.news = "tool call"
            if choice.logprobs is not None:
                growing.logprobs += choice.logprobs.content or []
            if choice.finish_reason:
                self._finish(growing, choice.finish_reason)
        if not self.useful:
            self._take_head(chunk)

    def begin_again(self) -> None:
        """Another answer is to follow: that the last one failed, and what it cost where it
        brought nothing, is no part of that."""
        self.failed = False
        self.usage = self.usage if self.useful else None

    def _finish(self, growing: _GrowingChoice, reason: str) -> None:
        if reason == "error":  # a failure, and no reason why the model stopped
            self.failed = True
        else:
            growing.finish_reason = reason
            self.finished = True
            self.news = self.news or "finish"

    def _begin(self, index: int) -> _GrowingChoice:
        growing = self._choices[index] = _GrowingChoice(index)
        return growing

    def _take_head(self, chunk: CompletionChunk) -> None:
        # The head is that of the answer which brought something: an attempt that failed
        # before it did is no part of this answer.
        self.began = True
        self._id = chunk.id or self._id
        self._model = chunk.model or self._model
        self._created = chunk.created or self._created
        self.useful = bool(self.news)

    def finish_reason(self, choice: int = 0) -> str | None:
        growing = self._choices.get(choice)
        return growing.finish_reason if growing else None

    def text(self, choice: int = 0) -> str:
        """The text of one answer; what else it has is none."""
        growing = self._choices.get(choice)
        return "".join(_texts(growing.contents)) if growing else ""

    def has_tool_calls(self) -> bool:
        return any(growing.fragments for growing in self._growing())

    def response(
        self, *, complete: bool = False, with_unfinished: bool = False
    ) -> ChatCompletionResponse:
        """All that came until now.

        Args:
            complete: The answer has ended as it should.
            with_unfinished: Also the tool calls that may not be complete, as
                `UnfinishedToolCall`s.
        """
        response = ChatCompletionResponse(**self._head())
        response.choices = [
            choice.until(choice.mark(complete), with_unfinished) for choice in self._growing()
        ]
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
            "usage": self.usage,
        }

    def _growing(self) -> list[_GrowingChoice]:
        # list() first: a dispose on another thread may ask while something comes.
        return [self._choices[index] for index in sorted(list(self._choices))]  # noqa: C414  # see above


def _news_of(content: list[ContentChunk]) -> str:
    """What a content list brings: the last of its parts that is not empty counts."""
    news = ""
    for part in content:
        if isinstance(part, ThinkChunk):
            if any(not isinstance(each, TextChunk) or each.text for each in part.thinking):
                news = "thinking"
        elif isinstance(part, TextChunk):
            news = "text" if part.text else news
        elif not isinstance(part, ReferenceChunk) or part.reference_ids:
            news = "text"
    return news


class _Mark(NamedTuple):
    """How long the lists of a choice were at some moment."""

    contents: int
    has_content: bool
    fragments: int
    logprobs: int
    finish_reason: str | None
    complete: bool


class _GrowingChoice:
    """One of the `n` answers: lists that only grow.

    `has_content`: an empty one has come, which is not the same as none. `weight` is
    about what the pieces of text take that were not joined yet, in bytes.
    """

    __slots__ = (
        "_index",
        "_joined",
        "_joined_weight",
        "contents",
        "finish_reason",
        "fragments",
        "has_content",
        "logprobs",
        "weight",
    )

    def __init__(self, index: int) -> None:
        self._index = index
        self._joined = 0  # of the contents
        self._joined_weight = 0
        self.contents: list[str | list[ContentChunk]] = []
        self.has_content = False
        self.fragments: list[ToolCall] = []
        self.logprobs: list[ChatCompletionResponseTokenLogprobsTopK] = []
        self.finish_reason: str | None = None
        self.weight = 0

    def join(self) -> bool:
        """Make one piece of those that came since the last time; True if there is no
        more room for it."""
        fresh = self.contents[self._joined :]
        del self.contents[self._joined :]
        self.weight = 0
        if self._joined_weight > _MOST:
            return True
        for kind, group in groupby(fresh, type):
            run = list(group)
            self.contents += ["".join(cast("list[str]", run))] if kind is str else run
        self._joined_weight += sum(map(len, self.contents[self._joined :]))
        self._joined = len(self.contents)
        return False

    def mark(self, complete: bool = False) -> _Mark:
        return _Mark(
            len(self.contents),
            self.has_content,
            len(self.fragments),
            len(self.logprobs),
            self.finish_reason,
            complete or self.finish_reason is not None,
        )

    def until(self, mark: _Mark, with_unfinished: bool = False) -> ChatCompletionChoice:
        gatherer = ToolCallGatherer()
        calls = gatherer.feed(self.fragments[: mark.fragments])
        if mark.complete:
            calls += gatherer.close(mark.finish_reason)
        if mark.complete or with_unfinished:
            calls += gatherer.unfinished()
        logprobs = self.logprobs[: mark.logprobs]
        content = _joined(self.contents[: mark.contents])
        return ChatCompletionChoice(
            index=self._index,
            message=AssistantMessage(
                content="" if content is None and mark.has_content else content,
                tool_calls=calls or None,
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


def _texts(contents: list[str | list[ContentChunk]]) -> Iterator[str]:
    for content in contents:
        if isinstance(content, str):
            yield content
        else:
            yield from (part.text for part in content if isinstance(part, TextChunk))


def _joined(contents: list[str | list[ContentChunk]]) -> str | list[ContentChunk] | None:
    """The content of a message: one string where it is all text, else its parts."""
    if all(isinstance(content, str) for content in contents):
        return "".join(cast("list[str]", contents)) if contents else None
    parts: list[ContentChunk] = []
    for content in contents:
        parts += [TextChunk(text=content)] if isinstance(content, str) else content
    merged = _merged(parts)
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
    >>> from rxmistral.models import CompletionResponseStreamChoice, DeltaMessage
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
            builder.feed(event.data)
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
    Errors: of the source, and no response: a `StreamError` has it in `.partial`, as far
        as it arrived.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice, DeltaMessage
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
        self._builder.feed(event.data)
        return ()

    def close(self) -> list[ChatCompletionResponse]:
        return [self._builder.response(complete=True)] if self._builder.began else []

    def abandon(self) -> tuple[()]:
        return ()  # a broken answer adds up to nothing; its error has the `partial`


def usage() -> Callable[[Observable[CompletionEvent]], Stream[UsageInfo]]:
    """Completions into what they cost, at the end; where it came twice the last counts.

        --a--b--{usage}-|->
        ----------------usage|->

    Emits: one `UsageInfo`, or nothing where the service sent none.
    Holds: the latest one.
    Errors: of the source, and no usage: a `StreamError` has it in `.partial`.

    >>> import reactivex
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

    def abandon(self) -> tuple[()]:
        return ()


def finish_reason(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[str]]:
    """Completions into the word that says why one answer ended.

        --a--b--c(stop)--usage-|->
        --------"stop"---------|->

    Args:
        choice: Which of the `n` answers.

    Emits: "stop", "length", "model_length", "tool_calls", "error", or a newer word.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice
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
