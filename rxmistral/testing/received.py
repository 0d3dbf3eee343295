"""A request as the server received it, and what became of it."""

import threading
from collections.abc import Iterator
from email.message import Message
from http.client import parse_headers
from io import BytesIO
from typing import Any

import msgspec

from .connection import Connection

_HEAD_LIMIT = 1 << 20


class RequestHead(msgspec.Struct):
    """The request line and the headers."""

    method: str
    path: str
    headers: Message


class ReceivedRequest:
    """One request that a `ScriptedServer` received.

    Attributes:
        number: its place in the order the requests came, from 0.
        connection: the number of the TCP connection it came over, from 0.
        method: `POST`.
        path: the target as in the request line, with its query.
        headers: case-insensitive: `request.headers["authorization"]`.
        body: the bytes of the body.
        received: when it was complete, in seconds of `time.monotonic()`.
        answered: when its script ran to its end or was cut, in the same seconds; None until then.
        cut: true if the script was cut: the peer closed the connection, or the server was closed, before the last step
            (a `hang` always ends so). Known once it is answered.
        frames: how many frames of the body were given to the socket until now.
        closed: when the server saw the peer close or reset the connection, in the same seconds; None until then, and
            for good if the server broke the connection itself (`abort`, or the server was closed).
        disconnected: true once the connection is gone, whoever closed it.
    """

    def __init__(
        self,
        number: int,
        connection: int,
        head: RequestHead,
        body: bytes,
        received: float,
        changed: threading.Condition,
    ) -> None:
        self.number = number
        self.connection = connection
        self.method = head.method
        self.path = head.path
        self.headers = head.headers
        self.body = body
        self.received = received
        self.answered: float | None = None
        self.cut = False
        self.frames = 0
        self.closed: float | None = None
        self.disconnected = False
        self._changed = changed

    def __repr__(self) -> str:
        return f"<request {self.number} ({self.method} {self.path})>"

    @property
    def json(
        self,
    ) -> dict[str, Any]:  # Any: tests index into it, request.json["messages"][0]["content"]
        """The body, which must be a JSON object; ValueError if it is not."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"the body of {self!r} is not a JSON object ({error}): {self.body[:200]!r}"
            ) from error

    def wait_answered(self, timeout: float = 5.0) -> bool:
        """Wait until the script ran to its end or was cut; false if that took more than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.answered is not None, timeout)

    def wait_closed(self, timeout: float = 5.0) -> bool:
        """Wait until the peer closed the connection; false if it did not within `timeout` seconds, or never can."""
        with self._changed:
            self._changed.wait_for(lambda: self.disconnected, timeout)
            return self.closed is not None


def read_request(connection: Connection) -> tuple[RequestHead, bytes]:
    """Read one request and its body. Raises ValueError for what is no HTTP request."""
    head = _parse(connection.read_until(b"\r\n\r\n", _HEAD_LIMIT))
    if "chunked" in head.headers.get("Transfer-Encoding", "").lower():
        return head, b"".join(_chunks(connection))
    return head, connection.read_exactly(int(head.headers.get("Content-Length", "0")))


def _parse(head: bytes) -> RequestHead:
    first, _, rest = head.partition(b"\r\n")
    match first.decode("latin-1").split(" "):
        case [method, path, version] if version.startswith("HTTP/1."):
            return RequestHead(method, path, parse_headers(BytesIO(rest)))
        case _:
            raise ValueError(f"the request line is no HTTP: {first[:200]!r}")


def _chunks(connection: Connection) -> Iterator[bytes]:
    while size := int(connection.read_until(b"\r\n", _HEAD_LIMIT).split(b";")[0], 16):
        yield connection.read_exactly(size + 2)[:-2]
    while connection.read_until(b"\r\n", _HEAD_LIMIT) != b"\r\n":
        pass  # trailers
