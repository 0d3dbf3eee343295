"""The outcome of a run, made of the outcomes of its answers."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from ..models import ChatCompletionResponse, ToolCall, UnfinishedToolCall, UsageInfo
from ..outcome import Outcome, Status
from .attempts import add_usage

__all__ = ["total_outcome"]


def total_outcome(
    outcomes: Sequence[Outcome],
    error: BaseException | None,
    status: Status,
    open_calls: list[ToolCall],
) -> Outcome:
    """Returns the outcome of the last answer, with the costs and times of all answers.

    Args:
        outcomes: Of the answers, at least one.
        error: The error that the run ended with; None if there is none.
        status: How the run ended.
        open_calls: The tool calls that the program has to answer.
    """
    first, last = outcomes[0], outcomes[-1]
    offset = last.started - first.started
    token_at = next((each for each in outcomes if each.seconds_to_first_token is not None), first)
    first_token = token_at.seconds_to_first_token
    last_token = last.seconds_to_last_token
    gaps = [each.longest_gap for each in outcomes if each.longest_gap is not None]
    return structs.replace(
        last,
        status=status,
        error=error,
        response=_with_calls(last.response, open_calls),
        usage=_sum([each.usage for each in outcomes if each.usage is not None]),
        usage_is_final=all(each.usage_is_final for each in outcomes),
        usage_is_exact=all(each.usage_is_exact for each in outcomes),
        requests=sum(each.requests for each in outcomes),
        resumed=sum(each.resumed for each in outcomes),
        started=first.started,
        seconds_to_headers=first.seconds_to_headers,
        seconds_to_first_token=(
            None if first_token is None else first_token + token_at.started - first.started
        ),
        seconds_to_last_token=None if last_token is None else last_token + offset,
        tokens_per_second=last.tokens_per_second if len(outcomes) == 1 else None,
        longest_gap=max(gaps, default=None),
    )


def _sum(usages: list[UsageInfo]) -> UsageInfo | None:
    total: UsageInfo | None = None
    for usage in usages:
        total = usage if total is None else add_usage(total, usage)
    return total


def _with_calls(
    response: ChatCompletionResponse, open_calls: list[ToolCall]
) -> ChatCompletionResponse:
    """Returns a response without the tool calls that have an answer."""
    choices = []
    for choice in response.choices:
        if not choice.index and choice.message is not None and choice.message.tool_calls:
            calls = [c for c in choice.message.tool_calls if isinstance(c, UnfinishedToolCall)]
            message = structs.replace(choice.message, tool_calls=[*open_calls, *calls] or None)
            choice = structs.replace(choice, message=message)
        choices.append(choice)
    return structs.replace(response, choices=choices)
