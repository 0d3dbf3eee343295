"""urllib3's connections and http.client's responses, while a reader has leased them.

Closing a socket does not wake the thread that reads from it, and closing a response waits
for that thread. Shutting the socket down wakes the thread at once, and notifies the server.
So the thread that cancels shuts the socket down, and the reader, awake again, closes it.

For that the socket has to be known before there is a response, while the server is still
silent. So a reader leases a view of a connection (see `session`), which registers its socket
with the `ConnectionLease` of the thread that sends a request. A socket outlives the response
that it carried, so the lease ends before the connection returns to its pool: nothing shuts down
a socket that serves another reader. The responses differ from http.client's in four ways:

    interim responses (1xx) are skipped, and truncated headers are an error
    many chunks of a chunked body are one block
    each read from the socket waits for as long as the idle timeout leaves
    closing one too early shuts the socket down, and leaves closing to the reader

The last is necessary since programs can reach the response, and may close it at any moment
and on any thread, while its reader is blocked.

A forked child has copies of all these sockets. Whatever it sends or shuts down would affect
the parent's connection, so the child closes its descriptors and does nothing else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from http.client import HTTPResponse, RemoteDisconnected
from io import BufferedReader, RawIOBase
from socket import SHUT_RDWR, SocketIO, socket
from threading import RLock, local
from typing import Any

from ..rx.cancellation import Cancellation
from ..rx.reused_threads import note_wait
from ..rx.threads import fork_safe
from .idle_timeout import IdleTimeout
from .message_body import BodyDecoder, ChunkedDecoder, LengthDecoder, UntilCloseDecoder
from .tls import sharing_context

__all__ = [
    "ConnectionLease",
    "ConnectionView",
    "LeasedResponse",
    "lease_lock",
    "sending",
    "was_closed_early",
]

# For the headers. Smaller than any read of the body, which therefore leaves nothing in the
# buffer. The default is larger from Python 3.14 on.
_BUFFER_BYTES = 8 * 1024
_SMALL_BODY_BYTES = 16 * 1024  # at most one TLS record, with its head
_TIMEOUT_STEP_SECONDS = 0.01  # setting the timeout of a socket is a system call

# Held for a few assignments and a shutdown(), which do not block. Reentrant, since
# garbage collection may dispose an abandoned reader at any moment.
lease_lock = fork_safe(RLock())


# --- the lease -------------------------------------------------------------------


class _Sending(local):
    lease: ConnectionLease | None = None


sending = _Sending()
"""`.lease`: the lease of the reader that sends a request on the current thread, if there is one."""


class ConnectionLease(Cancellation):
    """The lease of one reader on the connection that serves it."""

    def __init__(self, idle_timeout: IdleTimeout) -> None:
        super().__init__()
        self.idle_timeout = idle_timeout
        self.is_connecting = False  # TLS included
        self.is_reading = False  # the reader has a response that it has not released
        self.connection: Any = None
        self.response: LeasedResponse | None = None  # the latest
        self._socket: Any = None
        self._handshake_socket: socket | None = None

    def cancel_and_wake(self) -> None:
        """Cancels, and shuts the socket down, on which the reader may be blocked."""
        self.cancel()
        with lease_lock:
            if self._handshake_socket is not None:
                _shut_down(self._handshake_socket)
            if self.connection is not None:
                self.connection.is_shut_down = True
                _shut_down(self._socket)

    def acquire(self, connection: Any) -> None:
        """Leases a connected connection; called on the reader's thread."""
        with lease_lock:
            connection.lease = self
            self.connection = connection
            self._socket = connection.sock
        self.check()

    def begin_handshake(self, sock: socket) -> None:
        """Keeps a duplicate of a socket, since TLS detaches the socket object."""
        with lease_lock:
            self._handshake_socket = sock.dup()
        self.check()

    def end_handshake(self) -> None:
        with lease_lock:
            sock, self._handshake_socket = self._handshake_socket, None
        if sock is not None:
            sock.close()

    def release(self) -> None:
        """Ends the lease: from now on cancelling leaves the connection alone."""
        with lease_lock:
            self.is_reading = False
            self.connection = self._socket = None

    def forked(self) -> None:
        self.cancelled = True
        _close_descriptor(self._socket)
        _close_descriptor(self._handshake_socket)
        if self.connection is not None:
            self.connection.sock = None


def _shut_down(sock: Any) -> None:
    # SSLSocket.shutdown() would also remove the TLS state from under its reader. TLS within
    # TLS (an https proxy) is not a socket but wraps one: shut down the one at the bottom.
    with suppress(OSError, TypeError):  # closed already, or not connected yet
        socket.shutdown(getattr(sock, "socket", sock), SHUT_RDWR)


def _close_descriptor(sock: Any) -> None:
    with suppress(OSError, TypeError):  # there is none, or it is closed already
        os.close(socket.detach(getattr(sock, "socket", sock)))


# --- the response ---------------------------------------------------------------


class LeasedResponse(HTTPResponse):
    """A response of a leased connection."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.socket = sock
        self.is_closed_early = False  # by the program, before the end of the body
        self._was_ended = False
        self._has_failed = False
        self._chunks = ChunkedDecoder()
        self._lease = lease = sending.lease
        if lease is not None:
            lease.response = self
        if isinstance(self.fp.raw, SocketIO):
            file = self.fp.detach()
            if lease is not None:
                file = _TimedSocketIO(file, sock, lease.idle_timeout)
            self.fp = _LineRecorder(file, _BUFFER_BYTES)

    def begin(self) -> None:
        note_wait()  # for the headers
        # RFC 9110, 15.2: "A client MUST be able to parse one or more 1xx responses
        # received prior to a final response". http.client skips 100 only; it would return
        # a 103 as the response, and then read the final response as that of the next request.
        self._begin()
        while 100 <= self.status < 200 and self.status != 101:
            self.headers = None  # type: ignore[assignment]  # makes http.client begin again
            self._begin()

    def _begin(self) -> None:
        # http.client accepts the end of the connection as the end of the headers.
        file = self.fp
        super().begin()
        if isinstance(file, _LineRecorder) and not file.last_line:
            raise RemoteDisconnected("closed in the middle of the headers")

    def body_decoder(self) -> BodyDecoder:
        """Returns the decoder for the unread part of the body."""
        if self.chunked:
            return self._chunks
        return UntilCloseDecoder() if self.length is None else LengthDecoder(self.length)

    def read1(self, n: int = -1) -> bytes:
        """Returns content as soon as there is any."""
        try:
            if not self.chunked or self.fp is None:
                return super().read1(n)
            content = b""
            while not content and not self._chunks.ended:
                received = self.fp.read1(n)
                if not received:
                    self._chunks.close()
                content = self._chunks.feed(received)
            if self._chunks.ended:
                self.end(is_reusable=not self._chunks.unused_data)
            return content
        except BaseException:
            self._has_failed = True  # urllib3 closes it now; it is not the program
            raise

    def end(self, *, is_reusable: bool) -> None:
        """Closes the response after the end of its body.

        Args:
            is_reusable: Whether the connection can serve another request: neither its end nor
                data that would be read as the next response have followed the body.
        """
        self._was_ended = True
        if not is_reusable:
            _shut_down(self.socket)
        self.close()

    @property
    def is_complete(self) -> bool:
        """Whether the body is known to have been read to its end."""
        return self._was_ended or self.length == 0

    def close(self) -> None:
        # Closing the socket is not enough: a child of a fork may have a copy of it, and the
        # server would go on. A response without a lease is not ours, and one without headers
        # is a proxy's confirmation of a tunnel: its socket is still needed.
        with lease_lock:
            lease, has_headers = self._lease, self.headers is not None
            is_unfinished = has_headers and self.fp is not None and not self.is_complete
            if lease is not None and is_unfinished:
                is_left_to_reader = lease.is_reading and not self._has_failed
                if is_left_to_reader:  # noted first, since the shutdown wakes the reader
                    self.is_closed_early = True
                _shut_down(self.socket)
                if is_left_to_reader:
                    return
            self._lease = None  # which refers to the answer's text; programs keep responses
        super().close()


def was_closed_early(raw: Any) -> bool:
    """Returns whether the program closed a urllib3 response before it had been read whole."""
    response = getattr(raw, "_original_response", None)
    return (
        isinstance(response, LeasedResponse)
        and response.is_closed_early
        and not response.is_complete
    )


class _TimedSocketIO(RawIOBase):
    """A reader of a socket, which waits each time for as long as the idle timeout leaves."""

    def __init__(self, file: RawIOBase, sock: socket, idle_timeout: IdleTimeout) -> None:
        self._file = file
        self._socket = sock
        self._remaining = idle_timeout.remaining
        self._timeout = -1.0  # seconds; of the socket, if it was set here

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._remaining()
        if remaining <= 0:
            raise TimeoutError
        if not remaining <= self._timeout <= remaining + _TIMEOUT_STEP_SECONDS:
            self._socket.settimeout(remaining)
            self._timeout = remaining
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        self._file.close()  # the socket lives until the last of its files is closed
        super().close()


class _LineRecorder(BufferedReader):
    """A buffered file that keeps the last line that was read from it."""

    last_line = b""

    def readline(self, limit: int | None = -1) -> bytes:
        self.last_line = super().readline(limit)
        return self.last_line


# --- the connection --------------------------------------------------------------


class ConnectionView:
    """A view of a urllib3 connection, which registers its socket with the current lease.

    `_new_conn` is a method that urllib3 has for its subclasses (tested with 2.2 and 2.8).
    """

    _original: Any
    response_class = LeasedResponse
    lease: ConnectionLease | None = None
    is_shut_down = False  # so that it must not be used again
    _head: bytes | None = None  # of a request, until its small body follows; b"": it is next

    def connect(self) -> None:
        self.is_shut_down = False
        lease = sending.lease
        if lease is None:
            super().connect()  # type: ignore[misc]  # of the class this is mixed into
            return
        lease.check()  # an adapter may try again whatever happened
        lease.is_connecting = True
        note_wait()
        try:
            with sharing_context(self):
                super().connect()  # type: ignore[misc]
        finally:
            lease.end_handshake()
        lease.is_connecting = False
        lease.acquire(self)

    def _new_conn(self) -> socket:
        """Creates the socket, which `connect` may then wrap for TLS."""
        sock: socket = super()._new_conn()  # type: ignore[misc]
        lease = sending.lease
        if lease is not None:
            try:
                lease.begin_handshake(sock)
            except BaseException:  # cancelled, or no descriptor is left
                sock.close()
                raise
        return sock

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        lease = sending.lease
        if lease is not None:  # a connection from the pool is connected already
            lease.acquire(self)
        if isinstance(body, bytes) and 0 < len(body) <= _SMALL_BODY_BYTES:
            self._head = b""
        super().request(method, url, body, *args, **kwargs)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Sends the head of a request together with a small body, as one packet."""
        head, self._head = self._head, None
        if head == b"":
            self._head = data
        else:
            super().send(head + data if head else data)  # type: ignore[misc]

    def close(self) -> None:
        """Closes the connection, unless it has returned to its pool and may serve another request.

        A response closes its connection after itself; in between, its reader may return it.
        """
        with lease_lock:
            if self._original is not None:
                super().close()  # type: ignore[misc]

    def end_lease(self) -> Any:
        """Returns the connection, for its pool; None the second time.

        A response that the program closes at the same time as its reader returns its connection
        twice, and a pool would then lease it to two requests at once. If the program returns the
        connection while its reader is reading, this ends the answer as closing the response does.
        """
        with lease_lock:
            connection, self._original = self._original, None
            if connection is None:
                return None
            lease = self.lease
            if lease is not None:
                if lease.response is not None and not lease.response.isclosed():
                    # While the lease lasts, this only shuts down: the reader closes the response.
                    lease.response.close()
                    connection.close()
                if lease.connection is self:
                    lease.release()
            if self.is_shut_down:  # its reader was cancelled at this moment
                connection.close()
            for name in ("lease", "is_shut_down", "_head"):
                vars(connection).pop(name, None)
            return connection
