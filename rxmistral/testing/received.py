"""A request as the server received it, and how its answer went."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import parse_headers
from io import BytesIO
from typing import Any

import msgspec

from .connection import Connection

_MAX_HEAD_BYTES = 1 << 20


@dataclass(eq=False, repr=False)
class ReceivedRequest:
    """One request that a `ScriptedServer` received. Times are seconds of `time.monotonic()`.

    Attributes:
        number: The number of the request in the order of arrival, from 0.
        connection: The number of its TCP connection, from 0.
        method: The method, such as `POST`.
        path: The target in the request line, with its query.
        headers: The headers; keys are found in any case: `request.headers["authorization"]`.
        body: The body as bytes.
        received: When the request was complete.
        answered: When its script had run to its end or was cut; None until then.
        cut: Whether the script was cut: the peer closed the connection, or the server was
            closed, before the last step (a `hang` always ends like that). Valid once the
            request is answered.
        frames: How many frames of the body were passed to the socket so far.
        closed: When the server saw the peer close or reset the connection. None until then,
            and permanently if the server ended the connection itself (`abort`, or the server
            was closed).
        disconnected: Whether the connection is gone, whichever side closed it.
    """

    number: int
    connection: int
    method: str
    path: str
    headers: Message
    body: bytes
    received: float
    _changed: threading.Condition
    answered: float | None = None
    cut: bool = False
    frames: int = 0
    closed: float | None = None
    disconnected: bool = False

    def __repr__(self) -> str:
        return f"<request {self.number} ({self.method} {self.path})>"

    @property
    def json(self) -> dict[str, Any]:  # Any: for request.json["messages"][0]["content"]
        """The body as a JSON object; raises ValueError for anything else."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"the body of {self!r} is not a JSON object ({error}): {self.body[:200]!r}"
            ) from error

    def wait_answered(self, timeout: float = 5.0) -> bool:
        """Waits until the script has run to its end or was cut; False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.answered is not None, timeout)

    def wait_closed(self, timeout: float = 5.0) -> bool:
        """Waits until the peer closes the connection; False after `timeout` seconds, or if the
        server ended the connection itself."""
        with self._changed:
            self._changed.wait_for(lambda: self.disconnected, timeout)
            return self.closed is not None


def read_request(connection: Connection) -> tuple[str, str, Message, bytes]:
    """Returns the method, path, headers and body of the next request; ValueError: not HTTP."""
    head = connection.read_until(b"\r\n\r\n", _MAX_HEAD_BYTES)
    request_line, _, fields = head.partition(b"\r\n")
    words = request_line.decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise ValueError(f"the request line is not HTTP: {request_line[:200]!r}")
    headers = parse_headers(BytesIO(fields))
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        body = b"".join(_read_chunks(connection))
    else:
        body = connection.read_exactly(int(headers.get("Content-Length", "0")))
    return words[0], words[1], headers, body


def _read_chunks(connection: Connection) -> Iterator[bytes]:
    while size := int(connection.read_until(b"\r\n", _MAX_HEAD_BYTES).split(b";")[0], 16):
        yield connection.read_exactly(size + 2)[:-2]
    while connection.read_until(b"\r\n", _MAX_HEAD_BYTES) != b"\r\n":
        pass  # trailers
