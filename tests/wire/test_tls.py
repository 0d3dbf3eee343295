"""Connections share TLS contexts, if nothing in their settings differs."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from requests.adapters import HTTPAdapter

from rxmistral import Mistral, RequestError, UserMessage
from rxmistral.testing import Script, ScriptedServer, steps

HELLO: Script = ["Hello", steps.done()]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was loaded into any context."""
    loaded: list[object] = []
    load = ssl.SSLContext.load_verify_locations

    def load_and_note(self: ssl.SSLContext, *args: Any, **options: Any) -> None:
        loaded.extend(args[:1])
        load(self, *args, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", load_and_note)
    return loaded


@pytest.fixture
def own_authority(authority: trustme.CA, tmp_path: Path) -> str:
    """A file that no other test has read."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


def ask_twice(server: ScriptedServer, session: requests.Session) -> None:
    """Reads two answers over two connections."""
    with Mistral(server_url=server.url, session=session) as client:
        first = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        with first:
            next(iter(first))
            assert client.chat.stream(model="m", messages=[UserMessage(content="Hi")]).text().run()
    assert server.connections == 2


def test_connections_load_their_authorities_once(
    server_tls: ssl.SSLContext, own_authority: str, loads: list[object]
) -> None:
    session = requests.Session()
    session.verify = own_authority
    with ScriptedServer(["Hel", steps.hang()], HELLO, tls=server_tls) as server:
        ask_twice(server, session)
    assert loads == [own_authority]


def test_changed_authorities_are_loaded_again(
    server_tls: ssl.SSLContext, own_authority: str, loads: list[object]
) -> None:
    for changed_at in (1_000_000_000, 1_000_000_001):
        os.utime(own_authority, (changed_at, changed_at))
        session = requests.Session()
        session.verify = own_authority
        with (
            ScriptedServer(HELLO, tls=server_tls) as server,
            Mistral(server_url=server.url, session=session) as client,
        ):
            stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
            assert stream.text().run() == "Hello"
    assert loads == [own_authority] * 2


def test_other_authorities_refuse_the_server(
    server_tls: ssl.SSLContext, own_authority: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with ScriptedServer(lambda _: HELLO, tls=server_tls) as server:
        for path, is_trusted in ((own_authority, True), (str(other), False)):
            session = requests.Session()
            session.verify = path
            with Mistral(server_url=server.url, session=session) as client:
                stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
                if is_trusted:
                    assert stream.text().run() == "Hello"
                else:
                    with pytest.raises(RequestError, match="CERTIFICATE_VERIFY_FAILED"):
                        stream.run()


def test_own_context_of_an_adapter_is_used(
    authority: trustme.CA, server_tls: ssl.SSLContext
) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:
            super().init_poolmanager(*args, ssl_context=context, **options)

    session = requests.Session()
    session.mount("https://", Adapter())
    with (
        ScriptedServer(HELLO, tls=server_tls) as server,
        Mistral(server_url=server.url, session=session) as client,
    ):
        stream = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        assert stream.text().run() == "Hello"
