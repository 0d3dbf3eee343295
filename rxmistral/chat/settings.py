"""The settings of a client and of one call: checked, and merged with their defaults.

    environment ──▶ Mistral(...) ──▶ chat.stream(...)
                    the later one wins

Everything that is wrong is refused at the call that names it, before any request.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from os import PathLike
from typing import NoReturn, Protocol, TypedDict, TypeVar, cast, runtime_checkable
from urllib.parse import urlsplit

from msgspec import UNSET, UnsetType
from reactivex import abc
from reactivex.scheduler import ImmediateScheduler, TrampolineScheduler

from ..checks import check_seconds
from ..error_report import without_secrets
from ..models import ToolCall
from ..outcome import Outcome
from ..rx.stream import Stream
from ..wire.reader import Reader, Session, blocks
from ..wire.taps import Tap
from .policies import Limit, Resume, Retry, RetryConfig, Timeouts
from .policies.retry import as_retry
from .request import ChatArguments

__all__ = [
    "KEY_VARIABLE",
    "SERVERS",
    "SERVER_URL_VARIABLE",
    "AnswerSpan",
    "Call",
    "CallOptions",
    "ClientOptions",
    "Policies",
    "StreamOptions",
    "Telemetry",
    "authorization",
    "base_url",
    "check_scheduler",
    "check_telemetry",
    "choose_server",
    "either",
    "merge_headers",
    "merge_policies",
    "raise_missing_key",
]

T = TypeVar("T")

SERVERS = {
    "global": "https://api.mistral.ai",
    "eu": "https://api.eu.mistral.ai",
    "us": "https://api.us.mistral.ai",
}
KEY_VARIABLE = "MISTRAL_API_KEY"
SERVER_URL_VARIABLE = "MISTRAL_SERVER_URL"


class ClientOptions(TypedDict, total=False):
    """The arguments of `Mistral` that do not choose a server."""

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
    record: str | PathLike[str] | None
    scheduler: abc.SchedulerBase | None
    on_outcome: Callable[[Outcome], object] | None
    telemetry: Telemetry | None


class CallOptions(TypedDict, total=False):
    """The options of `chat.stream` on how a request is sent."""

    server_url: str | None
    timeout_ms: float | None
    timeouts: Timeouts | None
    retry: Retry | RetryConfig | UnsetType | None
    resume: Resume | UnsetType | None
    limit: Limit | UnsetType | None
    retries: Retry | RetryConfig | UnsetType | None
    http_headers: Mapping[str, str] | None
    extra_body: Mapping[str, object] | None


class StreamOptions(CallOptions, ChatArguments, total=False):
    """The options of `chat.stream`."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a call: its waits, repetitions, continuations and limits."""

    timeouts: Timeouts
    retry: Retry | None
    resume: Resume | None
    limit: Limit | None


@dataclass(frozen=True, slots=True, repr=False)  # its headers may contain a key
class Call:
    """The request of one call, and how to send it."""

    model: str
    url: str
    headers: dict[str, str]
    body: bytes
    echo: str  # the text that the body ends in, which the answer may repeat
    authorize: Callable[[], str | None]
    session: Session
    accept_clean_end: bool
    max_event_bytes: int
    reader: Reader | None
    policies: Policies
    tap: Tap | None = None
    scheduler: abc.SchedulerBase | None = None  # of the waits and timeouts; None: real time
    on_outcome: Callable[[Outcome], object] | None = None
    telemetry: Telemetry | None = None
    conversation_id: str | None = None  # for the telemetry
    open_blocks: Callable[..., Stream[bytes]] = blocks  # or a source without sockets
    embedded: object = None  # the demo server, which must outlive every request of this call


class AnswerSpan(Protocol):
    """An observer of one answer, called from any thread; its methods must not raise."""

    def sending(self) -> AbstractContextManager[object]:
        """Returns the context in which a thread sends a request of the answer."""
        ...

    def end(self, outcome: Outcome, seconds: float, outputs: int) -> None:
        """Ends the span; called once, when the answer ends.

        Args:
            outcome: How the answer ended.
            seconds: Seconds from the subscription to the end.
            outputs: The number of pieces of text, thinking and tool calls that were received.
        """


@runtime_checkable
class Telemetry(Protocol):
    """An observer of the answers and tools of a client; its methods must not raise."""

    def start_answer(self, call: Call) -> AnswerSpan:
        """Starts the observation of an answer, in the context of its subscriber."""
        ...

    def execute_tool(self, call: ToolCall) -> AbstractContextManager[object]:
        """Returns the context in which a tool runs; entered in a task that runs only this call."""
        ...


def check_telemetry(value: object) -> None:
    """Raises TypeError unless the value is a Telemetry."""
    if isinstance(value, type):  # a class has the methods, too
        raise TypeError("telemetry must be an OpenTelemetry, got a class; give OpenTelemetry()")
    if not isinstance(value, Telemetry):
        raise TypeError(f"telemetry must be an OpenTelemetry, got {type(value).__name__}")


# --- the server ------------------------------------------------------------------


def choose_server(name: str | None, server_url: str | None) -> str:
    """Returns the base URL of a client: from its arguments, else from the environment."""
    if server_url:
        return base_url(server_url)
    url = os.environ.get(SERVER_URL_VARIABLE, "").strip()
    if url and not name:
        try:
            return base_url(url)
        except ValueError as error:
            raise ValueError(f"{SERVER_URL_VARIABLE} in the environment: {error}") from None
    try:
        return SERVERS[name or "global"]
    except KeyError:
        raise ValueError(f"server must be one of {', '.join(SERVERS)}, got {name!r}") from None


# Many SDKs expect a base URL that includes this part of the path.
_PATH_SUFFIX = re.compile(r"(/v1(/chat/completions)?)?/*$")


def base_url(url: object) -> str:
    """Returns the part of a server's URL to which the path of the endpoint is added.

    The error for any other URL does not show its password or query.
    """
    if not isinstance(url, str):
        raise TypeError(f"server_url must be a str, got {type(url).__name__}")
    shown = without_secrets(url)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if the port is not a number
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"server_url must begin with http:// or https:// and a host, got {shown!r}"
        )
    if not url.isprintable() or " " in url:
        raise ValueError(f"server_url must not contain white space, got {shown!r}; remove it")
    if "@" in parts.netloc:
        raise ValueError(
            f"server_url must not contain a user name or password, got {shown!r} with them; "
            "pass them as the auth of a session: Mistral(session=...)"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            f"server_url must not contain a query or fragment, got {shown!r} with one; "
            "pass a query as the params of a session: Mistral(session=...)"
        )
    return _PATH_SUFFIX.sub("", url)


# --- the policies ----------------------------------------------------------------


def merge_policies(
    default: Policies,
    *,
    timeouts: object,
    timeout_ms: object,
    retry: object,
    resume: object,
    limit: object,
) -> Policies:
    """Returns the policies of a client or a call; UNSET stands for the default."""
    return Policies(
        timeouts=_merge_timeouts(timeouts, timeout_ms, default.timeouts),
        retry=default.retry if retry is UNSET else as_retry(retry),
        resume=default.resume if resume is UNSET else _check_type("resume", resume, Resume),
        limit=default.limit if limit is UNSET else _check_type("limit", limit, Limit),
    )


def _merge_timeouts(timeouts: object, timeout_ms: object, default: Timeouts) -> Timeouts:
    if timeout_ms is None:
        return _check_type("timeouts", timeouts, Timeouts) or default
    if timeouts is not None:
        raise ValueError("give timeouts or timeout_ms, not both")
    check_seconds("timeout_ms", timeout_ms, "milliseconds")
    seconds = cast("float", timeout_ms) / 1000
    return replace(default, first=seconds, gap=seconds)


def _check_type(name: str, value: object, expected: type[T]) -> T | None:
    """Returns the value of an optional argument; raises TypeError if its type is wrong."""
    if value is not None and not isinstance(value, expected):
        raise TypeError(f"{name} must be a {expected.__name__}, got {type(value).__name__}")
    return value


def check_scheduler(scheduler: object) -> abc.SchedulerBase | None:
    """Returns the scheduler of a client.

    Raises:
        TypeError: The argument is not a scheduler.
        ValueError: The timers of the scheduler block the thread that sets them.
    """
    if scheduler is not None and not isinstance(scheduler, abc.SchedulerBase):
        raise TypeError(f"scheduler must be a reactivex scheduler, got {type(scheduler).__name__}")
    if isinstance(scheduler, TrampolineScheduler | ImmediateScheduler):
        raise ValueError(
            f"a {type(scheduler).__name__} blocks the thread that waits; "
            "expected a TimeoutScheduler, or a VirtualTimeScheduler in a test"
        )
    return scheduler


def either(name: str, value: T, alias: str, alias_value: T, absent: object) -> T:
    """Returns the value of an argument that has two names, of which one may be used."""
    if alias_value is absent:
        return value
    if value is not absent:
        raise ValueError(f"give {name} or {alias}, not both")
    return alias_value


# --- the key and the headers -----------------------------------------------------

_KEY = re.compile(r"[\x21-\x7e]+")


def authorization(key: object) -> str:
    """Returns the Authorization header for a key.

    The error for anything else does not show the value, as it may be the right key with a blank
    in it.
    """
    if not isinstance(key, str):
        raise TypeError(f"api_key must be a str or a function, got {type(key).__name__}")
    token = key.strip().removeprefix("Bearer ").strip()
    if not token:
        raise_missing_key()
    if not _KEY.fullmatch(token):
        raise ValueError(
            "the API key has characters that no key has: expected visible ASCII, "
            "got blanks, line ends or others; copy it again"
        )
    return f"Bearer {token}"


def raise_missing_key() -> NoReturn:
    raise ValueError(
        f"there is no API key: give Mistral(api_key=...) or set {KEY_VARIABLE} in the environment; "
        "only a server_url on this machine needs none"
    )


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2: token
_HEADER_VALUE = re.compile(r"(?![ \t])[\t\x20-\x7e\x80-\xff]*(?<![ \t])")  # RFC 9110, 5.5


def merge_headers(default: Mapping[str, str], given: object) -> dict[str, str]:
    """Returns the default headers, of which those given replace any of the same name.

    RFC 9110, 5.1: "Field names are case-insensitive".
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"http_headers must be a mapping, got {type(given).__name__}")
    headers = dict(_check_header(name, value) for name, value in (given or {}).items())
    replaced = {name.lower() for name in headers}
    kept = {name: value for name, value in default.items() if name.lower() not in replaced}
    return kept | headers


def _check_header(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            f"http_headers must map str to str, got {type(value).__name__} for {name!r}"
        )
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError(
            f"http_headers contains {name!r}, which cannot be sent as a header: expected a token "
            "as its name, and latin-1 without line ends and outer blanks as its value"
        )
    return name, value
