"""Mistral, Chat: arguments to request to pipe.

`chat.stream(...)` is nothing but the way of an answer, composed:

    blocks(request).pipe(lines(), events(), completions())

once, or as often as the policies of the call say (see `run`).
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, TypedDict, TypeVar, Unpack
from urllib.parse import SplitResult, urlsplit

from msgspec import UNSET, UnsetType

from ..checks import check_callback
from ..error_report import without_secrets
from ..wire import MAX_EVENT_BYTES, check_max_bytes
from ..wire.reader import READERS, Reader, Session
from ..wire.session import is_loopback, open_session
from .attempts import Call, Policies
from .event_stream import EventStream, EventStreamAsync
from .hints import (
    CHAT_ATTRIBUTES,
    CLIENT_ARGUMENTS,
    CLIENT_ATTRIBUTES,
    DEMO_ARGUMENTS,
    hinted,
    raise_missing,
)
from .policies import Limit, Resume, Retry, RetryConfig, Timeouts
from .policies.retry import as_retry
from .request import AnyMessage, ChatArguments, encode_body

if TYPE_CHECKING:
    from ..demo import EmbeddedServer

__version__ = "0.2.0"
__all__ = ["KEY_VARIABLE", "SERVERS", "SERVER_URL_VARIABLE", "Chat", "ClientOptions", "Mistral"]

T = TypeVar("T")

SERVERS = {
    "global": "https://api.mistral.ai",
    "eu": "https://api.eu.mistral.ai",
    "us": "https://api.us.mistral.ai",
}

_PATH = "/v1/chat/completions"
KEY_VARIABLE = "MISTRAL_API_KEY"
SERVER_URL_VARIABLE = "MISTRAL_SERVER_URL"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_HEADERS = {
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",  # compression delays tokens
    "Content-Type": "application/json",
    "User-Agent": f"rxmistral/{__version__} (Python {_PYTHON})",
}


class ClientOptions(TypedDict, total=False):
    """The arguments of `Mistral` that choose no server."""

    api_key: str | Callable[[], str | None] | None
    timeout_ms: float | None
    timeouts: Timeouts | None
    retry: Retry | RetryConfig | None
    resume: Resume | None
    limit: Limit | None
    retry_config: Retry | RetryConfig | None
    session: Session | None
    accept_clean_end: bool
    max_event_bytes: int
    reader: Reader | None


class Mistral:
    """The service, and how to reach it.

    ```python
    with Mistral() as client:
        for token in client.chat.stream(model=..., messages=[...]).pipe(text()):
            print(token, end="", flush=True)
    ```

    May be used from many threads and event loops at once. Leaving the `with` block
    closes the idle connections; without one they are closed with the last reference.

    Args:
        api_key: The key, or a function that is asked for it before each request. Not
            given: the authorization of the `session`, else the environment variable
            MISTRAL_API_KEY.
        server: "global", "eu" or "us".
        server_url: Any server that speaks the same; goes before `server`. The path
            `/v1/chat/completions` is added to it, unless it ends in that or in `/v1`. On
            this machine it needs no key.
            If neither is given: the environment variable MISTRAL_SERVER_URL, else "global".
        timeout_ms: How long the server may be silent, before anything useful comes and
            after, in milliseconds: `first` and `gap` of the timeouts.
        timeouts: How long to wait for what; by default 10 s for a connection, 60 s for
            the first text, 60 s between two.
        retry: Whether to ask again where nothing useful came; by default not. The
            official SDK's `RetryConfig` will do.
        resume: Whether to go on with an answer that broke; by default not.
        limit: How many streams at once, and how many requests a minute.
        retry_config: The official SDK's word for `retry`.
        session: A `requests.Session` of your own; its proxies, certificates, adapters,
            hooks, cookies, `params` and `headers` are used, and it is never closed. Its
            `auth`, or an `Authorization` among its headers, is sent if no `api_key` is
            given, and goes before the environment's key. Nothing of it is changed, except
            that answers may set cookies and that it keeps idle connections, as with any
            request. The `connect` timeout and the time that is left replace its timeouts,
            also between the retries of an adapter.
        accept_clean_end: Take a clean end of an answer that brought anything for its end, for
            servers that send neither a finish_reason nor `[DONE]`.
        max_event_bytes: The largest event allowed, in bytes.
        reader: Who reads the answers, once they have begun, and runs the operators and
            callbacks of their pipes. "shared": one thread for all of them; who is slow in
            a callback, or stuck, holds the others up once, for a tenth of a second at
            most, and has a thread of his own from then on. "thread": each a thread of its
            own from the beginning, which costs twice the CPU and memory. None: "shared",
            but on Windows "thread".
    """

    _embedded: EmbeddedServer | None = None

    @hinted("Mistral", CLIENT_ARGUMENTS)
    def __init__(
        self,
        api_key: str | Callable[[], str | None] | None = None,
        *,
        server: str | None = None,
        server_url: str | None = None,
        timeout_ms: float | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | RetryConfig | None = None,
        resume: Resume | None = None,
        limit: Limit | None = None,
        retry_config: Retry | RetryConfig | None = None,
        session: Session | None = None,
        accept_clean_end: bool = False,
        max_event_bytes: int = MAX_EVENT_BYTES,
        reader: Reader | None = None,
    ) -> None:
        if callable(api_key):
            check_callback("api_key", api_key)
        elif api_key is not None:
            _authorization(api_key)
        if session is not None and not isinstance(session, Session):
            raise TypeError(f"session must be a requests.Session, got {type(session).__name__}")
        check_max_bytes(max_event_bytes)
        if reader is not None and reader not in READERS:
            raise ValueError(f"reader must be one of {', '.join(READERS)}, got {reader!r}")
        self._api_key = api_key
        self._server_url = _base_url(server_url) if server_url else _server(server)
        self._policies = Policies(
            timeouts=_timeouts(timeouts, timeout_ms, Timeouts()),
            retry=as_retry(_either("retry", retry, "retry_config", retry_config, None)),
            resume=_checked("resume", resume, Resume),
            limit=_checked("limit", limit, Limit),
        )
        self._own_session = session is None
        self._session = session or open_session()
        self._accept_clean_end = accept_clean_end
        self._max_event_bytes = max_event_bytes
        self._reader: Reader | None = reader
        self.chat = Chat(self)

    @classmethod
    @hinted("Mistral.demo", DEMO_ARGUMENTS)
    def demo(cls, **options: Unpack[ClientOptions]) -> Self:
        """Returns a client of a demo server in this process; no key and no network needed.

        The demo server streams a short text about itself, at the pace of a model. It has
        answers of its own to "Count to five.", "Count forever.", "Say hello.", "Fail." and
        "Give me a recipe for crêpes."; `python -m rxmistral --serve` runs it alone.

        Leaving the `with` block of the client closes the server, and so cuts the answers
        that it still sends. Without a block the server is closed with the last reference
        to the client and to its streams, or when the interpreter exits.

        Args:
            **options: Any other argument of `Mistral`.

        >>> with Mistral.demo() as client:
        ...     answer = client.chat.stream(
        ...         model="any", messages=[{"role": "user", "content": "Say hello."}]
        ...     )
        ...     [event.data.choices[0].delta.content for event in answer]
        ['', 'Hel', 'lo', '']
        """
        # By name: a program that uses no demo server does not load it.
        embedded: EmbeddedServer = import_module("..demo", __package__).EmbeddedServer()
        options.setdefault("api_key", "demo")  # one in the environment stays there
        client = cls(server_url=embedded.url, **options)
        client._embedded = embedded
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}(server_url={self._server_url!r})"

    if not TYPE_CHECKING:  # for type checkers, no other attribute exists

        def __getattr__(self, name: str) -> NoReturn:
            raise_missing(self, "Mistral", name, CLIENT_ATTRIBUTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._own_session:
            self._session.close()
        if self._embedded is not None:
            self._embedded.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _authorize(self, url: str) -> Callable[[], str | None]:
        """A function that gives the Authorization header of a request to this URL."""
        key = self._api_key
        if callable(key):
            ask = key
            return lambda: _authorization(ask() or _no_key())
        authorizes_itself = self._session.auth or "Authorization" in self._session.headers
        key = key or (None if authorizes_itself else os.environ.get(KEY_VARIABLE))
        if key:
            authorization = _authorization(key)
            return lambda: authorization
        if not authorizes_itself and not is_loopback(urlsplit(url).hostname or ""):
            _no_key()
        return lambda: None


class Chat:
    """Mistral's chat completions."""

    def __init__(self, client: Mistral) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<Chat of {self._client!r}>"

    if not TYPE_CHECKING:  # for type checkers, no other attribute exists

        def __getattr__(self, name: str) -> NoReturn:
            raise_missing(self, "chat", name, CHAT_ATTRIBUTES)

    def stream(
        self,
        *,
        model: str,
        messages: Iterable[AnyMessage],
        server_url: str | None = None,
        timeout_ms: float | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | RetryConfig | UnsetType | None = UNSET,
        resume: Resume | UnsetType | None = UNSET,
        limit: Limit | UnsetType | None = UNSET,
        retries: Retry | RetryConfig | UnsetType | None = UNSET,
        http_headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        **arguments: Unpack[ChatArguments],
    ) -> EventStream:
        """Ask; the answer is a cold Stream of `CompletionEvent`s.

        Nothing is sent before somebody reads, and each reader is a request of its own.
        A connection that was read to its end serves the next request.

        Args:
            model: The name of the model.
            messages: The conversation: structs, or mappings with a `role`.
            server_url: For this call, instead of the client's.
            timeout_ms: For this call, instead of the client's; milliseconds.
            timeouts, retry, resume, limit: For this call, instead of the client's; None
                turns off what the client has.
            retries: The official SDK's word for `retry`.
            http_headers: Headers to add or to replace.
            extra_body: Fields of the request that this version does not know.
            **arguments: The other fields of the request, such as `temperature`,
                `max_tokens` and `tools`; help(rxmistral.ChatArguments) describes each.

        Raises:
            TypeError, ValueError: An argument cannot be sent as it is; or there is no
                key. Nothing was sent.
        """
        policies = self._policies(timeout_ms, timeouts, retry, retries, resume, limit)
        return EventStream(
            self._call(model, messages, server_url, policies, http_headers, extra_body, arguments)
        )

    def stream_async(
        self,
        *,
        model: str,
        messages: Iterable[AnyMessage],
        server_url: str | None = None,
        timeout_ms: float | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | RetryConfig | UnsetType | None = UNSET,
        resume: Resume | UnsetType | None = UNSET,
        limit: Limit | UnsetType | None = UNSET,
        retries: Retry | RetryConfig | UnsetType | None = UNSET,
        http_headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        **arguments: Unpack[ChatArguments],
    ) -> EventStreamAsync:
        """The same for programs that await: `await` opens the Stream and gives it, and
        so does `async with`; `async for` reads it in any case.

        Args: as for `stream`.
        """
        policies = self._policies(timeout_ms, timeouts, retry, retries, resume, limit)
        return EventStreamAsync(
            self._call(model, messages, server_url, policies, http_headers, extra_body, arguments)
        )

    def _call(
        self,
        model: str,
        messages: Iterable[AnyMessage],
        server_url: str | None,
        policies: Policies,
        http_headers: Mapping[str, str] | None,
        extra_body: Mapping[str, object] | None,
        arguments: ChatArguments,
    ) -> Call:
        client = self._client
        url = (_base_url(server_url) if server_url else client._server_url) + _PATH
        headers = _merged_headers(http_headers)
        given = next((headers[name] for name in headers if name.lower() == "authorization"), None)
        return Call(
            model=model,
            url=url,
            headers=headers,
            body=encode_body(model, messages, arguments, extra_body),
            echo="",
            authorize=client._authorize(url) if given is None else lambda: given,
            session=client._session,
            accept_clean_end=client._accept_clean_end,
            max_event_bytes=client._max_event_bytes,
            reader=client._reader,
            policies=policies,
            embedded=client._embedded,
        )

    def _policies(
        self,
        timeout_ms: float | None,
        timeouts: Timeouts | None,
        retry: Retry | RetryConfig | UnsetType | None,
        retries: Retry | RetryConfig | UnsetType | None,
        resume: Resume | UnsetType | None,
        limit: Limit | UnsetType | None,
    ) -> Policies:
        client = self._client._policies
        again = _either("retry", retry, "retries", retries, UNSET)
        return Policies(
            timeouts=_timeouts(timeouts, timeout_ms, client.timeouts),
            retry=client.retry if again is UNSET else as_retry(again),
            resume=client.resume if resume is UNSET else _checked("resume", resume, Resume),
            limit=client.limit if limit is UNSET else _checked("limit", limit, Limit),
        )


# --- what a client may be told ---------------------------------------------------


def _server(name: str | None) -> str:
    url = os.environ.get(SERVER_URL_VARIABLE, "").strip()
    if url and not name:
        return _base_url_of_environment(url)
    try:
        return SERVERS[name or "global"]
    except KeyError:
        raise ValueError(f"server must be one of {', '.join(SERVERS)}, got {name!r}") from None


def _base_url_of_environment(url: str) -> str:
    try:
        return _base_url(url)
    except ValueError as error:
        raise ValueError(f"{SERVER_URL_VARIABLE} in the environment: {error}") from None


# The path is added to a base, which many an SDK is given with it.
_ENDING = re.compile(r"(/v1(/chat/completions)?)?/*$")


def _base_url(url: object) -> str:
    if not isinstance(url, str):
        raise TypeError(f"server_url must be a str, got {type(url).__name__}")
    shown = without_secrets(url)
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"server_url must begin with http:// or https:// and a host, got {shown!r}"
        )
    if not url.isprintable() or " " in url:
        raise ValueError(
            f"server_url must not contain white space, got {shown!r} with it; take it out"
        )
    if "@" in parts.netloc:
        raise ValueError(
            f"server_url must not contain a user name or password, got {shown!r} with them; "
            "give them as the auth of a session: Mistral(session=...)"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            f"server_url must not contain a query or fragment, got {shown!r} with one; "
            "give a query as the params of a session: Mistral(session=...)"
        )
    return _ENDING.sub("", url)


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is not one
    except ValueError:
        return None
    return parts


def _timeouts(timeouts: object, timeout_ms: object, otherwise: Timeouts) -> Timeouts:
    if timeout_ms is None:
        return _checked("timeouts", timeouts, Timeouts) or otherwise
    if timeouts is not None:
        raise ValueError("give timeouts or timeout_ms, not both")
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, (int, float)):
        raise TypeError(f"timeout_ms must be a number, got {type(timeout_ms).__name__}")
    if not (timeout_ms > 0 and math.isfinite(timeout_ms)):
        raise ValueError(f"timeout_ms must be finite and more than 0, got {timeout_ms!r}")
    return replace(otherwise, first=timeout_ms / 1000, gap=timeout_ms / 1000)


def _checked(name: str, value: object, kind: type[T]) -> T | None:
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")
    return value


def _either(name: str, value: T, alias: str, other: T, absent: object) -> T:
    """A value that may be given by either of two names."""
    if other is absent:
        return value
    if value is not absent:
        raise ValueError(f"give {name} or {alias}, not both")
    return other


def _no_key() -> str:
    raise ValueError(
        f"there is no API key: give Mistral(api_key=...) or set {KEY_VARIABLE} in the environment; "
        "only a server_url on this machine needs none"
    )


_KEY = re.compile(r"[\x21-\x7e]+")


def _authorization(key: object) -> str:
    # The messages must not show the key, which may be right but for a blank in it.
    if not isinstance(key, str):
        raise TypeError(f"api_key must be a str or a function, got {type(key).__name__}")
    token = key.strip().removeprefix("Bearer ").strip()
    if not token:
        _no_key()
    if not _KEY.fullmatch(token):
        raise ValueError(
            "the API key has characters that no key has: expected visible ASCII, "
            "got blanks, line ends or others; copy it again"
        )
    return f"Bearer {token}"


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_HEADER_VALUE = re.compile(r"(?![ \t])[\t\x20-\x7e\x80-\xff]*(?<![ \t])")  # RFC 9110, 5.5


def _merged_headers(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Ours and the caller's; names that differ in case only are the same header."""
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"http_headers must be a mapping, got {type(extra).__name__}")
    given = {name: _checked_header(name, value) for name, value in (extra or {}).items()}
    replaced = {name.lower() for name in given}
    return {name: value for name, value in _HEADERS.items() if name.lower() not in replaced} | given


def _checked_header(name: object, value: object) -> str:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            f"http_headers must map str to str, got {type(value).__name__} for {name!r}"
        )
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(
            f"http_headers cannot contain {name!r} as given: expected a token as the name of a header, "
            "and as its value latin-1 without line ends and without blanks at its ends"
        )
    return value
