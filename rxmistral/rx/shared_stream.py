"""SharedStream: one run of a Stream, for any number of viewers (see `sharing`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

from reactivex import Observable, abc

from ..checks import check_integer
from .current_iteration import current_reader
from .history import CatchUp, Entry, WhenBehind, all_entries, all_items, catch_up_policy
from .live_subscriptions import LiveSubscriptions
from .opened_loops import OpenedLoops
from .sharing import SharedRun, check_shared
from .stream import AnswerHandle, Stream

__all__ = ["SharedStream", "shared"]

T = TypeVar("T")


class SharedStream(Stream[T]):
    """One run and its viewers (see `Stream.shared`); each subscription is a viewer.

    The callbacks of all viewers run on one shared thread. A viewer that is slow again and again
    moves to a thread of its own; if one blocks, the others continue on another thread after
    about 0.15 seconds. When the interpreter exits, it waits for the end of a run that has
    a subscription; it does not wait for a run that is only read by loops.

    The end of a `with` block disposes the viewers that the block's own task or thread
    started, and does not stop the run. This can be open in one block at a time; several
    blocks need a view or a pipe each.
    """

    _opener: object = None  # the task or thread that has opened a `with` block
    _live: LiveSubscriptions | None = None  # the viewers that it has started in the block

    def __init__(
        self, source: Observable[T], linger: float | None = None, max_items: int | None = None
    ) -> None:
        check_shared(linger, max_items)
        self._shared_run = run = SharedRun[T](source, linger, max_items)
        super().__init__(lambda observer, _: run.join(observer, all_items))

    def __enter__(self) -> Self:
        self._check_not_open()
        self._live, self._loops = LiveSubscriptions(), OpenedLoops()
        self._opener = current_reader()
        return self

    def __exit__(self, *_: object) -> None:
        self._opener = None
        super().__exit__()

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.dispose()

    def _loops_here(self) -> OpenedLoops[Any] | None:
        return self._loops if self._opener == current_reader() else None

    def _answer_of_pipe(self) -> AnswerHandle | None:
        # Its viewers read the run, and not the answer by themselves.
        return None if self._answer is None else self

    def track(self, reader: abc.DisposableBase) -> None:
        """Does nothing: `close()` ends the run, whose end ends its viewers."""

    def _live_here(self) -> LiveSubscriptions | None:
        return self._live if self._opener == current_reader() else None

    def _track_loop(self, loop: abc.DisposableBase) -> None:
        live = self._live_here()
        if live is not None:
            live.add(loop)

    def _subscribe_source(
        self, observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        live = self._live_here()
        viewer = super()._subscribe_source(observer, scheduler)
        if live is not None:
            live.add(viewer)
        return viewer

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._shared_run}>"

    def start(self) -> Self:
        """Starts the run before its first viewer, for example when a prompt was accepted.

        Returns at once, with this stream; has no effect on a run that was started or stopped.
        With `linger`, a run that is not viewed within that time is stopped. The interpreter does
        not wait for a run without viewers.

        >>> import reactivex
        >>> words = Stream.of(reactivex.of("All ", "at ", "once.")).shared().start()
        >>> words
        <SharedStream 3 items, 0 viewers, ended>
        """
        self._shared_run.start()
        return self

    def stop(self) -> None:
        """Cancels the run for all viewers, from any thread, without blocking.

        All viewers, including later ones, receive the items emitted so far, and then
        `StoppedError`. A run that is stopped before its first viewer sends no request.
        """
        self._shared_run.stop()

    def view(self, when_behind: WhenBehind, max_items: int | None = None) -> Stream[T]:
        """Returns the run for viewers that must not lag far.

            --a--b--c--d--e--f--|->      emitted while a viewer is busy with "a":
              a-------------bcdef|->     "merge"
              a-------------f-----|->    "latest"
              a-------------X            "fail"

        Args:
            when_behind: What happens when a viewer lags by more than `max_items`:
                "wait": the source waits for the viewer, and so do all other viewers. A
                source that emits on an event loop cannot wait.
                "merge": the viewer receives everything it lacks as one `str`.
                "latest": the viewer receives the latest item and skips those before it; for
                items that replace each other, such as snapshots.
                "fail": the viewer ends with `LaggedError`.
            max_items: Number of items; "wait" and "fail" do not count those emitted before the
                viewer joined. Default: 1 for "merge" and "latest", 512 for "wait" and "fail".

        Errors: as the run does; `LaggedError` for "fail"; `TypeError` if "merge" receives an
            item that is not text.

        >>> import reactivex
        >>> words = Stream.of(reactivex.of("All ", "at ", "once.")).shared()
        >>> words.run()
        'once.'
        >>> list(words.view("merge"))
        ['All at once.']
        >>> list(words.view("latest"))
        ['once.']
        """
        return self._joined(*catch_up_policy(when_behind, max_items))

    def entries(self, after: int = 0) -> Stream[Entry[T]]:
        """Returns the items together with their ids, which count from 1.

        Args:
            after: The id of the last item to skip; default 0: none is skipped.

        Raises:
            ValueError: `after` is less than 0.

        >>> import reactivex
        >>> words = Stream.of(reactivex.of("All ", "at ", "once.")).shared()
        >>> list(words.entries(after=1))
        [Entry(id=2, item='at '), Entry(id=3, item='once.')]
        """
        check_integer("after", after, 0)
        return self._joined(all_entries, None, after)

    def _joined(self, catch_up: CatchUp, max_lag: int | None, after: int = 0) -> Stream[Any]:
        def subscribe(
            observer: abc.ObserverBase[Any], _: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            live = self._live_here()
            viewer = self._shared_run.join(observer, catch_up, after, max_lag)
            if live is not None:
                live.add(viewer)
            return viewer

        joined: Stream[Any] = self._as_stream(Stream(subscribe))
        return joined


def shared(
    linger: float | None = None, max_items: int | None = None
) -> Callable[[Observable[T]], SharedStream[T]]:
    """Any items into one run of them, for any number of viewers.

        --a--b-----c----d--|->       the one subscription to the source
          a--b-----c----d--|->       the first viewer starts it
                 abc----d--|->       a viewer that subscribes late, or after the end

    All viewers share one subscription, and one request. A slow viewer delays neither the source
    nor, for more than a moment, the others (see `SharedStream.view`). An exception of a viewer's
    callback is passed to the `on_error` of that viewer alone. `stop()` ends the run.

    Everything before this operator in the pipe is shared; operators after it run once for
    each viewer. At the end of a pipe prefer the method, so that the type checkers know that the
    result can be stopped: `answer.pipe(text()).shared()`.

    Args:
        linger: Seconds after which a run without viewers is stopped; 0 stops it when the
            last viewer leaves. None: it continues to its end.
        max_items: Number of latest items to keep, text or not. None: all are kept.

    Emits: to each viewer all items emitted so far, at once, and then live items.
    Holds: each item once, as long as the result exists.
    Completes: when the source does; at once for viewers that subscribe after that.
    Errors: as the source does; `StoppedError` after `stop()` or when `linger` has expired;
        `LaggedError` for a viewer that needs an item that is no longer kept.

    >>> import reactivex
    >>> asked = []
    >>> ask = reactivex.defer(lambda _: asked.append("once") or reactivex.of("All ", "at ", "once."))
    >>> answer = ask.pipe(shared())
    >>> list(answer), answer.run(), asked
    (['All ', 'at ', 'once.'], 'once.', ['once'])
    """
    check_shared(linger, max_items)
    return lambda source: SharedStream(source, linger, max_items)
