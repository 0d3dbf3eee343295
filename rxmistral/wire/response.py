"""The kind of a response (a refusal, an event stream, or something else), and its body.

status other than 2xx                      StatusError, with the body
a compression that urllib3 lacks           ProtocolError
a body that is not an event stream         ProtocolError, with the body
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from io import BytesIO
from socket import socket
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from typing import Any

from requests import Response
from urllib3 import BaseHTTPResponse, HTTPResponse
from urllib3.exceptions import DecodeError, HTTPError, ReadTimeoutError

from ..error_report import without_secrets
from ..errors import (
    DroppedStreamError,
    MistralError,
    ProtocolError,
    StreamTimeoutError,
    refusal,
    reported_error,
)
from .connection import LeasedResponse
from .idle_timeout import IdleTimeout
from .request_errors import reason_of
from .taps import Exchange

__all__ = ["NonBlockingBody", "ResponseBody", "nonblocking_body_of", "read_head"]

if not hasattr(HTTPResponse, "read1"):  # requests itself still accepts urllib3 1.26
    raise ImportError("rxmistral needs urllib3 2.2 or newer: pip install -U urllib3")

_BLOCK_BYTES = 64 * 1024  # the most that is read at once
_MAX_READS_PER_PROBE = 16  # of TLS, of which the last tries to read several records
_NOTHING_MORE = (BlockingIOError, SSLWantReadError, SSLWantWriteError)
_MAX_SHOWN_BYTES = 1024 * 1024  # of a body that is shown in an error


# --- the body --------------------------------------------------------------------


class ResponseBody:
    """The decompressed body of a response, whose reads raise our errors."""

    def __init__(
        self, response: Response, idle_timeout: IdleTimeout, exchange: Exchange | None = None
    ) -> None:
        # The `raw` of an adapter that is not urllib3's may be any file, or None; and a hook of
        # the session may have read the body already, which only a private name tells.
        is_read = isinstance(response._content, bytes)
        raw: Any = BytesIO(response.content) if is_read else response.raw or BytesIO()
        self._read: Callable[[int], bytes] = getattr(raw, "read1", None) or raw.read
        if "Content-Encoding" in response.headers and isinstance(raw, BaseHTTPResponse):
            # Others, such as vcrpy's, lack this argument, and have decompressed the body.
            self._read = partial(raw.read1, decode_content=True)
        self._idle_timeout = idle_timeout
        self._exchange = exchange

    def read(self) -> bytes:
        """Returns the next bytes as soon as there are any; b"" at the end of the body."""
        self._idle_timeout.start_wait()
        try:
            block = self._read(_BLOCK_BYTES)
            if self._exchange is not None and block:
                self._exchange.on_block(block)
            return block
        except ReadTimeoutError as error:
            raise StreamTimeoutError(*self._idle_timeout.expired()) from error
        except DecodeError as error:
            raise ProtocolError(
                f"the body cannot be decompressed: {error}; it does not match its Content-Encoding"
            ) from error
        except (HTTPError, HTTPException, OSError, ValueError, AttributeError) as error:
            # http.client and ssl raise ValueError and AttributeError on a socket that is shut
            # down during the read.
            raise DroppedStreamError(reason_of(error)) from error
        finally:
            self._idle_timeout.end_wait()

    def read_shown(self, head: bytes = b"") -> bytes:
        """Returns `head` and the bytes that follow it, up to the size that an error shows."""
        shown = bytearray(head)
        with suppress(MistralError):  # a refusal whose body breaks is still a refusal
            while len(shown) < _MAX_SHOWN_BYTES and (block := self.read()):
                shown += block
        return bytes(shown[:_MAX_SHOWN_BYTES])


class NonBlockingBody:
    """The unread part of a body, read from its socket without waiting.

    Strategy: TLS returns one record per read, and servers send one token per record. A reader that
    is late would thus stay late, while without TLS a late read returns many tokens at once. So it
    tries to read on. A try that finds nothing costs as much as half of a token, so after each of
    these, twice as many reads pass before the next try. A try may also receive the end of the
    connection, or an error. The socket shows these only once, so they are kept for the next read,
    and `has_more` is set, since the reader must not wait for the socket then.
    """

    __slots__ = (
        "_decoder",
        "_error",
        "_pending",
        "_reads_before_probe",
        "_reads_per_probe",
        "_response",
        "_timeout",
        "ended",
        "has_more",
        "socket",
    )

    def __init__(self, response: LeasedResponse) -> None:
        # Its buffer is smaller than a read of the body, so it is empty and can go.
        response.fp = response.fp.detach()  # type: ignore[assignment]  # only to be closed
        self._response = response
        self._decoder = response.body_decoder()
        self.ended = self._decoder.ended
        self.socket: Any = response.socket
        self._pending: Callable[[], int] | None = getattr(self.socket, "pending", None)
        self._reads_before_probe = self._reads_per_probe = 1
        self.has_more = False
        self._error: Exception | None = None  # for the next read, if it has more; None: the end
        self._timeout = self.socket.gettimeout()
        self.socket.setblocking(False)
        if self._pending is not None:
            # To read a session ticket, OpenSSL (3.0) allocates a write buffer of 16 kB, which it
            # frees after the next write. An answer has none, so this one writes nothing.
            with suppress(OSError, ValueError):  # the next read raises it
                self.socket.send(b"")

    def read(self) -> bytes | None:
        """Returns the content that has arrived, maybe b""; None if nothing has."""
        try:
            received = self._end() if self.has_more else self.socket.recv(_BLOCK_BYTES)
            if self._pending is not None and received:
                # Bytes that TLS has decrypted already do not make the descriptor readable.
                while pending := self._pending():
                    received += self.socket.recv(pending)
                self._reads_before_probe -= 1
                if self._reads_before_probe <= 0:
                    received += self._read_records()
            decoder, block = self._decoder, b""
            if received:
                block = decoder.feed(received)
            else:
                decoder.close()
            self.ended = decoder.ended
            return block
        except _NOTHING_MORE:
            return None
        except (HTTPException, OSError, ValueError) as error:
            raise DroppedStreamError(reason_of(error)) from error

    def _read_records(self) -> bytes:
        """Returns the content of the TLS records that have arrived since; b"": there is none."""
        received = b""
        try:
            while len(received) < _BLOCK_BYTES and not self.has_more:
                record = self.socket.recv(_BLOCK_BYTES)
                received += record
                self.has_more = not record
        except _NOTHING_MORE:
            pass
        except (OSError, ValueError) as error:
            self._error, self.has_more = error, True
        longer = min(2 * self._reads_per_probe, _MAX_READS_PER_PROBE)
        self._reads_before_probe = self._reads_per_probe = 1 if received else longer
        return received

    def _end(self) -> bytes:
        """Returns b"" for the end of the connection, or raises the error."""
        self.has_more = False
        error, self._error = self._error, None
        if error is not None:
            raise error
        return b""

    def release(self, raw: Any) -> None:
        """Restores the socket; after a whole body, `raw` returns the connection to its pool."""
        with suppress(OSError):  # it was shut down
            self.socket.settimeout(self._timeout)
        if self.ended:
            self._response.end(is_reusable=not (self._decoder.unused_data or self.has_more))
            raw.release_conn()


class ObservedBody(NonBlockingBody):
    """The unread part of a body whose blocks an exchange observes."""

    __slots__ = ("_exchange",)

    def __init__(self, response: LeasedResponse, exchange: Exchange) -> None:
        super().__init__(response)
        self._exchange = exchange

    def read(self) -> bytes | None:
        block = super().read()
        if block:
            self._exchange.on_block(block)
        return block


def nonblocking_body_of(
    response: Response, exchange: Exchange | None = None
) -> NonBlockingBody | None:
    """Returns the unread part of a body, to be read without waiting.

    None if it has ended, is compressed, or its socket is out of reach: that of a custom adapter,
    or TLS within TLS.
    """
    if type(response.raw) is not HTTPResponse:
        return None
    if any(each in HTTPResponse.CONTENT_DECODERS for each in _encodings(response)):
        return None
    # Private, but requests itself reads the cookies from it.
    leased = getattr(response.raw, "_original_response", None)
    if not isinstance(leased, LeasedResponse) or leased.fp is None:
        return None
    if type(leased.socket) not in (socket, SSLSocket) or leased.body_decoder().ended:
        return None
    try:
        return NonBlockingBody(leased) if exchange is None else ObservedBody(leased, exchange)
    except (OSError, ValueError) as error:  # the program has closed its socket
        raise DroppedStreamError(reason_of(error)) from error


# --- the verdict -----------------------------------------------------------------


def read_head(response: Response, body: ResponseBody) -> bytes:
    """Returns the first bytes of a body that is an event stream.

    Several servers label their streams text/plain or not at all. Proxies answer 200 with a page
    of their own, or with a line of text that has the label of the stream that it replaces.
    So the first bytes decide. A labelled body may begin with lines that WHATWG HTML 9.2.6
    ignores, so it is read up to the first line with a meaning.
    """
    if not 200 <= response.status_code < 300:
        text = _decode(body.read_shown(), response)
        url = without_secrets(response.url or "")
        raise refusal(response.status_code, response.headers, text, url)
    _check_encodings(response)
    media_type = response.headers.get("Content-Type", "").partition(";")[0]
    is_labelled = media_type.strip().lower() == "text/event-stream"
    is_stream = _is_labelled_stream if is_labelled else _is_unlabelled_stream
    head = b""
    while block := body.read():
        head += block
        begin = head.removeprefix(_BOM).lstrip()
        verdict = None if _BOM.startswith(head) else is_stream(begin)
        if verdict:
            return head
        if verdict is False or len(head) > _MAX_SHOWN_BYTES:
            break
    if not head.strip() or (is_labelled and _is_error_line(head.strip())):
        return head
    raise _not_an_event_stream(response, body, head)


def _not_an_event_stream(response: Response, body: ResponseBody, head: bytes) -> ProtocolError:
    label = response.headers.get("Content-Type", "no content type")
    if "Content-Encoding" in response.headers:
        label += f", Content-Encoding {response.headers['Content-Encoding']}"
    text = _decode(body.read_shown(head), response)
    return ProtocolError(f"the answer is not an event stream ({label})", text)


_FIELD = rb"(?:(?:data|event|id|retry)?:|(?:data|event|id|retry)[\r\n])"
_FIELD_AT_BEGIN = re.compile(_FIELD)
_LINE_WITH_FIELD = re.compile(rb"(?:^|[\r\n])" + _FIELD)
_FIELD_NAMES = (b"data:", b"event:", b"id:", b"retry:", b":")
_BOM = b"\xef\xbb\xbf"


def _is_unlabelled_stream(begin: bytes) -> bool | None:
    """Returns None if the beginning is too short for a verdict."""
    if _FIELD_AT_BEGIN.match(begin):
        return True
    return None if any(name.startswith(begin) for name in _FIELD_NAMES) else False


def _is_labelled_stream(begin: bytes) -> bool | None:
    """Returns None if the beginning is too short for a verdict."""
    if begin[:1] == b"<":
        return False
    line, end, _ = begin.partition(b"\n")
    return bool(_LINE_WITH_FIELD.search(begin) or (end and _is_error_line(line))) or None


def _is_error_line(line: bytes) -> bool:
    """Returns whether a server wrote this as a bare line of JSON to report an error."""
    return (
        line[:1] == b"{"
        and b"\n" not in line
        and reported_error(line.decode("utf-8", "replace")) is not None
    )


# --- its headers -----------------------------------------------------------------

_COMPRESSIONS = ("br", "compress", "dcb", "dcz", "x-compress", "zstd")  # IANA's, except gzip


def _check_encodings(response: Response) -> None:
    """Raises for a compression that urllib3 cannot decompress, and would pass on unchanged."""
    for encoding in _encodings(response):
        # Several servers label a plain stream "none" or "utf-8".
        if encoding in _COMPRESSIONS and encoding not in HTTPResponse.CONTENT_DECODERS:
            raise ProtocolError(
                f"the body cannot be decompressed here: it is compressed with {encoding!r}; "
                f"ask for identity or gzip, or install urllib3[{encoding}]"
            )


def _encodings(response: Response) -> list[str]:
    encodings = response.headers.get("Content-Encoding", "").lower().split(",")
    return [encoding.strip() for encoding in encodings]


def _decode(body: bytes, response: Response) -> str:
    """Returns a body as text: UTF-8, if it is valid; requests would assume Latin-1."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        with suppress(LookupError):  # an unknown charset
            return body.decode(response.encoding or "utf-8", "replace")
        return body.decode("utf-8", "replace")
