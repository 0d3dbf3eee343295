"""Full stops: those that end an abbreviation or a number, and those that end a sentence.

`abbreviations/` has a table for each language with the abbreviations that sentencex lacks, and
does not accept. So it is shown a text in which a full stop that ends nothing is a comma, and
one that it would mistake for an abbreviation's is a question mark.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pkgutil import get_data
from typing import NamedTuple, TypeAlias

import msgspec

__all__ = ["ENDS", "FullStops", "full_stops"]

_CONTINUES, ENDS = ",", "?"  # the signs that a full stop is shown as

_FULL_STOP = re.compile(r"(?<![\w.])([^\W_][\w./-]*)\.(?=[^\w\s]{0,8}\s{1,8}[^\w\s]{0,8}(\w?))")
_FILE_NAME = re.compile(r"(?a:[\w-]{2,}\.[a-z]{2,4})")
_INITIALS = re.compile(r"[A-Z]\.-[A-Z]")
_AFTER_NUMBER = re.compile(r"\d\s?\Z")
_LOOK_BEHIND = 24  # characters before a word that are searched for the previous word


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """A file of `abbreviations/`: words of one language, separated by white space.

    Abbreviations are written without their last full stop, and as in the middle of a
    sentence. "z.B" stands for "z. B." too.
    """

    sources: list[str]
    stops: str = ""  # additional characters that end a sentence
    complete: bool = False  # before a capital, ignore sentencex's own list

    # A sentence does not end with
    never: str = ""  # whatever follows
    references: str = ""  # before a number or a small letter
    number: str = ""  # before a number; otherwise these are ordinary words
    weekdays: str = ""  # before a number or a month
    months: str = ""  # before a number or a small letter
    hours: str = ""  # before one of the zones
    zones: str = ""
    # A sentence ends with
    ends: str = ""  # before a capital, and only there
    maybe: str = ""  # before an opener, and only there: names may follow these
    units: str = ""  # before a capital, but not before a small letter
    words_before_capital: str = ""  # before a capital
    words: str = ""  # before any letter: sentencex mistakes these words for abbreviations

    openers: str = ""  # capitalized only at the start of a sentence: He, The
    labels: str = ""  # before a letter that is not an initial: plan B

    ordinals: str = ""  # after a number with a full stop: 3. Kapitel
    before_ordinals: str = ""  # before such a number: am 3. Oktober
    ordinal_suffix: str = ""  # ends such a number: 21st


_NO_TABLE = _Table(sources=[])
_SHARED_TABLES = {"no": "nb", "nn": "nb"}  # the written forms of Norwegian


def _table(language: str) -> _Table:
    if not language.isalpha():
        return _NO_TABLE
    try:
        data = get_data(__name__, f"abbreviations/{_SHARED_TABLES.get(language, language)}.toml")
    except OSError:
        return _NO_TABLE
    # Not by msgspec.toml, which fails if freezegun has replaced the datetime.
    return msgspec.convert(tomllib.loads((data or b"").decode()), _Table)


# --- what may follow a full stop -------------------------------------------------
#
# A condition checks the text from the first letter or digit after the stop, which may be
# all that has been received. If that is not enough, the stop must end nothing: the cutter
# asks again when it has the whole word.

_Condition: TypeAlias = Callable[[str, int], object]
_ALWAYS = re.compile("").match
_NEVER = re.compile(r"(?!)")
_DIGIT = re.compile(r"\d")
_ROMAN_NUMERAL = re.compile("[IVXLC]{2,}")
_NUMBER = re.compile(r"\d|[IVXLC](?:\Z|[IVXLC]+\b)").match


def _character(test: Callable[[str], bool]) -> _Condition:
    return lambda text, at: test(text[at : at + 1])


_is_capital, _is_small, _is_letter = map(_character, (str.isupper, str.islower, str.isalpha))


def _is_number_or_small(text: str, at: int) -> object:
    return _is_small(text, at) or _NUMBER(text, at)


def _one_of(words: str) -> _Condition:
    """Returns the condition that one of these words follows, and is complete."""
    known = "|".join(map(re.escape, words.split())) or _NEVER.pattern
    return re.compile(rf"(?:{known})\b(?!\Z|(?<=\b\w)[.])").match  # "A." is an initial


def _maybe_one_of(words: str, otherwise: re.Pattern[str] = _NEVER) -> _Condition:
    """Returns the condition that one of these words follows, or may have begun."""
    if not words:
        return otherwise.match
    known = "|".join(map(re.escape, words.split()))
    initials = "".join({word[0] for word in words.split()})
    return re.compile(rf"(?:{known})\b|[{initials}]\Z|{otherwise.pattern}").match


# --- the rules of a language -----------------------------------------------------


class _Rule(NamedTuple):
    """The sign that a full stop is shown as under a condition."""

    preceded_by: re.Pattern[str] | None  # the text before the word; None: any text
    condition: _Condition  # on the text after the full stop
    sign: str


def _rules(table: _Table) -> dict[str, list[_Rule]]:
    """Returns the rules for each word; the first one that applies counts."""
    context_free: dict[str, list[_Rule]] = {}
    # Rules that depend on the text before a word are first.
    rules = {word: [_Rule(_AFTER_NUMBER, _is_capital, ENDS)] for word in table.units.split()}
    for words, condition, sign in _conditions(table):
        for word in words.split():
            for spelling in _spellings(word) if sign == _CONTINUES else {word}:
                context_free.setdefault(spelling, []).append(_Rule(None, condition, sign))
            _add_spaced(rules, word.split("."), condition, sign)
    for word, more in context_free.items():
        rules.setdefault(word, []).extend(more)
    return rules


def _spellings(word: str) -> set[str]:
    return {word, word[:1].upper() + word[1:]}


def _conditions(table: _Table) -> Iterator[tuple[str, _Condition, str]]:
    """Yields words, a condition and the sign for their full stop, in order of precedence."""
    opener = _one_of(table.openers)
    months = " ".join({*table.months.split(), *table.ordinals.split()})
    yield table.words, _is_letter, ENDS
    yield table.maybe, opener, ENDS
    yield table.months, opener, ENDS
    yield table.never, _ALWAYS, _CONTINUES
    yield table.references, _is_number_or_small, _CONTINUES
    yield table.number, _NUMBER, _CONTINUES
    yield table.months, _is_number_or_small, _CONTINUES
    yield table.weekdays, _maybe_one_of(months, _DIGIT), _CONTINUES
    yield table.hours, _maybe_one_of(table.zones), _CONTINUES
    yield table.units, _is_small, _CONTINUES
    for words in (table.ends, table.units, table.words_before_capital):
        yield words, _is_capital, ENDS
    yield table.ends, _ALWAYS, _CONTINUES
    yield table.maybe, _ALWAYS, _CONTINUES


def _add_spaced(
    rules: dict[str, list[_Rule]], parts: list[str], condition: _Condition, sign: str
) -> None:
    """Adds rules for "z. B." with a space: for each part before the next, and for the last."""
    before = r"(?<!\w)"
    for index, (part, following) in enumerate(pairwise(parts)):
        preceded_by = re.compile(rf"{before}\Z") if index else None
        continues = re.compile(rf"{re.escape(following)}(?:\.|\Z)|{following[0]}\Z").match
        for spelling in _spellings(part):
            rules.setdefault(spelling, []).append(_Rule(preceded_by, continues, _CONTINUES))
        before += rf"(?i:{re.escape(part)})[.]\s?"
    if len(parts) > 1:
        preceded_by = re.compile(rf"{before}\Z")
        rules.setdefault(parts[-1], []).append(_Rule(preceded_by, condition, sign))


class FullStops:
    def __init__(self, language: str) -> None:
        table = _table(language)
        self.stops = table.stops  # additional characters that end a sentence
        self._rules = _rules(table)
        self._is_opener = _one_of(table.openers)
        self._labels = frozenset(table.labels.split())
        self._before_ordinals = frozenset(table.before_ordinals.split())
        self._is_after_ordinal = _maybe_one_of(table.ordinals)
        suffix = table.ordinal_suffix.replace(" ", "|")
        self._is_ordinal = re.compile(rf"\d+(?:{suffix})" if suffix else r"\d{1,4}").fullmatch
        # Whether the number of a day, a king or a chapter has a full stop.
        self._has_ordinals = bool(table.ordinals) and not suffix
        self._is_complete = table.complete
        # In English, sentencex itself distinguishes openers from names after a single letter.
        self._knows_names = bool(table.openers) and language != "en"

    def disambiguate(self, text: str) -> str:
        """Returns a text of the same length in which full stops are shown as what they are."""
        return _FULL_STOP.sub(self._shown, text)

    def _shown(self, found: re.Match[str]) -> str:
        word, text, start, at = found[1], found.string, found.start(), found.start(2)
        for preceded_by, condition, sign in self._rules.get(word, ()):
            if condition(text, at) and (
                preceded_by is None or preceded_by.search(text, max(start - _LOOK_BEHIND, 0), start)
            ):
                return word + sign
        if word[0].isdigit() and self._is_ordinal(word):
            return word + self._after_number(text, start, at)
        if not _is_capital(text, at):
            return found[0]
        if _INITIALS.fullmatch(word):
            return word + _CONTINUES
        if len(word) == 1 and word.isupper():
            return word + self._after_letter(text, start, at)
        if self._has_ordinals and _ROMAN_NUMERAL.fullmatch(word):
            return word + (ENDS if self._is_opener(text, at) else _CONTINUES)
        is_word = (self._is_complete and word.isalpha()) or "/" in word
        return word + (ENDS if is_word or _FILE_NAME.fullmatch(word) else ".")

    def _after_number(self, text: str, start: int, at: int) -> str:
        if self._is_after_ordinal(text, at) or (self._has_ordinals and _is_small(text, at)):
            return _CONTINUES
        if not self._before_ordinals or _word_before(text, start) not in self._before_ordinals:
            return "."
        return ENDS if self._is_opener(text, at) else _CONTINUES

    def _after_letter(self, text: str, start: int, at: int) -> str:
        """Tells "plan B. He" from "J. Smith"."""
        if self._is_opener(text, at) or _word_before(text, start) in self._labels:
            return ENDS
        return _CONTINUES if self._knows_names else "."


def _word_before(text: str, start: int) -> str:
    words = text[max(start - _LOOK_BEHIND, 0) : start].split()
    return words[-1].lower() if words else ""


full_stops = cache(FullStops)
