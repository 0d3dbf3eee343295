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
    "base_url": _SERVER_URL,
    "endpoint": _SERVER_URL,
    "url_params": _SERVER_URL,
    "timeout": _TIMEOUTS,
    "max_retries": _RETRY,
    "retries": _RETRY,
    "organization": _ACCOUNT,
    "project": _ACCOUNT,
    "default_headers": _HEADERS,
    "headers": _HEADERS,
    "http_headers": _HEADERS,
    "client": _SESSION,
    "async_client": _SESSION,
    "http_client": _SESSION,
    "proxies": _SESSION,
    "verify": _SESSION,
    "debug_logger": "logging.getLogger('urllib3') reports each request",
    "model": _OF_STREAM,
    "messages": _OF_STREAM,
    "temperature": _OF_STREAM,
}

_OWN_SERVER = "a demo client starts its own server; Mistral(...) connects to any other"
DEMO_ARGUMENTS = CLIENT_ARGUMENTS | {"server": _OWN_SERVER, "server_url": _OWN_SERVER}

STREAM_ARGUMENTS = {
    "timeout": _TIMEOUTS,
    "max_retries": _RETRY,
    "retry_config": "rxmistral's word for it is retry",
    "base_url": _SERVER_URL,
    "api_key": "it belongs to Mistral(...)",
    "extra_headers": "rxmistral's word for it is http_headers",
    "headers": "rxmistral's word for it is http_headers",
    "accept_header_override": "rxmistral's word for it is http_headers",
    "extra_query": "the endpoint has no query; a newer field goes in extra_body",
    "stream_options": "Mistral sends the usage without it: pipe(usage()) returns it",
    "prompt": "give messages=[UserMessage(content=...)]",
    "input": "give messages=[UserMessage(content=...)]",
    "system": "give messages=[SystemMessage(content=...), ...]",
    "response_model": "give response_format=T, and pipe(text(), parsed(T)) returns the value",
    "text_format": "give response_format=T, and pipe(text(), parsed(T)) returns the value",
    "callbacks": "chat.stream(...).subscribe(on_next, on_error, on_completed) calls them",
    "seed": "Mistral's word for it is random_seed",
    "max_completion_tokens": "Mistral's word for it is max_tokens",
    "max_output_tokens": "Mistral's word for it is max_tokens",
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
    "parse_stream": _GROWING,
    "parse_stream_async": _GROWING,
    "completions": _STREAM,
    "create": _STREAM,
    "stream_raw": _STREAM,
}

_ELSEWHERE = "rxmistral streams chat completions; mistralai has the rest of the service"
CLIENT_ATTRIBUTES = {
    "complete": f"client.{_STREAM}",
    "stream": f"client.{_STREAM}",
    "chat_stream": f"client.{_STREAM}",
    "completions": f"client.{_STREAM}",
    "responses": f"client.{_STREAM}",
    "messages": f"client.{_STREAM}",
    "close": "leaving `with Mistral(...) as client:` closes the client",
    "aclose": "leaving `async with Mistral(...) as client:` closes the client",
    "agents": _ELSEWHERE,
    "audio": _ELSEWHERE,
    "batch": _ELSEWHERE,
    "beta": _ELSEWHERE,
    "classifiers": _ELSEWHERE,
    "embeddings": _ELSEWHERE,
    "files": _ELSEWHERE,
    "fim": _ELSEWHERE,
    "fine_tuning": _ELSEWHERE,
    "models": _ELSEWHERE,
    "ocr": _ELSEWHERE,
}


def hinted(called: str, hints: Mapping[str, str]) -> Callable[[F], F]:
    """Returns a decorator that refuses some keyword arguments with a hint.

    It does not change the signature that `help()` and type checkers show.

    Args:
        called: The name of the decorated function, for the message.
        hints: The hint for each name.
    """

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
    """Raises the AttributeError for a missing attribute, with a hint if there is one."""
    hint = hints.get(name)
    message = f"{type(owner).__name__!r} object has no attribute {name!r}"
    raise AttributeError(
        message if hint is None else f"{called}.{name} is not here: {hint}", name=name, obj=owner
    )
