r"""An answer to the AI SDK's UI message stream, which `useChat` reads.

    {"type":"start"}  {"type":"start-step"}                        at once
    {"type":"reasoning-start","id":"1"}  ...-delta  ...-end        a block of thinking
    {"type":"text-start","id":"2"}       ...-delta  ...-end        a block of text
    {"type":"tool-input-start","toolCallId":"call9","toolName":"weather"}
    {"type":"tool-input-delta",...}  {"type":"tool-input-available",...,"input":{...}}
    {"type":"finish-step"}  {"type":"finish","finishReason":"stop"}
    [DONE]

Each part is a Server-Sent Event. One block is open at a time; what is of another kind
closes it, so that the parts of the message stand in the order in which they came. A tool
call is open from its name until it is certain to be complete; meanwhile others may be.
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
from .encoder import Encoder, encoded_by
from .endings import Describe, described
from .heartbeats import with_heartbeats
from .sse import SSE_HEADERS

__all__ = ["UI_MESSAGE_HEADERS", "UIMessageEncoder", "ui_message_stream"]

UI_MESSAGE_HEADERS: Final[Mapping[str, str]] = {
    **SSE_HEADERS,
    "x-vercel-ai-ui-message-stream": "v1",
}
"""What to send with `ui_message_stream`."""

Item: TypeAlias = CompletionEvent | ContentChunk | str

_DONE = b"data: [DONE]\n\n"
_ID_LENGTH = 9  # what Mistral takes for the id of a tool call, when it is sent back

# The words of the protocol; a reason that has none is "other".
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
    """Encodes the first of the `n` answers.

    Args:
        message_id, describe: As of `ui_message_stream`.
    """

    def __init__(self, message_id: str | None, describe: Describe) -> None:
        self._message_id = message_id
        self._describe = describe
        self._parts: list[bytes] = []  # and not given yet
        self._block = ""  # the kind of the one that is open
        self._blocks = 0
        self._calls = _Calls()
        self._finish_reason: str | None = None

    def begin(self) -> bytes:
        self._add("start", **({"messageId": self._message_id} if self._message_id else {}))
        self._add("start-step")
        return self._take()

    def encode(self, item: Item) -> bytes:
        if isinstance(item, CompletionEvent):
            self._add_chunk(item.data)
        else:
            self._add_content(item)
        return self._take()

    def end(self, error: Exception | None) -> bytes:
        self._close_block()
        if error is None:
            self._complete_calls(self._calls.close(self._finish_reason))
            self._add("finish-step")
            self._add("finish", **self._reason())
        else:
            self._add_failure(error)
        return self._take() + _DONE

    def _add_failure(self, error: Exception) -> None:
        said = self._describe(error)
        for call in self._calls.take_open():
            self._add_input_error(call, call.arguments(), said)
        if status_of(error) == "cancelled":
            self._add("abort", reason=said)
        else:
            self._add("error", errorText=said)

    def _add(self, type: str, **fields: object) -> None:
        self._parts.append(b"data: %b\n\n" % _json({"type": type, **fields}))

    def _take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken

    def _reason(self) -> dict[str, str]:
        reason = self._finish_reason
        return {"finishReason": _FINISH_REASONS.get(reason, "other")} if reason else {}

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
            if choice.finish_reason != "error":  # else the error follows, and ends them
                self._complete_calls(self._calls.close(choice.finish_reason))

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
                raise TypeError(f"no part of a UI message: {type(part).__name__}")

    def _add_text(self, block: str, text: str) -> None:
        if not text:
            return
        if block != self._block:
            self._close_block()
            self._block = block
            self._blocks += 1
            self._add(f"{block}-start", id=str(self._blocks))
        self._add(f"{block}-delta", id=str(self._blocks), delta=text)

    def _close_block(self) -> None:
        if self._block:
            self._add(f"{self._block}-end", id=str(self._blocks))
            self._block = ""

    # tool calls

    def _add_fragments(self, fragments: list[ToolCall], chunk: CompletionChunk) -> None:
        self._close_block()
        for fragment in fragments:
            call = self._calls.add(fragment, chunk)
            if call.is_named():
                self._show_call(call)
        self._complete_calls(self._calls.take_certain())

    def _show_call(self, call: _ShownCall) -> None:
        """What of it came and was not shown yet."""
        if not call.begun:
            self._add("tool-input-start", **call.head())
            call.begun = True
        if fresh := call.take_fresh():
            self._add("tool-input-delta", toolCallId=call.id, inputTextDelta=fresh)

    def _complete_calls(self, completed: list[tuple[_ShownCall, ToolCall]]) -> None:
        for call, whole in completed:
            self._show_call(call)
            try:
                arguments = _whole_arguments(whole)
            except InvalidAnswerError as error:
                self._add_input_error(call, whole.function.arguments, self._describe(error))
            else:
                self._add("tool-input-available", **call.head(), input=arguments)

    def _add_input_error(self, call: _ShownCall, arguments: object, said: str) -> None:
        self._add("tool-input-error", **call.head(), input=arguments, errorText=said)


def _whole_arguments(call: ToolCall) -> object:
    if isinstance(call, UnfinishedToolCall):
        wanted = f"object, the arguments of {call.function.name}"
        raise InvalidAnswerError(wanted, "the answer was cut", str(call.function.arguments))
    return call.function.arguments_as(object)


class _Calls:
    """The tool calls of one answer, as they are put together and as they are shown."""

    def __init__(self) -> None:
        self._gatherer = ToolCallAccumulator()
        self._shown: dict[PartialToolCall, _ShownCall] = {}
        self._coming: deque[_ShownCall] = deque()  # in the order in which they began
        self._ids: set[str] = set()

    def add(self, fragment: ToolCall, chunk: CompletionChunk) -> _ShownCall:
        call = self._gatherer.add(fragment)
        shown = self._shown.get(call)
        if shown is None:
            shown = self._shown[call] = _ShownCall(call, self._id_of(call, chunk))
            self._coming.append(shown)
        return shown

    def _id_of(self, call: PartialToolCall, chunk: CompletionChunk) -> str:
        """The model's, or where there is none, or not one of its own, one that is the same
        for all who are shown this answer."""
        call_id = call.id
        if call_id is None or call_id in self._ids:
            origin = f"{chunk.id} {chunk.created} {len(self._ids)}"
            call_id = blake2b(origin.encode()).hexdigest()[:_ID_LENGTH]
        self._ids.add(call_id)
        return call_id

    def take_certain(self) -> list[tuple[_ShownCall, ToolCall]]:
        return self._completed(self._gatherer.pop_complete())

    def close(self, finish_reason: str | None) -> list[tuple[_ShownCall, ToolCall]]:
        """Those that are left, also those that were cut."""
        return self._completed(self._gatherer.close(finish_reason))

    def take_open(self) -> list[_ShownCall]:
        """Those that a page was shown the beginning of, when no end will follow."""
        left = [call for call in self._coming if call.begun]
        self._coming.clear()
        return left

    def _completed(self, calls: list[ToolCall]) -> list[tuple[_ShownCall, ToolCall]]:
        return [(self._coming.popleft(), call) for call in calls]


class _ShownCall:
    """A tool call, and what of it was shown."""

    def __init__(self, call: PartialToolCall, id: str) -> None:
        self.id = id
        self.begun = False
        self._call = call
        self._pieces = 0

    def is_named(self) -> bool:
        return bool(self._call.name)

    def head(self) -> dict[str, str]:
        return {"toolCallId": self.id, "toolName": self._call.name or ""}

    def take_fresh(self) -> str:
        fresh = self._call.pieces[self._pieces :]
        self._pieces += len(fresh)
        return "".join(fresh)

    def arguments(self) -> object:
        return self._call.tool_call().function.arguments


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

    A front end with `useChat` sends its messages by POST, and takes this for the answer:

        return Response(ui_message_stream(answer), headers=UI_MESSAGE_HEADERS)

    Where the front end resumes (`useChat({resume: true})`) it wants all from the start
    again, which a shared or logged stream gives to each who reads it; where there is
    nothing to resume it takes the status 204.

    Args:
        source: Completions, of which the first of the `n` answers is relayed. Or text, or
            what `think_tags` gives: `answer.pipe(text(), think_tags())`.
        message_id: The id of the message, for who keeps messages; by default the front
            end gives it one. Not where the front end sends the outcome of a tool: then
            the answer goes on with the message that has the call.
        heartbeat: Seconds of silence before a comment is sent, which keeps the connection
            open, and finds out that the client has gone; None for none.
        describe: Gives the text of an error; by default `described`.
        scheduler: Keeps the time of the heartbeats, as of `server_sent_events`.

    Emits: bytes, each of them whole parts, or a comment. Parts are of text, reasoning and
        tool calls, the arguments as they come. There is a `tool-input-error` for a call
        whose arguments are not JSON in the end, or were cut, and for each call that is
        open when the answer breaks or is stopped. Other kinds of content are left out.
    Completes: after `finish`; after `abort` where the answer was stopped; or after
        `error`, where it is a `MistralError`. Then comes `[DONE]`.
    Errors: what is no `MistralError`, after that: the program has a fault.

    Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol

    >>> import reactivex
    >>> body = ui_message_stream(reactivex.of("Hel", "lo"), heartbeat=None)
    >>> print(b"".join(body).decode().replace("\n\n", "\n"), end="")
    data: {"type":"start"}
    data: {"type":"start-step"}
    data: {"type":"text-start","id":"1"}
    data: {"type":"text-delta","id":"1","delta":"Hel"}
    data: {"type":"text-delta","id":"1","delta":"lo"}
    data: {"type":"text-end","id":"1"}
    data: {"type":"finish-step"}
    data: {"type":"finish"}
    data: [DONE]
    """
    check_callback("describe", describe)
    if message_id is not None and not isinstance(message_id, str):
        raise TypeError(f"message_id must be a str or None, got {type(message_id).__name__}")
    encoded = encoded_by(partial(UIMessageEncoder, message_id, describe))
    return Stream.of(source).pipe(encoded, with_heartbeats(heartbeat, scheduler))
