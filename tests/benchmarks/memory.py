"""Measures the memory of long answers, and of slow consumers."""

from __future__ import annotations

from parent import MEGABYTE, Client, Reader, Server, Size, ours
from report import Bar, Rows

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
            "MB": sizes[0] / MEGABYTE,
            "growth MB": (max(sizes) - sizes[0]) / MEGABYTE,
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
                    url=server.burst(size.megabytes * MEGABYTE // event, event),
                    pause=_PAUSE * event / _SMALL,
                )
            rows[f"{reader}, {size.megabytes} MB in events of {event // 1000} kB"] = {
                "growth MB": results["growth"] / MEGABYTE,
                "seconds": results["seconds"],
            }
    return rows


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
