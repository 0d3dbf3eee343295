"""Measures many paced streams on a machine that has other work to do.

    python tests/benchmarks/contention.py [PART ...]

    calm       before anything else happens
    busy       next to two processes for each core that compute all the time
    throttled  stopped for 50 ms of every 100, as a container with a quota of half a core is
    blocked    the callback of one stream sleeps for a second: the longest latency of the others

Each reader is next to its limit, as in `paced.py`. What counts is that nothing moves to another
thread on a busy machine, and that other streams go on if a callback does block. (`async for` has
no callbacks: a program that blocks its event loop stops all of it.) The threads are those of the
library, before and after. Linux only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Event, Thread
from typing import Any

from paced import PACED
from parent import SOCKET, Client, Reader, Server
from report import Bar, Rows, show, show_bars

STREAMS = 300
SECONDS = 4.0
SUBSCRIBE = Reader("rxmistral", "subscribe, text")
_PERIOD_SECONDS = 0.1
_TIMES_LIMIT = 4.0  # the 99th percentile of the limit's
_BLOCK_SECONDS = 1.0
# The watchdog of `rxmistral.rx.worker` promises 140; then they read what has arrived meanwhile.
_BLOCK_MOST_MS = 200.0


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


CONTENTIONS = {"calm": nullcontext, "busy": busy, "throttled": throttled}


def measure(reader: Reader, contention: Any) -> dict[str, Any]:
    with Server() as server, Client(reader) as client:
        before = open_streams(server, client)
        with contention(client):
            client.measure("watch", seconds=1.0)
            found = client.measure("watch", seconds=SECONDS)
    latency = found["latency_ms"]
    return {
        "p50 ms": latency["p50"],
        "p99 ms": latency["p99"],
        "CPU us/chunk": found["cpu_us"],
        "carried": found["carried"],
        "threads before": before,
        "after": found["threads"],
    }


def open_streams(server: Server, client: Client) -> int:
    """Returns the number of the library's threads once all streams are open."""
    opened = client.measure("open", warm=server.burst(20), url=server.paced(), streams=STREAMS)
    return int(opened["threads"])


def blocked(reader: Reader) -> dict[str, Any]:
    with Server() as server, Client(reader) as client:
        before = open_streams(server, client)
        found = client.measure("block", seconds=_BLOCK_SECONDS)
    return {
        "longest ms": found["seconds"] * 1e3,
        "threads before": before,
        "after": found["threads"],
    }


def under(name: str) -> tuple[Rows, list[Bar]]:
    rows: Rows = {}
    bars: list[Bar] = []
    for face in PACED:
        limit, row = (measure(each, CONTENTIONS[name]) for each in (face.limit, face.reader))
        ratio = row["p99 of limit"] = row["p99 ms"] / limit["p99 ms"]
        rows |= {str(face.limit): limit, str(face.reader): row}
        title = f"{name}, {face.reader.way}"
        more = row["after"] - row["threads before"]
        bars.append(Bar(f"{title}: times the limit's p99", ratio, _TIMES_LIMIT))
        bars.append(Bar(f"{title}: more threads", more, 0))
    return rows, bars


def if_blocked() -> tuple[Rows, list[Bar]]:
    rows = {str(reader): blocked(reader) for reader in (SOCKET, SUBSCRIBE)}
    longest = rows[str(SUBSCRIBE)]["longest ms"]
    return rows, [Bar("blocked, subscribe: longest ms", longest, _BLOCK_MOST_MS)]


PARTS = {name: partial(under, name) for name in CONTENTIONS} | {"blocked": if_blocked}


def main() -> None:
    bars: list[Bar] = []
    for name in sys.argv[1:] or PARTS:
        rows, its_bars = PARTS[name]()
        show(name, rows)
        bars += its_bars
    show_bars(bars)


if __name__ == "__main__":
    main()
