"""Connection leases: which reader uses a connection, and how another thread ends that.

Closing a socket does not wake the thread that reads from it, and closing a response waits
for that thread. Shutting the socket down wakes the thread at once, and notifies the server.
So the thread that cancels shuts the socket down, and the reader, awake again, closes it.

For that the socket has to be known before there is a response, while the server is still
silent. So each connection that a pool leases to a reader is registered with the reader's
`ConnectionLease` (see `connection`). A socket outlives the response that it carried, so the
connection also refers to its lease: nothing shuts down a socket that serves another reader.

A forked child has copies of all these sockets. Whatever it sends or shuts down would affect
the parent's connection, so the child closes its descriptors and does nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from threading import RLock, local
from typing import Any

from ..rx.cancellation import Cancellation
from ..rx.threads import fork_safe
from .idle_timeout import IdleTimeout

__all__ = ["ConnectionLease", "current_lease", "lease_lock", "shut_down"]

# Held for a few assignments and a shutdown(), which do not block. Reentrant, since
# garbage collection may dispose an abandoned reader at any moment.
lease_lock = fork_safe(RLock())


class _Sending(local):
    lease: ConnectionLease | None = None


_sending = _Sending()


def current_lease() -> ConnectionLease | None:
    """Returns the lease of the reader that sends a request on this thread, if there is one."""
    return _sending.lease


class ConnectionLease(Cancellation):
    """The lease of one reader on the connection that serves it.

    Attributes:
        connection: The connection that is leased; None: there is none.
        is_connecting: Whether a connection is being established, TLS included.
        is_reading: Whether the reader has a response that it has not released.
    """

    def __init__(self, idle_timeout: IdleTimeout) -> None:
        super().__init__()
        self.idle_timeout = idle_timeout
        self.is_connecting = False
        self.is_reading = False
        self.connection: Any = None
        self._socket: Any = None
        self._handshake_socket: socket | None = None

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """Makes this the lease of the requests that this thread sends within the block.

        A callback of the reader may send requests of its own; they have no lease.
        """
        _sending.lease = self
        try:
            yield
        finally:
            _sending.lease = None

    def cancel_and_wake(self) -> None:
        """Cancels, and shuts the socket down, on which the reader may be blocked."""
        self.cancel()
        with lease_lock:
            if self._handshake_socket is not None:
                shut_down(self._handshake_socket)
            connection = self.connection
            if connection is not None and connection.lease is self:
                connection.isshut_down = True
                shut_down(self._socket)

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
            connection, self.connection = self.connection, None
            self._socket = None
            if connection is not None and connection.lease is self:
                connection.lease = None

    def forked(self) -> None:
        self.cancelled = True
        _close_descriptor(self._socket)
        _close_descriptor(self._handshake_socket)
        if self.connection is not None:
            self.connection.sock = None


def shut_down(sock: Any) -> None:
    # SSLSocket.shutdown() would also remove the TLS state from under its reader. TLS within
    # TLS (an https proxy) is not a socket but wraps one: shut down the one at the bottom.
    with suppress(OSError, TypeError):  # closed already, or not connected yet
        socket.shutdown(getattr(sock, "socket", sock), SHUT_RDWR)


def _close_descriptor(sock: Any) -> None:
    with suppress(OSError, TypeError):  # there is none, or it is closed already
        os.close(socket.detach(getattr(sock, "socket", sock)))
