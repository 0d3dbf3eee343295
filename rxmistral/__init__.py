"""A Mistral answer is a stream: rxmistral makes it an Observable.

    request ──▶ block ──▶ line ──▶ event ──▶ completion ──▶ delta ──▶ text ──▶ sentence
    client      wire/                        operators/

`client` asks, `run` composes the way and walks it as often as the `policies` say,
`answer` is what a call gives, `stream` is what can be subscribed to, looped over and
awaited, `wire` is HTTP and Server-Sent Events, `models` are Mistral's words, `operators`
are what goes into a pipe, `errors` is what can go wrong, and `testing` is a server that
answers as scripted.

    async_source ──▶ stream ──▶ sharing ──▶ many viewers, whom `delivery` serves
                                   ├──────▶ relay/ ──▶ browsers
                                   └──────▶ logs/ ──▶ brokers ──▶ any process

What is shared or logged is `resumable`: it can be read again from any of its items on.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from . import operators
from .chat.client import Chat, Mistral, __version__
from .chat.event_stream import EventStream, EventStreamAsync
from .chat.policies import BackoffStrategy, Limit, Resume, Retry, RetryConfig, Timeouts
from .chat.request import ChatArguments

# Two operators are named like the folder of what they emit. Both folders are loaded by the
# import above, so these names stay the operators.
from .completions.choice import text
from .completions.decoding import completions
from .errors import (
    AllFailedError,
    AuthenticationError,
    ChunkError,
    DroppedStreamError,
    FencedError,
    GuardError,
    IncompleteStreamError,
    InvalidAnswerError,
    LaggedError,
    LogError,
    LogUnavailableError,
    LostProducerError,
    MistralError,
    ProtocolError,
    RateLimitError,
    ReportedError,
    RequestError,
    RequestTimeoutError,
    StatusError,
    StoppedError,
    StreamError,
    StreamTimeoutError,
    UnknownRunError,
)
from .models import (
    APIKeyAuth,
    AssistantMessage,
    AudioChunk,
    ChatCompletionChoice,
    ChatCompletionResponse,
    ChatCompletionResponseChoiceLogprobs,
    ChatCompletionResponseTokenLogprobs,
    ChatCompletionResponseTokenLogprobsTopK,
    CompletionChunk,
    CompletionEvent,
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
    Message,
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
    UnfinishedToolCall,
    UnknownContentChunk,
    UsageInfo,
    UserMessage,
)
from .rx.stream import SharedStream, Stream
from .wire import ServerSentEvent

if TYPE_CHECKING:
    from .logs import LoggedStream, MemoryLog, RunLog, from_log, to_log
    from .operators import (
        CodeBlock,
        Outcome,
        SentenceSegmenter,
        SpanSegmenter,
        StringSegmenter,
        answer_each,
        coalesced,
        code_blocks,
        deltas,
        fallback,
        finish_reason,
        guarded,
        hedge,
        items,
        on_outcome,
        paced,
        paragraphs,
        parsed,
        partials,
        sentences,
        shared,
        snapshots,
        text_lines,
        think_tags,
        thinking,
        to_response,
        tool_calls,
        until_finished,
        usage,
        words,
    )
    from .rx.async_source import from_async_iterable

__all__ = [  # noqa: RUF022  # in the order of the way, not of the alphabet
    "Mistral",
    "Chat",
    "ChatArguments",
    # messages, and what goes into them
    "Message",
    "SystemMessage",
    "UserMessage",
    "AssistantMessage",
    "ToolMessage",
    "ContentChunk",
    "TextChunk",
    "ImageURL",
    "ImageURLChunk",
    "DocumentURLChunk",
    "ReferenceChunk",
    "FileChunk",
    "ThinkChunk",
    "ToolReferenceChunk",
    "AudioChunk",
    "ResourceChunk",
    "ResourceLinkChunk",
    "UnknownContentChunk",
    # tools and formats
    "Tool",
    "Function",
    "FunctionName",
    "ToolChoice",
    "ToolConfiguration",
    "ImageGenerationTool",
    "DocumentLibraryTool",
    "CustomConnector",
    "APIKeyAuth",
    "OAuth2TokenAuth",
    "ResponseFormat",
    "JSONSchema",
    "Prediction",
    "GuardrailConfig",
    # what a call does beside asking once
    "Timeouts",
    "Retry",
    "RetryConfig",
    "BackoffStrategy",
    "Resume",
    "Limit",
    # the stream, and what is in it
    "Stream",
    "SharedStream",
    "EventStream",
    "EventStreamAsync",
    "from_async_iterable",
    "ServerSentEvent",
    "CompletionEvent",
    "CompletionChunk",
    "CompletionResponseStreamChoice",
    "DeltaMessage",
    "ToolCall",
    "UnfinishedToolCall",
    "FunctionCall",
    "UsageInfo",
    "ChatCompletionResponse",
    "ChatCompletionChoice",
    "ChatCompletionResponseChoiceLogprobs",
    "ChatCompletionResponseTokenLogprobs",
    "ChatCompletionResponseTokenLogprobsTopK",
    # operators
    "completions",
    "until_finished",
    "deltas",
    "text",
    "thinking",
    "tool_calls",
    "usage",
    "finish_reason",
    "snapshots",
    "to_response",
    "on_outcome",
    "Outcome",
    "fallback",
    "hedge",
    "answer_each",
    "sentences",
    "SentenceSegmenter",
    "SpanSegmenter",
    "StringSegmenter",
    "words",
    "text_lines",
    "paragraphs",
    "code_blocks",
    "CodeBlock",
    "think_tags",
    "guarded",
    "parsed",
    "partials",
    "items",
    "paced",
    "coalesced",
    "shared",
    # runs that outlive their process
    "to_log",
    "from_log",
    "LoggedStream",
    "RunLog",
    "MemoryLog",
    # what can go wrong
    "MistralError",
    "RequestError",
    "RequestTimeoutError",
    "StatusError",
    "AllFailedError",
    "AuthenticationError",
    "InvalidAnswerError",
    "GuardError",
    "LogError",
    "LogUnavailableError",
    "UnknownRunError",
    "FencedError",
    "StreamError",
    "ProtocolError",
    "RateLimitError",
    "ChunkError",
    "ReportedError",
    "StreamTimeoutError",
    "DroppedStreamError",
    "IncompleteStreamError",
    "StoppedError",
    "LaggedError",
    "LostProducerError",
    "__version__",
]

_MODULE_OF = (
    dict.fromkeys(operators.__all__, "operators")
    | dict.fromkeys(("LoggedStream", "MemoryLog", "RunLog", "from_log", "to_log"), "logs")
    | {"from_async_iterable": "rx.async_source"}
)

if not TYPE_CHECKING:  # what the first request does not need is loaded when it is asked for

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
