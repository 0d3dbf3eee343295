"""Frozen time in tests, and the real time in which sockets and threads wait."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, by_async_for
from freezegun import freeze_time
from reactivex import operators

from rxmistral import Limit, Mistral, RequestTimeoutError, Retry, StreamTimeoutError, Timeouts, text
from rxmistral.relay import server_sent_events
from rxmistral.relay.heartbeats import HEARTBEAT
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire.reader import READERS

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)

HELLO = [steps.role(), "Hel", steps.wait(0.05), "lo", steps.finish(), steps.done()]
CALL: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
MOMENTS = ["2020-02-29", "1970-01-01"]  # a monotonic clock has neither value


def test_frozen_time_does_not_stop_a_pause(read: Face) -> None:
    busy = [steps.status(503, headers={"retry-after-ms": "50"})]
    retry = Retry(attempts=2)
    with (
        freeze_time("2020-02-29"),
        ScriptedServer(busy, HELLO) as server,
        Mistral(server_url=server.url, retry=retry) as client,
    ):
        answer = read(client.chat.stream(**CALL).pipe(text()))
    assert "".join(filter(None, answer)) == "Hello"


def test_frozen_time_does_not_stop_a_timeout(read: Face) -> None:
    scripts = [[steps.hang()], [steps.role(), "Hi", steps.hang()]]
    with (
        freeze_time("2020-02-29"),
        ScriptedServer(*scripts) as server,
        Mistral(server_url=server.url) as client,
    ):
        for timeouts, expected in (
            (Timeouts(first=0.2), RequestTimeoutError),
            (Timeouts(first=BOUND, gap=0.2), StreamTimeoutError),
        ):
            stream = client.chat.stream(**CALL, timeouts=timeouts).pipe(text())
            assert isinstance(read(stream)[-1], expected)


def test_frozen_time_does_not_stop_a_limit() -> None:
    with (
        freeze_time("2020-02-29"),
        ScriptedServer(HELLO) as server,
        Mistral(server_url=server.url, limit=Limit(per_minute=60)) as client,
    ):
        client._policies.limit.pause_for(0.05)
        assert "".join(client.chat.stream(**CALL).pipe(text())) == "Hello"


@pytest.mark.parametrize("moment", MOMENTS)
def test_frozen_time_does_not_stop_heartbeats(moment: str) -> None:
    silent: reactivex.Observable[str] = reactivex.never()
    body = server_sent_events(silent, heartbeat=0.02).pipe(operators.take(3))
    with freeze_time(moment):
        assert list(body) == [HEARTBEAT] * 3
        received: list[bytes] = []
        # A daemon thread: no timeout on a frozen event loop could end a test that hangs.
        loop = threading.Thread(target=lambda: received.extend(by_async_for(body)), daemon=True)
        loop.start()
        loop.join(BOUND)
        assert received == [HEARTBEAT] * 3


def test_frozen_time_does_not_reach_a_client_imported_in_it() -> None:
    program = """
from freezegun import freeze_time
from reactivex import operators
with freeze_time("2020-02-29"):
    from rxmistral.rx.clock import monotonic, sleep
    began = monotonic()
    sleep(0.01)
    assert monotonic() - began >= 0.01
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=BOUND)


def test_outcome_has_the_date_that_a_test_froze() -> None:
    with (
        freeze_time("2020-02-29"),
        ScriptedServer(HELLO) as server,
        Mistral(server_url=server.url) as client,
    ):
        stream = client.chat.stream(**CALL)
        stream.run()
        assert stream.outcome is not None
        assert stream.outcome.started == time.time()
        assert (stream.outcome.seconds_to_last_token or 0) >= 0.05
