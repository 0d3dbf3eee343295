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

from . import markup, quotations
from .characters import CJK, CLOSERS, EMOJI, NEED_SPACE, STOPS
from .segmenters import SentenceSegmenter

__all__ = ["LONG_RUN", "WINDOW", "SentenceContext"]

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


class SentenceContext:
    """The text of the current sentence, and the rules for whether it ends at a stop.

    Offsets are in characters of `text`.

    Attributes:
        text: The text that may still be inspected.
        sentence_start: The offset of the current sentence; less than 0 if its beginning
            is not in `text` any longer.
        open_quote: The quotation mark that the previous sentence left open, or "".
        capital: Whether the current sentence starts with a capital; None: not known yet.
        stops: The characters that may end a sentence.
    """

    def __init__(self, segmenter: SentenceSegmenter) -> None:
        self._segmenter = segmenter
        more: str = getattr(segmenter, "stops", "")
        self.stops = STOPS + more
        self._marks, self._need_space = ".!?" + more, NEED_SPACE + more
        self.text = ""
        self.sentence_start = 0
        self.open_quote = ""
        self.capital: bool | None = None

    # --- the decision ---

    def is_boundary(self, stop: int, next_start: int, lookahead: int) -> bool:
        """Returns whether a sentence ends at this stop.

        Args:
            next_start: The offset at which the next sentence would start.
            lookahead: The end of the text that may be inspected.
        """
        if self._continues(stop, next_start, lookahead):
            return False
        start, view = self._view(stop, next_start, lookahead)
        boundaries = self._segmenter.boundaries(view)
        return any(stop - start < end < len(view) for end in boundaries)

    def _continues(self, stop: int, next_start: int, lookahead: int) -> bool:
        text, start = self.text, self.sentence_start
        if markup.is_list_mark(text, start, next_start) or markup.is_label(text, start, next_start):
            return True
        run = text[stop:next_start]
        last = stop + max(at for at, mark in enumerate(run) if mark in self.stops)
        return (
            markup.is_in_code_span(text[self._window(last) : last])
            or quotations.is_in_brackets(text, self._first_word(last), last)
            or quotations.continues_after_quotation(text, last, next_start)
            or self._continues_in_small_letters(stop, next_start, lookahead)
        )

    def _continues_in_small_letters(self, stop: int, next_start: int, lookahead: int) -> bool:
        letter = _LETTER.search(self.text, next_start, lookahead)
        if letter is None or not letter[0].islower():
            return False
        if _LIKE_CAPITAL.match(self.text, next_start, lookahead):
            return False
        run = self.text[stop:next_start]
        return ")" in run or "…" in run or self._needs_capital_after(stop)

    def _needs_capital_after(self, stop: int) -> bool:
        """Returns whether a small letter after the stop continues the sentence: if the text
        is written with capitals, except after a dot that ends no abbreviation."""
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
        if run[0] == "." or not quotations.QUOTES.search(run):
            return False
        return (
            bool(self.open_quote) or self.text[self._first_word(stop)] in quotations.OPENING_QUOTES
        )

    def open_formula(self, stop: int) -> str:
        """Returns the mark of a formula that may be open at this stop, or ""."""
        return markup.open_formula(self.text, self._window(stop), stop)

    def is_list_mark(self, end: int) -> bool:
        """Returns whether the sentence up to here is nothing but a list mark."""
        return markup.is_list_mark(self.text, self.sentence_start, end)

    def starts_with_capital(self, end: int) -> bool:
        """Returns whether the first letter of the sentence is a capital.

        Args:
            end: The end of the text that is searched.
        """
        if self.capital is None:
            first = _LETTER.search(self.text, max(self.sentence_start, 0), end)
            self.capital = None if first is None else first[0].isupper()
        return bool(self.capital)

    def starts_with_emoji(self, stop: int) -> bool:
        """Returns whether the first word of the sentence is an emoji."""
        return _EMOJI.match(self.text, self._first_word(stop)) is not None

    def closes_quote(self, stop: int, mark: str, at: int) -> bool:
        """Returns whether this mark closes a quotation across white space: « Oui ! »"""
        return mark in quotations.OPENER_OF and self._is_quote_open(stop, at, mark)

    def first_opener(self, stop: int, end: int) -> int:
        """Returns the offset at which text without white space continues: before marks
        that open there."""
        marks = quotations.AMBIGUOUS_MARKS.search(self.text[:end], stop)
        if marks is None or self._is_quote_open(stop, marks.start(), marks[1]):
            return end
        return marks.start()

    def quote_left_open(self, stop: int, end: int) -> str:
        """Returns the quotation mark that is open when the sentence ends, or ""."""
        start = self._window(stop)
        unclosed = quotations.unclosed_quotes(self.text[start:end], self._quote_before(start))
        if not unclosed:
            return ""
        return self.text[start + unclosed[-1]] if unclosed[-1] >= 0 else self.open_quote

    def _is_quote_open(self, stop: int, end: int, mark: str) -> bool:
        return quotations.is_quote_open(self.text, self._window(stop), end, mark, self.open_quote)

    def _quote_before(self, start: int) -> str:
        return self.open_quote if start == self.sentence_start else ""

    def _token(self, stop: int) -> str:
        """Returns the word before a stop."""
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
            view = quotations.without_half_brackets(view, stop - start)
        if quotations.QUOTES.search(view) is None:
            return start, view
        return self._without_half_quotes(start, view)

    def _without_half_quotes(self, start: int, view: str) -> tuple[int, str]:
        quote = self._quote_before(start)
        unclosed = quotations.unclosed_quotes(view, quote)
        if quote and (not unclosed or unclosed[0] >= 0):  # the view closes it
            return start - 1, quote + quotations.with_blanks(view, unclosed)
        return start, quotations.with_blanks(view, [offset for offset in unclosed if offset >= 0])


def _blanks(found: re.Match[str]) -> str:
    return " " * len(found[0])
