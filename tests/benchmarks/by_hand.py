"""Reads answers without any library: the baseline of the comparison.

The loop is what a good programmer writes in a quarter of an hour, with requests and msgspec,
without errors, endings or a second thread. The sockets are the limit: one thread that waits for
many of them.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from selectors import EVENT_READ, DefaultSelector
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import requests
from ways import MODEL, PATH, PROMPT, Consume, Way

from rxmistral.models import CompletionChunk, decode_hook

BODY: Any = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "stream": True}


class Delta(msgspec.Struct):
    content: str | None = None


class Choice(msgspec.Struct):
    delta: Delta


class Chunk(msgspec.Struct):
    choices: list[Choice]


Decode = Callable[[bytes], Any]

decode_all: Decode = msgspec.json.Decoder(CompletionChunk, dec_hook=decode_hook).decode
decode_content: Decode = msgspec.json.Decoder(Chunk).decode

# --- requests --------------------------------------------------------------------


class Client(NamedTuple):
    session: requests.Session
    url: str


def open_client(url: str) -> Client:
    return Client(requests.Session(), url + PATH)


def loop(decode: Decode, client: Client, consume: Consume) -> None:
    response = client.session.post(client.url, json=BODY, stream=True)
    incomplete = b""
    for block in response.iter_content(None):
        *events, incomplete = (incomplete + block).split(b"\n\n")
        for event in events:
            data = event[6:]
            if data != b"[DONE]":
                for choice in decode(data).choices:
                    if choice.delta.content:
                        consume(choice.delta.content)


# --- sockets ---------------------------------------------------------------------

_FRAMING = re.compile(rb"\r\n[0-9a-f]+\r\n")


class Endpoint:
    """A server, and a connection to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url + PATH)
        body = json.dumps(BODY).encode()
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.address = (parts.hostname, parts.port)
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.request = head.encode() + body
        self.socket = self.connect()

    def connect(self) -> socket.socket:
        connected = socket.create_connection(self.address)
        if self.tls is not None:
            connected = self.tls.wrap_socket(connected, server_hostname=self.address[0])
        return connected


def read_socket(endpoint: Endpoint, consume: Consume) -> None:
    """Consumes only the first content, to measure when it arrives."""
    endpoint.socket.sendall(endpoint.request)
    received, consumed = b"", False
    while not received.endswith(b"\r\n0\r\n\r\n"):
        received += endpoint.socket.recv(65536)
        if not consumed and b'"content":"' in received:
            consumed = True
            consume(received)


def contents_of(packet: bytes) -> Iterator[str]:
    """Returns the contents in one packet; the server sends each chunk as one packet."""
    for event in _FRAMING.sub(b"", packet).split(b"\n\n"):
        at = event.find(b"data: {")
        if at >= 0:
            yield decode_content(event[at + 6 :]).choices[0].delta.content


def read_sockets(endpoint: Endpoint, count: int, consume: Consume) -> None:
    """Reads many streams on one thread."""
    selector = DefaultSelector()
    receive = receive_plain if endpoint.tls is None else receive_tls
    for each in [endpoint.connect() for _ in range(count)]:
        each.sendall(endpoint.request)
        each.setblocking(False)
        selector.register(each, EVENT_READ, each)
    while True:
        for key, _ in selector.select():
            for content in contents_of(receive(key.fileobj)):
                consume(content)


def receive_plain(ready: socket.socket) -> bytes:
    return ready.recv(65536)


def receive_tls(ready: ssl.SSLSocket) -> bytes:
    """Returns what the selector cannot see, too: the rest of a record that is decrypted."""
    try:
        received = ready.recv(65536)
        while ready.pending():
            received += ready.recv(65536)
    except ssl.SSLWantReadError:  # a session ticket, or part of a record
        return b""
    return received


class Contents(asyncio.Protocol):
    """The contents of one stream, and a future of the task that waits for the next one."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.waiting: asyncio.Future[None] | None = None
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.received += contents_of(data)
        self.ended = data.endswith(b"\r\n0\r\n\r\n")
        if self.waiting is not None:
            self.waiting.set_result(None)
            self.waiting = None


async def read_on_loop(endpoint: Endpoint, consume: Consume) -> None:
    """Reads one stream on the event loop, as `async for` does."""
    loop = asyncio.get_running_loop()
    transport, contents = await loop.create_connection(
        Contents, *endpoint.address, ssl=endpoint.tls
    )
    transport.write(endpoint.request)
    while True:
        while contents.received:
            consume(contents.received.pop(0))
        if contents.ended:
            break
        contents.waiting = loop.create_future()
        await contents.waiting
    transport.close()


WAYS = {
    "loop": Way(open_client, partial(loop, decode_all)),
    "loop, content only": Way(open_client, partial(loop, decode_content)),
    "socket": Way(Endpoint, read_socket, read_sockets),
    "asyncio": Way(Endpoint, read_on_loop),
}
