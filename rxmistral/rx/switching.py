"""A stream of prompts into the answers to them: what becomes of a running one.

    prompt's thread     on_next ──▶ leave the running answer ──▶ ask, subscribe
                                          │
    reader of the old   on_next ──▶ [ stage ] ──▶ observer
    reader of the new   on_next ──▶ [ stage ]

What it must do: once a prompt has come, nothing of an answer that it ends may begin to be
emitted, its connection is closed at once, and no two threads emit at the same time. What
it may cost: the thread of the prompts never waits for a subscriber, and an item takes no
lock. So the stage is for one answer at a time. The first item of an answer takes it,
under a lock, and waits for it if a subscriber is still at work on an item of the answer
before; from then on an answer that emits and one who ends it meet without a lock:

    item    say that you emit, then look whether you were left
    leave   say that it is left, then look whether it emits

Each says before it looks, so one at least sees the other: an answer that is left emits no
more, and whoever comes last clears the stage. (RxPY's `switch_map` has no stage: a new
answer comes to a subscriber that is still at work on the old one, and an item, an error
or an end of the old one that has passed its check comes after the switch.)

No lock is held while something is called.
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

from ..checks import check_callback
from .stream import Stream

__all__ = ["answer_each"]

P = TypeVar("P")
T = TypeVar("T")

WhenBusy: TypeAlias = Literal["switch", "queue", "ignore"]


class Answer(abc.ObserverBase[T]):
    """One of the answers."""

    def __init__(self, conversation: Conversation[P, T]) -> None:
        self.subscription = SingleAssignmentDisposable()
        self.left = False  # nothing of it may be emitted any more
        self.emitting = 0  # the thread that emits an item, or is about to
        self.on_stage = False
        self.starting = True  # in the middle of its `subscribe`
        self.complete = False
        self._conversation = conversation
        self._emit = conversation.observer.on_next

    def on_next(self, value: T) -> None:
        outer, self.emitting = self.emitting, get_ident()
        try:
            if not self.left and (self.on_stage or self._conversation.takes_stage(self)):
                self._emit(value)
        finally:
            self.emitting = outer
            if self.left and not outer:
                self._conversation.clear_stage(self)

    def on_error(self, error: Exception) -> None:
        self._conversation.failed(self, error)

    def on_completed(self) -> None:
        self._conversation.completed(self)


class Conversation(abc.ObserverBase[P], abc.DisposableBase, Generic[P, T]):
    """Takes the prompts, and knows which answer is the current one."""

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
        self._context = copy_context()  # of who subscribed, for the answers to come
        # Of a reentrant lock, since garbage collection may dispose it at any moment.
        self._changed = Condition()
        self._queue: deque[P] = deque()
        self._current: Answer[T] | None = None
        self._stage: Answer[T] | None = None
        self._prompts_ended = False
        self._over = False
        self._ending: Callable[[], None] | None = None  # for whoever clears the stage

    # --- the prompts ---

    def on_next(self, value: P) -> None:
        with self._changed:
            former = self._current
            if self._over or (former is not None and self._when_busy == "ignore"):
                return
            if former is not None and self._when_busy == "queue":
                self._queue.append(value)
                return
            self._leave(former)
            self._current = answer = Answer(self)
        if former is not None:
            former.subscription.dispose()
        self._start(answer, value)

    def on_error(self, error: Exception) -> None:
        self._end(partial(self.observer.on_error, error))

    def on_completed(self) -> None:
        with self._changed:
            self._prompts_ended = True
            if self._current is not None:
                return
        self._end(self.observer.on_completed)

    # --- the answers ---

    def _start(self, answer: Answer[T], prompt: P) -> None:
        """It, and those that wait for it: one that ends before its `subscribe` comes back
        leaves the next to who started it, so many need no deep stack."""
        while True:
            try:
                source = Stream.of(self._context.copy().run(self._ask, prompt))
            except Exception as error:
                self.failed(answer, error)
                return
            if answer.left:  # meanwhile
                return
            answer.subscription.disposable = self._context.copy().run(
                source.subscribe, answer, scheduler=self._scheduler
            )
            with self._changed:
                answer.starting = False
            if not answer.complete:
                return
            following = self._after(answer)
            if following is None:
                return
            answer, prompt = following

    def completed(self, answer: Answer[T]) -> None:
        with self._changed:
            answer.complete = True
            if answer.starting:
                return
        following = self._after(answer)
        if following is not None:
            self._start(*following)

    def _after(self, answer: Answer[T]) -> tuple[Answer[T], P] | None:
        """What is to be started after an answer that is complete."""
        with self._changed:
            if self._over or answer is not self._current:
                return None
            self._leave(answer)
            self._current = following = Answer(self) if self._queue else None
            if following is not None:
                return following, self._queue.popleft()
            if not self._prompts_ended:
                return None
        self._end(self.observer.on_completed)
        return None

    def failed(self, answer: Answer[T], error: Exception) -> None:
        self._end(partial(self.observer.on_error, error), of=answer)

    # --- the stage ---

    def takes_stage(self, answer: Answer[T]) -> bool:
        """Wait until it is free; not for oneself, where a callback sends a prompt that is
        answer_each at once. False if the answer was left meanwhile."""
        with self._changed:
            self._changed.wait_for(
                lambda: answer.left or self._stage is None or self._stage.emitting == get_ident()
            )
            if answer.left:
                return False
            self._stage = answer
            answer.on_stage = True
            return True

    def _leave(self, answer: Answer[T] | None) -> None:
        """Under the lock."""
        if answer is not None:
            answer.left = True
            if self._stage is answer and not answer.emitting:
                self._stage = None
            self._changed.notify_all()

    def clear_stage(self, answer: Answer[T]) -> None:
        """Its last item has been emitted."""
        with self._changed:
            if self._stage is not answer:
                return
            self._stage = None
            ending, self._ending = self._ending, None
            self._changed.notify_all()
        if ending is not None:
            ending()

    # --- the end ---

    def _end(self, ending: Callable[[], None], of: Answer[T] | None = None) -> None:
        """Now, or when a subscriber that is at work has done that."""
        with self._changed:
            current = self._current
            if self._over or (of is not None and of is not current):
                return
            self._over = True
            self._leave(current)
            if self._stage is not None:
                self._ending, ending = ending, _nothing
        if current is not None:
            current.subscription.dispose()
        ending()

    def dispose(self) -> None:
        with self._changed:
            self._over = True
            current = self._current
            self._leave(current)
        if current is not None:
            current.subscription.dispose()


def _nothing() -> None:
    pass


def answer_each(
    ask: Callable[[P], Observable[T]], when_busy: WhenBusy = "switch"
) -> Callable[[Observable[P]], Stream[T]]:
    """Prompts into the items of their answers, one answer at a time.

        prompts  --1--------2-------------|
        "switch" ----a1-b1----a2-b2-c2-|->     a new prompt ends the running answer
        "queue"  ----a1-b1-c1-a2-b2-c2-|->     ... waits until it has ended
        "ignore" ----a1-b1-c1----------|->     ... is not asked

    Prompts may come from any threads; who emits one never waits for a subscriber.

    Args:
        ask: Makes the answer to a prompt, a Stream or any Observable, on the thread that
            emits the prompt; of one that has waited, on the thread that emitted the end of
            the answer before.
        when_busy: What to do with a prompt that comes while an answer is running.

    Emits: the items of the answers. Where a subscriber is at work on an item of an answer
        that is ended by a new prompt, the new answer waits for that; its connection is
        closed at once.
    Holds: prompts, where `when_busy` is "queue".
    Completes: when the prompts have, and the last answer.
    Errors: of the prompts and of every answer. Where one that fails shall not end the
        conversation, catch that in `ask`: `lambda prompt: ...catch(...)`.

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

    def operate(source: Observable[P]) -> Stream[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            conversation = Conversation(ask, when_busy, observer, scheduler)
            return CompositeDisposable(
                source.subscribe(conversation, scheduler=scheduler), conversation
            )

        return Stream(subscribe)

    return operate
