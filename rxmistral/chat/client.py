"""Mistral, a client of the service, and Chat, which sends a call."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from os import PathLike
from textwrap import indent
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack, get_type_hints
from urllib.parse import urlsplit

from msgspec import UNSET, UnsetType
from reactivex import abc

from ..checks import check_callback
from ..outcome import Outcome
from ..rx.stream import Stream
from ..wire import MAX_EVENT_BYTES, check_max_bytes
from ..wire.reader import READERS, Reader, Session, blocks
from ..wire.sender import is_loopback
from ..wire.session import open_session
from ..wire.taps import Tap
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
from .request import AnyMessage, ChatArguments, encode_body
from .settings import (
    KEY_VARIABLE,
    Call,
    CallOptions,
    ClientOptions,
    Policies,
    StreamOptions,
    Telemetry,
    authorization,
    base_url,
    check_scheduler,
    check_telemetry,
    choose_server,
    either,
    merge_headers,
    merge_policies,
    raise_missing_key,
)

if TYPE_CHECKING:
    from ..demo import EmbeddedServer
    from .run import RunStream
    from .tool_runner import Approve

__version__ = "0.2.0"
__all__ = ["Chat", "Mistral"]

_PATH = "/v1/chat/completions"
_HEADERS = {
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",  # compression delays tokens
    "Content-Type": "application/json",
    "User-Agent": f"rxmistral/{__version__} (Python {sys.version_info.major}.{sys.version_info.minor})",
}


class Mistral:
    """A client of Mistral's chat completions, or of any server with the same endpoint.

    ```python
    with Mistral() as client:
        for token in client.chat.stream(model=..., messages=[...]).pipe(text()):
            print(token, end="", flush=True)
    ```

    One client serves many threads and event loops at once. Leaving the `with` block
    closes the idle connections; without a block they are closed with the last reference.

    Args:
        api_key: The key, or a function that returns it and is called before each request.
            None or "": the authorization of the `session`, else the environment variable
            MISTRAL_API_KEY.
        server: "global", "eu" or "us". None: "global".
        server_url: The base URL of any server with the same endpoint; it overrides `server`.
            The path `/v1/chat/completions` is added, unless the URL ends in it or in `/v1`.
            A server on this machine needs no key. If neither `server` nor `server_url` is
            given, the environment variable MISTRAL_SERVER_URL is used.
        timeout_ms: Milliseconds that the server may be silent, both before and after the
            first text: sets `first` and `gap` of `timeouts`. None: as `timeouts` specifies.
        timeouts: How long to wait, in seconds. None: `Timeouts()`, which waits 10 s for a
            connection, 60 s for the first text and 60 s for each further one.
        retry: How to repeat a request that produced nothing; the official SDK's
            `RetryConfig` is accepted. None: never.
        resume: How to continue an answer that broke. None: never.
        limit: How many streams may run at once, and how many requests may be sent per
            minute. None: no limit.
        retry_config: The official SDK's name for `retry`.
        session: A `requests.Session` of yours; its proxies, certificates, adapters, hooks,
            cookies, `params` and `headers` are used, and it is never closed or changed,
            apart from its cookies and idle connections. Its `auth` or `Authorization`
            header is sent if no `api_key` is given, and overrides MISTRAL_API_KEY. The
            timeouts of the client replace its own, also between the retries of an adapter.
            None: a session that belongs to the client.
        accept_clean_end: Whether a body that ends cleanly after any text, thinking or tool
            call completes the answer, for servers that send neither a finish_reason nor
            `[DONE]`. False: it raises `IncompleteStreamError`.
        max_event_bytes: The largest event accepted, in bytes; by default 16 MiB.
        reader: The thread that reads an answer and runs the operators and callbacks of its
            pipe. "shared": one thread reads all answers; a callback that blocks it delays
            the others by about 0.15 s; they then continue on another thread. `async for` and
            `await` read on their own event loop, which a callback that blocks would block.
            "thread": each answer has its own thread, at twice the CPU and memory.
            None: "shared", but "thread" on Windows.
        scheduler: The scheduler whose timers are the timeouts and the waits of the policies, such
            as a `TestScheduler`: a test of a long wait then takes no time (see
            `rxmistral.testing.scripted_client`). With a server, only those follow a virtual
            scheduler, and any thread may set its timers. None: real time.
        on_outcome: Called once with the `Outcome` of each answer, whatever its ending and however
            it was read, on the thread that ends it. What it raises is logged. None: nothing is
            called. The logger "rxmistral" shows each step of an answer at level DEBUG.
        telemetry: Traces and measures the answers and tool calls: `OpenTelemetry()` of
            `rxmistral.telemetry`. None: nothing does.
        record: A file to append each exchange to, for `rxmistral.testing.replay`. An exchange in
            which the key occurs is skipped, with a warning. None: nothing is recorded.

    Attributes:
        chat: The chat completions: `client.chat.stream(...)` sends a call.

    Raises:
        TypeError, ValueError: An argument cannot be used; the message names it.
    """

    _embedded: EmbeddedServer | None = None
    _open_blocks: Callable[..., Stream[bytes]] = staticmethod(blocks)

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
        record: str | PathLike[str] | None = None,
        scheduler: abc.SchedulerBase | None = None,
        on_outcome: Callable[[Outcome], object] | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        if callable(api_key):
            check_callback("api_key", api_key)
        elif api_key is not None and api_key != "":
            authorization(api_key)
        if session is not None and not isinstance(session, Session):
            raise TypeError(f"session must be a requests.Session, got {type(session).__name__}")
        check_max_bytes(max_event_bytes)
        if reader is not None and reader not in READERS:
            raise ValueError(f"reader must be one of {', '.join(READERS)}, got {reader!r}")
        self._api_key = api_key
        self._server_url = choose_server(server, server_url)
        self._policies = merge_policies(
            Policies(Timeouts(), None, None, None),
            timeouts=timeouts,
            timeout_ms=timeout_ms,
            retry=either("retry", retry, "retry_config", retry_config, None),
            resume=resume,
            limit=limit,
        )
        self._own_session = session is None
        self._session = session or open_session()
        self._accept_clean_end = accept_clean_end
        self._max_event_bytes = max_event_bytes
        self._reader: Reader | None = reader
        self._scheduler = check_scheduler(scheduler)
        if on_outcome is not None:
            check_callback("on_outcome", on_outcome)
        self._on_outcome = on_outcome
        if telemetry is not None:
            check_telemetry(telemetry)
        self._telemetry = telemetry
        self._tap: Tap | None = None
        if record is not None:  # by name: other programs do not load the module
            recorder = import_module("..testing.recorder", __package__)
            self._tap = recorder.ClientRecorder(record)
        self.chat = Chat(self)

    @classmethod
    @hinted("Mistral.demo", DEMO_ARGUMENTS)
    def demo(cls, **options: Unpack[ClientOptions]) -> Self:
        """Returns a client of a demo server in this process; it needs no key and no network.

        The demo server streams a short text about itself, at the pace of a model. It has
        special answers to "Count to five.", "Count forever.", "Say hello.", "Fail.",
        "Give me a recipe for crêpes." and "Show me Markdown."; if it receives tools, it calls the
        first one at "What time is it?" and all of them at "Use your tools.", without arguments.
        `python -m rxmistral --serve` runs it alone.

        Leaving the `with` block of the client closes the server and cuts the answers that it
        is still sending. Without a block, the server is closed with the last reference to
        the client and to its streams, or when the interpreter exits.

        Args:
            **options: The arguments of `Mistral`, except `server` and `server_url`.

        >>> with Mistral.demo() as client:
        ...     answer = client.chat.stream(
        ...         model="any", messages=[{"role": "user", "content": "Say hello."}]
        ...     )
        ...     [event.data.choices[0].delta.content for event in answer]
        ['', 'Hel', 'lo', '']
        """
        # By name: a program without a demo server does not load the module.
        embedded: EmbeddedServer = import_module("..demo", __package__).EmbeddedServer()
        options.setdefault("api_key", "demo")  # not the key in the environment
        client = cls(server_url=embedded.url, **options)
        client._embedded = embedded
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}(server_url={self._server_url!r})"

    if not TYPE_CHECKING:  # a type checker would accept any attribute

        def __getattr__(self, name: str) -> NoReturn:
            raise_missing(self, "Mistral", name, CLIENT_ATTRIBUTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._own_session:
            self._session.close()
        if self._embedded is not None:
            self._embedded.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()

    def _authorize(self, url: str) -> Callable[[], str | None]:
        """Returns a function from the URL of a request to its Authorization header.

        The header is None if the session authorizes the request, or if a server on this machine
        needs no key.
        """
        key = self._api_key
        if callable(key):
            get_key = key
            return lambda: authorization(get_key() or raise_missing_key())
        authorizes_itself = self._session.auth or "Authorization" in self._session.headers
        key = key or (None if authorizes_itself else os.environ.get(KEY_VARIABLE))
        if key:
            header = authorization(key)
            return lambda: header
        if not authorizes_itself and not is_loopback(urlsplit(url).hostname or ""):
            raise_missing_key()
        return lambda: None


class Chat:
    """The chat completions of a client: `client.chat`."""

    def __init__(self, client: Mistral) -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<Chat of {self._client!r}>"

    if not TYPE_CHECKING:  # a type checker would accept any attribute

        def __getattr__(self, name: str) -> NoReturn:
            raise_missing(self, "chat", name, CHAT_ATTRIBUTES)

    # The type checkers and `_document_options` expand the options.
    def stream(
        self, *, model: str, messages: Iterable[AnyMessage], **options: Unpack[StreamOptions]
    ) -> EventStream:
        """Returns the answer to a conversation: a cold Stream of `CompletionEvent`s.

        Nothing is sent before the Stream is read. Each subscription, loop or `run()` sends a
        request of its own: reading twice costs twice, and returns two different answers. Within
        `with` (or `async with`), everything that reads the Stream shares one request. A
        connection that was read to its end serves the next request.

        Args:
            model: The name of the model.
            messages: The conversation: structs such as `UserMessage`, or mappings with a
                `role`.
            server_url: The base URL of the server. None: the client's.
            timeout_ms: Milliseconds that the server may be silent. None: as `timeouts`.
            timeouts: How long to wait, in seconds. None: as the client.
            retry: How to repeat a request that produced nothing. None: never; not given: as
                the client.
            resume: How to continue an answer that broke. None: never; not given: as the
                client.
            limit: The limit of concurrent streams and of requests per minute. None: no limit;
                not given: the client's.
            retries: The official SDK's name for `retry`.
            http_headers: Headers to add to the request or to replace. None: none.
            extra_body: Fields of the request that this version does not know. None: none.
            **arguments: Any field of the request, such as `temperature`, `max_tokens` and
                `tools`; help(rxmistral.ChatArguments) describes each.

        Raises:
            TypeError, ValueError: An argument cannot be sent as it is, or there is no key.
                Nothing was sent.
        """
        return EventStream(self._call(model, messages, options))

    def stream_async(
        self, *, model: str, messages: Iterable[AnyMessage], **options: Unpack[StreamOptions]
    ) -> EventStreamAsync:
        """Returns the answer to a conversation, for programs that await.

        `await` and `async with` send the request, wait for the headers of the answer, and
        return the Stream; `async for` reads it. The arguments are those of `stream`.
        """
        return EventStreamAsync(self._call(model, messages, options))

    def run(
        self,
        *,
        model: str,
        messages: Iterable[AnyMessage],
        max_rounds: int = 10,
        max_concurrency: int = 8,
        approve: Approve | None = None,
        **options: Unpack[StreamOptions],
    ) -> RunStream:
        """Returns a run of answers and tool calls, until an answer has no calls: a cold Stream.

        Each round sends a request, emits the parts of its answer, and calls the tools that
        the model asks for, in parallel. Plain functions run on threads; coroutine functions
        run on the event loop of the subscriber, or without one on one of the run. The last
        item of an Observable or an async generator is the result, the others are
        `ToolProgress`. A `ToolError`, an unknown tool and wrong arguments are reported to the
        model; any other exception ends the run.

        Args:
            model: The name of the model.
            messages: The conversation, as in `stream`.
            max_rounds: The largest number of requests; default 10. If the last answer still
                has calls, they do not run, and the run ends with a `RoundLimitError`.
            max_concurrency: The largest number of calls that run at a time; default 8.
            approve: Called with each `ToolCall` before it runs: a plain function, on a
                thread, or a coroutine function. It returns True, or else False or a reason,
                which is reported to the model. None: all calls run.
            **options: The options of `stream`, which apply to each round. Of the `tools`,
                those without a function end the run: the program answers their calls, which
                are in `.outcome.tool_calls`, and open at the end of `.messages`.

        Raises:
            TypeError, ValueError: An argument cannot be used, or two tools have the same name.
        """
        # By name: a program without tools does not load the module.
        new_run = import_module(".run", __package__).new_run
        limits = (max_rounds, max_concurrency)
        run: RunStream = new_run(self._call, model, messages, options, *limits, approve)
        return run

    def _call(self, model: str, messages: Iterable[AnyMessage], options: StreamOptions) -> Call:
        client = self._client
        retries = options.get("retries", UNSET)
        policies = merge_policies(
            client._policies,
            timeouts=options.get("timeouts"),
            timeout_ms=options.get("timeout_ms"),
            retry=either("retry", options.get("retry", UNSET), "retries", retries, UNSET),
            resume=options.get("resume", UNSET),
            limit=options.get("limit", UNSET),
        )
        server_url = options.get("server_url")
        url = (base_url(server_url) if server_url else client._server_url) + _PATH
        headers = merge_headers(_HEADERS, options.get("http_headers"))
        given = next((headers[name] for name in headers if name.lower() == "authorization"), None)
        fields = {name: value for name, value in options.items() if name not in _CALL_OPTIONS}
        return Call(
            model=model,
            url=url,
            headers=headers,
            body=encode_body(model, messages, fields, options.get("extra_body")),
            echo="",
            authorize=client._authorize(url) if given is None else lambda: given,
            session=client._session,
            accept_clean_end=client._accept_clean_end,
            max_event_bytes=client._max_event_bytes,
            reader=client._reader,
            policies=policies,
            tap=client._tap,
            scheduler=client._scheduler,
            on_outcome=client._on_outcome,
            telemetry=client._telemetry,
            open_blocks=client._open_blocks,
            embedded=client._embedded,
        )


_CALL_OPTIONS = get_type_hints(CallOptions)


def _document_options() -> None:
    """Expands the options of `stream` and `stream_async` for `help()` and `inspect`."""
    expanded = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=UNSET if UnsetType in hint.__args__ else None,
            annotation=CallOptions.__annotations__[name].__forward_arg__,
        )
        for name, hint in _CALL_OPTIONS.items()
    ]
    fields = inspect.Parameter(
        "arguments", inspect.Parameter.VAR_KEYWORD, annotation="Unpack[ChatArguments]"
    )
    request_fields = inspect.cleandoc(ChatArguments.__doc__ or "").partition("Attributes:\n")[2]
    text, raises, errors = inspect.cleandoc(Chat.stream.__doc__ or "").partition("\n\nRaises:")
    text = "".join((text, "\n", indent(request_fields, "    "), raises, errors))
    methods: list[Any] = [Chat.stream, Chat.stream_async]
    for method in methods:
        signature = inspect.signature(method)
        named = [*signature.parameters.values()][:-1]
        method.__signature__ = signature.replace(parameters=[*named, *expanded, fields])
        own_text = inspect.cleandoc(method.__doc__ or "").partition("\n\nArgs:")[0]
        method.__doc__ = own_text + "".join(text.partition("\n\nArgs:")[1:])


_document_options()
