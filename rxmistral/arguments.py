"""The arguments of a call to the body of its request.

What is given is sent, or refused here, before there is a request. Nothing is dropped:
not an unknown word, which may be newer than this version, and not a value of the wrong
type, which somebody meant to say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypedDict, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from .models import (
    CustomConnector,
    DocumentLibraryTool,
    GuardrailConfig,
    ImageGenerationTool,
    Message,
    Prediction,
    ResponseFormat,
    Tool,
    ToolChoice,
)

__all__ = ["ChatArguments", "encode_body"]

AnyMessage: TypeAlias = Message | Mapping[str, Any]
AnyTool: TypeAlias = (
    Tool | ImageGenerationTool | DocumentLibraryTool | CustomConnector | Mapping[str, Any]
)


class ChatArguments(TypedDict, total=False):
    """What may be asked of a model, beside `model` and `messages`.

    What is not given is not sent. None goes as `null` where Mistral gives `null` a
    meaning, which is where it stands in the type together with `UnsetType`; elsewhere
    it is the same as not given. The words are explained at
    https://docs.mistral.ai/api/endpoint/chat.
    """

    temperature: float | UnsetType | None
    top_p: float | UnsetType | None
    max_tokens: int | UnsetType | None
    min_tokens: int | UnsetType | None
    stop: str | Iterable[str] | UnsetType | None
    random_seed: int | UnsetType | None
    metadata: Mapping[str, Any] | UnsetType | None
    response_format: ResponseFormat | Mapping[str, Any] | None
    tools: Iterable[AnyTool] | UnsetType | None
    tool_choice: str | ToolChoice | Mapping[str, Any] | None
    presence_penalty: float | UnsetType | None
    frequency_penalty: float | UnsetType | None
    repetition_penalty: float | UnsetType | None
    top_k: int | UnsetType | None
    n: int | UnsetType | None
    logprobs: bool | UnsetType | None
    top_logprobs: int | UnsetType | None
    prompt_logprobs: bool | UnsetType | None
    top_prompt_logprobs: int | UnsetType | None
    prediction: Prediction | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    reasoning_effort: str | UnsetType | None
    prompt_mode: str | UnsetType | None
    guardrails: Iterable[GuardrailConfig | Mapping[str, Any]] | UnsetType | None
    prompt_cache_key: str | UnsetType | None
    service_tier: str | UnsetType | None
    safe_prompt: bool | None
    stream: bool | None


# --- what a value must be --------------------------------------------------------
#
# Each function takes the value and gives what is sent for it, or raises a TypeError or
# a ValueError that begins with what it should have been.


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError("a number")
    if not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("an int")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("a bool")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a str")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("a mapping")
    return dict(value)


def _object(value: Any) -> Any:
    return value if isinstance(value, msgspec.Struct) else _mapping(value)


def _objects(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping, msgspec.Struct)) or not isinstance(value, Iterable):
        raise TypeError("an iterable of mappings or structs")
    return [_object(each) for each in value]


def _string_or_object(value: Any) -> Any:
    return value if isinstance(value, str) else _object(value)


def _string_or_strings(value: Any) -> str | list[str]:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise TypeError("a str or an iterable of them")
    return [_string(each) for each in value]


def _true(value: Any) -> bool:
    if value is not True:
        raise ValueError("True: rxmistral only streams")
    return value


_CHECKS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("temperature", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty"),
        _number,
    ),
    **dict.fromkeys(
        (
            "max_tokens",
            "min_tokens",
            "random_seed",
            "n",
            "top_k",
            "top_logprobs",
            "top_prompt_logprobs",
        ),
        _integer,
    ),
    **dict.fromkeys(
        ("logprobs", "prompt_logprobs", "parallel_tool_calls", "safe_prompt"), _boolean
    ),
    **dict.fromkeys(
        ("reasoning_effort", "prompt_mode", "prompt_cache_key", "service_tier"), _string
    ),
    "stop": _string_or_strings,
    "metadata": _mapping,
    "response_format": _object,
    "tools": _objects,
    "tool_choice": _string_or_object,
    "prediction": _object,
    "guardrails": _objects,
    "stream": _true,
}

_NULLABLE = {
    name for name, hint in get_type_hints(ChatArguments).items() if UnsetType in hint.__args__
}

_ELSEWHERE = {
    "seed": "random_seed",
    "max_completion_tokens": "max_tokens",
    "functions": "tools",
    "function_call": "tool_choice",
    "stream_options": "nothing: the usage always comes",
}


# --- the body --------------------------------------------------------------------


def encode_body(
    model: str,
    messages: Iterable[AnyMessage],
    arguments: Mapping[str, Any],
    extra_body: Mapping[str, Any] | None,
) -> bytes:
    """The compact JSON of a request for a stream.

    Raises:
        TypeError, ValueError: An argument cannot be sent as it is.
    """
    body: dict[str, Any] = {"model": _model(model), "messages": _messages(messages), "stream": True}
    for name, value in arguments.items():
        if name not in _CHECKS:
            raise TypeError(_unexpected(name))
        if value is UNSET or (value is None and name not in _NULLABLE):
            continue
        body[name] = None if value is None else _checked(name, value)
    return _encode(_with_extra(body, extra_body))


def _model(model: Any) -> str:
    if not isinstance(model, str):
        raise TypeError(f"model must be a str, got {type(model).__name__}")
    if not model:
        raise ValueError("model must be the name of a model, got an empty str")
    return model


def _messages(messages: Any) -> list[Any]:
    if isinstance(messages, (str, bytes, Mapping, msgspec.Struct)) or not isinstance(
        messages, Iterable
    ):
        raise TypeError(
            f"messages must be an iterable of messages, got {type(messages).__name__}; "
            "one message alone goes into a list"
        )
    listed = [_message(message, number) for number, message in enumerate(messages)]
    if not listed:
        raise ValueError("messages must hold at least one message")
    return listed


def _message(message: Any, number: int) -> Any:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise TypeError(
            f"messages[{number}] must be a mapping or a message, got {type(message).__name__}"
        )
    if not isinstance(message.get("role"), str):
        raise ValueError(f"messages[{number}] has no role")
    return dict(message)


def _checked(name: str, value: Any) -> Any:
    try:
        return _CHECKS[name](value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be {error}, got {value!r:.100}") from None


def _unexpected(name: str) -> str:
    meant = _ELSEWHERE.get(name)
    remedy = (
        f"Mistral's word for it is {meant}"
        if meant
        else "what is newer than this goes in extra_body"
    )
    return f"stream() got an unexpected keyword argument {name!r}; {remedy}"


def _with_extra(body: dict[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    if extra is None:
        return body
    if not isinstance(extra, Mapping):
        raise TypeError(f"extra_body must be a mapping, got {type(extra).__name__}")
    for name in extra:
        if name in body:
            raise ValueError(f"{name!r} is in extra_body, but an argument says it already")
    return {**body, **extra}


def _encode(body: dict[str, Any]) -> bytes:
    # msgspec would write NaN as null, which is a value that nobody gave.
    try:
        plain = msgspec.to_builtins(body, str_keys=True, enc_hook=_plain_mapping)
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the request holds half a surrogate pair, which is no text: {error}"
        ) from None
    except ValueError as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from error
    except TypeError as error:
        raise TypeError(f"the request cannot be written as JSON: {error}") from error


def _plain_mapping(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")
