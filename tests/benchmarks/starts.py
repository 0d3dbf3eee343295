"""Measures how answers begin: the first token, and the cost of a start."""

from __future__ import annotations

import math
import statistics

from parent import HAND, LOOP, PEERS, SOCKET, Client, Reader, Server, Size, clients, ours
from report import Bar, Rows, named

_TIMES = 200
_SHORT = 5  # chunks


def first(server: Server, size: Size) -> Rows:
    """Measures milliseconds to the first token, and how many more than over a socket."""
    readers = [SOCKET, HAND, *ours("text"), *PEERS]
    times: dict[Reader, list[float]] = {}
    with clients(readers) as here:
        for number in range(size.rounds + 1):
            for reader, client in here.items():
                each = client.measure("first", url=server.burst(20), times=_TIMES // size.rounds)
                if number:
                    times.setdefault(reader, []).extend(each["seconds"])
    median = {reader: statistics.median(each) * 1e3 for reader, each in times.items()}
    return {
        str(reader): {"median ms": median[reader], "over a socket's": median[reader] - median[SOCKET]}
        for reader in times
    }  # fmt: skip


# --- start -----------------------------------------------------------------------


def start(server: Server, size: Size) -> Rows:
    """Measures the CPU microseconds of a short answer, and how many times those by hand."""
    readers = [HAND, *ours("text")]
    return _start(server, size, [*readers, *PEERS]) | _start(server, size, readers, tls=True)


def _start(server: Server, size: Size, readers: list[Reader], *, tls: bool = False) -> Rows:
    best: dict[Reader, float] = {}
    url = server.burst(_SHORT, tls=tls)
    with clients(readers) as here:
        for _ in range(size.rounds):
            for reader, client in here.items():
                each = client.measure("start", url=url, times=_TIMES // size.rounds)
                best[reader] = min(each["seconds"] * 1e6, best.get(reader, math.inf))
    return {
        named(reader, tls): {"CPU us": each, "of by hand": each / best[HAND]}
        for reader, each in best.items()
    }


def start_bars(rows: Rows) -> list[Bar]:
    return [
        Bar(f"{named(f'start, {face}', tls)}: times by hand", row["of by hand"], 2.0)
        for face in ("subscribe", "for")
        for tls in (False, True)
        for row in [rows[named(f"rxmistral: {face}, text", tls)]]
    ]


# --- starts ----------------------------------------------------------------------

_AT_ONCE = 200
_STARTS = [Reader("rxmistral", f"{face}, text") for face in ("subscribe on a loop", "async for")]


def starts(server: Server, size: Size) -> Rows:
    """Measures the longest milliseconds for which 200 starts at once hold an event loop.

    The first time in a process, all connections but one have to be opened; of several processes,
    the one in which that took the least counts. The next times are its median.
    """
    rows: Rows = {}
    peers = [reader for reader in PEERS if reader.way == "async for" and reader.installed]
    for tls, readers in ((False, [LOOP, *_STARTS, *peers]), (True, [LOOP, *_STARTS])):
        for reader in readers:
            url, runs = server.burst(_SHORT, tls=tls), 1 + size.rounds // 3
            first, *following = min(_held(reader, url) for _ in range(runs))
            rows[named(reader, tls)] = {"first ms": first, "next ms": statistics.median(following)}
    return rows


def _held(reader: Reader, url: str) -> list[float]:
    with Client(reader) as client:
        held = client.measure("starts", url=url, count=_AT_ONCE, times=4)["seconds"]
    return [seconds * 1e3 for seconds in held]


def starts_bars(rows: Rows) -> list[Bar]:
    return [
        Bar(f"{named(f'200 starts, {reader.way}', tls)}: {column}", row[column], 50)
        for reader in _STARTS
        for tls in (False, True)
        for row in [rows[named(reader, tls)]]
        for column in row
    ]
