"""Mistral's words as msgspec Structs, spelled as the official SDK spells them.

Two habits hold for all of them.

What the wire did not say is None. Nothing is invented on the way in: a tool call
without an id has `id=None`, a choice without an index `index=None`. And what is None by
default is not written on the way out, so that a chunk sent back is the chunk that came.
Where a request may also say `null` and mean something else than saying nothing, the
default is `msgspec.UNSET`, which is falsy, and None is written as `null`.

What we do not know survives. Unknown keys are skipped, or kept where people bill by
them (`UsageInfo`). Unknown kinds of content come as `UnknownContentChunk`, a dict.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from .errors import InvalidAnswerError
from .model_json import decoder

__all__ = [
    "APIKeyAuth",
    "AssistantMessage",
    "AudioChunk",
    "ChatCompletionChoice",
    "ChatCompletionResponse",
    "ChatCompletionResponseChoiceLogprobs",
    "ChatCompletionResponseTokenLogprobs",
    "ChatCompletionResponseTokenLogprobsTopK",
    "CompletionChunk",
    "CompletionEvent",
    "CompletionResponseStreamChoice",
    "ContentChunk",
    "CustomConnector",
    "DeltaMessage",
    "DocumentLibraryTool",
    "DocumentURLChunk",
    "FileChunk",
    "Function",
    "FunctionCall",
    "FunctionName",
    "GuardrailConfig",
    "ImageGenerationTool",
    "ImageURL",
    "ImageURLChunk",
    "JSONSchema",
    "Message",
    "OAuth2TokenAuth",
    "Prediction",
    "ReferenceChunk",
    "ResourceChunk",
    "ResourceLinkChunk",
    "ResponseFormat",
    "SystemMessage",
    "TextChunk",
    "ThinkChunk",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolConfiguration",
    "ToolMessage",
    "ToolReferenceChunk",
    "UnfinishedToolCall",
    "UnknownContentChunk",
    "UsageInfo",
    "UserMessage",
]

T = TypeVar("T")


def _always(word: str) -> Any:
    """A word that is always written: msgspec omits a default, but not a made one."""

    def make() -> str:
        return word

    return field(default_factory=make)


class _Model(Struct, kw_only=True, omit_defaults=True):
    pass


# --- content ---------------------------------------------------------------------


class ContentChunk:
    """One part of a message's content; each kind is a class of its own.

    The set is open: a kind that this version does not know is an
    `UnknownContentChunk`.
    """

    __slots__ = ()


class TextChunk(_Model, ContentChunk):
    text: str
    type: Literal["text"] = _always("text")


class ImageURL(_Model):
    url: str
    detail: str | UnsetType | None = UNSET


class ImageURLChunk(_Model, ContentChunk):
    """An image, by its URL; a `data:` URL holds the image itself."""

    image_url: ImageURL | str
    type: Literal["image_url"] = _always("image_url")


class DocumentURLChunk(_Model, ContentChunk):
    document_url: str
    document_name: str | None = None
    type: Literal["document_url"] = _always("document_url")


class ReferenceChunk(_Model, ContentChunk):
    reference_ids: list[int | str]
    type: Literal["reference"] = _always("reference")


class FileChunk(_Model, ContentChunk):
    file_id: str
    type: Literal["file"] = _always("file")


class ThinkChunk(_Model, ContentChunk):
    """Reasoning; `thinking` holds text, references and tool references."""

    thinking: list[ContentChunk]
    signature: str | None = None
    closed: bool | None = None
    type: Literal["thinking"] = _always("thinking")


class ToolReferenceChunk(_Model, ContentChunk):
    tool: str
    title: str
    url: str | None = None
    favicon: str | None = None
    description: str | None = None
    type: Literal["tool_reference"] = _always("tool_reference")


class AudioChunk(_Model, ContentChunk):
    """Sound, as base64."""

    input_audio: str
    type: Literal["input_audio"] = _always("input_audio")


class ResourceChunk(_Model, ContentChunk):
    uri: str
    content: ContentChunk
    type: Literal["resource"] = _always("resource")


class ResourceLinkChunk(_Model, ContentChunk):
    uri: str
    metadata: dict[str, str | int | float | bool] | None = None
    type: Literal["resource_link"] = _always("resource_link")


class UnknownContentChunk(dict[str, Any], ContentChunk):
    """A kind of content that this version does not know, as the dict it came as."""

    @property
    def type(self) -> str | None:
        return self.get("type")


_CONTENT_CHUNKS: dict[str, Callable[..., ContentChunk]] = {
    "text": TextChunk,
    "image_url": ImageURLChunk,
    "document_url": DocumentURLChunk,
    "reference": ReferenceChunk,
    "file": FileChunk,
    "thinking": ThinkChunk,
    "tool_reference": ToolReferenceChunk,
    "input_audio": AudioChunk,
    "resource": ResourceChunk,
    "resource_link": ResourceLinkChunk,
}


def decode_hook(wanted: type, value: Any) -> Any:
    """For `msgspec`'s `dec_hook`: decodes the content chunks, which are an open set.

    Some servers put bare strings among them, or fields of wrong types into them. A part
    that does not look like the kind it names is kept as it is, rather than ending the stream.
    """
    if wanted is not ContentChunk:
        raise NotImplementedError(f"cannot decode {wanted.__name__}")
    if isinstance(value, str):
        return TextChunk(text=value)
    if not isinstance(value, dict):
        return UnknownContentChunk(value=value)
    name = value.get("type")
    kind: Any = _CONTENT_CHUNKS.get(name) if isinstance(name, str) else None
    if kind is not None:
        try:
            return msgspec.convert(value, kind, dec_hook=decode_hook)
        except msgspec.ValidationError:
            with suppress(msgspec.ValidationError):
                return _part_without_its_faults(value, kind)
    return UnknownContentChunk(value)


def _part_without_its_faults(value: dict[str, Any], kind: Any) -> ContentChunk:
    """With all that it needs, and what can be read of the rest."""
    kept = {
        each.encode_name: value[each.encode_name]
        for each in msgspec.structs.fields(kind)
        if each.encode_name in value
        and (each.required or readable(value[each.encode_name], each.type) is not UNSET)
    }
    if kind is TextChunk:
        kept["text"] = scalar_text(kept.get("text"))
    part: ContentChunk = msgspec.convert(kept, kind, dec_hook=decode_hook)
    return part


def scalar_text(value: Any) -> Any:
    """A number or a truth value, where a text belongs, as its JSON; anything else as it is."""
    return json.dumps(value) if isinstance(value, (bool, int, float)) else value


def readable(value: Any, kind: Any) -> Any:
    """The value as one of this kind, with all of it that can be read.

    Returns:
        UNSET if nothing can. A field that cannot be read has its default, and an item of
        a list is left out.
    """
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    try:
        # Not strict: a number in a string is a number, where one belongs.
        return msgspec.convert(value, kind, strict=False, dec_hook=decode_hook)
    except msgspec.ValidationError:
        pass
    for each in kinds:
        if isinstance(value, dict) and isinstance(each, type) and issubclass(each, Struct):
            return _readable_struct(value, each)
        if isinstance(value, list) and get_origin(each) is list:
            items = (readable(item, *get_args(each)) for item in value)
            return [item for item in items if item is not UNSET]
    return UNSET


def _readable_struct(value: dict[str, Any], kind: type[Struct]) -> Struct:
    read = {
        each.name: readable(value[each.encode_name], each.type)
        for each in msgspec.structs.fields(kind)
        if each.encode_name in value
    }
    return kind(**{name: each for name, each in read.items() if each is not UNSET})


# --- messages --------------------------------------------------------------------


class Message(_Model):
    """One message of a conversation; each role is a class of its own."""


class SystemMessage(Message):
    content: str | Sequence[ContentChunk]
    role: Literal["system"] = _always("system")


class UserMessage(Message):
    content: str | Sequence[ContentChunk] | None
    role: Literal["user"] = _always("user")


class FunctionCall(_Model, gc=False):
    """The function a model calls; `arguments` is JSON, mostly in a string."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None

    def arguments_as(self, type: type[T]) -> T:
        """The arguments as a value of a type that msgspec knows; none are `{}`. Raw control
        characters in the strings are accepted.

        Raises:
            InvalidAnswerError: They are not; it says of which function and where.

        >>> FunctionCall(name="add", arguments='{"a": 1}').arguments_as(dict[str, int])
        {'a': 1}
        """
        try:
            if isinstance(self.arguments, dict):
                return msgspec.convert(self.arguments, type)
            value: T = decoder(type)(self.arguments or "{}")
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            wanted = f"{getattr(type, '__name__', type)}, the arguments of {self.name}"
            raise InvalidAnswerError(wanted, str(error), str(self.arguments)) from error
        return value


class ToolCall(_Model, gc=False):
    function: FunctionCall = field(default_factory=FunctionCall)
    id: str | None = None
    type: str | None = None
    index: int | None = None


class UnfinishedToolCall(ToolCall, gc=False):
    """A tool call that may not have been complete when its answer broke: its arguments
    are as far as they came. Only what tells of a broken answer holds one."""


class AssistantMessage(Message):
    """What the model said, or is to go on from where `prefix` is True."""

    content: str | Sequence[ContentChunk] | UnsetType | None = UNSET
    tool_calls: Sequence[ToolCall] | UnsetType | None = UNSET
    prefix: bool | UnsetType = UNSET
    role: Literal["assistant"] = _always("assistant")


class ToolMessage(Message):
    content: str | Sequence[ContentChunk] | None
    tool_call_id: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    role: Literal["tool"] = _always("tool")


# --- tools and formats -----------------------------------------------------------


class Function(_Model):
    """A function the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class Tool(_Model):
    function: Function
    type: str = _always("function")


class FunctionName(_Model):
    name: str


class ToolChoice(_Model):
    """The one tool that the model must call."""

    function: FunctionName
    type: str = _always("function")


class ToolConfiguration(_Model):
    exclude: list[str] | UnsetType | None = UNSET
    include: list[str] | UnsetType | None = UNSET
    requires_confirmation: list[str] | UnsetType | None = UNSET


class ImageGenerationTool(_Model):
    tool_configuration: ToolConfiguration | UnsetType | None = UNSET
    type: Literal["image_generation"] = _always("image_generation")


class DocumentLibraryTool(_Model):
    library_ids: list[str]
    tool_configuration: ToolConfiguration | UnsetType | None = UNSET
    type: Literal["document_library"] = _always("document_library")


class APIKeyAuth(_Model):
    value: str
    type: Literal["api-key"] = _always("api-key")


class OAuth2TokenAuth(_Model):
    value: str
    type: Literal["oauth2-token"] = _always("oauth2-token")


class CustomConnector(_Model):
    connector_id: str
    authorization: APIKeyAuth | OAuth2TokenAuth | dict[str, Any] | UnsetType | None = UNSET
    tool_configuration: ToolConfiguration | UnsetType | None = UNSET
    type: Literal["connector"] = _always("connector")


class JSONSchema(_Model):
    """A JSON schema that the answer must follow; it goes over the wire as `schema`."""

    name: str
    schema_definition: dict[str, Any] = field(name="schema")
    description: str | UnsetType | None = UNSET
    strict: bool | None = None


class ResponseFormat(_Model):
    """`type` is "text", "json_object" or "json_schema", which takes a `json_schema`."""

    type: str | None = None
    json_schema: JSONSchema | UnsetType | None = UNSET


class Prediction(_Model):
    """Text that the answer will mostly repeat; what matches comes faster."""

    content: str = _always("")
    type: Literal["content"] = _always("content")


class GuardrailConfig(_Model):
    """What to refuse; the configurations of the moderation models go as they are."""

    block_on_error: bool | UnsetType = UNSET
    moderation_llm_v1: dict[str, Any] | UnsetType | None = UNSET
    moderation_llm_v2: dict[str, Any] | UnsetType | None = UNSET


# --- answers ---------------------------------------------------------------------


class UsageInfo(_Model):
    """What the answer cost, in tokens.

    `additional_properties` holds every other key that came; each can also be read as
    an attribute: `usage.prompt_tokens_details["cached_tokens"]`.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_audio_seconds: int | float | dict[str, Any] | None = None
    service_tier: str | None = None
    additional_properties: dict[str, Any] = field(default_factory=dict)

    if not TYPE_CHECKING:  # a checker would take every misspelt name for an attribute

        def __getattr__(self, name: str) -> Any:
            try:
                return self.additional_properties[name]
            except KeyError:
                raise AttributeError(f"this usage has no {name!r}") from None


class ChatCompletionResponseTokenLogprobs(_Model, gc=False):
    token: str | None = None
    logprob: float | None = None
    bytes_: list[int] | None = field(name="bytes", default=None)
    token_id: int | None = None


class ChatCompletionResponseTokenLogprobsTopK(ChatCompletionResponseTokenLogprobs, gc=False):
    top_logprobs: list[ChatCompletionResponseTokenLogprobs] | None = None


class ChatCompletionResponseChoiceLogprobs(_Model, gc=False):
    content: list[ChatCompletionResponseTokenLogprobsTopK] | None = None


class DeltaMessage(_Model, gc=False):
    """What one chunk adds to a message."""

    role: str | None = None
    content: str | list[ContentChunk] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    index: int | None = None
    metadata: dict[str, Any] | None = None


class CompletionResponseStreamChoice(_Model, gc=False):
    """What one chunk adds to one of the `n` answers."""

    index: int | None = None
    delta: DeltaMessage = field(default_factory=DeltaMessage)
    finish_reason: str | None = None
    logprobs: ChatCompletionResponseChoiceLogprobs | None = None
    prompt_logprobs: ChatCompletionResponseChoiceLogprobs | None = None


class CompletionChunk(_Model, gc=False):
    id: str | None = None
    object: str | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[CompletionResponseStreamChoice] = field(default_factory=list)
    usage: UsageInfo | None = None


class CompletionEvent(_Model, gc=False):
    """One item of a stream: `event.data.choices[0].delta.content` is the token."""

    data: CompletionChunk


class ChatCompletionChoice(_Model):
    index: int | None = None
    message: AssistantMessage | None = None
    messages: list[DeltaMessage] | None = None
    finish_reason: str | None = None
    logprobs: ChatCompletionResponseChoiceLogprobs | None = None
    prompt_logprobs: ChatCompletionResponseChoiceLogprobs | None = None


class ChatCompletionResponse(_Model):
    """A whole answer, as the endpoint gives it without streaming."""

    id: str | None = None
    object: str | None = None
    model: str | None = None
    usage: UsageInfo | None = None
    created: int | float | None = None
    choices: list[ChatCompletionChoice] = field(default_factory=list)
