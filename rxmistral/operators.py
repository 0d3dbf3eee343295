"""All operators, by name.

Each is a function whose result goes into `pipe(...)` of any Observable. Those that accept
completions are methods of an answer, too, and those that accept text are methods of a TextStream:
`answer.text().sentences()` is `answer.pipe(text(), sentences())`. `map_async()` and `shared()` are
methods of every Stream. Text that an operator holds is emitted before an error. A wrong order
raises an error that names the missing operator.

    events ──▶ completions() ──▶ completions ──▶ until_finished() ──▶ completions
    completions ──▶ deltas(), text(), thinking(), tool_calls(), usage(), finish_reason(),
                    snapshots(), to_response()
    completions ──▶ parts()                                           all kinds of output, in order
    completions ──▶ on_outcome()                                      unchanged, and a callback
    several streams of completions ──▶ fallback(), hedge()            one of them
    prompts ──▶ answer_each()                                         their answers
    text ──▶ sentences(), words(), text_lines(), paragraphs(),
             code_blocks()                                            split
             think_tags(), guarded()                                  filtered
             join()                                                   as a whole
             parsed(), partials(), items()                            decoded as JSON
             paced(), coalesced()                                     timed
    anything ──▶ map_async()                                          results of async calls
    anything ──▶ shared()                                             for many subscribers

The module of an operator is loaded on first use: a program that prints tokens does not load
the rules of sentences.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .completions.choice import deltas, text, thinking
    from .completions.decoding import completions
    from .completions.fallback import fallback, hedge
    from .completions.finish import until_finished
    from .completions.on_outcome import on_outcome
    from .completions.parts import (
        AnswerEnded,
        AnswerPart,
        Part,
        References,
        TextDelta,
        ThinkingDelta,
        ToolCallDelta,
        ToolCallReady,
        ToolCallStarted,
        UsageReported,
        parts,
    )
    from .completions.response import finish_reason, snapshots, to_response, usage
    from .completions.think_tags import think_tags
    from .completions.tool_calls import tool_calls
    from .completions.tool_parts import RoundEnded, ToolFailed, ToolProgress, ToolReturned
    from .outcome import Outcome
    from .rx.map_async import map_async
    from .rx.shared_stream import shared
    from .rx.switching import answer_each
    from .text.code_blocks import CodeBlock, code_blocks
    from .text.guard import guarded
    from .text.joined import join
    from .text.pacing import coalesced, paced
    from .text.sentences.operator import sentences
    from .text.sentences.segmenters import SentenceSegmenter, SpanSegmenter, StringSegmenter
    from .text.structured.operators import items, parsed, partials
    from .text.words_lines import paragraphs, text_lines, words

# fmt: off
__all__ = [
    "AnswerEnded", "AnswerPart", "CodeBlock", "Outcome", "Part", "References", "RoundEnded", "SentenceSegmenter",
    "SpanSegmenter", "StringSegmenter", "TextDelta", "ThinkingDelta", "ToolCallDelta",
    "ToolCallReady", "ToolCallStarted", "ToolFailed", "ToolProgress", "ToolReturned", "UsageReported", "answer_each", "coalesced", "code_blocks",
    "completions", "deltas", "fallback", "finish_reason", "guarded", "hedge", "items", "join", "map_async", "on_outcome",
    "paced", "paragraphs", "parsed", "partials", "parts", "sentences", "shared", "snapshots",
    "text", "text_lines", "think_tags", "thinking", "to_response", "tool_calls", "until_finished",
    "usage", "words",
]
# fmt: on

_MODULES = {
    "completions.choice": ("deltas", "text", "thinking"),
    "completions.decoding": ("completions",),
    "completions.fallback": ("fallback", "hedge"),
    "completions.finish": ("until_finished",),
    "completions.parts": (
        "AnswerEnded",
        "AnswerPart",
        "Part",
        "References",
        "TextDelta",
        "ThinkingDelta",
        "ToolCallDelta",
        "ToolCallReady",
        "ToolCallStarted",
        "UsageReported",
        "parts",
    ),
    "completions.on_outcome": ("on_outcome",),
    "completions.response": ("finish_reason", "snapshots", "to_response", "usage"),
    "outcome": ("Outcome",),
    "completions.think_tags": ("think_tags",),
    "completions.tool_calls": ("tool_calls",),
    "completions.tool_parts": ("RoundEnded", "ToolFailed", "ToolProgress", "ToolReturned"),
    "rx.map_async": ("map_async",),
    "rx.shared_stream": ("shared",),
    "rx.switching": ("answer_each",),
    "text.code_blocks": ("CodeBlock", "code_blocks"),
    "text.guard": ("guarded",),
    "text.joined": ("join",),
    "text.pacing": ("coalesced", "paced"),
    "text.sentences.operator": ("sentences",),
    "text.sentences.segmenters": ("SentenceSegmenter", "SpanSegmenter", "StringSegmenter"),
    "text.structured.operators": ("items", "parsed", "partials"),
    "text.words_lines": ("paragraphs", "text_lines", "words"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f".{_MODULE_OF[name]}", __package__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
