"""Several streams, one answer: the first stream that has useful output.

    fallback   a ──✗                     the next one when a stream fails
                   b ────useful──▶

    hedge      a ───────────────✗        the next one when a stream is slow
                    b ────useful──▶

The events of one stream only are emitted, all of them and in order, however close the race is,
and the requests of the others end at once.

Strategy: each stream has a candidate, which buffers events until one of them is useful, and then
tries to win the race; that needs a lock, once. From then on the winner alone emits, and an item
costs a check of its own flag. If the winner breaks after text, a stream after it may be asked
for the rest of the answer (mid-stream fallback); that stream starts as the winner. If a stream
fails before its `subscribe` returns, the call that started it also starts the next one, so that
streams that fail at once need no deep stack.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from threading import RLock, Thread, current_thread
from typing import Any, TypeAlias, cast

from reactivex import Observable, Observer, abc
from reactivex.disposable import SerialDisposable, SingleAssignmentDisposable
from reactivex.scheduler import TimeoutScheduler

from ..checks import check_number
from ..errors import AllFailedError, MistralError, StreamError
from ..models import CompletionChunk, CompletionEvent
from ..rx.request_counter import RequestCounter, current_counter
from .accumulator import CompletionAccumulator
from .choice import completions_for
from .completion_stream import CompletionStream
from .finish import without_failure
from .on_outcome import RecordedStream

__all__ = ["fallback", "hedge"]

_Source: TypeAlias = Observable[CompletionEvent]
_EventObserver: TypeAlias = abc.ObserverBase[CompletionEvent]


class _Candidate(_EventObserver):
    """One of the streams; it buffers its events until it has won."""

    def __init__(self, race: _Race, number: int, *, has_won: bool = False) -> None:
        self.number = number
        self.subscription = SingleAssignmentDisposable()
        self.counter = RequestCounter()
        self.error: Exception | None = None
        self._race = race
        self._emit = race.observer.on_next
        self._buffer: list[CompletionEvent] = []
        self._has_won = has_won
        self._passes_through = has_won  # it has won, and its buffer is empty

    def on_next(self, value: Any) -> None:
        if self._passes_through:
            self._emit(value)
            return
        if not isinstance(value, CompletionEvent):
            self._race.observer.on_error(self._race.accepted.error_for(value))
            return
        self._buffer.append(value)
        if self._race.is_useful(value.data) and self._race.win(self):
            self.release()

    def release(self) -> None:
        """Emits the buffer; events that a subscriber causes meanwhile follow it."""
        self._has_won = True
        try:
            for event in self._buffer:
                self._emit(event)
        finally:
            self._buffer = []
            self._passes_through = True

    def on_error(self, error: Exception) -> None:
        if self._has_won:
            self._race.on_winner_error(self, error)
        else:
            self._race.on_useless_end(self, error)

    def on_completed(self) -> None:
        if self._has_won:
            self._race.observer.on_completed()
        else:
            self._race.on_useless_end(self, None)


class _Race(abc.DisposableBase):
    """The race of the streams of one subscription; its winner is the answer.

    Args:
        delay: Seconds until the next stream is started while others are still running; None: a
            fallback, which starts it only when no stream is running.
        clock: Measures the delay; None: the scheduler of the subscription, or else a
            `TimeoutScheduler`.
    """

    def __init__(
        self,
        streams: tuple[_Source, ...],
        observer: _EventObserver,
        scheduler: abc.SchedulerBase | None,
        delay: float | None,
        clock: abc.SchedulerBase | None,
    ) -> None:
        self.observer = observer
        self.accepted = completions_for("fallback" if delay is None else "hedge")
        self._streams = streams
        self._scheduler = scheduler
        self._delay = delay
        self._clock = clock or scheduler or TimeoutScheduler.singleton()
        self._context = copy_context()  # of the subscriber, for streams that start later
        self._counter = current_counter.get()
        self._subscriber_is_daemon = current_thread().daemon
        self._timer = SerialDisposable()
        # Reentrant, since the garbage collection may dispose it at any moment.
        self._lock = RLock()
        self._candidates: list[_Candidate] = []
        self._running = 0
        self._starting = 0  # streams whose `subscribe` has not returned
        self._first_empty: _Candidate | None = None  # completed without useful output
        self._is_decided = False  # a stream has won, or all have failed, or it is disposed
        self._is_disposed = False

    def is_useful(self, chunk: CompletionChunk) -> bool:
        accumulator = CompletionAccumulator()
        accumulator.feed(chunk)
        kind = accumulator.new_output
        return kind != "" and (kind != "finish" or self._delay is None)

    def start(self) -> abc.DisposableBase:
        for number in range(len(self._streams) if self._delay == 0 else 1):
            self._start(number)
        return self

    def _start(self, number: int) -> None:
        with self._lock:
            if self._is_decided or number != len(self._candidates):
                return
            candidate = _Candidate(self, number)
            self._candidates.append(candidate)
            self._running += 1
            self._starting += 1
        try:
            if self._delay and number + 1 < len(self._streams):
                with suppress(RuntimeError):  # no thread can be started: the stream runs alone
                    self._timer.disposable = self._clock.schedule_relative(
                        self._delay, lambda *_: self._start_on_suitable_thread(number + 1)
                    )
            self._subscribe(candidate, self._streams[number])
        finally:
            with self._lock:
                self._starting -= 1
        self._start_next_or_end()

    def _subscribe(self, candidate: _Candidate, stream: _Source) -> None:
        candidate.counter.report_to(self._counter)
        context = self._context.copy()
        context.run(current_counter.set, candidate.counter)
        candidate.subscription.disposable = context.run(
            stream.subscribe, candidate, scheduler=self._scheduler
        )

    def _start_on_suitable_thread(self, number: int) -> None:
        # The thread of a timer is a daemon, and the reader that it starts would be one, too: a
        # script that ends in a plain `subscribe` would exit in the middle of the answer.
        if not self._subscriber_is_daemon and current_thread().daemon:
            starter = Thread(
                target=self._start, args=(number,), name="rxmistral-start", daemon=False
            )
            with suppress(RuntimeError):  # too many threads; the reader will report it
                starter.start()
                return
        self._start(number)

    def _start_next_or_end(self) -> None:
        with self._lock:
            if self._is_decided or self._running or self._starting:
                return
            number = len(self._candidates)
            self._is_decided = all_ended = number == len(self._streams)
        if all_ended:
            self._end_without_winner()
        else:
            self._start_on_suitable_thread(number)

    def on_useless_end(self, candidate: _Candidate, error: Exception | None) -> None:
        if error is None and self._delay is None and self.win(candidate):
            self._complete_with(candidate)
            return
        with self._lock:
            candidate.error = error
            if error is None:
                self._first_empty = self._first_empty or candidate
            self._running -= 1
        self._start_next_or_end()

    def _end_without_winner(self) -> None:
        if self._first_empty is not None:
            self._complete_with(self._first_empty)
            return
        errors = tuple(each.error for each in self._candidates if each.error is not None)
        failed = AllFailedError(errors)
        failed.__cause__ = errors[-1]
        self.observer.on_error(failed)

    def _complete_with(self, empty: _Candidate) -> None:
        # Its source has ended, so nothing else would pass an exception of the subscriber on.
        try:
            empty.release()
        except Exception as raised:
            self.observer.on_error(raised)
        else:
            self.observer.on_completed()

    def on_winner_error(self, candidate: _Candidate, error: Exception) -> None:  # noqa: ARG002  # an override needs it
        self.observer.on_error(error)

    def win(self, candidate: _Candidate) -> bool:
        """Makes it the winner and disposes the others, unless the race is decided already."""
        with self._lock:
            if self._is_decided:
                return False
            self._is_decided = True
            losers = [each for each in self._candidates if each is not candidate]
        self._stop(losers)
        if self._counter is not None:  # until now it has the id of the latest response
            self._counter.record_request_id(candidate.counter.request_id)
        return True

    def dispose(self) -> None:
        with self._lock:
            self._is_decided = self._is_disposed = True
            candidates = list(self._candidates)
        self._stop(candidates)

    def _stop(self, candidates: list[_Candidate]) -> None:
        self._timer.dispose()
        for candidate in candidates:
            candidate.subscription.dispose()


class _MidStreamFallback(_Race):
    """A fallback in which a later stream continues an answer that broke."""

    _break: StreamError | None = None

    def start(self) -> abc.DisposableBase:
        self._received = CompletionAccumulator(bounded=True)
        subscriber = self._subscriber = self.observer
        self.observer = Observer(self._on_next, subscriber.on_error, subscriber.on_completed)
        return super().start()

    def _on_next(self, event: CompletionEvent) -> None:
        self._received.feed(event.data)
        shown = without_failure(event) if self._received.failed else event
        if shown is not None:
            self._subscriber.on_next(shown)

    def on_winner_error(self, candidate: _Candidate, error: Exception) -> None:
        if isinstance(error, StreamError):
            self._break = error
            error.partial = self._received.response(with_unfinished=True)
        for number in range(candidate.number + 1, len(self._streams)):
            continuation = self._continuation_by(self._streams[number])
            if continuation is not None and isinstance(error, MistralError):
                self._continue_with(continuation, number)
                return
        if self._break is not None and error is not self._break:
            self._break.add_note(f"the stream that was to continue it failed: {error}")
            error = self._break
        self.observer.on_error(error)

    def _continuation_by(self, stream: _Source) -> _Source | None:
        """Returns the stream of the rest of the answer, if this stream can be asked for it."""
        continued = getattr(stream, "continued", None)
        if continued is None or self._break is None or not self._received.can_be_continued():
            return None
        return cast("_Source | None", continued(self._received.text()))

    def _continue_with(self, continuation: _Source, number: int) -> None:
        self._received.begin_again()
        candidate = _Candidate(self, number, has_won=True)
        with self._lock:
            if self._is_disposed:
                return
            self._candidates.append(candidate)
        if self._counter is not None:
            self._counter.count_resume()
        self._subscribe(candidate, continuation)


def _race(
    kind: type[_Race],
    streams: tuple[_Source, ...],
    delay: float | None = None,
    clock: abc.SchedulerBase | None = None,
) -> CompletionStream:
    name = "fallback" if delay is None else "hedge"
    if not streams:
        raise ValueError(f"{name} needs at least one stream")
    for stream in streams:
        if not isinstance(stream, Observable):
            raise TypeError(f"{name} takes Observables, got {type(stream).__name__}")

    def subscribe(
        observer: _EventObserver, scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return kind(streams, observer, scheduler, delay, clock).start()

    return RecordedStream(subscribe)


def fallback(*streams: Observable[CompletionEvent], resume: bool = False) -> CompletionStream:
    """Streams of completions into one: the next stream if one fails before useful output.

        a  --role--✗
        b            --role--a--b--c-|->
           ------------------role,a--b--c-|->

    Useful output is text, thinking, a tool call or a finish_reason: an empty answer that ends
    normally is an answer, and another model would give a different one. There is one connection
    at a time: the next stream is subscribed to when the one before has released its connection.
    The `outcome` is that of the emitted answer, with the requests of all streams.

    Args:
        streams: Observables of completions, in the order in which to try them.
        resume: Whether to ask the next stream for the rest of an answer that breaks after text,
            as `Resume` asks the same one again; default False. Only streams that `chat.stream`
            returns can be asked.

    Emits: the events of one stream, and none of those that failed before it.
    Holds: the events of a stream before its first useful one: a role, empty deltas.
    Completes: as that stream does.
    Errors: as that stream does after useful output; `AllFailedError` if all failed before.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice, DeltaMessage
    >>> choice = CompletionResponseStreamChoice(delta=DeltaMessage(content="Hi"))
    >>> works = reactivex.of(CompletionEvent(data=CompletionChunk(choices=[choice])))
    >>> fails = reactivex.throw(ConnectionError("connection refused"))
    >>> [event.data.choices[0].delta.content for event in fallback(fails, works)]
    ['Hi']
    """
    return _race(_MidStreamFallback if resume else _Race, streams)


def hedge(
    *streams: Observable[CompletionEvent],
    delay: float,
    scheduler: abc.SchedulerBase | None = None,
) -> CompletionStream:
    """Streams of completions into one: the first with useful output, of several at a time.

        a  --role----------------x   its connection is closed
        b            --role--a--b--c-|->
           ------------------role,a--b--c-|->
           '--delay--'

    Useful output is text, thinking or a tool call: an error, a role or an empty answer does not
    win. The other streams are disposed before the first event is emitted, so they cost only
    the tokens that they have used until then.

    Args:
        streams: Observables of completions, in the order in which to start them.
        delay: Seconds that a stream has for useful output before the next one is started in
            parallel; 0 starts all at once. If no stream is running, the next one is started
            immediately.
        scheduler: Measures the delay; None: that of the subscription, or else a
            `TimeoutScheduler`. If a source emits on another thread, the scheduler of an event
            loop must be its thread-safe kind.

    Emits: the events of the winner, on its thread.
    Holds: the events of a stream before its first useful one: a role, empty deltas.
    Completes: as the winner does; with the first answer that was empty, if all others failed or
        were empty as well.
    Errors: as the winner does; `AllFailedError` if all failed.

    >>> import reactivex
    >>> from rxmistral.models import CompletionResponseStreamChoice, DeltaMessage
    >>> choice = CompletionResponseStreamChoice(delta=DeltaMessage(content="Hi"))
    >>> quick = reactivex.of(CompletionEvent(data=CompletionChunk(choices=[choice])))
    >>> silent = reactivex.never()
    >>> [event.data.choices[0].delta.content for event in hedge(silent, quick, delay=0.01)]
    ['Hi']
    """
    check_number("delay", delay, 0)
    return _race(_Race, streams, delay, scheduler)
