"""Answer, the Stream that `Conversation.ask` returns, and its text.

Both count the items that a loop over them has taken, or that any other reader has received.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from weakref import WeakKeyDictionary

from reactivex import abc

from ..checks import check_integer
from ..completions.parts import Part, TextDelta
from ..outcome import Outcome
from ..rx.iteration import AsyncIteration, iterate
from ..rx.leaving import leaving
from ..rx.opened_loops import OpenedLoops
from ..rx.stoppable_run import CountedLoop, Taken, counted
from ..rx.stream import Stream
from ..text.text_stream import TextStream
from .part_stream import PartStream, texts_of
from .turn import Turn

__all__ = ["Answer"]

T = TypeVar("T")


class _CountedLoops(Generic[T]):
    """The loops over a Stream, which count what they take; a base class of the Stream."""

    if TYPE_CHECKING:  # of Stream

        def _track_loop(self, loop: abc.DisposableBase) -> None: ...
        def _loops_here(self) -> OpenedLoops[Any] | None: ...

    @abstractmethod
    def _counted_by(self, taken: Taken) -> Stream[T]:
        """Returns the Stream that a loop reads, whose reader is counted by `taken`."""

    @abstractmethod
    def _taken(self) -> Taken: ...

    def _iterate(self, scheduler: abc.SchedulerBase | None = None) -> Iterator[T]:
        taken = self._taken()
        return counted(iterate(self._counted_by(taken), self._track_loop, scheduler), taken)

    def __aiter__(self) -> AsyncIterator[T]:
        taken = self._taken()
        source, loops = self._counted_by(taken), self._loops_here()
        if loops is None:
            return CountedLoop(AsyncIteration(source, self._track_loop), taken)
        # A loop that was left with `break` goes on, and counts on.
        loop = loops.asynchronous(source, self._track_loop)
        return CountedLoop(loop, _taken_by.setdefault(loop, taken))


_taken_by: WeakKeyDictionary[Any, Taken] = WeakKeyDictionary()


class Answer(_CountedLoops[Part], PartStream):
    """The answer to one prompt: a cold Stream of its parts, and one turn of the conversation.

    The first subscription, loop or `run()` begins the turn; a later one shares its run, and
    first receives the parts so far. The run ends when its last reader leaves.
    """

    def __init__(self, turn: Turn, enter: Callable[[Turn], None]) -> None:
        super().__init__()
        self._turn = turn
        self._enter = enter
        self._run = turn.run

    def __repr__(self) -> str:
        outcome = self.outcome
        state = "not sent" if self._turn.stream is None else "running"
        return f"<{type(self).__name__}, {state if outcome is None else outcome.status}>"

    @property
    def outcome(self) -> Outcome | None:
        stream = self._turn.stream
        return None if stream is None else stream.outcome

    def delivered(self, characters: int | None = None, *, text: str | None = None) -> None:
        """Reports how much of the answer has reached the user, such as what a voice has spoken.

        The answer enters the history as far as this mark, instead of as far as it was emitted.
        The last call counts; a call after the next turn has begun has no effect.

        Args:
            characters: The position in the whole text of the answer, without its thinking.
            text: The text so far; blanks may differ. Give one of both.

        Raises:
            ValueError: The answer does not begin with `text`, or not one of both is given.
        """
        if (characters is None) == (text is None):
            raise ValueError("give characters or text: one of both")
        if characters is not None:
            check_integer("characters", characters, 0)
        elif not isinstance(text, str):
            raise TypeError(f"text must be a str, got {type(text).__name__}")
        self._turn.mark(characters, text)

    # --- reading ---

    def text(self) -> TextStream:
        """Returns the text of the answer."""
        return _AnswerText(self)

    def read(
        self,
        taken: Taken | None,
        observer: abc.ObserverBase[Part],
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        self._enter(self._turn)
        subscribe = partial(self._turn.subscribe, scheduler=scheduler)
        return self._turn.run.read(observer, subscribe, taken)

    def _subscribe_core(
        self, observer: abc.ObserverBase[Part], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return self.read(None, observer, scheduler)

    def _taken(self) -> Taken:
        return Taken(self._turn.run, lambda _: True)

    def _counted_by(self, taken: Taken) -> Stream[Part]:
        return Stream(partial(self.read, taken))

    def _answer_of_pipe(self) -> Self:
        return self

    # --- one run, and its end ---

    def close(self) -> None:
        """Ends the answer and all its readers, from any thread, without blocking.

        An operator that reads it among other sources, such as `answer_each`, gets `StoppedError`.
        """
        self._stop()

    def _stop(self) -> None:
        self._turn.run.close()

    def track(self, reader: abc.DisposableBase) -> None:
        """Has `close()` end a subscription or a loop over a Stream that is piped from this."""
        self._turn.run.track(reader)

    def __enter__(self) -> Self:
        self._check_not_open()
        self._turn.run.is_open = True
        self._loops = OpenedLoops()
        return self

    def __exit__(self, *_: object) -> None:
        self._loops = None
        run = self._turn.run
        run.is_open = False
        if self._turn.has_entered:  # else it may be read later
            with leaving:
                run.close()

    def __del__(self) -> None:
        if self._loops is not None:  # an abandoned block
            self.__exit__()


class _AnswerText(_CountedLoops[str], TextStream):
    """The text of an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(texts_of(TextDelta)(answer)._subscribe_core)
        self._parts = answer
        self._answer = answer

    def _taken(self) -> Taken:
        return Taken(self._parts._turn.run, lambda part: isinstance(part, TextDelta))

    def _counted_by(self, taken: Taken) -> Stream[str]:
        return texts_of(TextDelta)(self._parts._counted_by(taken))
