"""EventStream, the Stream that a call returns.

It can be opened before it is read: this sends the request and waits for the headers, and the
first subscriber then reads the answer to that request instead of sending another one. Until
there is a subscriber, the thread of the reader waits in the `AnswerSubscription`, and TCP makes
the server wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from logging import DEBUG, getLogger
from queue import SimpleQueue
from threading import Lock, RLock, Thread
from typing import Any, Self

from reactivex import abc
from reactivex.scheduler import CurrentThreadScheduler

from ..completions.completion_stream import CompletionStream
from ..models import CompletionEvent
from ..outcome import Outcome, Status
from ..rx.answer_stream import AnswerStream
from ..rx.current_iteration import Iteration, current_iteration
from ..rx.request_counter import current_counter
from ..rx.threads import add_to_scope, fork_safe
from ..wire.reader import Response, blocks
from .attempts import Attempts
from .policies.resume import can_be_continued, continuation_of
from .settings import Call

__all__ = ["EventStream", "EventStreamAsync"]

_log = getLogger("rxmistral")

Observer = abc.ObserverBase[CompletionEvent]

# Guards `_unread` of all streams. Reentrant, because garbage collection may delete an opened Stream
# at any moment; a single lock, because a fork may happen while a thread owns it.
_unread_lock = fork_safe(RLock())


class EventStream(AnswerStream[CompletionEvent], CompletionStream):
    """A cold Stream of the `CompletionEvent`s of one call.

    Each subscription sends the call; within a `with` block all of them share one request, and
    `response` and `outcome` are those of this request.
    """

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call
        self._latest = _LatestRequest()
        self._unread: AnswerSubscription | None = None  # opened, and not yet subscribed to

    def forked(self) -> None:
        """Forgets a request that is under way: its answer belongs to the parent."""
        super().forked()
        self._unread = None
        if self._latest.make_outcome is None:
            self._latest = _LatestRequest()

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

        Waits for the headers; opens the Stream first if no request was sent.

        Raises:
            RequestError, StatusError: The request failed, even if a reader has received this error.
        """
        if self._latest.response is None:
            try:
                (self._latest.opened or self._open()).result()
            except BaseException as error:
                self._discard_failed(error)
                raise
        return self._latest.get_response()

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the latest request; None while it is under way, or before it."""
        return self._latest.outcome()

    def continued(self, text: str) -> EventStream | None:
        """Returns a Stream of the rest of an answer that began with this text.

        None: the answer cannot be continued, as it is JSON or one of several.
        """
        call = self._call
        if not can_be_continued(call.body, structured=False):
            return None
        body, echo = continuation_of(call.body, text)
        return EventStream(replace(call, body=body, echo=echo))

    def _stop(self) -> None:
        self._discard_unread()
        super()._stop()

    def __enter__(self) -> Self:
        opened = super().__enter__()
        if self._unread is None:  # else the block reads the request that was sent
            self._latest = _LatestRequest()
        return opened

    def _open(self) -> Future[None]:
        """Sends the request, unless there is one to read, or this block has sent it.

        Returns a future that is done when the headers were received.
        """
        with _unread_lock:  # other threads may close or read the Stream meanwhile
            if self._unread is not None:
                return self._unread.opened
            if self._run is not None and self._latest.opened is not None:
                return self._latest.opened
            self._unread = subscription = AnswerSubscription(self._latest)
        self._live.add(subscription)
        subscription.start(self._call)
        return subscription.opened

    def _discard_failed(self, error: BaseException) -> None:
        """Discards an answer whose opening failed; within a block, its readers get the error."""
        if self._run is None or not isinstance(error, Exception):
            self._discard_unread()

    def _discard_unread(self) -> None:
        with _unread_lock:
            subscription, self._unread = self._unread, None
        if subscription is not None:
            subscription.dispose()

    # A method, not a function passed to Stream.__init__: through that the Stream would refer to
    # itself, and one that was opened and abandoned would keep its connection.
    def _subscribe_source(
        self,
        observer: Observer,
        scheduler: abc.SchedulerBase | None,  # noqa: ARG002  # a source that blocks needs none
    ) -> abc.DisposableBase:
        live = self._live
        with _unread_lock:  # the first subscriber reads the opened answer
            opened, self._unread = self._unread, None
            subscription = opened or AnswerSubscription(self._latest, observer)
        live.add(subscription)
        add_to_scope(subscription)
        if opened is not None:
            subscription.attach(observer)
        else:
            subscription.start(self._call)
        return subscription

    def __del__(self) -> None:
        super().__del__()
        self._discard_unread()


class EventStreamAsync(EventStream):
    """A cold Stream of the `CompletionEvent`s of one call, for programs that await.

    `await stream` opens the Stream and returns it, as the official SDK does; awaiting any other
    Stream returns its last item.
    """

    def __await__(self) -> Generator[Any, None, Self]:  # type: ignore[override]  # see above
        return self._opened().__await__()

    @property
    def response(self) -> Response:
        """The HTTP response of the latest request: `.status_code`, `.headers`.

        Raises:
            RequestError, StatusError: The request failed, even if a reader has received this error.
            RuntimeError: No headers were received yet; `await` the Stream first.
        """
        return self._latest.get_response()

    def close(self) -> Awaitable[None]:  # type: ignore[override]  # programs await it
        """Stops every subscription to this Stream before it returns; may be awaited."""
        super().close()
        return _DoneAwaitable()

    async def __aenter__(self) -> Self:
        self.__enter__()
        try:
            return await self._opened()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    async def _opened(self) -> Self:
        opened = self._open()
        try:
            await asyncio.wrap_future(opened)
        except BaseException as error:
            self._discard_failed(error)
            raise
        return self


class _LatestRequest:
    """The state of the latest request of a Stream, without a reference to the Stream."""

    response: Response | None = None
    opened: Future[None] | None = None  # done when the headers were received, or it failed
    make_outcome: Callable[[], Outcome] | None = None  # once the answer has ended
    _outcome: Outcome | None = None

    def begin(self, opened: Future[None]) -> None:
        self.response, self.opened = None, opened
        self.make_outcome = self._outcome = None

    def outcome(self) -> Outcome | None:
        if self._outcome is None and self.make_outcome is not None:
            self._outcome = self.make_outcome()
        return self._outcome

    def get_response(self) -> Response:
        if self.response is None:
            if self.opened is not None and self.opened.done() and not self.opened.cancelled():
                self.opened.result()  # raises the error of the request
            raise RuntimeError("there is no response yet: the stream was not opened; await it")
        return self.response


class AnswerSubscription(Observer, Iteration):
    """One subscription to a call, which may begin before it has an observer.

    Until an observer is attached, the reader thread waits here with the headers. A scripted source
    has no such thread, and nothing may block its scheduler, so its items are held here.
    """

    def __init__(self, latest: _LatestRequest, observer: Observer | None = None) -> None:
        self.opened: Future[None] = Future()
        latest.begin(self.opened)
        self._latest = latest
        self._observer = observer
        self._context = copy_context()  # of the subscriber, which may not be the opener
        self._attached: SimpleQueue[None] = SimpleQueue()  # wakes the reader
        self._held: list[CompletionEvent] | None = None  # None: the reader waits instead
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._terminal: Callable[[Observer], None] | None = None
        self._lock = Lock()
        self._attempts: Attempts | None = None
        self._has_outcome = False
        self._on_outcome: Callable[[Outcome], object] | None = None  # of the client

    def start(self, call: Call) -> None:
        self._on_outcome = call.on_outcome
        if self._observer is not None:  # the items bypass this object
            self._start(call, self._observer.on_next)
            return
        self._held = None if call.open_blocks is blocks else []
        token = current_iteration.set(self)
        try:
            self._start(call, self.on_next)
        finally:
            current_iteration.reset(token)

    def _start(self, call: Call, on_next: Callable[[CompletionEvent], None]) -> None:
        self._attempts = Attempts(call, self.on_response, on_next, self.on_error, self.on_completed)
        self._attempts.start()

    def on_response(self, response: Response) -> None:
        """Called when the headers were received; returns when there is an observer."""
        if 200 <= response.status_code < 300:  # otherwise an error follows, which contains more
            self._latest.response = response
            self._set_opened()
            if self._observer is None and self._held is None:
                self._attached.get()

    def _set_opened(self, error: Exception | None = None) -> None:
        if self.opened.done():
            return
        with suppress(InvalidStateError):  # done by another thread at this moment
            if error is None:
                self.opened.set_result(None)
            else:
                self.opened.set_exception(error)

    def attach(self, observer: Observer) -> None:
        if self._attempts is not None:
            self._attempts.counter.report_to(current_counter.get())
        self._context = copy_context()
        iteration = current_iteration.get()
        self.event_loop = None if iteration is None else iteration.event_loop
        if self._terminal is None and iteration is None:
            # The reader is a daemon thread, as there might never have been an observer. Now
            # the interpreter must not exit before the end, so a thread that is not a daemon
            # waits for it; if none can be started, nothing waits.
            with suppress(RuntimeError):
                Thread(target=self._ended.get, name="rxmistral-attached").start()
        if self._held is None:
            self._emit_held(observer)
            self._attached.put(None)
        else:  # when the subscriber has its Disposable
            CurrentThreadScheduler.singleton().schedule(lambda *_: self._emit_held(observer))

    def _emit_held(self, observer: Observer) -> None:
        """Emits the items that are held; from then on, the source emits to the observer."""
        while True:
            with self._lock:
                held, self._held = self._held, []
                if not held:
                    self._held = None
                    self._observer, terminal = observer, self._terminal
                    break
            try:
                for event in held:
                    observer.on_next(event)
            except Exception as error:
                self._record_outcome(error)
                self.dispose()
                observer.on_error(error)
                return
        if terminal is not None:
            terminal(observer)

    def on_next(self, value: CompletionEvent) -> None:
        if self._held is not None:
            with self._lock:
                if self._held is not None:
                    self._held.append(value)
                    return
        if self._observer is not None:  # it is None if this was disposed before
            self._context.run(self._observer.on_next, value)

    def on_error(self, error: Exception) -> None:
        self._record_outcome(error)
        self._set_opened(error)
        self._end(lambda observer: observer.on_error(error))

    def on_completed(self) -> None:
        self._record_outcome(None)
        self._set_opened()
        self._end(lambda observer: observer.on_completed())

    def _end(self, terminal: Callable[[Observer], None]) -> None:
        with self._lock:
            self._terminal = terminal
            observer = self._observer
        try:
            if observer is not None:
                self._context.run(terminal, observer)
        finally:
            self._ended.put(None)

    def _record_outcome(self, error: BaseException | None, status: Status | None = None) -> None:
        """Records and reports the first ending; `outcome` keeps that of the latest request."""
        attempts, latest = self._attempts, self._latest
        with self._lock:
            if attempts is None or self._has_outcome:
                return
            self._has_outcome = True
            make_outcome = partial(attempts.outcome, error, status)
            if latest.opened is self.opened:
                latest.make_outcome = make_outcome
        attempts.end_span(make_outcome)
        if self._on_outcome is not None:
            self._context.copy().run(_report, self._on_outcome, make_outcome)
        if _log.isEnabledFor(DEBUG):
            _log.debug("answer ended: %s", make_outcome().status)

    def dispose(self) -> None:
        if self._attempts is not None:
            self._attempts.dispose()
        self._record_outcome(None, "cancelled")
        self._attached.put(None)
        self._ended.put(None)
        self._set_opened(RuntimeError("the stream was closed before the headers were received"))


def _report(on_outcome: Callable[[Outcome], object], make_outcome: Callable[[], Outcome]) -> None:
    try:
        on_outcome(make_outcome())
    except BaseException:  # also of sys.exit(), as readers wait for the end of the answer
        _log.exception("on_outcome raised an exception, which the answer ignores")


class _DoneAwaitable:
    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
