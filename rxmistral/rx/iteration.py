"""Iteration: a queue that hands items from the thread that emits them to a loop.

    emitting thread            HandOffQueue                      reading thread or event loop
      on_next ──▶ append ──▶ [ items, at most _MAX_ITEMS ] ──▶ popleft ──▶ body of the loop
      waits, or its source is paused  ◀── make_room() when half empty
                             wake() if `reader_waits`      ──▶ waits for the wake-up

Strategy: an item costs an append, a popleft and two checks of a flag; only a side that has to
wait acquires a lock. The reading side sets its flag `reader_waits` and then checks the queue
again before it sleeps; the emitting side changes the queue first and then checks the flag. So at
least one of them sees the other. An extra wake-up is harmless. The other direction, from a full
queue to its source, is `Backpressure`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from threading import RLock, current_thread, get_ident, local, main_thread
from typing import Any, Generic, TypeVar
from weakref import WeakSet, ref

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler

from .backpressure import Backpressure, emitting, running_loop
from .reused_threads import note_wait, run_on_thread
from .stoppable_emission import StoppableEmission
from .subscriber import subscribing
from .threads import fork_safe, forked_stream_error, register_for_fork

__all__ = [
    "AsyncIteration",
    "Iteration",
    "LiveSubscriptions",
    "current_iteration",
    "current_reader",
    "iterate",
    "leaving",
]

T = TypeVar("T")


class Iteration(abc.DisposableBase):
    """A reader of a source on behalf of a loop; its disposal ends the loop."""

    event_loop: asyncio.AbstractEventLoop | None = None  # on which the loop awaits its items


current_iteration: ContextVar[Iteration | None] = ContextVar(
    "rxmistral_current_iteration", default=None
)
"""The loop that is subscribing, if the subscriber is a loop; disposing it ends the loop.

A source that starts a thread for a loop makes it a daemon: without the loop's own thread nothing
reads the items, and the interpreter must not wait. After a plain `subscribe` the thread is not a
daemon, so that a script that ends in one prints the whole answer."""


class _Leaving(local):
    _depth = 0  # a block that ends leaves its loops

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1

    @property
    def by_itself(self) -> bool:
        """Whether this thread disposes because of the end of a loop, a block or an operator.

        An operator such as `take` may dispose while the trampoline of `subscribe` is running.
        """
        return self._depth > 0 or not CurrentThreadScheduler.singleton().schedule_required()


leaving = _Leaving()
"""Within `with leaving:`, disposals by this thread are not due to a stop."""

# Reentrant, since garbage collection may end an abandoned `with` block at any moment.
_live_lock = fork_safe(RLock())


class LiveSubscriptions(abc.DisposableBase):
    """The subscriptions that `close()` and the end of a `with` block dispose.

    They are not kept alive by this object.
    """

    def __init__(self) -> None:
        self._members: WeakSet[abc.DisposableBase] | None = WeakSet()  # None: disposed

    def add(self, subscription: abc.DisposableBase) -> None:
        """Adds a subscription and the operator or loop that reads it, which would otherwise wait
        forever."""
        subscriber = subscribing.subscriber
        reader = None if subscriber is None else subscriber.closing
        reader = reader or current_iteration.get()
        self._add(subscription) if reader is None else self._add(subscription, reader)

    def track(self, reader: abc.DisposableBase) -> None:
        """Adds a subscription or a loop of the program, also if it has not subscribed yet."""
        self._add(reader)

    def _add(self, *added: abc.DisposableBase) -> None:
        with _live_lock:
            if self._members is not None:
                self._members.update(added)
                return
        for each in added:
            each.dispose()

    def dispose(self) -> None:
        with _live_lock:
            members, self._members = self._members, None
        # An operator gets an error, unless the program's own subscription ends before.
        for subscription in sorted(members or (), key=_is_of_operator):
            subscription.dispose()


def _is_of_operator(subscription: abc.DisposableBase) -> bool:
    return isinstance(subscription, StoppableEmission)


_MAX_ITEMS = 512  # lets the two threads run in turns, and needs little memory

# Number of items at which a thread that must not wait waits after all. One block contains fewer
# items, so the source was not paused: a callback has subscribed to another one.
_MAX_ITEMS_WHILE_PAUSED = 16 * _MAX_ITEMS

# Items read in a row that make a burst. A model's pace makes none, even on a busy event loop.
_BURST_ITEMS = 16

_MAX_STARTS = 16  # of iterations in one pass of an event loop

# Seconds after which the main thread interrupts its wait. On Windows, Ctrl-C does not interrupt
# a thread that waits for a lock; on all systems, not one that is about to wait.
_WAIT_SECONDS = 0.05


class HandOffQueue(Iteration, Generic[T]):
    """A bounded queue from the thread that emits to the thread or event loop that reads."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self.items: deque[T] = deque()
        self.error: Exception | None = None  # follows the items
        self.ended = False
        self.reader_waits = False  # and needs a wake-up
        self.waiting_thread: int | None = None  # id of the thread that only waits for items
        self.waiting_loop: asyncio.AbstractEventLoop | None = None  # blocked by that thread
        self.check_source: Callable[[], object] | None = None  # called while the reader waits
        self._is_disposed = False
        self._wake = wake  # wakes the reader, from any thread
        self._backpressure = Backpressure()
        self.waiting_producers = self._backpressure.waiting  # if any, make_room() is needed
        self._reading_thread = get_ident()
        self._subscription = SingleAssignmentDisposable()
        register_for_fork(self)

    def forked(self) -> None:
        """Ends after the queued items, in the child of a fork: its source is in the parent."""
        if not self.ended:
            self.error, self.ended = forked_stream_error(), True
        self._subscription = SingleAssignmentDisposable()

    def subscribe_to(
        self, source: Observable[T], scheduler: abc.SchedulerBase | None = None
    ) -> None:
        # A source takes a subscriber with a scheduler, even None, for an operator.
        options: Any = {} if scheduler is None else {"scheduler": scheduler}

        def subscribe(*_: object) -> None:
            self._subscription.disposable = source.subscribe(
                self.on_next, self.on_error, self.on_completed, **options
            )

        token = current_iteration.set(self)
        try:
            # While the trampoline runs, subscribe() returns its Disposable before the current
            # thread's scheduler emits, so that an endless source can be stopped.
            CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        except Exception as error:  # raised by subscribe(): the loop raises it
            self.on_error(error)
        finally:
            current_iteration.reset(token)

    # --- emitting side ---

    def on_next(self, item: T) -> None:
        self.items.append(item)
        if self.reader_waits:
            self._wake_reader()
        if len(self.items) >= _MAX_ITEMS:
            self._wait_for_room()

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.on_completed()

    def on_completed(self) -> None:
        try:
            # First, so that a loop which `take` has ended finds the outcome of its answer.
            self._subscription.dispose()
        finally:
            self.ended = True
            self._wake_reader()

    def check_while_waiting(self, check: Callable[[], object]) -> None:
        """Has a function called regularly, on the reader's thread, while it waits for an item."""
        self.check_source = check
        self._wake_reader()  # which may wait without a limit

    def _wake_reader(self) -> None:
        self.reader_waits = False
        try:
            self._wake()
        except RuntimeError:  # the event loop is closed: nothing will read any further item
            self.dispose()

    def _is_full(self) -> bool:
        return len(self.items) >= _MAX_ITEMS

    def _wait_for_room(self) -> None:
        source = emitting.source if len(self.items) < _MAX_ITEMS_WHILE_PAUSED else None
        # A source that emits on the thread that reads would wait for itself.
        if source is not None or get_ident() != self._reading_thread:
            self._backpressure.apply(source, self._is_full)

    # --- reading side ---

    def make_room(self) -> None:
        """Lets the emitting side continue, if the queue is half empty."""
        if len(self.items) <= _MAX_ITEMS // 2:
            self._backpressure.release()

    def final_exception(self) -> Exception:
        """Leaves the queue, and returns the exception to raise.

        The queue does not keep it, since an error refers to the frames in which it is raised.
        """
        error = StopAsyncIteration() if self.error is None else self.error
        self.leave()
        return error

    def dispose(self) -> None:
        """Ends both sides, from any thread; drops the queued items and all later ones."""
        if not self._is_disposed:
            self._is_disposed = True
            self.items.clear()
            self.items = deque(maxlen=0)
            self.error = None
            self.ended = True
            self._subscription.dispose()
            self._backpressure.release()
            self._wake_reader()

    def leave(self) -> None:
        """Disposes at the end of the loop.

        A source that lacks only the end of its answer may read on, so that the connection can be
        used again.
        """
        with leaving:
            self.dispose()


def current_reader() -> object:
    """Returns the current task, or the current thread if there is none.

    For the separate thread of `iterate`, returns the thread that reads.
    """
    loop = current_iteration.get()
    if isinstance(loop, HandOffQueue) and loop.waiting_thread is not None:
        return loop.waiting_thread
    with suppress(RuntimeError):  # no event loop is running
        return asyncio.current_task() or get_ident()
    return get_ident()


def iterate(
    source: Observable[T],
    track: Callable[[abc.DisposableBase], None],
    scheduler: abc.SchedulerBase | None = None,
) -> Generator[T, None, None]:
    """Yields the items of one subscription; `track` is called with a Disposable that ends it.

    Subscribes on a separate thread: on this one, `subscribe` would never return if the source
    emits within it and fills the queue.
    """
    wakeup: SimpleQueue[None] = SimpleQueue()
    queue: HandOffQueue[T] = HandOffQueue(partial(wakeup.put, None))
    queue.waiting_thread = get_ident()
    queue.waiting_loop = running_loop()
    wait_seconds = _WAIT_SECONDS if current_thread() is main_thread() else None
    items, waiting_producers = queue.items, queue.waiting_producers
    subscribe = partial(_subscribe, queue, copy_context(), source, scheduler)
    track(queue)
    try:
        run_on_thread(subscribe, queue.on_error, name="rxmistral-subscribe", daemon=True)
        note_wait()  # this may be the thread of other work, such as a tool
        while True:
            ended = queue.ended  # read first: then all items that precede the end are present
            while items:
                try:
                    item = items.popleft()
                except IndexError:  # they were dropped at this moment
                    break
                yield item
                if waiting_producers:
                    queue.make_room()
            if ended:
                break
            queue.reader_waits = True
            if not items and not queue.ended:
                check = queue.check_source
                try:
                    wakeup.get(timeout=wait_seconds if check is None else _WAIT_SECONDS)
                except Empty:
                    if check is not None:
                        check()
        if queue.error is not None:
            raise queue.error
    finally:
        queue.leave()


def _subscribe(
    queue: HandOffQueue[T],
    context: Context,
    source: Observable[T],
    scheduler: abc.SchedulerBase | None,
) -> None:
    try:
        context.run(queue.subscribe_to, source, scheduler)
    except BaseException as error:  # sys.exit() in a callback; the loop must not wait for more
        queue.on_error(RuntimeError(f"a callback ended the subscription: {error!r}"))


class _Starts(local):
    """A count of the iterations that begin in one pass of an event loop: many would hold it up."""

    _count = 0
    _loop: Callable[[], object] = staticmethod(lambda: None)  # a weak reference to the loop

    async def wait(self) -> None:
        """Returns at once, or in a later pass if this one has begun enough."""
        loop = asyncio.get_running_loop()
        if self._loop() is not loop:
            self._loop, self._count = ref(loop), 0
        while self._count >= _MAX_STARTS:  # noqa: ASYNC110  # until the next pass of the loop
            await asyncio.sleep(0)
        if not self._count:
            loop.call_soon(self._reset)
        self._count += 1

    def _reset(self) -> None:
        self._count = 0


_starts = _Starts()


class AsyncIteration(AsyncIterator[T]):
    """The items of one subscription, on the event loop that first requests one.

    Not an async generator: after `break`, the event loop closes a generator at some later time;
    this is disposed as soon as it is no longer referenced.
    """

    def __init__(self, source: Observable[T], track: Callable[[abc.DisposableBase], None]) -> None:
        self._source = source
        self._track = track
        self._queue: HandOffQueue[T] | None = None
        self._read_count = 0  # items since the loop last let other tasks run
        self._is_waiting = False
        self._is_cancelled = False

    async def __anext__(self) -> T:
        if self._queue is None:
            await _starts.wait()
        queue = self._queue or self._start()
        if asyncio.get_running_loop() is not self._wakeup.loop:
            raise RuntimeError(
                "this iterator was begun on another event loop: read one run on one event loop, "
                "or start a new run with `async for` over the stream"
            )
        items = queue.items
        if self._read_count >= _MAX_ITEMS:  # a source as fast as its reader occupies the loop
            self._read_count = 0
            await self._let_others_run()
        while True:
            if items:
                try:
                    item = items.popleft()
                    break
                except IndexError:  # they were dropped at this moment
                    pass
            if self._read_count > _BURST_ITEMS:  # let the burst grow, to save wake-ups
                await self._let_others_run()
            else:
                await self._wait(queue)
            self._read_count = 0
        self._read_count += 1
        if queue.waiting_producers:
            queue.make_room()
        return item

    def _start(self) -> HandOffQueue[T]:
        self._wakeup = _LoopWakeUp(asyncio.get_running_loop())
        self._queue = queue = HandOffQueue[T](self._wakeup.wake)
        queue.event_loop = self._wakeup.loop
        self._track(queue)
        queue.subscribe_to(self._source)
        return queue

    async def _wait(self, queue: HandOffQueue[T]) -> None:
        """Waits for an item; raises the end if there is none."""
        ended = queue.ended
        if queue.items:
            return
        if self._is_cancelled:  # StopAsyncIteration would claim that the answer is complete
            raise RuntimeError("this run is over: a wait for its next item was cancelled")
        if ended:
            raise queue.final_exception()
        if self._is_waiting:  # its wake-up would be lost
            raise RuntimeError(
                "another task is waiting for the next item of this run: "
                "start a run for each task with `async for` over the stream"
            )
        self._wakeup.future = self._wakeup.loop.create_future()
        queue.reader_waits = True
        if not queue.items and not queue.ended:
            self._is_waiting = True
            try:
                await self._wakeup.future
            except BaseException:
                self._dispose_cancelled()
                raise
            finally:
                self._is_waiting = False

    async def _let_others_run(self) -> None:
        try:
            await asyncio.sleep(0)
        except BaseException:
            self._dispose_cancelled()
            raise

    def _dispose_cancelled(self) -> None:
        """Closes the socket at once, since the task was cancelled."""
        self._is_cancelled = True
        if self._queue is not None:
            self._queue.dispose()

    async def aclose(self) -> None:
        if self._queue is not None:
            self._queue.dispose()

    def __del__(self) -> None:
        if self._queue is not None:
            self._queue.leave()


class _LoopWakeUp:
    """A wake-up that any thread sends to an event loop.

    It is separate, so that the queue does not keep an AsyncIteration alive that the program has
    dropped.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        if running_loop() is not self.loop:
            self.loop.call_soon_threadsafe(self.wake)
        elif not self.future.done():
            self.future.set_result(None)
