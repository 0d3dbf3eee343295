"""The log in memory: the cost of an append, and expiry."""

from __future__ import annotations

import time

import pytest

from rxmistral import MemoryLog, UnknownRunError
from rxmistral.logs.encoding import encode_item

ITEM = encode_item("a")


def seconds_of_appends(runs: int) -> float:
    log = MemoryLog()
    for number in range(runs):
        log.begin(f"run{number}", "token")
    began = time.thread_time()
    for first in range(1, 301):
        log.append("run0", "token", first, [ITEM])
    return time.thread_time() - began


def test_append_cost_does_not_depend_on_the_number_of_runs() -> None:
    few = min(seconds_of_appends(5) for _ in range(3))
    assert min(seconds_of_appends(5000) for _ in range(3)) < 10 * few


def test_runs_expire_in_the_order_of_their_last_heartbeats() -> None:
    log = MemoryLog(ttl=0.5, lease=0.2)
    log.begin("alive", "token")
    log.begin("silent", "token")
    deadline = time.monotonic() + 10
    while "silent" in log._runs:
        log.append("alive", "token", 1, [])
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(UnknownRunError):
        log.stop("silent")
    log.stop("alive")
