"""Whether a sentence ends at a stop.

The segmenter decides, but it knows whole texts only. It is therefore not asked if the stop
is part of something that continues: a list mark, a code span, brackets, a title, speech
before its attribution. And its view of the text must not mislead it: a bounded number of
characters, without emoji and without half a pair of quotation marks.

    text   ....sentence_start.........stop..closers..next_start.....lookahead
                                      .     "）      N     e x t
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import markup
from .markup import CJK, CLOSERS, EMOJI, NEED_SPACE, STOPS
from .segmenters import SentenceSegmenter

__all__ = ["ATTRIBUTION", "LONG_RUN", "MAY_BE_ATTRIBUTION", "WINDOW", "SentenceContext"]

WINDOW = 400  # characters before a stop that may be inspected
LONG_RUN = 40  # characters of a word, or of a run of stops, that are enough to judge it

_LETTER = re.compile(r"[^\W\d_]")
_LIKE_CAPITAL = re.compile("`|[a-z][A-Z]")  # `rm` deletes it. iOS does not.
_DOTTED = re.compile(r"[\d.]")  # "3", "U.S", "example.com"
_EMOJI = re.compile(f"[{EMOJI}]+")
_NOT_IN_WORDS = re.compile(f"[*_~{EMOJI}]")
_EMPHASIS = re.compile(r"(?<!\w)[*_\[]+(?=\w)")  # **Mr. Fox** is still an abbreviation
_DECIMAL = re.compile(r"\d．\d")
# Between CJK letters, dots alone are a pause, not an end.
_BETWEEN_CJK = re.compile(f"[{CJK}](?!…+[^{STOPS}])[{STOPS}{CLOSERS}]+[{CJK}]")

_QUOTES = re.compile('["“”„«»‹›「」『』]')
_OPENER_OF = {
    "”": "“", "“": "„", "»": "«", "«": "»", "›": "‹", "‹": "›", "」": "「", "』": "『",
}  # fmt: skip
_OPENING_QUOTES = '"“„«»「『'
_ONLY_CLOSING = "”」』"
_AMBIGUOUS_MARKS = re.compile(r"(([\"'“*_~`])\2*)[\"'“*_~`]*\Z")  # that open as well as close
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


class SentenceContext:
    """The text of the current sentence, and the rules for whether it ends at a stop."""

    def __init__(self, segmenter: SentenceSegmenter) -> None:
        self._segmenter = segmenter
        more: str = getattr(segmenter, "stops", "")
        self.stops = STOPS + more  # the characters that may end a sentence
        self._marks, self._need_space = ".!?" + more, NEED_SPACE + more
        self.text = ""  # that may still be inspected
        self.sentence_start = 0  # in `text`; less than 0 if the beginning is not in it
        self.open_quote = ""  # that the previous sentence left open
        self.capital: bool | None = None  # starts the current sentence; None: not known yet

    # --- the decision ---

    def is_boundary(self, stop: int, next_start: int, lookahead: int) -> bool:
        """Returns whether a sentence ends at this stop; `lookahead` is the end of the text that
        may be inspected."""
        if self._continues(stop, next_start, lookahead):
            return False
        start, view = self._view(stop, next_start, lookahead)
        boundaries = self._segmenter.boundaries(view)
        return any(stop - start < end < len(view) for end in boundaries)

    def _continues(self, stop: int, next_start: int, lookahead: int) -> bool:
        text = self.text
        last = next(at for at in range(next_start - 1, -1, -1) if text[at] in self.stops)
        return (
            self.is_list_mark(next_start)
            or markup.is_label(text, self.sentence_start, next_start)
            or markup.is_in_code_span(text[self._window(last) : last])
            or self._is_in_brackets(last)
            or self._continues_after_quotation(last, next_start)
            or self._continues_in_small_letters(stop, next_start, lookahead)
        )

    def _is_in_brackets(self, stop: int) -> bool:
        """Returns whether brackets are open that do not enclose the whole sentence."""
        text, start = self.text, self._first_word(stop)
        for opening, closing in ("()", "（）"):
            opened = text.rfind(opening, start + 1, stop)
            if opened > text.rfind(closing, start, stop) and not text[opened + 1].isspace():
                return True
        return False

    def _continues_after_quotation(self, stop: int, next_start: int) -> bool:
        """Returns whether a title or speech ends here, and the sentence continues after it."""
        text, closers = self.text, self.text[stop:next_start]
        if "》" in closers or _QUOTED_ON.match(text, next_start - 1):
            return True
        return text[next_start] in "—–" and _QUOTES.search(closers) is not None

    def _continues_in_small_letters(self, stop: int, next_start: int, lookahead: int) -> bool:
        letter = _LETTER.search(self.text, next_start, lookahead)
        if letter is None or not letter[0].islower():
            return False
        if _LIKE_CAPITAL.match(self.text, next_start, lookahead):
            return False
        run = self.text[stop:next_start]
        return ")" in run or "…" in run or self._needs_capital_after(stop)

    def _needs_capital_after(self, stop: int) -> bool:
        # In a text with capitals, except after a dot that ends no abbreviation.
        if not self.starts_with_capital(stop) or self.text[stop] not in self._marks:
            return False
        token = self._token(stop)
        return self.text[stop] != "." or len(token) <= 4 or _DOTTED.search(token) is not None

    # --- questions about a stop ---

    def may_be_dot(self, stop: int) -> bool:
        """Returns whether the stop may belong to an abbreviation or a number."""
        return self.text[stop] in self._need_space

    def is_clear(self, stop: int, following: int) -> bool:
        """Returns whether the first character after a stop is enough to judge the stop."""
        if not self.text[following].isalpha():
            return False
        token = self._token(stop)
        return self.text[stop] != "." or (len(token) > 1 and not _DOTTED.search(token))

    def is_within_word(self, stop: int) -> bool:
        """Returns whether a stop without white space after it is part of a word."""
        if self.may_be_dot(stop):
            return _BETWEEN_CJK.match(self.text, stop - 1) is None
        return _DECIMAL.match(self.text, stop - 1) is not None

    def may_end_speech(self, stop: int, next_start: int) -> bool:
        """Returns whether speech is closed here, so that its attribution may follow."""
        run = self.text[stop:next_start]
        if run[0] == "." or not _QUOTES.search(run):
            return False
        return bool(self.open_quote) or self.text[self._first_word(stop)] in _OPENING_QUOTES

    def open_formula(self, stop: int) -> str:
        return markup.open_formula(self.text, self._window(stop), stop)

    def is_list_mark(self, end: int) -> bool:
        return markup.is_list_mark(self.text, self.sentence_start, end)

    def starts_with_capital(self, end: int) -> bool:
        """Returns whether the first letter of the sentence, up to here, is a capital."""
        if self.capital is None:
            first = _LETTER.search(self.text, max(self.sentence_start, 0), end)
            self.capital = None if first is None else first[0].isupper()
        return bool(self.capital)

    def starts_with_emoji(self, stop: int) -> bool:
        return _EMOJI.match(self.text, self._first_word(stop)) is not None

    def closes_quote(self, stop: int, mark: str, at: int) -> bool:
        """Returns whether this mark closes a quotation across white space: « Oui ! »"""
        return mark in _OPENER_OF and self._is_quote_open(stop, at, mark)

    def first_opener(self, stop: int, end: int) -> int:
        """Returns where text without white space continues: before marks that open there."""
        marks = _AMBIGUOUS_MARKS.search(self.text[:end], stop)
        if marks is None or self._is_quote_open(stop, marks.start(), marks[1]):
            return end
        return marks.start()

    def quote_left_open(self, stop: int, end: int) -> str:
        """Returns the quotation mark that is open when the sentence ends, or ""."""
        start = self._window(stop)
        unclosed = _unclosed_quotes(self.text[start:end], self._quote_before(start))
        if not unclosed:
            return ""
        return self.text[start + unclosed[-1]] if unclosed[-1] >= 0 else self.open_quote

    def _is_quote_open(self, stop: int, end: int, mark: str) -> bool:
        """Returns whether this mark, at `end`, closes a quotation."""
        text, start, opener = self.text, self._window(stop), _OPENER_OF.get(mark, mark)
        opened = text.count(opener, start, end) + (self.open_quote == opener)
        if opener == mark:
            return opened % 2 == 1
        return opened > text.count(mark, start, end)

    def _quote_before(self, start: int) -> str:
        return self.open_quote if start == self.sentence_start else ""

    def _token(self, stop: int) -> str:
        words = self.text[max(self._window(stop), stop - LONG_RUN) : stop].split()
        return words[-1].strip("\"'“”‘’«»*_~`()[]") if words else ""

    def _first_word(self, stop: int) -> int:
        return markup.after_list_mark(self.text, self._window(stop), stop)

    def _window(self, stop: int) -> int:
        return max(self.sentence_start, stop - WINDOW)

    # --- the segmenter's view ---

    def _view(self, stop: int, next_start: int, lookahead: int) -> tuple[int, str]:
        """Returns a text for the segmenter, and the offset at which it starts."""
        text, start = self.text, self._window(stop)
        if start > self.sentence_start:
            start = text.find(" ", start, stop) + 1 or start
        ending = _NOT_IN_WORDS.sub(" ", text[stop : min(next_start, stop + LONG_RUN)])
        before, word = text[start:stop], text[next_start:lookahead].replace("(", " ")
        if word[-2:-1].isalnum() and not (word[-1].isalnum() or word[-1] == "."):
            word = word[:-1] + " "  # "It's" starts with the word "It"
        mark = self._first_word(stop) - start
        before = " " * mark + _EMPHASIS.sub(_blanks, before[mark:])
        view = before + markup.REFERENCE.sub(_blanks, ending) + word
        if "(" in view or "（" in view:
            view = _without_half_brackets(view, stop - start)
        if _QUOTES.search(view) is None:
            return start, view
        return self._without_half_quotes(start, view)

    def _without_half_quotes(self, start: int, view: str) -> tuple[int, str]:
        quote = self._quote_before(start)
        unclosed = _unclosed_quotes(view, quote)
        if quote and (not unclosed or unclosed[0] >= 0):  # the view closes it
            return start - 1, quote + _with_blanks(view, unclosed)
        return start, _with_blanks(view, [offset for offset in unclosed if offset >= 0])


def _unclosed_quotes(text: str, open_quote: str) -> list[int]:
    """Returns the offsets of quotation marks that are open at the end of the text; -1 stands
    for `open_quote`, which is open before it."""
    marks = [(open_quote, -1)] if open_quote else []
    for found in _QUOTES.finditer(text):
        opener = _OPENER_OF.get(found[0], found[0])
        open_marks = [mark for mark, _ in marks]
        if opener in open_marks:
            del marks[open_marks.index(opener) :]
        elif found[0] not in _ONLY_CLOSING:
            marks.append((found[0], found.start()))
    return [offset for _, offset in marks]


def _without_half_brackets(text: str, stop: int) -> str:
    """Returns the text with blanks in place of the brackets around the stop.

    A segmenter finds no boundary within brackets, whether or not they are closed.
    """
    opened = max(text.rfind("(", 0, stop), text.rfind("（", 0, stop))
    closed = _CLOSING_BRACKET.search(text, max(opened, 0))
    if opened < 0 or (closed and closed.start() < stop):
        return text
    return _with_blanks(text, (opened, closed.start()) if closed else (opened,))


def _with_blanks(text: str, offsets: Iterable[int]) -> str:
    for offset in offsets:
        text = text[:offset] + " " + text[offset + 1 :]
    return text


def _blanks(found: re.Match[str]) -> str:
    return " " * len(found[0])
