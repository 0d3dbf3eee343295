"""Request to blocks: sends one request for each subscription, and reads its response.

    send, follow redirects ──▶ judge the response ──▶ read block after block ──▶ end
           (`sender`)              (`response`)

Any thread can cancel that at any moment, also while a system call blocks (see `connection`).

Each request is sent on a thread of its own, the reader thread. It may also read the whole
body; or it ends after the first block, and one event loop reads the rest for all responses
(see `event_loop`). Both run the same generator, which yields whenever it would have to wait
for the socket. On the reader thread the reads block instead, and it never yields.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Thread, get_ident
from typing import Any, Literal, TypeAlias, get_args

from reactivex import abc
from requests import PreparedRequest, Request, Response, Session
from urllib3.util import wait_for_read

from ..errors import DroppedStreamError, RequestError, StreamTimeoutError, redacted
from ..rx.backpressure import emitting
from ..rx.cancellation import Cancelled
from ..rx.iteration import current_iteration, leaving
from ..rx.stream import Stream
from ..rx.subscriber import report_unhandled
from ..rx.threads import add_to_scope, record_thread_exit, register_for_fork, start_thread
from .connection import ConnectionLease, was_closed_early
from .event_loop import EventLoops
from .idle_timeout import IdleTimeout
from .request_errors import reason_of
from .response import NonBlockingBody, ResponseBody, nonblocking_body_of, read_head
from .sender import RequestSender
from .session import open_session, pending_returns

__all__ = ["READERS", "Reader", "Request", "Response", "Session", "blocks"]

Reader: TypeAlias = Literal["thread", "shared"]
READERS: tuple[Reader, ...] = get_args(Reader)
# select() on Windows is limited to 512 sockets.
DEFAULT_READER: Reader = "thread" if sys.platform == "win32" else "shared"

_MAX_WAIT_SECONDS = 60.0  # between two checks of the idle timeout

# A thread that a `for` loop reads from is a daemon, see `current_iteration`; so there are two.
_iteration_loop, _subscription_loop = EventLoops(daemon=True), EventLoops(daemon=False)

_CLOSED_BY_PROGRAM = "the program closed the response"
_ENDED = object()


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
            on the subscriber's thread with that error.
        reader: "thread": the thread that sent the request reads the body. "shared": one
            thread reads the bodies of all responses, except those that are compressed or
            from a custom adapter. None: "shared", but "thread" on Windows.

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
        is_iterated = current_iteration.get() is not None
        event_loop = _iteration_loop if is_iterated else _subscription_loop
        response_reader = _ResponseReader(
            observer,
            request,
            session,
            idle_timeout or IdleTimeout(connect_timeout, read_timeout),
            on_response,
            on_release,
            event_loop if (reader or DEFAULT_READER) == "shared" else None,
        )
        thread = Thread(
            target=response_reader.run, name="rxmistral-reader", daemon=is_iterated or None
        )
        add_to_scope(response_reader)
        try:
            start_thread(thread)
        except RequestError as error:
            if on_release is not None:
                on_release(error)
            observer.on_error(error)
        except BaseException:  # Ctrl-C, while the thread is starting
            response_reader.dispose()
            raise
        return response_reader

    return Stream(subscribe)


@dataclass(eq=False, repr=False)
class _ResponseReader(abc.DisposableBase):
    """Sends one request and reads its response; also the Disposable of the subscription."""

    observer: abc.ObserverBase[bytes]
    request: Request | PreparedRequest | Callable[[], Request]
    session: Session | None
    idle_timeout: IdleTimeout
    on_response: Callable[[Response], None] | None
    on_release: Callable[[Exception | None], None] | None
    event_loop: EventLoops | None
    paused: bool = False  # by a slow subscriber
    worker: Any = None  # the worker of the event loop that steps it

    def __post_init__(self) -> None:
        self._lease = ConnectionLease(self.idle_timeout)
        self._body: NonBlockingBody | None = None  # if the event loop reads it
        self._context = copy_context()  # the subscriber's, for all callbacks
        self._work = self._read()
        self._thread_id: int | None = None  # of the thread that is in `step`
        register_for_fork(self)

    def forked(self) -> None:
        self._lease.forked()
        self.on_release = None

    # --- the reader thread ---

    def run(self) -> None:
        """Runs on the reader thread, to the end or until the event loop can continue."""
        try:
            if self.step():
                self._continue()
        except BaseException as error:  # of a callback that receives the terminal
            report_unhandled(error)
        record_thread_exit()

    def _continue(self) -> None:
        assert self.event_loop is not None
        assert self._body is not None
        with suppress(RequestError, OSError):  # it can get no thread, or no descriptor
            self.event_loop.schedule(self)
            return
        while self.step():
            seconds = min(max(self.remaining(), 0.0), _MAX_WAIT_SECONDS)
            with suppress(OSError, ValueError):  # closed: the next step raises an error
                wait_for_read(self._body.socket, seconds)

    # --- a task of the event loop ---

    def step(self) -> bool:
        """Reads as far as possible without waiting; returns whether there is more to do."""
        self._thread_id = get_ident()
        has_more = self._context.run(next, self._work, _ENDED) is not _ENDED
        self._thread_id = None
        return has_more

    def fail(self, error: BaseException) -> None:
        """Ends with an error, between two steps, because no thread can run the next one."""
        self._thread_id = get_ident()
        with suppress(StopIteration, DroppedStreamError):  # the latter if it has ended already
            self._context.run(self._work.throw, DroppedStreamError(reason_of(error)))

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
            self.paused = False
            assert self.event_loop is not None
            self.event_loop.schedule(self)

    def dispose(self) -> None:
        is_own_thread = get_ident() == self._thread_id  # not blocked, and will check the lease
        is_left_in_grace_period = self.idle_timeout.in_grace_period and (
            is_own_thread or leaving.by_itself
        )
        if not is_left_in_grace_period:  # else it reads on, for a disposed observer
            self._lease.cancel() if is_own_thread else self._lease.cancel_and_wake()
        self.resume()

    # --- the work: a generator that yields instead of waiting for the socket ---

    def _read(self) -> Generator[None, None, None]:
        """Reads the response, and emits exactly one terminal after the connection's release."""
        try:
            error = yield from self._read_and_release()
        except (Cancelled, GeneratorExit):
            return
        except BaseException as death:  # sys.exit() in a callback; a loop must not wait for more
            if not self._lease.cancelled:
                self.observer.on_error(RuntimeError(f"a callback ended the reader: {death!r}"))
            raise
        emitting.source = None  # there is nothing left to pause
        if not self._lease.cancelled:
            if error is None:
                self.observer.on_completed()
            else:
                self.observer.on_error(error)

    def _read_and_release(self) -> Generator[None, None, Exception | None]:
        """Reads the response and releases its connection; returns the error to emit."""
        session = self.session or open_session()
        self.idle_timeout.on_grace_period = partial(pending_returns.expect, session)
        sender = RequestSender(session, self._lease)
        response: Response | None = None
        raised: Exception | None = None  # by a callback
        try:
            response = sender.send(self.request() if callable(self.request) else self.request)
            self._lease.is_reading = True
            if self.on_response is not None:
                self.on_response(response)
                self._lease.check()  # disposed by it, on this thread
            yield from self._emit_body(response)
            if was_closed_early(response.raw):  # which may look like the end of the body
                raise DroppedStreamError(_CLOSED_BY_PROGRAM)
        except _CallbackError as error:
            raised = error.error
            if self._lease.cancelled:  # no on_error after dispose: the thread's excepthook
                raise raised from None
            return raised
        except Exception as error:
            raw = getattr(response, "raw", None)
            if isinstance(error, DroppedStreamError) and was_closed_early(raw):
                raised = DroppedStreamError(
                    _CLOSED_BY_PROGRAM
                )  # on purpose: another request is not wanted
                return raised
            return redacted(error, sender.secret)
        finally:
            self._release(session, response)
            if self.on_release is not None:
                self.on_release(raised)
        return None

    def _release(self, session: Session, response: Response | None) -> None:
        self._lease.release()  # first: nothing must shut down what is being closed
        if response is not None:
            if self._body is not None:
                if self.worker is not None:
                    self.worker.unwatch(self)
                self._body.release(response.raw)
            response.close()
        if session is not self.session:
            session.close()
        self.idle_timeout.on_grace_period = None  # which refers to the session
        if self.idle_timeout.in_grace_period:
            pending_returns.note_return(session)

    def _emit_body(self, response: Response) -> Generator[None, None, None]:
        body = ResponseBody(response, self.idle_timeout)
        self._emit(read_head(response, body))
        if self.event_loop is not None:
            self._body = nonblocking_body_of(response)
        if self._body is not None:
            yield from self._emit_without_waiting(self._body)
            return
        while block := body.read():
            self._emit(block)

    def _emit_without_waiting(self, body: NonBlockingBody) -> Generator[None, None, None]:
        # On the path of every block: without avoidable calls.
        lease, idle_timeout = self._lease, self.idle_timeout
        while not body.ended:
            idle_timeout.start_wait()
            try:
                yield
                while (block := body.read()) is None:
                    lease.check()
                    if idle_timeout.remaining() <= 0:
                        raise StreamTimeoutError(*idle_timeout.expired())
                    yield
            finally:
                idle_timeout.end_wait()
            self._emit(block)
            while self.paused:
                yield
                lease.check()

    def _emit(self, block: bytes) -> None:
        """Emits a block, and ends the work if the subscription was or is disposed."""
        if block and not self._lease.cancelled:
            try:
                self.observer.on_next(block)
            except Exception as error:
                raise _CallbackError(error) from error
            except GeneratorExit as error:  # it would look like the end of this generator
                raise _CallbackError(RuntimeError(f"a callback raised {error!r}")) from error
        if self._lease.cancelled:
            raise Cancelled


class _CallbackError(Exception):
    """Wraps the exception of a subscriber's callback, to tell it from those of reading."""

    def __init__(self, error: Exception) -> None:
        self.error = error
