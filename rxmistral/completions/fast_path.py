r"""Blocks to completions, with a shortcut for the blocks that nearly all servers send.

    block ──▶ "data: {...}\n\n" ─────────────── decoded as it is ──────────────▶ completion
          └─▶ anything else ──▶ lines() ──▶ events() ──▶ completions_into() ──▶ completion

A chunk that stands alone in an event of one line needs no line and no event made of it:
its bytes are decoded where they are, which halves the cost of a token. What is not so
simple goes the whole way: the first event, which may begin with a BOM, a finish_reason and
all that follows it, `[DONE]`, usage, errors, half emojis, whatever msgspec refuses. An event goes one way or the other as a
whole, so the whole way is always between two events when the shortcut is taken. A body
that ends its lines in other ways, or has an event that takes many blocks, goes the whole
way from there on.
"""

from __future__ import annotations

from collections.abc import Callable

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable

from ..models import CompletionEvent
from ..rx.stream import Stream
from ..wire import events, lines
from .decoding import CompletionDecoder, completions_into

__all__ = ["completions_of_blocks"]

_LONG = 16 * 1024  # bytes of an event that has not ended


def completions_of_blocks(
    make_decoder: Callable[[], CompletionDecoder],
    *,
    max_bytes: int,
    accept_clean_end: bool,
    hurry: Callable[[], None] | None = None,
) -> Callable[[Observable[bytes]], Stream[CompletionEvent]]:
    """What `lines()`, `events()` and `completions_into()` do, in one step where that can be."""

    def operate(source: Observable[bytes]) -> Stream[CompletionEvent]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[CompletionEvent],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            decoder = make_decoder()
            take, emit = decoder.take, observer.on_next
            entry: abc.ObserverBase[bytes]
            rest = b""  # of an event that has not ended
            began = long_way_only = False

            def on_next(block: bytes) -> None:
                nonlocal rest, began
                if long_way_only:
                    entry.on_next(block)
                    return
                block = rest + block
                if b"\r" in block or len(block) > max_bytes:
                    go_long_way(block)
                    return
                simple = _simple(block) if began else None
                if simple is not None:
                    data, rest = simple
                    for each in data:
                        completion = take(each)
                        if completion is not None:
                            emit(completion)
                        else:
                            entry.on_next(b"data: " + each + b"\n\n")
                else:
                    *whole, rest = block.split(b"\n\n")
                    began = began or bool(whole)
                    for event in whole:
                        entry.on_next(event + b"\n\n")
                    if rest and not _may_be_simple(rest):
                        go_long_way(rest)

            def go_long_way(block: bytes) -> None:
                nonlocal long_way_only
                long_way_only = True
                entry.on_next(block)

            def on_error(error: Exception) -> None:
                if not long_way_only:
                    go_long_way(rest)
                entry.on_error(error)

            def on_completed() -> None:
                if not long_way_only:
                    go_long_way(rest)
                entry.on_completed()

            def enter(
                first: abc.ObserverBase[bytes], _: abc.SchedulerBase | None = None
            ) -> abc.DisposableBase:
                nonlocal entry
                entry = first
                return Disposable()

            long_way = Stream(enter).pipe(
                lines(max_bytes=max_bytes),
                events(max_bytes=max_bytes),
                completions_into(lambda: decoder, accept_clean_end, hurry),
            )
            return CompositeDisposable(
                long_way.subscribe(
                    emit, observer.on_error, observer.on_completed, scheduler=scheduler
                ),
                stream.subscribe(on_next, on_error, on_completed, scheduler=scheduler),
            )

        return Stream(subscribe)

    return operate


def _simple(block: bytes) -> tuple[list[bytes], bytes] | None:
    """The data of the events of a block, and the beginning of one more; None if they are
    not all simple."""
    if block[:6] != b"data: " or block.find(b'"error"') >= 0:  # faster than `in`
        return None
    if block[-2:] == b"\n\n" and block.count(b"\n") == 2:  # one: so a token comes
        return [block[6:-2]], b""
    end = block.rfind(b"\n\n")
    rest = block[end + 2 :]
    if end < 6:
        return None
    if rest and not _may_be_simple(rest):
        return None
    data = block[6:end].split(b"\n\ndata: ")
    # An event of two lines, or a comment between two events, has more line ends.
    return (data, rest) if block.count(b"\n", 0, end) == 2 * len(data) - 2 else None


def _may_be_simple(rest: bytes) -> bool:
    """Whether the beginning of an event can be that of a simple one: what is not must not
    wait for its end, since a line of JSON where none belongs is an error at once."""
    return (
        (rest[:6] == b"data: " or b"data: ".startswith(rest))
        and rest.find(b"\n", 0, -1) < 0
        and len(rest) <= _LONG
    )
