"""One accepted connection of a server that must always know whether its peer is still there.

It must notice within milliseconds that the peer closed or reset the connection, or that the server
is being closed, whatever it does at that time: read a request, sleep, send to a peer that does not
read, perform a TLS handshake, or nothing.

Strategy: the socket never blocks, and every wait is one `select` over the socket and the shutdown
signal of the server. Everything that the peer sends meanwhile is read at once and buffered: over
TLS, only reading shows whether a record is the end. A peer that shuts down its sending side counts
as gone. One thread owns the connection, so that nothing needs a lock, and no descriptor is closed
while another thread waits for it.
"""

import os
import selectors
import socket
import ssl
import struct
from contextlib import suppress
from typing import Self

from ..rx.clock import monotonic

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# poll, if the system has it: unlike epoll it needs no descriptor, unlike select it has no limit.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)
# An l_linger of zero seconds makes close() send a RST. The struct has two ints, on Windows two shorts.
_ZERO_LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class ServerClosedError(Exception):
    """The server is being closed."""


class ShutdownSignal:
    """Wakes every thread that waits for it in a select, at once and permanently."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self.is_set = False

    def fileno(self) -> int:
        return self._receiver.fileno()

    def set(self) -> None:
        if not self.is_set:
            self.is_set = True
            with suppress(OSError):  # the last thread to wake was awake, and has closed this
                self._sender.send(b"!")  # never read, so that the receiver stays readable for all

    def close(self) -> None:
        self._receiver.close()
        self._sender.close()


class Connection:
    """An accepted connection.

    Every method raises OSError as soon as the peer closes or resets the connection, and
    ServerClosedError as soon as the server is being closed.
    """

    def __init__(
        self, accepted: socket.socket, tls: ssl.SSLContext | None, shutdown: ShutdownSignal
    ) -> None:
        self._shutdown = shutdown
        self._input = bytearray()
        self._socket = accepted
        try:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                self._socket = tls.wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                )
        except OSError:  # the peer has already closed the connection
            accepted.close()
            raise
        self._input_selector = self._new_selector(_READ)
        self._io_selector = self._new_selector(_READ | _WRITE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._input_selector.close()
        self._io_selector.close()
        self._socket.close()

    def _new_selector(self, events: int) -> selectors.BaseSelector:
        selector = _Selector()
        selector.register(self._socket, events)
        selector.register(self._shutdown, _READ)
        return selector

    # --- reading ---

    def read_until(self, end: bytes, limit: int) -> bytes:
        """Returns the input up to and with `end`; raises ValueError if the first `limit` bytes do
        not contain it."""
        while (found := self._input.find(end, 0, limit)) < 0:
            if len(self._input) >= limit:
                raise ValueError(
                    f"no {end!r} in the first {limit} bytes: {bytes(self._input[:100])!r}"
                )
            self._wait_for(self._input_selector)
        return self.read_exactly(found + len(end))

    def read_exactly(self, size: int) -> bytes:
        """Returns the next `size` bytes of the input."""
        while len(self._input) < size:
            self._wait_for(self._input_selector)
        data = bytes(self._input[:size])
        del self._input[:size]
        return data

    def _wait_for(self, selector: selectors.BaseSelector, seconds: float | None = None) -> bool:
        """Waits, buffers the input that has arrived, and returns whether the socket is writable."""
        is_writable = False
        for key, events in selector.select(seconds):
            if key.fileobj is self._shutdown:
                raise ServerClosedError
            is_writable = bool(events & _WRITE)
            if events & _READ:
                self._receive()
        return is_writable

    def _receive(self) -> None:
        # Until it would block: a TLS record may contain more than one read returns, and select
        # does not see what is already decrypted.
        while True:
            try:
                data = self._socket.recv(65_536)
            except _WOULD_BLOCK:
                return
            if not data:
                raise ConnectionResetError("the peer closed the connection")
            self._input += data

    # --- sending and waiting ---

    def send(self, data: bytes) -> None:
        """Sends all the data, as fast as the peer reads it."""
        sent = self._send_some(data)
        while sent < len(data):
            self._wait_until_writable()
            sent += self._send_some(memoryview(data)[sent:])

    def _send_some(self, data: bytes | memoryview) -> int:
        if self._shutdown.is_set:
            raise ServerClosedError
        try:
            return self._socket.send(data)
        except _WOULD_BLOCK:
            return 0

    def _wait_until_writable(self) -> None:
        while not self._wait_for(self._io_selector):
            pass

    def wait(self, seconds: float) -> None:
        """Sends nothing for these seconds."""
        deadline = monotonic() + seconds
        while (remaining := deadline - monotonic()) > 0:
            self._wait_for(self._input_selector, remaining)

    def hang(self) -> None:
        """Sends nothing until the peer closes the connection."""
        while True:
            self._wait_for(self._input_selector)

    # --- beginning and ending ---

    def handshake(self) -> None:
        """Performs the TLS handshake, if there is one."""
        while isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                selector = self._input_selector
            except ssl.SSLWantWriteError:
                selector = self._io_selector
            # The input belongs to the handshake: it must not be read here.
            if any(key.fileobj is self._shutdown for key, _ in selector.select()):
                raise ServerClosedError

    def finish(self, *, with_close_notify: bool) -> None:
        """Closes our side, and waits for the peer to close its own.

        Over TLS, an end without a close_notify could have been caused by anybody in between.
        """
        if with_close_notify and isinstance(self._socket, ssl.SSLSocket):
            self._send_close_notify(self._socket)
        self._socket.shutdown(socket.SHUT_WR)
        self.hang()

    def _send_close_notify(self, tls: ssl.SSLSocket) -> None:
        with suppress(ssl.SSLWantReadError):  # ours is sent; the peer's is not needed
            while True:
                try:
                    tls.unwrap()
                    return
                except ssl.SSLWantWriteError:
                    self._wait_until_writable()

    def abort(self) -> None:
        """Makes the next close of the socket a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ZERO_LINGER)
