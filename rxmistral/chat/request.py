"""The arguments of a call, encoded as the body of its request.

Every argument is sent, or refused at the call. A field that this version does not know can be
sent as part of `extra_body`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import UnionType
from typing import Any, TypeAlias, TypedDict, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ..checks import is_finite
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
from .tools import tool
from .type_schema import closed_schema, object_schema

__all__ = ["AnyMessage", "ChatArguments", "encode_body", "with_messages"]

AnyMessage: TypeAlias = Message | Mapping[str, Any]
AnyTool: TypeAlias = (
    Tool
    | ImageGenerationTool
    | DocumentLibraryTool
    | CustomConnector
    | Mapping[str, Any]
    | Callable[..., Any]
)


class ChatArguments(TypedDict, total=False):
    """The optional fields of a request, as arguments of `chat.stream`.

    A field that is not given, or UNSET, is not sent. None is sent as `null` if the type
    allows `UnsetType`; for the other fields None means not given. Mistral sets the defaults,
    and describes each field at https://docs.mistral.ai/api/endpoint/chat.

    Attributes:
        temperature: How random the choice of tokens is, from 0 to 1.5; Mistral recommends 0
            to 0.7.
        top_p: The share of probability from which tokens are drawn, from 0 to 1; 0.1 means
            the most likely tokens that make up 10 %.
        max_tokens: The largest number of tokens in the answer, from 0.
        min_tokens: The smallest number of tokens in the answer, from 0.
        stop: A string, or several, at which the model stops writing.
        random_seed: An integer from 0; calls with the same seed are repeatable.
        metadata: A mapping that Mistral stores with the request.
        response_format: "text", "json_object" or "json_schema" as a `ResponseFormat`; or
            a type, such as a msgspec Struct, a dataclass, a TypedDict, a pydantic model, a union of
            Structs, or a list or `Literal`. The answer is then JSON for `parsed(type)` and
            `partials(type)`, or `items(T)` for a `list[T]`.
        tools: The tools that the model may call: functions (see `tool`), `Tool`s, built-in
            tools or mappings.
        tool_choice: Whether the model calls a tool: "auto", "none", "any", "required", or
            the one tool that it must call.
        presence_penalty: A penalty for words that occurred at all, from -2 to 2; 0 is neutral.
        frequency_penalty: A penalty that grows with each occurrence of a word, from -2 to 2;
            0 is neutral.
        repetition_penalty: A factor against repetition, more than 0; 1 is neutral.
        top_k: The number of most likely tokens to choose from, from 1.
        n: The number of answers to write, from 1; operators select one by `choice`.
        logprobs: Whether to send the log probability of each token of the answer.
        top_logprobs: The number of alternatives to send for each token of the answer, from 0.
        prompt_logprobs: Whether to send the log probability of each token of the prompt.
        top_prompt_logprobs: The number of alternatives to send for each token of the prompt,
            from 0.
        prediction: A text that the answer is expected to repeat mostly, which speeds it up.
        parallel_tool_calls: Whether the model may call several tools at once.
        reasoning_effort: How long the model thinks: "none", "minimal", "low", "medium",
            "high", "xhigh" or "max"; each model supports some of them.
        prompt_mode: "reasoning" adds Mistral's system prompt for reasoning models.
        guardrails: The checks of the prompt and the answer: `GuardrailConfig`s or mappings.
        prompt_cache_key: A name shared by requests whose prompts begin alike, so that Mistral
            finds that beginning in its cache.
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
    response_format: ResponseFormat | Mapping[str, Any] | type[Any] | UnionType | None
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


# --- the checks of the fields ----------------------------------------------------
#
# Strategy: the annotations of `ChatArguments` are the checks. `_KINDS` describes each kind of type
# in them: its name in a message, the types accepted and excluded, and the conversion, which
# replaces a subclass of a number or a str by its base type: numpy's float64 is a float.


class _InvalidError(Exception):
    """A value, or the one at `place` in it, that is not what it must be."""

    place = ""

    def __init__(self, expected: str, value: object, error: type[Exception] = TypeError) -> None:
        super().__init__(expected)
        self.expected, self.value, self.error = expected, value, error


def _convert(value: Any, hint: Any) -> Any:
    """Returns what is sent for a value whose type must be that of an annotation."""
    by_kind = _members(hint)
    for kind, (_, accepted, excluded, convert) in _KINDS.items():
        if kind in by_kind and isinstance(value, accepted) and not isinstance(value, excluded):
            return convert(value, by_kind[kind])
    if type in by_kind and get_args(value):  # such as list[str], which is not a type itself
        return _schema_format(value, hint)
    raise _InvalidError(_expected(hint), value)


def _members(hint: Any) -> dict[type, Any]:
    """Returns the members of a union, or the only one, by the kind of type that each is."""
    members = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    origins = {get_origin(member) or member: member for member in members}
    return {Struct if issubclass(o, Struct) else o: member for o, member in origins.items()}


def _expected(hint: Any) -> str:
    """Returns the phrase for an annotation, such as "a mapping or a struct"."""
    by_kind = _members(hint)
    phrases = [phrase for kind, (phrase, *_) in _KINDS.items() if kind in by_kind]
    if Iterable in by_kind:
        (item_hint,) = get_args(by_kind[Iterable])
        phrases[-1] += " " + re.sub(r"\ban? (\w+)", r"\1s", _expected(item_hint))
    return " or ".join(phrases)


def _number(value: Any, _: Any) -> float:
    if not is_finite(value):
        raise _InvalidError("a finite number", value, ValueError)
    return int(value) if isinstance(value, int) else float(value)


def _schema_format(type: Any, _: Any) -> ResponseFormat:
    try:
        schema = closed_schema(object_schema(type))
    except TypeError as error:
        reason = str(error).splitlines()[-1]
        raise _InvalidError(f"a type that has a JSON schema ({reason})", type) from None
    title = schema.get("title", "answer")
    name = re.sub("[^A-Za-z0-9_-]+", "_", title).strip("_")[:64]  # the characters allowed
    json_schema = JSONSchema(name=name or "answer", schema_definition=schema, strict=True)
    return ResponseFormat(type="json_schema", json_schema=json_schema)


def _function_tool(function: Callable[..., Any], _: Any) -> Tool:
    try:
        return tool(function)
    except (TypeError, ValueError) as error:
        raise _InvalidError(
            f"a function that can be a tool ({error})", function, type(error)
        ) from None


def _items(values: Iterable[Any], hint: Any) -> list[Any]:
    (item_hint,) = get_args(hint)
    converted = []
    for index, value in enumerate(values):
        try:
            converted.append(_convert(value, item_hint))
        except _InvalidError as invalid:
            invalid.place = f"[{index}]"
            raise
    return converted


_Types: TypeAlias = tuple[type, ...]
_KINDS: dict[type, tuple[str, _Types, _Types, Callable[[Any, Any], Any]]] = {
    bool: ("a bool", (bool,), (), lambda value, _: value),
    int: ("an int", (int,), (bool,), lambda value, _: int(value)),
    float: ("a number", (int, float), (bool,), _number),
    str: ("a str", (str,), (), lambda value, _: str(value)),
    Mapping: ("a mapping", (Mapping,), (), lambda value, _: dict(value)),
    Struct: ("a struct", (Struct,), (), lambda value, _: value),
    type: ("a type that has a JSON schema", (type,), (), _schema_format),
    Callable: ("a function", (Callable,), (type,), _function_tool),  # type: ignore[dict-item]
    Iterable: ("an iterable of", (Iterable,), (str, bytes, Mapping, Struct), _items),
}
_HINTS = get_type_hints(ChatArguments)


# --- the body --------------------------------------------------------------------


def encode_body(
    model: str,
    messages: Iterable[AnyMessage],
    arguments: Mapping[str, Any],
    extra_body: Mapping[str, Any] | None,
) -> bytes:
    """Returns the body of a request for a stream, as compact JSON."""
    body: dict[str, Any] = {"model": _model(model), "messages": _messages(messages), "stream": True}
    for name, value in arguments.items():
        if name not in _HINTS:
            hint = STREAM_ARGUMENTS.get(name, "a newer field goes in extra_body")
            raise TypeError(unexpected("stream", name, hint))
        is_nullable = UnsetType in get_args(_HINTS[name])
        if value is UNSET or (value is None and not is_nullable):
            continue
        body[name] = None if value is None else _field(name, value)
    return _encode(_with_extra(body, extra_body))


def with_messages(body: bytes, messages: Iterable[AnyMessage]) -> bytes:
    """Returns the body of a request with another conversation in it."""
    fields, new = map(_decode_fields, (body, _encode({"messages": _messages(messages)})))
    return msgspec.json.encode(fields | new)


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _field(name: str, value: Any) -> Any:
    if name == "stream" and value is not True:
        raise ValueError(f"stream must be True, as rxmistral only streams, got {value!r:.100}")
    try:
        return _convert(value, _HINTS[name])
    except _InvalidError as invalid:
        raise invalid.error(
            f"{name}{invalid.place} must be {invalid.expected}, got {invalid.value!r:.100}"
        ) from None


def _model(model: Any) -> str:
    if not isinstance(model, str):
        raise TypeError(f"model must be a str, got {type(model).__name__}")
    if not model:
        raise ValueError("model must be the name of a model, got an empty str")
    return model


def _messages(messages: Any) -> list[Any]:
    if isinstance(messages, (str, bytes, Mapping, Struct)) or not isinstance(messages, Iterable):
        raise TypeError(
            f"messages must be an iterable of messages, got {type(messages).__name__}; "
            "a single message goes into a list"
        )
    listed = [_message(message, index) for index, message in enumerate(messages)]
    if not listed:
        raise ValueError("messages must contain at least one message, got none")
    return listed


def _message(message: Any, index: int) -> Any:
    if isinstance(message, Message):
        return message
    if not isinstance(message, Mapping):
        raise TypeError(
            f"messages[{index}] must be a mapping or a message, got {type(message).__name__}"
        )
    if not isinstance(message.get("role"), str):
        raise ValueError(
            f"messages[{index}] has no role: expected a str such as 'user', "
            f"got {message.get('role')!r:.100}"
        )
    return dict(message)


def _with_extra(body: dict[str, Any], extra: Mapping[str, Any] | None) -> dict[str, Any]:
    if extra is None:
        return body
    if not isinstance(extra, Mapping):
        raise TypeError(f"extra_body must be a mapping, got {type(extra).__name__}")
    for name in extra:
        if name in body:
            raise ValueError(
                f"{name!r} is in extra_body and an argument as well; leave it out of extra_body"
            )
    return {**body, **extra}


# msgspec would silently write these as strings.
_NOT_JSON = (bytes, bytearray, memoryview, Decimal, UUID, datetime, date, time, timedelta)


def _encode(body: dict[str, Any]) -> bytes:
    try:
        plain = msgspec.to_builtins(body, str_keys=True, builtin_types=_NOT_JSON, enc_hook=_plain)
        # json, because msgspec would write NaN as null.
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            "the request cannot be written as UTF-8: it contains half of a surrogate "
            "pair; add the other half, or leave it out"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the request cannot be written as JSON: {error}") from error
    except TypeError as error:
        raise TypeError(f"the request cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    """Returns a value that msgspec refuses as the JSON type that it is a subclass of."""
    if isinstance(value, Mapping):
        return dict(value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise TypeError(f"a {type(value).__name__} is not JSON serializable")
