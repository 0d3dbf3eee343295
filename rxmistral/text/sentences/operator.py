"""Text to sentences: what voices, subtitles and moderators take it by."""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable
from reactivex.scheduler import TimeoutScheduler

from ...checks import check_seconds, check_whole
from ...rx.stream import Stream
from ...rx.subscriber import fail_observer
from ...rx.timer import SerializedTimer, serialized
from ..inputs import text_for
from .cutter import SentenceCutter
from .segmenters import SentenceSegmenter, default_segmenter

__all__ = ["sentences"]

_TICK = 0.0005  # seconds; a clock's own rounding is no time left


def sentences(
    language: str = "en",
    max_wait: float | None = None,
    segmenter: SentenceSegmenter | None = None,
    max_chars: int | None = None,
    *,
    scheduler: abc.SchedulerBase | None = None,
) -> Callable[[Observable[str]], Stream[str]]:
    """Text, however it is cut, into its sentences.

        --"Hel"--"lo. I"--" am"--" here."-|->
        ---------"Hello. "----------------"I am here."-|->

    Args:
        language: The main language of the text, such as "en" or "pt-br". It decides
            which abbreviations and, in Greek, which question mark count.
        max_wait: Seconds after which what is pending is emitted if nothing came.
        segmenter: What knows the ends of sentences, in place of sentencex.
        max_chars: The longest piece; a longer one is cut at white space, or where there
            is none, after so many characters.
        scheduler: Whose time `max_wait` is; that of the subscription if none is given.

    Emits: sentences, with the white space after them: joined, they are the text. A line
        ends one, a fenced code block is one, closing marks and a lone emoji belong to
        what is before them.
    Holds: the sentence that has not ended. Whether it has is known when the next one
        begins, or the word after a stop that may be an abbreviation's has ended.
    Completes: when the source does, after the rest.
    Errors: those of the source, after the rest; those of the segmenter likewise.
        Without sentencex and a segmenter a ModuleNotFoundError, at the call.
    Source: https://github.com/wikimedia/sentencex

    >>> import reactivex
    >>> deltas = reactivex.of("Mr. Fox", " is here. He", " has a box", ".\\n\\nA blue one!")
    >>> list(Stream.of(deltas).pipe(sentences()))
    ['Mr. Fox is here. ', 'He has a box.\\n\\n', 'A blue one!']
    """
    _check(language, max_wait, segmenter, max_chars)
    engine = default_segmenter(language) if segmenter is None else segmenter

    def operate(source: Observable[str]) -> Stream[str]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[str], injected: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            emitter = _Emitter(SentenceCutter(engine, max_chars), observer)
            if max_wait is None:
                return stream.subscribe(
                    emitter.on_next, emitter.on_error, emitter.on_completed, scheduler=injected
                )
            clock = scheduler or injected or TimeoutScheduler.singleton()
            watch = _Watch(emitter, max_wait, clock)
            return CompositeDisposable(
                stream.subscribe(
                    watch.on_next, watch.on_error, watch.on_completed, scheduler=injected
                ),
                watch,
            )

        return Stream(subscribe)

    return operate


def _check(language: object, max_wait: object, segmenter: object, max_chars: object) -> None:
    if not isinstance(language, str):
        raise TypeError(f"language must be a str, got {type(language).__name__}")
    if segmenter is not None and not callable(getattr(segmenter, "boundaries", None)):
        raise TypeError(f"segmenter must have boundaries(text), got {type(segmenter).__name__}")
    if max_wait is not None:
        check_seconds("max_wait", max_wait)
    if max_chars is not None:
        check_whole("max_chars", max_chars)


_TAKES = text_for("sentences")


class _Emitter:
    """Takes text, emits sentences."""

    def __init__(self, cutter: SentenceCutter, observer: abc.ObserverBase[str]) -> None:
        self._cutter = cutter
        self._observer = observer
        self._feed, self._emit = cutter.feed, observer.on_next

    def on_next(self, text: object) -> None:
        try:
            if not isinstance(text, str):
                raise _TAKES.error_for(text)
            found = self._feed(text)
        except Exception as error:  # the segmenter's
            self.on_error(error)
            return
        for sentence in found:
            self._emit(sentence)

    def on_error(self, error: Exception) -> None:
        self._rest()
        self._observer.on_error(error)

    def on_completed(self) -> None:
        error = self._rest()
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)

    def fail(self, error: Exception) -> None:
        fail_observer(self._observer, error)

    def flush(self) -> None:
        for sentence in self._cutter.flush():
            self._emit(sentence)

    def _rest(self) -> Exception | None:
        failed = None
        try:
            found = self._cutter.close()
        except Exception as error:  # the segmenter's; now nobody asks it any more
            failed, found = error, self._cutter.close()
        for sentence in found:
            self._emit(sentence)
        return failed


class _Watch(SerializedTimer):
    """Has what is pending emitted when nothing came for `seconds`.

    The timer is not moved when something comes: when it is due it looks at the time of
    that, and is set again for what is left. The time counts from when an item had been
    taken, not from when it came: a slow observer is no silence of the source.
    """

    def __init__(self, emitter: _Emitter, seconds: float, scheduler: abc.SchedulerBase) -> None:
        super().__init__(scheduler)
        self._emitter = emitter
        self._seconds = seconds
        self._taken = 0.0

    @serialized
    def on_next(self, text: str) -> None:
        self._emitter.on_next(text)
        self._taken = self.now()
        if not self.armed:
            self.arm(self._seconds)

    @serialized
    def on_error(self, error: Exception) -> None:
        self._emitter.on_error(error)

    @serialized
    def on_completed(self) -> None:
        self._emitter.on_completed()

    def fail(self, error: Exception) -> None:
        self._emitter.fail(error)

    def on_timeout(self) -> None:
        left = self._seconds - (self.now() - self._taken)
        if left > _TICK:
            self.arm(left)
        else:
            self._emitter.flush()
