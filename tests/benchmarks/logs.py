"""Measures how many items per second a log stores, and the latency from producer to reader.

    PYTHONPATH=tests python tests/benchmarks/logs.py

One process, with real brokers on the loopback interface, configured as in the tests.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import reactivex
from brokers import Nats, Redis  # of the tests

from rxmistral import MemoryLog, RunLog, Stream, from_log, to_log
from rxmistral.logs.jetstream import NatsLog
from rxmistral.logs.redis_streams import RedisLog

FAST = 50_000  # items, as fast as possible
PACED = 250  # items, 50 per second


def relay(log: RunLog, run_id: str, moments: Callable[[], Iterator[float]]) -> list[float]:
    """Returns the latency of each item in seconds; an item is the time at which it was emitted."""
    latencies: list[float] = []
    ended = threading.Event()

    def note(moment: float) -> None:
        latencies.append(time.perf_counter() - moment)

    from_log(log, run_id).subscribe(note, lambda _: ended.set(), ended.set)
    Stream.of(reactivex.from_iterable(moments())).pipe(to_log(log, run_id)).run()
    ended.wait()
    return latencies


def fast() -> Iterator[float]:
    for _ in range(FAST):
        yield time.perf_counter()


def paced() -> Iterator[float]:
    for _ in range(PACED):
        time.sleep(0.02)
        yield time.perf_counter()


def measure(name: str, log: RunLog) -> None:
    began = time.perf_counter()
    Stream.of(reactivex.from_iterable(fast())).pipe(to_log(log, f"{name}-alone")).run()
    alone = FAST / (time.perf_counter() - began)
    began = time.perf_counter()
    under_load = relay(log, f"{name}-fast", fast)
    both = FAST / (time.perf_counter() - began)
    at_50 = relay(log, f"{name}-paced", paced)
    print(
        f"{name:7} {alone:9,.0f}/s written  {both:9,.0f}/s written and read"
        f"  at full speed {describe(under_load)}  at 50/s {describe(at_50)}"
    )


def describe(latencies: list[float]) -> str:
    slowest = quantiles(latencies, n=100)[98]
    return f"{median(latencies) * 1e3:6.2f} ms (99%: {slowest * 1e3:6.2f})"


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as opened:
        measure("memory", MemoryLog())
        kinds: list[tuple[str, Any, Any]] = [("redis", Redis, RedisLog), ("nats", Nats, NatsLog)]
        for name, server, log in kinds:
            broker = server(Path(directory) / name)
            opened.callback(broker.kill)
            measure(name, opened.enter_context(log(broker.url)))


if __name__ == "__main__":
    main()
