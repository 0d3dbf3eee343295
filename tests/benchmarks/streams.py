"""Measures streams: rxmistral, a loop written by hand, and other libraries.

    python tests/benchmarks/streams.py [PART ...] [--quick] [--json FILE]

    burst    20 000 chunks as fast as possible: microseconds per chunk
    growth   microseconds per chunk for 1 k, 10 k and 100 k chunks, and events of 100 B to 1 MB
    first    from the request to the first token, on a client that has a connection
    start    CPU of an answer of five chunks, on a client that has a connection
    starts   200 such answers at once on an event loop: for how long they hold it
    paced    20, 300 and 1000 streams of 50 chunks per second: CPU, latency, memory, threads
    memory   an hour of tokens in one stream; 100 MB that are read slowly
    cold     from the start of a process to the first token; the cost of imports

Each part prints a table. The end lists the bars that rxmistral must meet, and the measured values.
The ratios are those to a reader without a library on the same kind of socket, plain or TLS: `hand:
loop` for one answer; for many, the limits `hand: socket` (one thread with a selector) and `hand:
asyncio` (a protocol for each socket, on one event loop).

Times are the best of several, because the machine is never quite idle; compare ratios within one
run. `mistralai` and `openai` are included if they are installed. Each reader is a process of its
own, `client.py`, and so is the server. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import bursts
import coldstart
import memory
import paced
import starts
from parent import OtherLoad, Server, Size
from report import Bar, Rows, machine, show, show_bars

FULL = Size(chunks=20_000, rounds=7, windows=6, megabytes=100, tokens=180_000)
QUICK = Size(chunks=5_000, rounds=3, windows=3, megabytes=20, tokens=20_000)


class Part(NamedTuple):
    measure: Callable[[Server, Size], Rows]
    bars: Callable[[Rows], list[Bar]]


PARTS = {
    "burst": Part(bursts.burst, bursts.burst_bars),
    "growth": Part(bursts.growth, bursts.growth_bars),
    "first": Part(starts.first, lambda _: []),
    "start": Part(starts.start, starts.start_bars),
    "starts": Part(starts.starts, starts.starts_bars),
    "paced": Part(paced.paced, paced.paced_bars),
    "memory": Part(memory.memory, memory.memory_bars),
    "cold": Part(coldstart.cold, coldstart.cold_bars),
}


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
