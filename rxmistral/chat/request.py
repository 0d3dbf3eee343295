"""The arguments of a call to the body of its request.

What is given is sent, or refused here, before there is a request. Nothing is dropped:
not an unknown word, which may be newer than this version, and not a value of the wrong
type, which somebody meant to say.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeAlias, TypedDict, get_args, get_type_hints
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from ..models import (
    CustomConnector,
    DocumentLibraryTool,
    GuardrailConfig,
    ImageGenerationTool,
    JSONSchema,
    Message,
    Prediction,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from .hints import STREAM_ARGUMENTS, unexpected

__all__ = ["ChatArguments", "encode_body"]

AnyMessage: TypeAlias = Message | Mapping[str, Any]
AnyTool: TypeAlias = (
    Tool | ImageGenerationTool | DocumentLibraryTool | CustomConnector | Mapping[str, Any]
)


class ChatArguments(TypedDict, total=False):
    """The optional arguments of `chat.stream` that go into the request.

    Nothing is sent for an argument that is not given. None is sent as `null` if the type
    allows `UnsetType`; for the other arguments None means not given. Mistral sets the
    defaults, and describes each field at https://docs.mistral.ai/api/endpoint/chat.

    Attributes:
        temperature: How random the choice of tokens is; 0 to 1.5, Mistral recommends 0 to 0.7.
        top_p: The share of probability that tokens are drawn from, 0 to 1; 0.1 means the
            most likely tokens that make up 10 %.
        max_tokens: The largest number of tokens in the answer, from 0.
        min_tokens: The smallest number of tokens in the answer, from 0.
        stop: A text, or several, that ends the answer when the model writes it.
        random_seed: A whole number from 0; the same seed makes calls repeatable.
        metadata: A mapping that Mistral stores with the request.
        response_format: "text", "json_object" or "json_schema" as a `ResponseFormat`; or a
            type that has a JSON schema, such as a msgspec Struct: the answer is then JSON
            for `parsed(type)` and `partials(type)`.
        tools: The tools that the model may call: `Tool`s, built-in tools or mappings.
        tool_choice: Whether the model calls a tool: "auto", "none", "any", "required", or
            the one tool that it must call.
        presence_penalty: How much a word that occurred is avoided; -2 to 2, 0 is neutral.
        frequency_penalty: How much a word is avoided for each time it occurred; -2 to 2,
            0 is neutral.
        repetition_penalty: A factor against repetition, more than 0; 1 is neutral.
        top_k: How many of the most likely tokens are drawn from, from 1.
        n: How many answers to write, from 1; operators pick one by `choice`.
        logprobs: Whether to send the log probability of each token of the answer.
        top_logprobs: How many alternatives to send for each token of the answer, from 0.
        prompt_logprobs: Whether to send the log probability of each token of the prompt.
        top_prompt_logprobs: How many alternatives to send for each token of the prompt,
            from 0.
        prediction: The text that the answer is likely to repeat; it makes the answer faster.
        parallel_tool_calls: Whether the model may call several tools at once.
        reasoning_effort: How long the model thinks: "none", "minimal", "low", "medium",
            "high", "xhigh" or "max"; each model supports some of them.
        prompt_mode: "reasoning" adds Mistral's system prompt for reasoning models.
        guardrails: The checks of the prompt and the answer: `GuardrailConfig`s or mappings.
        prompt_cache_key: A name that groups requests whose prompts begin alike, so that
            Mistral finds the beginning in its cache.
        service_tier: "auto" or "standard_only".
        safe_prompt: Whether Mistral adds its safety prompt before the conversation.
        stream: True; rxmistral always streams.
    """

    temperature: float | UnsetType | None
    top_p: float | UnsetType | None
    max_tokens: int | UnsetType | None
    min_tokens: int | UnsetType | None
    stop: str | Iterable[str] | UnsetType | None
    random_seed: int | UnsetType | None
    metadata: Mapping[str, Any] | UnsetType | None
    response_format: ResponseFormat | Mapping[str, Any] | type[Any] | None
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
# Each function takes a value and gives what is sent for it. A subclass of a number or a
# string is sent as what it stands for: numpy's float64 is a float.


class _RefusedError(Exception):
    """What a value, or the one at `place` in it, should have been."""

    def __init__(self, wanted: str, value: object, kind: type[Exception] = TypeError) -> None:
        super().__init__(wanted)
        self.wanted = wanted
        self.value = value
        self.kind = kind
        self.place = ""


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _RefusedError("a number", value)
    if not math.isfinite(value):
        raise _RefusedError("a finite number", value, ValueError)
    return int(value) if isinstance(value, int) else float(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _RefusedError("an int", value)
    return int(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _RefusedError("a bool", value)
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _RefusedError("a str", value)
    return str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _RefusedError("a mapping", value)
    return dict(value)


def _object(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, msgspec.Struct):
        raise _RefusedError("a mapping or a struct", value)
    return value


def _response_format(value: Any) -> Any:
    if not isinstance(value, type) and not get_args(value):
        return _object(value)
    try:
        schema = msgspec.json.schema(value)
    except TypeError as error:
        reason = str(error).splitlines()[-1]
        raise _RefusedError(f"a type that has a JSON schema ({reason})", value) from None
    schema = _strict(schema)
    named = schema.get("title", "answer")
    name = re.sub("[^A-Za-z0-9_-]+", "_", named).strip("_")[:64]  # what services take
    json_schema = JSONSchema(name=name or "answer", schema_definition=schema, strict=True)
    return ResponseFormat(type="json_schema", json_schema=json_schema)


def _string_or_object(value: Any) -> Any:
    return str(value) if isinstance(value, str) else _object(value)


def _objects(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping, msgspec.Struct)) or not isinstance(value, Iterable):
        raise _RefusedError("an iterable of mappings or structs", value)
    return _each(_object, value)


def _string_or_strings(value: Any) -> str | list[str]:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise _RefusedError("a str or an iterable of strs", value)
    return _each(_string, value)


def _each(check: Callable[[Any], Any], values: Iterable[Any]) -> list[Any]:
    checked = []
    for number, value in enumerate(values):
        try:
            checked.append(check(value))
        except _RefusedError as refused:
            refused.place = f"[{number}]"
            raise
    return checked


def _true(value: Any) -> bool:
    if value is not True:
        raise _RefusedError("True, as rxmistral only streams", value, ValueError)
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
    "response_format": _response_format,
    "tools": _objects,
    "tool_choice": _string_or_object,
    "prediction": _object,
    "guardrails": _objects,
    "stream": _true,
}

_NULLABLE = {
    name for name, hint in get_type_hints(ChatArguments).items() if UnsetType in hint.__args__
}


# --- the JSON schema of a type ---------------------------------------------------

_DEFINITIONS = "#/$defs/"


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """msgspec's schema as services want it: an object at the root, not a reference to
    one; and in no object other keys than those it names."""
    definitions = dict(schema.get("$defs", {}))
    root = schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_DEFINITIONS)
        root = definitions[name]
        if schema["$ref"] not in _references(definitions):  # a type that holds itself
            del definitions[name]
    strict: dict[str, Any] = _closed({**root, "$defs": definitions} if definitions else root)
    return strict


def _references(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_references, schema))
    if not isinstance(schema, dict):
        return set()
    reference = schema.get("$ref")
    own = {reference} if isinstance(reference, str) else set()
    return own | _references(list(schema.values()))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(each) for key, each in schema.items()}
    # A dict names no keys: any key is right in it.
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        closed["additionalProperties"] = False
    return closed


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
            "a single message goes into a list"
        )
    listed = [_message(message, number) for number, message in enumerate(messages)]
    if not listed:
        raise ValueError("messages must contain at least one message, got none")
    return listed


def _message(message: Any, number: int) -> Any:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise TypeError(
            f"messages[{number}] must be a mapping or a message, got {type(message).__name__}"
        )
    if not isinstance(message.get("role"), str):
        raise ValueError(
            f"messages[{number}] has no role: expected a str such as 'user', "
            f"got {message.get('role')!r:.100}"
        )
    return dict(message)


def _checked(name: str, value: Any) -> Any:
    try:
        return _CHECKS[name](value)
    except _RefusedError as no:
        raise no.kind(f"{name}{no.place} must be {no.wanted}, got {no.value!r:.100}") from None


def _unexpected(name: str) -> str:
    return unexpected(
        "stream", name, STREAM_ARGUMENTS.get(name, "a newer field goes in extra_body")
    )


def _with_extra(body: dict[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    if extra is None:
        return body
    if not isinstance(extra, Mapping):
        raise TypeError(f"extra_body must be a mapping, got {type(extra).__name__}")
    for name in extra:
        if name in body:
            raise ValueError(
                f"{name!r} is in extra_body, and an argument too; leave it out of extra_body"
            )
    return {**body, **extra}


# msgspec would write these as strings that nobody gave.
_NO_JSON = (bytes, bytearray, memoryview, Decimal, UUID, datetime, date, time, timedelta)


def _encode(body: dict[str, Any]) -> bytes:
    try:
        plain = msgspec.to_builtins(body, str_keys=True, builtin_types=_NO_JSON, enc_hook=_plain)
        # By json and not msgspec, which would write NaN as null.
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            "the request cannot be written as UTF-8: it contains half a surrogate pair; "
            "join it with the other half, or leave it out"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from error
    except TypeError as error:
        raise TypeError(f"the request cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """Kinds of JSON's own that msgspec does not take for them."""
    if isinstance(value, Mapping):
        return dict(value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"a {type(value).__name__} is not JSON serializable")
