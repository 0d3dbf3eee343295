"""answer_each: a stream of prompts into the answers to them, one answer at a time.

    thread of the prompts        on_next ──▶ cancel the current answer ──▶ ask, subscribe
                                                  │
    reader of the old answer     on_next ──▶ [ output slot ] ──▶ observer
    reader of the new answer     on_next ──▶ [ output slot ]

Requirements: once a prompt has arrived, no item of an answer that it cancels begins to be emitted,
and the connection of that answer is closed; one thread at a time emits; the thread of the prompts
never waits for a subscriber; an item acquires no lock. (With `switch_map` of RxPY, a new answer
reaches a subscriber that is still busy with the old one, and items of the old answer may follow.)

Strategy: one answer at a time owns the output slot. Its first item acquires the slot under a lock,
and waits if a subscriber is still busy with an item of the previous answer. After that, emitting
and cancelling synchronize without a lock:

    emit     set `emitting_thread`, then check `cancelled`
    cancel   set `cancelled`, then check `emitting_thread`

Each side writes before it reads, so at least one of them sees the other: a cancelled answer emits
nothing more, and the side that finishes last releases the slot. No lock is held while the
program's code is called.

A loop holds items that it has not read yet. Those of the old answer are dropped when the prompt
arrives, and once more if its last item was being emitted at that moment, before the slot is released.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from threading import Condition, get_ident
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args, overload

import reactivex
from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable
from reactivex.internal import noop

from ..checks import check_callback
from .async_source import SubscriptionLoop, program_loop
from .current_iteration import current_iteration
from .hand_off_queue import HandOffQueue
from .map_async import check_async_function, is_async_function, results_of
from .state_machine import operate
from .stream import AsyncItems, AsyncResult, Stream

__all__ = ["answer_each"]

P = TypeVar("P")
T = TypeVar("T")

WhenBusy: TypeAlias = Literal["switch", "queue", "ignore"]


class InnerObserver(abc.ObserverBase[T], Generic[P, T]):
    """The observer of one answer."""

    def __init__(self, outer: OuterObserver[P, T], prompt: P) -> None:
        self.prompt = prompt
        self.subscription = SingleAssignmentDisposable()
        self.cancelled = False
        self.is_superseded = False  # cancelled by the next prompt
        self.emitting_thread = 0  # id of the thread that emits an item, or is about to; 0: none
        self.owns_output = False
        self.is_subscribing = True
        self.has_completed = False
        self._outer = outer
        self._emit = outer.observer.on_next
        self._raised: Exception | None = None  # by the subscriber

    def on_next(self, value: T) -> None:
        previous, self.emitting_thread = self.emitting_thread, get_ident()
        try:
            if not self.cancelled and (self.owns_output or self._outer.acquire_output(self)):
                self._emit(value)
        except Exception as error:
            self._raised = error
            raise
        finally:
            self.emitting_thread = previous
            if self.cancelled and not previous:
                self._outer.release_output(self)

    def on_error(self, error: Exception) -> None:
        if error is self._raised:
            self._outer.fail(error, self)
        else:
            self._outer.inner_failed(self, error)

    def on_completed(self) -> None:
        self._outer.inner_completed(self)


class OuterObserver(abc.ObserverBase[P], abc.DisposableBase, Generic[P, T]):
    """The observer of the prompts, which subscribes to one answer after the other."""

    def __init__(
        self,
        ask: Callable[[P], object],
        when_busy: WhenBusy,
        on_error: Callable[[P, Exception], object] | None,
        observer: abc.ObserverBase[T],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        self.observer = observer
        self._ask = ask
        self._is_async = is_async_function(ask)
        self._when_busy = when_busy
        self._handle_error = on_error
        self._scheduler = scheduler
        self._context = copy_context()  # of the subscriber, for the answers
        self._reading_loop = current_iteration.get()
        self._event_loop = SubscriptionLoop(program_loop())
        # With a reentrant lock, since garbage collection may call dispose() at any moment.
        self._changed = Condition()
        self._queue: deque[P] = deque()
        self._current: InnerObserver[P, T] | None = None
        self._output_owner: InnerObserver[P, T] | None = None
        self._prompts_completed = False
        self._is_stopped = False
        self._pending_terminal: Callable[[], None] | None = None  # sent when output is released

    # --- prompts ---

    def on_next(self, value: P) -> None:
        with self._changed:
            current = self._current
            if self._is_stopped or (current is not None and self._when_busy == "ignore"):
                return
            if current is not None and self._when_busy == "queue":
                self._queue.append(value)
                return
            self._cancel(current)
            self._current = inner = InnerObserver(self, value)
            if current is not None:
                current.is_superseded = True
            if self._when_busy == "switch":
                self._drop_unread_items()
        if current is not None:
            current.subscription.dispose()
        self._subscribe(inner)

    def on_error(self, error: Exception) -> None:
        self.fail(error)

    def on_completed(self) -> None:
        with self._changed:
            self._prompts_completed = True
            if self._current is not None:
                return
        self.stop(self.observer.on_completed)

    # --- answers ---

    def _subscribe(self, inner: InnerObserver[P, T] | None) -> None:
        """Subscribes to an answer, and to the next one if `subscribe` has completed it.

        This is a loop, so that many such answers do not need a deep stack.
        """
        while inner is not None:
            self._subscribe_to_answer(inner)
            with self._changed:
                inner.is_subscribing = False
            inner = self._following(inner) if inner.has_completed else None

    def _subscribe_to_answer(self, inner: InnerObserver[P, T]) -> None:
        ask: Callable[[], object] = partial(self._ask, inner.prompt)
        try:
            result = ask if self._is_async else self._context.copy().run(ask)
        except Exception as error:
            inner.on_error(error)
            return
        # A coroutine that never starts is closed, or Python would warn of it.
        discard = result.close if isinstance(result, Coroutine) else noop
        if inner.cancelled:  # during `ask`
            discard()
            return
        answer = self._as_stream(result, discard)
        inner.subscription.disposable = self._context.copy().run(
            answer.subscribe, inner, scheduler=self._scheduler
        )

    def _as_stream(self, result: Any, discard: Callable[[], object]) -> Stream[T]:
        if isinstance(result, Observable):
            return Stream.of(result)
        if self._is_async:
            items = partial(results_of, result)
        elif isawaitable(result) or isinstance(result, AsyncIterable):
            items = partial(results_of, lambda: result)
        else:
            return Stream.of(reactivex.just(result))
        return Stream(lambda observer, _: self._event_loop.pull(items, observer, discard))

    def inner_failed(self, inner: InnerObserver[P, T], error: Exception) -> None:
        if self._handle_error is None:
            self.fail(error, inner)
            return
        with self._changed:
            if self._is_stopped or inner is not self._current:
                return
        try:
            self._context.copy().run(self._handle_error, inner.prompt, error)
        except Exception as raised:
            self.fail(raised, inner)
        else:
            self.inner_completed(inner)

    def inner_completed(self, inner: InnerObserver[P, T]) -> None:
        with self._changed:
            inner.has_completed = True
            if inner.is_subscribing:
                return
        self._subscribe(self._following(inner))

    def _following(self, inner: InnerObserver[P, T]) -> InnerObserver[P, T] | None:
        """Returns the answer to subscribe to next; completes if there is none."""
        with self._changed:
            if self._is_stopped or inner is not self._current:
                return None
            self._cancel(inner)
            self._current = None
            if self._queue:
                self._current = InnerObserver(self, self._queue.popleft())
                return self._current
            if not self._prompts_completed:
                return None
        self.stop(self.observer.on_completed)
        return None

    # --- output slot ---

    def acquire_output(self, inner: InnerObserver[P, T]) -> bool:
        """Waits for the output slot; returns False if the answer was cancelled.

        It does not wait for its own thread, since a callback may send a prompt that is answered at
        once.
        """

        def can_continue() -> bool:
            owner = self._output_owner
            return inner.cancelled or owner is None or owner.emitting_thread == get_ident()

        with self._changed:
            self._changed.wait_for(can_continue)
            if inner.cancelled:
                return False
            self._output_owner = inner
            inner.owns_output = True
            return True

    def _cancel(self, inner: InnerObserver[P, T] | None) -> None:
        # Requires the lock.
        if inner is not None:
            inner.cancelled = True
            if self._output_owner is inner and not inner.emitting_thread:
                self._output_owner = None
            self._changed.notify_all()

    def release_output(self, inner: InnerObserver[P, T]) -> None:
        """Frees the slot after the last item of a cancelled answer."""
        with self._changed:
            if self._output_owner is not inner:
                return
            if inner.is_superseded:
                self._drop_unread_items()
            self._output_owner = None
            send_terminal, self._pending_terminal = self._pending_terminal, None
            self._changed.notify_all()
        if send_terminal is not None:
            send_terminal()

    def _drop_unread_items(self) -> None:
        """Drops the items that a loop has not read yet; other subscribers have received theirs."""
        loop = self._reading_loop
        if isinstance(loop, HandOffQueue):
            loop.items.clear()
            if loop.waiting_producers:
                loop.make_room()

    def fail(self, error: Exception, inner: InnerObserver[P, T] | None = None) -> None:
        self.stop(partial(self.observer.on_error, error), inner)

    def stop(
        self, send_terminal: Callable[[], None], failed: InnerObserver[P, T] | None = None
    ) -> None:
        """Sends the terminal after the item that is being emitted; ignores a former answer."""
        with self._changed:
            current = self._current
            if self._is_stopped or (failed is not None and failed is not current):
                return
            self._is_stopped = True
            self._cancel(current)
            if self._output_owner is not None:
                self._pending_terminal, send_terminal = send_terminal, noop
        if current is not None:
            current.subscription.dispose()
        self._event_loop.close()
        send_terminal()

    def dispose(self) -> None:
        self.stop(noop)


@overload
def answer_each(
    ask: Callable[[P], AsyncItems[T]],
    when_busy: WhenBusy = "switch",
    on_error: Callable[[P, Exception], object] | None = None,
) -> Callable[[Observable[P]], Stream[T]]: ...
@overload
def answer_each(
    ask: Callable[[P], Awaitable[T]],
    when_busy: WhenBusy = "switch",
    on_error: Callable[[P, Exception], object] | None = None,
) -> Callable[[Observable[P]], Stream[T]]: ...
@overload
def answer_each(
    ask: Callable[[P], AsyncResult[T] | T],
    when_busy: WhenBusy = "switch",
    on_error: Callable[[P, Exception], object] | None = None,
) -> Callable[[Observable[P]], Stream[T]]: ...
def answer_each(
    ask: Callable[[P], AsyncResult[T] | T],
    when_busy: WhenBusy = "switch",
    on_error: Callable[[P, Exception], object] | None = None,
) -> Callable[[Observable[P]], Stream[T]]:
    """Prompts into the items of their answers, one answer at a time.

        prompts  --1--------2-------------|
        "switch" ----a1-b1----a2-b2-c2-|->     a new prompt cancels the current answer
        "queue"  ----a1-b1-c1-a2-b2-c2-|->     a new prompt waits for the end of the answer
        "ignore" ----a1-b1-c1----------|->     a new prompt is dropped

    Prompts may arrive on any threads; a thread that emits one never waits for a subscriber.

    Args:
        ask: Returns the answer to a prompt: a Stream or any other Observable, an async
            iterable, or an awaitable of one of these; any other result, or an awaitable of it,
            is the only item of the answer. Called on the thread that emits the prompt; for a
            queued prompt, on the thread that completed the previous answer. A coroutine
            function or an async generator function runs on the event loop of the thread that
            subscribes; without one, on an event loop of this subscription on a thread of its
            own.
        when_busy: What to do with a prompt that arrives during an answer. Default: "switch".
        on_error: Called with the prompt and the error of an answer that fails, before the next
            answer starts; the conversation goes on. None: the error ends it. Default: None.

    Emits: the items of the answers. With "switch", nothing of an answer is emitted after the
        next prompt: a loop drops what it has not read of it. If a subscriber is busy with an item of an answer that a
        new prompt cancels, the new answer waits for the subscriber; the connection of the
        cancelled answer is closed at once.
    Holds: prompts, if `when_busy` is "queue".
    Completes: after the prompts and the last answer have completed.
    Errors: those of the prompts; those of the answers without `on_error`, and those that
        `on_error` raises.

    >>> import reactivex
    >>> prompts = Stream.of(reactivex.of("a", "b"))
    >>> list(prompts.pipe(answer_each(lambda prompt: reactivex.of(prompt, prompt.upper()))))
    ['b', 'B']
    >>> list(prompts.pipe(answer_each(lambda prompt: reactivex.of(prompt, prompt.upper()), "queue")))
    ['a', 'A', 'b', 'B']
    """
    check_async_function("ask", ask)
    if on_error is not None:
        check_callback("on_error", on_error)
    if when_busy not in get_args(WhenBusy):
        raise ValueError(f'when_busy must be "switch", "queue" or "ignore", got {when_busy!r}')

    def subscribe_to(
        prompts: Stream[P], observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        outer = OuterObserver(ask, when_busy, on_error, observer, scheduler)
        return CompositeDisposable(prompts.subscribe(outer, scheduler=scheduler), outer)

    return operate(subscribe_to)
