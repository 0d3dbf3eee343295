"""Produces a run in a process of its own, which a test may kill.

    python producer.py redis|nats URL NAME LEASE RUN COUNT SECONDS

emits COUNT items, SECONDS apart, and prints them and how the run ended. With COUNT 0 it reads
the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import reactivex

from rxmistral import Stream, from_log, to_log
from rxmistral.logs.jetstream import NatsLog
from rxmistral.logs.redis_streams import RedisLog


def paced(count: int, seconds: float) -> Iterator[str]:
    for number in range(1, count + 1):
        yield f"word {number}"
        time.sleep(seconds)


def main(kind: str, url: str, name: str, lease: str, run: str, count: str, seconds: str) -> None:
    kinds = {"redis": RedisLog, "nats": NatsLog}
    with kinds[kind](url, name=name, lease=float(lease)) as log:
        if int(count) == 0:
            stream: Stream[str] = from_log(log, run)
        else:
            items = paced(int(count), float(seconds))
            stream = Stream.of(reactivex.from_iterable(items)).pipe(to_log(log, run))
        try:
            for item in stream:
                print(item, flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
        else:
            print("completed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
