"""Adds up the completions of one answer.

Strategy: everything received is appended to lists, one for each kind, and put together only
when a response is requested, which happens once in most answers. Snapshots are requested after each
completion, and must cost what is new, not what has accumulated, so they use a second account that
grows in place: CPython appends to a string in place if nothing else refers to it. Only a snapshot
that is kept costs a copy of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import TypeAlias, cast

from msgspec import Struct

from ..models import (
    AssistantMessage,
    ChatCompletionChoice,
    ChatCompletionResponse,
    ChatCompletionResponseChoiceLogprobs,
    ChatCompletionResponseTokenLogprobsTopK,
    CompletionChunk,
    CompletionResponseStreamChoice,
    ContentChunk,
    ReferenceChunk,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UsageInfo,
)
from .tool_calls import ToolCallAccumulator

__all__ = ["CompletionAccumulator", "texts_in"]

_Content: TypeAlias = str | list[ContentChunk]

_PIECE_OVERHEAD_BYTES = 64  # of a str object, in addition to its characters
# A bounded accumulator joins pieces of text beyond this size, or this number of short ones.
_JOIN_THRESHOLD_BYTES = 256 * 1024
_JOIN_THRESHOLD_PIECES = 64
_MAX_SHORT_CHARACTERS = 1024  # of a short piece
_MAX_CHARACTERS = 16 * 1024 * 1024  # kept by a bounded accumulator


class CompletionAccumulator:
    """The completions of one answer, added up to the response that they stand for.

    Args:
        bounded: For an answer that is kept only in case it breaks. Pieces of text are joined
            from time to time, and text beyond 16 MiB, more than any model writes, is dropped.
            A bounded accumulator makes no snapshots.
        answers: The number of answers that the request asked for (`n`).
    """

    def __init__(self, *, bounded: bool = False, answers: int = 1) -> None:
        self._answers = answers
        # The latest kind of output: "text", "thinking", "tool call", or "finish" if a completion
        # had nothing but a finish_reason. A role or an empty delta is not output. A reader that
        # waits for output sets it back to "".
        self.new_output = ""
        self.has_output = False
        self.finished = False  # any of the answers has a finish_reason other than "error"
        self.failed = False  # any has the finish_reason "error", which finishes nothing
        self.overflowed = False  # text was dropped
        self.usage: UsageInfo | None = None
        self.usage_is_final = False  # it was sent with or after the last finish_reason
        self.has_chunks = False
        self._id: str | None = None
        self._model: str | None = None
        self._created: int | float | None = None
        self._choices: dict[int, _GrowingChoice] = {}
        self._contents: list[_Content] | None = None  # of the first answer, once there is output
        self._max_unjoined_bytes = _JOIN_THRESHOLD_BYTES if bounded else math.inf
        self._max_unjoined_pieces = _JOIN_THRESHOLD_PIECES if bounded else math.inf
        self._max_contents = self._max_unjoined_pieces

    def feed_text(self, choice: CompletionResponseStreamChoice) -> bool:
        """Adds a choice that is only a short text of the first answer, as nearly all choices are.

        The choice has no finish_reason. Returns False if it is anything else, and was not added.
        """
        delta, contents = choice.delta, self._contents
        text = delta.content
        if (
            contents is None
            or not isinstance(text, str)
            or not 0 < len(text) < _MAX_SHORT_CHARACTERS
            or choice.index
            or delta.tool_calls
            or choice.logprobs is not None
            or len(contents) >= self._max_contents
        ):
            return False
        contents.append(text)  # pyright: ignore[reportArgumentType]
        self.new_output = "text"
        return True

    def feed(self, chunk: CompletionChunk) -> None:
        for choice in chunk.choices:
            index = choice.index or 0
            growing = self._choices.get(index)
            if growing is None:
                growing = self._choices[index] = _GrowingChoice(index)
            delta = choice.delta
            content = delta.content
            if content:
                growing.contents.append(content)
                if content.__class__ is str:
                    self.new_output = "text"
                    growing.unjoined_bytes += len(content) + _PIECE_OVERHEAD_BYTES
                    if (
                        growing.unjoined_bytes > self._max_unjoined_bytes
                        or len(growing.contents) > self._max_contents
                    ):
                        self._join(growing)
                else:
                    kind = _output_kind(cast("list[ContentChunk]", content))
                    self.new_output = kind or self.new_output
            elif content is not None:
                growing.has_content = True
            if delta.tool_calls:
                growing.fragments += delta.tool_calls
                self.new_output = "tool call"
            if choice.logprobs is not None:
                growing.logprobs += choice.logprobs.content or []
            if choice.finish_reason:
                self._finish(growing, choice.finish_reason)
        if chunk.usage is not None:  # if it is sent twice, the last one counts
            self.usage, self.usage_is_final = chunk.usage, self.is_complete
        if not self.has_output:
            self._update_head(chunk)
        elif self._contents is None and 0 in self._choices:
            self._contents = self._choices[0].contents

    def _join(self, growing: _GrowingChoice) -> None:
        self.overflowed |= growing.join()
        self._max_contents = len(growing.contents) + self._max_unjoined_pieces

    def begin_again(self) -> None:
        """Prepares for another attempt; the usage of one without output does not count."""
        self.failed = False
        self.usage = self.usage if self.has_output else None

    def _finish(self, growing: _GrowingChoice, reason: str) -> None:
        if reason == "error":  # a failure, not a reason why the model stopped
            self.failed = True
        else:
            growing.finish_reason = reason
            self.finished = True
            self.new_output = self.new_output or "finish"

    def _update_head(self, chunk: CompletionChunk) -> None:
        # Until there is output a new attempt may replace this one, and the head with it.
        self.has_chunks = True
        self._id = chunk.id or self._id
        self._model = chunk.model or self._model
        self._created = chunk.created or self._created
        self.has_output = bool(self.new_output)

    @property
    def is_complete(self) -> bool:
        return (
            self.finished
            and len(self._choices) >= self._answers
            and all(growing.finish_reason for growing in self._growing_choices())
        )

    def has_output_in(self, choice: int) -> bool:
        growing = self._choices.get(choice)
        return growing is not None and bool(growing.contents or growing.fragments)

    def finish_reason(self) -> str | None:
        growing = self._choices.get(0)
        return growing.finish_reason if growing else None

    def count_outputs(self) -> int:
        """Returns the number of pieces of output, in all answers."""
        return sum(growing.count_pieces() for growing in self._growing_choices())

    def text(self) -> str:
        """Returns the text of the first answer, without its thinking and other parts."""
        growing = self._choices.get(0)
        return "".join(texts_in(growing.contents)) if growing else ""

    def can_be_continued(self) -> bool:
        """Returns whether another request may continue the text of an answer that broke."""
        if self.finished or self.overflowed:
            return False
        has_tool_calls = any(growing.fragments for growing in self._growing_choices())
        return not has_tool_calls and self.text() != ""

    def response(
        self, *, complete: bool = False, with_unfinished: bool = False
    ) -> ChatCompletionResponse:
        """Returns everything received so far.

        Args:
            complete: Whether the answer has ended normally.
            with_unfinished: Whether to include the tool calls that may be incomplete.
        """
        choices = self._growing_choices()
        return self._response([each.total(complete, with_unfinished) for each in choices])

    def snapshot(self) -> ChatCompletionResponse:
        """Returns everything received so far, at the cost of what is new since the last call."""
        return self._response([growing.snapshot() for growing in self._growing_choices()])

    def _response(self, choices: list[ChatCompletionChoice]) -> ChatCompletionResponse:
        return ChatCompletionResponse(
            id=self._id,
            object="chat.completion",
            model=self._model,
            created=self._created,
            usage=self.usage,
            choices=choices,
        )

    def _growing_choices(self) -> list[_GrowingChoice]:
        # list() first: dispose() may ask for the outcome while another thread adds a choice.
        return [self._choices[index] for index in sorted(list(self._choices))]  # noqa: C414  # see above


def _output_kind(content: list[ContentChunk]) -> str:
    """Returns the kind of the last part in a content list that is not empty, or ""."""
    kind = ""
    for part in content:
        if isinstance(part, ThinkChunk):
            if any(not isinstance(each, TextChunk) or each.text for each in part.thinking):
                kind = "thinking"
        elif isinstance(part, TextChunk):
            kind = "text" if part.text else kind
        elif not isinstance(part, ReferenceChunk) or part.reference_ids:
            kind = "text"
    return kind


class _GrowingChoice(Struct, eq=False):
    """One of the `n` answers, as far as it was received."""

    index: int
    contents: list[_Content] = []  # without empty ones
    has_content: bool = False  # an empty one, which is not the same as none
    fragments: list[ToolCall] = []
    logprobs: list[ChatCompletionResponseTokenLogprobsTopK] = []
    finish_reason: str | None = None
    message: _GrowingMessage | None = None  # of the latest snapshot
    unjoined_bytes: int = 0  # approximate memory of the pieces to join
    joined_count: int = 0  # contents at the beginning that are joined already
    joined_characters: int = 0
    joined_pieces: int = 0  # of which the joined contents consist

    def count_pieces(self) -> int:
        unjoined = len(self.contents) - self.joined_count
        return self.joined_pieces + unjoined + len(self.fragments)

    def join(self) -> bool:
        """Joins new pieces of text; returns whether they were dropped, as the text is too long."""
        fresh = self.contents[self.joined_count :]
        del self.contents[self.joined_count :]
        self.unjoined_bytes = 0
        self.joined_pieces += len(fresh)
        if self.joined_characters > _MAX_CHARACTERS:
            return True
        for kind, group in groupby(fresh, type):
            pieces = list(group)
            self.contents += ["".join(cast("list[str]", pieces))] if kind is str else pieces
        self.joined_characters += sum(map(len, self.contents[self.joined_count :]))
        self.joined_count = len(self.contents)
        return False

    def total(self, complete: bool, with_unfinished: bool) -> ChatCompletionChoice:
        message = _GrowingMessage()
        message.update(self.contents, self.fragments)
        if complete or self.finish_reason is not None:
            message.tool_calls += message.accumulator.close(self.finish_reason)
        elif with_unfinished:
            message.tool_calls += message.accumulator.unfinished()
        return self._choice(message)

    def snapshot(self) -> ChatCompletionChoice:
        if self.fragments and self.finish_reason is not None:
            return self.total(True, True)
        self.message = message = self.message or _GrowingMessage()
        message.update(self.contents, self.fragments)
        return self._choice(message)

    def _choice(self, message: _GrowingMessage) -> ChatCompletionChoice:
        content = message.content.content()
        logprobs = [*self.logprobs]
        return ChatCompletionChoice(
            index=self.index,
            message=AssistantMessage(
                content="" if content is None and self.has_content else content,
                tool_calls=[*message.tool_calls] or None,
            ),
            finish_reason=self.finish_reason,
            logprobs=ChatCompletionResponseChoiceLogprobs(content=logprobs) if logprobs else None,
        )


class _GrowingMessage:
    """The content and the complete tool calls of a choice."""

    def __init__(self) -> None:
        self.content = _GrowingContent()
        self.tool_calls: list[ToolCall] = []
        self.accumulator = ToolCallAccumulator()
        self._content_count = self._fragment_count = 0  # included already

    def update(self, contents: list[_Content], fragments: list[ToolCall]) -> None:
        self.content.add(contents[self._content_count :])
        self.tool_calls += self.accumulator.feed(fragments[self._fragment_count :])
        self._content_count, self._fragment_count = len(contents), len(fragments)


class _GrowingContent:
    """The parts of a message, or of a thought; the last part is still open.

    Neighbouring texts and thoughts become one.
    """

    def __init__(self) -> None:
        self._closed: list[ContentChunk] = []
        # At most one of these two is open.
        self._text: str | None = None
        self._thought: _GrowingThought | None = None

    def add(self, contents: list[_Content]) -> None:
        for kind, group in groupby(contents, type):
            if kind is str:
                self._add_text("".join(cast("Iterator[str]", group)))
            else:
                for part in chain.from_iterable(group):
                    self._add_part(cast("ContentChunk", part))

    def parts(self) -> list[ContentChunk]:
        parts = [*self._closed]
        if self._text:
            parts.append(TextChunk(text=self._text))
        if self._thought is not None:
            parts.append(self._thought.chunk())
        return parts

    def content(self) -> _Content | None:
        """Returns one string if all of it is text, and its parts otherwise; None if empty."""
        return self.parts() if self._closed or self._thought is not None else self._text

    def _add_part(self, part: ContentChunk) -> None:
        if isinstance(part, TextChunk):
            self._add_text(part.text)
        elif isinstance(part, ThinkChunk):
            if self._thought is None:
                self._close()
                self._thought = _GrowingThought()
            self._thought.add(part)
        else:
            self._close()
            self._closed.append(part)

    def _add_text(self, piece: str) -> None:
        if piece and self._thought is not None:
            self._close()
        text, self._text = self._text or "", None
        text += piece  # in place, since no other name refers to it
        self._text = text

    def _close(self) -> None:
        self._closed = self.parts()
        self._text = self._thought = None


class _GrowingThought:
    def __init__(self) -> None:
        self._content = _GrowingContent()
        self._signature: str | None = None
        self._closed: bool | None = None

    def add(self, part: ThinkChunk) -> None:
        self._content.add([part.thinking])
        self._signature = part.signature or self._signature
        self._closed = part.closed

    def chunk(self) -> ThinkChunk:
        return ThinkChunk(
            thinking=self._content.parts(), signature=self._signature, closed=self._closed
        )


def texts_in(contents: Iterable[_Content]) -> Iterator[str]:
    for content in contents:
        if isinstance(content, str):
            yield content
        else:
            yield from (part.text for part in content if isinstance(part, TextChunk))
