"""Taps: observers of every exchange with a server, such as a recorder.

    request sent ──▶ response ──▶ block, block, ... ──▶ end
      `tap(...)`       each is a call of the Exchange that the tap has returned

Whether anything observes a request is decided once, before it is sent: a block of a request that
nothing observes costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Literal, Protocol, TypeAlias

from requests import PreparedRequest

from ..errors import DroppedStreamError, MistralError, RequestError, StatusError
from ..rx.threads import fork_safe

__all__ = ["End", "Exchange", "Tap", "ending_of", "install_tap", "observe", "remove_tap"]

End: TypeAlias = Literal["eof", "drop", "timeout", "left"]
"""How an exchange ended: the body was whole, the connection broke, a timeout expired, or the
reader left."""


class Exchange(Protocol):
    """What observes one request, on the thread of its reader. Nothing may raise."""

    def on_response(self, status: int, headers: Mapping[str, str]) -> None:
        """Called when the headers have arrived."""

    def on_block(self, block: bytes) -> None:
        """Called with each block of the body, after chunked framing and decompression."""

    def on_end(self, end: End) -> None:
        """Called before the end is emitted; all calls but the first are ignored."""


class Tap(Protocol):
    def __call__(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Exchange: ...


_lock = fork_safe(Lock())
_installed: tuple[Tap, ...] = ()


def install_tap(tap: Tap) -> None:
    """Lets a tap observe every request of this process that is sent from now on."""
    global _installed
    with _lock:
        _installed = (*_installed, tap)


def remove_tap(tap: Tap) -> None:
    global _installed
    with _lock:
        _installed = tuple(each for each in _installed if each is not tap)


def observe(request: PreparedRequest, own: Tap | None = None) -> Exchange | None:
    """Returns what observes a request that is about to be sent; None: nothing does.

    Args:
        request: The request, with its authorization.
        own: The tap of the client that sends it.
    """
    taps = _installed if own is None else (*_installed, own)
    if not taps:
        return None
    headers = {name: _text_of(value) for name, value in request.headers.items()}
    body = request.body or b""
    if isinstance(body, str):
        body = body.encode("utf-8")
    if not isinstance(body, bytes):  # a stream, which can be read only once
        body = b""
    parts = (request.method or "", request.url or "", headers, body)
    exchanges = [tap(*parts) for tap in taps]
    return exchanges[0] if len(exchanges) == 1 else _Exchanges(exchanges)


def _text_of(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


class _Exchanges:
    """One exchange that several taps observe."""

    def __init__(self, exchanges: list[Exchange]) -> None:
        self._exchanges = exchanges

    def on_response(self, status: int, headers: Mapping[str, str]) -> None:
        for each in self._exchanges:
            each.on_response(status, headers)

    def on_block(self, block: bytes) -> None:
        for each in self._exchanges:
            each.on_block(block)

    def on_end(self, end: End) -> None:
        for each in self._exchanges:
            each.on_end(end)


def ending_of(error: BaseException | None) -> End:
    """Returns the end that an error of the reader stands for; None: the body was read whole."""
    if error is None or isinstance(error, StatusError):
        return "eof"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, DroppedStreamError | RequestError):
        return "drop"
    return "eof" if isinstance(error, MistralError) else "left"
