"""Sessions: proxies, the state of the session afterwards, custom adapters and their retries."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import vcr
from faces import BOUND, Face
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3 import HTTPConnectionPool, Retry
from urllib3.exceptions import EmptyPoolError

from rxmistral import Mistral, Timeouts, text
from rxmistral import Retry as OurRetry
from rxmistral.errors import RequestError, RequestTimeoutError, StatusError
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import READERS, Request
from rxmistral.wire.session import open_session

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

BODY = b"data: one\n\n"
ANSWER: Script = [steps.raw(BODY)]
HELLO: Script = [steps.role(), "Hel", "lo", steps.finish(), steps.done()]
CALL: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "no_proxy", "NO_PROXY", "MISTRAL_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def without_auth(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    return prepared


@pytest.mark.parametrize(
    "options",
    [
        {"data": b"{}", "headers": {"user-agent": "mine"}, "auth": without_auth},
        {"json": {"a": 1}, "params": {"b": "c d"}, "auth": ("name", "word")},
        {"headers": {"accept": None}, "auth": without_auth},
        {"cookies": {"mine": "2"}, "hooks": {"response": print}},
    ],
)
def test_own_session_prepares_requests_as_requests_does(options: dict[str, Any]) -> None:
    request = Request("post", "http://127.0.0.1/path?a=b", **options)
    prepared = []
    for session in (open_session(), requests.Session()):
        session.cookies.set("session", "1")
        each = session.prepare_request(request)
        cookies = each._cookies  # type: ignore[attr-defined]
        assert cookies is not session.cookies
        headers = list(each.headers.items())
        prepared.append((each.method, each.url, headers, each.body, each.hooks, dict(cookies)))
    assert prepared[0] == prepared[1]


@contextmanager
def refusing_port() -> Iterator[str]:
    """Yields a host and port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def tunnel_to(url: str) -> Iterator[str]:
    """Runs a proxy that forwards one connection to a server; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as client, client.makefile("rb") as file:
                while file.readline().strip():
                    pass
                target = ("127.0.0.1", urlsplit(url).port)
                with socket.create_connection(target) as server:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(target=_forward, args=(server, client))
                    back.start()
                    _forward(client, server)
                    back.join()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(BOUND)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(65536):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)


# --- proxies ---


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "a.localhost", "127.8.8.8"])
def test_loopback_bypasses_the_proxies_of_the_environment(
    name: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, *rest, **options: resolve("127.0.0.1", *rest, **options)
    )
    with refusing_port() as proxy, ScriptedServer(HELLO, HELLO) as server:
        monkeypatch.setenv(name, f"http://{proxy}")
        url = server.url.replace("127.0.0.1", host)
        for session in (None, requests.Session()):
            with Mistral(server_url=url, session=session) as client:
                assert "".join(client.chat.stream(**CALL).pipe(text())) == "Hello"
            if session is not None:
                session.close()


def test_ipv6_loopback_bypasses_the_environment_proxies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with refusing_port() as proxy, refusing_port() as target:
        monkeypatch.setenv("all_proxy", f"http://{proxy}")
        with pytest.raises(RequestError) as raised:
            list(blocks(Request("POST", f"http://[::1]:{target.rpartition(':')[2]}/")))
    assert raised.value.proxy is None


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_other_hosts_go_through_the_proxy_of_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(ANSWER) as proxy:
        monkeypatch.setenv(name, proxy.url)
        assert b"".join(blocks(Request("POST", "http://mistral.invalid/v1"))) == BODY
        assert proxy.requests[0].path == "http://mistral.invalid/v1"


def test_session_without_trust_env_ignores_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    with requests.Session() as session, pytest.raises(RequestError) as raised:
        session.trust_env = False
        list(blocks(Request("POST", "http://mistral.invalid/"), session=session))
    assert raised.value.proxy is None


@pytest.mark.parametrize("host", ["127.0.0.1", "mistral.invalid"])
def test_session_proxy_takes_priority_over_environment(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_port() as other, ScriptedServer(ANSWER) as proxy, requests.Session() as session:
        monkeypatch.setenv("http_proxy", f"http://{other}")
        session.proxies = {"http": proxy.url.replace("http://", "http://me:secret@")}
        stream = blocks(Request("POST", f"http://{host}:9/v1"), session=session)
        assert b"".join(stream) == BODY
        assert proxy.requests[0].path == f"http://{host}:9/v1"
        assert proxy.requests[0].headers["Proxy-Authorization"].startswith("Basic ")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_unreachable_proxy_is_named_without_its_password(scheme: str, read: Face) -> None:
    with refusing_port() as proxy, requests.Session() as session:
        session.proxies = {scheme: f"http://me:secret@{proxy}/"}
        stream = blocks(Request("POST", f"{scheme}://mistral.invalid/v1"), session=session)
        (error,) = (item for item in read(stream) if item is not None)
    assert isinstance(error, RequestError)
    assert (error.host, error.proxy) == ("mistral.invalid", proxy)
    assert str(error).startswith(f"no answer from mistral.invalid through the proxy {proxy}: ")
    assert "refused" in str(error)
    assert "secret" not in str(error) + repr(error) + repr(error.__cause__)


def test_tls_goes_through_a_proxy_tunnel(
    server_tls: ssl.SSLContext, session: requests.Session, read: Face
) -> None:
    with ScriptedServer(HELLO, tls=server_tls) as server, tunnel_to(server.url) as proxy:
        session.proxies = {"https": proxy}
        client = Mistral(server_url=server.url, session=session)
        assert [each for each in read(client.chat.stream(**CALL).pipe(text())) if each] == [
            "Hel",
            "lo",
        ]
        session.close()


def test_proxy_that_refuses_a_tunnel_is_named() -> None:
    with (
        ScriptedServer(lambda _: [steps.status(407)]) as proxy,
        requests.Session() as session,
        pytest.raises(RequestError, match="407") as raised,
    ):
        session.proxies = {"https": proxy.url}
        list(blocks(Request("POST", "https://mistral.invalid/v1"), session=session))
    assert raised.value.proxy == proxy.url.removeprefix("http://")


@pytest.mark.parametrize("proxy", ["http://me:secret@:1", "http://me:secret@[::1"])
def test_malformed_proxy_does_not_show_its_password(proxy: str) -> None:
    with requests.Session() as session, pytest.raises(RequestError) as raised:
        session.proxies = {"http": proxy}
        list(blocks(Request("POST", "http://mistral.invalid/v1"), session=session))
    assert "secret" not in str(raised.value) + repr(raised.value)
    assert raised.value.is_permanent


# --- the state of the session ---


def state_of(session: requests.Session, url: str) -> Any:
    adapter = session.get_adapter(url)
    assert isinstance(adapter, HTTPAdapter)
    (pool,) = (adapter.poolmanager.pools[key] for key in adapter.poolmanager.pools.keys())  # noqa: SIM118
    idle = [connection for connection in pool.pool.queue if connection is not None]
    return (
        [type(each) for each in (session, adapter, pool, *idle)],
        pool.ConnectionCls,
        pool.num_connections,
        [sorted(vars(connection)) for connection in idle],
        session.auth,
        session.proxies,
        sorted(session.headers),
        dict(session.hooks),
    )


def test_session_is_unchanged_after_a_request() -> None:
    with ScriptedServer(lambda _: ANSWER) as server, requests.Session() as session:
        session.get(server.url).close()
        before = state_of(session, server.url)
        for _ in range(2):
            assert list(blocks(Request("POST", server.url), session=session)) == [BODY]
        assert state_of(session, server.url) == before
        assert server.connections == 1
        response = session.get(server.url)
        assert type(response.raw._original_response) is http.client.HTTPResponse
        assert state_of(session, server.url) == before


def test_session_is_unchanged_while_a_response_is_read() -> None:
    with ScriptedServer([*ANSWER, steps.hang()], ANSWER) as server, requests.Session() as session:
        iterator = iter(blocks(Request("POST", server.url), session=session))
        assert next(iterator) == BODY
        response = session.get(server.url)
        assert type(response.raw._original_response) is http.client.HTTPResponse
        assert response.content == BODY
        del iterator
        assert server.requests[0].wait_closed()


def test_released_connection_is_not_shut_down_by_its_reader() -> None:
    release = threading.Event()
    with ScriptedServer(lambda _: ANSWER) as server, requests.Session() as session:
        ended = threading.Event()
        subscription = blocks(Request("POST", server.url), session=session).subscribe(
            on_completed=lambda: (ended.set(), release.wait(BOUND))
        )
        assert ended.wait(BOUND)
        with session.get(server.url, stream=True) as response:
            subscription.dispose()
            assert response.content == BODY
        release.set()
        assert server.connections == 1


def test_connection_returns_once_when_the_program_closes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If it returned twice, the pool would lease it to two requests at once."""
    put, returned = HTTPConnectionPool._put_conn, list[Any]()
    responses: list[requests.Response] = []

    def put_twice(pool: Any, connection: Any) -> None:
        returned.append(connection)
        if responses:  # as if another thread closed the response now
            responses.pop().close()
        put(pool, connection)

    monkeypatch.setattr(HTTPConnectionPool, "_put_conn", put_twice)
    with ScriptedServer(lambda _: ANSWER) as server, requests.Session() as session:
        request = Request("POST", server.url)
        assert list(blocks(request, session=session, on_response=responses.append)) == [BODY]
        assert not responses
        assert len(returned) == 1


def test_overridden_session_and_adapter_methods_are_called() -> None:
    class Adapter(HTTPAdapter):
        sent = 0

        def send(self, *args: Any, **options: Any) -> Any:
            self.sent += 1
            return super().send(*args, **options)

    class Session(requests.Session):
        sent = 0

        def send(self, *args: Any, **options: Any) -> Any:
            self.sent += 1
            return super().send(*args, **options)

    with ScriptedServer(ANSWER) as server, Session() as session:
        adapter = Adapter()
        session.mount("http://", adapter)
        seen: list[Any] = []
        session.hooks["response"] = [lambda response, **_: seen.append(response.status_code)]
        session.params = {"tenant": "me"}
        session.headers["X-Mine"] = "1"
        session.cookies["c"] = "2"
        assert list(blocks(Request("POST", server.url), session=session)) == [BODY]
        (request,) = server.requests
        assert (session.sent, adapter.sent, seen) == (1, 1, [200])
        assert request.path == "/?tenant=me"
        assert (request.headers["X-Mine"], request.headers["Cookie"]) == ("1", "c=2")


def test_digest_auth_of_the_session_answers_a_challenge() -> None:
    def play(request: ReceivedRequest) -> Script:
        if "Authorization" in request.headers:
            return HELLO
        challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
        return [steps.status(401, body="no", headers={"WWW-Authenticate": challenge})]

    with ScriptedServer(play) as server, requests.Session() as session:
        session.auth = HTTPDigestAuth("me", "secret")
        with Mistral(server_url=server.url, session=session) as client:
            assert "".join(client.chat.stream(**CALL).pipe(text())) == "Hello"
        assert server.requests[1].headers["Authorization"].startswith('Digest username="me"')
        assert server.requests[1].body == server.requests[0].body


# --- bodies that are not urllib3's ---


@pytest.mark.parametrize("framing", ["chunked", "length", "gzip", "close"])
def test_hook_may_read_the_body(framing: Any) -> None:
    def read_body(response: requests.Response, **_: Any) -> None:
        seen.append(response.text)

    seen: list[str] = []
    script = [[*ANSWER, *ANSWER], [steps.status(400, body={"message": "bad request"})]]
    with ScriptedServer(*script, framing=framing) as server, requests.Session() as session:
        session.hooks["response"] = [read_body]
        stream = blocks(Request("POST", server.url), session=session)
        assert b"".join(stream) == BODY * 2
        with pytest.raises(StatusError, match="bad request"):
            list(stream)
        assert seen[0] == (BODY * 2).decode()
        assert "bad request" in seen[1]


@pytest.mark.parametrize("how", ["read", "content"])
def test_adapter_may_return_a_file_or_the_content(how: str) -> None:
    class Canned(BaseAdapter):
        def send(self, request: Any, **_: Any) -> requests.Response:
            response = requests.Response()
            response.status_code = 200
            response.headers["Content-Encoding"] = "gzip"  # already decompressed
            if how == "content":
                response._content = BODY
            else:
                response.raw = ReadOnly(BODY)
            response.request = request
            return response

        def close(self) -> None:
            pass

    class ReadOnly(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.file = io.BytesIO(content)

        def read(self, size: int = -1) -> bytes:
            return self.file.read(size)

    with requests.Session() as session:
        session.mount("http://", Canned())
        assert list(blocks(Request("POST", "http://canned/"), session=session)) == [BODY]


@pytest.mark.parametrize("framing", ["chunked", "length", "gzip"])
def test_vcrpy_records_and_replays(framing: Any, tmp_path: Path, read: Face) -> None:
    with ScriptedServer(HELLO, framing=framing) as server, open_session() as session:
        client = Mistral("k", server_url=server.url, session=session)
        stream = client.chat.stream(**CALL).pipe(text())
        for _ in range(2):
            with vcr.use_cassette(str(tmp_path / "answer.yaml"), match_on=["method", "uri"]):
                assert "".join(filter(None, read(stream))) == "Hello"
        assert len(server.requests) == 1


def test_vcrpy_replays_to_a_used_client(tmp_path: Path) -> None:
    with ScriptedServer(HELLO, HELLO) as server, Mistral(server_url=server.url) as client:
        stream = client.chat.stream(**CALL).pipe(text())
        assert "".join(stream) == "Hello"
        for _ in range(2):
            with vcr.use_cassette(str(tmp_path / "answer.yaml")):
                assert "".join(stream) == "Hello"
        assert len(server.requests) == 2


# --- the retries and the pool of an adapter ---


def adapted(**options: Any) -> requests.Session:
    session = requests.Session()
    session.mount("http://", HTTPAdapter(**options))
    return session


RETRIES = Retry(5, backoff_factor=1, allowed_methods=None)


@pytest.mark.parametrize("timeouts", [{"first": 0.3, "total": 0.5}, {"first": 5, "total": 0.3}])
def test_adapter_retries_end_with_the_timeout(timeouts: dict[str, float], read: Face) -> None:
    with (
        ScriptedServer(lambda _: [steps.hang()]) as server,
        adapted(max_retries=RETRIES) as session,
    ):
        client = Mistral(server_url=server.url, session=session, timeouts=Timeouts(**timeouts))
        (error,) = (item for item in read(client.chat.stream(**CALL)) if item is not None)
        assert isinstance(error, RequestTimeoutError)
        name = min(timeouts, key=lambda clock: timeouts[clock])
        assert (error.clock, error.seconds) == (name, timeouts[name])
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "retries",
    [
        Retry(5, backoff_factor=100, status_forcelist=[503], allowed_methods=None),
        Retry(5, status_forcelist=[503], allowed_methods=None),
        Retry(5, backoff_factor=100, allowed_methods=None),
    ],
    ids=["backoff", "Retry-After", "connection"],
)
def test_adapter_pause_ends_with_the_timeout(retries: Retry) -> None:
    busy = steps.status(503, headers={"Retry-After": "100"})
    script: Script = [busy] if retries.status_forcelist else [steps.drop()]
    with ScriptedServer(lambda _: script) as server, adapted(max_retries=retries) as session:
        stream = blocks(Request("POST", server.url), session=session, read_timeout=0.3)
        with pytest.raises(RequestTimeoutError):
            list(stream)
        assert len(server.requests) <= 2  # urllib3's first repetition has no pause


def test_adapter_pause_ends_when_disposed() -> None:
    retries = Retry(5, status_forcelist=[503], allowed_methods=None)
    busy = [steps.status(503, headers={"Retry-After": "100"})]
    with ScriptedServer(lambda _: busy) as server, adapted(max_retries=retries) as session:
        released = threading.Event()
        subscription = blocks(
            Request("POST", server.url), session=session, on_release=lambda _: released.set()
        ).subscribe()
        server.wait_for_requests(1)
        subscription.dispose()
        assert released.wait(BOUND)


def test_adapter_retries_are_made(caplog: pytest.LogCaptureFixture) -> None:
    retries = Retry(2, backoff_factor=0.01, status_forcelist=[503], allowed_methods=None)
    busy = steps.status(503, headers={"Retry-After": "0"})
    with ScriptedServer([busy], [steps.drop()], ANSWER) as server:
        with adapted(max_retries=retries) as session:
            assert list(blocks(Request("POST", server.url), session=session)) == [BODY]
        assert len(server.requests) == 3
    caplog.clear()  # urllib3 logs the error, and its traceback keeps the pool


def test_exhausted_adapter_retries_are_a_timeout() -> None:
    retries = Retry(1, read=0, allowed_methods=None)
    with ScriptedServer([steps.hang()]) as server, adapted(max_retries=retries) as session:
        stream = blocks(Request("POST", server.url), session=session, read_timeout=0.1)
        with pytest.raises(RequestTimeoutError):
            list(stream)


@pytest.mark.parametrize("retries", [0, RETRIES])
def test_wait_for_a_full_pool_ends_with_the_timeout(retries: Any) -> None:
    options = {"pool_maxsize": 1, "pool_block": True, "max_retries": retries}
    with ScriptedServer([*ANSWER, steps.hang()], ANSWER) as server, adapted(**options) as session:
        first = iter(blocks(Request("POST", server.url), session=session))
        assert next(first) == BODY
        second = blocks(Request("POST", server.url), session=session, read_timeout=0.2)
        with pytest.raises(RequestTimeoutError) as raised:
            list(second)
        assert raised.value.seconds == 0.2
        del first
        assert server.requests[0].wait_closed()
        # The pool still has a place for one connection.
        assert list(blocks(Request("POST", server.url), session=session)) == [BODY]
        assert server.connections == 2


def test_wait_for_a_full_pool_ends_when_disposed(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    get_connection = HTTPConnectionPool._get_conn

    def wait(self: Any, timeout: float | None = None) -> Any:
        try:
            return get_connection(self, timeout)
        except EmptyPoolError:
            waits.set()
            raise

    monkeypatch.setattr(HTTPConnectionPool, "_get_conn", wait)
    options = {"pool_maxsize": 1, "pool_block": True}
    with ScriptedServer([*ANSWER, steps.hang()]) as server, adapted(**options) as session:
        first = iter(blocks(Request("POST", server.url), session=session))
        assert next(first) == BODY
        released = threading.Event()
        subscription = blocks(
            Request("POST", server.url), session=session, on_release=lambda _: released.set()
        ).subscribe()
        assert waits.wait(BOUND)
        subscription.dispose()
        assert released.wait(BOUND)
        del first
        assert server.requests[0].wait_closed()


# --- requests that cannot succeed ---


def test_retry_does_not_repeat_an_untrusted_certificate(server_tls: Any) -> None:
    repeated: list[Any] = []
    retry = OurRetry(attempts=3, initial=0.001, on_retry=lambda *args: repeated.append(args))
    with (
        ScriptedServer(tls=server_tls) as server,
        Mistral(server_url=server.url, retry=retry) as client,
    ):
        with pytest.raises(RequestError, match="certificate") as raised:
            client.chat.stream(**CALL).run()
        assert raised.value.is_permanent
        assert server.connections == 1
    assert not repeated
