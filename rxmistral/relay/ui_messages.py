r"""An answer as the UI message stream of the AI SDK, which `useChat` reads.

    {"type":"start"}  {"type":"start-step"}                        at once
    {"type":"reasoning-start","id":"1"}  ...-delta  ...-end        a block of thinking
    {"type":"text-start","id":"2"}       ...-delta  ...-end        a block of text
    {"type":"tool-input-start","toolCallId":"call9","toolName":"weather"}
    {"type":"tool-input-delta",...}  {"type":"tool-input-available",...,"input":{...}}
    {"type":"finish-step"}  {"type":"finish","finishReason":"stop"}
    [DONE]

Each part is a Server-Sent Event. One block of text or thinking is open at a time; content of
another kind closes it, so that the parts of the message keep the order in which they arrived.
A tool call is open from its name until it is certain to be complete; several may be open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec
from reactivex import Observable, abc

from ..checks import check_callback
from ..completions.tool_calls import PartialToolCall, ToolCallAccumulator
from ..errors import InvalidAnswerError
from ..models import (
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    ContentChunk,
    TextChunk,
    ThinkChunk,
    ToolCall,
    UnfinishedToolCall,
)
from ..outcome import status_of
from ..rx.stream import Stream
from .encoder import Describe, Encoder, described, encoder_operator
from .heartbeats import with_heartbeats
from .sse import SSE_HEADERS

__all__ = ["UI_MESSAGE_HEADERS", "UIMessageEncoder", "ui_message_stream"]

UI_MESSAGE_HEADERS: Final[Mapping[str, str]] = {
    **SSE_HEADERS,
    "x-vercel-ai-ui-message-stream": "v1",
}
"""The headers of a response whose body is made by `ui_message_stream`."""

Item: TypeAlias = CompletionEvent | ContentChunk | str

_DONE = b"data: [DONE]\n\n"
_ID_LENGTH = 9  # the length that Mistral requires when a tool call is sent back

# The finish reasons of the protocol; any other reason is "other".
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "error": "error",
}

_json = msgspec.json.Encoder().encode


class UIMessageEncoder(Encoder[Item, bytes]):
    """Encodes the first of the `n` answers."""

    def __init__(self, message_id: str | None, describe: Describe) -> None:
        self._message_id = message_id
        self._describe = describe
        self._parts: list[bytes] = []  # that were not returned yet
        self._open_block = ""  # "text", "reasoning", or none
        self._blocks = 0
        self._accumulator = ToolCallAccumulator()
        self._calls: dict[PartialToolCall, _RelayedCall] = {}
        self._open_calls: deque[_RelayedCall] = deque()  # in the order in which they began
        self._call_ids: set[str] = set()
        self._finish_reason: str | None = None

    def begin(self) -> bytes:
        self._add("start", **({"messageId": self._message_id} if self._message_id else {}))
        self._add("start-step")
        return self._flush()

    def encode(self, item: Item) -> bytes:
        if isinstance(item, CompletionEvent):
            self._add_chunk(item.data)
        else:
            self._add_content(item)
        return self._flush()

    def end(self, error: Exception | None) -> bytes:
        self._close_block()
        if error is None:
            self._complete_calls(self._accumulator.close(self._finish_reason))
            self._add("finish-step")
            reason = self._finish_reason and _FINISH_REASONS.get(self._finish_reason, "other")
            self._add("finish", **({"finishReason": reason} if reason else {}))
        else:
            self._add_failure(error)
        return self._flush() + _DONE

    def _add_failure(self, error: Exception) -> None:
        description = self._describe(error)
        for call in self._open_calls:
            if call.is_started:
                self._add_input_error(call, call.accumulated.tool_call(), description)
        if status_of(error) == "cancelled":
            self._add("abort", reason=description)
        else:
            self._add("error", errorText=description)

    def _add(self, type: str, **fields: object) -> None:
        self._parts.append(b"data: %b\n\n" % _json({"type": type, **fields}))

    def _flush(self) -> bytes:
        parts = b"".join(self._parts)
        self._parts.clear()
        return parts

    # completions

    def _add_chunk(self, chunk: CompletionChunk) -> None:
        for choice in chunk.choices:
            if not choice.index:
                self._add_choice(choice, chunk)

    def _add_choice(self, choice: CompletionResponseStreamChoice, chunk: CompletionChunk) -> None:
        content = choice.delta.content
        if isinstance(content, str):
            self._add_text("text", content)
        elif content:
            for part in content:
                self._add_content(part)
        if choice.delta.tool_calls:
            self._add_fragments(choice.delta.tool_calls, chunk)
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
            if choice.finish_reason != "error":  # then an error follows, which ends the calls
                self._complete_calls(self._accumulator.close(choice.finish_reason))

    # text and thinking

    def _add_content(self, part: ContentChunk | str) -> None:
        match part:
            case str():
                self._add_text("text", part)
            case TextChunk():
                self._add_text("text", part.text)
            case ThinkChunk():
                for thought in part.thinking:
                    if isinstance(thought, TextChunk):
                        self._add_text("reasoning", thought.text)
            case ContentChunk():
                pass  # the protocol has no part for it that a page would show
            case _:
                raise TypeError(
                    "ui_message_stream accepts completions, content chunks and text, "
                    f"got {type(part).__name__}"
                )

    def _add_text(self, block: str, text: str) -> None:
        if not text:
            return
        if block != self._open_block:
            self._close_block()
            self._open_block = block
            self._blocks += 1
            self._add(f"{block}-start", id=str(self._blocks))
        self._add(f"{block}-delta", id=str(self._blocks), delta=text)

    def _close_block(self) -> None:
        if self._open_block:
            self._add(f"{self._open_block}-end", id=str(self._blocks))
            self._open_block = ""

    # tool calls

    def _add_fragments(self, fragments: list[ToolCall], chunk: CompletionChunk) -> None:
        self._close_block()
        for fragment in fragments:
            accumulated = self._accumulator.add(fragment)
            call = self._calls.get(accumulated)
            if call is None:
                call = _RelayedCall(accumulated, self._id_of(accumulated, chunk))
                self._calls[accumulated] = call
                self._open_calls.append(call)
            if accumulated.name:
                self._add_new_arguments(call)
        self._complete_calls(self._accumulator.pop_complete())

    def _id_of(self, call: PartialToolCall, chunk: CompletionChunk) -> str:
        """Returns the model's id; if it is missing or not unique, one that is made from the
        chunk, so that every page that receives this answer gets the same ids."""
        call_id = call.id
        if call_id is None or call_id in self._call_ids:
            origin = f"{chunk.id} {chunk.created} {len(self._call_ids)}"
            call_id = blake2b(origin.encode()).hexdigest()[:_ID_LENGTH]
        self._call_ids.add(call_id)
        return call_id

    def _add_new_arguments(self, call: _RelayedCall) -> None:
        if not call.is_started:
            self._add("tool-input-start", **call.identity())
            call.is_started = True
        if new := call.new_arguments():
            self._add("tool-input-delta", toolCallId=call.id, inputTextDelta=new)

    def _complete_calls(self, completed: list[ToolCall]) -> None:
        for complete in completed:
            call = self._open_calls.popleft()
            self._add_new_arguments(call)
            try:
                arguments = _parsed_arguments(complete)
            except InvalidAnswerError as error:
                self._add_input_error(call, complete, self._describe(error))
            else:
                self._add("tool-input-available", **call.identity(), input=arguments)

    def _add_input_error(self, call: _RelayedCall, cut: ToolCall, description: str) -> None:
        fields = {"input": cut.function.arguments, "errorText": description}
        self._add("tool-input-error", **call.identity(), **fields)


def _parsed_arguments(call: ToolCall) -> object:
    if isinstance(call, UnfinishedToolCall):
        expected = f"object, the arguments of {call.function.name}"
        raise InvalidAnswerError(expected, "the answer was cut", str(call.function.arguments))
    return call.function.arguments_as(object)


class _RelayedCall:
    """A tool call, and how much of it the page has received."""

    def __init__(self, accumulated: PartialToolCall, id: str) -> None:
        self.id = id
        self.is_started = False
        self.accumulated = accumulated
        self._sent_pieces = 0

    def identity(self) -> dict[str, str]:
        return {"toolCallId": self.id, "toolName": self.accumulated.name or ""}

    def new_arguments(self) -> str:
        new = self.accumulated.pieces[self._sent_pieces :]
        self._sent_pieces += len(new)
        return "".join(new)


def ui_message_stream(
    source: Observable[CompletionEvent | ContentChunk | str],
    *,
    message_id: str | None = None,
    heartbeat: float | None = 15.0,
    describe: Describe = described,
    scheduler: abc.SchedulerBase | None = None,
) -> Stream[bytes]:
    r"""An answer into a UI message stream of the AI SDK, for the body of a response.

        ------{thinking}--"Hel"--"lo"--stop-|->
        start-reasoning---text---text--finish|->

    A front end with `useChat` sends its messages by POST, and reads this response:

        return Response(ui_message_stream(answer), headers=UI_MESSAGE_HEADERS)

    A front end that resumes (`useChat({resume: true})`) expects all parts from the start,
    which a shared or logged stream emits to each subscriber, or status 204 if there is
    nothing to resume.

    Args:
        source: Completions, of whose `n` answers the first is relayed; or text; or the
            content chunks of `think_tags`: `answer.pipe(text(), think_tags())`.
        message_id: The id of the message, for a back end that stores messages; default: the
            front end chooses one. Leave it out if the front end sends the result of a tool:
            the answer then continues the message that has the tool call.
        heartbeat: Seconds of silence before a comment is sent, which keeps the connection
            open and detects that the client has disconnected; None: no comments.
        describe: Returns the text of an error; default: `described`.
        scheduler: Keeps the time of the heartbeats, as in `server_sent_events`.

    Emits: bytes, each of them whole parts, or a comment. The parts are text, reasoning and
        tool calls, whose arguments are sent as they arrive. A `tool-input-error` reports a
        call whose arguments were cut or are not JSON at the end, and each call that is open
        when the answer breaks or is stopped. Other kinds of content are left out.
    Completes: after `finish`; after `abort` if the answer was stopped; or after `error` if
        it failed with a `MistralError`. `[DONE]` follows in each case.
    Errors: after `[DONE]` with a fault of the program, which is any error but a
        `MistralError`.

    Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol

    >>> import reactivex
    >>> start, first, second, end = ui_message_stream(reactivex.of("Hel", "lo"), heartbeat=None)
    >>> second
    b'data: {"type":"text-delta","id":"1","delta":"lo"}\n\n'
    """
    check_callback("describe", describe)
    if message_id is not None and not isinstance(message_id, str):
        raise TypeError(f"message_id must be a str or None, got {type(message_id).__name__}")
    encoded = encoder_operator(partial(UIMessageEncoder, message_id, describe))
    return Stream.of(source).pipe(encoded, with_heartbeats(heartbeat, scheduler))
