"""Items on their way from the thread that emits them to a loop that takes them.

    emitting thread                 Hop                        reading thread or loop
      on_next ──▶ append ──▶ [ items, at most _LIMIT ] ──▶ popleft ──▶ the loop's body
      waits in _pause()  ◀── make_room() when half empty
                             wake() when `wanted`      ──▶ waits for its bell

An item costs an append and a popleft and two looks at a flag; a lock is taken only
by the side that has to wait. Each side raises its flag (`wanted`, `paused`) and then
looks again before it sleeps, and the other acts first and then looks at the flag: so
at least one of the two sees the other. A bell that rings once too often is harmless,
since who wakes looks again.

A full hop makes the emitting thread wait; for a network source that means that nothing
more is read from the socket, and TCP slows the server down. Where that thread may not
wait, since it emits for others too, the hop pauses the source instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread, current_thread, get_ident, local, main_thread
from typing import Any, Generic, Self, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler

from .backpressure import Pausable, emitting
from .threads import forked_stream_error, register_for_fork, start_thread

__all__ = ["AsyncIteration", "being_iterated", "iterate", "leaving"]

T = TypeVar("T")

being_iterated: ContextVar[abc.DisposableBase | None] = ContextVar(
    "rxmistral_being_iterated", default=None
)
"""The loop that subscribes now, where it is one that does; disposing it ends the loop.

A source that starts a thread makes it a daemon then: when the loop's own thread is gone
nobody will take the items, and a thread that waits for that must not keep the
interpreter from exiting. After a plain `subscribe` the thread is none, so that a script
which ends in one prints the whole answer."""


class _Leaving(local):
    _within = False

    def __enter__(self) -> None:
        self._within = True

    def __exit__(self, *_: object) -> None:
        self._within = False

    @property
    def by_itself(self) -> bool:
        # An operator may have had enough before its source's subscribe() has returned:
        # then the thread that subscribes disposes.
        return self._within or not CurrentThreadScheduler.singleton().schedule_required()


leaving = _Leaving()
"""`with leaving:` what this thread disposes is disposed because a loop or a `with` block was
left, and not because it was stopped."""

_LIMIT = 512  # items; enough to let the two threads run in turns, little enough to hold

# Items at which it makes wait who may not: one block has not so many, so they come from a
# source that cannot be paused, which a callback has subscribed to.
_OVERFULL = 16 * _LIMIT

# Seconds after which the main thread looks up from waiting for its bell. Ctrl-C does not
# interrupt who waits for a lock, on Windows; nor, anywhere, who is just about to.
_PATIENCE = 0.05


class HandOffQueue(abc.DisposableBase, Generic[T]):
    """Takes items from the thread that emits them to one that takes them in turn."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self.items: deque[T] = deque()
        self.error: Exception | None = None
        self.ended = False
        self.wanted = False
        self.paused = False
        self._closed = False
        self._wake = wake
        self._room: SimpleQueue[None] = SimpleQueue()
        self._sources: set[Pausable] = set()  # that are paused until there is room
        self.waiting_thread: int | None = None  # that does nothing else while it is empty
        self.waiting_loop: asyncio.AbstractEventLoop | None = None  # that cannot run meanwhile
        self._reading_thread = get_ident()
        self._subscription = SingleAssignmentDisposable()
        register_for_fork(self)

    def forked(self) -> None:
        """Ends after the items that are here: nothing in this process emits more of them."""
        if not self.ended:
            self.error, self.ended = forked_stream_error(), True
        self._subscription = SingleAssignmentDisposable()

    def subscribe_to(
        self, source: Observable[T], scheduler: abc.SchedulerBase | None = None
    ) -> None:
        def subscribe(*_: object) -> None:
            self._subscription.disposable = source.subscribe(
                self.on_next, self.on_error, self.on_completed, scheduler=scheduler
            )

        token = being_iterated.set(self)
        try:
            # With the trampoline running, subscribe() gives its Disposable before the
            # current thread's scheduler emits: a source without end can be stopped.
            CurrentThreadScheduler.singleton().ensure_trampoline(subscribe)
        except Exception as error:  # a subscribe that raises: the loop raises it
            self.on_error(error)
        finally:
            being_iterated.reset(token)

    # the emitting side

    def on_next(self, item: T) -> None:
        self.items.append(item)
        if self.wanted:
            self._ring()
        if len(self.items) >= _LIMIT:
            self._pause()

    def on_error(self, error: Exception) -> None:
        self.error = error
        self.on_completed()

    def on_completed(self) -> None:
        self.ended = True
        self._ring()

    def _ring(self) -> None:
        self.wanted = False
        try:
            self._wake()
        except RuntimeError:  # the event loop is closed: nobody will ever take more
            self.dispose()

    def _pause(self) -> None:
        if emitting.source is not None and len(self.items) < _OVERFULL:
            self._pause_source(emitting.source)
            return
        if get_ident() == self._reading_thread:
            return  # it cannot wait for itself: a source that emits where it is read
        while len(self.items) >= _LIMIT and not self._closed:
            self.paused = True
            if len(self.items) >= _LIMIT and not self._closed:
                self._room.get()
        self._room.put(None)  # pass it on: more than one thread may emit, and wait

    def _pause_source(self, source: Pausable) -> None:
        source.pause()
        self._sources.add(source)
        self.paused = True
        if len(self.items) < _LIMIT or self._closed:
            self._resume_sources()

    def _resume_sources(self) -> None:
        with suppress(KeyError):  # empty: two threads may do this at once
            while True:
                self._sources.pop().resume()

    # the reading side

    def make_room(self) -> None:
        if len(self.items) <= _LIMIT // 2:
            self.paused = False
            self._room.put(None)
            self._resume_sources()

    def ending(self) -> Exception:
        """What to raise at the end. Not kept: it knows the frames that it was raised in."""
        error = StopAsyncIteration() if self.error is None else self.error
        self.leave()
        return error

    def dispose(self) -> None:
        """End it for both sides, from any thread: what is still here is dropped, and
        what a source that cannot be stopped emits from now on."""
        if not self._closed:
            self._closed = True
            self.items.clear()
            self.items = deque(maxlen=0)
            self.error = None
            self.ended = True
            self._subscription.dispose()
            self._room.put(None)
            self._resume_sources()
            self._ring()

    def leave(self) -> None:
        """The loop was left: with nothing of interest to come, its source may read on."""
        with leaving:
            self.dispose()


def iterate(
    source: Observable[T],
    track: Callable[[abc.DisposableBase], None],
    scheduler: abc.SchedulerBase | None = None,
) -> Generator[T, None, None]:
    """The items of one subscription; closing the generator disposes it.

    `track` is given what ends the loop from elsewhere.

    It subscribes on a thread of its own: a source that emits while it is subscribed to
    then fills the hop and waits, where on this thread it would never return.
    """
    bell: SimpleQueue[None] = SimpleQueue()
    hop: HandOffQueue[T] = HandOffQueue(partial(bell.put, None))
    hop.waiting_thread = get_ident()
    with suppress(RuntimeError):  # no loop runs here
        hop.waiting_loop = asyncio.get_running_loop()
    patience = _PATIENCE if current_thread() is main_thread() else None
    items = hop.items
    track(hop)
    try:
        start_thread(
            Thread(
                target=copy_context().run,
                args=(hop.subscribe_to, source, scheduler),
                name="rxmistral-subscribe",
                daemon=True,
            )
        )
        while True:
            ended = hop.ended  # asked first: what came before the end is in items by now
            while items:
                yield items.popleft()
                if hop.paused:
                    hop.make_room()
            if ended:
                break
            hop.wanted = True
            if not items and not hop.ended:
                with suppress(Empty):
                    bell.get(timeout=patience)
        if hop.error is not None:
            raise hop.error
    finally:
        hop.leave()


class AsyncIteration(AsyncIterator[T]):
    """The items of one subscription, on the event loop that first asks for one.

    A class and not an async generator: `break` leaves an async generator to the
    loop's garbage collection, this is disposed as soon as nobody holds it.
    """

    def __init__(self, source: Observable[T], track: Callable[[abc.DisposableBase], None]) -> None:
        self._source = source
        self._track = track
        self._hop: HandOffQueue[T] | None = None
        self._taken = 0  # since it last had to wait
        self._waiting = False
        self._cancelled = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        hop = self._hop or self._start()
        if asyncio.get_running_loop() is not self._bell.loop:
            raise RuntimeError(
                "this iterator was begun on another event loop, which alone can wake it: "
                "read one run on one loop, or begin a new run with `async for` over the stream"
            )
        items = hop.items
        if self._taken >= _LIMIT:
            self._taken = 0
            await self._let_others_run()
        while not items:
            if self._taken > 1:  # a burst: let it grow, a bell for each few items costs more
                await self._let_others_run()
            else:
                await self._wait(hop)
            self._taken = 0
        self._taken += 1
        item = items.popleft()
        if hop.paused:
            hop.make_room()
        return item

    def _start(self) -> HandOffQueue[T]:
        self._bell = _LoopWakeUp()
        self._hop = hop = HandOffQueue[T](self._bell.ring)
        self._track(hop)
        hop.subscribe_to(self._source)
        return hop

    async def _wait(self, hop: HandOffQueue[T]) -> None:
        """Until an item is there; raises where none will come."""
        ended = hop.ended
        if hop.items:
            return
        if self._cancelled:  # to end as if that were all would be a lie
            raise RuntimeError("this run is over: waiting for its next item was cancelled")
        if ended:
            raise hop.ending()
        if self._waiting:  # its bell would be lost
            raise RuntimeError("another task is waiting for the next item of this run")
        self._bell.prepare()
        hop.wanted = True
        if not hop.items and not hop.ended:
            self._waiting = True
            try:
                await self._or_dispose(self._bell.rung)
            finally:
                self._waiting = False

    async def _let_others_run(self) -> None:
        """A source as fast as its reader would otherwise keep the loop to itself."""
        await self._or_dispose(asyncio.sleep(0))

    async def _or_dispose(self, awaitable: Any) -> None:
        try:
            await awaitable
        except BaseException:  # the task was cancelled: let go of the socket now
            self._cancelled = True
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if self._hop is not None:
            self._hop.dispose()

    def __del__(self) -> None:
        if self._hop is not None:
            self._hop.leave()


class _LoopWakeUp:
    """Rung on any thread, heard on the event loop it was made on."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.prepare()

    def prepare(self) -> None:
        self.rung: asyncio.Future[None] = self.loop.create_future()

    def ring(self) -> None:
        self.loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        if not self.rung.done():
            self.rung.set_result(None)
