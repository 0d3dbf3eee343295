"""How an answer ended and what was received of it; endings are classified nowhere else."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from . import errors
from .models import AssistantMessage, ChatCompletionResponse, ToolCall, UsageInfo

__all__ = ["Outcome", "Status", "status_of"]

Status: TypeAlias = Literal[
    "completed",  # the answer ended as it should
    "cancelled",  # it was stopped, or its reader left before the end
    "refused",  # the service answered with an error status
    "timed_out",  # a timeout expired
    "dropped",  # the connection broke
    "truncated",  # the answer ended with neither a finish_reason nor [DONE]
    "reported",  # the service reported an error inside the answer
    "failed",  # anything else: no answer arrived, or a subscriber raised an error
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, dict=False):
    """The ending of an answer, and everything that was received of it.

    Attributes:
        status: How the answer ended: "completed", "cancelled", "refused", "timed_out",
            "dropped", "truncated", "reported" or "failed". Only "completed" means whole.
        text: The text that was received; "" if none arrived. This and the next three are those
            of the first answer, if the request asked for several.
        thinking: The text of the reasoning; "" if none arrived.
        tool_calls: The tool calls that are complete.
        message: The message, to be sent again as part of the conversation: without tool calls
            that may be incomplete. None if nothing arrived that can be sent.
        response: Everything that was received: text, thinking, complete tool calls, and
            an `UnfinishedToolCall` for each call that may be incomplete.
        error: The error that the answer ended with; None if there is none.
        finish_reason: Why the model stopped; None if it is not known. "length" means that
            the answer was cut short.
        model: The model that answered, as the service named it; None if it did not.
        request_id: The correlation id that the service sent in the headers of its latest
            response; None if it sent none.
        usage: What the service reported last as the cost, never an estimate; None if it
            reported none.
        usage_is_final: Whether `usage` includes the end of the answer. False if there is no
            usage, and if the answer was cut: some services report the cost of the part so far
            in each chunk.
        usage_is_exact: Whether `usage` is the whole cost. False if it is not final, and if
            more than one request was answered: an answer that breaks, or loses a race, does
            not report its cost.
        requests: The number of requests that were sent.
        resumed: The number of times that the answer was continued by another request.
        started: When the call began, in seconds since 1970 (as `time.time()`).
        seconds_to_headers: Seconds from there to the headers of the answer, or None.
        seconds_to_first_token: Seconds to the first text, thinking or tool call, or None. If an
            answer was opened and read later, the time until then is included.
        seconds_to_last_token: Seconds to the last one, or None.
        tokens_per_second: `completion_tokens` divided by the seconds from the first to the
            last token; None if the usage is not exact, or everything arrived at once.
        longest_gap: The longest silence between two tokens, in seconds, without the time
            that the subscriber spent; None if there were fewer than two.
    """

    status: Status
    response: ChatCompletionResponse
    error: BaseException | None
    finish_reason: str | None
    request_id: str | None
    usage: UsageInfo | None
    usage_is_final: bool
    usage_is_exact: bool
    requests: int
    resumed: int
    started: float
    seconds_to_headers: float | None
    seconds_to_first_token: float | None
    seconds_to_last_token: float | None
    tokens_per_second: float | None
    longest_gap: float | None

    @property
    def text(self) -> str:
        return self.response.text

    @property
    def thinking(self) -> str:
        return self.response.thinking

    @property
    def tool_calls(self) -> list[ToolCall]:
        return self.response.tool_calls

    @property
    def message(self) -> AssistantMessage | None:
        return self.response.message

    @property
    def model(self) -> str | None:
        return self.response.model

    def __repr__(self) -> str:
        """Shows the beginning of the text instead of the whole response."""
        fields = [f"status={self.status!r}", f"finish_reason={self.finish_reason!r}"]
        if self.error is not None:
            fields.append(f"error={self.error!r:.100}")
        fields += [
            f"content={choice.message and choice.message.content!r:.100}"
            for choice in self.response.choices[:1]
        ]
        if self.usage is not None:
            fields.append(f"tokens={self.usage.total_tokens}")
        return f"<Outcome {', '.join(fields)}, requests={self.requests}>"


def status_of(error: BaseException | None) -> Status:
    """Returns the status of an answer that ended with this error; None is completion."""
    if error is None:
        return "completed"
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return "failed"


_STATUSES: dict[type[Exception], Status] = {
    errors.StatusError: "refused",
    errors.RequestTimeoutError: "timed_out",
    errors.StreamTimeoutError: "timed_out",
    errors.DroppedStreamError: "dropped",
    errors.IncompleteStreamError: "truncated",
    errors.ReportedError: "reported",
    errors.StoppedError: "cancelled",
}
