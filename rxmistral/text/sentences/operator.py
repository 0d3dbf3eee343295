"""Text to sentences, for speech synthesis, subtitles and moderation."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc

from ...checks import check_integer, check_seconds
from ...rx.fluent import returning
from ...rx.state_machine import MachineObserver, machine_operator, timed_operator
from ...rx.stream import Stream
from ...rx.timer import SerializedTimer, serialized
from ..inputs import text_for
from ..text_stream import TextStream
from .cutter import SentenceCutter
from .segmenters import SentenceSegmenter, default_segmenter

__all__ = ["sentences"]

_ROUNDING_SECONDS = 0.0005  # of a clock: less than that is no time left


def sentences(
    language: str = "en",
    max_wait: float | None = None,
    segmenter: SentenceSegmenter | None = None,
    max_chars: int | None = None,
    *,
    scheduler: abc.SchedulerBase | None = None,
) -> Callable[[Observable[str]], TextStream]:
    """Text, in pieces of any size, into its sentences, each as soon as it has ended.

        --"Hel"--"lo. I"--" am"--" here."-|->
        ---------"Hello. "----------------"I am here."-|->

    The joined sentences are the text: white space after a sentence belongs to it, and so
    do closing quotation marks, brackets and a lone emoji. The end of a line ends a
    sentence, and a fenced code block counts as one. The sentences do not depend on how
    the text was cut into pieces.

    Where a sentence ends is decided by sentencex, which Wikimedia maintains (install
    `rxmistral[sentences]`), together with lists of abbreviations in 19 languages.

    Args:
        language: The main language of the text, such as "en" or "pt-br". It selects the
            abbreviations and, for Greek, the question mark.
        max_wait: Seconds without new text after which the pending text is emitted, even
            in the middle of a sentence; None: it waits for the end of the sentence.
        segmenter: A segmenter to use in place of sentencex; see `SpanSegmenter` and
            `StringSegmenter`, which make one of any function that splits a text.
        max_chars: The most characters in an item; None: no limit. A longer sentence is cut
            at white space, or after that many characters if it has none.
        scheduler: Keeps the time for `max_wait`; by default the scheduler of the
            subscription, or else a `TimeoutScheduler`.

    Emits: each sentence as soon as its end is certain: when the next one begins, or, after
        a stop that may belong to an abbreviation, when the following word has ended.
    Holds: the sentence that has not ended.
    Completes: after the remaining text.
    Errors: errors of the source and of the segmenter, after the remaining text. At the
        call: `ModuleNotFoundError` if sentencex is needed and not installed.
    Source: https://github.com/wikimedia/sentencex

    >>> import reactivex
    >>> deltas = reactivex.of("Mr. Fox", " is here. He", " has a box", ".\\n\\nA blue one!")
    >>> list(TextStream.of(deltas).pipe(sentences()))
    ['Mr. Fox is here. ', 'He has a box.\\n\\n', 'A blue one!']
    """
    _check_arguments(language, max_wait, segmenter, max_chars)
    engine = default_segmenter(language) if segmenter is None else segmenter
    if max_wait is None:
        return returning(
            TextStream, machine_operator(lambda: SentenceCutter(engine, max_chars), _ACCEPTS)
        )
    operator: Callable[[Observable[str]], Stream[str]] = timed_operator(
        lambda observer, clock: _FlushTimer(
            SentenceCutter(engine, max_chars), observer, max_wait, clock
        ),
        scheduler,
    )
    return returning(TextStream, operator)


def _check_arguments(
    language: object, max_wait: object, segmenter: object, max_chars: object
) -> None:
    if not isinstance(language, str):
        raise TypeError(f"language must be a str, got {type(language).__name__}")
    if segmenter is not None and not callable(getattr(segmenter, "boundaries", None)):
        raise TypeError(f"segmenter must have boundaries(text), got {type(segmenter).__name__}")
    if max_wait is not None:
        check_seconds("max_wait", max_wait)
    if max_chars is not None:
        check_integer("max_chars", max_chars)


_ACCEPTS = text_for("sentences")


class _FlushTimer(SerializedTimer):
    """An observer that emits sentences, and pending text after `seconds` without new text.

    New text does not move the timer: when due, it is armed again for the time that is left.
    The time counts from the end of the processing of an item, so that a slow observer does
    not count as silence of the source.
    """

    def __init__(
        self,
        cutter: SentenceCutter,
        observer: abc.ObserverBase[str],
        seconds: float,
        scheduler: abc.SchedulerBase,
    ) -> None:
        super().__init__(observer, scheduler)
        self._cutter = cutter
        self._upstream = MachineObserver(cutter, observer, _ACCEPTS)
        self._seconds = seconds
        self._processed_at = 0.0

    @serialized
    def on_next(self, text: str) -> None:
        self._upstream.on_next(text)
        self._processed_at = self.now()
        if not self.armed:
            self.arm(self._seconds)

    @serialized
    def on_error(self, error: Exception) -> None:
        self._upstream.on_error(error)

    @serialized
    def on_completed(self) -> None:
        self._upstream.on_completed()

    def on_timeout(self) -> None:
        time_left = self._seconds - (self.now() - self._processed_at)
        if time_left > _ROUNDING_SECONDS:
            self.arm(time_left)
        else:
            for sentence in self._cutter.flush():
                self._observer.on_next(sentence)
