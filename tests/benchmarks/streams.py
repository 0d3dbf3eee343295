"""Measures streams: rxmistral, a loop written by hand, and other libraries.

    python tests/benchmarks/streams.py [PART ...] [--quick] [--json FILE]

    burst    20 000 chunks as fast as possible: microseconds per chunk
    growth   microseconds per chunk for 1 k, 10 k and 100 k chunks, and events of 100 B to 1 MB
    first    from the request to the first token, on a client that has a connection
    start    CPU of an answer of five chunks, on a client that has a connection
    paced    20, 300 and 1000 streams of 50 chunks per second: CPU, latency, memory, threads
    memory   an hour of tokens in one stream; 100 MB that are read slowly
    cold     from the start of a process to the first token; the cost of imports

Each part prints a table. The end lists the limits that rxmistral must meet, and the measured
values. Times are the best of several, because the machine is never quite idle; compare ratios
within one run. `mistralai` and `openai` are included if they are installed. Each reader is a
process of its own, `client.py`, and so is the server. Linux only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple

import coldstart
from parent import HERE, Client, OtherLoad, Reader, Server, clients

Rows = dict[str, dict[str, Any]]

FACES = ("subscribe", "for", "async for")
HAND = Reader("hand", "loop")
SOCKET = Reader("hand", "socket")
LOOP = Reader("hand", "asyncio")
PEERS = [Reader(name, way) for name in ("mistralai", "openai") for way in ("for", "async for")]


def ours(*pipes: str) -> list[Reader]:
    return [Reader("rxmistral", f"{face}, {pipe}") for pipe in pipes for face in FACES]


class Size(NamedTuple):
    """How much to measure."""

    chunks: int
    rounds: int
    seconds: float  # of observation of the paced streams
    megabytes: int  # for a slow consumer
    tokens: int


FULL = Size(chunks=20_000, rounds=7, seconds=5.0, megabytes=100, tokens=180_000)
QUICK = Size(chunks=5_000, rounds=3, seconds=2.0, megabytes=20, tokens=20_000)

# --- burst and growth ------------------------------------------------------------

_LONG = 1.0  # seconds; slower readers are measured in fewer rounds


class Burst(NamedTuple):
    """A burst to read, and how often in each round."""

    url: str
    chunks: int
    times: int = 1


def best_bursts(
    readers: list[Reader], answers: list[Burst], rounds: int
) -> dict[Reader, list[float]]:
    """Returns the best seconds for each burst; the readers alternate."""
    best: dict[Reader, list[float]] = {}
    with clients(readers) as here:
        for number in range(rounds + 1):
            for reader, client in here.items():
                if number <= rounds // 2 or max(best[reader]) < _LONG:
                    each = [seconds(client, answer) for answer in answers]
                    # The first round connects, and runs everything that is lazy.
                    so_far = best.get(reader, each) if number > 1 else each
                    best[reader] = list(map(min, each, so_far))
    return best


def seconds(client: Client, answer: Burst) -> float:
    return float(client.measure("burst", url=answer.url, times=answer.times)["seconds"])


def burst(server: Server, size: Size) -> Rows:
    pipes = ("completions", "text", "sentences", "5 operators")
    readers = [HAND, Reader("hand", "loop, content only"), *ours(*pipes), *PEERS]
    answer = Burst(server.burst(size.chunks), size.chunks)
    best = best_bursts(readers, [answer], size.rounds)
    us = {reader: each[0] / size.chunks * 1e6 for reader, each in best.items()}
    return {str(reader): {"us/chunk": us[reader]} | _ratios(reader, us) for reader in us}


def _ratios(reader: Reader, us: dict[Reader, float]) -> dict[str, float]:
    """Returns the time relative to the loop by hand, and those of the peers relative to it."""
    way = "async for" if reader.way.startswith("async for") else "for"
    peers = {f"{name}'s": Reader(name, way) for name in ("mistralai", "openai")}
    by_peers = {title: us[peer] / us[reader] for title, peer in peers.items() if peer in us}
    return {"of by hand": us[reader] / us[HAND]} | by_peers


_MB = 10**6


def growth(server: Server, size: Size) -> Rows:
    """Measures microseconds for each chunk after the first."""
    answers = {
        f"{count // 1000} k": Burst(server.burst(count), count, 20_000 // count or 1)
        for count in (1_000, 10_000, 100_000)
    }
    for event in (100, 1_000, 10_000, 100_000, _MB):
        count = min(size.chunks, 20 * _MB // event)
        answers[f"{event} B"] = Burst(server.burst(count, event), count)
    empty = Burst(server.burst(1), 1, 20)
    best = best_bursts([HAND, *ours("text")], [empty, *answers.values()], size.rounds)
    return {
        str(reader): {
            title: (total - one) / (answer.chunks - 1) * 1e6
            for (title, answer), total in zip(answers.items(), each, strict=True)
        }
        for reader, (one, *each) in best.items()
    }


# --- first -----------------------------------------------------------------------

_TIMES = 200


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
    best: dict[Reader, float] = {}
    with clients([HAND, *ours("text"), *PEERS]) as here:
        for _ in range(size.rounds):
            for reader, client in here.items():
                each = client.measure("start", url=server.burst(5), times=_TIMES // size.rounds)
                best[reader] = min(each["seconds"] * 1e6, best.get(reader, math.inf))
    return {
        str(reader): {"CPU us": each, "of by hand": each / best[HAND]}
        for reader, each in best.items()
    }


# --- paced -----------------------------------------------------------------------

STREAMS = (20, 300, 1000)
_SETTLE = 1.0  # seconds after the last stream has begun
PACED_WAYS = ["async for, text", "subscribe, text"]
WITH_THREADS = [f"{way}, threads" for way in PACED_WAYS]  # one each, for comparison
PACED = [
    *[(limit, count) for limit in (SOCKET, LOOP) for count in STREAMS],
    *[(Reader("rxmistral", way), count) for way in PACED_WAYS + WITH_THREADS for count in STREAMS],
    *[(Reader(name, "async for"), 20) for name in ("mistralai", "openai")],
    (Reader("mistralai", "async for"), 50),
    (Reader("openai", "async for"), 150),
]  # fmt: skip


def paced(server: Server, size: Size) -> Rows:
    """Returns, of several runs, the one with the lowest 99th percentile.

    Runs that fell behind are chosen last: pieces that did not arrive are not late.
    """
    wanted = [each for each in PACED if each[0].installed]
    runs = [
        {each: _observe(server, *each, size.seconds) for each in wanted}
        for _ in range(1 + size.rounds // 3)
    ]
    return {
        f"{reader}, {count} streams": min((run[reader, count] for run in runs), key=_badness)
        for reader, count in wanted
    }


# Of the chunks sent. A reader with less fell behind, and its other values mean little.
_CARRIED = 0.95


def _badness(row: dict[str, Any]) -> tuple[bool, float]:
    return row["carried"] < _CARRIED, row.get("p99 ms", math.inf)


def _observe(server: Server, reader: Reader, count: int, seconds: float) -> dict[str, Any]:
    load, began, cpu = OtherLoad(server), time.monotonic(), server.cpu()
    with Client(reader) as client:
        results = client.measure(
            "paced",
            warm=server.burst(20),
            url=server.paced,
            streams=count,
            settle=_SETTLE,
            seconds=seconds,
        )
    return {
        "CPU us/chunk": results["cpu_us"],
        "cores": results["cores"],
        "carried": results["carried"],
        **{f"{name} ms": each for name, each in results["latency_ms"].items()},
        "kB/stream": results["memory"] / 1000,
        "threads": results["threads"],
        "server's cores": (server.cpu() - cpu) / (time.monotonic() - began),
        "others'": load.cores(),
    }


# --- memory ----------------------------------------------------------------------

_PAUSE = 0.0001  # seconds, for 2 kB
_SMALL, _LARGE = 2_000, 50_000  # bytes of an event


def memory(server: Server, size: Size) -> Rows:
    return _hours(server, size) | _slow(server, size)


def _hours(server: Server, size: Size) -> Rows:
    rows: Rows = {}
    for reader in ours("text", "completions"):
        with Client(reader) as client:
            url = server.burst(size.tokens)
            client.measure("burst", url=url)
            sizes = client.measure("tokens", url=url, count=size.tokens)["resident"]
        rows[f"{reader}, {size.tokens} chunks"] = {
            "MB": sizes[0] / _MB,
            "growth MB": (max(sizes) - sizes[0]) / _MB,
        }
    return rows


def _slow(server: Server, size: Size) -> Rows:
    readers = [*ours("text"), Reader("rxmistral", "async for, sleeping")]
    rows = {}
    for event in (_SMALL, _LARGE):
        for reader in readers:
            with Client(reader) as client:
                results = client.measure(
                    "slow",
                    warm=server.burst(1000),
                    url=server.burst(size.megabytes * _MB // event, event),
                    pause=_PAUSE * event / _SMALL,
                )
            rows[f"{reader}, {size.megabytes} MB in events of {event // 1000} kB"] = {
                "growth MB": results["growth"] / _MB,
                "seconds": results["seconds"],
            }
    return rows


# --- cold ------------------------------------------------------------------------


def cold(server: Server, size: Size) -> Rows:
    runs = 10 * size.rounds // FULL.rounds
    url = server.burst(20)
    return coldstart.to_first_token(url, runs) | coldstart.imports(runs) | _unused(url)


def _unused(url: str) -> Rows:
    return {
        f"unused, {title}": {
            "best ms": sum(names.values()),
            "modules": len(names),
            "names": [f"{name} {spent:.1f}" for name, spent in names.items()],
        }
        for title, names in coldstart.unused(url).items()
    }


# --- the limits ------------------------------------------------------------------


class Bar(NamedTuple):
    name: str
    measured: float | None  # None: the reader fell behind
    most: float  # the least, if at_least
    at_least: bool = False

    @property
    def kept(self) -> bool:
        if self.measured is None:
            return False
        return self.measured >= self.most if self.at_least else self.measured <= self.most


def burst_bars(rows: Rows) -> list[Bar]:
    bars = []
    for face, official, openai, hand in (
        ("subscribe", 100, 25, 1.4),
        ("for", 100, 25, 1.4),
        ("async for", 80, None, 2.0),
    ):
        row, name = rows[f"rxmistral: {face}, text"], f"burst, {face}"
        bars.append(Bar(f"{name}: times by hand", row["of by hand"], hand))
        if "mistralai's" in row:
            bars.append(
                Bar(f"{name}: times faster than mistralai", row["mistralai's"], official, True)
            )
        if openai and "openai's" in row:
            bars.append(Bar(f"{name}: times faster than openai", row["openai's"], openai, True))
    return bars  # fmt: skip


def growth_bars(rows: Rows) -> list[Bar]:
    bars = []
    for face in FACES:
        costs = list(rows[f"rxmistral: {face}, text"].values())[:3]
        bars.append(
            Bar(f"growth, {face}: of the longest answer to the shortest", costs[2] / costs[0], 1.2)
        )
    return bars  # fmt: skip


def paced_bars(rows: Rows) -> list[Bar]:
    bars = []
    for way in PACED_WAYS:
        name, row = f"paced, {way}", f"rxmistral: {way}"
        for peer, times in (("mistralai", 12), ("openai", 5)):
            if f"{peer}: async for, 20 streams" in rows:
                theirs = _carried(rows, f"{peer}: async for, 20 streams", "CPU us/chunk")
                own = _carried(rows, f"{row}, 20 streams", "CPU us/chunk")
                less = theirs / own if theirs and own else None
                bars.append(
                    Bar(f"{name}, 20 streams: times less CPU than {peer}", less, times, True)
                )
        limit, times = (SOCKET, 1.7) if way.startswith("subscribe") else (LOOP, 1.4)
        for count in STREAMS:
            own = _carried(rows, f"{row}, {count} streams", "CPU us/chunk")
            theirs = _carried(rows, f"{limit}, {count} streams", "CPU us/chunk")
            ratio = own / theirs if own and theirs else None
            bars.append(Bar(f"{name}, {count} streams: times the limit", ratio, times))
        for column, most in (("p99 ms", 25), ("kB/stream", 60)):
            measured = _carried(rows, f"{row}, 1000 streams", column)
            bars.append(Bar(f"{name}, 1000 streams: {column}", measured, most))
    return bars  # fmt: skip


def _carried(rows: Rows, name: str, column: str) -> float | None:
    row = rows[name]
    return row[column] if row["carried"] >= _CARRIED else None


def start_bars(rows: Rows) -> list[Bar]:
    return [
        Bar(f"start, {face}: times by hand", rows[f"rxmistral: {face}, text"]["of by hand"], 2.0)
        for face in ("subscribe", "for")
    ]


def memory_bars(rows: Rows) -> list[Bar]:
    """A slow consumer buffers 16 MiB of the answer, and a loop 512 more items."""
    return [
        Bar(
            f"memory, {name.removeprefix('rxmistral: ')}: growth MB",
            row["growth MB"],
            64 if "seconds" in row else 4,
        )
        for name, row in rows.items()
    ]


def cold_bars(rows: Rows) -> list[Bar]:
    theirs = rows.get("mistralai: for")
    if theirs is None:
        return []
    ours = rows["rxmistral: for"]
    return [Bar("cold start: of mistralai's", ours["best ms"] / theirs["best ms"], 0.5)]


class Part(NamedTuple):
    measure: Callable[[Server, Size], Rows]
    bars: Callable[[Rows], list[Bar]]


PARTS = {
    "burst": Part(burst, burst_bars),
    "growth": Part(growth, growth_bars),
    "first": Part(first, lambda _: []),
    "start": Part(start, start_bars),
    "paced": Part(paced, paced_bars),
    "memory": Part(memory, memory_bars),
    "cold": Part(cold, cold_bars),
}

# --- the output ------------------------------------------------------------------


_NAMES = 24  # of modules; all are in the JSON


def show(name: str, rows: Rows) -> None:
    titles = list(dict.fromkeys(title for row in rows.values() for title in row))
    wide = max(map(len, rows)) + 1
    columns = [title for title in titles if title != "names"]
    print(f"\n{name:{wide}}", *(f"{title:>{_width(title)}}" for title in columns))
    for row_name, row in rows.items():
        cells = (f"{_cell(row.get(title)):>{_width(title)}}" for title in columns)
        print(f"{row_name:{wide}}", *cells, flush=True)
    for row_name, row in rows.items():
        if row.get("names"):
            print(f"{row_name}:", ", ".join(row["names"][:_NAMES]), "...")


def _width(title: str) -> int:
    return max(9, len(title) + 1)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)


def show_bars(bars: list[Bar]) -> None:
    print(f"\n{'bars':75} {'measured':>9} {'wanted':>9}")
    for bar in bars:
        wanted = f"{'>=' if bar.at_least else '<='} {bar.most:g}"
        kept = "" if bar.kept else "   NOT KEPT"
        measured = "behind" if bar.measured is None else _cell(bar.measured)
        print(f"{bar.name:75} {measured:>9} {wanted:>9}{kept}")


def machine() -> dict[str, Any]:
    names = ("rxmistral", "reactivex", "requests", "urllib3", "msgspec", "mistralai", "openai")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "revision": _revision(),
        "versions": {name: _version(name) for name in names},
    }


def _revision() -> str | None:
    """Returns the revision, with "+" if the working tree, which is measured, has changes."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(
            command, check=True, stdout=PIPE, stderr=DEVNULL, text=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # not a clone


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    parser.add_argument("--quick", action="store_true", help="smaller measurements")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results")
    chosen = parser.parse_args()
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    return chosen


def main() -> None:
    chosen = options()
    others: dict[str, float] = {}
    results: dict[str, Any] = {"machine": machine(), "cores that others had": others}
    print(json.dumps(results["machine"]))
    bars: list[Bar] = []
    with Server() as server:
        for name in chosen.parts or PARTS:
            load = OtherLoad(server)
            rows = PARTS[name].measure(server, QUICK if chosen.quick else FULL)
            show(name, rows)
            others[name] = load.cores()
            print(f"meanwhile others had {others[name]:.2f} of {os.cpu_count()} cores")
            bars += PARTS[name].bars(rows)
            results[name] = rows
    show_bars(bars)
    results["bars"] = [bar._asdict() | {"kept": bar.kept} for bar in bars]
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
