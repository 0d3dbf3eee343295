"""Loops over a Stream: `iterate` blocks a thread, and AsyncIteration runs on an event loop.

Both take their items from a `HandOffQueue`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextvars import Context, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from threading import current_thread, get_ident, local, main_thread
from typing import TypeVar
from weakref import ref

from reactivex import Observable, abc

from .backpressure import running_loop
from .hand_off_queue import MAX_ITEMS, HandOffQueue
from .reused_threads import note_wait, run_on_thread

__all__ = ["AsyncIteration", "iterate"]

T = TypeVar("T")


# Items read in a row that make a burst. A model's pace makes none, even on a busy event loop.
_BURST_ITEMS = 16

_MAX_STARTS = 16  # of iterations in one pass of an event loop

# Seconds after which the main thread interrupts its wait. On Windows, Ctrl-C does not interrupt
# a thread that waits for a lock; on all systems, not one that is about to wait.
_WAIT_SECONDS = 0.05


def iterate(
    source: Observable[T],
    track: Callable[[abc.DisposableBase], None],
    scheduler: abc.SchedulerBase | None = None,
) -> Generator[T, None, None]:
    """Yields the items of one subscription; `track` is called with a Disposable that ends it.

    Subscribes on a separate thread: on this one, `subscribe` would never return if the source
    emits within it and fills the queue.
    """
    queue = _ThreadQueue[T]()
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
                    queue.wakeup.get(timeout=wait_seconds if check is None else _WAIT_SECONDS)
                except Empty:
                    if check is not None:
                        check()
        if queue.error is not None:
            raise queue.error
    finally:
        queue.leave()


class _ThreadQueue(HandOffQueue[T]):
    def __init__(self) -> None:
        super().__init__()
        self.wakeup: SimpleQueue[None] = SimpleQueue()

    def _wake(self) -> None:
        self.wakeup.put(None)


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
        self._queue: _LoopQueue[T] | None = None
        self._read_count = 0  # items since the loop last let other tasks run
        self._is_waiting = False
        self._is_cancelled = False

    async def __anext__(self) -> T:
        if self._queue is None:
            await _starts.wait()
        queue = self._queue or self._start()
        if asyncio.get_running_loop() is not queue.loop:
            raise RuntimeError(
                "this iterator was begun on another event loop: read one run on one event loop, "
                "or start a new run with `async for` over the stream"
            )
        items = queue.items
        if self._read_count >= MAX_ITEMS:  # a source as fast as its reader occupies the loop
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

    def _start(self) -> _LoopQueue[T]:
        self._queue = queue = _LoopQueue[T](asyncio.get_running_loop())
        self._track(queue)
        queue.subscribe_to(self._source)
        return queue

    async def _wait(self, queue: _LoopQueue[T]) -> None:
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
        queue.wakeup = queue.loop.create_future()
        queue.reader_waits = True
        if not queue.items and not queue.ended:
            self._is_waiting = True
            try:
                await queue.wakeup
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


class _LoopQueue(HandOffQueue[T]):
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.event_loop = self.loop = loop
        self.wakeup: asyncio.Future[None] = loop.create_future()

    def _wake(self) -> None:
        if running_loop() is not self.loop:
            self.loop.call_soon_threadsafe(self._wake)
        elif not self.wakeup.done():
            self.wakeup.set_result(None)
