"""Mistral's vocabulary as msgspec Structs, with the names of the official SDK.

Two rules hold for all of them.

**Nothing is invented.** A field that is missing on the wire is None: a tool call without an id
has `id=None`, a choice without an index `index=None`. A field whose value is its default is not
written, so a chunk that is encoded again equals the chunk that was received. If a request may
also contain `null`, with another meaning than a missing key, the default is `msgspec.UNSET`
(which is falsy), and None is written as `null`.

**The unknown survives.** Unknown keys are skipped, but kept in `UsageInfo`, which people are
billed by; `as_sent` puts them back in their place. An unknown kind of content becomes an
`UnknownContentChunk`, which is a dict.
"""

# A field of a role overrides the read-only property of Message, which mypy accepts.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from .errors import InvalidAnswerError
from .lenient_decoding import decoder, keep_convertible_fields, scalar_to_text

__all__ = [
    "APIKeyAuth", "AssistantMessage", "AudioChunk", "ChatCompletionChoice",
    "ChatCompletionResponse", "ChatCompletionResponseChoiceLogprobs",
    "ChatCompletionResponseTokenLogprobs", "ChatCompletionResponseTokenLogprobsTopK",
    "CompletionChunk", "CompletionEvent", "CompletionResponseStreamChoice", "ContentChunk",
    "CustomConnector", "DeltaMessage", "DocumentLibraryTool", "DocumentURLChunk", "FileChunk",
    "Function", "FunctionCall", "FunctionName", "GuardrailConfig", "ImageGenerationTool",
    "ImageURL", "ImageURLChunk", "JSONSchema", "Message", "OAuth2TokenAuth", "Prediction",
    "ReferenceChunk", "ResourceChunk", "ResourceLinkChunk", "ResponseFormat", "SystemMessage",
    "TextChunk", "ThinkChunk", "Tool", "ToolCall", "ToolChoice", "ToolConfiguration",
    "ToolMessage", "ToolReferenceChunk", "UnfinishedToolCall", "UnknownContentChunk", "UsageInfo",
    "UserMessage",
]  # fmt: skip

T = TypeVar("T")


def _always(value: str) -> Any:
    """Returns a field that is always written: msgspec omits defaults, but not those of a factory."""
    return field(default_factory=lambda: value)


class _Model(Struct, kw_only=True, omit_defaults=True):
    pass


# --- content ---------------------------------------------------------------------


class ContentChunk:
    """One part of a message's content; each kind is a class of its own.

    The set is open: a kind that this version does not know is an `UnknownContentChunk`.
    """

    __slots__ = ()


class TextChunk(_Model, ContentChunk):
    """A text."""

    text: str
    type: Literal["text"] = _always("text")


class ImageURL(_Model):
    """The URL of an image; `detail` is "low", "auto" or "high"."""

    url: str
    detail: str | UnsetType | None = UNSET


class ImageURLChunk(_Model, ContentChunk):
    """An image, by its URL; a `data:` URL contains the image itself."""

    image_url: ImageURL | str
    type: Literal["image_url"] = _always("image_url")


class DocumentURLChunk(_Model, ContentChunk):
    """A document, by its URL."""

    document_url: str
    document_name: str | None = None
    type: Literal["document_url"] = _always("document_url")


class ReferenceChunk(_Model, ContentChunk):
    """References to sources, by the ids that a tool or the caller chose."""

    reference_ids: list[int | str]
    type: Literal["reference"] = _always("reference")


class FileChunk(_Model, ContentChunk):
    """An uploaded file, by its id."""

    file_id: str
    type: Literal["file"] = _always("file")


class ThinkChunk(_Model, ContentChunk):
    """Reasoning; `thinking` contains texts, references and tool references."""

    thinking: list[ContentChunk]
    signature: str | None = None
    closed: bool | None = None
    type: Literal["thinking"] = _always("thinking")


class ToolReferenceChunk(_Model, ContentChunk):
    """A source that a built-in tool found, such as a page of a web search."""

    tool: str
    title: str
    url: str | None = None
    favicon: str | None = None
    description: str | None = None
    type: Literal["tool_reference"] = _always("tool_reference")


class AudioChunk(_Model, ContentChunk):
    """Audio, encoded as base64."""

    input_audio: str
    type: Literal["input_audio"] = _always("input_audio")


class ResourceChunk(_Model, ContentChunk):
    """A resource of a connector, with its content."""

    uri: str
    content: ContentChunk
    type: Literal["resource"] = _always("resource")


class ResourceLinkChunk(_Model, ContentChunk):
    """A link to a resource of a connector."""

    uri: str
    metadata: dict[str, str | int | float | bool] | None = None
    type: Literal["resource_link"] = _always("resource_link")


class UnknownContentChunk(dict[str, Any], ContentChunk):
    """A kind of content that this version does not know: the dict that was received."""

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


def decode_hook(type: type, value: Any) -> Any:
    """Decodes content chunks, which are an open set; the `dec_hook` of msgspec.

    Some servers send bare strings as content chunks, or fields of a wrong type. A chunk that
    does not have the shape of its kind is kept as a dict, instead of ending the stream.
    """
    if type is not ContentChunk:
        raise NotImplementedError(f"cannot decode {type.__name__}")
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
            fields = keep_convertible_fields(value, kind, decode_hook)
        if kind is TextChunk:
            fields["text"] = scalar_to_text(fields.get("text"))
        with suppress(msgspec.ValidationError):
            return msgspec.convert(fields, kind, dec_hook=decode_hook)
    return UnknownContentChunk(value)


# --- messages --------------------------------------------------------------------


class Message(_Model):
    """One message of a conversation; each role is a class of its own.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        content: A text, or a sequence of content chunks; not every role may lack it.
    """

    if TYPE_CHECKING:  # fields of each role, in an order of its own

        @property
        def role(self) -> str: ...

        @property
        def content(self) -> str | Sequence[ContentChunk] | UnsetType | None: ...


class SystemMessage(Message):
    """Instructions for the model."""

    content: str | Sequence[ContentChunk]
    role: Literal["system"] = _always("system")


class UserMessage(Message):
    """A message of the user."""

    content: str | Sequence[ContentChunk] | None
    role: Literal["user"] = _always("user")


class FunctionCall(_Model, gc=False):
    """The function that a model calls; `arguments` is JSON, mostly as a string."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None

    def arguments_as(self, type: type[T]) -> T:
        """Returns the arguments as a value of this type; missing ones count as `{}`.

        Raw control characters in strings are accepted.

        Args:
            type: A type that msgspec knows: a Struct, a dataclass, a TypedDict, ...; or a pydantic
                model.

        Raises:
            InvalidAnswerError: The arguments are not JSON of this type. The error names the
                function and the path of the wrong value.

        >>> FunctionCall(name="add", arguments='{"a": 1}').arguments_as(dict[str, int])
        {'a': 1}
        """
        try:
            text = self.arguments or "{}"
            if isinstance(text, dict):
                text = msgspec.json.encode(text).decode()
            value: T = decoder(type)(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            expected = f"{getattr(type, '__name__', type)}, the arguments of {self.name}"
            raise InvalidAnswerError(expected, str(error), str(self.arguments)) from error
        return value


class ToolCall(_Model, gc=False):
    """A call of a tool that the model asks for."""

    function: FunctionCall = field(default_factory=FunctionCall)
    id: str | None = None
    type: str | None = None
    index: int | None = None


class UnfinishedToolCall(ToolCall, gc=False):
    """A tool call that may have been incomplete when its answer broke off, as received.

    Only errors, outcomes and snapshots of broken answers contain such calls.
    """


class AssistantMessage(Message):
    """A message of the model; with `prefix=True`, the beginning that its answer must continue."""

    content: str | Sequence[ContentChunk] | UnsetType | None = UNSET
    tool_calls: Sequence[ToolCall] | UnsetType | None = UNSET
    prefix: bool | UnsetType = UNSET
    role: Literal["assistant"] = _always("assistant")


class ToolMessage(Message):
    """The result of a tool call; `tool_call_id` names the call."""

    content: str | Sequence[ContentChunk] | None
    tool_call_id: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    role: Literal["tool"] = _always("tool")


# --- tools and formats -----------------------------------------------------------


class Function(_Model):
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    parameters: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class Tool(_Model):
    """A function, as one of the tools of a request."""

    function: Function
    type: str = _always("function")


class FunctionName(_Model):
    """The name of the function in a `ToolChoice`."""

    name: str


class ToolChoice(_Model):
    """The one tool that the model must call."""

    function: FunctionName
    type: str = _always("function")


class ToolConfiguration(_Model):
    """The parts of a built-in tool to include, to exclude, or to confirm before use."""

    exclude: list[str] | UnsetType | None = UNSET
    include: list[str] | UnsetType | None = UNSET
    requires_confirmation: list[str] | UnsetType | None = UNSET


class ImageGenerationTool(_Model):
    """The built-in tool that generates images."""

    tool_configuration: ToolConfiguration | UnsetType | None = UNSET
    type: Literal["image_generation"] = _always("image_generation")


class DocumentLibraryTool(_Model):
    """The built-in tool that searches libraries of documents."""

    library_ids: list[str]
    tool_configuration: ToolConfiguration | UnsetType | None = UNSET
    type: Literal["document_library"] = _always("document_library")


class APIKeyAuth(_Model):
    """Authorization of a connector by an API key."""

    value: str
    type: Literal["api-key"] = _always("api-key")


class OAuth2TokenAuth(_Model):
    """Authorization of a connector by an OAuth 2 token."""

    value: str
    type: Literal["oauth2-token"] = _always("oauth2-token")


class CustomConnector(_Model):
    """A connector of your own, as one of the tools of a request."""

    connector_id: str
    authorization: APIKeyAuth | OAuth2TokenAuth | dict[str, Any] | UnsetType | None = UNSET
    tool_configuration: ToolConfiguration | UnsetType | None = UNSET
    type: Literal["connector"] = _always("connector")


class JSONSchema(_Model):
    """A JSON schema that the answer must follow; the field is `schema` on the wire."""

    name: str
    schema_definition: dict[str, Any] = field(name="schema")
    description: str | UnsetType | None = UNSET
    strict: bool | None = None


class ResponseFormat(_Model):
    """The format of the answer; `type` is "text", "json_object", or "json_schema" with a schema."""

    type: str | None = None
    json_schema: JSONSchema | UnsetType | None = UNSET


class Prediction(_Model):
    """Text that most of the answer will repeat; repeated parts are generated faster."""

    content: str = _always("")
    type: Literal["content"] = _always("content")


class GuardrailConfig(_Model):
    """The requests and answers that the service must refuse; both configurations are sent as is."""

    block_on_error: bool | UnsetType = UNSET
    moderation_llm_v1: dict[str, Any] | UnsetType | None = UNSET
    moderation_llm_v2: dict[str, Any] | UnsetType | None = UNSET


# --- answers ---------------------------------------------------------------------


class UsageInfo(_Model):
    """The cost of an answer, in tokens.

    Every other key that was received is in `additional_properties`, and is also an attribute:
    `usage.prompt_tokens_details["cached_tokens"]`.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_audio_seconds: int | float | dict[str, Any] | None = None
    service_tier: str | None = None
    additional_properties: dict[str, Any] = field(default_factory=dict)

    if not TYPE_CHECKING:  # else a type checker would accept every misspelt name

        def __getattr__(self, name: str) -> Any:
            try:
                return self.additional_properties[name]
            except KeyError:
                raise AttributeError(f"this usage has no {name!r}") from None


class ChatCompletionResponseTokenLogprobs(_Model, gc=False):
    """The log probability of one token."""

    token: str | None = None
    logprob: float | None = None
    bytes_: list[int] | None = field(name="bytes", default=None)
    token_id: int | None = None


class ChatCompletionResponseTokenLogprobsTopK(ChatCompletionResponseTokenLogprobs, gc=False):
    """The log probability of one token, and of the likeliest alternatives."""

    top_logprobs: list[ChatCompletionResponseTokenLogprobs] | None = None


class ChatCompletionResponseChoiceLogprobs(_Model, gc=False):
    """The log probabilities of the tokens of one choice."""

    content: list[ChatCompletionResponseTokenLogprobsTopK] | None = None


class DeltaMessage(_Model, gc=False):
    """The addition of one chunk to a message."""

    role: str | None = None
    content: str | list[ContentChunk] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    index: int | None = None
    metadata: dict[str, Any] | None = None


class CompletionResponseStreamChoice(_Model, gc=False):
    """The addition of one chunk to one of the `n` answers."""

    index: int | None = None
    delta: DeltaMessage = field(default_factory=DeltaMessage)
    finish_reason: str | None = None
    logprobs: ChatCompletionResponseChoiceLogprobs | None = None
    prompt_logprobs: ChatCompletionResponseChoiceLogprobs | None = None


class CompletionChunk(_Model, gc=False):
    """One chunk of a streamed response: the JSON object that an event contains."""

    id: str | None = None
    object: str | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[CompletionResponseStreamChoice] = field(default_factory=list)
    usage: UsageInfo | None = None


class CompletionEvent(_Model, gc=False):
    """One item of a stream: `event.data.choices[0].delta.content` is its text."""

    data: CompletionChunk


class ChatCompletionChoice(_Model):
    """One of the `n` answers of a whole response."""

    index: int | None = None
    message: AssistantMessage | None = None
    messages: list[DeltaMessage] | None = None
    finish_reason: str | None = None
    logprobs: ChatCompletionResponseChoiceLogprobs | None = None
    prompt_logprobs: ChatCompletionResponseChoiceLogprobs | None = None


class ChatCompletionResponse(_Model):
    """A whole response, as the endpoint returns it without streaming.

    `text`, `thinking`, `tool_calls` and `message` are those of the first of its answers.
    """

    id: str | None = None
    object: str | None = None
    model: str | None = None
    usage: UsageInfo | None = None
    created: int | float | None = None
    choices: list[ChatCompletionChoice] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text, without thinking and other content; "" if there is none."""
        content = _content_of(self._first_message())
        if isinstance(content, str):
            return content
        return "".join(part.text for part in content if isinstance(part, TextChunk))

    @property
    def thinking(self) -> str:
        """The text of the reasoning; "" if there is none."""
        content = _content_of(self._first_message())
        thoughts = [part.thinking for part in content if isinstance(part, ThinkChunk)]
        return "".join(
            part.text for thought in thoughts for part in thought if isinstance(part, TextChunk)
        )

    @property
    def tool_calls(self) -> list[ToolCall]:
        """The tool calls that are complete."""
        message = self._first_message()
        calls = (message and message.tool_calls) or ()
        return [call for call in calls if not isinstance(call, UnfinishedToolCall)]

    @property
    def message(self) -> AssistantMessage | None:
        """The message, to be sent again as part of the conversation: without tool calls that may
        be incomplete. None if it has neither content nor a complete tool call."""
        message, calls = self._first_message(), self.tool_calls
        if message is None or not (calls or any(map(_is_content, _content_of(message)))):
            return None
        if len(calls) == len(message.tool_calls or ()):
            return message
        return msgspec.structs.replace(message, tool_calls=calls or None)

    def _first_message(self) -> AssistantMessage | None:
        return next((each.message for each in self.choices if not each.index), None)


def _content_of(message: AssistantMessage | None) -> str | Sequence[ContentChunk]:
    return (message and message.content) or ""


def _is_content(part: str | ContentChunk) -> bool:
    """Returns whether a part of a content is not empty."""
    if isinstance(part, TextChunk):
        return part.text != ""
    if isinstance(part, ThinkChunk):
        return any(map(_is_content, part.thinking))
    return not isinstance(part, ReferenceChunk) or bool(part.reference_ids)


# --- for JSON ----------------------------------------------------------------------


def as_sent(item: object) -> object:
    """Returns an item in the form in which the service sent it, to be encoded.

    A completion becomes its chunk. The keys of a usage that this version does not know are put
    next to the others; msgspec would encode the field that contains them.
    """
    if isinstance(item, CompletionEvent):
        item = item.data
    if isinstance(item, UsageInfo):
        known = msgspec.to_builtins(item)
        return known.pop("additional_properties", {}) | known
    usage = getattr(item, "usage", None)
    if isinstance(usage, UsageInfo) and usage.additional_properties:
        return msgspec.to_builtins(item) | {"usage": as_sent(usage)}
    return item
