"""The client: the server, key and headers of a call, and the refusal of wrong arguments."""

from __future__ import annotations

import asyncio
import copy
import inspect
import re
import warnings
from typing import Any

import pytest
import requests
from faces import Face
from msgspec import UNSET

from rxmistral import (
    Chat,
    ChatArguments,
    EventStream,
    IncompleteStreamError,
    Mistral,
    MistralError,
    ProtocolError,
    StatusError,
    text,
)
from rxmistral.chat.client import __version__
from rxmistral.chat.settings import SERVERS, CallOptions
from rxmistral.testing import ScriptedServer, steps

HELLO = [steps.role(), "Hel", "lo", steps.finish(), steps.done()]
CALL: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MISTRAL_API_KEY", "MISTRAL_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)


def ask(client: Mistral, **more: Any) -> EventStream:
    return client.chat.stream(**CALL, **more)


def test_call_is_sent_to_the_endpoint_with_its_headers() -> None:
    with ScriptedServer(HELLO) as server, Mistral("k", server_url=server.url + "/") as client:
        assert list(ask(client).pipe(text())) == ["Hel", "lo"]
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["Authorization"] == "Bearer k"
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Accept-Encoding"] == "identity"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"].startswith(f"rxmistral/{__version__}")
    assert request.json == {**CALL, "stream": True}


@pytest.mark.parametrize("prefix", ["", "/", "/api", "/openai/deployments/v1beta", "/v1/mistral"])
@pytest.mark.parametrize(
    "ending", ["", "/", "/v1", "/v1/", "/v1//", "/v1/chat/completions", "/v1/chat/completions/"]
)
def test_path_is_not_added_to_a_url_that_ends_in_it(prefix: str, ending: str) -> None:
    prefix = prefix if ending.startswith("/") else prefix.rstrip("/")
    with ScriptedServer(HELLO, HELLO) as server:
        url = server.url + prefix.rstrip("/") + ending
        with Mistral(server_url=url) as client:
            ask(client).run()
            ask(client, server_url=url).run()
        path = prefix.rstrip("/") + "/v1/chat/completions"
        assert [request.path for request in server.requests] == [path, path]


@pytest.mark.parametrize("status", [404, 405])
def test_refusal_names_the_url_of_the_request(status: int, read: Face) -> None:
    with (
        ScriptedServer([steps.status(status)]) as server,
        Mistral(server_url=server.url + "/v2") as client,
    ):
        (error,) = (item for item in read(ask(client)) if item is not None)
    assert isinstance(error, StatusError)
    assert error.url == server.url + "/v2/v1/chat/completions"
    assert f"(an empty body) (asked {error.url}); check server_url" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@example.org/v1",
        "https://secret@example.org",
        "https://:secret@example.org",
        "https://me:sec/secret@example.org",
        "https://me:s?secret@example.org",
        "ftp://me:secret@example.org",
        "me:secret@example.org",
        "https://example.org/?key=secret",
        "https://example.org/#secret",
        "https://me:secret@example.org:port",
    ],
)
def test_url_with_a_secret_is_refused_without_showing_it(url: str) -> None:
    for refused in (
        lambda: Mistral("k", server_url=url),
        lambda: ask(Mistral("k"), server_url=url),
        lambda: Mistral("k").chat.stream_async(**CALL, server_url=url),
    ):
        with pytest.raises(ValueError, match="server_url must") as raised:
            refused()
        assert "secret" not in str(raised.value)
        assert "example.org" in str(raised.value)


def authorized(session: requests.Session, **options: Any) -> str | None:
    """Returns the authorization header that a request over a session is sent with."""
    headers = options.pop("http_headers", None)
    with ScriptedServer(HELLO) as server:
        with Mistral(server_url=server.url, session=session, **options) as client:
            ask(client, http_headers=headers).run()
        (sent,) = server.requests[0].headers.get_all("Authorization") or [None]
    return sent


def bearer(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    prepared.headers["Authorization"] = "Bearer of-the-session"
    return prepared


@pytest.mark.parametrize(
    ("auth", "sent"),
    [(("me", "secret"), "Basic bWU6c2VjcmV0"), (bearer, "Bearer of-the-session")],
)
def test_auth_of_the_session_is_sent_without_a_key(
    auth: Any, sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with requests.Session() as session:
        session.auth = auth
        assert authorized(session) == sent
        monkeypatch.setenv("MISTRAL_API_KEY", "from-the-environment")
        assert authorized(session) == sent
        assert authorized(session, api_key="given") == "Bearer given"
        assert authorized(session, api_key=lambda: "asked") == "Bearer asked"
        assert (
            authorized(session, http_headers={"authorization": "Of-the-call x"}) == "Of-the-call x"
        )
        assert session.auth is auth


def test_session_header_overrides_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "from-the-environment")
    with requests.Session() as session:
        session.headers["authorization"] = "Bearer of-the-session"
        assert authorized(session) == "Bearer of-the-session"
        assert authorized(session, api_key="given") == "Bearer given"


def test_session_with_auth_needs_no_key() -> None:
    with requests.Session() as session:
        client = Mistral(session=session)
        with pytest.raises(ValueError, match="MISTRAL_API_KEY"):
            ask(client)
        session.auth = ("me", "secret")
        ask(client)


def test_errors_do_not_show_the_auth_of_the_session(read: Face) -> None:
    body = '{"message": "no such key: key-of-the-session"}'
    scripts = [
        [steps.status(401, body=body)],
        [steps.role(), steps.raw(f"data: {body}\n\n".encode())],
    ]
    for script in scripts:
        with ScriptedServer(script) as server, requests.Session() as session:
            session.headers["Authorization"] = "Bearer key-of-the-session"
            with Mistral(server_url=server.url, session=session) as client:
                error = read(ask(client))[-1]
        assert isinstance(error, MistralError)
        assert "no such key" in str(error)
        assert "key-of-the-session" not in str(error) + repr(error)


@pytest.mark.parametrize(
    ("key", "sent"), [("k", "Bearer k"), ("Bearer k", "Bearer k"), (" k\n", "Bearer k")]
)
def test_key_is_sent_as_a_bearer_token_once(key: str, sent: str) -> None:
    with ScriptedServer(HELLO) as server, Mistral(key, server_url=server.url) as client:
        ask(client).run()
        assert server.requests[0].headers["Authorization"] == sent


def test_key_function_is_called_for_each_request() -> None:
    keys = iter(["first", "second"])
    with (
        ScriptedServer(HELLO, HELLO) as server,
        Mistral(lambda: next(keys), server_url=server.url) as client,
    ):
        stream = ask(client)
        stream.run()
        stream.run()
        assert [r.headers["Authorization"] for r in server.requests] == [
            "Bearer first",
            "Bearer second",
        ]


def test_error_of_a_key_function_ends_the_stream() -> None:
    def vault() -> str:
        raise LookupError("the vault is shut")

    with Mistral(vault) as client, pytest.raises(LookupError, match="vault"):
        ask(client).run()


def test_key_function_without_a_key_is_refused() -> None:
    with Mistral(lambda: None) as client, pytest.raises(ValueError, match="MISTRAL_API_KEY"):
        ask(client).run()


def test_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(HELLO) as server, Mistral(server_url=server.url) as client:
        monkeypatch.setenv("MISTRAL_API_KEY", "from-the-environment")
        ask(client).run()
        assert server.requests[0].headers["Authorization"] == "Bearer from-the-environment"


@pytest.mark.parametrize("url", [None, "https://example.org", "http://10.0.0.1:8000"])
def test_missing_key_is_refused_at_the_call(url: str | None) -> None:
    with Mistral(server_url=url) as client, pytest.raises(ValueError, match="MISTRAL_API_KEY"):
        ask(client)


def test_empty_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(HELLO) as server, Mistral("", server_url=server.url) as client:
        monkeypatch.setenv("MISTRAL_API_KEY", "from-the-environment")
        ask(client).run()
        assert server.requests[0].headers["Authorization"] == "Bearer from-the-environment"
    monkeypatch.delenv("MISTRAL_API_KEY")
    with Mistral("") as client, pytest.raises(ValueError, match="MISTRAL_API_KEY"):
        ask(client)


@pytest.mark.parametrize("key", [None, ""])
def test_server_on_this_machine_needs_no_key(key: str | None) -> None:
    with ScriptedServer(HELLO) as server, Mistral(key, server_url=server.url) as client:
        ask(client).run()
        assert "Authorization" not in server.requests[0].headers
    for url in ("http://localhost:1", "http://[::1]:1", "http://127.8.8.8", "http://a.localhost"):
        ask(Mistral(server_url=url))


def test_netrc_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedServer(HELLO, HELLO) as server:
        ask(Mistral("k", server_url=server.url)).run()
        ask(Mistral(server_url=server.url)).run()
        assert server.requests[0].headers["Authorization"] == "Bearer k"
        assert "Authorization" not in server.requests[1].headers


def test_key_overrides_the_header_of_the_session() -> None:
    with ScriptedServer(HELLO) as server, requests.Session() as session:
        session.headers["Authorization"] = "Bearer of the session"
        ask(Mistral("the-key", server_url=server.url, session=session)).run()
        assert server.requests[0].headers.get_all("Authorization") == ["Bearer the-key"]


def test_http_headers_replace_others_in_any_case() -> None:
    with ScriptedServer(HELLO) as server, Mistral(server_url=server.url) as client:
        ask(
            client, http_headers={"x-mine": "1", "user-agent": "me", "authorization": "Other x"}
        ).run()
        headers = server.requests[0].headers
    assert headers["x-mine"] == "1"
    assert headers.get_all("User-Agent") == ["me"]
    assert headers.get_all("Authorization") == ["Other x"]


def test_server_url_of_the_call_overrides_the_client() -> None:
    with ScriptedServer(HELLO) as server, Mistral("k", server="eu") as client:
        ask(client, server_url=server.url).run()
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("global", "https://api.mistral.ai"),
        ("eu", "https://api.eu.mistral.ai"),
        ("us", "https://api.us.mistral.ai"),
    ],
)
def test_server_names_have_their_urls(name: str, url: str) -> None:
    assert SERVERS[name] == url
    Mistral("k", server=name)


def test_environment_chooses_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(HELLO) as server:
        monkeypatch.setenv("MISTRAL_SERVER_URL", f" {server.url}/ ")
        with Mistral() as client:
            assert list(ask(client).pipe(text())) == ["Hel", "lo"]


@pytest.mark.parametrize("given", ["client", "call", "server"])
def test_arguments_override_the_environment(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_SERVER_URL", "http://127.0.0.1:9")
    with ScriptedServer(HELLO) as server:
        monkeypatch.setitem(SERVERS, "eu", server.url)
        client = {
            "client": lambda: Mistral("k", server_url=server.url),
            "call": lambda: Mistral("k"),
            "server": lambda: Mistral("k", server="eu"),
        }[given]()
        ask(client, **({"server_url": server.url} if given == "call" else {})).run()


@pytest.mark.parametrize("value", ["", " "])
def test_empty_server_in_the_environment_is_ignored(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_SERVER_URL", value)
    assert "https://api.mistral.ai" in repr(Mistral("k"))


@pytest.mark.parametrize("value", ["nowhere", "ftp://x", "http://x/?a=1"])
def test_wrong_server_in_the_environment_is_named(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_SERVER_URL", value)
    with pytest.raises(ValueError, match="MISTRAL_SERVER_URL in the environment: server_url"):
        Mistral("k")


def test_remote_server_in_the_environment_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_SERVER_URL", "https://example.org")
    with pytest.raises(ValueError, match="MISTRAL_API_KEY"):
        ask(Mistral())


def test_sequential_calls_use_one_connection() -> None:
    with ScriptedServer(*[HELLO] * 5) as server, Mistral(server_url=server.url) as client:
        for _ in range(5):
            ask(client).run()
        assert {request.connection for request in server.requests} == {0}


def test_leaving_the_client_closes_its_idle_connections() -> None:
    with ScriptedServer(HELLO) as server:
        with Mistral(server_url=server.url) as client:
            ask(client).run()
        assert server.wait_idle()


async def _use(client: Mistral) -> None:
    async with client:
        await client.chat.stream(**CALL)


def test_async_with_closes_the_idle_connections() -> None:
    with ScriptedServer(HELLO) as server:
        asyncio.run(_use(Mistral(server_url=server.url)))
        assert server.wait_idle()


def test_session_of_the_user_is_used_and_not_closed() -> None:
    with ScriptedServer(HELLO, HELLO) as server, requests.Session() as session:
        session.headers["x-session"] = "mine"
        adapters = dict(session.adapters)
        for _ in range(2):
            with Mistral(server_url=server.url, session=session) as client:
                ask(client).run()
        assert [r.headers["x-session"] for r in server.requests] == ["mine", "mine"]
        assert {r.connection for r in server.requests} == {0}
        assert dict(session.adapters) == adapters


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"api_key": 7}, TypeError, "api_key"),
    ({"api_key": "  "}, ValueError, "MISTRAL_API_KEY"),
    ({"server": "mars"}, ValueError, "global, eu, us"),
    ({"server_url": "api.mistral.ai"}, ValueError, "http"),
    ({"server_url": "ftp://x"}, ValueError, "http"),
    ({"server_url": "http://x/?a=1"}, ValueError, "query"),
    ({"server_url": "http://x/v1\n"}, ValueError, "white space"),
    ({"server_url": "http://x/v1 "}, ValueError, "white space"),
    ({"server_url": 7}, TypeError, "server_url"),
    ({"timeout_ms": 0}, ValueError, "timeout_ms"),
    ({"timeout_ms": -1}, ValueError, "timeout_ms"),
    ({"timeout_ms": "1"}, TypeError, "timeout_ms"),
    ({"timeout_ms": True}, TypeError, "timeout_ms"),
    ({"timeout_ms": float("inf")}, ValueError, "timeout_ms"),
    ({"timeout_ms": 10**400}, ValueError, "timeout_ms"),
    ({"session": object()}, TypeError, "session"),
]


@pytest.mark.parametrize(("given", "kind", "expected"), REFUSED)
def test_wrong_client_argument_is_refused(
    given: dict[str, Any], kind: type[Exception], expected: str
) -> None:
    with pytest.raises(kind, match=expected):
        Mistral(**given)


@pytest.mark.parametrize("key", ["with blank", "line\nend", "schlüssel", "tab\there"])
def test_bad_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        Mistral(key)
    assert key not in str(caught.value)
    assert key not in repr(caught.value)


REFUSED_CALLS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"timeout_ms": 0}, ValueError, "timeout_ms"),
    ({"server_url": "nowhere"}, ValueError, "server_url"),
    ({"http_headers": {"a b": "c"}}, ValueError, "a b"),
    ({"http_headers": {"a": "b\r\nc: d"}}, ValueError, "header"),
    ({"http_headers": {"a": "€"}}, ValueError, "header"),
    ({"http_headers": {"a": 1}}, TypeError, "str"),
    ({"http_headers": [("a", "b")]}, TypeError, "mapping"),
    ({"temperature": "hot"}, TypeError, "temperature"),
    ({"no_such": 1}, TypeError, "no_such"),
]


@pytest.mark.parametrize(("given", "kind", "expected"), REFUSED_CALLS)
def test_wrong_call_argument_is_refused_before_any_request(
    given: dict[str, Any], kind: type[Exception], expected: str
) -> None:
    with ScriptedServer(HELLO) as server, Mistral("k", server_url=server.url) as client:
        with pytest.raises(kind, match=expected):
            ask(client, **given)
        with pytest.raises(kind, match=expected):
            client.chat.stream_async(**CALL, **given)
        assert not server.requests


HINTS: list[tuple[dict[str, Any], str]] = [
    ({"base_url": "http://x"}, "server_url"),
    ({"timeout": 30}, "timeout_ms"),
    ({"max_retries": 3}, "Retry(attempts"),
    ({"organization": "o"}, "leave it out"),
    ({"default_headers": {}}, "http_headers"),
    ({"client": None}, "session"),
    ({"async_client": None}, "session"),
    ({"api_key": "k", "url_params": {}, "debug_logger": None}, "server_url"),
]


@pytest.mark.parametrize(("given", "expected"), HINTS)
@pytest.mark.parametrize("make", [Mistral, Mistral.demo])
def test_arguments_of_other_clients_are_refused_with_a_hint(
    make: Any, given: dict[str, Any], expected: str
) -> None:
    with pytest.raises(TypeError, match="got an unexpected keyword argument") as caught:
        make(**given)
    assert expected in str(caught.value)


@pytest.mark.parametrize("given", ["server", "server_url"])
def test_demo_refuses_a_server(given: str) -> None:
    with pytest.raises(TypeError, match="starts its own server"):
        Mistral.demo(**{given: "eu"})


def test_unknown_argument_is_refused_without_a_hint() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_such'"):
        Mistral(no_such=1)


def test_hints_do_not_change_the_signature() -> None:
    assert list(inspect.signature(Mistral).parameters)[:3] == ["api_key", "server", "server_url"]
    assert "starts" not in str(inspect.signature(Mistral.demo))


@pytest.mark.parametrize("method", [Chat.stream, Chat.stream_async])
def test_signature_and_help_list_every_option(method: Any) -> None:
    parameters = inspect.signature(method).parameters
    assert list(parameters) == [
        "self",
        "model",
        "messages",
        *CallOptions.__annotations__,
        "arguments",
    ]
    assert parameters["retry"].default is UNSET
    assert parameters["timeout_ms"].default is None
    described = re.findall(r"^ +\**(\w+): \S", method.__doc__, re.M)
    assert described == [*list(parameters)[1:], *ChatArguments.__annotations__]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("complete", "pipe(to_response()).run() returns the whole response"),
        ("complete_async", "await chat.stream(...).pipe(to_response())"),
        ("parse", "parsed(T)"),
        ("parse_async", "await chat.stream(..., response_format=T).pipe(text(), parsed(T))"),
        ("parse_stream", "partials(T)"),
        ("completions", "chat.stream(model=..., messages=[...])"),
        ("create", "chat.stream(model=..., messages=[...])"),
    ],
)
def test_methods_of_other_chats_are_missing_with_a_hint(name: str, expected: str) -> None:
    chat = Mistral("k").chat
    assert not hasattr(chat, name)
    with pytest.raises(AttributeError, match=f"^chat.{name} is not here: ") as caught:
        getattr(chat, name)
    assert expected in str(caught.value)
    assert (caught.value.name, caught.value.obj) == (name, chat)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embeddings", "mistralai"),
        ("models", "mistralai"),
        ("completions", "client.chat.stream(model"),
        ("close", "with Mistral"),
    ],
)
def test_attributes_of_other_clients_have_a_hint(name: str, expected: str) -> None:
    client = Mistral("k")
    assert not hasattr(client, name)
    with pytest.raises(AttributeError, match=f"^Mistral.{name} is not here: ") as caught:
        getattr(client, name)
    assert expected in str(caught.value)


def test_unknown_attributes_have_no_hint() -> None:
    client = Mistral("k")
    for one in (client, client.chat):
        with pytest.raises(AttributeError, match="object has no attribute 'no_such'"):
            one.no_such  # noqa: B018
        assert "complete" not in dir(one)


def test_client_can_be_copied_and_inspected() -> None:
    client = Mistral("k")
    assert copy.copy(client)._server_url == client._server_url
    assert isinstance(copy.copy(client.chat), type(client.chat))
    inspect.getmembers(client)
    assert not inspect.isawaitable(client)


def test_generator_of_messages_is_read_once() -> None:
    with ScriptedServer(HELLO, HELLO) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=(message for message in CALL["messages"]))
        stream.run()
        stream.run()
        assert server.requests[0].json == server.requests[1].json


def test_clean_end_completes_only_with_accept_clean_end() -> None:
    cut = [steps.role(), "Hi", steps.end()]
    with ScriptedServer(cut, cut) as server:
        with pytest.raises(IncompleteStreamError):
            list(ask(Mistral(server_url=server.url)))
        lenient = Mistral(server_url=server.url, accept_clean_end=True)
        assert list(ask(lenient).pipe(text())) == ["Hi"]


def test_max_event_bytes_limits_an_event() -> None:
    with ScriptedServer(["x" * 5000]) as server:
        client = Mistral(server_url=server.url, max_event_bytes=1000)
        with pytest.raises(ProtocolError, match="larger than"):
            list(ask(client))


def deprecated() -> ScriptedServer:
    return ScriptedServer([steps.header("x-model-deprecation-timestamp", "2027-01-01"), *HELLO])


def test_deprecated_model_warns() -> None:
    with deprecated() as server, pytest.warns(DeprecationWarning, match="m is deprecated"):
        ask(Mistral(server_url=server.url)).run()


def test_warning_raised_as_error_does_not_end_the_answer() -> None:
    with deprecated() as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(ask(Mistral(server_url=server.url)).pipe(text())) == ["Hel", "lo"]
