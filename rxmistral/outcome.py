"""How an answer ended, and what was received of it, in one object.

An ending is told apart from all others here alone:

    completed  the answer has ended as it should
    cancelled  whoever read it left before that
    refused    the service answered with another status
    timed_out  a clock ran out
    dropped    the connection broke
    truncated  the answer ended with neither a finish_reason nor [DONE]
    reported   the service reported an error inside the answer
    failed     anything else: no answer came, or a subscriber's own error
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from .errors import (
    DroppedStreamError,
    IncompleteStreamError,
    ReportedError,
    RequestTimeoutError,
    StatusError,
    StoppedError,
    StreamTimeoutError,
)
from .models import ChatCompletionResponse, UsageInfo

__all__ = ["Outcome", "Status", "status_of"]


Status: TypeAlias = Literal[
    "completed",
    "cancelled",
    "refused",
    "timed_out",
    "dropped",
    "truncated",
    "reported",
    "failed",
]


class Outcome(msgspec.Struct, frozen=True, kw_only=True, dict=False):
    """What became of an answer.

    Attributes:
        status: How it ended: "completed", "cancelled", "refused", "timed_out",
            "dropped", "truncated", "reported" or "failed". Only "completed" is whole.
        response: All that was received: text, thinking, complete tool calls, and
            `UnfinishedToolCall`s for those that may not be.
        error: What it ended with, or None.
        finish_reason: Why the model stopped, or None where it did not say so. "length"
            is an answer cut short.
        usage: What it cost, as the service said, or None where it did not; never a guess.
        usage_is_exact: Whether that is all it cost. It is not where there is none, nor
            where more than one request was answered: an answer that breaks, or loses a
            race, does not tell its cost.
        requests: How many were sent.
        resumed: How many times the answer was continued.
        started: When it was begun, in seconds since 1970 (as `time.time()`).
        seconds_to_headers: From there to the headers of the answer, or None.
        seconds_to_first_token: To the first text, thinking or tool call, or None.
        seconds_to_last_token: To the last one, or None.
        tokens_per_second: `completion_tokens` from the first to the last; None where
            that is not known exactly, or all came at once.
        longest_gap: The longest silence between two of them, in seconds, without the
            time that the subscriber took; None where there were not two.
    """

    status: Status
    response: ChatCompletionResponse
    error: BaseException | None
    finish_reason: str | None
    usage: UsageInfo | None
    usage_is_exact: bool
    requests: int
    resumed: int
    started: float
    seconds_to_headers: float | None
    seconds_to_first_token: float | None
    seconds_to_last_token: float | None
    tokens_per_second: float | None
    longest_gap: float | None

    def __repr__(self) -> str:
        """What is in the response is shortened to the beginning of its text."""
        told = [f"status={self.status!r}", f"finish_reason={self.finish_reason!r}"]
        if self.error is not None:
            told.append(f"error={self.error!r:.100}")
        told += [
            f"content={choice.message and choice.message.content!r:.100}"
            for choice in self.response.choices[:1]
        ]
        if self.usage is not None:
            told.append(f"tokens={self.usage.total_tokens}")
        return f"<Outcome {', '.join(told)}, requests={self.requests}>"


def status_of(error: BaseException | None) -> Status:
    if error is None:
        return "completed"
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return "failed"


_STATUSES: dict[type[Exception], Status] = {
    StatusError: "refused",
    RequestTimeoutError: "timed_out",
    StreamTimeoutError: "timed_out",
    DroppedStreamError: "dropped",
    IncompleteStreamError: "truncated",
    ReportedError: "reported",
    StoppedError: "cancelled",
}
