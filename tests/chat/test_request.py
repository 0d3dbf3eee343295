"""The arguments of a call are encoded as the body of its request, or refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

import rxmistral
from rxmistral.chat.request import ChatArguments, encode_body
from rxmistral.chat.tools import tool
from rxmistral.models import (
    AssistantMessage,
    AudioChunk,
    CustomConnector,
    DocumentLibraryTool,
    DocumentURLChunk,
    FileChunk,
    Function,
    FunctionCall,
    FunctionName,
    GuardrailConfig,
    ImageGenerationTool,
    ImageURL,
    ImageURLChunk,
    JSONSchema,
    Prediction,
    ReferenceChunk,
    ResourceLinkChunk,
    ResponseFormat,
    SystemMessage,
    TextChunk,
    ThinkChunk,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMessage,
    UnknownContentChunk,
    UserMessage,
)

HI = [{"role": "user", "content": "Hi"}]

NULLABLE = {
    "temperature", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "max_tokens", "min_tokens", "random_seed", "n", "top_k", "top_logprobs", "top_prompt_logprobs",
    "logprobs", "prompt_logprobs", "stop", "metadata", "tools", "reasoning_effort", "prompt_mode",
    "guardrails", "prompt_cache_key", "service_tier",
}  # fmt: skip
NOT_NULLABLE = {
    "response_format", "tool_choice", "prediction", "parallel_tool_calls", "safe_prompt", "stream",
}  # fmt: skip


def body(
    messages: Any = HI,
    extra_body: Mapping[str, Any] | None = None,
    model: Any = "m",
    **arguments: Any,
) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode_body(model, messages, arguments, extra_body))
    return decoded


def test_body_has_only_the_given_fields() -> None:
    assert body() == {"model": "m", "messages": HI, "stream": True}


def test_body_is_compact_utf_8() -> None:
    encoded = encode_body("m", [{"role": "user", "content": "é😀\u2028"}], {}, None)
    assert encoded == (
        '{"model":"m","messages":[{"role":"user","content":"é😀\u2028"}],"stream":true}'.encode()
    )


def test_every_field_of_the_endpoint_is_an_argument() -> None:
    assert set(ChatArguments.__annotations__) == NULLABLE | NOT_NULLABLE


def test_every_field_is_described_once() -> None:
    described = re.findall(r"^ {8}(\w+): \S", ChatArguments.__doc__ or "", re.M)
    assert described == list(ChatArguments.__annotations__)
    assert rxmistral.ChatArguments is ChatArguments
    assert "help(rxmistral.ChatArguments)" in (rxmistral.Chat.stream.__doc__ or "")


@pytest.mark.parametrize("name", sorted(NULLABLE))
def test_none_is_sent_as_null_when_the_field_is_nullable(name: str) -> None:
    assert body(**{name: None})[name] is None


@pytest.mark.parametrize("name", sorted(NOT_NULLABLE))
def test_none_means_not_given_when_not_nullable(name: str) -> None:
    assert body(**{name: None}) == body()


class Celsius(float):
    """A subclass of float, as numpy's float64 is."""


class Markup(str):
    __slots__ = ()


ENDLESS: dict[str, Any] = {}
ENDLESS["self"] = ENDLESS

TOOL = Tool(function=Function(name="f", parameters={"type": "object"}))


def double(number: int) -> int:
    """Doubles a number."""
    return 2 * number


DOUBLE = {
    "type": "function",
    "function": {
        "name": "double",
        "description": "Doubles a number.",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "integer"}},
            "required": ["number"],
        },
    },
}
SENT: list[tuple[str, Any, Any]] = [
    ("temperature", 0.7, 0.7),
    ("temperature", 1, 1),
    ("top_p", 0, 0),
    ("top_p", Celsius(0.5), 0.5),
    ("metadata", {"a": Celsius(0.5), "b": Markup("x")}, {"a": 0.5, "b": "x"}),
    ("stop", Markup("END"), "END"),
    ("max_tokens", 5, 5),
    ("logprobs", True, True),
    ("stop", "END", "END"),
    ("stop", ("a", "b"), ["a", "b"]),
    ("stop", iter("ab"), ["a", "b"]),
    ("metadata", MappingProxyType({"a": [1, None]}), {"a": [1, None]}),
    ("reasoning_effort", "a-new-word", "a-new-word"),
    ("service_tier", "standard_only", "standard_only"),
    ("response_format", {"type": "json_object"}, {"type": "json_object"}),
    (
        "response_format",
        ResponseFormat(
            type="json_schema",
            json_schema=JSONSchema(name="r", schema_definition={"type": "object"}, strict=True),
        ),
        {
            "type": "json_schema",
            "json_schema": {"name": "r", "schema": {"type": "object"}, "strict": True},
        },
    ),
    (
        "tools",
        (
            TOOL,
            ImageGenerationTool(),
            DocumentLibraryTool(library_ids=["l"]),
            {"type": "new", "x": 1},
        ),
        [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
            {"type": "image_generation"},
            {"type": "document_library", "library_ids": ["l"]},
            {"type": "new", "x": 1},
        ],
    ),
    ("tools", [double, tool(double)], [DOUBLE, DOUBLE]),
    ("tools", [CustomConnector(connector_id="c")], [{"type": "connector", "connector_id": "c"}]),
    ("tool_choice", "any", "any"),
    (
        "tool_choice",
        ToolChoice(function=FunctionName(name="f")),
        {"type": "function", "function": {"name": "f"}},
    ),
    ("prediction", Prediction(content="x"), {"type": "content", "content": "x"}),
    ("guardrails", iter([GuardrailConfig(block_on_error=True)]), [{"block_on_error": True}]),
    ("guardrails", [{"unknown": {"a": 1}}], [{"unknown": {"a": 1}}]),
    ("parallel_tool_calls", False, False),
    ("stream", True, True),
]


@pytest.mark.parametrize(("name", "given", "sent"), SENT)
def test_field_is_sent(name: str, given: Any, sent: Any) -> None:
    assert body(**{name: given})[name] == sent


MESSAGES: list[tuple[Any, Any]] = [
    (UserMessage(content="Hi"), {"role": "user", "content": "Hi"}),
    (UserMessage(content=None), {"role": "user", "content": None}),
    (SystemMessage(content="Be brief."), {"role": "system", "content": "Be brief."}),
    (
        AssistantMessage(content="A", prefix=True),
        {"role": "assistant", "content": "A", "prefix": True},
    ),
    (AssistantMessage(), {"role": "assistant"}),
    (
        AssistantMessage(
            content=None,
            tool_calls=[ToolCall(id="c", function=FunctionCall(name="f", arguments='{"a":1}'))],
        ),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
    ),
    (
        ToolMessage(content="4", tool_call_id="c", name="f"),
        {"role": "tool", "content": "4", "tool_call_id": "c", "name": "f"},
    ),
    (
        {"role": "developer", "content": "a new role", "x": 1},
        {"role": "developer", "content": "a new role", "x": 1},
    ),
    (
        UserMessage(
            content=[
                TextChunk(text="What?"),
                ImageURLChunk(image_url=ImageURL(url="u", detail="low")),
                DocumentURLChunk(document_url="d"),
                ReferenceChunk(reference_ids=[1, "a"]),
                FileChunk(file_id="f"),
                ThinkChunk(thinking=[TextChunk(text="hm")], closed=True),
                AudioChunk(input_audio="AAAA"),
                ResourceLinkChunk(uri="r"),
                UnknownContentChunk(type="new", y=2),
            ]
        ),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                {"type": "document_url", "document_url": "d"},
                {"type": "reference", "reference_ids": [1, "a"]},
                {"type": "file", "file_id": "f"},
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
                {"type": "input_audio", "input_audio": "AAAA"},
                {"type": "resource_link", "uri": "r"},
                {"type": "new", "y": 2},
            ],
        },
    ),
    (
        {"role": "user", "content": [TextChunk(text="struct in a dict")]},
        {"role": "user", "content": [{"type": "text", "text": "struct in a dict"}]},
    ),
]


@pytest.mark.parametrize(("given", "sent"), MESSAGES)
def test_message_is_a_struct_or_a_mapping(given: Any, sent: Any) -> None:
    assert body(messages=[given])["messages"] == [sent]


def test_messages_may_be_any_iterable() -> None:
    assert body(messages=(message for message in HI))["messages"] == HI
    assert body(messages=(MappingProxyType(HI[0]),))["messages"] == HI


def test_extra_body_adds_unknown_fields() -> None:
    assert body(extra_body={"new": {"a": [1]}})["new"] == {"a": [1]}


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"temperature": "0.7"}, TypeError, "temperature must be a number, got '0.7'"),
    ({"temperature": True}, TypeError, "temperature must be a number"),
    ({"temperature": math.nan}, ValueError, "temperature must be a finite number"),
    ({"temperature": 10**400}, ValueError, "temperature must be a finite number"),
    ({"top_p": math.inf}, ValueError, "finite"),
    ({"max_tokens": 1.5}, TypeError, "max_tokens must be an int"),
    ({"n": True}, TypeError, "n must be an int"),
    ({"safe_prompt": 1}, TypeError, "safe_prompt must be a bool"),
    ({"stop": 7}, TypeError, "stop must be"),
    ({"stop": ["a", 7]}, TypeError, r"stop\[1\] must be a str, got 7"),
    ({"stop": b"END"}, TypeError, "stop must be"),
    ({"metadata": [("a", 1)]}, TypeError, "metadata must be a mapping"),
    ({"metadata": {"a": math.nan}}, ValueError, "JSON"),
    ({"metadata": {"a": object()}}, TypeError, "JSON"),
    ({"metadata": {"a": b"bytes"}}, TypeError, "JSON"),
    ({"metadata": {"a": Decimal("1.10")}}, TypeError, "JSON"),
    ({"metadata": ENDLESS}, ValueError, "JSON"),
    ({"response_format": "json"}, TypeError, "response_format must be"),
    ({"tools": {"type": "function"}}, TypeError, "tools must be an iterable"),
    ({"tools": [TOOL, 7]}, TypeError, r"tools\[1\] must be a mapping or a struct or a function"),
    ({"tools": [TOOL, print]}, TypeError, r"tools\[1\] must be .* tool \(the parameter '\*args'"),
    ({"tools": [lambda: 1]}, ValueError, r"tools\[0\] must be .* tool \(the name of a tool must"),
    ({"tools": [int]}, TypeError, r"tools\[0\] must be a mapping or a struct or a function"),
    ({"tools": "all"}, TypeError, "tools must be an iterable"),
    ({"tool_choice": 1}, TypeError, "tool_choice must be"),
    ({"guardrails": "strict"}, TypeError, "guardrails must be"),
    ({"reasoning_effort": 3}, TypeError, "reasoning_effort must be a str"),
    ({"stream": False}, ValueError, "only streams"),
    ({"seed": 1}, TypeError, "random_seed"),
    ({"max_completion_tokens": 1}, TypeError, "max_tokens"),
    ({"stream_options": {}}, TypeError, "'stream_options'; Mistral sends the usage without it"),
    ({"timeout": 30}, TypeError, "timeout_ms, or timeouts=Timeouts"),
    ({"max_retries": 2}, TypeError, "retry=Retry"),
    ({"extra_headers": {}}, TypeError, "http_headers"),
    ({"base_url": "http://x"}, TypeError, "server_url"),
    ({"functions": []}, TypeError, "Mistral's word for it is tools"),
    ({"function_call": "auto"}, TypeError, "Mistral's word for it is tool_choice"),
    ({"response_model": int}, TypeError, "response_format"),
    ({"prompt": "Hi"}, TypeError, "messages="),
    ({"brand_new": 1}, TypeError, "extra_body"),
    ({"model": None}, TypeError, "model must be a str"),
    ({"model": ""}, ValueError, "model must be"),
    ({"messages": "Hi"}, TypeError, "messages must be an iterable"),
    ({"messages": HI[0]}, TypeError, "goes into a list"),
    ({"messages": UserMessage(content="Hi")}, TypeError, "goes into a list"),
    ({"messages": None}, TypeError, "messages must be"),
    ({"messages": []}, ValueError, "at least one message"),
    ({"messages": ["Hi"]}, TypeError, r"messages\[0\]"),
    ({"messages": [*HI, {"content": "Hi"}]}, ValueError, r"messages\[1\] has no role"),
    ({"messages": [{"role": "user", "content": "\ud83d"}]}, ValueError, "surrogate"),
    ({"extra_body": {"model": "other"}}, ValueError, "'model' is in extra_body"),
    (
        {"extra_body": {"temperature": 1}, "temperature": 0},
        ValueError,
        "'temperature' is in extra_body",
    ),
    ({"extra_body": [1]}, TypeError, "extra_body must be a mapping"),
]


@pytest.mark.parametrize(("given", "kind", "expected"), REFUSED)
def test_wrong_argument_is_refused(
    given: dict[str, Any], kind: type[Exception], expected: str
) -> None:
    with pytest.raises(kind, match=expected):
        body(**given)
