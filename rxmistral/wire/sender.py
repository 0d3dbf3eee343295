"""Requests to responses: sends one request, and follows its redirects."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

from requests import PreparedRequest, Request, Response, Session
from requests.exceptions import RequestException, TooManyRedirects
from urllib3.exceptions import HTTPError

from .connection_pool import PendingReturns, drop_idle_connections_on_fork
from .lease import ConnectionLease
from .request_errors import request_error
from .session import has_idle_connection, proxy_for, redirected, settings_for, view_of

__all__ = ["RequestSender", "pending_returns", "post"]

_RETURN_SECONDS = 0.25  # how long a request waits for a connection that is about to return
_MIN_TIMEOUT_SECONDS = 0.001  # urllib3 refuses 0; a request without time left fails by itself

pending_returns = PendingReturns()


def post(url: str, headers: dict[str, str], body: bytes, authorization: str | None) -> Request:
    """Returns a POST request.

    The authorization is not passed as a header: for a request without `auth`, requests would
    look for credentials in ~/.netrc, and send them. If the authorization is None, the `auth`
    of the session is used.
    """

    auth = _unauthorized if authorization is None else partial(_authorized, authorization)
    return Request("POST", url, headers=headers, data=body, auth=auth)


def _authorized(authorization: str, prepared: PreparedRequest) -> PreparedRequest:
    prepared.headers["Authorization"] = authorization
    return prepared


def _unauthorized(prepared: PreparedRequest) -> PreparedRequest:
    return prepared


class RequestSender:
    """Sends one request over leased connections, and follows its redirects.

    Attributes:
        secret: The credentials in the Authorization header of the request; "" if it has none.
    """

    def __init__(self, session: Session, lease: ConnectionLease) -> None:
        self.secret = ""
        self._session = session
        self._lease = lease
        self._idle_timeout = lease.idle_timeout
        self._host: str | None = None  # of the latest request
        self._proxy: str | None = None

    def send(self, request: Request | PreparedRequest) -> Response:
        """Returns the response, as soon as its headers have arrived.

        Raises:
            RequestError: There is no response.
            RequestTimeoutError: There is none in time.
        """
        try:
            prepared = self._prepare(request)
            self.secret = str(prepared.headers.get("Authorization", "")).rpartition(" ")[2]
            self._idle_timeout.start_wait()
            return self._follow_redirects(prepared)
        except (RequestException, HTTPError, OSError, ValueError) as error:
            self._lease.check()
            failed = request_error(error, self._host, self._proxy, self._lease)
            raise failed from failed.__cause__
        finally:
            self._idle_timeout.end_wait()

    def _prepare(self, request: Request | PreparedRequest) -> PreparedRequest:
        if isinstance(request, PreparedRequest):
            return request
        if request.auth is _unauthorized and self._session.auth:
            request.auth = None  # has requests use the session's
        return self._session.prepare_request(request)

    def _follow_redirects(self, prepared: PreparedRequest) -> Response:
        session, idle_timeout = self._session, self._idle_timeout
        view = view_of(session)
        drop_idle_connections_on_fork(session)
        for _ in range(session.max_redirects + 1):
            url = prepared.url or ""
            self._host = urlsplit(url).netloc.rpartition("@")[2] or None
            settings = settings_for(session, url)
            self._proxy = proxy_for(url, settings)
            if not has_idle_connection(session, prepared, settings):
                pending_returns.wait(session, _RETURN_SECONDS)
            self._lease.check()
            with self._lease.on_this_thread():
                remaining = max(idle_timeout.remaining(), _MIN_TIMEOUT_SECONDS)
                response = view.send(
                    prepared,
                    timeout=(min(idle_timeout.connect_timeout, remaining), remaining),
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
