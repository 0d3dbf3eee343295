"""Fixtures that check or serve every test."""

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

from rxmistral.rx import reused_threads, worker
from rxmistral.testing import ReceivedRequest, ScriptedServer
from rxmistral.wire.reader import DEFAULT_READER, READERS

# "repeatable" and "thorough" run the same examples each time, so that only a change of the code
# can make a test fail. No example has a deadline, because the machine may be busy.
# HYPOTHESIS_PROFILE=thorough, set by .ci/run, runs more examples; =explore searches new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("thorough", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("explore", deadline=None, max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


# By default, the waits of the test kit time out after 5 seconds. These tests wait longer.
for wait in (
    ReceivedRequest.wait_answered,
    ReceivedRequest.wait_closed,
    ScriptedServer.wait_for_requests,
    ScriptedServer.wait_idle,
):
    wait.__defaults__ = (BOUND,)


# A thread of ours waits 0.1 s for more work before it exits, and each test waits for that exit.
reused_threads._IDLE_CHECKS, worker._IDLE_SECONDS = 1, 0.01

if sys.version_info < (3, 11, 8):
    # The parser of Python fails if two threads use it at once, with "AST constructor recursion
    # depth mismatch" (gh-106905, seen in 3.11.7). Printing a traceback parses, and so does pytest
    # to show a failure, which would end the whole run with an INTERNALERROR.
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
    """Runs the whole suite in four processes, if pytest-xdist is installed.

    Two cores are enough for them, since the tests mostly wait. The processes themselves are
    excluded, or each of them would start four more.
    """
    options, is_worker = config.option, "PYTEST_XDIST_WORKER" in os.environ
    is_whole_suite = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not options.usepdb
    if is_whole_suite and not is_worker and getattr(options, "numprocesses", 0) is None:
        options.numprocesses, options.dist = 4, "loadfile"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fails only the test that hangs, if pytest-timeout is installed."""
    if getattr(config.option, "timeout", 0) is None:
        for item in items:
            item.add_marker(pytest.mark.timeout(180, method="signal"))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Shows and ends a process that cannot exit because a failed test left a thread."""
    faulthandler.dump_traceback_later(60, exit=True)


# The reader of a test that does not choose one, and whose module does not, either.
READER = os.environ.get("RXMISTRAL_TEST_READER", DEFAULT_READER)
assert READER in READERS


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Fails a test that leaves a thread of ours or a socket; `faces.run` checks the tasks."""
    before_threads, before_sockets = set(our_threads()), sockets()

    def sockets_are_closed() -> bool:
        if sockets() <= before_sockets:
            return True
        gc.collect()  # requests leaves the connections of a closed session to the collector
        return False

    yield
    assert eventually(lambda: set(our_threads()) <= before_threads), our_threads()
    assert eventually(sockets_are_closed), sockets() - before_sockets


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The reader of the answers in this test; a module can parametrize it to run over both."""
    name: str = getattr(request, "param", READER)
    monkeypatch.setattr("rxmistral.wire.reader.DEFAULT_READER", name)
    return name


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """The TLS context of a ScriptedServer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def session(authority: trustme.CA, tmp_path_factory: Any) -> Iterator[requests.Session]:
    """A session that trusts the certificate authority of the tests."""
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(path)
        yield session


@pytest.fixture(params=FACES.values(), ids=FACES.keys())
def read(request: pytest.FixtureRequest) -> Face:
    """Each way to read a Stream, one per run of the test."""
    return request.param
