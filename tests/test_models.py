"""The models: decoding, unknown keys and kinds, and encoding."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest

import rxmistral
from rxmistral import InvalidAnswerError, models
from rxmistral.models import (
    APIKeyAuth,
    AssistantMessage,
    AudioChunk,
    ChatCompletionResponse,
    CompletionChunk,
    CompletionResponseStreamChoice,
    ContentChunk,
    CustomConnector,
    DeltaMessage,
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
    OAuth2TokenAuth,
    Prediction,
    ReferenceChunk,
    ResourceChunk,
    ResourceLinkChunk,
    ResponseFormat,
    SystemMessage,
    TextChunk,
    ThinkChunk,
    Tool,
    ToolCall,
    ToolChoice,
    ToolConfiguration,
    ToolMessage,
    ToolReferenceChunk,
    UnknownContentChunk,
    UsageInfo,
    UserMessage,
    decode_hook,
)


def decode(value: object) -> CompletionChunk:
    return msgspec.json.decode(json.dumps(value), type=CompletionChunk, dec_hook=decode_hook)


def delta(value: object) -> DeltaMessage:
    return decode({"choices": [{"index": 0, "delta": value}]}).choices[0].delta


def part(value: object) -> ContentChunk:
    content = delta({"content": [value]}).content
    assert isinstance(content, list)
    return content[0]


def encoded(value: object) -> Any:
    return json.loads(msgspec.json.encode(value))


# --- decoding --------------------------------------------------------------------


def test_chunk_has_the_values_of_the_wire() -> None:
    chunk = decode(
        {
            "id": "a1",
            "object": "chat.completion.chunk",
            "created": 1787865810,
            "model": "mistral-small-latest",
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": "Bonjour"},
                    "finish_reason": None,
                }
            ],
            "p": "abcdefghijklmno",
        }
    )
    assert chunk == CompletionChunk(
        id="a1",
        object="chat.completion.chunk",
        created=1787865810,
        model="mistral-small-latest",
        choices=[
            CompletionResponseStreamChoice(
                index=0, delta=DeltaMessage(role="assistant", content="Bonjour")
            )
        ],
    )


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"choices": []},
        {"choices": [], "usage": {"total_tokens": 1}},
        {"choices": [{}]},
        {"choices": [{"delta": {}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": ""}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "a_new_word"}]},
        {"choices": [{"index": 7, "delta": {}, "finish_reason": "stop"}]},
        {"usage": None},
        {"usage": {}},
        {"usage": {"prompt_tokens": None, "total_tokens": 1}},
        {"usage": {"prompt_audio_seconds": None, "service_tier": None}},
        {"created": 1787865810123},
        {"created": 1787865810.5},
        {"created": None, "id": None, "model": None, "object": None},
        {"p": "", "timings": {"a": [1.5]}, "system_fingerprint": None, "service_tier": "x"},
        {"choices": [{"delta": {"reasoning_content": "hm", "refusal": None, "audio": None}}]},
        {"choices": [{"delta": {"role": None, "content": None, "tool_calls": None}}]},
        {"choices": [{"delta": {"tool_calls": []}}]},
        {"choices": [{"delta": {"tool_calls": [{}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {}}]}}]},
        {"choices": [{"delta": {"content": []}}]},
        {"choices": [{"delta": {}, "logprobs": None}]},
        {"choices": [{"delta": {}, "logprobs": {}}]},
        {"choices": [{"delta": {}, "logprobs": {"content": None}}]},
        {"choices": [{"delta": {}, "logprobs": {"content": [{"token": "a", "logprob": -1}]}}]},
        {"choices": [{"delta": {}, "logprobs": {"tokens": ["a"], "token_logprobs": [-1.5]}}]},
    ],
)
def test_chunks_of_many_servers_decode(value: object) -> None:
    decode(value)


def test_missing_keys_are_none() -> None:
    chunk = decode({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": "{}"}}]}}]})
    assert (chunk.id, chunk.object, chunk.created, chunk.model, chunk.usage) == (None,) * 5
    [choice] = chunk.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (None,) * 3
    assert (choice.delta.role, choice.delta.content) == (None, None)
    assert choice.delta.tool_calls is not None
    [call] = choice.delta.tool_calls
    assert (call.id, call.index, call.type, call.function.name) == (None,) * 4
    assert decode({}).choices == []


@pytest.mark.parametrize("content", ["", "a", None])
def test_content_is_a_string_or_none(content: str | None) -> None:
    assert delta({"content": content}).content == content


@pytest.mark.parametrize("arguments", ["", '{"city": "Par', {"city": "Paris", "n": [1, None]}])
def test_arguments_are_a_string_or_an_object(arguments: Any) -> None:
    call = {"id": "null", "function": {"name": "", "arguments": arguments}, "index": 0}
    assert delta({"tool_calls": [call]}).tool_calls == [
        ToolCall(id="null", index=0, function=FunctionCall(name="", arguments=arguments))
    ]


def test_logprobs_without_bytes_and_token_id_decode() -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": None}
    top = {"token": "b", "logprob": -2, "bytes": [98], "token_id": 7}
    choice = {"index": 0, "delta": {}, "logprobs": {"content": [{**token, "top_logprobs": [top]}]}}
    logprobs = decode({"choices": [choice]}).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    [first] = logprobs.content
    assert (first.token, first.logprob, first.bytes_, first.token_id) == ("a", -0.5, None, None)
    assert first.top_logprobs is not None
    assert first.top_logprobs[0].bytes_ == [98]
    assert first.top_logprobs[0].token_id == 7


# --- content chunks --------------------------------------------------------------

KNOWN: list[tuple[dict[str, Any], ContentChunk]] = [
    ({"type": "text", "text": "a"}, TextChunk(text="a")),
    ({"type": "image_url", "image_url": "u"}, ImageURLChunk(image_url="u")),
    (
        {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        ImageURLChunk(image_url=ImageURL(url="u", detail="low")),
    ),
    (
        {"type": "image_url", "image_url": {"url": "u", "detail": None}},
        ImageURLChunk(image_url=ImageURL(url="u", detail=None)),
    ),
    (
        {"type": "document_url", "document_url": "u", "document_name": "n"},
        DocumentURLChunk(document_url="u", document_name="n"),
    ),
    ({"type": "reference", "reference_ids": []}, ReferenceChunk(reference_ids=[])),
    ({"type": "reference", "reference_ids": [1, "b"]}, ReferenceChunk(reference_ids=[1, "b"])),
    ({"type": "file", "file_id": "f"}, FileChunk(file_id="f")),
    (
        {"type": "thinking", "thinking": [{"type": "text", "text": "Okay"}]},
        ThinkChunk(thinking=[TextChunk(text="Okay")]),
    ),
    (
        {
            "type": "thinking",
            "thinking": [
                {"type": "reference", "reference_ids": [1]},
                {"type": "tool_reference", "tool": "web", "title": "t", "url": "u"},
                {"type": "novel", "x": 1},
            ],
            "signature": "s",
            "closed": False,
        },
        ThinkChunk(
            thinking=[
                ReferenceChunk(reference_ids=[1]),
                ToolReferenceChunk(tool="web", title="t", url="u"),
                UnknownContentChunk({"type": "novel", "x": 1}),
            ],
            signature="s",
            closed=False,
        ),
    ),
    ({"type": "input_audio", "input_audio": "b64"}, AudioChunk(input_audio="b64")),
    (
        {"type": "resource", "uri": "u", "content": {"type": "text", "text": "a"}},
        ResourceChunk(uri="u", content=TextChunk(text="a")),
    ),
    (
        {"type": "resource_link", "uri": "u", "metadata": {"a": 1, "b": "c", "d": True}},
        ResourceLinkChunk(uri="u", metadata={"a": 1, "b": "c", "d": True}),
    ),
]
known = pytest.mark.parametrize(("value", "chunk"), KNOWN)


@known
def test_each_kind_of_content_has_its_own_class(value: dict[str, Any], chunk: ContentChunk) -> None:
    decoded = part(value)
    assert decoded == chunk
    assert type(decoded) is type(chunk)


@known
def test_content_is_encoded_as_it_was_received(value: dict[str, Any], chunk: ContentChunk) -> None:
    assert encoded(chunk) == value
    assert encoded(part(value)) == value
    assert encoded(AssistantMessage(content=[chunk])) == {"role": "assistant", "content": [value]}


@known
def test_unknown_key_of_a_known_kind_is_skipped(value: dict[str, Any], chunk: ContentChunk) -> None:
    assert part({**value, "novel": {"a": 1}}) == chunk


@pytest.mark.parametrize(
    "value",
    [
        {"type": "novel", "x": {"y": [1, None]}},
        {"type": ""},
        {"type": None, "text": "a"},
        {"type": 7},
        {"type": ["text"], "text": "a"},
        {"type": {"a": 1}},
        {"text": "no type"},
        {},
        # known kinds in an unknown shape
        {"type": "text"},
        {"type": "text", "text": None},
        {"type": "text", "text": {"value": "a"}},
        {"type": "thinking", "thinking": "not a list"},
        {"type": "thinking"},
        {"type": "reference", "reference_ids": None},
        {"type": "reference", "reference_ids": [1.5]},
        {"type": "image_url", "image_url": {"detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "b64", "format": "wav"}},
        {"type": "resource", "uri": "u"},
    ],
)
def test_unknown_content_is_kept_unchanged(value: dict[str, Any]) -> None:
    chunk = part(value)
    assert isinstance(chunk, UnknownContentChunk)
    assert isinstance(chunk, ContentChunk)
    assert chunk == value
    assert chunk.type == value.get("type")
    assert encoded(chunk) == value
    assert encoded(UserMessage(content=[chunk])) == {"role": "user", "content": [value]}


def test_unknown_content_does_not_change_its_neighbours() -> None:
    content = delta({"content": [{"type": "novel"}, {"type": "text", "text": "a"}]}).content
    assert content == [UnknownContentChunk({"type": "novel"}), TextChunk(text="a")]


def test_bare_string_in_the_content_is_text() -> None:
    assert part("a") == TextChunk(text="a")


@pytest.mark.parametrize("value", [None, 7, [1]])
def test_content_that_is_not_an_object_is_kept(value: object) -> None:
    assert part(value) == UnknownContentChunk(value=value)


def test_decode_hook_decodes_only_content() -> None:
    with pytest.raises(NotImplementedError, match="complex"):
        decode_hook(complex, 1)


# --- usage -----------------------------------------------------------------------


def test_usage_has_every_other_key_as_an_attribute() -> None:
    usage = UsageInfo(total_tokens=3, additional_properties={"prompt_tokens_details": {"a": 1}})
    assert usage.total_tokens == 3
    assert usage.prompt_tokens_details == {"a": 1}  # type: ignore[attr-defined]
    assert not hasattr(usage, "completion_tokens_details")
    with pytest.raises(AttributeError, match="no 'misspelt'"):
        usage.misspelt  # type: ignore[attr-defined]  # noqa: B018


def test_usage_can_be_copied_and_pickled() -> None:
    usage = UsageInfo(total_tokens=3, additional_properties={"a": {"b": 1}})
    again: Any
    for again in (copy.copy(usage), copy.deepcopy(usage), pickle.loads(pickle.dumps(usage))):
        assert again == usage
        assert again.a == {"b": 1}


# --- encoding --------------------------------------------------------------------

ENCODED: list[tuple[msgspec.Struct, dict[str, Any]]] = [
    (SystemMessage(content="a"), {"role": "system", "content": "a"}),
    (UserMessage(content="a"), {"role": "user", "content": "a"}),
    (UserMessage(content=None), {"role": "user", "content": None}),
    (
        UserMessage(content=[TextChunk(text="a")]),
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
    ),
    (AssistantMessage(), {"role": "assistant"}),
    (AssistantMessage(content=None), {"role": "assistant", "content": None}),
    (AssistantMessage(content="a", prefix=True), {"role": "assistant", "content": "a", "prefix": True}),
    (
        AssistantMessage(tool_calls=[ToolCall(id="i", function=FunctionCall(name="f", arguments="{}"))]),
        {"role": "assistant", "tool_calls": [{"id": "i", "function": {"name": "f", "arguments": "{}"}}]},
    ),
    (ToolMessage(content="a"), {"role": "tool", "content": "a"}),
    (
        ToolMessage(content="a", tool_call_id="i", name="f"),
        {"role": "tool", "content": "a", "tool_call_id": "i", "name": "f"},
    ),
    (ToolMessage(content=None, name=None), {"role": "tool", "content": None, "name": None}),
    (
        Tool(function=Function(name="f", parameters={})),
        {"type": "function", "function": {"name": "f", "parameters": {}}},
    ),
    (
        Tool(function=Function(name="f", parameters={"type": "object"}, description="d", strict=False)),
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object"}, "description": "d", "strict": False},
        },
    ),
    (ToolChoice(function=FunctionName(name="f")), {"type": "function", "function": {"name": "f"}}),
    (ImageGenerationTool(), {"type": "image_generation"}),
    (DocumentLibraryTool(library_ids=["l"]), {"type": "document_library", "library_ids": ["l"]}),
    (
        DocumentLibraryTool(library_ids=[], tool_configuration=ToolConfiguration(exclude=["a"], include=None)),
        {"type": "document_library", "library_ids": [], "tool_configuration": {"exclude": ["a"], "include": None}},
    ),
    (CustomConnector(connector_id="c"), {"type": "connector", "connector_id": "c"}),
    (
        CustomConnector(connector_id="c", authorization=APIKeyAuth(value="v")),
        {"type": "connector", "connector_id": "c", "authorization": {"type": "api-key", "value": "v"}},
    ),
    (
        CustomConnector(connector_id="c", authorization=OAuth2TokenAuth(value="v")),
        {"type": "connector", "connector_id": "c", "authorization": {"type": "oauth2-token", "value": "v"}},
    ),
    (ResponseFormat(type="json_object"), {"type": "json_object"}),
    (
        ResponseFormat(type="json_schema", json_schema=JSONSchema(name="n", schema_definition={})),
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    ),
    (
        JSONSchema(name="n", schema_definition={"a": 1}, strict=True, description="d"),
        {"name": "n", "schema": {"a": 1}, "strict": True, "description": "d"},
    ),
    (Prediction(), {"type": "content", "content": ""}),
    (Prediction(content="a"), {"type": "content", "content": "a"}),
    (GuardrailConfig(), {}),
    (
        GuardrailConfig(block_on_error=False, moderation_llm_v1={"a": 1}, moderation_llm_v2=None),
        {"block_on_error": False, "moderation_llm_v1": {"a": 1}, "moderation_llm_v2": None},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("struct", "value"), ENCODED)
def test_only_fields_that_are_set_are_encoded(
    struct: msgspec.Struct, value: dict[str, Any]
) -> None:
    assert encoded(struct) == value


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: SystemMessage(content="a", role="system"), {"role": "system"}),
        (lambda: UserMessage(content="a", role="user"), {"role": "user"}),
        (lambda: AssistantMessage(content="a", role="assistant"), {"role": "assistant"}),
        (lambda: ToolMessage(content="a", role="tool"), {"role": "tool"}),
        (lambda: TextChunk(text="a", type="text"), {"type": "text"}),
        (lambda: ImageURLChunk(image_url="u", type="image_url"), {"type": "image_url"}),
        (lambda: ThinkChunk(thinking=[], type="thinking"), {"type": "thinking"}),
        (lambda: Tool(function=Function(name="f", parameters={}), type="function"), {"type": "function"}),
        (lambda: ToolChoice(function=FunctionName(name="f"), type="function"), {"type": "function"}),
        (lambda: Prediction(content="a", type="content"), {"type": "content"}),
    ],
)  # fmt: skip
def test_type_and_role_can_be_passed(make: Any, field: dict[str, str]) -> None:
    assert field.items() <= encoded(make()).items()


def test_received_response_is_encoded_unchanged() -> None:
    value = {
        "id": "a1",
        "model": "m",
        "created": 7,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": [{"type": "novel", "x": 1}, {"type": "text", "text": "a"}],
                    "tool_calls": None,
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {"total_tokens": 3},
    }
    decoded = msgspec.json.decode(
        json.dumps(value), type=ChatCompletionResponse, dec_hook=decode_hook
    )
    assert encoded(decoded) == value


def test_received_chunk_is_encoded_unchanged() -> None:
    value = {
        "id": "a1",
        "object": "chat.completion.chunk",
        "created": 1787865810,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 2, "total_tokens": 21},
    }
    assert encoded(decode(value)) == value


# --- the official names ----------------------------------------------------------

NAMES = {
    "APIKeyAuth": "type value",
    "AssistantMessage": "role content tool_calls prefix",
    "AudioChunk": "type input_audio",
    "ChatCompletionChoice": "index message messages finish_reason logprobs prompt_logprobs",
    "ChatCompletionResponse": "id object model usage created choices",
    "ChatCompletionResponseChoiceLogprobs": "content",
    "ChatCompletionResponseTokenLogprobs": "token logprob bytes_ token_id",
    "ChatCompletionResponseTokenLogprobsTopK": "token logprob bytes_ token_id top_logprobs",
    "CompletionChunk": "id object created model usage choices",
    "CompletionEvent": "data",
    "CompletionResponseStreamChoice": "index delta finish_reason logprobs prompt_logprobs",
    "CustomConnector": "type connector_id authorization tool_configuration",
    "DeltaMessage": "role content tool_calls tool_call_id index metadata",
    "DocumentLibraryTool": "type library_ids tool_configuration",
    "DocumentURLChunk": "type document_url document_name",
    "FileChunk": "type file_id",
    "Function": "name parameters description strict",
    "FunctionCall": "name arguments",
    "FunctionName": "name",
    "GuardrailConfig": "block_on_error moderation_llm_v1 moderation_llm_v2",
    "ImageGenerationTool": "type tool_configuration",
    "ImageURL": "url detail",
    "ImageURLChunk": "type image_url",
    "JSONSchema": "name schema_definition description strict",
    "OAuth2TokenAuth": "type value",
    "Prediction": "type content",
    "ReferenceChunk": "type reference_ids",
    "ResourceChunk": "type uri content",
    "ResourceLinkChunk": "type uri metadata",
    "ResponseFormat": "type json_schema",
    "Message": "",
    "SystemMessage": "role content",
    "TextChunk": "type text",
    "ThinkChunk": "type thinking signature closed",
    "Tool": "type function",
    "ToolCall": "id type function index",
    "ToolChoice": "type function",
    "ToolConfiguration": "exclude include requires_confirmation",
    "ToolMessage": "role content tool_call_id name",
    "ToolReferenceChunk": "type tool title url favicon description",
    "UsageInfo": "prompt_tokens completion_tokens total_tokens prompt_audio_seconds service_tier "
    "additional_properties",  # attributes in the official SDK; ours are attributes, too
    "UserMessage": "role content",
}


@pytest.mark.parametrize(("name", "fields"), NAMES.items())
def test_fields_are_named_as_in_the_official_sdk(name: str, fields: str) -> None:
    assert set(getattr(models, name).__struct_fields__) == set(fields.split())


def test_every_struct_is_public_and_in_the_table() -> None:
    structs = {
        name
        for name, value in vars(models).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and name[0] != "_"
    }
    ours = {"UnfinishedToolCall"}  # the official SDK has none
    assert structs - {"Struct"} - ours == set(NAMES)
    for name in models.__all__:
        assert getattr(rxmistral, name) is getattr(models, name)


class Sum(msgspec.Struct):
    a: int
    b: int = 0


@pytest.mark.parametrize("arguments", ['{"a": 1, "b": 2}', {"a": 1, "b": 2}])
def test_arguments_as_returns_a_value_of_the_type(arguments: Any) -> None:
    assert FunctionCall(name="add", arguments=arguments).arguments_as(Sum) == Sum(1, 2)


@pytest.mark.parametrize("arguments", ["", None, {}, "{}"])
def test_missing_arguments_are_an_empty_object(arguments: Any) -> None:
    assert FunctionCall(name="now", arguments=arguments).arguments_as(dict) == {}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"a": "one"}', "Expected `int`, got `str` - at `$.a`"),
        ({"a": "one"}, "Expected `int`, got `str` - at `$.a`"),
        ('{"a": 1', "truncated"),
        ("{}", "missing required field `a`"),
    ],
)
def test_arguments_as_names_the_call_and_the_wrong_value(arguments: Any, reason: str) -> None:
    with pytest.raises(InvalidAnswerError, match="Sum, the arguments of add") as caught:
        FunctionCall(name="add", arguments=arguments).arguments_as(Sum)
    assert reason in str(caught.value)


def test_arguments_nested_too_deeply_are_invalid() -> None:
    call = FunctionCall(name="add", arguments="[" * 100_000 + "]" * 100_000)
    with pytest.raises(InvalidAnswerError, match="the arguments of add"):
        call.arguments_as(object)
