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
nothing more, and the side that finishes last releases the slot. No lock is held while other code
is called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from threading import Condition, get_ident
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SingleAssignmentDisposable
from reactivex.internal import noop

from ..checks import check_callback
from .state_machine import operate
from .stream import Stream

__all__ = ["answer_each"]

P = TypeVar("P")
T = TypeVar("T")

WhenBusy: TypeAlias = Literal["switch", "queue", "ignore"]


class InnerObserver(abc.ObserverBase[T]):
    """The observer of one answer."""

    def __init__(self, outer: OuterObserver[P, T]) -> None:
        self.subscription = SingleAssignmentDisposable()
        self.cancelled = False
        self.emitting_thread = 0  # id of the thread that emits an item, or is about to; 0: none
        self.owns_output = False
        self.is_subscribing = True
        self.has_completed = False
        self._outer = outer
        self._emit = outer.observer.on_next

    def on_next(self, value: T) -> None:
        previous, self.emitting_thread = self.emitting_thread, get_ident()
        try:
            if not self.cancelled and (self.owns_output or self._outer.acquire_output(self)):
                self._emit(value)
        finally:
            self.emitting_thread = previous
            if self.cancelled and not previous:
                self._outer.release_output(self)

    def on_error(self, error: Exception) -> None:
        self._outer.stop(partial(self._outer.observer.on_error, error), self)

    def on_completed(self) -> None:
        self._outer.inner_completed(self)


class OuterObserver(abc.ObserverBase[P], abc.DisposableBase, Generic[P, T]):
    """The observer of the prompts, which subscribes to one answer after the other."""

    def __init__(
        self,
        ask: Callable[[P], Observable[T]],
        when_busy: WhenBusy,
        observer: abc.ObserverBase[T],
        scheduler: abc.SchedulerBase | None,
    ) -> None:
        self.observer = observer
        self._ask = ask
        self._when_busy = when_busy
        self._scheduler = scheduler
        self._context = copy_context()  # of the subscriber, for the answers
        # With a reentrant lock, since garbage collection may call dispose() at any moment.
        self._changed = Condition()
        self._queue: deque[P] = deque()
        self._current: InnerObserver[T] | None = None
        self._output_owner: InnerObserver[T] | None = None
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
            self._current = inner = InnerObserver(self)
        if current is not None:
            current.subscription.dispose()
        self._subscribe((inner, value))

    def on_error(self, error: Exception) -> None:
        self.stop(partial(self.observer.on_error, error))

    def on_completed(self) -> None:
        with self._changed:
            self._prompts_completed = True
            if self._current is not None:
                return
        self.stop(self.observer.on_completed)

    # --- answers ---

    def _subscribe(self, following: tuple[InnerObserver[T], P] | None) -> None:
        """Subscribes to an answer, and to the next one if `subscribe` has completed it: a loop,
        so that many such answers do not need a deep stack."""
        while following is not None:
            inner, prompt = following
            try:
                source = Stream.of(self._context.copy().run(self._ask, prompt))
            except Exception as error:
                inner.on_error(error)
                return
            if inner.cancelled:  # during `ask`
                return
            inner.subscription.disposable = self._context.copy().run(
                source.subscribe, inner, scheduler=self._scheduler
            )
            with self._changed:
                inner.is_subscribing = False
            following = self._following(inner) if inner.has_completed else None

    def inner_completed(self, inner: InnerObserver[T]) -> None:
        with self._changed:
            inner.has_completed = True
            if inner.is_subscribing:
                return
        self._subscribe(self._following(inner))

    def _following(self, inner: InnerObserver[T]) -> tuple[InnerObserver[T], P] | None:
        """Returns what to subscribe to after an answer; completes if it was the last one."""
        with self._changed:
            if self._is_stopped or inner is not self._current:
                return None
            self._cancel(inner)
            self._current = following = InnerObserver(self) if self._queue else None
            if following is not None:
                return following, self._queue.popleft()
            if not self._prompts_completed:
                return None
        self.stop(self.observer.on_completed)
        return None

    # --- output slot ---

    def acquire_output(self, inner: InnerObserver[T]) -> bool:
        """Waits for the output slot, but not for its own thread, since a callback may send a
        prompt that is answered at once; returns False if the answer was cancelled."""

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

    def _cancel(self, inner: InnerObserver[T] | None) -> None:
        # Requires the lock.
        if inner is not None:
            inner.cancelled = True
            if self._output_owner is inner and not inner.emitting_thread:
                self._output_owner = None
            self._changed.notify_all()

    def release_output(self, inner: InnerObserver[T]) -> None:
        """Frees the slot after the last item of a cancelled answer."""
        with self._changed:
            if self._output_owner is not inner:
                return
            self._output_owner = None
            send_terminal, self._pending_terminal = self._pending_terminal, None
            self._changed.notify_all()
        if send_terminal is not None:
            send_terminal()

    def stop(
        self, send_terminal: Callable[[], None], failed: InnerObserver[T] | None = None
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
        send_terminal()

    def dispose(self) -> None:
        self.stop(noop)


def answer_each(
    ask: Callable[[P], Observable[T]], when_busy: WhenBusy = "switch"
) -> Callable[[Observable[P]], Stream[T]]:
    """Prompts into the items of their answers, one answer at a time.

        prompts  --1--------2-------------|
        "switch" ----a1-b1----a2-b2-c2-|->     a new prompt cancels the current answer
        "queue"  ----a1-b1-c1-a2-b2-c2-|->     a new prompt waits for the end of the answer
        "ignore" ----a1-b1-c1----------|->     a new prompt is dropped

    Prompts may arrive on any threads; a thread that emits one never waits for a subscriber.

    Args:
        ask: Returns the answer to a prompt, as a Stream or any Observable. Called on the
            thread that emits the prompt; for a queued prompt, on the thread that completed
            the previous answer.
        when_busy: What to do with a prompt that arrives during an answer. Default: "switch".

    Emits: the items of the answers. If a subscriber is busy with an item of an answer that a
        new prompt cancels, the new answer waits for the subscriber; the connection of the
        cancelled answer is closed at once.
    Holds: prompts, if `when_busy` is "queue".
    Completes: after the prompts and the last answer have completed.
    Errors: those of the prompts and of every answer. To keep the conversation alive when an
        answer fails, catch the error in `ask`: `lambda prompt: ...catch(...)`.

    >>> import reactivex
    >>> prompts = Stream.of(reactivex.of("a", "b"))
    >>> list(prompts.pipe(answer_each(lambda prompt: reactivex.of(prompt, prompt.upper()))))
    ['b', 'B']
    >>> list(prompts.pipe(answer_each(lambda prompt: reactivex.of(prompt, prompt.upper()), "queue")))
    ['a', 'A', 'b', 'B']
    """
    check_callback("ask", ask)
    if when_busy not in get_args(WhenBusy):
        raise ValueError(f'when_busy must be "switch", "queue" or "ignore", got {when_busy!r}')

    def subscribe_to(
        prompts: Stream[P], observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        outer = OuterObserver(ask, when_busy, observer, scheduler)
        return CompositeDisposable(prompts.subscribe(outer, scheduler=scheduler), outer)

    return operate(subscribe_to)
