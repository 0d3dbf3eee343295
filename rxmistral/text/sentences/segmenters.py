"""Segmenters: engines that find for `sentences()` where a sentence ends.

The extra `rxmistral[sentences]` installs sentencex, which Wikimedia maintains for 40 languages,
with sensible fallbacks for others; `full_stops` adds the abbreviations that it lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Protocol

from .full_stops import ENDS, full_stops

try:
    from sentencex import segment  # type: ignore[import-not-found,import-untyped,unused-ignore]  # pyright: ignore[reportMissingImports,reportAttributeAccessIssue]
except ImportError:  # an extra: it has no wheel for some platforms
    segment = None

__all__ = ["SentenceSegmenter", "SpanSegmenter", "StringSegmenter", "default_segmenter"]


class SentenceSegmenter(Protocol):
    """An engine that finds the ends of sentences in a text.

    It may have an attribute `stops`: additional characters that end a sentence before
    white space, as ";" does in Greek.
    """

    def boundaries(self, text: str) -> Iterable[int]:
        """Returns the offsets, in characters, at which a sentence ends, in ascending order.

        White space after a sentence may belong to it or not. `text` starts with a sentence
        and ends shortly after a stop. It is short; the method is called once or twice for
        each stop.
        """
        ...


class SpanSegmenter:
    """A segmenter from a function that returns the `(start, end)` of each sentence.

    >>> list(SpanSegmenter(lambda text: [(0, 3), (4, 7)]).boundaries("Hi. Ho."))
    [3, 7]
    """

    def __init__(self, spans: Callable[[str], Iterable[tuple[int, int]]]) -> None:
        self._spans = spans

    def boundaries(self, text: str) -> Iterable[int]:
        return (end for _, end in self._spans(text))


class StringSegmenter:
    """A segmenter from a function that returns the sentences themselves.

    The sentences may lack the white space around them. No boundary is found after a
    sentence that is not in the text because the function rewrote it.

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
    """Returns the segmenter of the extra `sentences`, for a language such as "en"."""
    if segment is None:
        raise ModuleNotFoundError(
            "sentences() needs the package sentencex, which is not installed: "
            "type  pip install 'rxmistral[sentences]'  or pass a segmenter of your own",
            name="sentencex",
        )
    return _SentencexSegmenter(segment, language)


# sentencex is written in Rust and reads UTF-8, which cannot encode lone surrogates. Version
# 1.0.32 cuts within a character, and panics, at a capital before white space of more than
# one byte and a stop; and it does not treat "…" as a stop. So it is shown a text of the same
# length without these, and only the lengths of its sentences are used.
_UNSUPPORTED = r"[^\S ]|[\ud800-\udfff]|…"


class _SentencexSegmenter:
    def __init__(self, segment: Callable[[str, str], list[str]], language: str) -> None:
        self._segment, self._language = segment, language
        self._full_stops = full_stops(re.split("[-_]", language.lower())[0])
        self.stops = self._full_stops.stops
        stops = f"|[{self.stops}]" if self.stops else ""
        self._unsupported = re.compile(_UNSUPPORTED + stops)

    def boundaries(self, text: str) -> Iterable[int]:
        shown = self._unsupported.sub(self._replacement, self._full_stops.disambiguate(text))
        try:
            sentences = self._segment(self._language, shown)
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            return ()  # a bug in sentencex must not end the answer
        return accumulate(map(len, sentences))

    def _replacement(self, found: re.Match[str]) -> str:
        if found[0] == "…" or found[0] in self.stops:
            return ENDS
        return " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}"
