"""Who knows where a sentence ends: the engines that `sentences()` asks.

An engine is anything with `boundaries(text)`. The one that comes with the extra
`rxmistral[sentences]` is sentencex, which Wikimedia keeps for 40 languages and which
falls back sensibly in others; two adapters make one of any function that cuts a whole
text, into spans or into strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Protocol

try:
    from sentencex import segment  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports,reportAttributeAccessIssue]
except ImportError:  # an extra: it has no wheel for some platforms
    segment = None

__all__ = ["SentenceSegmenter", "SpanSegmenter", "StringSegmenter", "default_segmenter"]


class SentenceSegmenter(Protocol):
    """Whatever finds the ends of sentences in a text."""

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
_UNFIT = re.compile(r"[^\S ]|[\ud800-\udfff]|…")

# Ends that it finds, and that are none: abbreviations which its lists lack, and the
# ordinal numbers of German other than dates.
_NO_END = {
    "de": re.compile(
        r"\b(?:Abb|Bd|Dipl\.-Ing|[Ee]xkl|Fa|Gebr|[Ii]nkl|[Zz]zgl|Hr|Jh|Jhd|Kap|Str|[Tt]el|[Vv]gl|Hauptstr"
        r"|(?:[AaIi]m|[Dd](?:as|e[mnrs]|ie)|[Vv]om|[Zz]u[mr]|[Bb]eim|[Ss]eit|[Aa]b|[Bb]is"
        r"|[Jj]ede[mnrs]?|(?:[Ee]|[MmDdSs]e|[Kk]e)ine?[mnrs]?|[Ii]hre?[mnrs]?)\s\d{1,3})\.\s*\Z"
    ),
    "en": re.compile(r"\b(?:[Aa]pprox|[Dd]ir|[Ee]qs?|[Vv]ols?)\.\s*\Z"),
    "es": re.compile(
        r"\b(?:Dña|[Mm]tr[ao]|Pdt[ae]|[Aa]prox|[SD]r[as]?s?|Dr|[Pp]rofa?|Uds?|[Pp]ágs?|[Cc]ap|[Vv]ol)\.\s*\Z"
    ),
    "pt": re.compile(
        r"\b(?:[SD]ra?s?|[Pp]rofa?|Av|Pe|Gov|Dep|[Pp]ágs?|[Cc]ap|[Tt]el|[Aa]prox|[Vv]ol)\.\s*\Z"
    ),
    "fr": re.compile(
        r"\b(?:J\.-C|Ste?|[Bb]d|Cie|D[rs]|MM?|Pr|Prof|Mmes?|Mlles?|Mgr|Me|[Cc]f|[Ee]nv|[Ff]ig|[Vv]ol|[Cc]hap)\.\s*\Z"
    ),
    "it": re.compile(r"\b(?:[Aa]rch|[Aa]rtt?|[Pp]agg?|[Ff]ig|[Cc]ap|[Vv]ol)\.\s*\Z"),
}
_LOOK_BACK = 24  # characters that such an end may have


class _Sentencex:
    def __init__(self, segment: Callable[[str, str], list[str]], language: str) -> None:
        self._segment = segment
        self._language = language
        self._no_end = _NO_END.get(language.partition("-")[0])

    def boundaries(self, text: str) -> Iterable[int]:
        try:
            pieces = self._segment(self._language, _UNFIT.sub(_fit, text))
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            return ()  # a bug in there must not end the answer: no boundary is found
        return (end for end in accumulate(map(len, pieces)) if not self._is_none(text, end))

    def _is_none(self, text: str, end: int) -> bool:
        if self._no_end is None:
            return False
        return self._no_end.search(text[max(end - _LOOK_BACK, 0) : end]) is not None


def _fit(found: re.Match[str]) -> str:
    if found[0] == "…":
        return "?"  # a stop that ends no abbreviation
    return " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}"
