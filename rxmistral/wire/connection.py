"""Connections that can be cut from any thread, and answers that are read in one go.

Closing a socket does not wake who reads from it, and closing a response waits for who
reads from it; shutting the socket down does wake him, at once, and tells the server. So
the one who cancels shuts down, and the reader, awake again, closes.

For that the socket must be known before there is a response, while the server is still
silent: so a connection that a reader leases from a pool is given a class that tells the
reader on whose thread it works, until it returns to the pool. A socket outlives the answer
it carried, so the connection also knows which reader it serves now, and nobody shuts down
a socket that serves another.

The answer is in the program's hands too, which may close it at any moment, on any thread. As
long as it has a reader that only shuts the socket down: the reader, awake, closes.

A forked child has copies of all these sockets. Whatever is sent or shut down over one of them
happens to the parent's connection, so the child closes its descriptors and does nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from http.client import HTTPResponse, IncompleteRead, RemoteDisconnected
from io import BufferedReader, RawIOBase
from socket import SHUT_RDWR, SocketIO, socket
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from threading import RLock, local
from typing import Any
from weakref import WeakSet

from ..rx.cancellation import Cancellation
from ..rx.threads import fork_safe, register_for_fork
from .idle_timeout import IdleTimeout
from .message_body import ChunkedDecoder, Decoder, LengthDecoder, UntilCloseDecoder

__all__ = [
    "ConnectionLease",
    "Rest",
    "current_lease",
    "remember",
    "rest_of",
    "unwatched",
    "was_cut",
    "watched",
]

_here = local()  # .lease: of the reader that works on this thread

# Held for a few assignments and a shutdown(), which do not block. Reentrant, since
# garbage collection may dispose an abandoned reader at any moment.
_ownership = fork_safe(RLock())


class ConnectionLease(Cancellation):
    """What one reader has of the connection that serves it."""

    def __init__(self, idle_timeout: IdleTimeout) -> None:
        super().__init__()
        self.idle_timeout = idle_timeout
        self.connecting = False
        self.reading = False  # the answer
        self._connection: Any = None
        self._socket: Any = None
        self._handshake: socket | None = None  # the socket, once more, during that of TLS

    @contextmanager
    def on_this_thread(self) -> Iterator[None]:
        """What is sent within belongs to this reader; its callbacks may send requests of
        their own, which do not."""
        _here.lease = self
        try:
            yield
        finally:
            _here.lease = None

    def cancel_and_wake(self) -> None:
        """Cancels, and shuts the socket down under the reader, which may block on it."""
        self.cancel()
        with _ownership:
            if self._handshake is not None:
                _shut_down(self._handshake)
            connection = self._connection
            if connection is not None and connection.lease is self:
                connection.spoiled = True
                _shut_down(self._socket)

    def acquire(self, connection: Any) -> None:
        """The connection, on the reader's thread: from now on it serves this reader."""
        with _ownership:
            connection.lease = self
            self._connection = connection
            self._socket = connection.sock
        self.check()

    def begin_handshake(self, sock: socket) -> None:
        """A socket is connected, and goes into the hands of TLS, which gives it back in
        another object when the handshake is over: this one would be of no use."""
        with _ownership:
            self._handshake = sock.dup()
        self.check()

    def end_handshake(self) -> None:
        with _ownership:
            sock, self._handshake = self._handshake, None
        if sock is not None:
            sock.close()

    def forked(self) -> None:
        """In the child: the reader and its connection are the parent's."""
        self.cancelled = True
        _drop(self._socket)
        _drop(self._handshake)
        if self._connection is not None:
            self._connection.sock = None

    def release(self) -> None:
        with _ownership:
            self.reading = False
            connection, self._connection = self._connection, None
            self._socket = None
            if connection is not None and connection.lease is self:
                connection.lease = None


def current_lease() -> ConnectionLease | None:
    """Returns the lease of the reader that sends a request on this thread."""
    return getattr(_here, "lease", None)


def watched(connection: Any) -> Any:
    """Returns a urllib3 connection that a reader has leased, now watched."""
    if not isinstance(connection, _Watched):
        # Not by setattr(), which vcrpy's connections pass on to the real one.
        stock: Any = type(connection)
        object.__setattr__(connection, "__class__", _watched(stock))
    return connection


def unwatched(connection: Any) -> bool:
    """Makes a connection what it was before it was watched; called before it goes back.

    Returns False if it is that already: a response that the program closes as its reader does
    returns its connection twice, and a pool would lease it to two requests at once.
    """
    with _ownership:
        if not isinstance(connection, _Watched):
            return False
        stock: Any = connection  # the class that it is mixed into is not known
        lease = connection.lease
        if lease is not None and lease._connection is connection:
            lease.release()
        if connection.spoiled:  # its reader was cancelled at this moment
            stock.close()
        for name in ("lease", "spoiled"):
            vars(connection).pop(name, None)
        object.__setattr__(connection, "__class__", type(connection).__mro__[2])
    return True


# --- a pool in the child of a fork -----------------------------------------------


class _Fork:
    """The sessions whose connections a child would share with its parent."""

    def __init__(self) -> None:
        self.sessions: WeakSet[Any] = WeakSet()
        self.is_child = False
        register_for_fork(self)

    def forked(self) -> None:
        self.is_child = True
        for session in list(self.sessions):
            # http.cookiejar's own, which each request takes.
            if hasattr(session.cookies, "_cookies_lock"):
                session.cookies._cookies_lock = RLock()
            _drop_idle(session)


_fork = _Fork()


def remember(session: Any) -> None:
    """Has a child of this process drop the idle connections of a requests.Session."""
    if session not in _fork.sessions:
        if _fork.is_child:  # it may have been used before the fork
            _drop_idle(session)
        _fork.sessions.add(session)


def _drop_idle(session: Any) -> None:
    for adapter in session.adapters.values():
        if not hasattr(adapter, "poolmanager"):
            continue  # another's: nothing is known of its connections
        for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
            manager.pools.lock = RLock()
            for key in manager.pools.keys():  # noqa: SIM118  # it cannot be iterated
                pool = manager.pools.get(key)
                if pool is not None and pool.pool is not None:
                    _empty(pool)


def _empty(pool: Any) -> None:
    """A new queue, with a new lock, and a place for each connection that the parent has."""
    old = pool.pool
    new = type(old)(old.maxsize)
    for _ in range(old.maxsize):
        new.put(None)
    pool.pool = new
    for idle in list(old.queue):
        if idle is not None:
            idle.close()  # the descriptor, and no goodbye


# --- http.client's answer --------------------------------------------------------

# For the headers; less than one read of the body takes, which so leaves nothing behind. By
# default it is more, from Python 3.14 on.
_BUFFER_BYTES = 8 * 1024
_TIMEOUT_STEP = 0.01  # seconds; to set the timeout of a socket is a system call


class _Answer(HTTPResponse):
    """An answer as it comes: after any interim ones, and many chunks at a time."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.socket = sock
        self.cut = False  # closed by the program, before its end
        self._came_whole = False
        self._broken = False
        self._chunks = ChunkedDecoder()
        self._lease = lease = current_lease()
        if lease is not None and isinstance(self.fp.raw, SocketIO):
            patient = _PatientSocket(self.fp.detach(), sock, lease.idle_timeout)
            self.fp = BufferedReader(patient, _BUFFER_BYTES)

    def begin(self) -> None:
        # RFC 9110, 15.2: "A client MUST be able to parse one or more 1xx responses
        # received prior to a final response". http.client skips 100 alone; it would take
        # a 103 for the answer, and the answer for that of the next request.
        self._begin()
        while 100 <= self.status < 200 and self.status != 101:
            self.headers = None  # type: ignore[assignment]  # not begun, to http.client
            self._begin()

    def _begin(self) -> None:
        # http.client takes the end of the connection for the end of the headers.
        file: Any = self.fp
        lines: Any = _Lines(file)
        self.fp = lines
        try:
            super().begin()
        finally:
            if self.fp is lines:  # and not closed
                self.fp = file
        if not lines.last:
            raise RemoteDisconnected("closed in the middle of the headers")

    def decoder(self) -> Decoder:
        """Of what is left of the body."""
        if self.chunked:
            return self._chunks
        return UntilCloseDecoder() if self.length is None else LengthDecoder(self.length)

    def read1(self, n: int = -1) -> bytes:
        """What is there, as soon as anything is."""
        try:
            return self._read1(n)
        except BaseException:
            self._broken = True  # urllib3 closes it now, and not the program
            raise

    def _read1(self, n: int) -> bytes:
        if not self.chunked or self.fp is None:
            return super().read1(n)
        while True:
            content = self._chunks.feed(self._received(n))
            if self._chunks.ended:
                self.end(self._chunks.rest)
            if content or self._chunks.ended:
                return content

    def _received(self, n: int) -> bytes:
        received = self.fp.read1(n)
        if not received:
            raise IncompleteRead(b"")
        return received

    def end(self, rest: bytes) -> None:
        self._came_whole = True
        if rest:
            _shut_down(self.socket)  # what follows would be taken for the next answer
        self.close()

    @property
    def is_whole(self) -> bool:
        """Whether it is known that its body was read to the end."""
        return self._came_whole or self.length == 0

    def close(self) -> None:
        # To close a socket is not enough: a child of a fork may have a copy of it, and the
        # server would go on. Of an answer that is not ours nothing is known. One that has
        # not begun is a proxy's word that the tunnel stands: the socket is needed.
        with _ownership:
            begun = self.headers is not None
            if self._lease is not None and begun and self.fp is not None and not self.is_whole:
                left_to_reader = self._lease.reading and not self._broken
                if left_to_reader:  # noted first: the shutdown wakes it
                    self.cut = True
                _shut_down(self.socket)
                if left_to_reader:
                    return
            self._lease = None  # whose clocks know the text: programs keep responses
        super().close()


class _PatientSocket(RawIOBase):
    """What is read from a socket, by who may not wait for it as long as he likes."""

    def __init__(self, file: RawIOBase, sock: socket, idle_timeout: IdleTimeout) -> None:
        self._file = file
        self._socket = sock
        self._left = idle_timeout.remaining
        self._timeout = -1.0  # of the socket, where it is known

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._left()
        if left <= 0:
            raise TimeoutError
        if not left <= self._timeout <= left + _TIMEOUT_STEP:
            self._socket.settimeout(left)
            self._timeout = left
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        self._file.close()  # the socket lives until the last of its files is closed
        super().close()


class _Lines:
    """A file that remembers the last line that was read from it."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self.file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


# --- the same, for who may not wait ----------------------------------------------


class Rest:
    """What is left of a body, taken from its socket without waiting."""

    def __init__(self, answer: _Answer, decoder: Decoder) -> None:
        # Nothing is left in its buffer, which holds less than one read may take: it can go.
        answer.fp = answer.fp.detach()  # type: ignore[assignment]  # it is only closed
        self._answer = answer
        self._decoder = decoder
        self.socket: Any = answer.socket
        self._pending: Callable[[], int] | None = getattr(self.socket, "pending", None)
        self._timeout = self.socket.gettimeout()
        self.socket.setblocking(False)

    @property
    def ended(self) -> bool:
        return self._decoder.ended

    def read(self, size: int) -> bytes | None:
        """The content of what is there, which may be b""; None where nothing is."""
        try:
            received = self.socket.recv(size)
            # Nobody is told of what is decrypted already: the descriptor is not readable.
            while self._pending is not None and (pending := self._pending()):
                received += self.socket.recv(pending)
        except (BlockingIOError, SSLWantReadError, SSLWantWriteError):
            return None
        if received:
            return self._decoder.feed(received)
        self._decoder.close()
        return b""

    def give_back(self, raw: Any) -> None:
        """The socket, as it was; and, if the body came whole, the connection to its pool."""
        with suppress(OSError):  # it was shut down
            self.socket.settimeout(self._timeout)
        if self.ended:
            self._answer.end(self._decoder.rest)
            raw.release_conn()


def was_cut(raw: Any) -> bool:
    """Whether the program has closed a urllib3 response before all of it was read."""
    answer = getattr(raw, "_original_response", None)
    return isinstance(answer, _Answer) and answer.cut and not answer.is_whole


def rest_of(raw: Any) -> Rest | None:
    """What is left of the body of a urllib3 response, of which nothing is compressed; None
    where that has ended, or its socket is out of reach: a custom adapter's, TLS in TLS."""
    # Private, but requests itself takes the cookies from it.
    answer = getattr(raw, "_original_response", None)
    if not isinstance(answer, _Answer) or type(answer.socket) not in (socket, SSLSocket):
        return None
    decoder = answer.decoder()
    return None if answer.fp is None or decoder.ended else Rest(answer, decoder)


# --- urllib3's connection --------------------------------------------------------


class _Watched:
    """Mixed into urllib3's connections: they tell the reader which socket is his."""

    response_class = _Answer
    lease: ConnectionLease | None = None
    spoiled = False

    def connect(self) -> None:
        self.spoiled = False
        lease = current_lease()
        if lease is None:
            super().connect()  # type: ignore[misc]  # of the class this is mixed into
            return
        lease.check()  # an adapter may try again whatever happened
        lease.connecting = True
        try:
            super().connect()  # type: ignore[misc]
        finally:
            lease.end_handshake()
        lease.connecting = False
        lease.acquire(self)

    def _new_conn(self) -> socket:
        """urllib3's, for its subclasses: where the socket is made that `connect` wraps."""
        sock: socket = super()._new_conn()  # type: ignore[misc]
        lease = current_lease()
        if lease is not None:
            try:
                lease.begin_handshake(sock)
            except BaseException:  # cancelled, or no descriptor is left
                sock.close()
                raise
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        lease = current_lease()
        if lease is not None:  # a connection from the pool is connected already
            lease.acquire(self)
        super().request(*args, **kwargs)  # type: ignore[misc]


@lru_cache(64)
def _watched(connection_class: Any) -> type:
    return type(connection_class.__name__, (_Watched, connection_class), {})


def _drop(sock: Any) -> None:
    """Closes a descriptor, and nothing of what it stands for."""
    with suppress(OSError, TypeError):  # there is none, or it is closed already
        os.close(socket.detach(getattr(sock, "socket", sock)))


def _shut_down(sock: Any) -> None:
    # SSLSocket.shutdown() would also take the TLS state from under its reader, and TLS
    # inside TLS (an https proxy) is no socket but has one: shut down what is below.
    with suppress(OSError, TypeError):  # closed already, or not connected yet
        socket.shutdown(getattr(sock, "socket", sock), SHUT_RDWR)
