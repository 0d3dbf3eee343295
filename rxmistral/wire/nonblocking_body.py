"""Bodies that are read from their sockets without waiting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from socket import socket
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from typing import Any

from ..errors import DroppedStreamError
from .connection import LeasedResponse
from .message_body import BodyDecoder
from .request_errors import reason_of

__all__ = ["NonBlockingBody", "nonblocking_body_of"]


class NonBlockingBody:
    """The unread part of a body, read from its socket without waiting.

    Attributes:
        socket: The socket, now non-blocking.
    """

    def __init__(self, response: LeasedResponse, decoder: BodyDecoder) -> None:
        # Its buffer is smaller than a read of the body, so it is empty and can go.
        response.fp = response.fp.detach()  # type: ignore[assignment]  # only to be closed
        self._response = response
        self._decoder = decoder
        self.socket: Any = response.socket
        self._pending: Callable[[], int] | None = getattr(self.socket, "pending", None)
        self._timeout = self.socket.gettimeout()
        self.socket.setblocking(False)

    @property
    def ended(self) -> bool:
        """Whether the body has been read to its end."""
        return self._decoder.ended

    def read(self, size: int) -> bytes | None:
        """Returns the content that has arrived, maybe b""; None if nothing has.

        Args:
            size: The most to read from the socket, in bytes.

        Raises:
            DroppedStreamError: The connection or the body broke.
        """
        try:
            received = self.socket.recv(size)
            # The descriptor is not readable because of what TLS has decrypted already.
            while self._pending is not None and (pending := self._pending()):
                received += self.socket.recv(pending)
            if received:
                return self._decoder.feed(received)
            self._decoder.close()
            return b""
        except (BlockingIOError, SSLWantReadError, SSLWantWriteError):
            return None
        except (HTTPException, OSError, ValueError) as error:
            raise DroppedStreamError(reason_of(error)) from error

    def release(self, raw: Any) -> None:
        """Restores the socket; after a whole body, the connection returns to its pool.

        Args:
            raw: The urllib3 response.
        """
        with suppress(OSError):  # it was shut down
            self.socket.settimeout(self._timeout)
        if self.ended:
            self._response.end(self._decoder.unused_data)
            raw.release_conn()


def nonblocking_body_of(raw: Any) -> NonBlockingBody | None:
    """Returns the unread part of the uncompressed body of a urllib3 response.

    Returns:
        None if the body has ended, or its socket is out of reach: that of a custom
        adapter, or TLS within TLS.
    """
    # Private, but requests itself reads the cookies from it.
    response = getattr(raw, "_original_response", None)
    if not isinstance(response, LeasedResponse):
        return None
    if type(response.socket) not in (socket, SSLSocket):
        return None
    decoder = response.body_decoder()
    return None if response.fp is None or decoder.ended else NonBlockingBody(response, decoder)
