"""EventStream: the Stream that a call gives, with what only a call has.

Beside being a Stream it can be opened before it is read: then the request is sent, the
headers of the answer are here, and the first who subscribes reads that answer instead
of asking for another. In between, the reader waits at a gate, or is paused there if it
may not wait, and TCP makes the server wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from threading import Event, Lock, RLock, Thread
from typing import Any, Self
from weakref import WeakSet

from reactivex import abc

from ..models import CompletionEvent
from ..outcome import Outcome, Status
from ..rx.iteration import being_iterated
from ..rx.request_counter import current_counter
from ..rx.stream import Stream
from ..rx.threads import add_to_scope, fork_safe, register_for_fork
from ..wire.reader import Response
from .attempts import Attempts, Call
from .policies.resume import can_be_continued, continued

__all__ = ["EventStream", "EventStreamAsync"]

Observer = abc.ObserverBase[CompletionEvent]

# Held for an assignment. Reentrant, since garbage collection may drop an opened Stream at any
# moment; one for all, since a fork may happen while a thread holds it.
_opening = fork_safe(RLock())


class EventStream(Stream[CompletionEvent]):
    """An answer of Mistral as a Stream of `CompletionEvent`s.

    Args:
        call: What each reader asks for.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call
        self._latest = _Latest()
        self._gate: AnswerSubscription | None = None
        self._live = WeakSet()
        register_for_fork(self)

    def forked(self) -> None:
        """Forgets a request that goes on: the parent has its answer."""
        self._gate = None
        self._live = WeakSet()
        if self._latest.conclude is None:
            self._latest = _Latest()

    def __repr__(self) -> str:
        latest = self._latest
        if latest.opened is None:
            state = "not sent"
        else:
            outcome = latest.outcome()
            state = "running" if outcome is None else outcome.status
        return f"<{type(self).__name__} model={self._call.model!r:.100}, {state}>"

    @property
    def response(self) -> Response:
        """The HTTP response of the latest request: `.status_code`, `.headers`.

        Waits for the headers; where nothing was sent yet it opens the Stream first.

        Raises:
            RequestError, StatusError: There is no answer.
        """
        if self._latest.response is None:
            try:
                opened = self._latest.opened or self._open().opened
                opened.result()
            except BaseException:
                self._forget_gate()
                raise
        return self._latest.known()

    @property
    def outcome(self) -> Outcome | None:
        """What became of the latest request; None as long as that goes on."""
        return self._latest.outcome()

    def _own_answer(self) -> EventStream:
        return self

    def continued(self, text: str) -> EventStream | None:
        """The rest of an answer that began with this text, as this Stream's request would
        give it; None where it cannot: it asks for JSON, or for more than one answer."""
        call = self._call
        if not can_be_continued(call.body, structured=False):
            return None
        body, echo = continued(call.body, text)
        return EventStream(replace(call, body=body, echo=echo))

    def close(self) -> None:
        """Stop every reading of this Stream, from any thread; never blocks. A loop that
        reads it ends."""
        self._stop()

    def _stop(self) -> None:
        self._forget_gate()
        super()._stop()
        self._live = WeakSet()  # of what is subscribed from now on

    def _open(self) -> AnswerSubscription:
        with _opening:  # others may close the Stream, or read it, meanwhile
            gate = self._gate
            if gate is not None:
                return gate
            self._gate = gate = AnswerSubscription(self._latest)
        self._track(gate, self._live)
        gate.start(self._call)
        return gate

    def _forget_gate(self) -> None:
        with _opening:
            gate, self._gate = self._gate, None
        if gate is not None:
            gate.dispose()

    # Not a function that Stream.__init__ is given: the Stream would hold itself through
    # it, and one that was opened and abandoned its connection.
    def _subscribe_core(
        self,
        observer: Observer,
        scheduler: abc.SchedulerBase | None = None,  # noqa: ARG002  # a source that blocks needs none
    ) -> abc.DisposableBase:
        live = self._live
        with _opening:  # the first subscriber gets the gate
            gate, self._gate = self._gate, None
        if gate is not None:
            self._track(gate, live)
            add_to_scope(gate)
            gate.attach(observer)
            return gate
        gate = AnswerSubscription(self._latest, observer)
        self._track(gate, live)
        add_to_scope(gate)
        gate.start(self._call)
        return gate

    def __del__(self) -> None:
        self._forget_gate()


class EventStreamAsync(EventStream):
    """The same for programs that await. `await stream` opens it and gives it back,
    where any other Stream would give its last item; so do the official SDK's."""

    def __await__(self) -> Generator[Any, None, Self]:  # type: ignore[override]  # see above
        return self._opened().__await__()

    @property
    def response(self) -> Response:
        """The HTTP response of the latest request: `.status_code`, `.headers`.

        Raises:
            RuntimeError: Nothing was sent yet; `await` the Stream first.
        """
        return self._latest.known()

    def close(self) -> Awaitable[None]:  # type: ignore[override]  # programs await it
        """Stop every reading of this Stream; it has happened when this returns, and may
        be awaited."""
        super().close()
        return _Nothing()

    async def __aenter__(self) -> Self:
        self.__enter__()
        try:
            return await self._opened()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    async def _opened(self) -> Self:
        gate = self._open()
        try:
            await asyncio.wrap_future(gate.opened)
        except BaseException:
            self._forget_gate()
            raise
        return self


class _Latest:
    """The response of the latest request, known to who does not know the Stream."""

    response: Response | None = None
    opened: Future[None] | None = None
    conclude: Callable[[], Outcome] | None = None
    concluded: Outcome | None = None

    def outcome(self) -> Outcome | None:
        if self.concluded is None and self.conclude is not None:
            self.concluded = self.conclude()
        return self.concluded

    def known(self) -> Response:
        if self.response is None:
            raise RuntimeError("there is no response yet: the stream was not opened")
        return self.response


class AnswerSubscription(Observer, abc.DisposableBase):
    """Between one run and who reads it: holds the answer back, from its headers on,
    until somebody does."""

    def __init__(self, latest: _Latest, observer: Observer | None = None) -> None:
        self.opened: Future[None] = Future()
        latest.response, latest.opened = None, self.opened
        latest.conclude = latest.concluded = None
        self._latest = latest
        self._observer = observer
        self._context = copy_context()  # of whoever reads, which may not be who opened it
        self._attached = Event()
        self._ended = Event()
        self._ending: Callable[[Observer], None] | None = None
        self._lock = Lock()
        self._run: Attempts | None = None

    def start(self, call: Call) -> None:
        if self._observer is not None:  # nothing to hold back: the items pass it by
            self._start(call, self._observer.on_next)
            return
        token = being_iterated.set(self)
        try:
            self._start(call, self.on_next)
        finally:
            being_iterated.reset(token)

    def _start(self, call: Call, on_next: Callable[[CompletionEvent], None]) -> None:
        self._run = Attempts(call, self.answered, on_next, self.on_error, self.on_completed)
        self._run.start()

    def answered(self, response: Response) -> None:
        """Called with the headers; waits on the reader's thread until the answer is read."""
        self._latest.response = response
        if 200 <= response.status_code < 300:  # otherwise an error follows, which says more
            self._open()
            if self._observer is None:
                self._attached.wait()

    def _open(self) -> None:
        with suppress(InvalidStateError):
            self.opened.set_result(None)

    def attach(self, observer: Observer) -> None:
        if self._run is not None:
            self._run.counter.report_to(current_counter.get())
        with self._lock:
            self._context = copy_context()
            self._observer, ending = observer, self._ending
        self._attached.set()
        if ending is not None:
            ending(observer)
        elif being_iterated.get() is None:
            # The reader is a daemon, since nobody might have come. Now somebody has who
            # does not wait for it: the interpreter must. Without a thread it does not.
            with suppress(RuntimeError):
                Thread(target=self._ended.wait, name="rxmistral-attached").start()

    def on_next(self, value: CompletionEvent) -> None:
        if self._observer is not None:  # it is None if this was disposed instead
            self._context.run(self._observer.on_next, value)

    def on_error(self, error: Exception) -> None:
        self._conclude(error)
        self._fail(error)
        self._end(lambda observer: observer.on_error(error))

    def on_completed(self) -> None:
        self._conclude(None)
        self._open()
        self._end(lambda observer: observer.on_completed())

    def _fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):
            self.opened.set_exception(error)

    def _end(self, ending: Callable[[Observer], None]) -> None:
        with self._lock:
            self._ending = ending
            observer = self._observer
        try:
            if observer is not None:
                self._context.run(ending, observer)
        finally:
            self._ended.set()

    def _conclude(self, error: BaseException | None, status: Status | None = None) -> None:
        """Only the first ending counts, and only that of the latest request."""
        run, latest = self._run, self._latest
        with self._lock:
            if run is not None and latest.opened is self.opened and latest.conclude is None:
                latest.conclude = partial(run.outcome, error, status)

    def dispose(self) -> None:
        if self._run is not None:
            self._run.dispose()
        self._conclude(None, "cancelled")
        self._attached.set()
        self._ended.set()
        self._fail(RuntimeError("the stream was closed before the headers came"))


class _Nothing:
    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
