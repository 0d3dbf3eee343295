"""rxmistral makes a streamed Mistral answer an Observable, from the socket to the sentence.

Subscribe to it, loop over it with `for` or `async for`, or await it; it always reports how the
answer ended:

    from rxmistral import Mistral

    with Mistral() as client:
        answer = client.chat.stream(model="mistral-small-latest", messages=[...])
        for token in answer.text():
            print(token, end="", flush=True)
        print(answer.outcome.usage)

Nothing is sent until it is read. Each reader sends a request; within `with answer:`, all readers
share one. Each operator is a function for `pipe()`, and a method of the Streams whose items it
accepts: `answer.text().sentences()` is `answer.pipe(text(), sentences())`.

The way of the data:

    request ──▶ block ──▶ line ──▶ event ──▶ completion ──▶ delta ──▶ text ──▶ sentence
              requests   bytes    Server-   Completion-    Delta-    str      str
              reader              SentEvent Event.data     Message
                                                  └──▶ part: text, thinking, tool call, ending

The map of the package; a folder is a layer, and imports point down only:

    cli  terminal/    the command: one answer, or a chat in a terminal
    telemetry/        OpenTelemetry: spans and metrics of answers and tools
    demo              an embedded server without a model
    chat/             a call: client, settings, request, attempts, event_stream, policies/;
                      a run of calls and tools: tools, tool_rounds, tool_runner, run;
                      a conversation of runs: conversation, answer, turn, history, trimming
    relay/  logs/     one answer for many: browsers, and brokers for other processes
    operators         everything that can be passed to pipe(), by name; most are methods, too
    testing/          the test kit: scripted servers and answers, recordings, pytest
    completions/      Mistral's chunks: decoding, choices, parts, tool calls, responses, fallback
    text/             str in, str out: sentences, words, code blocks, JSON, pacing
    wire/             HTTP and Server-Sent Events, without Mistral
    rx/               the reactive core, without HTTP: streams, runs, async calls, backpressure
    outcome           the ending of an answer, and everything that was received of it
    models  errors    Mistral's data types, and the errors; below them: lenient_decoding,
                      pydantic_models, error_report, and checks of arguments

`help(rxmistral.Mistral)` and `help(rxmistral.Chat.stream)` describe a call,
`help(rxmistral.operators)` lists the operators, and `help(rxmistral.errors)` draws the errors.
"""

# ruff: noqa: F403, F405  # `__all__` below lists every name

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from . import operators

if TYPE_CHECKING:
    from .chat.answer import Answer
    from .chat.client import Chat, Mistral, __version__
    from .chat.conversation import Conversation
    from .chat.event_stream import EventStream, EventStreamAsync
    from .chat.part_stream import PartStream
    from .chat.policies import BackoffStrategy, Limit, Resume, Retry, RetryConfig, Timeouts
    from .chat.request import ChatArguments
    from .chat.run import RunStream
    from .chat.speculation import Speculation
    from .chat.tools import ToolError, tool
    from .errors import *
    from .logs import LoggedStream, MemoryLog, RunLog, from_log, to_log
    from .models import *
    from .operators import *
    from .rx.async_source import from_async_iterable
    from .rx.shared_stream import SharedStream
    from .rx.stream import Stream
    from .text.text_stream import TextStream
    from .wire import ServerSentEvent

# In the order of the data, not of the alphabet.
# fmt: off
__all__ = [  # noqa: RUF022
    "Mistral", "Chat", "ChatArguments", "Conversation", "Speculation",
    # messages and their content
    "Message", "SystemMessage", "UserMessage", "AssistantMessage", "ToolMessage", "ContentChunk",
    "TextChunk", "ImageURL", "ImageURLChunk", "DocumentURLChunk", "ReferenceChunk", "FileChunk",
    "ThinkChunk", "ToolReferenceChunk", "AudioChunk", "ResourceChunk", "ResourceLinkChunk",
    "UnknownContentChunk",
    # tools and formats
    "Tool", "Function", "FunctionName", "ToolChoice", "ToolConfiguration", "ImageGenerationTool",
    "DocumentLibraryTool", "CustomConnector", "APIKeyAuth", "OAuth2TokenAuth", "ResponseFormat",
    "JSONSchema", "Prediction", "GuardrailConfig", "tool", "ToolError",
    # the policies of a call
    "Timeouts", "Retry", "RetryConfig", "BackoffStrategy", "Resume", "Limit",
    # streams and their items
    "Stream", "TextStream", "SharedStream", "EventStream", "EventStreamAsync", "PartStream", "RunStream",
    "Answer", "from_async_iterable", "ServerSentEvent", "CompletionEvent", "CompletionChunk", "CompletionResponseStreamChoice",
    "DeltaMessage", "ToolCall", "UnfinishedToolCall", "FunctionCall", "UsageInfo",
    "ChatCompletionResponse", "ChatCompletionChoice", "ChatCompletionResponseChoiceLogprobs",
    "ChatCompletionResponseTokenLogprobs", "ChatCompletionResponseTokenLogprobsTopK",
    # parts of an answer
    "Part", "TextDelta", "ThinkingDelta", "ToolCallStarted", "ToolCallDelta", "ToolCallReady",
    "References", "UsageReported", "AnswerEnded", "AnswerPart", "ToolReturned", "ToolFailed",
    "ToolProgress", "RoundEnded", "parts",
    # operators
    "completions", "until_finished", "deltas", "text", "thinking", "tool_calls", "usage",
    "finish_reason", "snapshots", "to_response", "on_outcome", "Outcome", "fallback", "hedge",
    "answer_each", "sentences", "SentenceSegmenter", "SpanSegmenter", "StringSegmenter", "words",
    "text_lines", "paragraphs", "code_blocks", "CodeBlock", "think_tags", "guarded", "parsed",
    "partials", "items", "join", "paced", "coalesced", "map_async", "shared",
    # answers that outlive their process
    "to_log", "from_log", "LoggedStream", "RunLog", "MemoryLog",
    # errors
    "MistralError", "RequestError", "RequestTimeoutError", "StatusError", "AllFailedError",
    "AuthenticationError", "InvalidAnswerError", "GuardError", "LogError", "LogUnavailableError",
    "UnknownRunError", "FencedError", "StreamError", "ProtocolError", "RateLimitError",
    "RoundLimitError", "BusyError", "ChunkError", "ReportedError", "StreamTimeoutError", "DroppedStreamError",
    "IncompleteStreamError", "StoppedError", "LaggedError", "LostProducerError", "__version__",
]
# fmt: on

# Names that are not here are in `errors` if they end in "Error", and otherwise in `models`.
_MODULES = {
    "chat.answer": ("Answer",),
    "chat.client": ("Chat", "Mistral", "__version__"),
    "chat.conversation": ("Conversation",),
    "chat.event_stream": ("EventStream", "EventStreamAsync"),
    "chat.part_stream": ("PartStream",),
    "chat.policies": ("BackoffStrategy", "Limit", "Resume", "Retry", "RetryConfig", "Timeouts"),
    "chat.request": ("ChatArguments",),
    "chat.run": ("RunStream",),
    "chat.speculation": ("Speculation",),
    "chat.tools": ("ToolError", "tool"),
    "logs": ("LoggedStream", "MemoryLog", "RunLog", "from_log", "to_log"),
    "operators": tuple(operators.__all__),
    "rx.async_source": ("from_async_iterable",),
    "rx.shared_stream": ("SharedStream",),
    "rx.stream": ("Stream",),
    "text.text_stream": ("TextStream",),
    "wire": ("ServerSentEvent",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
_FOLDERS_AND_FILES = {
    "chat", "demo", "errors", "logs", "models", "outcome", "relay", "rx", "testing", "wire",
}  # fmt: skip


class _Root(ModuleType):
    """The type of this module, in which two operators keep the names that they share with folders.

    The import system binds each module in the package that contains it, at a time that depends on
    which of them is imported first: `rxmistral.text` would then be the folder.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in operators.__all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Root

if not TYPE_CHECKING:  # nothing is loaded before it is used

    def __getattr__(name: str) -> object:
        if name in _FOLDERS_AND_FILES:
            return import_module(f".{name}", __name__)
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = _MODULE_OF.get(name, "errors" if name.endswith("Error") else "models")
        found = globals()[name] = getattr(import_module(f".{module}", __name__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_FOLDERS_AND_FILES})
