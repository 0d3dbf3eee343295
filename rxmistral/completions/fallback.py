"""Several streams, one answer: the first that brings something.

    fallback   a ──✗                     the next when one fails
                   b ────useful──▶

    hedge      a ───────────────✗        the next when one is late
                    b ────useful──▶

What it must do: show the events of one stream only, all of them and in their order,
however close the race is; and end the requests of the others at once. What it may cost:
nothing, once that is decided. So each stream has a candidate, which holds what comes
until some of it is useful, and then asks whether it is the first; that takes a lock, once.
From then on it alone emits, and an item costs a look at a flag that is its own.

Where a winner breaks after text, and that is wanted, a stream behind it is asked for the
rest: it begins as the winner.

Whoever starts a stream also starts the next one, where the first has failed before its
`subscribe` came back: streams that fail at once, one after the other, need no deep stack.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from threading import RLock, Thread, current_thread
from typing import Any

from reactivex import Observable, Observer, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler

from ..checks import check_number
from ..errors import AllFailedError, MistralError, StreamError
from ..models import CompletionChunk, CompletionEvent
from ..rx.request_counter import current_counter
from ..rx.stream import Stream
from .accumulator import CompletionAccumulator
from .decoding import without_failure
from .inputs import completions_for

__all__ = ["fallback", "hedge"]

Completions = Observable[CompletionEvent]
Events = abc.ObserverBase[CompletionEvent]


class Candidate(Events):
    """One of the streams; holds its events until it is certain that they are the answer."""

    def __init__(self, contest: Contest, number: int, *, wins: bool = False) -> None:
        self.number = number
        self.subscription = SingleAssignmentDisposable()
        self.error: Exception | None = None
        self._contest = contest
        self._emit = contest.observer.on_next
        self._held: list[CompletionEvent] = []
        self._wins = wins
        self._passes = wins  # it has won, and nothing is held

    def on_next(self, value: Any) -> None:
        if self._passes:
            self._emit(value)
            return
        if not isinstance(value, CompletionEvent):
            self._contest.observer.on_error(self._contest.takes.error_for(value))
            return
        self._held.append(value)
        if self._contest.decides(value.data) and self._contest.won_by(self):
            self.release()

    def release(self) -> None:
        """Emit what is held; what a subscriber makes it bring meanwhile comes after that."""
        self._wins = True
        try:
            for event in self._held:
                self._emit(event)
        finally:
            self._held = []
            self._passes = True

    def on_error(self, error: Exception) -> None:
        if self._wins:
            self._contest.broke(self, error)
        else:
            self._contest.ended(self, error)

    def on_completed(self) -> None:
        if self._wins:
            self._contest.observer.on_completed()
        else:
            self._contest.ended(self, None)


class Contest(abc.DisposableBase):
    """Starts the streams, and knows which of them is the answer.

    Args:
        streams: To be started in this order.
        observer: Gets the events of one of them.
        scheduler: Of the subscription.
        decides: Whether a completion makes its stream the answer.
        delay: Seconds after which the next is started beside those that are running;
            None if it never is.
        clock: Keeps the time.
    """

    def __init__(
        self,
        streams: tuple[Completions, ...],
        observer: Events,
        scheduler: abc.SchedulerBase | None,
        decides: Callable[[CompletionChunk], bool],
        delay: float | None,
        clock: abc.SchedulerBase,
    ) -> None:
        self.observer = observer
        self.takes = completions_for("fallback" if delay is None else "hedge")
        self.decides = decides
        self._streams = streams
        self._scheduler = scheduler
        self._delay = delay
        self._clock = clock
        self._context = copy_context()  # of who subscribed, for the streams to come
        self._daemon = current_thread().daemon
        self._timer = SerialDisposable()
        # Reentrant, since garbage collection may dispose it at any moment.
        self._lock = RLock()
        self._candidates: list[Candidate] = []
        self._running = 0
        self._starting = 0  # are in the middle of their `subscribe`
        self._empty: Candidate | None = None  # the first that ended as it should, with nothing
        self._decided = False  # it is won, or lost by all, or disposed
        self._over = False  # it is disposed

    def begin(self) -> None:
        for number in range(len(self._streams) if self._delay == 0 else 1):
            self._start(number)

    def _start(self, number: int) -> None:
        """The stream of this number, unless somebody has done so."""
        with self._lock:
            if self._decided or number != len(self._candidates):
                return
            candidate = Candidate(self, number)
            self._candidates.append(candidate)
            self._running += 1
            self._starting += 1
        try:
            if self._delay and number + 1 < len(self._streams):
                with suppress(RuntimeError):  # no thread can be started: it runs alone
                    self._timer.disposable = self._clock.schedule_relative(
                        self._delay, lambda *_: self._start_on_fitting_thread(number + 1)
                    )
            candidate.subscription.disposable = self._context.copy().run(
                self._streams[number].subscribe, candidate, scheduler=self._scheduler
            )
        finally:
            with self._lock:
                self._starting -= 1
        self._look()

    def _start_on_fitting_thread(self, number: int) -> None:
        """A timer's thread is a daemon, and so would be the reader that it starts: a
        script that ends in a plain `subscribe` would exit in the middle of the answer."""
        if not self._daemon and current_thread().daemon:
            starter = Thread(
                target=self._start, args=(number,), name="rxmistral-start", daemon=False
            )
            with suppress(RuntimeError):  # there are too many; a reader will say so
                starter.start()
                return
        self._start(number)

    def _look(self) -> None:
        """Whether it is time for the next, or for the end."""
        with self._lock:
            if self._decided or self._running or self._starting:
                return
            number = len(self._candidates)
            self._decided = all_ended = number == len(self._streams)
        if all_ended:
            self._end()
        else:
            self._start_on_fitting_thread(number)

    def ended(self, candidate: Candidate, error: Exception | None) -> None:
        """With nothing useful: an error, or an empty answer."""
        if error is None and self._delay is None and self.won_by(candidate):
            self._complete_with(candidate)
            return
        with self._lock:
            candidate.error = error
            if error is None:
                self._empty = self._empty or candidate
            self._running -= 1
        self._look()

    def _end(self) -> None:
        if self._empty is not None:
            self._complete_with(self._empty)
            return
        errors = tuple(each.error for each in self._candidates if each.error is not None)
        failed = AllFailedError(errors)
        failed.__cause__ = errors[-1]
        self.observer.on_error(failed)

    def _complete_with(self, empty: Candidate) -> None:
        # Its source has ended: what the subscriber raises has no other way to come out.
        try:
            empty.release()
        except Exception as raised:
            self.observer.on_error(raised)
            return
        self.observer.on_completed()

    def broke(self, candidate: Candidate, error: Exception) -> None:  # noqa: ARG002  # a relay asks
        """The winner has failed."""
        self.observer.on_error(error)

    def won_by(self, candidate: Candidate) -> bool:
        """Whether it is the first; then it is the only one, from now on."""
        with self._lock:
            if self._decided:
                return False
            self._decided = True
            losers = [each for each in self._candidates if each is not candidate]
        self._timer.dispose()
        for loser in losers:
            loser.subscription.dispose()
        return True

    def dispose(self) -> None:
        with self._lock:
            self._decided = self._over = True
            candidates = list(self._candidates)
        self._timer.dispose()
        for candidate in candidates:
            candidate.subscription.dispose()


class Relay(Contest):
    """A contest without a clock, in which the rest of an answer that broke is another
    stream's to bring."""

    def __init__(
        self,
        streams: tuple[Completions, ...],
        observer: Events,
        scheduler: abc.SchedulerBase | None,
        decides: Callable[[CompletionChunk], bool],
        delay: float | None,
        clock: abc.SchedulerBase,
    ) -> None:
        super().__init__(streams, observer, scheduler, decides, delay, clock)
        self._received = CompletionAccumulator(bounded=True)
        self._broken: StreamError | None = None
        emit = observer.on_next

        def on_next(event: CompletionEvent) -> None:
            self._received.feed(event.data)
            shown = without_failure(event) if self._received.failed else event
            if shown is not None:
                emit(shown)

        self.observer = Observer(on_next, observer.on_error, observer.on_completed)

    def broke(self, candidate: Candidate, error: Exception) -> None:
        if isinstance(error, StreamError):
            self._broken = error
            error.partial = self._received.response(with_unfinished=True)
        for number in range(candidate.number + 1, len(self._streams)):
            rest = self._rest_of(self._streams[number])
            if rest is not None and isinstance(error, MistralError):
                self._go_on(rest, number)
                return
        if self._broken is not None and error is not self._broken:
            self._broken.add_note(f"what was to continue it failed: {error}")
            error = self._broken
        self.observer.on_error(error)

    def _rest_of(self, stream: Completions) -> Completions | None:
        received = self._received
        text = received.text()
        continued = getattr(stream, "continued", None)
        if continued is None or self._broken is None or not text:
            return None
        if received.finished or received.overflowed or received.has_tool_calls():
            return None
        rest: Completions | None = continued(text)
        return rest

    def _go_on(self, rest: Completions, number: int) -> None:
        self._received.begin_again()
        candidate = Candidate(self, number, wins=True)
        with self._lock:
            if self._over:
                return
            self._candidates.append(candidate)
        counter = self._context.get(current_counter)
        if counter is not None:
            counter.count_resume()
        candidate.subscription.disposable = self._context.copy().run(
            rest.subscribe, candidate, scheduler=self._scheduler
        )


def _contest(
    streams: tuple[Completions, ...],
    decides: Callable[[CompletionChunk], bool],
    delay: float | None,
    scheduler: abc.SchedulerBase | None,
    kind: type[Contest] = Contest,
) -> Stream[CompletionEvent]:
    given = scheduler

    def subscribe(
        observer: Events, scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        clock = given or scheduler or TimeoutScheduler.singleton()
        contest = kind(streams, observer, scheduler, decides, delay, clock)
        contest.begin()
        return contest

    return Stream(subscribe)


def _brings_something(chunk: CompletionChunk) -> bool:
    """Text, thinking or a tool call."""
    return _news_in(chunk) not in ("", "finish")


def _brings_something_or_ends(chunk: CompletionChunk) -> bool:
    return _news_in(chunk) != ""


def _news_in(chunk: CompletionChunk) -> str:
    builder = CompletionAccumulator()
    builder.feed(chunk)
    return builder.news


# --- the combinators -------------------------------------------------------------


def fallback(
    *streams: Observable[CompletionEvent], resume: bool = False
) -> Stream[CompletionEvent]:
    """Streams of completions into one: the next where one fails before it brings anything.

        a  --role--✗
        b            --role--a--b--c-|->
           ------------------role,a--b--c-|->

    Useful is text, thinking, a tool call or a finish_reason: an answer that is empty, but
    ends as it should, is an answer, and another model's would be another one. What comes
    before that is held. There is one connection at a time: the next stream is subscribed
    to when the one before has given its connection back.

    Args:
        streams: To be tried in this order; any Observables of completions.
        resume: Where a stream breaks after text, ask the next for the rest of the answer,
            as `Resume` asks the same one; those that `chat.stream` gives can be asked.

    Emits: the events of one stream, and nothing of those that failed before.
    Holds: the events of a stream until one is useful: a role, empty deltas.
    Completes: as that stream does.
    Errors: after something useful, that of its stream. `AllFailedError` where all failed
        before.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice, DeltaMessage
    >>> choice = CompletionResponseStreamChoice(delta=DeltaMessage(content="Hi"))
    >>> works = reactivex.of(CompletionEvent(data=CompletionChunk(choices=[choice])))
    >>> fails = reactivex.throw(ConnectionError("nobody listens"))
    >>> [event.data.choices[0].delta.content for event in fallback(fails, works)]
    ['Hi']
    """
    kind = Relay if resume else Contest
    return _contest(_checked("fallback", streams), _brings_something_or_ends, None, None, kind)


def hedge(
    *streams: Observable[CompletionEvent],
    delay: float,
    scheduler: abc.SchedulerBase | None = None,
) -> Stream[CompletionEvent]:
    """Streams of completions into one: the next where one is late, and the first that
    brings something useful.

        a  --role----------------x   its connection is closed
        b            --role--a--b--c-|->
           ------------------role,a--b--c-|->
           '--delay--'

    Useful is text, thinking or a tool call: an error, a role or an empty answer wins
    nothing. The others are disposed before the first event is emitted, so they cost no
    more than they have until then.

    Args:
        streams: To be started in this order; any Observables of completions.
        delay: Seconds that a stream has for something useful before the next is started
            beside it; 0 starts all at once. The next is started earlier where none is
            running any more.
        scheduler: Keeps the time; by default the one of the subscription, or else a
            `TimeoutScheduler`. One that belongs to an event loop must be its
            thread-safe kind where a source emits on another thread.

    Emits: the events of the winner, on its thread.
    Holds: the events of a stream until one is useful: a role, empty deltas.
    Completes: as the winner does; with the first answer that came to be empty, where all
        others failed or were empty as well.
    Errors: that of the winner. `AllFailedError` where all failed.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice, DeltaMessage
    >>> choice = CompletionResponseStreamChoice(delta=DeltaMessage(content="Hi"))
    >>> quick = reactivex.of(CompletionEvent(data=CompletionChunk(choices=[choice])))
    >>> silent = reactivex.never()
    >>> [event.data.choices[0].delta.content for event in hedge(silent, quick, delay=0.01)]
    ['Hi']
    """
    check_number("delay", delay, 0)
    return _contest(_checked("hedge", streams), _brings_something, delay, scheduler)


def _checked(name: str, streams: tuple[object, ...]) -> tuple[Completions, ...]:
    if not streams:
        raise ValueError(f"{name} needs a stream at least")
    for stream in streams:
        if not isinstance(stream, Observable):
            raise TypeError(f"{name} takes Observables, got {type(stream).__name__}")
    return streams  # type: ignore[return-value]  # as checked
