"""The engines that tell `sentences()` where a sentence ends.

An engine is anything with `boundaries(text)`. The extra `rxmistral[sentences]` brings
sentencex, which Wikimedia maintains for 40 languages and which falls back sensibly in
others. Abbreviations that sentencex lacks are in `abbreviations/`, a table per language.
Two adapters make an engine of any function that cuts a whole text, into spans or into
strings.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import accumulate, pairwise
from pkgutil import get_data
from typing import NamedTuple, Protocol, TypeAlias

import msgspec

try:
    from sentencex import segment  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports,reportAttributeAccessIssue]
except ImportError:  # an extra: it has no wheel for some platforms
    segment = None

__all__ = ["SentenceSegmenter", "SpanSegmenter", "StringSegmenter", "default_segmenter"]


class SentenceSegmenter(Protocol):
    """Whatever finds the ends of sentences in a text.

    It may have an attribute `stops`: more characters that end a sentence before white
    space, as ";" does in Greek.
    """

    def boundaries(self, text: str) -> Iterable[int]:
        """The offsets, in characters, at which a sentence ends, in ascending order.

        The white space after a sentence may be counted to it or not. `text` begins with
        a sentence and ends shortly after a stop; it is short, and asked for once or
        twice for each stop.
        """
        ...


class SpanSegmenter:
    """A segmenter from a function that gives the `(start, end)` of each sentence.

    >>> list(SpanSegmenter(lambda text: [(0, 3), (4, 7)]).boundaries("Hi. Ho."))
    [3, 7]
    """

    def __init__(self, spans: Callable[[str], Iterable[tuple[int, int]]]) -> None:
        self._spans = spans

    def boundaries(self, text: str) -> Iterable[int]:
        return (end for _, end in self._spans(text))


class StringSegmenter:
    """A segmenter from a function that gives the sentences themselves.

    They may lack the white space around them. From a sentence on that is not in the
    text, having been rewritten, no boundary is found.

    >>> list(StringSegmenter(lambda text: ["Hi.", "Ho."]).boundaries("Hi. Ho."))
    [3, 7]
    """

    def __init__(self, split: Callable[[str], Iterable[str]]) -> None:
        self._split = split

    def boundaries(self, text: str) -> Iterable[int]:
        end = 0
        for sentence in self._split(text):
            start = text.find(sentence, end)
            if start < 0:
                return
            end = start + len(sentence)
            yield end


def default_segmenter(language: str) -> SentenceSegmenter:
    """The engine of the extra `sentences`, for a language such as "en"."""
    if segment is None:
        raise ModuleNotFoundError(
            "where a sentence ends is found by the package sentencex, which is not installed: "
            "type  pip install 'rxmistral[sentences]'  or pass a segmenter of your own",
            name="sentencex",
        )
    return _Sentencex(segment, language)


# sentencex is written in Rust. It reads UTF-8, which has no surrogates; 1.0.32 cuts
# within a character, and panics, where a capital stands before white space of more than
# one byte and a stop; and it does not take "…" for a stop. It is shown a text of the
# same length without these, and only lengths are taken from its answer.
#
# So it can be told more: a full stop that ends nothing is shown as a comma, and one that
# it would wrongly take for an abbreviation's as a question mark.
_UNFIT = r"[^\S ]|[\ud800-\udfff]|…"
_NO_END, _END = ",", "?"

_FULL_STOP = re.compile(r"(?<![\w.])([^\W_][\w./-]*)\.(?=[^\w\s]{0,8}\s{1,8}[^\w\s]{0,8}(\w?))")
_FILE_NAME = re.compile(r"(?a:[\w-]{2,}\.[a-z]{2,4})")
_INITIALS = re.compile(r"[A-Z]\.-[A-Z]")
_AFTER_NUMBER = re.compile(r"\d\s?\Z")
_LONGEST_BEFORE = 24  # characters before a word in which the word before it is looked for


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    """A file of `abbreviations/`: words of one language, with white space between them.

    Abbreviations are written without their last full stop, and as in the middle of a
    sentence. "z.B" stands for "z. B." too.
    """

    sources: list[str]
    stops: str = ""  # more characters that end a sentence
    complete: bool = False  # before a capital, sentencex's own list does not count

    # No sentence ends with
    never: str = ""  # whatever follows
    references: str = ""  # before a number or a small letter
    number: str = ""  # before a number; otherwise they are ordinary words
    weekdays: str = ""  # before a number or a month
    months: str = ""  # before a number or a small letter
    hours: str = ""  # before one of the zones
    zones: str = ""
    # A sentence ends with
    ends: str = ""  # before a capital, and only there
    maybe: str = ""  # before an opener, and only there: names follow them
    units: str = ""  # before a capital, but not before a small letter
    words_before_capital: str = ""  # before a capital
    words: str = ""  # before any letter: sentencex takes these words for abbreviations

    openers: str = ""  # have a capital only at the start of a sentence: He, The
    labels: str = ""  # before a letter that is not an initial: plan B

    ordinals: str = ""  # after a number with a full stop: 3. Kapitel
    before_ordinals: str = ""  # before such a number: am 3. Oktober
    ordinal_suffix: str = ""  # ends such a number: 21st


_FALLBACK = _Table(sources=[])
_SAME = {"no": "nb", "nn": "nb"}  # the written forms of Norwegian share a table


def _table(language: str) -> _Table:
    if not language.isalpha():
        return _FALLBACK
    try:
        data = get_data(__name__, f"abbreviations/{_SAME.get(language, language)}.toml")
    except OSError:
        return _FALLBACK
    # Not by msgspec.toml, which fails where freezegun has replaced the datetime.
    return msgspec.convert(tomllib.loads((data or b"").decode()), _Table)


# --- what may follow a full stop ---
#
# A condition looks at the first letter or digit after the stop, which may be all that has
# been received. If that is not enough, the stop must end nothing: the cutter asks again
# when it has the whole word.

_Condition: TypeAlias = Callable[[str, int], object]
_ANYTHING = re.compile("").match
_ROMAN = re.compile("[IVXLC]{2,}")
_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d|[IVXLC](?:\Z|[IVXLC]+\b)").match


def _capital(text: str, at: int) -> bool:
    return text[at : at + 1].isupper()


def _small(text: str, at: int) -> bool:
    return text[at : at + 1].islower()


def _letter(text: str, at: int) -> bool:
    return text[at : at + 1].isalpha()


def _number_or_small(text: str, at: int) -> object:
    return _small(text, at) or _NUMBER(text, at)


_NOT = re.compile(r"(?!)")


def _whole(words: str) -> _Condition:
    """Tells whether one of these words follows. A letter with a full stop is an initial."""
    if not words:
        return _NOT.match
    known = "|".join(map(re.escape, words.split()))
    return re.compile(rf"(?:{known})\b(?!\Z|(?<=\b\w)[.])").match


def _perhaps(words: str, otherwise: re.Pattern[str] = _NOT) -> _Condition:
    """Tells whether one of these words follows, or still may."""
    if not words:
        return otherwise.match
    known = "|".join(map(re.escape, words.split()))
    firsts = "".join({word[0] for word in words.split()})
    return re.compile(rf"(?:{known})\b|[{firsts}]\Z|{otherwise.pattern}").match


# --- the rules of a language ---


class _Rule(NamedTuple):
    """A condition, and the sign that a full stop is shown as if it holds."""

    preceded: re.Pattern[str] | None
    applies: _Condition
    shown: str


def _rules(table: _Table) -> dict[str, list[_Rule]]:
    alone: dict[str, list[_Rule]] = {}
    # Rules that look at the words before a word go first.
    found = {word: [_Rule(_AFTER_NUMBER, _capital, _END)] for word in table.units.split()}
    for words, applies, shown in _rows(table):
        for word in words.split():
            for spelled in _spelled(word) if shown == _NO_END else {word}:
                alone.setdefault(spelled, []).append(_Rule(None, applies, shown))
            _add_parts(found, word.split("."), applies, shown)
    for word, rules in alone.items():
        found.setdefault(word, []).extend(rules)
    return found


def _spelled(word: str) -> set[str]:
    return {word, word[:1].upper() + word[1:]}


def _rows(table: _Table) -> Iterator[tuple[str, _Condition, str]]:
    """Yields words, a condition and the sign for the full stop; the first match counts."""
    yield table.words, _letter, _END
    opener = _whole(table.openers)
    months = " ".join({*table.months.split(), *table.ordinals.split()})
    yield table.maybe, opener, _END
    yield table.months, opener, _END
    yield table.never, _ANYTHING, _NO_END
    yield table.references, _number_or_small, _NO_END
    yield table.number, _NUMBER, _NO_END
    yield table.months, _number_or_small, _NO_END
    yield table.weekdays, _perhaps(months, _DIGIT), _NO_END
    yield table.hours, _perhaps(table.zones), _NO_END
    yield table.units, _small, _NO_END
    for words in (table.ends, table.units, table.words_before_capital):
        yield words, _capital, _END
    yield table.ends, _ANYTHING, _NO_END
    yield table.maybe, _ANYTHING, _NO_END


def _add_parts(
    found: dict[str, list[_Rule]], parts: list[str], applies: _Condition, shown: str
) -> None:
    """Adds rules for "z. B." with a space: for each part before the next, and for the last."""
    before = r"(?<!\w)"
    for index, (part, following) in enumerate(pairwise(parts)):
        preceded = re.compile(rf"{before}\Z") if index else None
        goes_on = re.compile(rf"{re.escape(following)}(?:\.|\Z)|{following[0]}\Z").match
        for spelled in _spelled(part):
            found.setdefault(spelled, []).append(_Rule(preceded, goes_on, _NO_END))
        before += rf"(?i:{re.escape(part)})[.]\s?"
    if len(parts) > 1:
        rule = _Rule(re.compile(rf"{before}\Z"), applies, shown)
        found.setdefault(parts[-1], []).append(rule)


class _Words:
    """The words of one language, and the sign that each full stop is shown as."""

    def __init__(self, language: str) -> None:
        table = _table(language)
        self.stops = table.stops
        self._rules = _rules(table)
        self._opens = _whole(table.openers)
        self._labels = frozenset(table.labels.split())
        self._before_ordinals = frozenset(table.before_ordinals.split())
        self._is_after_ordinal = _perhaps(table.ordinals)
        suffix = table.ordinal_suffix.replace(" ", "|")
        self._is_ordinal = re.compile(rf"\d+(?:{suffix})" if suffix else r"\d{1,4}").fullmatch
        # Whether the number of a day, a king or a chapter has a full stop.
        self._has_ordinals = bool(table.ordinals) and not suffix
        self._is_complete = table.complete
        # In English, sentencex itself tells openers from names after a single letter.
        self._knows_names = bool(table.openers) and language != "en"

    def judge(self, found: re.Match[str]) -> str:
        word, text, start, at = found[1], found.string, found.start(), found.start(2)
        for preceded, applies, shown in self._rules.get(word, ()):
            if applies(text, at) and (
                preceded is None or preceded.search(text, max(start - _LONGEST_BEFORE, 0), start)
            ):
                return word + shown
        if word[0].isdigit() and self._is_ordinal(word):
            return word + self._after_number(text, start, at)
        if not _capital(text, at):
            return found[0]
        if _INITIALS.fullmatch(word):
            return word + _NO_END
        if len(word) == 1 and word.isupper():
            return word + self._after_letter(text, start, at)
        if self._has_ordinals and _ROMAN.fullmatch(word):
            return word + (_END if self._opens(text, at) else _NO_END)
        return word + (_END if self._is_no_abbreviation(word) else ".")

    def _is_no_abbreviation(self, word: str) -> bool:
        if self._is_complete and word.isalpha():
            return True
        return "/" in word or _FILE_NAME.fullmatch(word) is not None

    def _after_number(self, text: str, start: int, at: int) -> str:
        if self._is_after_ordinal(text, at) or (self._has_ordinals and _small(text, at)):
            return _NO_END
        if not self._before_ordinals or _word_before(text, start) not in self._before_ordinals:
            return "."
        return _END if self._opens(text, at) else _NO_END

    def _after_letter(self, text: str, start: int, at: int) -> str:
        """Tell "plan B. He" from "J. Smith"."""
        if self._opens(text, at) or _word_before(text, start) in self._labels:
            return _END
        return _NO_END if self._knows_names else "."


def _word_before(text: str, start: int) -> str:
    words = text[max(start - _LONGEST_BEFORE, 0) : start].split()
    return words[-1].lower() if words else ""


_words = cache(_Words)


class _Sentencex:
    def __init__(self, segment: Callable[[str, str], list[str]], language: str) -> None:
        self._segment = segment
        self._language = language
        self._words = _words(re.split("[-_]", language.lower())[0])
        self.stops = self._words.stops
        self._unfit = re.compile(f"{_UNFIT}|[{self.stops}]" if self.stops else _UNFIT)

    def boundaries(self, text: str) -> Iterable[int]:
        try:
            pieces = self._segment(self._language, self._shown(text))
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            return ()  # a bug in there must not end the answer: no boundary is found
        return accumulate(map(len, pieces))

    def _shown(self, text: str) -> str:
        return self._unfit.sub(self._fit, _FULL_STOP.sub(self._words.judge, text))

    def _fit(self, found: re.Match[str]) -> str:
        if found[0] == "…" or found[0] in self.stops:
            return _END
        return " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}"
