"""Requests to responses: sends one request, and follows its redirects."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from requests import PreparedRequest, Request, Response, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException, TooManyRedirects
from requests.utils import rewind_body, select_proxy
from urllib3.exceptions import HTTPError

from ..errors import RequestError
from .connection import ConnectionLease, sending
from .request_errors import request_error
from .session import drop_idle_connections_on_fork, pending_returns, view_of
from .taps import Exchange, Tap, observe

__all__ = ["RequestSender", "is_loopback", "post"]

_RETURN_SECONDS = 0.25  # how long a request waits for a connection that is about to return
_MIN_TIMEOUT_SECONDS = 0.001  # urllib3 refuses 0; a request without time left fails by itself

_MakeContext: TypeAlias = Callable[[], AbstractContextManager[object]]


class _Post(Request):
    """A request that is sent within a context, such as that of a span."""

    make_context: _MakeContext = nullcontext


def post(
    url: str,
    headers: dict[str, str],
    body: bytes,
    authorization: str | None,
    make_context: _MakeContext = nullcontext,
) -> Request:
    """Returns a POST request.

    The authorization is not passed as a header: for a request without `auth`, requests would
    look for credentials in ~/.netrc, and send them. If the authorization is None, the `auth`
    of the session is used. The request is sent within the context that `make_context` returns.
    """
    auth = _unauthorized if authorization is None else partial(_authorized, authorization)
    request = _Post("POST", url, headers=headers, data=body, auth=auth)
    request.make_context = make_context
    return request


def _authorized(authorization: str, prepared: PreparedRequest) -> PreparedRequest:
    prepared.headers["Authorization"] = authorization
    return prepared


def _unauthorized(prepared: PreparedRequest) -> PreparedRequest:
    return prepared


class RequestSender:
    """A sender of one request over leased connections, which follows its redirects."""

    def __init__(self, session: Session, lease: ConnectionLease, tap: Tap | None = None) -> None:
        self.secret = ""  # the credentials in the Authorization header of the request
        self.exchange: Exchange | None = None  # if anything observes the request
        self._tap = tap
        self._session = session
        self._lease = lease
        self._idle_timeout = lease.idle_timeout
        self._url = ""  # of the latest request
        self._proxies: dict[str, str] = {}
        self._make_context: _MakeContext = nullcontext

    def send(self, request: Request | PreparedRequest) -> Response:
        """Returns the response when its headers have arrived; raises `RequestError` if none do."""
        try:
            self._make_context = getattr(request, "make_context", nullcontext)
            prepared = self._prepare(request)
            self.secret = str(prepared.headers.get("Authorization", "")).rpartition(" ")[2]
            self.exchange = observe(prepared, self._tap)
            self._idle_timeout.start_wait()
            return self._follow_redirects(prepared)
        except (RequestException, HTTPError, OSError, ValueError) as error:
            self._lease.check()
            failed = request_error(error, *self._host_and_proxy(), self._lease)
            raise failed from failed.__cause__
        except AttributeError as error:
            # http.client, if the program closes the connection at this moment: it has no socket.
            connection = self._lease.connection
            if connection is None or connection.sock is not None:
                raise
            self._lease.check()
            raise RequestError("the connection was closed", *self._host_and_proxy()) from error
        finally:
            self._idle_timeout.end_wait()

    def _prepare(self, request: Request | PreparedRequest) -> PreparedRequest:
        if isinstance(request, PreparedRequest):
            return request
        if request.auth is _unauthorized and self._session.auth:
            request.auth = None  # has requests use the session's
        return self._session.prepare_request(request)

    def _host_and_proxy(self) -> tuple[str | None, str | None]:
        """Returns those of the latest request, without credentials; None: there is none."""
        proxy = select_proxy(self._url, self._proxies)
        return (
            urlsplit(self._url).netloc.rpartition("@")[2] or None,
            proxy and proxy.rpartition("//")[2].rpartition("@")[2].rstrip("/"),
        )

    def _follow_redirects(self, prepared: PreparedRequest) -> Response:
        session, idle_timeout = self._session, self._idle_timeout
        view = view_of(session)
        drop_idle_connections_on_fork(session)
        for _ in range(session.max_redirects + 1):
            self._url = prepared.url or ""
            settings = _settings_for(session, self._url)
            self._proxies = settings["proxies"]
            if pending_returns.is_expected(session) and not _has_idle_connection(
                session, prepared, settings
            ):
                pending_returns.wait(session, _RETURN_SECONDS)
            self._lease.check()
            remaining = max(idle_timeout.remaining(), _MIN_TIMEOUT_SECONDS)
            sending.lease = self._lease
            try:
                with self._make_context():
                    response = view.send(
                        prepared,
                        timeout=(min(idle_timeout.connect_timeout, remaining), remaining),
                        allow_redirects=False,
                        **settings,
                    )
            finally:
                sending.lease = None
            following = _redirected(session, prepared, response)
            if following is None:
                return response
            response.close()
            prepared = following
        raise TooManyRedirects(f"more than {session.max_redirects} redirects")


def _settings_for(session: Session, url: str) -> dict[str, Any]:
    """Returns the proxies, certificates and so on for a request to this URL.

    Settings of the session have priority over the environment; in requests it is the other
    way round. A request to this machine ignores the proxies of the environment: such a proxy
    would have to run on this machine too, and the request is for the developer's own server.
    """
    proxies = dict(session.proxies or ())
    host = urlsplit(url).hostname or ""
    if is_loopback(host):
        proxies["no_proxy"] = host
    verify = None if session.verify is True else session.verify
    return {**session.merge_environment_settings(url, proxies, True, verify, None)}


def _has_idle_connection(
    session: Session, prepared: PreparedRequest, settings: dict[str, Any]
) -> bool:
    """Returns whether a request needs no new connection; True if that is unknown."""
    adapter = session.get_adapter(prepared.url or "")
    if not isinstance(adapter, HTTPAdapter):
        return True
    pool = adapter.get_connection_with_tls_context(
        prepared, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
    )
    idle = getattr(pool.pool, "queue", None)
    return idle is None or any(idle)


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Returns whether a host name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761, 6.3


def _redirected(
    session: Session, prepared: PreparedRequest, response: Response
) -> PreparedRequest | None:
    """Returns the request to send after a redirect, or None if it must not be followed.

    A 301 or 302 repeats the request, as a 307 or 308 does. RFC 9110, 15.4.2: "for historical
    reasons, a user agent MAY change the request method from POST to GET"; requests does, but
    a GET would not ask the question. A 303 requires a GET.
    """
    following = response.next  # as requests would send it
    is_get_required = response.status_code == 303 and prepared.method not in ("GET", "HEAD")
    if following is None or is_get_required:
        return None
    following.method, following.body = prepared.method, prepared.body
    for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
        if name in prepared.headers:
            following.headers[name] = prepared.headers[name]
    if following._body_position is not None:
        rewind_body(following)
    following.headers.pop("Proxy-Authorization", None)  # the adapter adds it for the proxy
    following.headers.pop("Authorization", None)  # of ~/.netrc, also for the same host
    authorization = prepared.headers.get("Authorization")
    if authorization and not session.should_strip_auth(prepared.url or "", following.url or ""):
        following.headers["Authorization"] = authorization
    return following
