"""Quotation marks, brackets, and the words that attribute speech to a speaker."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .characters import CJK

__all__ = [
    "AMBIGUOUS_MARKS",
    "ATTRIBUTION",
    "MAY_BE_ATTRIBUTION",
    "OPENER_OF",
    "OPENING_QUOTES",
    "QUOTES",
    "continues_after_quotation",
    "is_in_brackets",
    "is_quote_open",
    "unclosed_quotes",
    "with_blanks",
    "without_half_brackets",
]

QUOTES = re.compile('["“”„«»‹›「」『』]')
OPENER_OF = {
    "”": "“", "“": "„", "»": "«", "«": "»", "›": "‹", "‹": "›", "」": "「", "』": "『",
}  # fmt: skip
OPENING_QUOTES = '"“„«»「『'
_ONLY_CLOSING = "”」』"
AMBIGUOUS_MARKS = re.compile(r"(([\"'“*_~`])\2*)[\"'“*_~`]*\Z")  # that open as well as close
_CLOSING_BRACKET = re.compile("[)）]")
_QUOTED_ON = re.compile("[」』）][とってのはがをもでになか]")  # "...", he said, in Japanese

# “Where?” Elena asked. Most languages put the verb first, in small letters.
_NAME = (
    r"(?!(?:The|He|She|It|They|We|You|This|That|There|Then|When|But|And|So|No|His|Her|My"
    r"|Nobody|Everyone|Someone)\s)[A-Z][\w.'’-]{0,20}\s"
)
ATTRIBUTION = re.compile(
    rf"(?:{_NAME}){{1,3}}(?:said|asked|replied|answered|shouted|whispered|cried|yelled|called"
    r"|added|explained|muttered|murmured|exclaimed|screamed|wondered|demanded|insisted|roared"
    r"|gasped|pleaded|inquired|repeated|says|asks|replies)\b"
    r"|[\u4e00-\u9fff]{0,7}[说說问問道喊叫答][。，：]"
)
MAY_BE_ATTRIBUTION = re.compile(rf"(?:[{CJK}]{{1,8}}+|(?:{_NAME}){{0,3}}+[\w.'’-]{{0,21}}+)(?s:.)")


def is_quote_open(text: str, start: int, end: int, mark: str, open_quote: str) -> bool:
    """Returns whether this mark closes a quotation that was opened in this part of the text.

    Args:
        open_quote: The quotation mark that is open before this part, or "".
    """
    opener = OPENER_OF.get(mark, mark)
    opened = text.count(opener, start, end) + (open_quote == opener)
    if opener == mark:
        return opened % 2 == 1
    return opened > text.count(mark, start, end)


def unclosed_quotes(text: str, open_quote: str) -> list[int]:
    """Returns the offsets of quotation marks that are open at the end of the text.

    Args:
        open_quote: The quotation mark that is open before the text, or ""; its offset
            is -1.
    """
    marks = [(open_quote, -1)] if open_quote else []
    for found in QUOTES.finditer(text):
        opener = OPENER_OF.get(found[0], found[0])
        open_marks = [mark for mark, _ in marks]
        if opener in open_marks:
            del marks[open_marks.index(opener) :]
        elif found[0] not in _ONLY_CLOSING:
            marks.append((found[0], found.start()))
    return [offset for _, offset in marks]


def is_in_brackets(text: str, start: int, stop: int) -> bool:
    """Returns whether brackets are open at the stop that do not enclose the whole sentence.

    Args:
        start: The offset of the first word of the sentence.
    """
    for opening, closing in ("()", "（）"):
        opened = text.rfind(opening, start + 1, stop)
        if opened > text.rfind(closing, start, stop) and not text[opened + 1].isspace():
            return True
    return False


def continues_after_quotation(text: str, stop: int, next_start: int) -> bool:
    """Returns whether a title or speech ends here, and the sentence continues after it."""
    closers = text[stop:next_start]
    if "》" in closers or _QUOTED_ON.match(text, next_start - 1):
        return True
    return text[next_start] in "—–" and QUOTES.search(closers) is not None


def without_half_brackets(text: str, stop: int) -> str:
    """Returns the text with blanks in place of the brackets around the stop.

    A segmenter finds no boundary within brackets, whether or not they are closed.
    """
    opened = max(text.rfind("(", 0, stop), text.rfind("（", 0, stop))
    closed = _CLOSING_BRACKET.search(text, max(opened, 0))
    if opened < 0 or (closed and closed.start() < stop):
        return text
    return with_blanks(text, (opened, closed.start()) if closed else (opened,))


def with_blanks(text: str, offsets: Iterable[int]) -> str:
    """Returns the text with blanks at these offsets."""
    for offset in offsets:
        text = text[:offset] + " " + text[offset + 1 :]
    return text
