r"""An answer as a run of AG-UI 1.0, the Agent User Interaction Protocol.

    RUN_STARTED                                                        at once
    REASONING_START  REASONING_MESSAGE_START, ..._CONTENT, ..._END  REASONING_END
    TEXT_MESSAGE_START  TEXT_MESSAGE_CONTENT ...  TEXT_MESSAGE_END     a block of text
    TOOL_CALL_START  TOOL_CALL_ARGS ...  TOOL_CALL_END                 a complete call
    RUN_FINISHED, or RUN_ERROR

Strategy: the text and the tool calls of an answer are one message of a conversation, so they
have one message id. "A closed message is closed, not sealed" (AG-UI 1.0, Text Messages): text
that follows thinking or a call opens the message again. Thinking is a message of its own.

`TOOL_CALL_END` makes an application call its tool, so a call that was cut does not get one. But
"every item a producer opens must be closed before the run finishes" (Streaming Messages). So a
run with such a call ends with `RUN_ERROR`, which "ends whatever was still open along with the
run" (Runs and Steps). The exception is a run that was stopped: its calls must be closed, and the
application knows from the outcome "cancelled" that they are not to be made.
"""

from __future__ import annotations

from functools import partial

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
from ..models import UsageInfo
from ..outcome import Status
from ..rx.stream import Stream
from .encoder import Describe, described, encoder_operator
from .heartbeats import with_heartbeats
from .part_encoder import Item, PartEncoder, RelayedCall

__all__ = ["AGUIEncoder", "agui_events"]

_PROTOCOL_VERSION = "1.0"


class AGUIEncoder(PartEncoder):
    """Encodes the first of the `n` answers."""

    def __init__(self, thread_id: str, run_id: str, describe: Describe) -> None:
        super().__init__("agui_events", describe)
        self._run = {"threadId": thread_id, "runId": run_id}
        self._message_count = 0
        self._answer_id = ""  # of the message with the text and the calls; "": none yet
        self._thinking_id = ""  # of the message that is open; "": none
        self._is_text_open = False
        self._cut_calls: list[RelayedCall] = []  # which stay open
        self._pending_call_ids: list[str] = []  # of complete calls

    def id_origin(self) -> str:
        return self._run["runId"]

    def begin(self) -> bytes:
        self.add_message("RUN_STARTED", **self._run, protocolVersion=_PROTOCOL_VERSION)
        return self.flush()

    def add_part(self, part: Part) -> None:
        match part:
            case TextDelta(text):
                self._open_text()
                self.add_message("TEXT_MESSAGE_CONTENT", messageId=self._answer_id, delta=text)
            case ThinkingDelta(text):
                self._open_thinking()
                fields = {"messageId": self._thinking_id, "delta": text}
                self.add_message("REASONING_MESSAGE_CONTENT", **fields)
            case ToolCallStarted():
                self._start_call(part)
            case ToolCallDelta():
                call = self.continue_call(part)
                if call is not None:
                    self.add_message("TOOL_CALL_ARGS", toolCallId=call.id, delta=part.arguments)
            case ToolCallReady():
                self._end_call(part)
            case ToolReturned(call, text) | ToolFailed(call, text):
                self._add_result(call.id or "", text)
            case RoundEnded():
                self._close_messages()
                self._answer_id = ""
                self._cut_calls += self.open_calls
                self.open_calls = []
            case References() | UsageReported() | ToolProgress() | AnswerEnded():
                pass  # the protocol has no event for it, or it is a part of the ending

    def add_ending(self, ended: AnswerEnded, status: Status, description: str) -> None:
        self._close_messages()
        counts = {} if ended.usage is None else _token_counts(ended.usage)
        usage = {"usage": [counts]} if counts else {}
        unfinished = [*self._cut_calls, *self.open_calls]
        if status == "cancelled":
            for call in unfinished:
                self.add_message("TOOL_CALL_END", toolCallId=call.id)
            outcome = {"type": "cancelled"}
            self.add_message("RUN_FINISHED", **self._run, outcome=outcome, **usage)
        elif status != "completed":
            self.add_message("RUN_ERROR", message=description, code=status, **usage)
        elif unfinished:
            message = self.describe(self.cut_error(unfinished[0]))
            code = ended.finish_reason or "truncated"
            self.add_message("RUN_ERROR", message=message, code=code, **usage)
        else:
            self.add_message("RUN_FINISHED", **self._run, **self._success(ended), **usage)

    def _success(self, ended: AnswerEnded) -> dict[str, object]:
        fields: dict[str, object] = {}
        if self._pending_call_ids:
            pending = self._pending_call_ids
            fields["outcome"] = {"type": "success", "pendingToolCallIds": pending}
        if ended.finish_reason:
            fields["metadata"] = {"finishReason": ended.finish_reason}
        return fields

    # messages

    def _open_text(self) -> None:
        if not self._is_text_open:
            self._close_messages()
            self._is_text_open = True
            fields = {"messageId": self._id_of_answer(), "role": "assistant"}
            self.add_message("TEXT_MESSAGE_START", **fields)

    def _open_thinking(self) -> None:
        if not self._thinking_id:
            self._close_messages()
            self._thinking_id = self._new_id()
            self.add_message("REASONING_START", messageId=self._thinking_id)
            fields = {"messageId": self._thinking_id, "role": "reasoning"}
            self.add_message("REASONING_MESSAGE_START", **fields)

    def _close_messages(self) -> None:
        if self._is_text_open:
            self.add_message("TEXT_MESSAGE_END", messageId=self._answer_id)
            self._is_text_open = False
        if self._thinking_id:
            self.add_message("REASONING_MESSAGE_END", messageId=self._thinking_id)
            self.add_message("REASONING_END", messageId=self._thinking_id)
            self._thinking_id = ""

    def _id_of_answer(self) -> str:
        self._answer_id = self._answer_id or self._new_id()
        return self._answer_id

    def _new_id(self) -> str:
        self._message_count += 1
        return f"{self._run['runId']}-{self._message_count}"

    # tool calls

    def _start_call(self, started: ToolCallStarted) -> None:
        self._close_messages()
        call = self.open_call(started)
        fields = {"toolCallId": call.id, "toolCallName": started.name}
        self.add_message("TOOL_CALL_START", **fields, parentMessageId=self._id_of_answer())

    def _end_call(self, ready: ToolCallReady) -> None:
        cut, call = self.close_call(ready)
        self._cut_calls += cut
        if call is not None:
            self._pending_call_ids.append(call.id)
            self.add_message("TOOL_CALL_END", toolCallId=call.id)

    def _add_result(self, call_id: str, content: str) -> None:
        if call_id in self._pending_call_ids:
            self._pending_call_ids.remove(call_id)
        fields = {"messageId": self._new_id(), "toolCallId": call_id, "role": "tool"}
        self.add_message("TOOL_CALL_RESULT", **fields, content=content)


def _token_counts(usage: UsageInfo) -> dict[str, int]:
    """Returns the usage in the protocol's words, without counts that it would not accept."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    counts = {
        "inputTokens": prompt,
        "outputTokens": completion,
        # "A producer MUST NOT copy a provider's total that counts differently."
        "totalTokens": None if prompt is None or completion is None else prompt + completion,
        "reasoningTokens": _detail(usage, "completion_tokens_details", "reasoning_tokens"),
        "cachedInputTokens": _detail(usage, "prompt_tokens_details", "cached_tokens"),
    }
    return {name: count for name, count in counts.items() if count is not None and count >= 0}


def _detail(usage: UsageInfo, name: str, key: str) -> int | None:
    details = usage.additional_properties.get(name)
    count = details.get(key) if isinstance(details, dict) else None
    return count if type(count) is int else None


def agui_events(
    source: Observable[Item],
    *,
    thread_id: str,
    run_id: str,
    heartbeat: float | None = 15.0,
    describe: Describe = described,
    scheduler: abc.SchedulerBase | None = None,
) -> Stream[bytes]:
    r"""An answer into the events of an AG-UI run, for the body of a response.

        ------------{thinking}--"Hel"--"lo"--stop---------|->
        RUN_STARTED-REASONING---TEXT---TEXT--RUN_FINISHED|->

    A front end with an AG-UI client sends a `RunAgentInput` by POST, and reads this response:

        ids = {"thread_id": sent["threadId"], "run_id": sent["runId"]}
        return Response(agui_events(answer, **ids), headers=SSE_HEADERS)

    Args:
        source: Completions, of whose `n` answers the first is relayed; or `parts()`; or text;
            or the content chunks of `think_tags`: `answer.pipe(text(), think_tags())`.
        thread_id: The id of the conversation, which the front end has sent.
        run_id: The id of this run, which the front end has sent. The ids of the messages are
            made from it.
        heartbeat: Seconds of silence before a comment is sent, which keeps the connection
            open and detects that the client has disconnected; None: no comments.
        describe: Returns the text of an error; default: `described`.
        scheduler: Keeps the time of the heartbeats, as in `server_sent_events`.

    Emits: bytes, each of them whole events, or a comment. The events are text, reasoning and
        tool calls, whose arguments are sent as they arrive. Other kinds of content are left
        out.
    Completes: after `RUN_FINISHED`, which has the usage, the ids of the tool calls for the
        application to answer, and the finish_reason as metadata; its outcome is "cancelled" if
        the answer was stopped. After `RUN_ERROR` if the answer failed with a `MistralError`,
        or was cut in the middle of a tool call; `code` is the status of the `Outcome`, or the
        finish_reason of the cut.
    Errors: after `RUN_ERROR` with a fault of the program, which is any error but a
        `MistralError`.

    Source: https://docs.ag-ui.com/spec/1.0

    >>> import reactivex
    >>> events = agui_events(reactivex.of("Hel"), thread_id="t1", run_id="r1", heartbeat=None)
    >>> started, text, end = events
    >>> started
    b'data: {"type":"RUN_STARTED","threadId":"t1","runId":"r1","protocolVersion":"1.0"}\n\n'
    >>> text.splitlines()[2]
    b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":"r1-1","delta":"Hel"}'
    """
    check_callback("describe", describe)
    for name, value in (("thread_id", thread_id), ("run_id", run_id)):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    encoded = encoder_operator(partial(AGUIEncoder, thread_id, run_id, describe))
    return Stream.of(source).pipe(encoded, with_heartbeats(heartbeat, scheduler))
