"""A process that reads in one way, and measures itself.

    python tests/benchmarks/client.py LIBRARY WAY    started by `streams.py`

It reads a line of JSON for each measurement, `[name, arguments]`, and writes a line with its
results. In a process of its own, no library is slowed down by the garbage of another, and the CPU
time and memory of the process are those of the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from server import RATE, STAMP_DIGITS, allow_many_files
from ways import Consume, Way, read_many

Results = dict[str, Any]


def drop(_: object) -> None:
    """Ignores a piece."""


class Measure:
    """The measurements, each by the name of its method."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._runner = asyncio.Runner()
        self._client = cache(way.open)  # one for each URL

    def _read(self, url: str, consume: Consume) -> None:
        reading = self._way.read(self._client(url), consume)
        if self._way.is_async:
            self._runner.run(reading)

    def burst(self, url: str, times: int = 1) -> Results:
        """Measures the seconds of one answer, the best of several."""
        return {"seconds": min(self._burst(url) for _ in range(times))}

    def _burst(self, url: str) -> float:
        consumed = 0

        def consume(_: object) -> None:
            nonlocal consumed
            consumed += 1

        start = time.perf_counter()
        self._read(url, consume)
        seconds = time.perf_counter() - start
        if not consumed:
            raise RuntimeError(f"no piece arrived from {url}")
        return seconds

    def start(self, url: str, times: int) -> Results:
        """Measures the CPU seconds of one short answer, the average of many."""
        self._read(url, drop)
        began = time.process_time()
        for _ in range(times):
            self._read(url, drop)
        return {"seconds": (time.process_time() - began) / times}

    def first(self, url: str, times: int) -> Results:
        """Measures the seconds from the request to the first piece, each time."""
        return {"seconds": [self._first(url) for _ in range(times)]}

    def _first(self, url: str) -> float:
        first = 0.0

        def consume(_: object) -> None:
            nonlocal first
            first = first or time.perf_counter()

        start = time.perf_counter()
        self._read(url, consume)
        return first - start

    def starts(self, url: str, count: int, times: int) -> Results:
        """Measures for how many seconds an event loop is held if many answers start at once.

        The first time, one connection is idle and each other answer opens one.
        """
        self._read(url, drop)
        return {"seconds": [self._runner.run(self._starts(url, count)) for _ in range(times)]}

    async def _starts(self, url: str, count: int) -> float:
        client = self._client(url)
        answers = asyncio.gather(*[self._way.read(client, drop) for _ in range(count)])
        seconds = await longest_gap(answers)
        await answers
        return seconds

    def tokens(self, url: str, count: int) -> Results:
        """Measures the resident bytes at each tenth of an answer, and at its end."""
        self._read(url, drop)
        sizes, consumed = [], 0

        def consume(_: object) -> None:
            nonlocal consumed
            consumed += 1
            if consumed % (count // 10) == 0:
                sizes.append(resident())

        self._read(url, consume)
        return {"resident": sizes}

    def slow(self, warm: str, url: str, pause: float) -> Results:
        """Measures by how many bytes the process grows if a consumer sleeps after each piece."""
        self._read(warm, drop)
        before = highest = resident()

        def consume(_: object) -> None:
            nonlocal highest
            highest = max(highest, resident())
            time.sleep(pause)

        start = time.perf_counter()
        self._read(url, consume)
        seconds = time.perf_counter() - start
        return {"growth": max(highest, resident()) - before, "seconds": seconds}

    def open(self, warm: str, url: str, streams: int) -> Results:
        """Opens many paced streams, and measures the memory of each.

        The streams end only with the process: only `watch` and `block` may follow.
        """
        self._read(warm, drop)
        self._paced = paced = Paced(streams)
        before = anonymous()
        client = self._way.open(url)
        Thread(target=read_many, args=(self._way, client, streams, paced.consume)).start()
        paced.wait_for_all()
        paced.catch_up()
        memory = anonymous() - before - paced.latencies.itemsize * len(paced.latencies)
        return {"memory": memory / streams, "threads": library_threads()}

    def watch(self, seconds: float) -> Results:
        """Measures CPU and latency of the streams that are open."""
        return {**self._paced.watch(seconds), "threads": library_threads()}

    def block(self, seconds: float) -> Results:
        """Measures the latency of all other streams while the callback of one sleeps."""
        return {"seconds": self._paced.block(seconds), "threads": library_threads()}


_SETTLE_SECONDS = 1.0
_CAUGHT_UP_NS = 200_000_000


class Paced:
    """Observes many streams whose pieces contain the time at which they were sent."""

    def __init__(self, streams: int) -> None:
        self.latencies = array("q")  # nanoseconds
        self.began: list[int] = []
        self._streams = streams
        self._block_seconds = 0.0  # for which the next callback sleeps
        self._blocked: SimpleQueue[float] = SimpleQueue()

    def consume(self, stamp: str) -> None:
        sent = int(stamp[-STAMP_DIGITS:])
        if sent:
            self.latencies.append(time.monotonic_ns() - sent)
        else:
            self.began.append(sent)
        if self._block_seconds:
            self._sleep()

    def _sleep(self) -> None:
        seconds, self._block_seconds = self._block_seconds, 0.0
        begin = len(self.latencies)
        time.sleep(seconds)
        self._blocked.put(max(self.latencies[begin:], default=seconds * 1e9) / 1e9)

    def block(self, seconds: float) -> float:
        """Returns the longest latency meanwhile; if there is none, nothing was read meanwhile."""
        self._block_seconds = seconds
        return self._blocked.get()

    def wait_for_all(self, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        while len(self.began) < self._streams and time.monotonic() < deadline:
            time.sleep(0.01)

    def catch_up(self, timeout: float = 15.0) -> None:
        """Waits until the latencies are short: those that began first lag behind by now."""
        deadline, lag = time.monotonic() + timeout, _CAUGHT_UP_NS + 1
        while lag > _CAUGHT_UP_NS and time.monotonic() < deadline:
            begin = len(self.latencies)
            time.sleep(_SETTLE_SECONDS)
            lag = max(self.latencies[begin:], default=lag)

    def watch(self, seconds: float) -> Results:
        wall, cpu, begin = time.monotonic(), time.process_time(), len(self.latencies)
        time.sleep(seconds)
        cpu, end = time.process_time() - cpu, len(self.latencies)
        wall = time.monotonic() - wall
        return {
            "cpu_us": cpu / max(1, end - begin) * 1e6,
            "cores": cpu / wall,
            "carried": (end - begin) / (self._streams * RATE * wall),
            "latency_ms": percentiles(sorted(self.latencies[begin:end])),
        }


def percentiles(latencies: list[int]) -> dict[str, float]:
    """Returns percentiles, in milliseconds, of sorted latencies in nanoseconds."""
    if not latencies:
        return {}
    last = len(latencies) - 1
    return {f"p{each:g}": latencies[int(last * each / 100)] / 1e6 for each in (50, 95, 99, 99.9)}


_TICK_SECONDS = 0.001


async def longest_gap(work: asyncio.Future[Any]) -> float:
    """Returns the longest seconds between two wake-ups of a task that ticks until work is done."""
    longest, woken = 0.0, time.perf_counter()
    while not work.done():
        await asyncio.sleep(_TICK_SECONDS)
        now = time.perf_counter()
        longest, woken = max(longest, now - woken), now
    return longest


# --- the process, as Linux reports it --------------------------------------------


def resident() -> int:
    """Returns the resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def anonymous() -> int:
    """Returns the bytes that belong to no file: they do not depend on other processes."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(re.findall(r"\nAnonymous: *(\d+) kB", rollup)[0]) * 1024


def library_threads() -> int:
    """Returns the threads without two: the main thread, and the one of the program that reads."""
    return len(os.listdir("/proc/self/task")) - 2


def requested_work() -> Iterator[tuple[Callable[..., Results], dict[str, Any]]]:
    _, library, way = sys.argv
    measure = Measure(import_module(f"by_{library}").WAYS[way])
    for line in sys.stdin:
        name, arguments = json.loads(line)
        yield getattr(measure, name), arguments


if __name__ == "__main__":
    allow_many_files()
    for work, arguments in requested_work():
        print(json.dumps(work(**arguments)), flush=True)
    os._exit(0)  # paced streams have threads that never end
