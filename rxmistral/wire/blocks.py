"""Request to blocks: the only I/O, and the only module that knows requests.

One subscription is one request on one thread of its own, the reader:

    send ──▶ follow redirects ──▶ judge the answer ──▶ read block after block ──▶ end
                                     │ status not 200: StatusError
                                     │ no event stream: ProtocolError

What makes it more than a loop is that it can be stopped at any moment from any thread
while it is blocked in a system call. Closing a socket does not wake who reads from it,
and closing a response waits for who reads from it; shutting the socket down does wake
him, at once, and tells the server. So the one who disposes shuts down and the reader,
awake again, closes.

For that the socket must be known before there is a response, while the server is still
silent: the connection pool is made to use a connection class that tells the reader on
whose thread it works. A socket outlives the response it carried, so the connection also
knows which reader it serves now, and nobody shuts down a socket that serves another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http.client import HTTPException
from socket import SHUT_RDWR, socket
from threading import Lock, Thread, get_ident, local
from typing import Any, NamedTuple

from reactivex import abc
from requests import PreparedRequest, Request, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectTimeout, ReadTimeout, RequestException, TooManyRedirects
from urllib3 import HTTPResponse
from urllib3.exceptions import DecodeError, HTTPError, ReadTimeoutError

from ..errors import (
    DroppedStreamError,
    MistralError,
    ProtocolError,
    RequestError,
    RequestTimeoutError,
    StatusError,
    StreamTimeoutError,
)
from ..stream import Stream, being_iterated

__all__ = ["Request", "Response", "Session", "blocks", "open_session", "post"]

if not hasattr(HTTPResponse, "read1"):  # requests itself still accepts urllib3 1.26
    raise ImportError("rxmistral reads with urllib3 2.1 or newer: pip install -U urllib3")

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds

_BLOCK_BYTES = 64 * 1024
_BODY_BYTES = 1024 * 1024  # of a refusal, or of what is no event stream
_POOL_SIZE = 128  # idle connections kept for each host


def blocks(
    request: Request | PreparedRequest | Callable[[], Request],
    *,
    session: Session | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    read_timeout: float = READ_TIMEOUT,
    on_response: Callable[[Response], None] | None = None,
) -> Stream[bytes]:
    """A request into the blocks of bytes that its answer's body comes in.

    Cold: each subscription sends the request and reads the answer on a thread of its
    own. Disposing is safe from any thread and never blocks: it shuts the socket down,
    before the headers and after. When the body was read to its end the connection goes
    back to the session, before completion or error is emitted.

    Args:
        request: What to send; a function is asked for each subscription.
        session: The session to send it with; it is used as it is (proxies,
            certificates, adapters) and never closed. None opens one for each
            subscription and closes it at the end.
        connect_timeout: Seconds for the connection, TLS included.
        read_timeout: Seconds that the server may stay silent.
        on_response: Called on the reader's thread when the headers are there.

    Emits: blocks as the socket gave them, decompressed; never an empty one.
    Errors: `RequestError` and `RequestTimeoutError` before the headers, `StatusError`
        for a status other than 2xx, `ProtocolError` for a body that is no event stream,
        then `StreamTimeoutError` and `DroppedStreamError`.
    """
    timeouts = _Timeouts(connect_timeout, read_timeout)

    def subscribe(
        observer: abc.ObserverBase[bytes], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        # The scheduler that run() and await hand in is not for a source that blocks: it
        # may be an event loop's.
        reader = _Reader(observer, request, session, timeouts, on_response)
        Thread(
            target=reader.read, name="rxmistral-reader", daemon=being_iterated.get() or None
        ).start()
        return reader

    return Stream(subscribe)


def post(url: str, headers: dict[str, str], body: bytes, authorization: str | None) -> Request:
    """A POST of JSON.

    The authorization is given as such, and not as a header: for a request without one
    requests would look into ~/.netrc, and send what it finds there instead.
    """

    def authorize(prepared: PreparedRequest) -> PreparedRequest:
        if authorization is not None:
            prepared.headers.setdefault("Authorization", authorization)
        return prepared

    return Request("POST", url, headers=headers, data=body, auth=authorize)


def open_session() -> Session:
    """A session whose pool keeps the connections of many streams at once."""
    session = Session()
    adapter = HTTPAdapter(pool_maxsize=_POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Timeouts(NamedTuple):
    connect: float
    read: float


class _Cancelled(Exception):  # noqa: N818  # nothing went wrong
    """Raised through requests on the reader's thread; nothing there catches it."""


class _Reader(abc.DisposableBase):
    """Sends one request and reads its answer; also the Disposable of doing so."""

    def __init__(
        self,
        observer: abc.ObserverBase[bytes],
        request: Request | PreparedRequest | Callable[[], Request],
        session: Session | None,
        timeouts: _Timeouts,
        on_response: Callable[[Response], None] | None,
    ) -> None:
        self._observer = observer
        self._request = request
        self._session = session
        self._timeouts = timeouts
        self._on_response = on_response
        self._cancelled = False
        self._thread: int | None = None
        self._connection: Any = None
        self._socket: Any = None

    # --- the thread ---

    def read(self) -> None:
        """The reader's thread: exactly one terminal, after the connection is released."""
        self._thread = get_ident()
        _here.reader = self
        try:
            error = self._read_and_release()
        except _Cancelled:
            return
        if not self._cancelled:
            if error is None:
                self._observer.on_completed()
            else:
                self._observer.on_error(error)

    def _read_and_release(self) -> Exception | None:
        session = self._session or open_session()
        response: Response | None = None
        try:
            response = self._send(session)
            if self._on_response is not None:
                self._on_response(response)
            self._emit_body(response)
        except _Cancelled:
            raise
        except Exception as error:
            if self._cancelled and isinstance(error, _Raised):
                raise error.error from None  # no on_error after dispose: the thread's excepthook
            return error.error if isinstance(error, _Raised) else error
        finally:
            if response is not None:
                response.close()
            self._let_go()
            if session is not self._session:
                session.close()
        return None

    def _send(self, session: Session) -> Response:
        request = self._request() if callable(self._request) else self._request
        try:
            prepared = (
                request
                if isinstance(request, PreparedRequest)
                else session.prepare_request(request)
            )
            return self._follow(session, prepared)
        except ConnectTimeout as error:
            raise RequestTimeoutError("connect", self._timeouts.connect) from error
        except ReadTimeout as error:
            raise RequestTimeoutError("headers", self._timeouts.read) from error
        except (RequestException, HTTPError, OSError) as error:
            self._check()
            raise RequestError(_root_of(error)) from error

    def _follow(self, session: Session, prepared: PreparedRequest) -> Response:
        """Send, and send again where redirected; each time over a watched connection."""
        for _ in range(session.max_redirects + 1):
            settings: dict[str, Any] = {
                **session.merge_environment_settings(prepared.url or "", {}, True, None, None)
            }
            _watch(session, prepared, settings)
            self._check()
            response = session.send(
                prepared, timeout=self._timeouts, allow_redirects=False, **settings
            )
            if response.next is None:
                return response
            response.close()
            prepared = response.next
        raise TooManyRedirects(f"more than {session.max_redirects} redirects")

    def _emit_body(self, response: Response) -> None:
        read = _Body(response, self._timeouts).read
        if not 200 <= response.status_code < 300:
            raise _refusal(response, read)
        if _media_type(response) != "text/event-stream":
            self._emit(_event_stream_head(response, read))
        while True:
            self._check()
            block = read()
            if not block:
                break
            self._emit(block)
        self._check()  # a socket that was shut down looks like the end of the body

    def _emit(self, block: bytes) -> None:
        self._check()
        try:
            if block:
                self._observer.on_next(block)
        except Exception as error:
            raise _Raised(error) from error

    def _check(self) -> None:
        if self._cancelled:
            raise _Cancelled

    # --- cancelling ---

    def dispose(self) -> None:
        with _ownership:
            self._cancelled = True
            connection = self._connection
            if connection is None or connection.reader is not self or get_ident() == self._thread:
                return  # nothing to wake; on its own thread the reader looks at the flag
            connection.spoiled = True
            _shut_down(self._socket)

    def take(self, connection: Any) -> None:
        """The connection, on the reader's thread: from now on it serves this reader."""
        with _ownership:
            if connection.spoiled:
                # Its former reader was cancelled in the moment it came back to the pool.
                connection.close()
                connection.spoiled = False
            connection.reader = self
            self._connection = connection
            self._socket = connection.sock
        self._check()

    def _let_go(self) -> None:
        with _ownership:
            connection, self._connection = self._connection, None
            self._socket = None
            if connection is not None and connection.reader is self:
                connection.reader = None


class _Raised(Exception):  # noqa: N818  # it carries the error
    """What a subscriber's callback raised, told apart from what reading raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


# --- the connection that can be cancelled ----------------------------------------

_here = local()  # .reader: the one that works on this thread
_ownership = Lock()  # held for a few assignments and a shutdown(), which do not block


def _watch(session: Session, prepared: PreparedRequest, settings: dict[str, Any]) -> None:
    """Make the pool that will serve this request use watched connections."""
    adapter = session.get_adapter(prepared.url or "")
    if not isinstance(adapter, HTTPAdapter):
        return  # not urllib3's; it can be cancelled between its blocks only
    pool: Any = adapter.get_connection_with_tls_context(
        prepared, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
    )
    connection_class: Any = pool.ConnectionCls
    if not issubclass(connection_class, _Watched):
        pool.ConnectionCls = _watched(connection_class)


class _Watched:
    """Mixed into urllib3's connections: they tell the reader which socket is his."""

    reader: _Reader | None = None
    spoiled = False

    def connect(self) -> None:
        self.spoiled = False
        super().connect()  # type: ignore[misc]  # of the class this is mixed into
        self._tell()

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._tell()  # a connection from the pool is connected already
        super().request(*args, **kwargs)  # type: ignore[misc]

    def _tell(self) -> None:
        reader: _Reader | None = getattr(_here, "reader", None)
        if reader is not None:
            reader.take(self)


@cache
def _watched(connection_class: Any) -> type:
    return type(connection_class.__name__, (_Watched, connection_class), {})


def _shut_down(sock: Any) -> None:
    # SSLSocket.shutdown() would also take the TLS state from under its reader, and TLS
    # inside TLS (an https proxy) is no socket but has one: shut down what is below.
    with suppress(OSError, TypeError):  # closed already, or not connected yet
        socket.shutdown(getattr(sock, "socket", sock), SHUT_RDWR)


# --- the answer ------------------------------------------------------------------


class _Body:
    """Reads the body, block after block, and says what went wrong in our words."""

    def __init__(self, response: Response, timeouts: _Timeouts) -> None:
        self._raw: Any = response.raw
        self._timeouts = timeouts

    def read(self) -> bytes:
        """What is there, as soon as anything is; b"" at the end of the body."""
        try:
            block: bytes = self._raw.read1(_BLOCK_BYTES)
        except ReadTimeoutError as error:
            raise StreamTimeoutError("gap", self._timeouts.read) from error
        except DecodeError as error:
            raise ProtocolError(f"the body cannot be decompressed: {error}") from error
        except (HTTPError, HTTPException, OSError, ValueError, AttributeError) as error:
            # ValueError and AttributeError: http.client and ssl, on a socket shut down
            # under them by the one who cancels.
            raise DroppedStreamError(_root_of(error)) from error
        return block


def _refusal(response: Response, read: Callable[[], bytes]) -> StatusError:
    body = _read_up_to(_BODY_BYTES, read)
    return StatusError(
        response.status_code, response.headers, _without_key(_decoded(body, response), response)
    )


def _read_up_to(limit: int, read: Callable[[], bytes], body: bytes = b"") -> bytes:
    """The whole body where it is not longer; what came of it where it broke."""
    pieces = [body]
    size = len(body)
    try:
        while size < limit and (piece := read()):
            pieces.append(piece)
            size += len(piece)
    except MistralError:
        pass  # a refusal that breaks off is still that refusal
    return b"".join(pieces)[:limit]


_EVENT_STREAM_HEAD = re.compile(rb"(?:data|event|id|retry)?:|(?:data|event|id|retry)[\r\n]")
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def _event_stream_head(response: Response, read: Callable[[], bytes]) -> bytes:
    """The first bytes of a body that is not labelled as an event stream but is one.

    Several servers label theirs text/plain or not at all, and proxies answer 200 with
    a page of their own: the first bytes tell which it is.
    """
    head = b""
    while block := read():
        head += block
        begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if _EVENT_STREAM_HEAD.match(begin):
            return head
        if begin and not any(field.startswith(begin) for field in _FIELDS):
            break
    if not head:
        return head
    body = _without_key(_decoded(_read_up_to(_BODY_BYTES, read, head), response), response)
    label = response.headers.get("Content-Type", "no content type")
    raise ProtocolError(f"the answer is not an event stream ({label})", body)


def _media_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _decoded(body: bytes, response: Response) -> str:
    try:
        return body.decode(response.encoding or "utf-8", "replace")
    except LookupError:  # a charset that nobody knows
        return body.decode("utf-8", "replace")


def _without_key(body: str, response: Response) -> str:
    """Services quote a key they refuse; ours must not reach a log."""
    secret = str(response.request.headers.get("Authorization", "")).rpartition(" ")[2]
    return body.replace(secret, "[key]") if secret else body


def _root_of(error: BaseException) -> str:
    """What really happened, below what requests and urllib3 wrapped around it."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None) or next(
            (arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None
        )
        if isinstance(inner, BaseException):
            error = inner
    return str(error) or type(error).__name__
