"""One subscription for any number of viewers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from reactivex import Observable

from .sharing import check_shared
from .stream import SharedStream

__all__ = ["shared"]

T = TypeVar("T")


def shared(
    linger: float | None = None, max_items: int | None = None
) -> Callable[[Observable[T]], SharedStream[T]]:
    """Anything into one run of it, for any number of viewers; as `Stream.shared`.

        --a--b-----c----d--|->       the one subscription to the source
          a--b-----c----d--|->       the first viewer begins it
                 abc----d--|->       one that comes late, or after the end

    It shares what stands before it in the pipe; what stands after it is each viewer's own.
    At the end of a Stream's pipe the method says the same, and the type checkers know
    then that the result can be stopped: `answer.pipe(text()).shared()`.

    Args:
        linger: Seconds after which a run that nobody watches any more is stopped; 0 stops
            it when the last viewer leaves. None lets it go on to its end.
        max_items: How many items are kept, the last ones, be they text or not. None keeps
            all.

    Emits: to each viewer all items, those that are there at once and then what comes.
    Holds: each item once, as long as the result is kept.
    Completes: as the source does; for who comes later, too.
    Errors: likewise; `StoppedError` where it was stopped, by `stop()` or as `linger` says,
        and `LaggedError` for who needs an item that is not kept.

    >>> import reactivex
    >>> asked = []
    >>> ask = reactivex.defer(lambda _: asked.append("once") or reactivex.of("All ", "at ", "once."))
    >>> answer = ask.pipe(shared())
    >>> list(answer), answer.run(), asked
    (['All ', 'at ', 'once.'], 'once.', ['once'])
    """
    check_shared(linger, max_items)
    return lambda source: SharedStream(source, linger, max_items)
