"""Measure many paced streams on a machine that has other work to do.

    python tests/benchmarks/contention.py

    busy       next to two processes for each core that compute all the time
    throttled  stopped for 50 ms of every 100, as a container with a quota of half a core is

The first row of each is the limit: one thread with a bare selector, in the same run. What counts
is that the number of threads stays as it is, and how the 99th percentile compares. Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from parent import Client, Reader, Server

STREAMS = 300
SECONDS = 6.0
READERS = [
    Reader("hand", "socket"),
    Reader("rxmistral", "subscribe, text"),
    Reader("rxmistral", "async for, text"),
]
_PERIOD_SECONDS = 0.1


@contextmanager
def busy(_: Client) -> Iterator[None]:
    count = 2 * (os.cpu_count() or 1)
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@contextmanager
def throttled(client: Client) -> Iterator[None]:
    over = Event()

    def stop_and_go_on() -> None:
        while not over.wait(_PERIOD_SECONDS / 2):
            os.kill(client.pid, signal.SIGSTOP)
            time.sleep(_PERIOD_SECONDS / 2)
            os.kill(client.pid, signal.SIGCONT)

    thread = Thread(target=stop_and_go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def measure(server: Server, reader: Reader, contention: Any) -> dict[str, Any]:
    with Client(reader) as client, contention(client):
        return client.measure(
            "paced",
            warm=server.burst(20),
            url=server.paced,
            streams=STREAMS,
            settle=2.0,
            seconds=SECONDS,
        )


def main() -> None:
    for contention in (busy, throttled):
        for reader in READERS:
            with Server() as server:
                found = measure(server, reader, contention)
            latency = found["latency_ms"]
            print(
                f"{contention.__name__:10} {reader!s:30} p50 {latency['p50']:8.1f} ms  "
                f"p99 {latency['p99']:8.1f} ms  {found['cpu_us']:6.1f} us/chunk  "
                f"{found['threads']:3} threads  carried {found['carried']:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
