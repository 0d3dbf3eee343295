"""Measures many paced streams at once: each group beside the limit on the same kind of socket.

On a busy machine a reader is late, and then reads several chunks at once for less CPU each. So of
several windows of a second, the one with the lowest 99th percentile counts, and of several runs
the one in which other processes did the least.

The threads are those of the library: all of the process, except its main thread, and the thread
that reads, which is that of the event loop for `async for`.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

from parent import LOOP, SOCKET, Client, OtherLoad, Reader, Server, Size
from report import Bar, Rows, named

STREAMS = (20, 300, 1000)
_CARRIED = 0.95  # of the chunks sent; a reader with less fell behind


class Case(NamedTuple):
    """So many streams of a reader."""

    reader: Reader
    streams: int
    tls: bool = False

    def __str__(self) -> str:
        return named(f"{self.reader}, {self.streams} streams", self.tls)


class Face(NamedTuple):
    """A way to read that has a limit, and how many times the limit's CPU it may take."""

    reader: Reader
    limit: Reader
    times: float
    threads: int


PACED = [
    Face(Reader("rxmistral", "subscribe, text"), SOCKET, times=1.7, threads=8),
    Face(Reader("rxmistral", "async for, text"), LOOP, times=1.4, threads=2),
]
# Each group is measured in one go. The first case is its limit, if it has one.
GROUPS = [
    [Case(reader, count, tls) for reader in (face.limit, face.reader)]
    for tls in (False, True)
    for face in PACED
    for count in STREAMS
]
GROUPS += [[Case(Reader("rxmistral", f"{face.reader.way}, threads"), 300)] for face in PACED]
GROUPS += [
    [Case(Reader(library, "async for"), count)]
    for library, most in (("mistralai", 50), ("openai", 150))
    for count in (20, most)
]


def paced(server: Server, size: Size) -> Rows:
    groups = [group for group in GROUPS if group[0].reader.installed]
    rounds = [
        [measured(server, each, size) for each in groups] for _ in range(1 + size.rounds // 3)
    ]
    rows: Rows = {}
    for runs in zip(*rounds, strict=True):
        quietest: Rows = min(runs, key=lambda run: max(row["others'"] for row in run.values()))
        rows |= quietest
    return rows


def measured(server: Server, group: list[Case], size: Size) -> Rows:
    rows = {str(case): _observe(server, case, size.windows) for case in group}
    limit, *others = rows.values()
    for row in others:
        row["of limit"] = row["CPU us/chunk"] / limit["CPU us/chunk"]
        row["p99 of limit"] = row.get("p99 ms", math.inf) / limit.get("p99 ms", math.inf)
    return rows


def _observe(server: Server, case: Case, windows: int) -> dict[str, Any]:
    load, began, cpu = OtherLoad(server), time.monotonic(), server.cpu()
    url = server.paced(tls=case.tls)
    warm = server.burst(20, tls=case.tls)
    with Client(case.reader) as client:
        opened = client.measure("open", warm=warm, url=url, streams=case.streams)
        watched = [client.measure("watch", seconds=1.0) for _ in range(windows)]
    found = min(watched, key=lambda each: each["latency_ms"].get("p99", math.inf))
    return {
        "CPU us/chunk": found["cpu_us"],
        "of limit": None,
        "cores": found["cores"],
        "carried": found["carried"],
        **{f"{name} ms": each for name, each in found["latency_ms"].items()},
        "p99 of limit": None,
        "kB/stream": opened["memory"] / 1000,
        "threads": found["threads"],
        "server's cores": (server.cpu() - cpu) / (time.monotonic() - began),
        "others'": load.cores(),
    }


def paced_bars(rows: Rows) -> list[Bar]:
    return [bar for face in PACED for bar in (*_peer_bars(face, rows), *_limit_bars(face, rows))]


def _peer_bars(face: Face, rows: Rows) -> list[Bar]:
    bars = []
    for peer, times in (("mistralai", 15), ("openai", 7)):
        case = Case(Reader(peer, "async for"), 20)
        if str(case) in rows:
            own = _carried(rows[str(Case(face.reader, 20))], "CPU us/chunk")
            theirs = _carried(rows[str(case)], "CPU us/chunk")
            less = theirs / own if theirs and own else None
            bars.append(
                Bar(f"paced, {face.reader.way}, 20: times less CPU than {peer}", less, times, True)
            )
    return bars


def _limit_bars(face: Face, rows: Rows) -> list[Bar]:
    bars = []
    for tls in (False, True):
        for count in STREAMS:
            name = named(f"paced, {face.reader.way}, {count}", tls)
            limit = rows[str(Case(face.limit, count, tls))]
            row = rows[str(Case(face.reader, count, tls))]
            bars.append(
                Bar(f"{name}: times the limit's CPU", _carried(row, "of limit"), face.times)
            )
        # Those of the largest number of streams.
        bars += [
            Bar(
                f"{name}: p99 ms", _carried(row, "p99 ms"), max(25.0, 3 * limit.get("p99 ms", 0.0))
            ),
            Bar(f"{name}: kB/stream", row["kB/stream"], 50),
            Bar(f"{name}: threads", row["threads"], face.threads),
        ]
    return bars


def _carried(row: dict[str, Any], column: str) -> float | None:
    return row[column] if row["carried"] >= _CARRIED else None
