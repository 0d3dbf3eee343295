r"""Blocks to completions, with a fast path for the blocks that nearly all servers send.

    block ──▶ "data: {...}\n\n" ─────────────── decoded in place ──────────────▶ completion
          └─▶ anything else ──▶ lines ──▶ events ──▶ completions ──▶ completion

Strategy: a chunk that is alone in an event of one line needs neither a line object nor an event
object. Its bytes are decoded in place, which halves the cost of a token. Everything else takes
the slow path: the first event, which may begin with a BOM; the finish_reason and all that
follows it; `[DONE]`, usage, errors, halves of surrogate pairs, and whatever msgspec rejects.

An event takes one path as a whole, so the slow path is between two events when the fast path is
taken. A body with other line ends, or with an event of many blocks, stays on the slow path. This
consists of the observers of those three operators, without the Streams between them.
"""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable

from ..models import CompletionEvent
from ..rx.state_machine import MachineObserver, operate
from ..rx.stream import Stream
from ..rx.subscriber import Subscriber
from ..wire.events import LineObserver
from ..wire.lines import BLOCKS, LineDecoder
from .decoding import CompletionDecoder, EventObserver

__all__ = ["completions_of_blocks"]

_LF = 0x0A
_MAX_PARTIAL_EVENT_BYTES = 16 * 1024  # on the fast path


def completions_of_blocks(
    make_decoder: Callable[[], CompletionDecoder],
    *,
    max_bytes: int,
    accept_clean_end: bool,
    start_grace_period: Callable[[], None] | None = None,
) -> Callable[[Observable[bytes]], Stream[CompletionEvent]]:
    """Replaces `lines()`, `events()` and `completions_into()`, by one step if possible."""

    def subscribe_to(
        stream: Stream[bytes],
        observer: abc.ObserverBase[CompletionEvent],
        scheduler: abc.SchedulerBase | None,
    ) -> abc.DisposableBase:
        decoder = make_decoder()
        events = EventObserver(decoder, accept_clean_end, observer, scheduler, start_grace_period)
        # Without a Subscriber between them: the source ends exactly once, as every reader does,
        # and whatever follows an early end is stopped by the subscriber of this operator.
        blocks = stream._subscribe_core(_BlockObserver(decoder, events, observer, max_bytes))
        return CompositeDisposable(blocks, events)

    return operate(subscribe_to)


class _BlockObserver(abc.ObserverBase[bytes]):
    """The observer of the blocks of one subscription, which sends each event down one path."""

    __slots__ = (
        "_decode_simple",
        "_emit",
        "_emit_alone",
        "_has_begun",
        "_is_between_events",
        "_is_bypassed",
        "_max_bytes",
        "_observer",
        "_partial_event",
        "_slow_path",
    )

    def __init__(
        self,
        decoder: CompletionDecoder,
        events: EventObserver,
        observer: abc.ObserverBase[CompletionEvent],
        max_bytes: int,
    ) -> None:
        lines = LineObserver(events, max_bytes, events.on_truncated_event)
        self._slow_path = MachineObserver(LineDecoder(max_bytes), lines, BLOCKS)
        self._observer = observer
        self._decode_simple = decoder.decode_simple
        self._emit = observer.on_next
        # For an event that is alone in its block. The source emits no block after `dispose()`, so
        # the subscriber need not check that again.
        self._emit_alone: Callable[[CompletionEvent], object] = (
            observer.callback if isinstance(observer, Subscriber) else observer.on_next
        )
        self._max_bytes = max_bytes
        self._partial_event = b""
        self._is_between_events = False  # the last block ended with a whole event
        self._has_begun = False  # the first event has passed
        self._is_bypassed = False  # all blocks take the slow path

    def on_next(self, value: bytes) -> None:
        end = len(value) - 2
        if (
            self._is_between_events
            and value.find(b"\n") == end  # one event, as for most tokens
            and value[:6] == b"data: "
            and value[-1] == _LF
            and value.find(b'"error"') < 0  # faster than `in`
            and value.find(b"\r") < 0
            and end < self._max_bytes
        ):
            completion = self._decode_simple(value[6:end])
            if completion is not None:
                self._emit_alone(completion)
            else:
                self._slow_path.on_next(value)
            return
        for data in self._split_block(value):
            completion = self._decode_simple(data)
            if completion is not None:
                self._emit(completion)
            else:
                self._slow_path.on_next(b"data: " + data + b"\n\n")

    def _split_block(self, value: bytes) -> list[bytes]:
        """Returns the data of each event in a block, if all of them are simple.

        Otherwise, the events take the slow path.
        """
        if self._is_bypassed:
            self._slow_path.on_next(value)
            return []
        self._is_between_events = False
        block = self._partial_event + value
        if block.find(b"\r") >= 0 or len(block) > self._max_bytes:
            self._bypass(block)
            return []
        if not self._has_begun:
            block = self._begin(block)
        simple = self._split_simple(block)
        if simple is None:
            self._split(block)
        self._is_between_events = self._has_begun and not (self._partial_event or self._is_bypassed)
        return simple or []

    def on_error(self, error: Exception) -> None:
        self._end(lambda: self._slow_path.on_error(error))

    def on_completed(self) -> None:
        self._end(self._slow_path.on_completed)

    def _end(self, end: Callable[[], None]) -> None:
        try:
            self._bypass(self._partial_event)
            end()
        except Exception as raised:  # by the subscriber, which receives the last items
            if getattr(self._observer, "is_stopped", False):
                raise
            self._observer.on_error(raised)

    def _split_simple(self, block: bytes) -> list[bytes] | None:
        """Returns the data of each whole event of a block, and keeps the rest.

        If not all of them are simple, returns None and keeps nothing.
        """
        if block[:6] != b"data: " or block.find(b'"error"') >= 0:
            return None
        end = block.rfind(b"\n\n")
        partial = block[end + 2 :]
        if end < 6 or (partial and not _may_be_simple(partial)):
            return None
        data = block[6:end].split(b"\n\ndata: ")
        # An event of two lines, or a comment between two events, has more line ends.
        if block.count(b"\n", 0, end) != 2 * len(data) - 2:
            return None
        self._partial_event = partial
        return data

    def _begin(self, block: bytes) -> bytes:
        """Sends the first event down the slow path; returns the bytes that follow it."""
        end = block.find(b"\n\n") + 2
        if end < 2:
            return block
        self._has_begun = True
        self._slow_path.on_next(block[:end])
        return block[end:]

    def _split(self, block: bytes) -> None:
        *whole, partial = block.split(b"\n\n")
        self._partial_event = partial
        for event in whole:
            self._slow_path.on_next(event + b"\n\n")
        if partial and not _may_be_simple(partial):
            self._bypass(partial)

    def _bypass(self, block: bytes) -> None:
        if not self._is_bypassed:
            self._is_bypassed = True
            self._slow_path.on_next(block)


def _may_be_simple(partial: bytes) -> bool:
    # Anything else must not wait for its end: a line of JSON outside of an event is an error.
    return (
        (partial[:6] == b"data: " or b"data: ".startswith(partial))
        and partial.find(b"\n", 0, -1) < 0
        and len(partial) <= _MAX_PARTIAL_EVENT_BYTES
    )
