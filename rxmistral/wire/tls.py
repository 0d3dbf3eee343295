"""TLS contexts that many connections share.

urllib3 makes a context for each connection, and loads all certificates of its authorities into it,
which takes more time and memory than all else of an answer. So connections with the same settings
use one context, unless the program has given its own to the adapter, or a client certificate.

Tested with urllib3 2.2 and 2.8; a setting that is not known here is left to urllib3.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from ssl import SSLContext
from threading import Lock
from typing import Any

from urllib3.connection import HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs, resolve_ssl_version

from ..rx.threads import fork_safe

__all__ = ["sharing_context"]

_OF_AUTHORITIES = ("ca_certs", "ca_cert_dir", "ca_cert_data")
_OF_PROTOCOL = ("ssl_version", "ssl_minimum_version", "ssl_maximum_version", "cert_reqs")
# Settings that change a context while it is used, or that only urllib3 can load.
_NOT_SHARED = ("ssl_context", "cert_file", "key_file", "assert_hostname", "assert_fingerprint")


@contextmanager
def sharing_context(connection: Any) -> Iterator[None]:
    """Makes a connection use a shared context, if it can, within the block."""
    context = _context_for(connection)
    if context is None:
        yield
        return
    authorities = {name: getattr(connection, name) for name in _OF_AUTHORITIES}
    connection.ssl_context = context
    for name in _OF_AUTHORITIES:  # they are loaded already
        setattr(connection, name, None)
    try:
        yield
    finally:
        connection.ssl_context = None
        for name, value in authorities.items():
            setattr(connection, name, value)


def _context_for(connection: Any) -> SSLContext | None:
    if not isinstance(connection, HTTPSConnection):
        return None
    if any(getattr(connection, name, None) is not None for name in _NOT_SHARED):
        return None
    if connection.proxy is not None and connection.proxy.scheme == "https":
        return None  # it needs the authorities twice
    values = {name: getattr(connection, name, None) for name in _OF_PROTOCOL + _OF_AUTHORITIES}
    files: list[Any] = [values[name] for name in ("ca_certs", "ca_cert_dir") if values[name]]
    try:
        states = tuple(_state(file) for file in files)
        with _lock:  # many connections may be the first
            return _shared_context(states, *values.values())
    except (OSError, ValueError, TypeError):  # urllib3 raises it as an error of the connection
        return None


def _state(file: Any) -> tuple[int, ...]:
    """Returns what differs if a file was replaced."""
    found = os.stat(file)
    return found.st_mtime_ns, found.st_ino, found.st_size


_lock = fork_safe(Lock())


@lru_cache(16)
def _shared_context(
    _states: tuple[tuple[int, ...], ...],
    version: Any,
    minimum: Any,
    maximum: Any,
    requirements: Any,
    file: Any,
    folder: Any,
    data: Any,
) -> SSLContext:
    context = create_urllib3_context(
        ssl_version=resolve_ssl_version(version),
        ssl_minimum_version=minimum,
        ssl_maximum_version=maximum,
        cert_reqs=resolve_cert_reqs(requirements),
    )
    if file or folder or data:
        context.load_verify_locations(file, folder, data)
    else:
        context.load_default_certs()
    context.set_alpn_protocols(["http/1.1"])
    # urllib3 sets these again for each connection, while another thread may read them.
    context.set_alpn_protocols = _ignore  # type: ignore[method-assign, assignment]
    return context


def _ignore(*_: object) -> None:
    pass
