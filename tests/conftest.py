"""What every test is held to, and what many of them use."""

from __future__ import annotations

import ast
import faulthandler
import gc
import os
import ssl
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import trustme
from faces import BOUND, FACES, Face, eventually
from hypothesis import settings
from leftovers import our_threads, sockets

from rxmistral.testing import ReceivedRequest, ScriptedServer
from rxmistral.wire.reader import DEFAULT_READER, READERS

# Both run the same examples each time, so that only a change can make one fail, and no
# example fails because it takes long on a busy machine. HYPOTHESIS_PROFILE=thorough, which
# .ci/run sets, runs more of them, and HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("thorough", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("explore", deadline=None, max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


# The waits of the test kit are limited for its users, who want to see a failure soon.
for wait in (
    ReceivedRequest.wait_answered,
    ReceivedRequest.wait_closed,
    ScriptedServer.wait_for_requests,
    ScriptedServer.wait_idle,
):
    wait.__defaults__ = (BOUND,)


if sys.version_info < (3, 11, 8):
    # Python parses wrongly in two threads at once, and says "AST constructor recursion depth
    # mismatch" (gh-106905, seen in 3.11.7). A thread that prints a traceback parses, and so
    # does pytest to show a failure, which then ended the whole run with an INTERNALERROR.
    _parse = ast.parse

    def parse(*args: Any, **options: Any) -> Any:
        while True:
            try:
                return _parse(*args, **options)
            except SystemError:
                continue

    ast.parse = parse  # type: ignore[assignment]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Runs the whole suite in two processes, if pytest-xdist is installed.

    Not in these processes themselves, or each of them would start two more.
    """
    options, is_worker = config.option, "PYTEST_XDIST_WORKER" in os.environ
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not options.usepdb
    if whole and not is_worker and getattr(options, "numprocesses", 0) is None:
        options.numprocesses, options.dist = 2, "loadfile"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fails a test that hangs, if pytest-timeout is installed, and lets the others run."""
    if getattr(config.option, "timeout", 0) is None:
        for item in items:
            item.add_marker(pytest.mark.timeout(180, method="signal"))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Ends a process that cannot exit because a test that failed left a thread, and shows it."""
    faulthandler.dump_traceback_later(60, exit=True)


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
    monkeypatch.setattr("rxmistral.wire.reader.DEFAULT_READER", name)
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
