"""Requests and outcomes to the attributes of a span; one whose value is None is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from ..error_report import status_line
from ..errors import (
    IncompleteStreamError,
    MistralError,
    RequestTimeoutError,
    StatusError,
    StreamTimeoutError,
    described,
)
from ..models import UsageInfo
from ..outcome import Outcome
from . import names

__all__ = [
    "Attributes",
    "RequestFields",
    "decode_request",
    "description_of",
    "error_type_of",
    "outcome_attributes",
    "request_attributes",
    "without_none",
]

Attributes: TypeAlias = dict[str, Any]  # a str, a bool, a number or a list of strings; or None


def without_none(attributes: Attributes) -> Attributes:
    """Returns the attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


# --- the request -----------------------------------------------------------------


class RequestFields(Struct):
    """The fields of a request that its span shows; with `extra_body`, they may have any type."""

    messages: msgspec.Raw
    n: Any = None
    max_tokens: Any = None
    temperature: Any = None
    top_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    random_seed: Any = None
    stop: Any = None
    response_format: Any = None


decode_request = msgspec.json.Decoder(RequestFields).decode


def request_attributes(request: RequestFields) -> Attributes:
    """Returns the attributes that describe a request."""
    choices = _integer(request.n)
    return {
        names.REQUEST_STREAM: True,
        names.REQUEST_MAX_TOKENS: _integer(request.max_tokens),
        names.REQUEST_TEMPERATURE: _number(request.temperature),
        names.REQUEST_TOP_P: _number(request.top_p),
        names.REQUEST_FREQUENCY_PENALTY: _number(request.frequency_penalty),
        names.REQUEST_PRESENCE_PENALTY: _number(request.presence_penalty),
        names.REQUEST_SEED: _integer(request.random_seed),
        names.REQUEST_STOP_SEQUENCES: _strings(request.stop),
        names.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
        names.OUTPUT_TYPE: _output_type(request.response_format),
    }


def _output_type(response_format: Any) -> str | None:
    match response_format:
        case {"type": "text"}:
            return "text"
        case {"type": "json_object" | "json_schema"}:
            return "json"
        case _:
            return None


# --- the outcome -----------------------------------------------------------------


def outcome_attributes(outcome: Outcome, requested_choices: int) -> Attributes:
    """Returns the attributes that describe an answer and how it ended."""
    return {
        names.RESPONSE_ID: outcome.response.id,
        names.RESPONSE_MODEL: outcome.model,
        names.RESPONSE_FINISH_REASONS: _finish_reasons(outcome, requested_choices) or None,
        names.RESPONSE_TIME_TO_FIRST_CHUNK: outcome.seconds_to_first_token,
        names.OUTCOME: outcome.status,
        names.REQUESTS: outcome.requests,
        names.RESUMED: outcome.resumed,
        names.LONGEST_GAP: outcome.longest_gap,
        names.ERROR_TYPE: error_type_of(outcome),
        **(_usage_attributes(outcome.usage) if outcome.usage else {}),
    }


def _finish_reasons(outcome: Outcome, requested_choices: int) -> list[str]:
    """Returns the reason of each choice: "error" if it was cut short."""
    reasons = {choice.index or 0: choice.finish_reason for choice in outcome.response.choices}
    if outcome.status == "completed":
        return [reason for reason in reasons.values() if reason]
    indexes = range(max(requested_choices, *(index + 1 for index in reasons), 1))
    return [reasons.get(index) or "error" for index in indexes]


def _usage_attributes(usage: UsageInfo) -> Attributes:
    details = usage.additional_properties
    return {
        names.USAGE_INPUT_TOKENS: usage.prompt_tokens,
        names.USAGE_OUTPUT_TOKENS: usage.completion_tokens,
        names.USAGE_CACHE_READ_INPUT_TOKENS: _count(
            details.get("prompt_tokens_details"), "cached_tokens"
        ),
        names.USAGE_REASONING_OUTPUT_TOKENS: _count(
            details.get("completion_tokens_details"), "reasoning_tokens"
        ),
    }


def _count(details: object, name: str) -> int | None:
    return _integer(details.get(name)) if isinstance(details, Mapping) else None


def error_type_of(outcome: Outcome) -> str | None:
    """Returns the HTTP status of a refusal, else the class of the error; None: not a failure."""
    if outcome.status in ("completed", "cancelled"):
        return None
    error = outcome.error
    return str(error.status) if isinstance(error, StatusError) else type(error).__name__


# The texts of other errors quote the server, and so may contain a part of the answer.
_WITHOUT_QUOTES = (IncompleteStreamError, RequestTimeoutError, StreamTimeoutError)


def description_of(error: BaseException | None, *, with_content: bool) -> str | None:
    """Returns the text of an error; None if it must not be shown, or a callback has raised it."""
    if isinstance(error, MistralError) and (with_content or isinstance(error, _WITHOUT_QUOTES)):
        return described(error)
    return status_line(error.status) if isinstance(error, StatusError) else None


# --- values ----------------------------------------------------------------------


def _strings(value: object) -> list[str] | None:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str)] or None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
