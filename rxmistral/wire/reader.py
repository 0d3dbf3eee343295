"""Request to blocks: sends one request for each subscription, and reads its response.

    send, follow redirects ──▶ judge the response ──▶ read block after block ──▶ end
           (`sender`)              (`response`)

Any thread can cancel that at any moment, also while a system call blocks (see `connection`).

Each request is sent on a thread of its own, the reader thread. It may also read the whole
body; or it reads only what has arrived with the headers, and one event loop reads the rest for
all responses, in steps that never wait (see `event_loop` and `asyncio_loop`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from threading import get_ident
from typing import Any, Literal, TypeAlias, get_args

from reactivex import abc
from requests import PreparedRequest, Request, Response, Session
from urllib3.util import wait_for_read

from ..errors import DroppedStreamError, RequestError, StreamTimeoutError, redacted
from ..rx.backpressure import emitting, running_loop
from ..rx.cancellation import Cancelled
from ..rx.current_iteration import Iteration, current_iteration
from ..rx.leaving import leaving
from ..rx.reused_threads import run_on_thread
from ..rx.stream import Stream
from ..rx.subscriber import report_unhandled
from ..rx.threads import add_to_scope, register_for_fork
from .asyncio_loop import AsyncioLoop, asyncio_loop_of
from .connection import ConnectionLease, was_closed_early
from .event_loop import EventLoops
from .idle_timeout import IdleTimeout
from .request_errors import reason_of
from .response import NonBlockingBody, ResponseBody, nonblocking_body_of, read_head
from .sender import RequestSender
from .session import open_session, pending_returns
from .taps import Tap, ending_of

__all__ = ["READERS", "Reader", "Request", "Response", "Session", "blocks"]

Reader: TypeAlias = Literal["thread", "shared"]
READERS: tuple[Reader, ...] = get_args(Reader)
# select() on Windows is limited to 512 sockets.
DEFAULT_READER: Reader = "thread" if sys.platform == "win32" else "shared"

_MAX_WAIT_SECONDS = 60.0  # between two checks of the idle timeout

# A thread that a `for` loop reads from is a daemon, see `current_iteration`; so there are two.
_iteration_loop, _subscription_loop = EventLoops(daemon=True), EventLoops(daemon=False)


def blocks(
    request: Request | PreparedRequest | Callable[[], Request],
    *,
    session: Session | None = None,
    connect_timeout: float = 10.0,
    read_timeout: float = 60.0,
    idle_timeout: IdleTimeout | None = None,
    on_response: Callable[[Response], None] | None = None,
    on_release: Callable[[Exception | None], None] | None = None,
    reader: Reader | None = None,
    tap: Tap | None = None,
) -> Stream[bytes]:
    """A request into the blocks of bytes that the body of its response arrives in.

    Cold: each subscription sends the request, on a thread of its own. Disposing is safe from
    any thread and never blocks: it shuts the socket down, before the headers and after. If the
    body was read to its end, the connection returns to the session before the completion or
    the error is emitted. A subscriber may leave after the last item of interest, and start a
    grace period (see `IdleTimeout.start_grace_period`): if it leaves on the reader's own
    thread or by leaving a loop, the reader reads on, and emits nothing.

    Args:
        request: The request to send; a function is called for each subscription.
        session: The session that sends it; its proxies, certificates and adapters are used,
            and it is never closed. None: each subscription opens a session, and closes it.
        connect_timeout: Seconds for establishing a connection, TLS included; default: 10.
        read_timeout: Seconds that the server may be silent; default: 60.
        idle_timeout: The timeouts of one subscription, which replace these two.
        on_response: Called on the reader's thread when the headers have arrived.
        on_release: Called on the reader's thread when the connection is released or closed,
            whatever the end was, and before that end is emitted. It receives the exception of
            a subscriber's callback, or None. If the program closed the response, the error
            about that counts as such an exception. If no thread can be started, it is called
            with that error, on any thread.
        reader: "thread": the thread that sent the request reads the body. "shared": one
            thread reads the bodies of all responses, except those that are compressed or
            from a custom adapter. None: "shared", but "thread" on Windows.
        tap: Observes each exchange, as the taps of the process do (see `taps`). None: only they.

    Emits: blocks as the socket received them, decompressed; never an empty one.
    Errors: `RequestError` and `RequestTimeoutError` before the headers, or if no thread can be
        started; `StatusError` for a status other than 2xx; `ProtocolError` for a body that is
        not an event stream; `StreamTimeoutError` and `DroppedStreamError` within the body,
        the latter also if the program closes the response.
    """

    def subscribe(
        observer: abc.ObserverBase[bytes], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        # The scheduler that run() and await pass is not for a source that blocks: it may be
        # that of an event loop.
        iteration, loop = current_iteration.get(), running_loop()
        if iteration is not None and loop is not None:
            asyncio_loop_of(loop, _iteration_loop)
        event_loop = _iteration_loop if iteration is not None else _subscription_loop
        response_reader = _ResponseReader(
            observer,
            request,
            session,
            idle_timeout or IdleTimeout(connect_timeout, read_timeout),
            on_response,
            on_release,
            event_loop if (reader or DEFAULT_READER) == "shared" else None,
            iteration,
            tap,
        )
        loop = None if iteration is None else iteration.event_loop
        if loop is not None and loop is running_loop() and response_reader.event_loop is not None:
            asyncio_loop_of(loop, _iteration_loop).begin()
        add_to_scope(response_reader)
        try:
            run_on_thread(
                response_reader.run,
                response_reader.refuse,
                name="rxmistral-reader",
                daemon=iteration is not None,
            )
        except BaseException:  # Ctrl-C, while the thread is starting
            response_reader.dispose()
            raise
        return response_reader

    return Stream(subscribe)


@dataclass(eq=False, repr=False, slots=True, weakref_slot=True)
class _ResponseReader(abc.DisposableBase):
    """The reader of one response, which sends its request; also the Disposable of a subscription."""

    observer: abc.ObserverBase[bytes]
    request: Request | PreparedRequest | Callable[[], Request]
    session: Session | None
    idle_timeout: IdleTimeout
    on_response: Callable[[Response], None] | None
    on_release: Callable[[Exception | None], None] | None
    event_loop: EventLoops | AsyncioLoop | None
    iteration: Iteration | None
    tap: Tap | None
    worker: Any = None  # the worker of the event loop that steps it
    paused: bool = False  # by a slow subscriber
    _body: NonBlockingBody | None = None  # if the event loop reads it
    _response: Response | None = None
    _raised: BaseException | None = None  # by a callback that received an item
    _thread_id: int | None = None  # of the thread that works on it
    _is_cancelled: bool = False  # as the lease is, which is not on the path of every block
    _has_ended: bool = False
    _is_refused: bool = False  # by the system, which starts no thread
    context: Context = field(default_factory=copy_context)  # the subscriber's, for all callbacks
    _session: Session | None = None
    _sender: RequestSender | None = None
    _lease: ConnectionLease = field(init=False)

    def __post_init__(self) -> None:
        self._lease = ConnectionLease(self.idle_timeout)
        register_for_fork(self)

    def forked(self) -> None:
        self._is_cancelled = True
        self._lease.forked()
        self.on_release = None
        self._has_ended = True

    # --- the reader thread ---

    def run(self) -> None:
        """Runs on the reader thread, to the end or until the event loop can continue."""
        try:
            if self.context.run(self.step):
                self._continue()
        except BaseException as error:  # of a callback that receives the terminal
            report_unhandled(error)

    def refuse(self, error: RequestError) -> None:
        """Ends with an error, because no thread can be started."""
        self._raised = error  # as if by the program: another attempt would not get any further
        self._is_refused = True
        self.context.run(self._end, error)

    def _begin(self) -> bool:
        """Sends the request, and reads as much as this thread has to.

        Returns whether there is more for the event loop.
        """
        self._session = session = self.session or open_session()
        self.idle_timeout.on_grace_period = partial(pending_returns.expect, session)
        self._sender = sender = RequestSender(session, self._lease, self.tap)
        request = self.request() if callable(self.request) else self.request
        self._response = response = sender.send(request)
        self._lease.is_reading = True
        exchange = sender.exchange
        if exchange is not None:
            exchange.on_response(response.status_code, response.headers)
        if self.on_response is not None:
            self.on_response(response)
            self._lease.check()  # disposed by it, on this thread
        body = ResponseBody(response, self.idle_timeout, exchange)
        self._emit(read_head(response, body))
        if self.event_loop is not None:
            self._body = nonblocking_body_of(response, exchange)
        if self._body is not None:
            self.idle_timeout.start_wait()
            return not self._body.ended
        while block := body.read():
            self._emit(block)
        return False

    def _continue(self) -> None:
        assert self.event_loop is not None
        assert self._body is not None
        loop = None if self.iteration is None else self.iteration.event_loop
        if loop is not None:
            self.event_loop = asyncio_loop_of(loop, _iteration_loop)
        elif not self.context.run(self.step):  # the rest of a short answer has arrived already
            return
        with suppress(RequestError, OSError):  # it can get no thread, or no descriptor
            self.event_loop.schedule(self)
            return
        while self.context.run(self.step):
            seconds = min(max(self.remaining(), 0.0), _MAX_WAIT_SECONDS)
            with suppress(OSError, ValueError):  # closed: the next step raises an error
                wait_for_read(self._body.socket, seconds)

    # --- a task of the event loop ---

    def step(self) -> bool:
        """Begins, or reads and emits a block; returns whether there is more to read.

        Without more, or after an error, it has ended.
        """
        if self._has_ended:  # a wake-up that was too late
            return False
        self._thread_id = get_ident()
        try:
            if self._begin() if self._body is None else self._read_on():
                self._thread_id = None
                return True
            ending = None
        except BaseException as error:
            ending = error
        try:
            self._end(ending)
        finally:
            ending = None  # breaks the reference cycle between the error and this frame
            self._thread_id = None
        return False

    def _read_on(self) -> bool:
        # On the path of every block: without avoidable calls.
        body, idle_timeout = self._body, self.idle_timeout
        assert body is not None
        block = body.read()
        if block is None:
            self._lease.check()
            if idle_timeout.remaining() <= 0:
                raise StreamTimeoutError(*idle_timeout.expired())
            return True
        idle_timeout.end_wait()
        if block and not self._is_cancelled:
            try:
                self.observer.on_next(block)
            except BaseException as error:
                self._raised = error  # not by reading
                raise
        if self._is_cancelled:
            raise Cancelled
        if idle_timeout.start_wait() and self.event_loop is not None:
            self.event_loop.check_timeouts_soon(self)
        return not body.ended and (not body.has_more or self._read_on())

    def fail(self, error: BaseException) -> None:
        """Ends with an error, between two steps, because no thread can run the next one."""
        if self._has_ended:
            return
        self.context.run(self._end, DroppedStreamError(reason_of(error)))

    def fileno(self) -> int:
        assert self._body is not None
        descriptor: int = self._body.socket.fileno()
        return descriptor

    def remaining(self) -> float:
        return self.idle_timeout.remaining()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.idle_timeout.restart_wait()
            self.paused = False
            assert self.event_loop is not None
            self.event_loop.schedule(self)

    def dispose(self) -> None:
        is_own_thread = get_ident() == self._thread_id  # not blocked, and will check the lease
        is_left_in_grace_period = self.idle_timeout.in_grace_period and (
            is_own_thread or leaving.by_itself
        )
        if not is_left_in_grace_period:  # else it reads on, for a disposed observer
            self._is_cancelled = True
            self._lease.cancel() if is_own_thread else self._lease.cancel_and_wake()
        self.resume()
        if isinstance(self.event_loop, AsyncioLoop) and not (is_own_thread or self._has_ended):
            self.event_loop.schedule(self)  # now, since the loop may be about to end

    # --- the items, and the end ---

    def _emit(self, block: bytes) -> None:
        """Emits a block, and ends the work if the subscription was or is disposed."""
        if block and not self._is_cancelled:
            try:
                self.observer.on_next(block)
            except BaseException as error:
                self._raised = error  # not by reading
                raise
        if self._is_cancelled:
            raise Cancelled

    def _end(self, error: BaseException | None) -> None:
        """Releases the connection, and then emits the terminal, unless it was cancelled."""
        self._has_ended = True
        raised = unhandled = self._raised
        self._raised = None
        try:
            is_drop = error is None or isinstance(error, DroppedStreamError)
            if raised is None and is_drop and was_closed_early(self._raw()):
                # On purpose, so another request is not wanted; and it may look like the end.
                error = raised = DroppedStreamError("the program closed the response")
            elif raised is None and isinstance(error, Exception) and self._sender is not None:
                error = redacted(error, self._sender.secret)
            self._end_exchange(error, is_left=self._lease.cancelled or raised is not None)
            self._release()
            if self.on_release is not None:
                self.on_release(raised if isinstance(raised, Exception) else None)
        except BaseException as death:
            error = unhandled = death
        emitting.source = None  # there is nothing left to pause
        if self._lease.cancelled or isinstance(error, Cancelled):
            if unhandled is not None and not self._is_refused:
                # No on_error after dispose: the thread's excepthook.
                raise unhandled from None
        elif error is None:
            self.observer.on_completed()
        elif isinstance(error, Exception):
            self.observer.on_error(error)
        else:  # sys.exit() in a callback; a loop must not wait for more
            self.observer.on_error(RuntimeError(f"a callback ended the reader: {error!r}"))
            if not isinstance(error, GeneratorExit):  # which does not ask the thread to end
                raise error

    def _end_exchange(self, error: BaseException | None, is_left: bool) -> None:
        if self._sender is not None and self._sender.exchange is not None:
            self._sender.exchange.on_end("left" if is_left else ending_of(error))

    def _raw(self) -> Any:
        return getattr(self._response, "raw", None)

    def _release(self) -> None:
        self._lease.release()  # first: nothing must shut a socket down that is being closed
        response, self._response = self._response, None
        if response is not None:
            if self._body is not None:
                if self.event_loop is not None:
                    self.event_loop.unwatch(self)
                self._body.release(response.raw)
            response.close()
        session = self._session
        if session is not None and session is not self.session:
            session.close()
        self.idle_timeout.on_grace_period = None  # which refers to the session
        if self.idle_timeout.in_grace_period:
            pending_returns.note_return(session)
