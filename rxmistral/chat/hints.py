"""The names that other SDKs use, and what to write instead.

A program that is ported from `openai` or `mistralai`, or a programmer who knows them, uses their
names first. The error for such a name contains rxmistral's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

__all__ = [
    "CHAT_ATTRIBUTES",
    "CLIENT_ARGUMENTS",
    "CLIENT_ATTRIBUTES",
    "DEMO_ARGUMENTS",
    "STREAM_ARGUMENTS",
    "hinted",
    "raise_missing",
    "unexpected",
]

F = TypeVar("F", bound=Callable[..., Any])

_SESSION = "pass a requests.Session with this setting as session"
_HEADERS = "give http_headers to chat.stream(...), or a session that has these headers"
_SERVER_URL = "rxmistral's word for it is server_url"
_TIMEOUTS = "give timeout_ms, or timeouts=Timeouts(first=..., gap=...) in seconds"
_RETRY = "give retry=Retry(attempts=...), which counts the first request too"
_ACCOUNT = "the key identifies the workspace: leave it out"
_OF_STREAM = "it belongs to chat.stream(...)"

CLIENT_ARGUMENTS = {
    **dict.fromkeys(("base_url", "endpoint", "url_params"), _SERVER_URL),
    "timeout": _TIMEOUTS,
    **dict.fromkeys(("max_retries", "retries"), _RETRY),
    **dict.fromkeys(("organization", "project"), _ACCOUNT),
    **dict.fromkeys(("default_headers", "headers", "http_headers"), _HEADERS),
    **dict.fromkeys(("client", "async_client", "http_client", "proxies", "verify"), _SESSION),
    "debug_logger": "logging.getLogger('urllib3') reports each request",
    **dict.fromkeys(("model", "messages", "temperature"), _OF_STREAM),
}

_OWN_SERVER = "a demo client starts its own server; Mistral(...) connects to any other"
DEMO_ARGUMENTS = CLIENT_ARGUMENTS | {"server": _OWN_SERVER, "server_url": _OWN_SERVER}

_HTTP_HEADERS = "rxmistral's word for it is http_headers"
_USER_MESSAGE = "give messages=[UserMessage(content=...)]"
_RESPONSE_FORMAT = "give response_format=T, and pipe(text(), parsed(T)) returns the value"
_MAX_TOKENS = "Mistral's word for it is max_tokens"
STREAM_ARGUMENTS = {
    "timeout": _TIMEOUTS,
    "max_retries": _RETRY,
    "retry_config": "rxmistral's word for it is retry",
    "base_url": _SERVER_URL,
    "api_key": "it belongs to Mistral(...)",
    **dict.fromkeys(("extra_headers", "headers", "accept_header_override"), _HTTP_HEADERS),
    "extra_query": "the endpoint has no query; a newer field goes in extra_body",
    "stream_options": "Mistral sends the usage without it: pipe(usage()) returns it",
    **dict.fromkeys(("prompt", "input"), _USER_MESSAGE),
    "system": "give messages=[SystemMessage(content=...), ...]",
    **dict.fromkeys(("response_model", "text_format"), _RESPONSE_FORMAT),
    "callbacks": "chat.stream(...).subscribe(on_next, on_error, on_completed) calls them",
    "seed": "Mistral's word for it is random_seed",
    **dict.fromkeys(("max_completion_tokens", "max_output_tokens"), _MAX_TOKENS),
    "stop_sequences": "Mistral's word for it is stop",
    "functions": "Mistral's word for it is tools",
    "function_call": "Mistral's word for it is tool_choice",
}

_STREAM = (
    "chat.stream(model=..., messages=[...]) sends the request and returns the answer as a Stream"
)
_WHOLE = "rxmistral streams; chat.stream(...).pipe(to_response()).run() returns the whole response"
_WHOLE_ASYNC = (
    "rxmistral streams; await chat.stream(...).pipe(to_response()) returns the whole response"
)
_PARSED = "chat.stream(..., response_format=T).pipe(text(), parsed(T)).run() returns the value"
_GROWING = "chat.stream(..., response_format=T).pipe(text(), partials(T)) emits the growing value"

CHAT_ATTRIBUTES = {
    "complete": _WHOLE,
    "complete_async": _WHOLE_ASYNC,
    "parse": _PARSED,
    "parse_async": _PARSED.replace("chat.stream", "await chat.stream").replace(".run()", ""),
    **dict.fromkeys(("parse_stream", "parse_stream_async"), _GROWING),
    **dict.fromkeys(("completions", "create", "stream_raw"), _STREAM),
}

_ELSEWHERE = "rxmistral streams chat completions; mistralai has the rest of the service"
_SERVICES = "agents audio batch beta classifiers embeddings files fim fine_tuning models ocr"
CLIENT_ATTRIBUTES = {
    **dict.fromkeys(
        ("complete", "stream", "chat_stream", "completions", "responses", "messages"),
        f"client.{_STREAM}",
    ),
    "close": "leaving `with Mistral(...) as client:` closes the client",
    "aclose": "leaving `async with Mistral(...) as client:` closes the client",
    **dict.fromkeys(_SERVICES.split(), _ELSEWHERE),
}


def hinted(called: str, hints: Mapping[str, str]) -> Callable[[F], F]:
    """Returns a decorator that refuses some keyword arguments with a hint, and does not change
    the signature that `help()` and type checkers show."""

    def decorate(function: F) -> F:
        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name in hints:
                    raise TypeError(unexpected(called, name, hints[name]))
            return function(*args, **kwargs)

        return cast(F, checked)

    return decorate


def unexpected(called: str, name: str, hint: str) -> str:
    """Returns the message of Python's TypeError for an unexpected argument, with a hint."""
    return f"{called}() got an unexpected keyword argument {name!r}; {hint}"


def raise_missing(owner: object, called: str, name: str, hints: Mapping[str, str]) -> NoReturn:
    hint = hints.get(name)
    message = f"{type(owner).__name__!r} object has no attribute {name!r}"
    raise AttributeError(
        message if hint is None else f"{called}.{name} is not here: {hint}", name=name, obj=owner
    )
