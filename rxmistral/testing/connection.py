"""One accepted connection, of a server that must always know whether its peer is still there.

What it must do: notice within milliseconds that the peer closed or reset the connection, or that the server is being
closed, whatever it does at the time: read a request, sleep, send to a peer that does not read, shake hands, or nothing.

The way: the socket never blocks, and every wait is one `select` over the socket and the bell of the server. Whatever the
peer sends meanwhile is read at once and kept: that works for TLS too, where a look at the bare socket would see the
records and not what they mean, and the end of what it sends is then the end of the connection. (A peer that only shuts
down its sending side counts as gone.) One thread owns the connection, so there is nothing to lock, and no descriptor
is ever closed under a thread that waits for it.
"""

import os
import selectors
import socket
import ssl
import struct
from typing import Self

from ..rx.clock import monotonic

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
# poll, where there is one: no descriptor of its own as epoll, no limit of 1024 as select.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)
# An l_linger of zero seconds makes close() send a RST. The struct has two ints, on Windows two shorts.
_LINGER_ZERO = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class PeerClosedError(Exception):
    """The peer closed or reset the connection."""


class StoppedError(Exception):
    """The server is being closed."""


class Bell:
    """Wakes every thread that waits in a select, at once and for good."""

    def __init__(self) -> None:
        self._listener, self._ringer = socket.socketpair()
        self.rung = False

    def fileno(self) -> int:
        return self._listener.fileno()

    def ring(self) -> None:
        if not self.rung:
            self.rung = True
            self._ringer.send(b"!")  # nobody reads it, so that it stays readable for all

    def close(self) -> None:
        self._listener.close()
        self._ringer.close()


class Connection:
    """An accepted connection. Every method raises PeerClosedError or StoppedError as soon as that is so."""

    def __init__(self, accepted: socket.socket, tls: ssl.SSLContext | None, bell: Bell) -> None:
        self._bell = bell
        self._input = bytearray()
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = accepted if tls is None else _wrap(accepted, tls)
        self._incoming = self._select_on(_READ)
        self._both_ways = self._select_on(_READ | _WRITE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._incoming.close()
        self._both_ways.close()
        self._socket.close()

    def _select_on(self, events: int) -> selectors.BaseSelector:
        selector = _Selector()
        selector.register(self._socket, events)
        selector.register(self._bell, _READ)
        return selector

    # Reading.

    def read_until(self, end: bytes, limit: int) -> bytes:
        """Read up to and with `end`. Raises ValueError when there are more than `limit` bytes before it."""
        while (found := self._input.find(end, 0, limit)) < 0:
            if len(self._input) >= limit:
                raise ValueError(
                    f"no {end!r} in the first {limit} bytes: {bytes(self._input[:100])!r}"
                )
            self._listen(None)
        return self.read_exactly(found + len(end))

    def read_exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._input) < size:
            self._listen(None)
        data = bytes(self._input[:size])
        del self._input[:size]
        return data

    def _listen(self, seconds: float | None) -> None:
        """Wait for the peer or the bell."""
        self._hear(self._incoming.select(seconds))

    def _hear(self, ready: list[tuple[selectors.SelectorKey, int]]) -> bool:
        """Take in what is there; tell whether the peer takes more."""
        writable = False
        for key, events in ready:
            if key.fileobj is self._bell:
                raise StoppedError
            writable = bool(events & _WRITE)
            if events & _READ:
                self._take_in()
        return writable

    def _take_in(self) -> None:
        # Until it would block: a TLS record may hold more than one read, and select does not see the rest of it.
        while True:
            try:
                data = self._socket.recv(65_536)
            except _WOULD_BLOCK:
                return
            except OSError as error:
                raise PeerClosedError from error
            if not data:
                raise PeerClosedError
            self._input += data

    # Sending and waiting.

    def send(self, data: bytes) -> None:
        """Send all of it, as fast as the peer takes it."""
        sent = self._send_some(data)
        while sent < len(data):
            self._wait_until_writable()
            sent += self._send_some(memoryview(data)[sent:])

    def _send_some(self, data: bytes | memoryview) -> int:
        if self._bell.rung:
            raise StoppedError
        try:
            return self._socket.send(data)
        except _WOULD_BLOCK:
            return 0
        except OSError as error:
            raise PeerClosedError from error

    def _wait_until_writable(self) -> None:
        while not self._hear(self._both_ways.select()):
            pass

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            self._listen(left)

    def hang(self) -> None:
        """Wait for the peer to go."""
        while True:
            self._listen(None)

    # Beginning and ending.

    def handshake(self) -> None:
        """Shake hands, if this is TLS. A peer that does not want to is a peer that closed."""
        while isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                self._await_handshake(_READ)
            except ssl.SSLWantWriteError:
                self._await_handshake(_WRITE)
            except OSError as error:
                raise PeerClosedError from error

    def _await_handshake(self, events: int) -> None:
        # What comes in belongs to the handshake: it must not be taken in here.
        selector = self._incoming if events == _READ else self._both_ways
        if any(key.fileobj is self._bell for key, _ in selector.select()):
            raise StoppedError

    def finish(self, *, politely: bool) -> None:
        """Close our side, and wait for the peer to close its own.

        Politely means that TLS says so (close_notify); without it, the end is one that anybody could have made.
        """
        if politely and isinstance(self._socket, ssl.SSLSocket):
            self._notify(self._socket)
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise PeerClosedError from error
        self.hang()

    def _notify(self, tls: ssl.SSLSocket) -> None:
        while True:
            try:
                tls.unwrap()
            except ssl.SSLWantWriteError:
                self._wait_until_writable()
            except ssl.SSLWantReadError:
                return  # ours is sent; the peer's is not worth waiting for
            except OSError as error:
                raise PeerClosedError from error
            else:
                return

    def abort(self) -> None:
        """Make the coming close of the socket a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def _wrap(accepted: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
    try:
        return tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
    except OSError as error:  # the peer went before we came to it
        accepted.close()
        raise PeerClosedError from error
