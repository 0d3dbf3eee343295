r"""Blocks to completions, with a fast path for the blocks that nearly all servers send.

    block ──▶ "data: {...}\n\n" ─────────────── decoded in place ──────────────▶ completion
          └─▶ anything else ──▶ lines() ──▶ events() ──▶ completions_into() ──▶ completion

Strategy: a chunk that is alone in an event of one line needs neither a line object nor an event
object. Its bytes are decoded in place, which halves the cost of a token. Everything else takes
the slow path: the first event, which may begin with a BOM; the finish_reason and all that
follows it; `[DONE]`, usage, errors, halves of surrogate pairs, and whatever msgspec rejects.

An event takes one path as a whole, so the slow path is between two events when the fast path is
taken. A body with other line ends, or with an event of many blocks, stays on the slow path.
"""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from ..models import CompletionEvent
from ..rx.state_machine import operate
from ..rx.stream import Stream
from ..wire import events, lines
from .decoding import CompletionDecoder, completions_into

__all__ = ["completions_of_blocks"]

_MAX_PARTIAL_EVENT_BYTES = 16 * 1024  # on the fast path


def completions_of_blocks(
    make_decoder: Callable[[], CompletionDecoder],
    *,
    max_bytes: int,
    accept_clean_end: bool,
    start_grace_period: Callable[[], None] | None = None,
) -> Callable[[Observable[bytes]], Stream[CompletionEvent]]:
    """Does what `lines()`, `events()` and `completions_into()` do, in one step if possible."""

    def subscribe_to(
        stream: Stream[bytes],
        observer: abc.ObserverBase[CompletionEvent],
        scheduler: abc.SchedulerBase | None,
    ) -> abc.DisposableBase:
        decoder = make_decoder()
        fast_path = _FastPath(decoder, observer, max_bytes)
        slow_path = Stream(fast_path.connect_slow_path).pipe(
            lines(max_bytes=max_bytes),
            events(max_bytes=max_bytes),
            completions_into(lambda: decoder, accept_clean_end, start_grace_period),
        )
        return CompositeDisposable(
            slow_path.subscribe(observer, scheduler=scheduler),
            stream.subscribe(
                fast_path.on_next, fast_path.on_error, fast_path.on_completed, scheduler=scheduler
            ),
        )

    return operate(subscribe_to)


class _FastPath:
    """The observer of the blocks of one subscription, which sends each event down one path."""

    __slots__ = (
        "_decode_simple",
        "_emit",
        "_has_begun",
        "_is_bypassed",
        "_max_bytes",
        "_partial_event",
        "_slow_path",
    )

    _slow_path: abc.ObserverBase[bytes]

    def __init__(
        self,
        decoder: CompletionDecoder,
        observer: abc.ObserverBase[CompletionEvent],
        max_bytes: int,
    ) -> None:
        self._decode_simple = decoder.decode_simple
        self._emit = observer.on_next
        self._max_bytes = max_bytes
        self._partial_event = b""
        self._has_begun = False  # the first event has passed
        self._is_bypassed = False  # all blocks take the slow path

    def connect_slow_path(
        self, observer: abc.ObserverBase[bytes], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        self._slow_path = observer
        return Disposable()

    def on_next(self, block: bytes) -> None:
        if self._is_bypassed:
            self._slow_path.on_next(block)
            return
        block = self._partial_event + block
        if b"\r" in block or len(block) > self._max_bytes:
            self._bypass(block)
            return
        simple = _split_simple(block) if self._has_begun else None
        if simple is None:
            self._split(block)
            return
        data, self._partial_event = simple
        for each in data:
            completion = self._decode_simple(each)
            if completion is not None:
                self._emit(completion)
            else:
                self._slow_path.on_next(b"data: " + each + b"\n\n")

    def on_error(self, error: Exception) -> None:
        self._bypass(self._partial_event)
        self._slow_path.on_error(error)

    def on_completed(self) -> None:
        self._bypass(self._partial_event)
        self._slow_path.on_completed()

    def _split(self, block: bytes) -> None:
        *whole, partial = block.split(b"\n\n")
        self._partial_event = partial
        self._has_begun = self._has_begun or bool(whole)
        for event in whole:
            self._slow_path.on_next(event + b"\n\n")
        if partial and not _may_be_simple(partial):
            self._bypass(partial)

    def _bypass(self, block: bytes) -> None:
        if not self._is_bypassed:
            self._is_bypassed = True
            self._slow_path.on_next(block)


def _split_simple(block: bytes) -> tuple[list[bytes], bytes] | None:
    """Returns the data of each event of a block, and an unfinished one, if all are simple."""
    if block[:6] != b"data: " or block.find(b'"error"') >= 0:  # faster than `in`
        return None
    if block[-2:] == b"\n\n" and block.count(b"\n") == 2:  # one event, as for most tokens
        return [block[6:-2]], b""
    end = block.rfind(b"\n\n")
    partial = block[end + 2 :]
    if end < 6:
        return None
    if partial and not _may_be_simple(partial):
        return None
    data = block[6:end].split(b"\n\ndata: ")
    # An event of two lines, or a comment between two events, has more line ends.
    return (data, partial) if block.count(b"\n", 0, end) == 2 * len(data) - 2 else None


def _may_be_simple(partial: bytes) -> bool:
    # Anything else must not wait for its end: a line of JSON outside of an event is an error.
    return (
        (partial[:6] == b"data: " or b"data: ".startswith(partial))
        and partial.find(b"\n", 0, -1) < 0
        and len(partial) <= _MAX_PARTIAL_EVENT_BYTES
    )
