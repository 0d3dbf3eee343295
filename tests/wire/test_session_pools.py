"""Connections return to their pools, or are closed, before the end is emitted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests
from faces import BOUND
from one_request import ANSWER, RecordingObserver, ask
from requests.adapters import HTTPAdapter

from rxmistral.errors import MistralError, StatusError
from rxmistral.rx.stream import Stream
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps
from rxmistral.wire import blocks
from rxmistral.wire.reader import READERS, Request
from rxmistral.wire.session import open_session

pytestmark = pytest.mark.parametrize("reader", READERS, indirect=True)


def test_connection_is_reused_after_complete_responses() -> None:
    with ScriptedServer(lambda _: ANSWER) as server, open_session() as session:
        for _ in range(5):
            list(ask(server, session=session))
        assert server.connections == 1


@pytest.mark.parametrize("status", [400, 429, 500])
def test_connection_is_reused_after_refusals(status: int) -> None:
    with (
        ScriptedServer(lambda _: [steps.status(status, body={"message": "no"})]) as server,
        open_session() as session,
    ):
        for _ in range(5):
            with pytest.raises(StatusError):
                list(ask(server, session=session))
        assert server.connections == 1


def test_connection_is_released_before_completion() -> None:
    with ScriptedServer(lambda _: ANSWER) as server, open_session() as session:
        second, ended = RecordingObserver(), threading.Event()

        def again() -> None:
            ask(server, session=session).subscribe(second)
            ended.set()

        ask(server, session=session).subscribe(on_completed=again)
        assert ended.wait(BOUND)
        assert second.ended.wait(BOUND)
        assert server.connections == 1


def test_connection_is_closed_before_the_error_is_emitted() -> None:
    with ScriptedServer([steps.hang()], ANSWER) as server:
        with requests.Session() as session:
            session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
            second = RecordingObserver()
            ask(server, session=session, read_timeout=0.05).subscribe(
                on_error=lambda _: ask(server, session=session).subscribe(second)
            )
            assert second.ended.wait(BOUND)
        assert second.terminals == [None]


def test_closed_session_closes_connections_of_kept_responses() -> None:
    kept: list[Any] = []
    with ScriptedServer(ANSWER) as server:
        with open_session() as session:
            list(ask(server, session=session, on_response=kept.append))
            assert server.open_connections == 1
        assert server.wait_idle()
    assert kept


def endings() -> dict[str, tuple[Script, Callable[[Stream[bytes]], None]]]:
    def read_all(stream: Stream[bytes]) -> None:
        list(stream)

    def fails(stream: Stream[bytes]) -> None:
        with pytest.raises(MistralError):
            list(stream)

    def leave(stream: Stream[bytes]) -> None:
        next(iter(stream))

    def cancel(stream: Stream[bytes]) -> None:
        stream.subscribe().dispose()

    return {
        "complete": (ANSWER, read_all),
        "refused": ([steps.status(429, body={"message": "no"})], fails),
        "refused, and broken off": ([steps.status(429), steps.raw(b"no"), steps.abort()], fails),
        "no event stream": ([steps.status(200, body={"message": "no"})], fails),
        "dropped": ([*ANSWER, steps.drop()], fails),
        "no headers": ([steps.drop()], fails),
        "timed out": ([steps.hang()], fails),
        "left": ([*ANSWER, steps.hang()], leave),
        "cancelled": ([steps.hang()], cancel),
    }


@pytest.mark.parametrize(("script", "end"), endings().values(), ids=endings().keys())
def test_pool_of_one_connection_never_starves(
    script: Script, end: Callable[[Stream[bytes]], None]
) -> None:
    def play(request: ReceivedRequest) -> Script:
        return ANSWER if request.path == "/last" else script

    with ScriptedServer(play) as server, requests.Session() as session:
        session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))
        for _ in range(3):
            end(ask(server, session=session, read_timeout=0.5))
        last = blocks(Request("POST", server.url + "/last"), session=session)
        observer = RecordingObserver()
        last.subscribe(observer)
        assert observer.ended.wait(BOUND)
        assert observer.terminals == [None]


def test_reused_connection_can_be_cancelled() -> None:
    with ScriptedServer(ANSWER, [steps.hang()]) as server, requests.Session() as session:
        session.get(server.url)
        subscription = ask(server, session=session).subscribe()
        second = server.wait_for_requests(2)[1]
        assert second.connection == 0
        subscription.dispose()
        assert second.wait_closed()
