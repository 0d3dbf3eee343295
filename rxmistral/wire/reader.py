"""Request to blocks: the only I/O; requests is known here and in `session`.

One subscription is one request, sent on a thread of its own, the reader:

    send ──▶ follow redirects ──▶ judge the answer ──▶ read block after block ──▶ end
                                     │ status not 200: StatusError
                                     │ no event stream: ProtocolError

It can be stopped at any moment from any thread while it is blocked in a system call;
how is told in `connection`.

The thread ends with the first block, and the rest is read by one thread for all answers,
which is told in `pump`; or it reads to the end. The work is the same: a generator, which
yields where it would have to wait. On a thread of its own it waits, and never yields.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from http.client import BadStatusLine, HTTPException, IncompleteRead
from io import BytesIO
from socket import gaierror
from ssl import SSLCertVerificationError
from threading import Thread, get_ident
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from reactivex import abc
from requests import PreparedRequest, Request, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectTimeout, RequestException, TooManyRedirects
from urllib3 import BaseHTTPResponse, HTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    EmptyPoolError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.util import wait_for_read

from ..error_report import excerpt, without_credentials, without_secrets
from ..errors import (
    DroppedStreamError,
    MistralError,
    ProtocolError,
    RequestError,
    RequestTimeoutError,
    StatusError,
    StreamTimeoutError,
    redacted,
    refusal,
    reported_error,
)
from ..rx.backpressure import emitting
from ..rx.cancellation import Cancelled
from ..rx.iteration import being_iterated, leaving
from ..rx.stream import Stream
from ..rx.subscriber import report_unhandled
from ..rx.threads import add_to_scope, record_thread_exit, register_for_fork, start_thread
from ..rx.worker import Worker
from .connection import ConnectionLease, Rest, remember, rest_of, was_cut
from .event_loop import EventLoop
from .idle_timeout import IdleTimeout
from .returning import PendingReturns
from .session import borrowed, has_idle_connection, proxy_for, redirected, settings_for

__all__ = [
    "READERS",
    "Reader",
    "Request",
    "Response",
    "Session",
    "blocks",
    "open_session",
    "post",
]

if not hasattr(HTTPResponse, "read1"):  # requests itself still accepts urllib3 1.26
    raise ImportError("rxmistral needs urllib3 2.2 or newer: pip install -U urllib3")

CONNECT_TIMEOUT = 10.0  # seconds
READ_TIMEOUT = 60.0  # seconds

Reader: TypeAlias = Literal["thread", "shared"]
READERS: tuple[Reader, ...] = get_args(Reader)
# Windows waits for 512 sockets at once and no more.
DEFAULT_READER: Reader = "thread" if sys.platform == "win32" else "shared"

_MOMENT = 0.25  # seconds; as long as a connection takes to return that is about to
_LONG = 60.0  # seconds between two looks at the clock, at most
_SOON = 0.001  # seconds; what has no time left finds that out for itself
_BLOCK_BYTES = 64 * 1024
_BODY_BYTES = 1024 * 1024  # of a refusal, or of what is no event stream
_POOL_SIZE = 128  # idle connections kept for each host

# A thread that a loop reads from is a daemon, see `being_iterated`; so there are two.
_OF_LOOPS, _OF_SUBSCRIPTIONS = EventLoop(daemon=True), EventLoop(daemon=False)
_RETURNING = PendingReturns()


def blocks(
    request: Request | PreparedRequest | Callable[[], Request],
    *,
    session: Session | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    read_timeout: float = READ_TIMEOUT,
    idle_timeout: IdleTimeout | None = None,
    on_response: Callable[[Response], None] | None = None,
    on_release: Callable[[Exception | None], None] | None = None,
    reader: Reader | None = None,
) -> Stream[bytes]:
    """A request into the blocks of bytes that its answer's body comes in.

    Cold: each subscription sends the request on a thread of its own. Disposing is safe
    from any thread and never blocks: it shuts the socket down, before the headers and after.
    When the body was read to its end the connection goes back to the session, before
    completion or error is emitted. A reader that is left on its own thread, or by a loop,
    when nothing of interest is to come (see `IdleTimeout.wind_up`) reads on, and emits nothing.

    Args:
        request: What to send; a function is asked for each subscription.
        session: The session to send it with; it is used as it is (proxies,
            certificates, adapters) and never closed. None opens one for each
            subscription and closes it at the end.
        connect_timeout: Seconds for the connection, TLS included.
        read_timeout: Seconds that the server may stay silent.
        idle_timeout: Says how long to wait, in place of these two; for one subscription.
        on_response: Called on the reader's thread when the headers are there.
        on_release: Called on the reader's thread when the connection is given back or
            closed, whatever the end was, and before that is emitted; with what a
            subscriber's callback raised, or None. What the program itself did counts as that:
            it has closed the response. If no thread can be started it is called on the
            subscriber's, with the error that says so.
        reader: "thread" reads the body on the thread that sent the request, "shared" on
            one with all others that are "shared", where that can be: a compressed body,
            or one of a custom adapter, is read on its own thread. None: "shared", but on
            Windows "thread".

    Emits: blocks as the socket gave them, decompressed; never an empty one.
    Errors: `RequestError` and `RequestTimeoutError` before the headers, or if no thread can
        be started; `StatusError`
        for a status other than 2xx, `ProtocolError` for a body that is no event stream,
        then `StreamTimeoutError` and `DroppedStreamError`, also if the program closes the
        response.
    """

    def subscribe(
        observer: abc.ObserverBase[bytes], _: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        # The scheduler that run() and await hand in is not for a source that blocks: it
        # may be an event loop's.
        waits = idle_timeout or IdleTimeout(connect_timeout, read_timeout)
        iterated = being_iterated.get() is not None
        pump = _OF_LOOPS if iterated else _OF_SUBSCRIPTIONS
        reading = _Reader(
            observer,
            request,
            session,
            waits,
            on_response,
            on_release,
            pump if (reader or DEFAULT_READER) == "shared" else None,
        )
        thread = Thread(
            target=reading.run, name="rxmistral-reader", daemon=True if iterated else None
        )
        add_to_scope(reading)
        try:
            start_thread(thread)
        except RequestError as error:
            reading.refuse(error)
        except BaseException:  # Ctrl-C, while it waits for the thread to begin
            reading.dispose()
            raise
        return reading

    return Stream(subscribe)


def post(url: str, headers: dict[str, str], body: bytes, authorization: str | None) -> Request:
    """Returns a POST of JSON.

    The authorization is passed as such, and not as a header: for a request without one,
    requests would look into ~/.netrc and send what it finds there. If it is None, the
    session's own `auth` counts.
    """

    auth = _unauthorized if authorization is None else partial(_authorized, authorization)
    return Request("POST", url, headers=headers, data=body, auth=auth)


def _authorized(authorization: str, prepared: PreparedRequest) -> PreparedRequest:
    prepared.headers["Authorization"] = authorization
    return prepared


def _unauthorized(prepared: PreparedRequest) -> PreparedRequest:
    return prepared


def open_session() -> Session:
    """A session whose pool keeps the connections of many streams at once."""
    session = Session()
    adapter = _Adapter(pool_maxsize=_POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Adapter(HTTPAdapter):
    """Closes idle connections when it is closed; requests leaves that to the garbage
    collection of the pools, and a response or an error that somebody keeps keeps one."""

    def close(self) -> None:
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118  # it cannot be iterated
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


class _Reader(abc.DisposableBase):
    """Sends one request and reads its answer; also the Disposable of doing so."""

    def __init__(
        self,
        observer: abc.ObserverBase[bytes],
        request: Request | PreparedRequest | Callable[[], Request],
        session: Session | None,
        idle_timeout: IdleTimeout,
        on_response: Callable[[Response], None] | None,
        on_release: Callable[[Exception | None], None] | None,
        pump: EventLoop | None,
    ) -> None:
        self._observer = observer
        self._request = request
        self._session = session
        self._idle_timeout = idle_timeout
        self._on_response = on_response
        self._on_release = on_release
        self._lease = ConnectionLease(idle_timeout)
        self._secret = ""
        self._thread: int | None = None  # that works on it now
        self._context = copy_context()  # of the subscriber, for all that this runs
        self._work = self._read()
        self._pump = pump
        self._rest: Rest | None = None
        self.paused = False
        self.worker: Worker[Any] | None = None  # of the event loop
        register_for_fork(self)

    def forked(self) -> None:
        self._lease.forked()
        self._on_release = None

    # --- on whose thread ---

    def refuse(self, error: Exception) -> None:
        """End it before it began."""
        if self._on_release is not None:
            self._on_release(error)
        self._observer.on_error(error)

    def run(self) -> None:
        """The reader's thread: to the end, or until what is left is for the pump."""
        try:
            self._run()
        except BaseException as error:  # of a callback that is called with the terminal
            report_unhandled(error)
        record_thread_exit()

    def _run(self) -> None:
        if self.step():
            assert self._pump is not None
            try:
                self._pump.schedule(self)
            except (RequestError, OSError):  # it has no thread, or no descriptor, to wait with
                self._stay()

    def _stay(self) -> None:
        """Read to the end on this thread; it waits without a descriptor of its own."""
        while self.step():
            assert self._rest is not None
            with suppress(OSError, ValueError):  # the socket is closed: the next step says so
                wait_for_read(self._rest.socket, min(max(self.remaining(), 0.0), _LONG))

    def fail(self, error: BaseException) -> None:
        """End it, between two steps, because no thread can step it."""
        self._thread = get_ident()
        with suppress(StopIteration, DroppedStreamError):  # the latter if it has ended already
            self._context.run(self._work.throw, DroppedStreamError(_reason(error)))

    def step(self) -> bool:
        """As far as it goes without waiting; whether there is more to come."""
        self._thread = get_ident()
        more = self._context.run(next, self._work, _ENDED) is not _ENDED
        self._thread = None
        return more

    def fileno(self) -> int:
        assert self._rest is not None
        descriptor: int = self._rest.socket.fileno()
        return descriptor

    def remaining(self) -> float:
        return self._idle_timeout.remaining()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            assert self._pump is not None
            self._pump.schedule(self)

    def dispose(self) -> None:
        # On its own thread the reader is awake, and looks.
        awake = get_ident() == self._thread
        # What is read on goes nowhere: its observer is disposed.
        if not self._idle_timeout.winding_up or not (awake or leaving.by_itself):
            self._lease.cancel() if awake else self._lease.cancel_and_wake()
        self.resume()

    # --- the work ---

    def _read(self) -> Generator[None, None, None]:
        """All of it: exactly one terminal, after the connection is released."""
        try:
            error = yield from self._read_and_release()
        except (Cancelled, GeneratorExit):
            return
        except BaseException as death:  # sys.exit() in a callback; nobody must wait for ever
            if not self._lease.cancelled:
                self._observer.on_error(RuntimeError(f"a callback ended the reader: {death!r}"))
            raise
        emitting.source = None  # there is nothing that could be paused
        if not self._lease.cancelled:
            if error is None:
                self._observer.on_completed()
            else:
                self._observer.on_error(error)

    def _read_and_release(self) -> Generator[None, None, Exception | None]:
        session = self._session or open_session()
        self._idle_timeout.on_wind_up = partial(_RETURNING.expect, session)
        response: Response | None = None
        raised: Exception | None = None
        try:
            response = self._send(session)
            self._lease.reading = True
            if self._on_response is not None:
                self._on_response(response)
            yield from self._emit_body(response)
            if was_cut(response.raw):  # which may look like the end of the body
                raise _closed()
        except _Raised as error:
            raised = error.error
            if self._lease.cancelled:  # no on_error after dispose: the thread's excepthook
                raise raised from None
            return raised
        except Exception as error:
            if isinstance(error, DroppedStreamError) and was_cut(getattr(response, "raw", None)):
                raised = _closed()  # as what a callback raises: nobody wants another request
                return raised
            return redacted(error, self._secret)
        finally:
            self._lease.release()  # first: nobody must shut down what is being closed
            if response is not None:
                self._give_back(response)
                response.close()
            if session is not self._session:
                session.close()
            self._idle_timeout.on_wind_up = None  # an answer that is kept must not keep the session
            if self._idle_timeout.winding_up:
                _RETURNING.returned(session)
            if self._on_release is not None:
                self._on_release(raised)
        return None

    def _give_back(self, response: Response) -> None:
        if self._pump is not None and self._rest is not None:
            self._pump.unwatch(self)
            self._rest.give_back(response.raw)

    def _send(self, session: Session) -> Response:
        request = self._request() if callable(self._request) else self._request
        asked = _Asked()
        try:
            prepared = _prepared(session, request)
            self._secret = str(prepared.headers.get("Authorization", "")).rpartition(" ")[2]
            self._idle_timeout.start_wait()
            return self._follow(session, prepared, asked)
        except (RequestException, HTTPError, OSError, ValueError) as error:
            self._lease.check()
            if _is_late(error):
                connecting = isinstance(error, ConnectTimeout) or self._lease.connecting
                raise self._late(connecting, asked) from error
            raise _no_answer(error, asked) from None if _shows_secrets(error) else error
        finally:
            self._idle_timeout.end_wait()

    def _late(self, connecting: bool, asked: _Asked) -> RequestTimeoutError:
        idle_timeout = self._idle_timeout
        if connecting and idle_timeout.remaining() > 0:
            return RequestTimeoutError("connect", idle_timeout.connect, asked.host, asked.proxy)
        return RequestTimeoutError(*idle_timeout.expired(), asked.host, asked.proxy)

    def _follow(self, session: Session, prepared: PreparedRequest, asked: _Asked) -> Response:
        """Send, and send again if redirected; each time over a watched connection."""
        lender = borrowed(session)
        for _ in range(session.max_redirects + 1):
            url = prepared.url or ""
            asked.host = urlsplit(url).netloc.rpartition("@")[2] or None
            settings = settings_for(session, url)
            asked.proxy = proxy_for(url, settings)
            remember(session)
            if not has_idle_connection(session, prepared, settings):
                _RETURNING.wait(session, _MOMENT)
            self._lease.check()
            with self._lease.on_this_thread():
                left = max(self._idle_timeout.remaining(), _SOON)
                response = lender.send(
                    prepared,
                    timeout=(min(self._idle_timeout.connect, left), left),
                    allow_redirects=False,
                    **settings,
                )
            following = response.next and redirected(
                session, prepared, response.next, response.status_code
            )
            if following is None:
                return response
            response.close()
            prepared = following
        raise TooManyRedirects(f"more than {session.max_redirects} redirects")

    def _emit_body(self, response: Response) -> Generator[None, None, None]:
        read = _Body(response, self._idle_timeout).read
        if not 200 <= response.status_code < 300:
            raise _refusal(response, read)
        _check_encoding(response)
        self._emit(_event_stream_head(response, read))
        if self._pump is not None and _is_plain(response):
            self._rest = rest_of(response.raw)
        if self._rest is not None:
            yield from self._emit_rest(self._rest)
        else:
            self._emit_all(read)

    def _emit_all(self, read: Callable[[], bytes]) -> None:
        while True:
            self._lease.check()
            block = read()
            if not block:
                break
            self._emit(block)

    def _emit_rest(self, rest: Rest) -> Generator[None, None, None]:
        """The same, without waiting."""
        # On the path of every block: no call that can be spared.
        lease, idle_timeout = self._lease, self._idle_timeout
        while not rest.ended:
            if lease.cancelled:
                raise Cancelled
            idle_timeout.start_wait()
            try:
                yield
                while (block := _read_now(rest)) is None:
                    lease.check()
                    if idle_timeout.remaining() <= 0:
                        raise StreamTimeoutError(*idle_timeout.expired())
                    yield
            finally:
                idle_timeout.end_wait()
            self._emit(block)
            while self.paused:
                lease.check()
                yield

    def _emit(self, block: bytes) -> None:
        if self._lease.cancelled:
            raise Cancelled
        try:
            if block:
                self._observer.on_next(block)
        except Exception as error:
            raise _Raised(error) from error


_ENDED = object()


def _closed() -> DroppedStreamError:
    return DroppedStreamError("the program closed the response")


class _Raised(Exception):  # noqa: N818  # it carries the error
    """What a subscriber's callback raised, told apart from what reading raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


# --- the request -----------------------------------------------------------------


class _Asked:
    """Whom a request was sent to last, for the text of an error."""

    host: str | None = None
    proxy: str | None = None


def _prepared(session: Session, request: Request | PreparedRequest) -> PreparedRequest:
    if isinstance(request, PreparedRequest):
        return request
    if request.auth is _unauthorized and session.auth:
        request.auth = None  # requests takes the session's
    return session.prepare_request(request)


def _is_late(error: Exception) -> bool:
    """Returns whether a request failed since a timeout expired."""
    if isinstance(error, EmptyPoolError):  # no connection of a full pool was free in time
        return True
    root = _root_of(error)
    return isinstance(root, TimeoutError | ReadTimeoutError | ConnectTimeoutError) and not (
        isinstance(root, NewConnectionError)
    )


def _shows_secrets(error: Exception) -> bool:
    """Returns whether its text shows the credentials in a URL, or a header, as requests and
    http.client do: that may be the key."""
    return "@" in str(error) or _is_about_a_header(error)


def _is_about_a_header(error: Exception) -> bool:
    return isinstance(error, ValueError) and "header" in str(error).lower()


def _no_answer(error: Exception, asked: _Asked) -> RequestError:
    root = _root_of(error)
    if _is_about_a_header(error):
        reason = "a header of the request cannot be sent as it is"
    elif isinstance(root, SSLCertVerificationError):
        reason = (
            f"{_reason(error)}; if you trust it, give its authority's certificates as "
            "session.verify or in REQUESTS_CA_BUNDLE"
        )
    else:
        reason = _reason(error)
    return RequestError(reason, asked.host, asked.proxy, is_permanent=_is_permanent(error, root))


# EAI_AGAIN is another one: the name server does not answer now.
_UNKNOWN_HOST = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA")}


def _is_permanent(error: Exception, root: BaseException) -> bool:
    """Returns whether the same request would fail in the same way again.

    A plain OSError is from requests, for a file of certificates that does not exist; a
    ValueError is about the URL or a header.
    """
    if isinstance(root, gaierror):
        return root.errno in _UNKNOWN_HOST
    return (
        isinstance(root, SSLCertVerificationError)
        or isinstance(error, ValueError | TooManyRedirects)
        or type(error) is OSError
    )


# --- the answer ------------------------------------------------------------------


class _Body:
    """Reads the body, block after block, and says what went wrong in our words."""

    def __init__(self, response: Response, idle_timeout: IdleTimeout) -> None:
        # An adapter that is not urllib3's may have anything that can be read, or a content; and
        # a hook of the session may have read it all. requests has no public name for that.
        is_read = isinstance(response._content, bytes)
        raw: Any = BytesIO(response.content) if is_read else response.raw or BytesIO()
        self._read: Callable[[int], bytes] = getattr(raw, "read1", None) or raw.read
        if "Content-Encoding" in response.headers and isinstance(raw, BaseHTTPResponse):
            # Others, such as vcrpy's, do not know the keyword, and have decompressed it.
            self._read = partial(raw.read1, decode_content=True)
        self._idle_timeout = idle_timeout

    def read(self) -> bytes:
        """What is there, as soon as anything is; b"" at the end of the body."""
        self._idle_timeout.start_wait()
        try:
            block: bytes = self._read(_BLOCK_BYTES)
        except ReadTimeoutError as error:
            raise StreamTimeoutError(*self._idle_timeout.expired()) from error
        except DecodeError as error:
            raise ProtocolError(
                f"the body cannot be decompressed: {error}; it is not what its Content-Encoding says"
            ) from error
        except (HTTPError, HTTPException, OSError, ValueError, AttributeError) as error:
            # ValueError and AttributeError: http.client and ssl, on a socket shut down
            # under them by the one who cancels.
            raise DroppedStreamError(_reason(error)) from error
        finally:
            self._idle_timeout.end_wait()
        return block


def _read_now(rest: Rest) -> bytes | None:
    try:
        return rest.read(_BLOCK_BYTES)
    except (HTTPException, OSError, ValueError) as error:
        raise DroppedStreamError(_reason(error)) from error


def _refusal(response: Response, read: Callable[[], bytes]) -> StatusError:
    body = _read_up_to(_BODY_BYTES, read)
    url = without_secrets(response.url or "")
    return refusal(response.status_code, response.headers, _decoded(body, response), url)


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


_FIELD = rb"(?:(?:data|event|id|retry)?:|(?:data|event|id|retry)[\r\n])"
_BEGINS_WITH_FIELD = re.compile(_FIELD)
_LINE_WITH_FIELD = re.compile(rb"(?:^|[\r\n])" + _FIELD)
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BOM = b"\xef\xbb\xbf"


def _event_stream_head(response: Response, read: Callable[[], bytes]) -> bytes:
    """Returns the first bytes of a body that is an event stream.

    Several servers label theirs text/plain or not at all, and proxies answer 200 with
    a page of their own, or with a line of text that has the label of the stream that it
    stands for. The first bytes decide. A labelled body may begin with lines that WHATWG
    HTML 9.2.6 ignores, so it is read to the first line that means something.
    """
    labelled = _media_type(response) == "text/event-stream"
    is_stream = _is_labelled_stream if labelled else _is_unlabelled_stream
    head = b""
    while block := read():
        head += block
        begin = head.removeprefix(_BOM).lstrip()
        verdict = None if _BOM.startswith(head) else is_stream(begin)
        if verdict:
            return head
        if verdict is False or len(head) > _BODY_BYTES:
            break
    if not head.strip() or (labelled and _reports_error(head.strip())):
        return head
    body = _decoded(_read_up_to(_BODY_BYTES, read, head), response)
    label = response.headers.get("Content-Type", "no content type")
    if "Content-Encoding" in response.headers:
        label += f", Content-Encoding {response.headers['Content-Encoding']}"
    raise ProtocolError(f"the answer is not an event stream ({label})", body)


def _is_unlabelled_stream(begin: bytes) -> bool | None:
    if _BEGINS_WITH_FIELD.match(begin):
        return True
    return None if any(field.startswith(begin) for field in _FIELDS) else False


def _is_labelled_stream(begin: bytes) -> bool | None:
    if begin[:1] == b"<":
        return False
    line, end, _ = begin.partition(b"\n")
    return bool(_LINE_WITH_FIELD.search(begin) or (end and _reports_error(line))) or None


def _reports_error(line: bytes) -> bool:
    """Returns whether it is an error that a server wrote as a bare line of JSON."""
    return (
        line[:1] == b"{"
        and b"\n" not in line
        and reported_error(line.decode("utf-8", "replace")) is not None
    )


def _is_plain(response: Response) -> bool:
    """Returns whether its socket delivers its body, except for the framing."""
    return type(response.raw) is HTTPResponse and not any(
        encoding in HTTPResponse.CONTENT_DECODERS for encoding in _encodings(response)
    )


_COMPRESSIONS = ("br", "compress", "dcb", "dcz", "x-compress", "zstd")  # IANA's, but gzip


def _check_encoding(response: Response) -> None:
    """Raises for a compression that urllib3 cannot decompress, which it passes on as it is.

    Anything else is not a compression: several servers label a plain stream "none" or "utf-8".
    Its first bytes decide.
    """
    for encoding in _encodings(response):
        if encoding in _COMPRESSIONS and encoding not in HTTPResponse.CONTENT_DECODERS:
            raise ProtocolError(
                f"the body cannot be decompressed here: it is compressed with {encoding!r}; "
                f"ask for identity or gzip, or install urllib3[{encoding}]"
            )


def _encodings(response: Response) -> list[str]:
    encodings = response.headers.get("Content-Encoding", "").lower().split(",")
    return [encoding.strip() for encoding in encodings]


def _media_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _decoded(body: bytes, response: Response) -> str:
    """As UTF-8 where it is that: requests takes any text without a charset for Latin-1."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        with suppress(LookupError):  # an unknown charset
            return body.decode(response.encoding or "utf-8", "replace")
        return body.decode("utf-8", "replace")


def _reason(error: BaseException) -> str:
    """What really happened, in words, below what requests and urllib3 wrapped around it."""
    root = _root_of(error)
    if isinstance(root, IncompleteRead):
        return "closed before the end of the body"
    if isinstance(root, BadStatusLine) and type(root) is BadStatusLine:
        return f"expected HTTP, got {excerpt(str(root))!r}; check server_url and the proxy"
    return excerpt(without_credentials(str(root))) or type(root).__name__


def _root_of(error: BaseException) -> BaseException:
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None) or next(
            (arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None
        )
        if isinstance(error, NewConnectionError):
            inner = error.__cause__
        if isinstance(inner, BaseException):
            error = inner
    return error
