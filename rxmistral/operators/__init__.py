"""What goes into a pipe, in the order of the way.

events ──completions()──▶ completions ──until_finished()──▶ completions
  completions ──▶ deltas(), text(), thinking(), tool_calls(), usage(), finish_reason(),
                  snapshots(), to_response(), on_outcome()
  several streams of completions ──▶ fallback(), hedge()                      one of them
  prompts ──▶ answered()                                                      their answers
  text ──▶ sentences(), words(), text_lines(), paragraphs(), code_blocks()    cut
           think_tags(), guarded()                                            sifted
           parsed(), partials(), items()                                      decoded
           paced(), coalesced()                                               in time
  anything ──▶ shared()                                                       for many

An operator's module is loaded when the operator is first asked for: whoever prints tokens
needs no grammar of sentences.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..rx.shared import shared
    from ..rx.switching import answered
    from ..text.code_blocks import CodeBlock, code_blocks
    from ..text.guard import guarded
    from ..text.pacing import coalesced, paced
    from ..text.sentences.operator import sentences
    from ..text.sentences.segmenters import SentenceSegmenter, SpanSegmenter, StringSegmenter
    from ..text.structured.operators import items, parsed, partials
    from ..text.words_lines import paragraphs, text_lines, words
    from .alternatives import fallback, hedge
    from .decoding import completions
    from .ending import until_finished
    from .outcomes import Outcome, on_outcome
    from .parts import deltas, text, thinking
    from .tags import think_tags
    from .tools import tool_calls
    from .totals import finish_reason, snapshots, to_response, usage

__all__ = [
    "CodeBlock",
    "Outcome",
    "SentenceSegmenter",
    "SpanSegmenter",
    "StringSegmenter",
    "answered",
    "coalesced",
    "code_blocks",
    "completions",
    "deltas",
    "fallback",
    "finish_reason",
    "guarded",
    "hedge",
    "items",
    "on_outcome",
    "paced",
    "paragraphs",
    "parsed",
    "partials",
    "sentences",
    "shared",
    "snapshots",
    "text",
    "text_lines",
    "think_tags",
    "thinking",
    "to_response",
    "tool_calls",
    "until_finished",
    "usage",
    "words",
]

_ROOMS = {
    "operators.alternatives": ("fallback", "hedge"),
    "operators.decoding": ("completions",),
    "operators.ending": ("until_finished",),
    "text.code_blocks": ("CodeBlock", "code_blocks"),
    "text.guard": ("guarded",),
    "text.structured.operators": ("items", "parsed", "partials"),
    "operators.outcomes": ("Outcome", "on_outcome"),
    "operators.parts": ("deltas", "text", "thinking"),
    "text.words_lines": ("paragraphs", "text_lines", "words"),
    "rx.switching": ("answered",),
    "text.sentences.operator": ("sentences",),
    "text.sentences.segmenters": ("SentenceSegmenter", "SpanSegmenter", "StringSegmenter"),
    "rx.shared": ("shared",),
    "operators.tags": ("think_tags",),
    "text.pacing": ("coalesced", "paced"),
    "operators.tools": ("tool_calls",),
    "operators.totals": ("finish_reason", "snapshots", "to_response", "usage"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

if not TYPE_CHECKING:  # to a type checker any name would be here

    def __getattr__(name: str) -> object:
        if name not in _ROOM_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f"..{_ROOM_OF[name]}", __name__), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
