"""Exceptions of requests, urllib3, http.client and ssl, as errors of ours."""

from __future__ import annotations

import socket
from http.client import BadStatusLine, IncompleteRead
from ssl import SSLCertVerificationError

from requests.exceptions import ConnectTimeout, TooManyRedirects
from urllib3.exceptions import (
    ConnectTimeoutError,
    EmptyPoolError,
    NewConnectionError,
    ReadTimeoutError,
)

from ..error_report import excerpt, without_credentials
from ..errors import RequestError, RequestTimeoutError
from .connection import ConnectionLease

__all__ = ["reason_of", "request_error"]

# EAI_AGAIN is not one of them: it means that the name server does not respond now.
_UNKNOWN_HOST = {getattr(socket, name, None) for name in ("EAI_NONAME", "EAI_NODATA")}


def request_error(
    error: Exception, host: str | None, proxy: str | None, lease: ConnectionLease
) -> RequestError:
    """Returns the error of a request without a response, chained unless that may show a key."""
    root = _root_of(error)
    if _is_timeout(error, root):
        is_connecting = lease.is_connecting or isinstance(error, ConnectTimeout)
        idle_timeout = lease.idle_timeout
        expired = idle_timeout.expired()
        if is_connecting and idle_timeout.remaining() > 0:
            expired = "connect", idle_timeout.connect_timeout
        late = RequestTimeoutError(*expired, host, proxy)
        late.__cause__ = error
        return late
    # The text of some exceptions shows a header, or the credentials in a URL.
    is_about_header = isinstance(error, ValueError) and "header" in str(error).lower()
    reason = reason_of(error)
    if is_about_header:
        reason = "a header of the request cannot be sent as it is"
    elif isinstance(root, SSLCertVerificationError):
        reason += (
            "; if you trust the server, pass its authority's certificates as session.verify "
            "or in REQUESTS_CA_BUNDLE"
        )
    failed = RequestError(reason, host, proxy, is_permanent=_is_permanent(error, root))
    failed.__cause__ = None if is_about_header or "@" in str(error) else error
    return failed


def reason_of(error: BaseException) -> str:
    """Returns what happened, in words, without what requests and urllib3 wrapped around it."""
    root = _root_of(error)
    if isinstance(root, IncompleteRead):
        return "closed before the end of the body"
    if type(root) is BadStatusLine:
        return f"expected HTTP, got {excerpt(str(root))!r}; check server_url and the proxy"
    return excerpt(without_credentials(str(root))) or type(root).__name__


def _is_timeout(error: Exception, root: BaseException) -> bool:
    if isinstance(error, EmptyPoolError):  # no connection of a full pool became free in time
        return True
    is_timeout = isinstance(root, TimeoutError | ReadTimeoutError | ConnectTimeoutError)
    return is_timeout and not isinstance(root, NewConnectionError)


def _is_permanent(error: Exception, root: BaseException) -> bool:
    """Returns whether the same request would fail again for the same reason."""
    if isinstance(root, socket.gaierror):
        return root.errno in _UNKNOWN_HOST
    # requests raises a plain OSError for a certificate file that does not exist, and a
    # ValueError for an invalid URL or header.
    return (
        isinstance(root, SSLCertVerificationError)
        or isinstance(error, ValueError | TooManyRedirects)
        or type(error) is OSError
    )


def _root_of(error: BaseException) -> BaseException:
    """Returns the exception that is wrapped in others as their reason or last argument."""
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
