"""Sessions of requests: our own, and views of any session that send our requests.

A request of ours must be cancellable while urllib3 works on it, and must respect its timeouts
while it waits for a connection of a full pool, and while it pauses between the attempts of an
adapter's `max_retries`. So the pool has to return leased connections (see `connection`), and
those waits have to be ours. But the session may be the user's, which sends other requests at
the same time.

Strategy: nothing of the user's is changed. A *view* is an object that shares all attributes (the
`__dict__`) of another object, and whose class is a subclass of that object's class:

    view of the session ──▶ view of its adapter ──▶ view of its pool ──▶ a connection
       get_adapter()         get_connection_...()     urlopen(), _get_conn(), _put_conn()

Cookies, idle connections and counters are the originals'. A connection is leasable while a view
uses it, and is an ordinary one again before it returns to the pool. `_get_conn` and `_put_conn`
are methods that urllib3 has for its subclasses (tested with 2.2 and 2.8).
"""

from __future__ import annotations

import types
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from requests import PreparedRequest, Session
from requests.adapters import HTTPAdapter
from requests.utils import rewind_body, select_proxy
from urllib3 import HTTPConnectionPool, Retry, Timeout
from urllib3.exceptions import EmptyPoolError, ReadTimeoutError

from ..rx.clock import monotonic, sleep
from .connection import make_leasable, make_ordinary
from .connection_pool import pools_of
from .lease import ConnectionLease, current_lease

__all__ = [
    "has_idle_connection",
    "is_loopback",
    "open_session",
    "proxy_for",
    "redirected",
    "settings_for",
    "view_of",
]

T = TypeVar("T")

_POOL_SIZE = 128  # idle connections kept for each host
_POLL_SECONDS = 0.05  # between two checks in a wait that nothing can interrupt


# --- our own sessions ------------------------------------------------------------


def open_session() -> Session:
    """Returns a session whose pools keep the connections of many streams at once."""
    session = Session()
    adapter = _Adapter(pool_maxsize=_POOL_SIZE)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _Adapter(HTTPAdapter):
    """An adapter that closes its idle connections when it is closed.

    requests leaves that to the garbage collection of the pools, and a response or an error
    that the program keeps also keeps its pool.
    """

    def close(self) -> None:
        for pool in pools_of(self):
            pool.close()
        super().close()


# --- views -----------------------------------------------------------------------


def view_of(session: Session) -> Session:
    """Returns a view of a session, whose requests use the lease of their thread."""
    return _view(_SessionView, session)


def _view(kind: type, original: T) -> T:
    base: Any = type(original)
    view: Any = object.__new__(_view_class(kind, base))
    # Not by setattr(), which the class of the original may have overridden.
    object.__setattr__(view, "__dict__", original.__dict__)
    # A pool closes its idle connections when the last reference to it is gone.
    object.__setattr__(view, "_original", original)
    return cast(T, view)


@lru_cache(64)
def _view_class(kind: type, base: type) -> type:
    # `_original` is a slot, since all other attributes are the original's.
    return types.new_class(
        base.__name__, (kind, base), exec_body=lambda body: body.update(__slots__=("_original",))
    )


class _SessionView:
    __slots__ = ()

    def get_adapter(self, url: str) -> Any:
        adapter = super().get_adapter(url)  # type: ignore[misc]  # of the class it is mixed into
        # A request of any other adapter can be cancelled only between two blocks.
        return _view(_AdapterView, adapter) if isinstance(adapter, HTTPAdapter) else adapter


class _AdapterView:
    __slots__ = ()

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool = super().get_connection_with_tls_context(*args, **options)  # type: ignore[misc]
        return _view(_PoolView, pool) if isinstance(pool, HTTPConnectionPool) else pool


class _PoolView:
    __slots__ = ()

    def urlopen(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        *args: Any,
        **options: Any,
    ) -> Any:
        """Sends one request, and calls itself for each attempt of the adapter's retries."""
        lease = current_lease()
        if lease is not None:
            lease.check()
            idle_timeout = lease.idle_timeout
            remaining = idle_timeout.remaining()
            if remaining <= 0:
                raise ReadTimeoutError(self, url, "no time is left")  # type: ignore[arg-type]
            options["timeout"] = Timeout(
                connect=min(idle_timeout.connect_timeout, remaining), read=remaining
            )
            if isinstance(retries, Retry) and not isinstance(retries, _RetryView):
                retries = _view(_RetryView, retries)
        return super().urlopen(method, url, body, headers, retries, *args, **options)  # type: ignore[misc]

    def _get_conn(self, timeout: float | None = None) -> Any:
        lease = current_lease()
        if lease is None:
            return make_leasable(super()._get_conn(timeout))  # type: ignore[misc]
        while True:
            try:
                return make_leasable(super()._get_conn(_POLL_SECONDS))  # type: ignore[misc]
            except EmptyPoolError:
                # No other error may be raised here: urllib3 would put a connection back.
                if lease.cancelled or lease.idle_timeout.remaining() <= 0:
                    raise

    def _put_conn(self, connection: Any) -> None:
        if connection is None or make_ordinary(connection):  # None: frees a place in the pool
            super()._put_conn(connection)  # type: ignore[misc]


class _RetryView:
    __slots__ = ()

    def sleep(self, response: Any = None) -> None:
        """Pauses for as long as its class would, but not beyond the idle timeout."""
        retry: Any = self
        lease = current_lease()
        if lease is None:
            super().sleep(response)  # type: ignore[misc]
            return
        asked = retry.respect_retry_after_header and response and retry.get_retry_after(response)
        _sleep(asked or retry.get_backoff_time(), lease)


def _sleep(seconds: float, lease: ConnectionLease) -> None:
    end = monotonic() + min(seconds, max(lease.idle_timeout.remaining(), 0.0))
    while (left := end - monotonic()) > 0:
        sleep(min(left, _POLL_SECONDS))
        lease.check()


# --- how a request is sent -------------------------------------------------------


def settings_for(session: Session, url: str) -> dict[str, Any]:
    """Returns the proxies, certificates and so on for a request to this URL.

    Settings of the session have priority over the environment; in requests it is the other
    way round. A request to this machine ignores the proxies of the environment: such a proxy
    would have to run on this machine too, and the request is for the developer's own server.
    """
    proxies = dict(session.proxies)
    host = urlsplit(url).hostname or ""
    if is_loopback(host):
        proxies["no_proxy"] = host
    verify = None if session.verify is True else session.verify
    return {**session.merge_environment_settings(url, proxies, True, verify, None)}


def has_idle_connection(
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


def is_loopback(host: str) -> bool:
    """Returns whether a host name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")  # RFC 6761, 6.3


def proxy_for(url: str, settings: dict[str, Any]) -> str | None:
    """Returns the host and port of the proxy for a request to this URL, or None."""
    proxy = select_proxy(url, settings["proxies"])
    return proxy and proxy.rpartition("//")[2].rpartition("@")[2].rstrip("/")


def redirected(
    session: Session, prepared: PreparedRequest, following: PreparedRequest, status: int
) -> PreparedRequest | None:
    """Returns the request to send after a redirect, or None if it must not be followed.

    A 301 or 302 repeats the request, as a 307 or 308 does. RFC 9110, 15.4.2: "for historical
    reasons, a user agent MAY change the request method from POST to GET"; requests does, but
    a GET would not ask the question. A 303 requires a GET.

    The request has the same authorization, but none for another host. requests would look
    for one in ~/.netrc, also for the same host.

    Args:
        session: The session that sends them.
        prepared: The request that was redirected.
        following: The request that requests would send after it; modified and returned.
        status: The status of the redirect.
    """
    if status == 303 and prepared.method not in ("GET", "HEAD"):
        return None
    following.method, following.body = prepared.method, prepared.body
    for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
        if name in prepared.headers:
            following.headers[name] = prepared.headers[name]
    if following._body_position is not None:
        rewind_body(following)
    following.headers.pop("Proxy-Authorization", None)  # the adapter adds it for the proxy
    authorization = prepared.headers.get("Authorization")
    following.headers.pop("Authorization", None)
    if authorization and not session.should_strip_auth(prepared.url or "", following.url or ""):
        following.headers["Authorization"] = authorization
    return following
