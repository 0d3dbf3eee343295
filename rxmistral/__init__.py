"""rxmistral makes a streamed Mistral answer an Observable, from the socket to the sentence.

Subscribe to it, loop over it with `for` or `async for`, or await it; it always reports how the
answer ended:

    from rxmistral import Mistral, text

    with Mistral() as client:
        answer = client.chat.stream(model="mistral-small-latest", messages=[...])
        for token in answer.pipe(text()):
            print(token, end="", flush=True)

The way of the data:

    request ──▶ block ──▶ line ──▶ event ──▶ completion ──▶ delta ──▶ text ──▶ sentence
              requests   bytes    Server-   Completion-    Delta-    str      str
              reader              SentEvent Event.data     Message

The map of the package; a folder is a layer, and imports point down only:

    cli demo          the command, and an embedded server without a model
    chat/             one call: client, settings, request, attempts, event_stream, policies/
    relay/  logs/     one answer for many: browsers, and brokers for other processes
    operators         everything that can be passed to pipe(), by name
    completions/      Mistral's chunks: decoding, choices, tool calls, responses, fallback
    text/             str in, str out: sentences, words, code blocks, JSON, pacing
    wire/             HTTP and Server-Sent Events, without Mistral
    testing/          a server that answers as scripted
    rx/               the reactive core, without HTTP: streams, sharing, backpressure
    outcome           how an answer ended
    models  errors    Mistral's data types, and what can go wrong

`help(rxmistral.Mistral)` and `help(rxmistral.Chat.stream)` describe a call,
`help(rxmistral.operators)` lists the operators, and `help(rxmistral.errors)` draws the errors.
"""

# ruff: noqa: F403, F405  # `__all__` below lists every name

from importlib import import_module
from typing import TYPE_CHECKING

from . import operators
from .chat.client import Chat, Mistral, __version__
from .chat.event_stream import EventStream, EventStreamAsync
from .chat.policies import BackoffStrategy, Limit, Resume, Retry, RetryConfig, Timeouts
from .chat.request import ChatArguments

# Two operators have the name of a folder. Both folders are loaded by the imports above, so
# importing a module of theirs later does not replace the operators here.
from .completions.choice import text
from .completions.decoding import completions
from .errors import *
from .models import *
from .rx.stream import SharedStream, Stream
from .wire import ServerSentEvent

if TYPE_CHECKING:
    from .logs import LoggedStream, MemoryLog, RunLog, from_log, to_log
    from .operators import *
    from .rx.async_source import from_async_iterable

# In the order of the data, not of the alphabet.
# fmt: off
__all__ = [  # noqa: RUF022
    "Mistral", "Chat", "ChatArguments",
    # messages and their content
    "Message", "SystemMessage", "UserMessage", "AssistantMessage", "ToolMessage", "ContentChunk",
    "TextChunk", "ImageURL", "ImageURLChunk", "DocumentURLChunk", "ReferenceChunk", "FileChunk",
    "ThinkChunk", "ToolReferenceChunk", "AudioChunk", "ResourceChunk", "ResourceLinkChunk",
    "UnknownContentChunk",
    # tools and formats
    "Tool", "Function", "FunctionName", "ToolChoice", "ToolConfiguration", "ImageGenerationTool",
    "DocumentLibraryTool", "CustomConnector", "APIKeyAuth", "OAuth2TokenAuth", "ResponseFormat",
    "JSONSchema", "Prediction", "GuardrailConfig",
    # the policies of a call
    "Timeouts", "Retry", "RetryConfig", "BackoffStrategy", "Resume", "Limit",
    # streams and their items
    "Stream", "SharedStream", "EventStream", "EventStreamAsync", "from_async_iterable",
    "ServerSentEvent", "CompletionEvent", "CompletionChunk", "CompletionResponseStreamChoice",
    "DeltaMessage", "ToolCall", "UnfinishedToolCall", "FunctionCall", "UsageInfo",
    "ChatCompletionResponse", "ChatCompletionChoice", "ChatCompletionResponseChoiceLogprobs",
    "ChatCompletionResponseTokenLogprobs", "ChatCompletionResponseTokenLogprobsTopK",
    # operators
    "completions", "until_finished", "deltas", "text", "thinking", "tool_calls", "usage",
    "finish_reason", "snapshots", "to_response", "on_outcome", "Outcome", "fallback", "hedge",
    "answer_each", "sentences", "SentenceSegmenter", "SpanSegmenter", "StringSegmenter", "words",
    "text_lines", "paragraphs", "code_blocks", "CodeBlock", "think_tags", "guarded", "parsed",
    "partials", "items", "join", "paced", "coalesced", "shared",
    # answers that outlive their process
    "to_log", "from_log", "LoggedStream", "RunLog", "MemoryLog",
    # errors
    "MistralError", "RequestError", "RequestTimeoutError", "StatusError", "AllFailedError",
    "AuthenticationError", "InvalidAnswerError", "GuardError", "LogError", "LogUnavailableError",
    "UnknownRunError", "FencedError", "StreamError", "ProtocolError", "RateLimitError",
    "ChunkError", "ReportedError", "StreamTimeoutError", "DroppedStreamError",
    "IncompleteStreamError", "StoppedError", "LaggedError", "LostProducerError", "__version__",
]
# fmt: on

_MODULE_OF = (
    dict.fromkeys(operators.__all__, "operators")
    | dict.fromkeys(("LoggedStream", "MemoryLog", "RunLog", "from_log", "to_log"), "logs")
    | {"from_async_iterable": "rx.async_source"}
)

if not TYPE_CHECKING:  # modules that the first request does not need are loaded on first use

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
