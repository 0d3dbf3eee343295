"""One process that reads in one way, and measures itself.

    python tests/benchmarks/client.py LIBRARY WAY    for `streams.py`, which says what to do

A line of JSON comes in for each thing to measure, `[name, arguments]`, and one goes out
with what was found. So no library is slowed down by the garbage of another, and the CPU
time and the memory of the process are those of the client.
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
from threading import Thread
from typing import Any

from server import RATE, STAMP_DIGITS, allow_many_files
from ways import Take, Way, read_many

Found = dict[str, Any]


def drop(_: object) -> None:
    """Take a piece and do nothing with it."""


class Measure:
    """What may be asked; the names are those of the methods."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._runner = asyncio.Runner()
        self._client = cache(way.open)  # one for each URL

    def _read(self, url: str, take: Take) -> None:
        reading = self._way.read(self._client(url), take)
        if self._way.is_async:
            self._runner.run(reading)

    def burst(self, url: str, times: int = 1) -> Found:
        """Seconds for one answer, the least of several."""
        return {"seconds": min(self._burst(url) for _ in range(times))}

    def _burst(self, url: str) -> float:
        taken = 0

        def take(_: object) -> None:
            nonlocal taken
            taken += 1

        start = time.perf_counter()
        self._read(url, take)
        seconds = time.perf_counter() - start
        if not taken:
            raise RuntimeError(f"nothing came from {url}")
        return seconds

    def first(self, url: str, times: int) -> Found:
        """Seconds from asking to the first piece, each time."""
        return {"seconds": [self._first(url) for _ in range(times)]}

    def _first(self, url: str) -> float:
        first = 0.0

        def take(_: object) -> None:
            nonlocal first
            first = first or time.perf_counter()

        start = time.perf_counter()
        self._read(url, take)
        return first - start

    def tokens(self, url: str, count: int) -> Found:
        """Resident bytes at each tenth of an answer, and at its end."""
        self._read(url, drop)
        sizes, taken = [], 0

        def take(_: object) -> None:
            nonlocal taken
            taken += 1
            if taken % (count // 10) == 0:
                sizes.append(resident())

        self._read(url, take)
        return {"resident": sizes}

    def slow(self, warm: str, url: str, pause: float) -> Found:
        """How many bytes the process grows while a consumer sleeps after each piece."""
        self._read(warm, drop)
        before = highest = resident()

        def take(_: object) -> None:
            nonlocal highest
            highest = max(highest, resident())
            time.sleep(pause)

        start = time.perf_counter()
        self._read(url, take)
        seconds = time.perf_counter() - start
        return {"growth": max(highest, resident()) - before, "seconds": seconds}

    def paced(self, warm: str, url: str, streams: int, settle: float, seconds: float) -> Found:
        """CPU, latency and memory of many streams at once. The last that is measured: the
        streams never end, and go with the process."""
        self._read(warm, drop)
        paced = Paced(streams)
        before = anonymous()
        client = self._way.open(url)
        Thread(target=read_many, args=(self._way, client, streams, paced.take)).start()
        paced.wait_for_all()
        time.sleep(settle)
        memory = anonymous() - before - paced.latencies.itemsize * len(paced.latencies)
        return {
            **paced.watch(seconds),
            "memory": memory / streams,
            "threads": int(status("Threads")),
            "open": len(paced.began),
        }


class Paced:
    """Watches many streams whose pieces say when they were sent."""

    def __init__(self, streams: int) -> None:
        self.latencies = array("q")  # nanoseconds
        self.began: list[int] = []
        self._streams = streams

    def take(self, stamp: str) -> None:
        sent = int(stamp[-STAMP_DIGITS:])
        if sent:
            self.latencies.append(time.monotonic_ns() - sent)
        else:
            self.began.append(sent)

    def wait_for_all(self, patience: float = 30.0) -> None:
        until = time.monotonic() + patience
        while len(self.began) < self._streams and time.monotonic() < until:
            time.sleep(0.01)

    def watch(self, seconds: float) -> Found:
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
    """Of nanoseconds, in milliseconds."""
    if not latencies:
        return {}
    last = len(latencies) - 1
    return {f"p{each:g}": latencies[int(last * each / 100)] / 1e6 for each in (50, 95, 99, 99.9)}


# --- what Linux says of a process ------------------------------------------------


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def anonymous() -> int:
    """Bytes that are of no file: what other processes do changes nothing about them."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(re.findall(r"\nAnonymous: *(\d+) kB", rollup)[0]) * 1024


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name + ":"))


def asked() -> Iterator[tuple[Callable[..., Found], dict[str, Any]]]:
    _, library, name = sys.argv
    measure = Measure(import_module(f"by_{library}").WAYS[name])
    for line in sys.stdin:
        what, arguments = json.loads(line)
        yield getattr(measure, what), arguments


if __name__ == "__main__":
    allow_many_files()
    for work, arguments in asked():
        print(json.dumps(work(**arguments)), flush=True)
    os._exit(0)  # paced streams have threads that never end
