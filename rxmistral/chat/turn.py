"""Turn: one prompt of a conversation, and the run that answers it.

new ──▶ (waiting) ──▶ running ──▶ over          a reader begins it
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeAlias
from weakref import ref

from reactivex import abc
from reactivex.disposable import SerialDisposable

from ..completions.parts import AnswerEnded, Part, TextDelta
from ..errors import StoppedError
from ..models import AssistantMessage, ContentChunk, Message, ToolMessage, UserMessage
from ..rx.backpressure import running_loop
from ..rx.delivery import lock
from ..rx.reused_threads import run_on_thread
from ..rx.stoppable_run import StoppableRun
from ..rx.stream import Stream
from .history import History, TurnPrompt, as_message, cut, position_of, received, text_of
from .run import RunStream

__all__ = ["OpenRun", "Prompt", "Turn", "turn_prompt"]

Prompt: TypeAlias = str | Sequence[ContentChunk] | UserMessage | ToolMessage | Sequence[ToolMessage]

OpenRun: TypeAlias = Callable[[list[Message]], tuple[RunStream, Stream[Part]]]
"""Returns the run that answers these messages, and the Stream of its parts."""


def turn_prompt(prompt: object) -> TurnPrompt:
    """Returns a prompt as a user message, or as the results of tools.

    Raises:
        TypeError: It is not a prompt.
    """
    if isinstance(prompt, UserMessage):
        return prompt
    if isinstance(prompt, str):
        return UserMessage(content=prompt)
    if isinstance(prompt, ToolMessage):
        return [prompt]
    if isinstance(prompt, Sequence):
        if all(isinstance(each, ContentChunk) for each in prompt):
            return UserMessage(content=list(prompt))
        if all(isinstance(each, ToolMessage) for each in prompt):
            return list(prompt)
    raise TypeError(
        "prompt must be a str, a sequence of content chunks, a UserMessage, or the ToolMessages "
        f"that answer open tool calls, got {prompt!r:.100}"
    )


class Turn:
    """One prompt and its answer.

    Args:
        prompt: The user message, or the results of tools.
        open_run: Called when the turn has begun; returns the run that answers it, and the
            Stream of its parts.
        on_idle: Called from any thread when a reader of the answer has left.
    """

    def __init__(
        self,
        prompt: TurnPrompt,
        open_run: Callable[[Turn], tuple[RunStream, Stream[Part]]],
        on_idle: Callable[[], object],
    ) -> None:
        self.prompt = prompt
        self.run: StoppableRun[Part] = StoppableRun(partial(_release, ref(self), on_idle))
        self.has_entered = False  # it is running, waiting, or over
        self.has_begun = False
        self.is_closed = False  # the next turn has begun: marks have no effect
        self.sent: list[Message] = []
        self.stream: RunStream | None = None  # whose parts the readers receive
        self._open_run = open_run
        self._mark: int | None = None  # characters that were delivered
        self._start: Callable[[], None] | None = None  # once a reader waits

    # --- the run ---

    def subscribe(
        self, observer: abc.ObserverBase[Part], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        """Subscribes to the run of the turn; if it waits for another turn, when it begins."""
        subscription = SerialDisposable()
        start = partial(self._subscribe, observer, scheduler, subscription)
        self._start = partial(
            _call_on_loop, running_loop(), copy_context(), start, observer.on_error
        )
        if self.has_begun and self._pop_start() is not None:
            start()
        return subscription

    def start(self) -> None:
        """Subscribes to the run, once the turn has begun and has a reader; sends the request."""
        start = self._pop_start()
        if start is not None:
            start()

    def _pop_start(self) -> Callable[[], None] | None:
        with lock:  # the reader and the end of the former turn may arrive at once
            start, self._start = self._start, None
        return start

    def _subscribe(
        self,
        observer: abc.ObserverBase[Part],
        scheduler: abc.SchedulerBase | None,
        subscription: SerialDisposable,
    ) -> None:
        if subscription.is_disposed:  # the reader has left meanwhile
            return
        try:
            self.stream, parts = self._open_run(self)
            options: Any = {} if scheduler is None else {"scheduler": scheduler}
            subscription.disposable = parts.subscribe(observer, **options)
        except Exception as error:  # by `trim`, or the arguments cannot be sent
            observer.on_error(error)

    def fail(self, error: Exception) -> None:
        """Ends a turn that cannot begin; when it is started, its reader gets the error."""
        self._open_run = partial(_raise, error)
        self.has_begun = True

    def release(self) -> None:
        """Drops the function that opens the run, if the run has ended.

        The function of a speculation refers to a request that was sent, and that ends with the
        last reference to it.
        """
        if self.run.history.ended:
            self._open_run = partial(_raise, StoppedError())

    # --- the items that were delivered ---

    def mark(self, characters: int | None, text: str | None) -> None:
        if self.is_closed:
            return
        whole = self._whole_text()
        if text is not None:
            characters = position_of(text, whole)
        self._mark = characters

    def _whole_text(self) -> str:
        return "".join(part.text for part in self.run.items() if isinstance(part, TextDelta))

    def _is_complete(self, parts: Sequence[Part]) -> bool:
        if parts and isinstance(parts[-1], AnswerEnded):  # a loop may leave before the completion
            return parts[-1].status == "completed"
        return self.run.history.ended and self.run.history.error is None

    def settle(self, history: History) -> None:
        """Enters the answer, as far as it was delivered, in a history."""
        run = self.run
        has_ended = run.history.ended
        parts = run.items()
        text_length = _text_length(parts)
        delivered = _text_length(parts[: run.position()]) if self._mark is None else self._mark
        is_complete = self._is_complete(parts)
        is_whole = is_complete and delivered >= text_length
        messages = received(parts, has_ended=has_ended)
        if (has_ended or is_complete) and self.stream is not None:
            own = [as_message(each, "a message") for each in self.stream.messages[len(self.sent) :]]
            if sum(map(_answer_length, own)) == text_length:
                messages = own  # with thinking, and as the service sent it
        history.answer(cut(messages, delivered, is_whole=is_whole), is_whole=is_whole)


def _call_on_loop(
    loop: AbstractEventLoop | None,
    context: Context,
    start: Callable[[], None],
    fail: Callable[[Exception], None],
) -> None:
    """Calls `start` on the event loop of the reader; if it has none, or a closed one, on a thread.

    Not on this thread, which ends the turn before: it may be within a garbage collection, and
    the tools of a run take the event loop of the thread that subscribes.
    """
    if loop is not None:
        try:
            loop.call_soon_threadsafe(start, context=context)
        except RuntimeError:  # it is closed
            pass
        else:
            return
    run_on_thread(partial(context.run, start), fail, name="rxmistral-subscribe", daemon=False)


def _release(turn: ref[Turn], on_idle: Callable[[], object]) -> None:
    # A strong reference would make a cycle, and the turn would live on without a reader.
    live = turn()
    if live is not None:
        live.release()
    on_idle()


def _raise(error: Exception, _: Turn) -> tuple[RunStream, Stream[Part]]:
    raise error


def _text_length(parts: Sequence[Part]) -> int:
    return sum(len(part.text) for part in parts if isinstance(part, TextDelta))


def _answer_length(message: Message) -> int:
    return len(text_of(message)) if isinstance(message, AssistantMessage) else 0
