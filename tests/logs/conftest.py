"""Fixtures that open each kind of log, so that one test covers all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from brokers import Broker, Nats, Redis, nats_server, redis_server

from rxmistral import MemoryLog
from rxmistral.logs.jetstream import NatsLog
from rxmistral.logs.redis_streams import RedisLog

LOGS: dict[str, Any] = {"memory": MemoryLog, "redis": RedisLog, "nats": NatsLog}
BROKERS: dict[str, type[Broker]] = {"redis": Redis, "nats": Nats}
INSTALLED = {"memory": True, "redis": redis_server(), "nats": nats_server()}

names = (f"test{number}" for number in count())


@pytest.fixture(scope="session")
def brokers() -> Iterator[Callable[[str], Broker]]:
    """Starts one broker of each kind, for all tests that do not kill it."""
    started: dict[str, Broker] = {}
    with tempfile.TemporaryDirectory() as directory:

        def broker(kind: str) -> Broker:
            if kind not in started:
                started[kind] = BROKERS[kind](Path(directory) / kind)
            return started[kind]

        yield broker
        for each in started.values():
            each.kill()


def _skip_unless_installed(kind: str) -> str:
    if not INSTALLED[kind]:
        pytest.skip(f"{kind}-server is not installed")
    return kind


@pytest.fixture(params=LOGS)
def kind(request: pytest.FixtureRequest) -> str:
    return _skip_unless_installed(request.param)


@pytest.fixture(params=BROKERS)
def broker_kind(request: pytest.FixtureRequest) -> str:
    return _skip_unless_installed(request.param)


@pytest.fixture
def open_log(kind: str, brokers: Callable[[str], Broker]) -> Iterator[Callable[..., Any]]:
    """Returns a function that opens a log; opened again, it is the log of another process."""
    name = next(names)
    in_memory: list[Any] = []
    with ExitStack() as opened:

        def open_log(**bounds: float) -> Any:
            if kind == "memory":
                in_memory[:] = in_memory or [MemoryLog(**bounds)]  # type: ignore[arg-type]
                return in_memory[0]
            return opened.enter_context(LOGS[kind](brokers(kind).url, name=name, **bounds))

        yield open_log


@pytest.fixture
def log(open_log: Callable[..., Any]) -> Any:
    return open_log()


@pytest.fixture
def broker(broker_kind: str, tmp_path: Path) -> Iterator[Broker]:
    """Starts a broker that the test may kill."""
    broker = BROKERS[broker_kind](tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def log_at(broker_kind: str) -> Iterator[Callable[..., Any]]:
    """Returns a function that opens a log at a broker."""
    with ExitStack() as opened:
        yield lambda broker, **bounds: opened.enter_context(LOGS[broker_kind](broker.url, **bounds))
