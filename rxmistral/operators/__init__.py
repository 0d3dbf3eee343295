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
"""

from .alternatives import fallback, hedge
from .decoding import completions
from .ending import until_finished
from .fences import CodeBlock, code_blocks
from .guarding import guarded
from .json_operators import items, parsed, partials
from .outcomes import Outcome, on_outcome
from .parts import deltas, text, thinking
from .pieces import paragraphs, text_lines, words
from .prompts import answered
from .sentence_operator import sentences
from .sentence_segmenters import SentenceSegmenter, SpanSegmenter, StringSegmenter
from .sharing import shared
from .tags import think_tags
from .timing import coalesced, paced
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
