"""Writing a stream into a log, in parallel to its subscriber.

    source's thread                writer's thread                  heartbeat's thread
      on_next ──▶ observer           begin, then subscribe            keep: a heartbeat, and a
         └──▶ [ queue ] ───────────▶ append everything in the queue         wait for a stop
              blocks when full       the ending ──▶ observer

The writer appends the items that arrived during its previous append: a slow source costs one
call per item and has no delay, a fast source fills batches, and no timer is needed.

The run is begun before the source is subscribed to, so that a second producer of a run does
not pay for a second answer. If the broker is unreachable at that moment, the answer starts
nevertheless, and the writer repeats the call that begins the run.

The ending is written before it is emitted, on the writer's thread or, if the run was stopped,
on the heartbeat's; serialized with the items (see `rx.timer`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from secrets import token_hex
from threading import Event, Lock
from typing import Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler, TimeoutScheduler

from ..checks import check_integer
from ..errors import FencedError, LogError, LogUnavailableError, RequestError, StoppedError
from ..rx.backpressure import Backpressure, emitting
from ..rx.cancellation import Cancelled
from ..rx.state_machine import operate
from ..rx.stream import Stream
from ..rx.threads import add_to_scope
from ..rx.timer import SerializedTimer, serialized
from .encoding import encode_ending, encode_item
from .run_log import OutageRetry, RunLog, check_run_id, start_log_thread

__all__ = ["to_log"]

T = TypeVar("T")

_MAX_QUEUED = 4096  # items; a minute of an answer, so that an outage does not delay it
_MAX_BATCH = 512  # items of one append
_MAX_BATCH_BYTES = 256 * 1024
_HEARTBEATS_PER_LEASE = 3


class _WriteQueue:
    """The encoded items that wait for the writer."""

    def __init__(self) -> None:
        self.items: deque[bytes] = deque()
        self._writer_waits = False
        self._wake_ups: SimpleQueue[None] = SimpleQueue()

    # the emitting side

    def put(self, item: bytes) -> None:
        self.items.append(item)
        if self._writer_waits:
            self.wake_writer()

    def wake_writer(self) -> None:
        self._writer_waits = False
        self._wake_ups.put(None)

    # the writing side

    def next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self.items and len(batch) < _MAX_BATCH:
            size += len(self.items[0])
            if batch and size > _MAX_BATCH_BYTES:
                break
            batch.append(self.items.popleft())
        return batch

    def wait_unless(self, has_ended: Callable[[], bool]) -> None:
        self._writer_waits = True
        if not self.items and not has_ended():
            self._wake_ups.get()


class _ProducedRun:
    """The producer's side of one run: its fencing token and its position."""

    def __init__(self, log: RunLog, run_id: str, after: int) -> None:
        self.retry = OutageRetry(log.outage)  # cancelling it ends the writing
        self._log = log
        self._id = run_id
        self._token = token_hex(8)
        self._last = after

    def begin(self) -> None:
        self._log.begin(self._id, self._token, self._last)

    def append(self, items: list[bytes], ending: bytes | None) -> None:
        first = self._last + 1
        self.retry(lambda: self._log.append(self._id, self._token, first, items, ending))
        self._last += len(items)

    def renew_lease(self) -> None:
        wait_seconds = self._log.lease / _HEARTBEATS_PER_LEASE
        self.retry(lambda: self._log.keep(self._id, self._token, wait_seconds))


class _LogWriter(SerializedTimer, Generic[T]):
    def __init__(
        self,
        subscribe: Callable[..., abc.DisposableBase],
        observer: abc.ObserverBase[T],
        run: _ProducedRun,
    ) -> None:
        super().__init__(observer, TimeoutScheduler.singleton())
        self._subscribe_to_source = subscribe
        self._run = run
        self._write_queue = _WriteQueue()
        self._backpressure = Backpressure()
        self._subscription = SingleAssignmentDisposable()
        self._is_unsubscribed = False
        self._ending_lock = Lock()
        self._ended = Event()  # no item is put into the queue after that
        self._error: Exception | None = None  # of the source; valid once it has ended
        self._log_error: Exception | None = None

    # the source's thread

    @serialized
    def on_next(self, item: T) -> None:
        if self._log_error is None and not self._ended.is_set():
            try:
                self._write_queue.put(encode_item(item))
            except LogError as error:
                self._log_error = error
                self._write_queue.wake_writer()
        try:
            self._observer.on_next(item)
        except Exception as raised:  # by the subscriber, which receives nothing more
            self.dispose()
            self._observer.on_error(raised)
        self._backpressure.apply(emitting.source, self._is_full)

    def _is_full(self) -> bool:
        if len(self._write_queue.items) < _MAX_QUEUED:
            return False
        return self._log_error is None and not self._ended.is_set()

    def fail(self, error: Exception) -> None:
        self.dispose()
        super().fail(error)

    def _end(self, error: Exception | None = None) -> None:
        with self._ending_lock:
            if not self._ended.is_set():
                self._error = error
                self._ended.set()
        self._write_queue.wake_writer()

    def dispose(self) -> None:
        super().dispose()
        self._is_unsubscribed = True
        self._dispose_source()

    def _dispose_source(self) -> None:
        self._end(StoppedError())
        self._subscription.dispose()
        self._backpressure.release()

    # the writer's thread

    def _subscribe(self) -> None:
        def subscribe(*_: object) -> None:
            self._subscription.disposable = self._subscribe_to_source(
                self.on_next, self._end, self._end
            )

        try:  # on the trampoline, so that the Disposable exists before the first item
            CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        except Exception as error:
            if self._ended.is_set():  # raised by the subscriber
                raise
            self._end(error)

    def write(self) -> None:
        try:
            self._begin()
            while not self._append_queued():
                self._write_queue.wait_unless(self._ended.is_set)
        except Cancelled:
            return
        except (FencedError, StoppedError) as error:
            self._abort(error)
            return
        except Exception as error:  # a RunLog of the program may raise anything
            self._log_error = error
            self._backpressure.release()
            if type(error) is LogError:  # the broker refused an item; it may accept the ending
                with suppress(LogError, StoppedError, Cancelled):
                    self._run.append([], encode_ending(error))
        self._run.retry.cancel()
        self._ended.wait()
        self._emit_terminal(self._error or self._log_error)

    def _begin(self) -> None:
        try:
            self._run.begin()
            has_begun = True
        except (FencedError, StoppedError):
            raise
        except Exception:  # the answer starts nevertheless
            has_begun = False
        if not self._ended.is_set():
            try:
                start_log_thread("source", self._subscribe)
            except RequestError as error:
                self._end(error)
        if not has_begun:
            self._run.retry(self._run.begin)
        start_log_thread("heartbeat", self._send_heartbeats)

    def _append_queued(self) -> bool:
        """Appends a batch, with the ending if it is the last one; returns whether it is."""
        ended = self._ended.is_set() or self._log_error is not None  # read before the queue is
        items = self._write_queue.next_batch()
        if len(self._write_queue.items) <= _MAX_QUEUED // 2:
            self._backpressure.release()
        is_last = ended and not self._write_queue.items
        if items or is_last:
            ending = encode_ending(self._log_error or self._error) if is_last else None
            self._run.append(items, ending)
        return is_last

    # the heartbeat's thread

    def _send_heartbeats(self) -> None:
        with suppress(Cancelled, LogError):
            while True:
                try:
                    self._run.renew_lease()
                except (FencedError, StoppedError) as error:
                    self._abort(error)
                    return
                except LogUnavailableError:
                    continue  # only the writer decides to give up, when it has items to write

    # either of these two threads

    def _abort(self, error: Exception) -> None:
        """Ends the answer, since its run was stopped or belongs to another producer."""
        self._run.retry.cancel()
        self._dispose_source()
        self._emit_terminal(error)

    def _emit_terminal(self, error: Exception | None) -> None:
        if not self._is_unsubscribed:
            observer = self._observer
            self.enqueue(partial(observer.on_error, error) if error else observer.on_completed)


def to_log(log: RunLog, run_id: str, *, after: int = 0) -> Callable[[Observable[T]], Stream[T]]:
    """Items into the same items, each of which is also written into a log, as is the ending.

        --a--b--c---|->
        --a--b--c----|->
        log  1:a 2:b 3:c 4:end

    Args:
        log: The log to write into.
        run_id: The id by which readers find the run; 1 to 200 characters. Each id names one
            run: if another producer has begun it, this one is fenced out.
        after: The number of the last item that the run already has; 0: a new run. To continue
            a run that has lost its producer, read it, and emit the items that follow.

    Emits: each item at once; but the source waits while 4096 items are queued for the log.
        Items are strings, `CompletionEvent` and the other Structs of this package, or JSON
        values.
    Completes: when the ending is in the log.
    Errors: with the error of the source, when the ending is in the log. If the log fails, the
        answer continues to its end, and then `LogError`, or `LogUnavailableError` after the
        log's `outage`, replaces the completion. `FencedError` if the run belongs to another
        producer, if possible before the source is subscribed to; `StoppedError` if the run
        was stopped. Both dispose the source.

    Disposing it ends the run, and the readers of the run get `StoppedError`; so does an
    exception of the subscriber, which is passed to its `on_error`. To watch a run without
    ending it, read it with `from_log`.

    >>> import reactivex
    >>> from rxmistral import MemoryLog, from_log
    >>> log = MemoryLog()
    >>> answer = Stream.of(reactivex.of("Hel", "lo")).pipe(to_log(log, "run-1"))
    >>> "".join(answer), "".join(from_log(log, "run-1"))
    ('Hello', 'Hello')
    """
    check_run_id(run_id)
    check_integer("after", after, minimum=0)

    def subscribe_to(
        stream: Stream[T], observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        subscribe = partial(stream.subscribe, scheduler=scheduler)
        writer = _LogWriter(subscribe, observer, _ProducedRun(log, run_id, after))
        add_to_scope(writer)
        start_log_thread("writer", writer.write)
        return writer

    return operate(subscribe_to)
