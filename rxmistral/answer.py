"""EventStream: the Stream that a call gives, with what only a call has.

Beside being a Stream it can be opened before it is read: then the request is sent, the
headers of the answer are here, and the first who subscribes reads that answer instead
of asking for another. In between, the reader's thread waits at a gate, and TCP makes
the server wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Event, Lock
from typing import Any, Self
from weakref import WeakSet

from reactivex import abc
from reactivex.disposable import SingleAssignmentDisposable

from .models import CompletionEvent
from .stream import Stream, being_iterated
from .wire.blocks import Response

__all__ = ["EventStream", "EventStreamAsync"]

Observer = abc.ObserverBase[CompletionEvent]
Connect = Callable[[Callable[[Response], None]], Stream[CompletionEvent]]


class EventStream(Stream[CompletionEvent]):
    """An answer of Mistral as a Stream of `CompletionEvent`s.

    Args:
        connect: Composes the way of one answer, which calls the function it is given
            when the headers are there.
    """

    def __init__(self, connect: Connect) -> None:
        super().__init__()
        self._connect = connect
        self._latest = _Latest()
        self._gate: _Gate | None = None
        self._live = WeakSet()

    @property
    def response(self) -> Response:
        """The HTTP response of the latest request: `.status_code`, `.headers`.

        Where nothing was sent yet it opens the Stream, and waits for the headers.

        Raises:
            RequestError, StatusError: There is no answer.
        """
        if self._latest.response is None:
            gate = self._open()
            try:
                gate.opened.result()
            except BaseException:
                self._forget_gate()
                raise
        return self._latest.known()

    def close(self) -> Any:
        """Stop every reading of this Stream, from any thread; never blocks."""
        self._stop()
        self._live = WeakSet()

    def _open(self) -> _Gate:
        if self._gate is None:
            gate = _Gate()
            self._track(gate)
            self._gate = gate
            latest = self._latest

            def on_response(response: Response) -> None:
                latest.response = response
                gate.open()

            gate.subscribe_to(self._connect(on_response))
        return self._gate

    def _forget_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.dispose()

    def _subscribe_core(
        self, observer: Observer, scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        gate, self._gate = self._gate, None
        if gate is not None:
            return gate.attach(observer)
        subscription = self._connect(self._latest.remember).subscribe(
            observer, scheduler=scheduler
        )
        self._track(subscription)
        return subscription

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

    def close(self) -> Awaitable[None]:
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

    def remember(self, response: Response) -> None:
        self.response = response

    def known(self) -> Response:
        if self.response is None:
            raise RuntimeError("there is no response yet: the stream was not opened")
        return self.response


class _Gate(Observer, abc.DisposableBase):
    """Holds an answer back, from its headers to the first who wants to read it."""

    def __init__(self) -> None:
        self.opened: Future[None] = Future()
        self._observer: Observer | None = None
        self._attached = Event()
        self._ending: Callable[[Observer], None] | None = None
        self._lock = Lock()
        self._subscription = SingleAssignmentDisposable()

    def subscribe_to(self, source: Stream[CompletionEvent]) -> None:
        token = being_iterated.set(True)
        try:
            self._subscription.disposable = source.subscribe(self)
        finally:
            being_iterated.reset(token)

    def open(self) -> None:
        with suppress(InvalidStateError):
            self.opened.set_result(None)

    def attach(self, observer: Observer) -> abc.DisposableBase:
        with self._lock:
            self._observer, ending = observer, self._ending
        self._attached.set()
        if ending is not None:
            ending(observer)
        return self

    def on_next(self, value: CompletionEvent) -> None:
        if self._observer is None:
            self._attached.wait()
        if self._observer is not None:
            self._observer.on_next(value)

    def on_error(self, error: Exception) -> None:
        self._fail(error)
        self._end(lambda observer: observer.on_error(error))

    def on_completed(self) -> None:
        self.open()
        self._end(lambda observer: observer.on_completed())

    def _fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):
            self.opened.set_exception(error)

    def _end(self, ending: Callable[[Observer], None]) -> None:
        with self._lock:
            self._ending = ending
            observer = self._observer
        if observer is not None:
            ending(observer)

    def dispose(self) -> None:
        self._subscription.dispose()
        self._attached.set()
        self._fail(RuntimeError("the stream was closed before the headers came"))


class _Nothing:
    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
