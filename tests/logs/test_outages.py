"""Producers, readers and brokers that are killed or stopped, and may return."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import reactivex
from brokers import Broker
from faces import BOUND, by_for, eventually
from reactivex import Subject, operators

from rxmistral import (
    LogError,
    LogUnavailableError,
    LostProducerError,
    StoppedError,
    Stream,
    from_log,
    to_log,
)
from rxmistral.logs.encoding import encode_ending, encode_item

OpenLog = Callable[..., Any]

PRODUCER = Path(__file__).parent / "producer.py"
LEASE = 3.0  # seconds


class Process:
    """A process that produces or reads a run, and prints its items."""

    def __init__(self, kind: str, url: str, run: str, count: int, seconds: float = 0.01) -> None:
        command = [sys.executable, str(PRODUCER), kind, url, "rxmistral", str(LEASE), run]
        self.process = subprocess.Popen(
            [*command, str(count), str(seconds)], stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> list[str]:
        """Returns the lines that were not read yet."""
        assert self.process.stdout is not None
        output = self.process.stdout.read()  # communicate() loses what readline() has buffered
        return str(output).split("\n")[:-1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@pytest.fixture
def spawn(broker_kind: str, broker: Broker) -> Iterator[Callable[..., Process]]:
    with ExitStack() as spawned:

        def spawn(run: str, count: int, seconds: float = 0.01) -> Process:
            process = Process(broker_kind, broker.url, run, count, seconds)
            spawned.enter_context(process.process)
            spawned.callback(process.process.kill)
            return process

        yield spawn


def words(count: int) -> list[str]:
    return [f"word {number}" for number in range(1, count + 1)]


# --- processes -------------------------------------------------------------------


def test_killed_producer_is_lost_and_its_items_stay(
    broker: Broker, log_at: OpenLog, spawn: Callable[..., Process]
) -> None:
    log = log_at(broker, lease=LEASE)
    producer = spawn("run", 10_000)
    assert producer.line() == "word 1"  # readers wait only one lease for a run to begin
    received: list[Any] = []
    enough, ended = threading.Event(), threading.Event()

    def receive(item: str) -> None:
        received.append(item)
        if len(received) == 20:
            enough.set()

    def fail(error: Exception) -> None:
        received.append(error)
        ended.set()

    from_log(log, "run").subscribe(receive, fail, ended.set)
    assert enough.wait(BOUND)
    producer.send(signal.SIGKILL)
    assert ended.wait(LEASE + BOUND)
    *items, error = received
    assert items == words(len(items))
    assert isinstance(error, LostProducerError)
    assert isinstance(by_for(from_log(log, "run"))[-1], LostProducerError)


def test_killed_reader_does_not_affect_the_run(
    broker: Broker, log_at: OpenLog, spawn: Callable[..., Process]
) -> None:
    producer = spawn("run", 300)
    assert producer.line() == "word 1"
    reader = spawn("run", 0)
    assert reader.line() == "word 1"
    reader.send(signal.SIGKILL)
    assert by_for(from_log(log_at(broker), "run")) == words(300)
    assert producer.end() == [*words(300)[1:], "completed"]


def test_superseded_producer_is_fenced_out_when_it_wakes_up(
    broker: Broker, log_at: OpenLog, spawn: Callable[..., Process]
) -> None:
    log = log_at(broker, lease=LEASE)
    producer = spawn("run", 10_000)
    assert producer.line() == "word 1"
    reader = from_log(log, "run")
    assert reader.take(1).run() == "word 1"
    producer.send(signal.SIGSTOP)
    *items, error = by_for(reader)
    assert isinstance(error, LostProducerError)
    rest = Stream.of(reactivex.of("and so on"))
    assert by_for(rest.pipe(to_log(log, "run", after=len(items)))) == ["and so on"]
    producer.send(signal.SIGCONT)
    assert producer.end()[-1] == "FencedError"
    assert by_for(reader) == [*items, "and so on"]


def test_run_is_stopped_from_another_process(
    broker: Broker, log_at: OpenLog, spawn: Callable[..., Process]
) -> None:
    producer = spawn("run", 10_000)
    assert producer.line() == "word 1"
    reader = spawn("run", 0)
    assert reader.line() == "word 1"
    log_at(broker).stop("run")
    assert producer.end()[-1] == reader.end()[-1] == "StoppedError"


# --- brokers ---------------------------------------------------------------------


def test_restarted_broker_loses_nothing(broker: Broker, log_at: OpenLog) -> None:
    source: Subject[str] = Subject()
    received: list[list[Any]] = [[], []]
    ended = [threading.Event(), threading.Event()]
    run = source.pipe(to_log(log_at(broker), "run"))
    for number, stream in enumerate((run, from_log(log_at(broker), "run"))):
        stream.pipe(operators.finally_action(ended[number].set)).subscribe(
            received[number].append, received[number].append
        )
    assert eventually(lambda: bool(source.observers))

    def restart() -> None:
        broker.kill()
        time.sleep(0.5)  # so that items arrive during the outage
        broker.start()

    restarting = threading.Thread(target=restart)
    for number, word in enumerate(words(1000)):
        if number in (200, 600):
            assert eventually(lambda: len(received[1]) > 100)
            restarting = threading.Thread(target=restart)
            restarting.start()
        source.on_next(word)
        time.sleep(0.001)
        if number == 599:
            restarting.join()
    restarting.join()
    source.on_completed()
    assert all(each.wait(BOUND) for each in ended)
    assert received == [words(1000), words(1000)]
    assert by_for(from_log(log_at(broker), "run")) == words(1000)


def test_answer_is_whole_when_the_broker_stays_unreachable(broker: Broker, log_at: OpenLog) -> None:
    source: Subject[str] = Subject()
    received: list[list[Any]] = [[], []]
    run = source.pipe(to_log(log_at(broker, outage=1.0), "run"))
    for number, stream in enumerate((run, from_log(log_at(broker, outage=1.0), "run"))):
        stream.subscribe(received[number].append, received[number].append)
    assert eventually(lambda: bool(source.observers))
    source.on_next("a")
    assert eventually(lambda: received == [["a"], ["a"]])
    broker.kill()
    for word in words(10_000):  # more than the write queue has room for
        source.on_next(word)
    assert received[0] == ["a", *words(10_000)]
    source.on_completed()
    assert eventually(lambda: len(received[0]) == 10_002 and len(received[1]) == 2)
    for error in (received[0][-1], received[1][-1]):
        assert isinstance(error, LogUnavailableError)
        assert error.seconds == 1


def test_answer_does_not_wait_for_an_unreachable_broker(broker: Broker, log_at: OpenLog) -> None:
    broker.kill()
    source: Subject[str] = Subject()
    received: list[Any] = []
    ended = threading.Event()
    source.pipe(to_log(log_at(broker), "run")).subscribe(
        received.append, received.append, ended.set
    )
    assert eventually(lambda: bool(source.observers))
    source.on_next("a")
    assert received == ["a"]
    broker.start()
    source.on_completed()
    assert ended.wait(BOUND)
    assert by_for(from_log(log_at(broker), "run")) == ["a"]


def test_unacknowledged_items_are_stored_once(
    broker: Broker, log_at: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("redis_streams", "nats_client"):
        monkeypatch.setattr(f"rxmistral.logs.{module}._ANSWER_TIMEOUT_SECONDS", 1.0)
    log = log_at(broker)
    log.begin("run", "one")
    end = encode_ending(None)
    for number, (word, ending) in enumerate((("a", None), ("b", end)), 1):
        broker.pause()
        with pytest.raises(LogUnavailableError):
            log.append("run", "one", number, [encode_item(word)], ending)
        broker.resume()  # and handles the call that it has received
        for _ in range(2):
            log.append("run", "one", number, [encode_item(word)], ending)
    assert by_for(from_log(log, "run")) == ["a", "b"]


def test_stop_waits_for_the_broker_and_takes_effect_later(broker: Broker, log_at: OpenLog) -> None:
    source: Subject[str] = Subject()
    received: list[Any] = []
    source.pipe(to_log(log_at(broker, lease=3.0), "run")).subscribe(
        received.append, received.append
    )
    assert eventually(lambda: bool(source.observers))
    source.on_next("a")
    assert from_log(log_at(broker), "run").take(1).run() == "a"
    broker.kill()
    stopping = threading.Thread(target=log_at(broker).stop, args=("run",))
    stopping.start()
    broker.start()
    stopping.join(BOUND)
    assert eventually(lambda: len(received) == 2)
    assert isinstance(received[1], StoppedError)
    assert not source.observers


def test_refused_item_is_an_error_for_producer_and_reader(
    broker_kind: str, broker: Broker, log_at: OpenLog
) -> None:
    if broker_kind == "redis":
        pytest.skip("Redis accepts items of 512 MB")
    log = log_at(broker)
    source = Stream.of(reactivex.of("a", "x" * 2_000_000, "c"))
    *items, error = by_for(source.pipe(to_log(log, "run")))
    assert items == ["a", "x" * 2_000_000, "c"]
    assert isinstance(error, LogError)
    item, same = by_for(from_log(log, "run"))
    assert item == "a"
    assert str(same) == str(error)


def test_closed_log_refuses_an_append(broker: Broker, log_at: OpenLog) -> None:
    log = log_at(broker)
    log.begin("run", "one")
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.append("run", "one", 1, [])


def test_answer_is_whole_when_the_log_is_closed(broker: Broker, log_at: OpenLog) -> None:
    log = log_at(broker)
    log.close()
    *items, error = by_for(Stream.of(reactivex.of("a", "b")).pipe(to_log(log, "run")))
    assert items == ["a", "b"]
    assert "closed" in str(error)
