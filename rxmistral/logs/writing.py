"""A stream into a log, beside its subscriber.

    source's thread                  writer's thread                 keeper's thread
      on_next ──▶ observer             begin, then subscribe           keep: a sign of life,
         └──▶ [ held ] ──────────────▶ append all that is held               and waits for
              waits where it is full   the end ──▶ observer                  a stop

An item goes to the subscriber at once. The writer appends what came while its last append
was on its way: so a slow source costs a call for each item and no delay, a fast one fills
batches, and there is no timer.

The run is begun before the source is subscribed to, so that a second producer of the same
run does not pay for a second answer. Where the broker is away at that moment the answer
comes first, and the writer insists on the beginning as it would on anything else.

The end is written before it is emitted. It comes on the writer's thread, or on the
keeper's where the run was stopped; in turn with the source's items (see `alarm`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from secrets import token_hex
from threading import Event, Lock, Thread
from typing import Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler, TimeoutScheduler

from ..checks import check_whole
from ..errors import FencedError, LogError, LogUnavailableError, RequestError, StoppedError
from ..rx.backpressure import Pausable, emitting
from ..rx.cancellation import Cancelled
from ..rx.iteration import being_iterated
from ..rx.stream import Stream
from ..rx.subscriber import fail_observer, reporting_unhandled
from ..rx.threads import add_to_scope, start_thread
from ..rx.timer import SerializedTimer, serialized
from .encoding import encode_ending, encode_item
from .outage import OutageRetry
from .run_log import RunLog, check_run_id

__all__ = ["to_log"]

T = TypeVar("T")

_HELD = 4096  # items; an answer of a minute, so that an outage does not delay its subscriber
_BATCH = 512  # items of one append
_BATCH_BYTES = 256 * 1024
_SIGNS = 3  # of life in a lease


class _WriteQueue:
    """What is on its way from the thread that emits it to the one that appends it.

    Bounded by who puts: it waits where too much is held, or has its source paused.
    """

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._wanted = False
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._room = Event()
        self._unbounded = False  # nobody waits any more
        self._paused: set[Pausable] = set()

    def __bool__(self) -> bool:
        return bool(self._items)

    # the side that puts

    def put(self, item: bytes) -> None:
        self._items.append(item)
        if self._wanted:
            self.ring()

    def ring(self) -> None:
        self._wanted = False
        self._bell.put(None)

    def wait_for_room(self) -> None:
        if self._is_full() and emitting.source is not None:
            emitting.source.pause()
            self._paused.add(emitting.source)
            self._make_room()
            return
        while self._is_full():
            self._room.clear()
            if self._is_full():
                self._room.wait()

    def _is_full(self) -> bool:
        return len(self._items) >= _HELD and not self._unbounded

    # the side that takes

    def take(self) -> list[bytes]:
        """As much as one append may have."""
        batch: list[bytes] = []
        size = 0
        while self._items and len(batch) < _BATCH:
            size += len(self._items[0])
            if batch and size > _BATCH_BYTES:
                break
            batch.append(self._items.popleft())
        self._make_room()
        return batch

    def wait_unless(self, ended: Callable[[], bool]) -> None:
        """Until something is put or it is rung for."""
        self._wanted = True
        if not self._items and not ended():
            self.wait_for_ring()

    def wait_for_ring(self) -> None:
        self._bell.get()

    def _make_room(self) -> None:
        if self._unbounded or len(self._items) <= _HELD // 2:
            self._room.set()
            with suppress(KeyError):  # empty: two threads may do this at once
                while True:
                    self._paused.pop().resume()

    # any side

    def let_go(self) -> None:
        """Have nobody wait for room from now on."""
        self._unbounded = True
        self._make_room()


class _ProducedRun:
    """One run in a log, as its producer has it."""

    def __init__(self, log: RunLog, run_id: str, after: int) -> None:
        self._log = log
        self._id = run_id
        self._token = token_hex(8)
        self._last = after
        self.retry_outage = OutageRetry(log.outage)

    def begin(self) -> None:
        self._log.begin(self._id, self._token, self._last)

    def append(self, items: list[bytes], ending: bytes | None) -> None:
        first = self._last + 1
        self.retry_outage(lambda: self._log.append(self._id, self._token, first, items, ending))
        self._last += len(items)

    def keep(self) -> None:
        self.retry_outage(lambda: self._log.keep(self._id, self._token, self._log.lease / _SIGNS))


class _LogWriter(SerializedTimer, Generic[T]):
    """One subscription: its items go to the observer and into the log."""

    def __init__(
        self, observer: abc.ObserverBase[T], run: _ProducedRun, scheduler: abc.SchedulerBase | None
    ) -> None:
        super().__init__(TimeoutScheduler.singleton())
        self._observer = observer
        self._run = run
        self._scheduler_of_source = scheduler
        self._held = _WriteQueue()
        self._source = SingleAssignmentDisposable()
        self._daemon = being_iterated.get() is not None
        self._unsubscribed = False
        self._deciding = Lock()
        self._ended = False  # nothing more will be held
        self._error: Exception | None = None  # what it ended with
        self._log_error: Exception | None = None  # what the log failed with

    # the source's thread

    @serialized
    def on_next(self, item: T) -> None:
        if self._log_error is None and not self._ended:
            self._hold(item)
        try:
            self._observer.on_next(item)
        except Exception as raised:  # the subscriber's own: he takes no more
            self.dispose()
            self._observer.on_error(raised)
        self._held.wait_for_room()

    def _hold(self, item: T) -> None:
        try:
            self._held.put(encode_item(item))
        except LogError as error:
            self._log_error = error
            self._held.ring()

    def on_error(self, error: Exception) -> None:
        self._end(error)

    def on_completed(self) -> None:
        self._end(None)

    def fail(self, error: Exception) -> None:
        self.dispose()
        fail_observer(self._observer, error)

    def _end(self, error: Exception | None) -> None:
        with self._deciding:
            if not self._ended:
                self._error, self._ended = error, True
        self._held.ring()

    def _has_ended(self) -> bool:
        return self._ended

    def dispose(self) -> None:
        """Who runs the answer leaves: that is its end, for all who read it."""
        super().dispose()
        self._unsubscribed = True
        self._leave_source()

    def _leave_source(self) -> None:
        self._end(StoppedError())
        self._source.dispose()
        self._held.let_go()

    # the writer's thread

    def start(self, source: Observable[T]) -> None:
        self._start("writer", partial(self._write, partial(self._subscribe_to, source)))

    def _start(self, name: str, work: Callable[[], object]) -> None:
        start_thread(
            Thread(
                target=reporting_unhandled(self._context.copy().run),
                args=(work,),
                name=f"rxmistral-log-{name}",
                daemon=self._daemon,
            )
        )

    def _subscribe_to(self, source: Observable[T]) -> None:
        def subscribe(*_: object) -> None:
            self._source.disposable = source.subscribe(
                self.on_next, self.on_error, self.on_completed, scheduler=self._scheduler_of_source
            )

        try:  # as a Hop does it: the Disposable comes before the items
            CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        except Exception as error:
            if self._ended:  # a subscriber's own
                raise
            self._end(error)

    def _write(self, subscribe: Callable[[], None]) -> None:
        try:
            self._begin(subscribe)
            while not self._copy():
                self._held.wait_unless(self._has_ended)
        except Cancelled:
            return
        except (FencedError, StoppedError) as error:
            self._cut(error)
            return
        except Exception as error:  # a log of the user's own may raise anything
            self._give_up(error)
        self._run.retry_outage.cancel()
        while not self._ended:
            self._held.wait_for_ring()
        self._emit_end(self._error or self._log_error)

    def _begin(self, subscribe: Callable[[], None]) -> None:
        try:
            self._run.begin()
            begun = True
        except (FencedError, StoppedError):
            raise
        except Exception:  # the answer comes first, whatever becomes of its log
            begun = False
        if not self._ended:
            try:
                self._start("source", subscribe)
            except RequestError as error:
                self._end(error)
        if not begun:
            self._run.retry_outage(self._run.begin)
        self._start("keeper", self._keep)

    def _copy(self) -> bool:
        """Append what is held; whether that was all."""
        ended = self._ended or self._log_error is not None  # asked before what is held
        items = self._held.take()
        last = ended and not self._held
        if items or last:
            ending = encode_ending(self._log_error or self._error) if last else None
            self._run.append(items, ending)
        return last

    def _give_up(self, error: Exception) -> None:
        """The answer goes on without its log."""
        self._log_error = error
        self._held.let_go()
        if type(error) is LogError:  # it refused something: not this, which is short
            with suppress(LogError, StoppedError, Cancelled):
                self._run.append([], encode_ending(error))

    # the keeper's thread

    def _keep(self) -> None:
        with suppress(Cancelled, LogError):
            while True:
                try:
                    self._run.keep()
                except (FencedError, StoppedError) as error:
                    self._cut(error)
                    return
                except LogUnavailableError:
                    continue  # while the writer has nothing to write it need not give up

    # either of them

    def _cut(self, error: Exception) -> None:
        """Somebody has ended it: the answer, too."""
        self._run.retry_outage.cancel()
        self._leave_source()
        self._emit_end(error)

    def _emit_end(self, error: Exception | None) -> None:
        if not self._unsubscribed:
            observer = self._observer
            self.enqueue(partial(observer.on_error, error) if error else observer.on_completed)


def to_log(log: RunLog, run_id: str, *, after: int = 0) -> Callable[[Observable[T]], Stream[T]]:
    """Items as they are; each goes into a log as well, and the end after the last.

        --a--b--c---|->
        --a--b--c----|->
        log  1:a 2:b 3:c 4:end

    Args:
        log: Where to.
        run_id: What readers call the run; 1 to 200 characters. One run, one id: it is
            fenced out where another producer has begun it.
        after: The id of the last item that the run has. For going on with a run whose
            producer was lost: read it, and give what comes after that item.

    Emits: each item at once; it does not wait for the log, unless so much is held for it
        (4096 items) that the source must wait, too. Items are strings, `CompletionEvent`
        and our other Structs, or JSON values.
    Completes: when the end is in the log.
    Errors: likewise. Where the log fails, the answer goes on to its end, and then
        `LogError`, or `LogUnavailableError` after the log's `outage`, comes in place of
        the completion. Where another producer has the run: `FencedError`, before the source is
        subscribed to, or as soon as it is known; where it was stopped: `StoppedError`.
        Both dispose the source.

    Disposing it ends the run, and so does a subscriber that raises, who gets that in
    `on_error`: the run's readers get `StoppedError`. Who only wants to watch reads it with
    `from_log`.

    >>> import reactivex
    >>> from rxmistral import MemoryLog, from_log
    >>> log = MemoryLog()
    >>> answer = Stream.of(reactivex.of("Hel", "lo")).pipe(to_log(log, "run-1"))
    >>> "".join(answer), "".join(from_log(log, "run-1"))
    ('Hello', 'Hello')
    """
    check_run_id(run_id)
    check_whole("after", after, least=0)

    def operate(source: Observable[T]) -> Stream[T]:
        stream = Stream.of(source)

        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            writing = _LogWriter(observer, _ProducedRun(log, run_id, after), scheduler)
            add_to_scope(writing)
            writing.start(stream)
            return writing

        return Stream(subscribe)

    return operate
