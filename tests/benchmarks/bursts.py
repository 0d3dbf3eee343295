"""Measures bursts: answers that are sent as fast as they are read."""

from __future__ import annotations

from typing import NamedTuple

from parent import FACES, HAND, MEGABYTE, PEERS, Client, Reader, Server, Size, clients, ours
from report import Bar, Rows, named

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
    rows: Rows = {}
    for tls, wanted in ((False, readers), (True, [HAND, *ours("text")])):
        answer = Burst(server.burst(size.chunks, tls=tls), size.chunks)
        best = best_bursts(wanted, [answer], size.rounds)
        us = {reader: each[0] / size.chunks * 1e6 for reader, each in best.items()}
        for reader in us:
            rows[named(reader, tls)] = {"us/chunk": us[reader]} | _ratios(reader, us)
    return rows


def _ratios(reader: Reader, us: dict[Reader, float]) -> dict[str, float]:
    """Returns the time relative to the loop by hand, and those of the peers relative to it."""
    way = "async for" if reader.way.startswith("async for") else "for"
    peers = {f"{name}'s": Reader(name, way) for name in ("mistralai", "openai")}
    by_peers = {title: us[peer] / us[reader] for title, peer in peers.items() if peer in us}
    return {"of by hand": us[reader] / us[HAND]} | by_peers


def growth(server: Server, size: Size) -> Rows:
    """Measures microseconds for each chunk after the first."""
    answers = {
        f"{count // 1000} k": Burst(server.burst(count), count, 20_000 // count or 1)
        for count in (1_000, 10_000, 100_000)
    }
    for event in (100, 1_000, 10_000, 100_000, MEGABYTE):
        count = min(size.chunks, 20 * MEGABYTE // event)
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


def burst_bars(rows: Rows) -> list[Bar]:
    bars = []
    for face, official, openai, hand in (
        ("subscribe", 100, 25, 1.1),
        ("for", 100, 25, 1.4),
        ("async for", 80, None, 1.4),
    ):
        reader, name = Reader("rxmistral", f"{face}, text"), f"burst, {face}"
        row = rows[named(reader)]
        for tls in (False, True):
            measured = rows[named(reader, tls)]["of by hand"]
            bars.append(Bar(f"{named(name, tls)}: times by hand", measured, hand))
        if "mistralai's" in row:
            bars.append(
                Bar(f"{name}: times faster than mistralai", row["mistralai's"], official, True)
            )
        if openai and "openai's" in row:
            bars.append(Bar(f"{name}: times faster than openai", row["openai's"], openai, True))
    return bars


def growth_bars(rows: Rows) -> list[Bar]:
    bars = []
    for face in FACES:
        costs = list(rows[f"rxmistral: {face}, text"].values())[:3]
        bars.append(
            Bar(f"growth, {face}: of the longest answer to the shortest", costs[2] / costs[0], 1.2)
        )
    return bars
