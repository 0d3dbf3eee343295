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

from collections.abc import Mapping
from functools import partial
from typing import Final

from reactivex import Observable, abc

from ..checks import check_callback
from ..completions.parts import (
    AnswerEnded,
    Part,
    References,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStarted,
    UsageReported,
)
from ..completions.tool_parts import RoundEnded, ToolFailed, ToolProgress, ToolReturned
from ..errors import InvalidAnswerError
from ..models import CompletionChunk, CompletionEvent, as_sent
from ..outcome import Status
from ..rx.stream import Stream
from .encoder import Describe, described, encoder_operator
from .heartbeats import with_heartbeats
from .part_encoder import Item, PartEncoder, RelayedCall
from .sse import SSE_HEADERS

__all__ = ["UI_MESSAGE_HEADERS", "UIMessageEncoder", "ui_message_stream"]

UI_MESSAGE_HEADERS: Final[Mapping[str, str]] = {
    **SSE_HEADERS,
    "x-vercel-ai-ui-message-stream": "v1",
}
"""The headers of a response whose body is made by `ui_message_stream`."""

_DONE = b"data: [DONE]\n\n"

# The finish reasons of the protocol; any other reason is "other".
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}


class UIMessageEncoder(PartEncoder):
    """An encoder of the first of the `n` answers."""

    def __init__(self, message_id: str | None, describe: Describe) -> None:
        super().__init__("ui_message_stream", describe)
        self._message_id = message_id
        self._chunk = CompletionChunk()  # the latest one
        self._open_block = ""  # "text", "reasoning", or none
        self._blocks = 0
        self._has_step_ended = False  # and the next part begins another

    def begin(self) -> bytes:
        self.add_message("start", **({"messageId": self._message_id} if self._message_id else {}))
        self.add_message("start-step")
        return self.flush()

    def encode(self, item: Item) -> bytes:
        if isinstance(item, CompletionEvent):
            self._chunk = item.data
        return super().encode(item)

    def id_origin(self) -> str:
        return f"{self._chunk.id} {self._chunk.created}"

    def end(self, error: Exception | None) -> bytes:
        return super().end(error) + _DONE

    def add_part(self, part: Part) -> None:
        if self._has_step_ended:
            self._has_step_ended = False
            self.add_message("finish-step")
            self.add_message("start-step")
        match part:
            case TextDelta(text):
                self._add_text("text", text)
            case ThinkingDelta(text):
                self._add_text("reasoning", text)
            case ToolCallStarted():
                self._close_block()
                self.add_message("tool-input-start", **_identity(self.open_call(part)))
            case ToolCallDelta():
                self._add_arguments(part)
            case ToolCallReady():
                self._add_input(part)
            case ToolReturned(call, content):
                self.add_message("tool-output-available", toolCallId=call.id, output=content)
            case ToolFailed(call, message):
                self.add_message("tool-output-error", toolCallId=call.id, errorText=message)
            case RoundEnded():
                self._close_block()
                self._add_cut_calls(self.open_calls)
                self.open_calls = []
                self._has_step_ended = True
            case References() | UsageReported() | ToolProgress() | AnswerEnded():
                pass  # the protocol has no part for it, or it is a part of the ending

    def add_ending(self, ended: AnswerEnded, status: Status, description: str) -> None:
        self._close_block()
        for call in self.open_calls:
            self._add_input_error(call, description or self.describe(self.cut_error(call)))
        if status == "completed":
            self._add_finish(ended)
        elif status == "cancelled":
            self.add_message("abort", reason=description)
        else:
            self.add_message("error", errorText=description)

    def _add_finish(self, ended: AnswerEnded) -> None:
        self.add_message("finish-step")
        fields: dict[str, object] = {}
        if ended.finish_reason:
            fields["finishReason"] = _FINISH_REASONS.get(ended.finish_reason, "other")
        if ended.usage is not None:
            fields["messageMetadata"] = {"usage": as_sent(ended.usage)}
        self.add_message("finish", **fields)

    def _add_text(self, block: str, text: str) -> None:
        if block != self._open_block:
            self._close_block()
            self._open_block = block
            self._blocks += 1
            self.add_message(f"{block}-start", id=str(self._blocks))
        self.add_message(f"{block}-delta", id=str(self._blocks), delta=text)

    def _close_block(self) -> None:
        if self._open_block:
            self.add_message(f"{self._open_block}-end", id=str(self._blocks))
            self._open_block = ""

    # tool calls

    def _add_arguments(self, delta: ToolCallDelta) -> None:
        call = self.continue_call(delta)
        if call is not None:
            self.add_message("tool-input-delta", toolCallId=call.id, inputTextDelta=delta.arguments)

    def _add_input(self, ready: ToolCallReady) -> None:
        cut, call = self.close_call(ready)
        self._add_cut_calls(cut)
        if call is None:
            return
        try:
            arguments = ready.call.function.arguments_as(object)
        except InvalidAnswerError as error:
            self._add_input_error(call, self.describe(error))
        else:
            self.add_message("tool-input-available", **_identity(call), input=arguments)

    def _add_cut_calls(self, calls: list[RelayedCall]) -> None:
        for call in calls:
            self._add_input_error(call, self.describe(self.cut_error(call)))

    def _add_input_error(self, call: RelayedCall, description: str) -> None:
        fields = {"input": call.arguments(), "errorText": description}
        self.add_message("tool-input-error", **_identity(call), **fields)


def _identity(call: RelayedCall) -> dict[str, str]:
    return {"toolCallId": call.id, "toolName": call.started.name}


def ui_message_stream(
    source: Observable[Item],
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
        source: Completions, of whose `n` answers the first is relayed; or `parts()`; or text;
            or the content chunks of `think_tags`: `answer.pipe(text(), think_tags())`.
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
    Completes: after `finish`, whose `messageMetadata` has the `usage`; after `abort` if the
        answer was stopped; or after `error` if it failed with a `MistralError`. `[DONE]`
        follows in each case.
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
