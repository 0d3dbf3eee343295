"""The request that is sent, and sent again after a redirect."""

from __future__ import annotations

import http.client
import io
import ssl
from typing import Any

import certifi
import pytest
import requests
from faces import Face
from one_request import ANSWER, BODY, KEY, ask, error_of

from rxmistral.errors import RequestError, StatusError
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import READERS, Request
from rxmistral.wire.sender import post

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)


def test_request_is_sent_unchanged() -> None:
    with ScriptedServer(ANSWER) as server:
        list(ask(server))
        (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", "/v1", b'{"q":1}')
    assert request.headers["Authorization"] == f"Bearer {KEY}"


def test_prepared_requests_and_functions_are_accepted() -> None:
    with ScriptedServer(lambda _: ANSWER) as server:
        plain = Request("POST", server.url, data=b"x")
        numbers = iter("01")
        for request in (plain, plain.prepare()):
            assert b"".join(blocks(request)) == b"".join(BODY)
        stream = blocks(lambda: Request("POST", server.url, data=next(numbers)))
        list(stream)
        list(stream)
        assert [request.body for request in server.requests] == [b"x", b"x", b"0", b"1"]


def test_exception_of_the_request_function_is_the_error(read: Face) -> None:
    def refuse() -> Request:
        raise LookupError("no key today")

    assert isinstance(read(blocks(refuse))[-1], LookupError)


def test_connection_that_is_closed_while_it_sends_is_an_error(
    monkeypatch: pytest.MonkeyPatch, read: Face
) -> None:
    """As a program may do through a response that it has kept."""

    def send(connection: http.client.HTTPConnection, _: object) -> None:
        connection.sock.close()
        connection.sock = None  # type: ignore[assignment]
        raise AttributeError("'NoneType' object has no attribute 'sendall'")

    with ScriptedServer(ANSWER) as server:
        monkeypatch.setattr(http.client.HTTPConnection, "send", send)
        error = read(ask(server))[-1]
    assert isinstance(error, RequestError)
    assert "the connection was closed" in str(error)


def test_netrc_is_ignored_without_authorization(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(path))
    with ScriptedServer(ANSWER) as server:
        list(blocks(post(server.url, {}, b"", None)))
        assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    "value", [f"Bearer {KEY}\n", f"Bearer\n{KEY}", f" {KEY}", [KEY], f"’{KEY}"]
)
def test_key_is_redacted_when_a_header_cannot_be_sent(value: Any) -> None:
    with ScriptedServer() as server:
        request = Request("POST", server.url, headers={"Authorization": value})
        with pytest.raises(RequestError) as raised:
            list(blocks(request))
    assert KEY not in str(raised.value) + repr(raised.value) + str(raised.value.__cause__)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", ["/elsewhere", "elsewhere", "{url}/elsewhere#top"])
def test_redirect_repeats_the_request_with_its_body(status: int, location: str) -> None:
    def play(request: ReceivedRequest) -> Script:
        if request.path == "/elsewhere":
            return ANSWER
        return [steps.status(status, headers={"Location": location.format(url=server.url)})]

    with ScriptedServer(play) as server:
        request = post(server.url + "/v1", {"Content-Type": "text/x"}, b"{}", f"Bearer {KEY}")
        assert b"".join(blocks(request)) == b"".join(BODY)
        first, second = server.requests
    assert (second.method, second.path, second.body) == ("POST", "/elsewhere", first.body)
    for name in ("Authorization", "Content-Type", "Content-Length"):
        assert second.headers.get_all(name) == first.headers.get_all(name)


def test_redirect_repeats_a_file_body() -> None:
    with ScriptedServer([steps.status(302, headers={"Location": "/b"})], ANSWER) as server:
        list(blocks(Request("POST", server.url, data=io.BytesIO(b"from a file"))))
        assert [request.body for request in server.requests] == [b"from a file"] * 2


def test_redirect_keeps_session_cookies() -> None:
    script = steps.status(302, headers={"Location": "/b", "Set-Cookie": "seen=1"})
    with ScriptedServer([script], ANSWER) as server, requests.Session() as session:
        list(ask(server, session=session))
        assert server.requests[1].headers["Cookie"] == "seen=1"
        assert session.cookies["seen"] == "1"


def test_redirect_to_a_get_is_a_refusal_that_names_it(read: Face) -> None:
    script = steps.status(303, headers={"Location": "https://me:pass@other.example/login?key=k"})
    with ScriptedServer([script]) as server:
        (error,) = (item for item in read(ask(server)) if item is not None)
    assert isinstance(error, StatusError)
    assert (error.status, error.url) == (303, server.url + "/v1")
    assert "it redirects to 'https://other.example/login'" in str(error)
    assert "pass" not in str(error)


def test_redirect_to_a_get_is_followed_by_a_get() -> None:
    with ScriptedServer([steps.status(303, headers={"Location": "/b"})], ANSWER) as server:
        assert b"".join(blocks(Request("GET", server.url))) == b"".join(BODY)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_without_location_is_a_refusal(status: int) -> None:
    error = error_of(steps.status(status))
    assert isinstance(error, StatusError)
    assert error.status == status


def test_redirect_to_plain_http_drops_the_key(server_tls: Any, session: requests.Session) -> None:
    with ScriptedServer(ANSWER) as plain:
        redirect = steps.status(302, headers={"Location": plain.url + "/b"})
        with ScriptedServer([redirect], tls=server_tls) as server:
            list(ask(server, session=session))
            assert "Authorization" in server.requests[0].headers
        assert "Authorization" not in plain.requests[0].headers


def test_redirect_uses_the_same_connection() -> None:
    with ScriptedServer([steps.status(307, headers={"Location": "/elsewhere"})], ANSWER) as server:
        list(ask(server))
        assert server.connections == 1


def test_redirect_to_another_host_drops_the_key() -> None:
    with ScriptedServer(ANSWER) as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with ScriptedServer([steps.status(307, headers={"Location": elsewhere})]) as server:
            assert b"".join(ask(server)) == b"".join(BODY)
        assert "Authorization" not in other.requests[0].headers
        assert other.requests[0].body == b'{"q":1}'


def test_endless_redirects_are_an_error() -> None:
    with (
        ScriptedServer(lambda _: [steps.status(307, headers={"Location": "/again"})]) as server,
        pytest.raises(RequestError, match="more than 30 redirects") as raised,
    ):
        list(ask(server))
    assert raised.value.is_permanent


def test_response_is_read_through_a_proxy() -> None:
    with ScriptedServer(ANSWER) as proxy, requests.Session() as session:
        session.proxies = {"http": proxy.url}
        stream = blocks(Request("POST", "http://mistral.invalid/v1"), session=session)
        assert b"".join(stream) == b"".join(BODY)
        assert proxy.requests[0].path == "http://mistral.invalid/v1"


def test_session_certificates_take_priority_over_environment(
    session: requests.Session, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    session.trust_env = True
    with ScriptedServer(["Hi"], tls=server_tls) as server:
        request = requests.Request("POST", server.url)
        assert b"Hi" in b"".join(blocks(request, session=session))
