"""AnswerStream: an answer, whose outcome and `close()` belong to all Streams piped from it, too."""

from __future__ import annotations

from typing import Self, TypeVar

from reactivex import abc

from .live_subscriptions import LiveSubscriptions
from .stream import Stream
from .threads import register_for_fork

__all__ = ["AnswerStream"]

T_out = TypeVar("T_out", covariant=True)


class AnswerStream(Stream[T_out]):
    """A Stream whose `outcome` and `close()` are also those of every Stream piped from it.

    A subclass has the outcome, and adds each subscription to `_live`.
    """

    def __init__(self, subscribe: abc.Subscription[T_out] | None = None) -> None:
        super().__init__(subscribe)
        self._live = LiveSubscriptions()  # disposed by close() and by the end of a block
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets the subscriptions, in the child of a fork: they are the parent's."""
        self._live = LiveSubscriptions()

    def close(self) -> None:
        """Stops every subscription to this Stream, from any thread, without blocking.

        A loop that reads the Stream ends. An operator that reads it among other sources, such
        as `merge`, gets `StoppedError`.
        """
        self._stop()

    def _answer_of_pipe(self) -> Self:
        return self

    def _stop(self) -> None:
        super()._stop()
        live, self._live = self._live, LiveSubscriptions()
        live.dispose()

    def track(self, reader: abc.DisposableBase) -> None:
        """Has `close()` end a subscription or a loop over a Stream that is piped from this."""
        self._live.track(reader)

    def _track_loop(self, loop: abc.DisposableBase) -> None:
        super()._track_loop(loop)
        self.track(loop)
