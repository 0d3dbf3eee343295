"""Completions to what they add up to.

Everything that came is kept in lists that only grow, one for each kind, and is put together
when somebody asks for it, once in most answers.

A snapshot after each completion must not do that each time. So for snapshots there is a
second account of the content, in which a text grows at its end: as CPython appends to a
string that nobody else holds in place, a snapshot costs what is new and not what is there,
unless it is kept, which then costs a copy of the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from typing import Any, cast

from reactivex import Observable, abc

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
from ..rx.state_machine import StateMachine, item_operator, machine_operator
from ..rx.stream import Stream
from .choice import check_choice
from .inputs import completions_for
from .tool_calls import ToolCallAccumulator

__all__ = ["CompletionAccumulator", "finish_reason", "snapshots", "to_response", "usage"]

_PIECE = 64  # bytes that a piece of text takes beside its characters
_JOIN_AT = 256 * 1024  # bytes of pieces that are not joined
_MOST = 16 * 1024 * 1024  # characters that are kept in case an answer breaks


class CompletionAccumulator:
    """Adds up the completions of one answer to the response they stand for.

    Args:
        bounded: For an answer that is kept only in case it breaks. Pieces of text are
            joined now and then, and what goes beyond 16 MiB, which no model's answer
            does, is forgotten. Then no snapshots can be taken.
        answers: How many were asked for.

    Attributes:
        news: What the latest completion that brought anything brought: "text",
            "thinking", "tool call", or "finish" where it brought nothing else. A role and
            an empty delta are no news. Whoever waits for some sets it back to "".
        useful: Whether there ever was news.
        finished: Whether a finish_reason has come, in any of the `n` answers.
        failed: Whether the finish_reason "error" has, which finishes nothing.
        overflowed: Whether something was forgotten.
    """

    def __init__(self, *, bounded: bool = False, answers: int = 1) -> None:
        self._answers = answers
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

    @property
    def whole(self) -> bool:
        """Whether each of the answers has its finish_reason."""
        return (
            self.finished
            and len(self._choices) >= self._answers
            and all(growing.finish_reason for growing in self._growing())
        )

    def has_begun(self, choice: int) -> bool:
        """Whether one of the answers has brought anything."""
        growing = self._choices.get(choice)
        return growing is not None and bool(growing.contents or growing.fragments)

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
            choice.total(complete=complete, with_unfinished=with_unfinished)
            for choice in self._growing()
        ]
        return response

    def snapshot(self) -> ChatCompletionResponse:
        """All that came until now, for the price of what is new since the last one."""
        response = ChatCompletionResponse(**self._head())
        response.choices = [choice.snapshot() for choice in self._growing()]
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


class _GrowingChoice:
    """One of the `n` answers: lists that only grow.

    `has_content`: an empty one has come, which is not the same as none. `weight` is
    about what the pieces of text take that were not joined yet, in bytes.
    """

    __slots__ = (
        "_index",
        "_joined",
        "_joined_weight",
        "_known",
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
        self._known: _Known | None = None
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

    def total(self, *, complete: bool, with_unfinished: bool) -> ChatCompletionChoice:
        """All that came; the calls that may not be complete only `with_unfinished`, or if the
        answer has ended."""
        content = _Content()
        content.add(self.contents)
        gatherer = ToolCallAccumulator()
        calls = gatherer.feed(self.fragments)
        if complete or self.finish_reason is not None:
            calls += gatherer.close(self.finish_reason)
            with_unfinished = True
        if with_unfinished:
            calls += gatherer.unfinished()
        return self._choice(content, calls)

    def snapshot(self) -> ChatCompletionChoice:
        """All that came, for the price of what is new since the last one."""
        if self.fragments and self.finish_reason is not None:
            return self.total(complete=True, with_unfinished=True)
        self._known = known = self._known or _Known()
        known.add(self.contents, self.fragments)
        return self._choice(known.content, known.calls)

    def _choice(self, content: _Content, calls: list[ToolCall]) -> ChatCompletionChoice:
        said = content.now()
        logprobs = [*self.logprobs]
        return ChatCompletionChoice(
            index=self._index,
            message=AssistantMessage(
                content="" if said is None and self.has_content else said,
                tool_calls=[*calls] or None,
            ),
            finish_reason=self.finish_reason,
            logprobs=ChatCompletionResponseChoiceLogprobs(content=logprobs) if logprobs else None,
        )


class _Known:
    """What a choice adds up to as far as a snapshot was taken of it."""

    def __init__(self) -> None:
        self.content = _Content()
        self.calls: list[ToolCall] = []
        self._gatherer = ToolCallAccumulator()
        self._contents = self._fragments = 0  # that are part of it

    def add(self, contents: list[str | list[ContentChunk]], fragments: list[ToolCall]) -> None:
        self.content.add(contents[self._contents :])
        self.calls += self._gatherer.feed(fragments[self._fragments :])
        self._contents, self._fragments = len(contents), len(fragments)


class _Content:
    """The content of a message, or of a thought, as it grows: neighbours of the same kind
    are one, and the last is still open."""

    def __init__(self) -> None:
        self._closed: list[ContentChunk] = []
        self._text: str | None = None  # that is open; or
        self._thought: _Thought | None = None

    def add(self, contents: list[str | list[ContentChunk]]) -> None:
        for kind, run in groupby(contents, type):
            if kind is str:
                self._add_text("".join(cast("Iterator[str]", run)))
            else:
                for part in chain.from_iterable(run):
                    self._add_part(cast("ContentChunk", part))

    def _add_part(self, part: ContentChunk) -> None:
        if isinstance(part, TextChunk):
            self._add_text(part.text)
        elif isinstance(part, ThinkChunk):
            if self._thought is None:
                self._close()
                self._thought = _Thought()
            self._thought.add(part)
        else:
            self._close()
            self._closed.append(part)

    def _add_text(self, piece: str) -> None:
        if piece and self._thought is not None:
            self._close()
        text, self._text = self._text or "", None
        text += piece  # in place, since no other name holds it
        self._text = text

    def _close(self) -> None:
        self._closed = self.parts()
        self._text = self._thought = None

    def parts(self) -> list[ContentChunk]:
        parts = [*self._closed]
        if self._text:
            parts.append(TextChunk(text=self._text))
        if self._thought is not None:
            parts.append(self._thought.now())
        return parts

    def now(self) -> str | list[ContentChunk] | None:
        """One string if it is all text, else its parts."""
        return self.parts() if self._closed or self._thought is not None else self._text


class _Thought:
    def __init__(self) -> None:
        self._content = _Content()
        self._signature: str | None = None
        self._closed: bool | None = None

    def add(self, part: ThinkChunk) -> None:
        self._content.add([part.thinking])
        self._signature = part.signature or self._signature
        self._closed = part.closed

    def now(self) -> ThinkChunk:
        return ThinkChunk(
            thinking=self._content.parts(), signature=self._signature, closed=self._closed
        )


def _texts(contents: list[str | list[ContentChunk]]) -> Iterator[str]:
    for content in contents:
        if isinstance(content, str):
            yield content
        else:
            yield from (part.text for part in content if isinstance(part, TextChunk))


# --- the operators ---------------------------------------------------------------


def snapshots() -> Callable[[Observable[CompletionEvent]], Stream[ChatCompletionResponse]]:
    """Completions into growing responses: all that came until then, with each.

        --"Hel"----"lo"------stop-------|->
        --"Hel"----"Hello"---"Hello"----|->

    Emits: a `ChatCompletionResponse` for each completion, of all `n` answers. One that is
        let go before the next one costs next to nothing, however long the text is; one
        that is kept keeps a text of its own.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice, DeltaMessage
    >>> def event(content):
    ...     choice = CompletionResponseStreamChoice(delta=DeltaMessage(content=content))
    ...     return CompletionEvent(data=CompletionChunk(choices=[choice]))
    >>> growing = reactivex.of(event("Hel"), event("lo")).pipe(snapshots())
    >>> [response.choices[0].message.content for response in growing]
    ['Hel', 'Hello']
    """

    takes = completions_for("snapshots")

    def start(
        observer: abc.ObserverBase[ChatCompletionResponse],
    ) -> Callable[[CompletionEvent], None]:
        builder = CompletionAccumulator()

        def on_next(event: object) -> None:
            if not isinstance(event, CompletionEvent):
                observer.on_error(takes.error_for(event))
                return
            builder.feed(event.data)
            observer.on_next(builder.snapshot())

        return on_next

    return item_operator(start)


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

    return machine_operator(_WholeResponse, completions_for("to_response"))


class _WholeResponse(StateMachine[CompletionEvent, ChatCompletionResponse]):
    def __init__(self) -> None:
        self._builder = CompletionAccumulator()

    def feed(self, event: CompletionEvent) -> tuple[()]:
        self._builder.feed(event.data)
        return ()

    def close(self) -> list[ChatCompletionResponse]:
        return [self._builder.response(complete=True)] if self._builder.began else []

    def close_after_error(self) -> tuple[()]:
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

    return machine_operator(_LatestUsage, completions_for("usage"))


class _LatestUsage(StateMachine[CompletionEvent, UsageInfo]):
    def __init__(self) -> None:
        self._latest: UsageInfo | None = None

    def feed(self, event: CompletionEvent) -> tuple[()]:
        self._latest = event.data.usage or self._latest
        return ()

    def close(self) -> list[UsageInfo]:
        return [] if self._latest is None else [self._latest]

    def close_after_error(self) -> tuple[()]:
        return ()


def finish_reason(choice: int = 0) -> Callable[[Observable[CompletionEvent]], Stream[str]]:
    """Completions into the word that says why one answer ended.

        --a--b--c(stop)--usage-|->
        --------"stop"---------|->

    Args:
        choice: Which of the `n` answers.

    Emits: "stop", "length", "model_length", "tool_calls", "error", or a newer word; once,
        if the service repeats it.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice
    >>> last = CompletionResponseStreamChoice(index=0, finish_reason="length")
    >>> event = CompletionEvent(data=CompletionChunk(choices=[last]))
    >>> reactivex.of(event).pipe(finish_reason()).run()
    'length'
    """
    check_choice(choice)
    takes = completions_for("finish_reason")

    def start(observer: abc.ObserverBase[str]) -> Callable[[CompletionEvent], None]:
        latest: str | None = None

        def on_next(event: object) -> None:
            nonlocal latest
            if not isinstance(event, CompletionEvent):
                observer.on_error(takes.error_for(event))
                return
            for each in event.data.choices:
                if each.finish_reason and (each.index or 0) == choice:
                    repeated, latest = each.finish_reason == latest, each.finish_reason
                    if not repeated:
                        observer.on_next(latest)

        return on_next

    return item_operator(start)
