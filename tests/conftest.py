"""What every test is held to, and what many of them use."""

from __future__ import annotations

import gc
import os
import ssl
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import trustme
from faces import FACES, Face, eventually
from hypothesis import settings
from leftovers import our_threads, sockets

from rxmistral.wire.blocks import DEFAULT_READER, READERS, post

# The same examples at each run, so that a change is what makes one fail; and none fails
# for taking long on a loaded machine. HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


# Who reads where neither the test nor its module says so.
READER = os.environ.get("RXMISTRAL_TEST_READER", DEFAULT_READER)
assert READER in READERS


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """No test leaves a thread of ours or a socket; `run` below sees to the tasks."""
    before_threads, before_sockets = set(our_threads()), sockets()

    def gone() -> bool:
        if sockets() <= before_sockets:
            return True
        gc.collect()  # requests leaves the connections of a closed session to it
        return False

    yield
    assert eventually(lambda: set(our_threads()) <= before_threads), our_threads()
    assert eventually(gone), sockets() - before_sockets


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Who reads the answers in this test; a module parametrizes it to have it run over both."""
    name: str = getattr(request, "param", READER)
    module = sys.modules[post.__module__]  # its function of that name hides it
    monkeypatch.setattr(module, "DEFAULT_READER", name)
    return name


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """What a ScriptedServer serves HTTPS with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def session(authority: trustme.CA, tmp_path_factory: Any) -> Iterator[requests.Session]:
    """A user's own session, which trusts the test's authority."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(path)
        yield session


@pytest.fixture(params=FACES.values(), ids=FACES.keys())
def read(request: pytest.FixtureRequest) -> Face:
    """Every way to read a Stream, one after the other."""
    return request.param
