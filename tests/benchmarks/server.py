"""The server that the benchmarks of streams read from.

    python tests/benchmarks/server.py CERTIFICATE

It prints two ports, of plain connections and of TLS, and serves until its stdin ends. The file
contains the certificate of TLS, and its key.

The server must not be the bottleneck: it is one process and one thread, and all answers are made
in advance. The path before `/v1/chat/completions` selects the answer:

    /burst/COUNT/BYTES   COUNT chunks, in events of BYTES each (0: as recorded), and the end,
                         as fast as they are read
    /paced               50 chunks per second without end. Each is one packet. Its content is the
                         time.monotonic_ns() at which it was sent, a clock that all processes of
                         a Linux share; the content of the first is 0

Each event is one HTTP chunk, and over TLS each paced chunk is one record. The paced streams do not send all at once, but one after the other,
spread over the fiftieth of a second.
"""

from __future__ import annotations

import json
import re
import resource
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle, islice, repeat
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Any

RATE = 50  # chunks per second of a paced stream
SLOTS = 100  # of a period; all streams of a slot are sent to at once
SLOT_NS = 1_000_000_000 // RATE // SLOTS
SLOT_STEP = 61  # slots from a stream to the next; has no common divisor with SLOTS

# --- the answers -----------------------------------------------------------------

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
PROSE = (
    "The train was late. We waited in the hall, and it rained; Mr. Fox had left. "
    "Nobody knew when the next one would come, if there was to be a next one at all! "
)
PADDING = "abcdefghijklmnopqrstuvwxyz0123456789"
STAMP_DIGITS = 19
USAGE = {"prompt_tokens": 19, "completion_tokens": 2, "total_tokens": 21}


def chunk(content: str, finish_reason: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}
    body = {
        "id": "d1d2d3d4d5d6d7d8d9d0d1d2d3d4d5d6",
        "object": "chat.completion.chunk",
        "created": 1787865810,
        "model": "mistral-small-latest",
        "choices": [choice],
    }
    return json.dumps(body | more, separators=(",", ":"))


def framed(data: str) -> bytes:
    """Returns one event as one HTTP chunk."""
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


LAST = framed(chunk("", "stop", usage=USAGE, p="abcdef")) + framed("[DONE]") + b"0\r\n\r\n"


@cache
def recorded() -> list[bytes]:
    """Returns chunks of 3 to 6 characters, with as much padding as the service adds."""
    packets, start = [], 0
    while start < len(PROSE):
        end = start + 3 + start % 4
        packets.append(framed(chunk(PROSE[start:end], p=PADDING[: start % 37])))
        start = end
    return packets


BARE = '{"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}'


@cache
def sized(size: int) -> list[bytes]:
    """Returns one chunk that has only its choice, and whose event has this many bytes."""
    space = size - len(f"data: {BARE % ''}\n\n")
    if space < 1:
        raise ValueError(f"an event with a chunk does not fit in {size} bytes")
    return [framed(BARE % (PROSE * (space // len(PROSE) + 1))[:space])]


@cache
def block_of(size: int, count: int) -> bytes:
    return b"".join(islice(cycle(sized(size) if size else recorded()), count))


def burst(count: int, size: int) -> Iterator[bytes]:
    """Yields the answer in blocks of about 256 kB."""
    each = max(1, 2**18 // (size or 250))
    yield HEAD + block_of(size, count % each)
    yield from repeat(block_of(size, each), count // each)
    yield LAST


STAMP = "0" * STAMP_DIGITS
packet = bytearray(framed(chunk(STAMP, p=PADDING[:18])))
STAMP_AT = packet.index(STAMP.encode())
STAMP_END = STAMP_AT + STAMP_DIGITS

# --- the connections -------------------------------------------------------------


class Connection:
    """A connection to one client, which sends one request after the other."""

    def __init__(self, server: Server, connected: socket.socket) -> None:
        self.socket = connected
        self._server = server
        self._received = b""
        self._blocks: Iterator[bytes] = iter(())
        self._unsent = memoryview(b"")
        self._slot: list[Connection] | None = None

    def ready(self, events: int) -> None:
        try:
            if events & EVENT_READ:
                self._read()
            self._write()
        except (ssl.SSLWantReadError, BlockingIOError):
            pass  # part of a handshake or of a record
        except OSError:
            self.close()

    def _read(self) -> None:
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionResetError
        self._received += received
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if blank and len(body) >= int(length[1] if length else 0):
            self._received = b""
            self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, path: str) -> None:
        kind, *numbers = path.removesuffix("/v1/chat/completions").strip("/").split("/")
        if kind == "burst":
            count, size = map(int, numbers)
            self._blocks = burst(count, size)
        elif kind == "paced":
            self.socket.sendall(HEAD + framed(chunk(STAMP)))
            self._slot = self._server.tick_with(self)
        else:
            self.socket.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def _write(self) -> None:
        try:
            while self._unsent or self._next_block():
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            self._server.selector.modify(self.socket, EVENT_READ, self.ready)
        except (BlockingIOError, ssl.SSLWantWriteError):
            self._server.selector.modify(self.socket, EVENT_READ | EVENT_WRITE, self.ready)

    def _next_block(self) -> bool:
        self._unsent = memoryview(next(self._blocks, b""))
        return len(self._unsent) > 0

    def tick(self) -> None:
        packet[STAMP_AT:STAMP_END] = b"%019d" % time.monotonic_ns()
        try:
            is_sent = self.socket.send(packet) == len(packet)
        except OSError:
            is_sent = False
        if not is_sent:  # the client has left, or lags by seconds
            self.close()

    def close(self) -> None:
        if self._slot is not None:
            self._slot.remove(self)
        self._server.selector.unregister(self.socket)
        self.socket.close()


class Server:
    def __init__(self, certificate: str) -> None:
        self.selector = DefaultSelector()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate)
        self.ports = [self._listen(self._accept), self._listen(self._accept_tls)]
        self._slots: list[list[Connection]] = [[] for _ in range(SLOTS)]
        self._ticking = 0  # paced streams so far
        self._next = 0  # the number of the next slot, since the epoch of the clock

    def tick_with(self, connection: Connection) -> list[Connection]:
        """Adds a connection to a slot, and returns the slot."""
        slot = self._slots[self._ticking * SLOT_STEP % SLOTS]
        self._ticking += 1
        slot.append(connection)
        return slot

    def serve(self) -> None:
        self.selector.register(sys.stdin, EVENT_READ, lambda _: sys.exit())
        while True:
            # A selector counts in milliseconds, which is too coarse to wait for a slot.
            ticking = any(self._slots)
            for key, events in self.selector.select(0 if ticking else None):
                key.data(events)
            if ticking:
                self._tick()
            else:
                self._next = time.monotonic_ns() // SLOT_NS

    def _tick(self) -> None:
        """Sends the chunks that are due, and sleeps until the next slot."""
        while self._next * SLOT_NS <= time.monotonic_ns():
            for connection in self._slots[self._next % SLOTS][:]:
                connection.tick()
            self._next += 1
        time.sleep(max(0, self._next * SLOT_NS - time.monotonic_ns()) / 1e9)

    def _listen(self, accept: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.selector.register(listener, EVENT_READ, lambda _: accept(listener.accept()[0]))
        return int(listener.getsockname()[1])

    def _accept_tls(self, connected: socket.socket) -> None:
        connected.setblocking(False)  # the handshake is done by the first reads
        self._accept(
            self._tls.wrap_socket(connected, server_side=True, do_handshake_on_connect=False)
        )

    def _accept(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, connected)
        self.selector.register(connected, EVENT_READ, connection.ready)


def allow_many_files() -> None:
    """Raises the limit of open files to the maximum: each stream is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    allow_many_files()
    server = Server(sys.argv[1])
    print(*server.ports, flush=True)
    with suppress(KeyboardInterrupt):
        server.serve()
