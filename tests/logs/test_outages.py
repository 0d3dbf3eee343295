"""Producers, readers and brokers that are killed, stopped, and come back or not."""

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
    """A producer, or a reader, that prints what it gets."""

    def __init__(self, kind: str, url: str, run: str, count: int, seconds: float = 0.01) -> None:
        command = [sys.executable, str(PRODUCER), kind, url, "rxmistral", str(LEASE), run]
        self.process = subprocess.Popen(
            [*command, str(count), str(seconds)], stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> list[str]:
        """What is left of its lines."""
        assert self.process.stdout is not None
        said = self.process.stdout.read()  # communicate() loses what readline() has buffered
        return str(said).split("\n")[:-1]

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


def test_a_killed_producer_is_lost_and_what_it_wrote_stands(
    broker: Broker, log_at: OpenLog, spawn: Callable[..., Process]
) -> None:
    log = log_at(broker, lease=LEASE)
    producer = spawn("run", 10_000)
    assert producer.line() == "word 1"  # a run that nobody has begun is not waited for long
    came: list[Any] = []
    enough, ended = threading.Event(), threading.Event()

    def take(item: str) -> None:
        came.append(item)
        if len(came) == 20:
            enough.set()

    def fail(error: Exception) -> None:
        came.append(error)
        ended.set()

    from_log(log, "run").subscribe(take, fail, ended.set)
    assert enough.wait(BOUND)
    producer.send(signal.SIGKILL)
    assert ended.wait(LEASE + BOUND)
    *items, error = came
    assert items == words(len(items))
    assert isinstance(error, LostProducerError)
    assert isinstance(by_for(from_log(log, "run"))[-1], LostProducerError)


def test_a_killed_reader_hurts_nobody(
    broker: Broker, log_at: OpenLog, spawn: Callable[..., Process]
) -> None:
    producer = spawn("run", 300)
    assert producer.line() == "word 1"
    reader = spawn("run", 0)
    assert reader.line() == "word 1"
    reader.send(signal.SIGKILL)
    assert by_for(from_log(log_at(broker), "run")) == words(300)
    assert producer.end() == [*words(300)[1:], "completed"]


def test_a_producer_that_slept_through_its_lease_and_was_superseded_is_fenced_out(
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


def test_a_run_is_stopped_from_another_process(
    broker: Broker, log_at: OpenLog, spawn: Callable[..., Process]
) -> None:
    producer = spawn("run", 10_000)
    assert producer.line() == "word 1"
    reader = spawn("run", 0)
    assert reader.line() == "word 1"
    log_at(broker).stop("run")
    assert producer.end()[-1] == reader.end()[-1] == "StoppedError"


# --- brokers ---------------------------------------------------------------------


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    broker: Broker, log_at: OpenLog
) -> None:
    source: Subject[str] = Subject()
    came: list[list[Any]] = [[], []]
    ended = [threading.Event(), threading.Event()]
    run = source.pipe(to_log(log_at(broker), "run"))
    for number, stream in enumerate((run, from_log(log_at(broker), "run"))):
        stream.pipe(operators.finally_action(ended[number].set)).subscribe(
            came[number].append, came[number].append
        )
    assert eventually(lambda: bool(source.observers))

    def restart() -> None:
        broker.kill()
        time.sleep(0.5)  # so that items come while it is away
        broker.start()

    restarting = threading.Thread(target=restart)
    for number, word in enumerate(words(1000)):
        if number in (200, 600):
            assert eventually(lambda: len(came[1]) > 100)
            restarting = threading.Thread(target=restart)
            restarting.start()
        source.on_next(word)
        time.sleep(0.001)
        if number == 599:
            restarting.join()
    restarting.join()
    source.on_completed()
    assert all(each.wait(BOUND) for each in ended)
    assert came == [words(1000), words(1000)]
    assert by_for(from_log(log_at(broker), "run")) == words(1000)


def test_where_a_broker_stays_away_both_sides_are_told_and_the_answer_is_whole(
    broker: Broker, log_at: OpenLog
) -> None:
    source: Subject[str] = Subject()
    came: list[list[Any]] = [[], []]
    run = source.pipe(to_log(log_at(broker, outage=1.0), "run"))
    for number, stream in enumerate((run, from_log(log_at(broker, outage=1.0), "run"))):
        stream.subscribe(came[number].append, came[number].append)
    assert eventually(lambda: bool(source.observers))
    source.on_next("a")
    assert eventually(lambda: came == [["a"], ["a"]])
    broker.kill()
    for word in words(10_000):  # more than are held for the log
        source.on_next(word)
    assert came[0] == ["a", *words(10_000)]
    source.on_completed()
    assert eventually(lambda: len(came[0]) == 10_002 and len(came[1]) == 2)
    for error in (came[0][-1], came[1][-1]):
        assert isinstance(error, LogUnavailableError)
        assert error.seconds == 1


def test_an_answer_does_not_wait_for_a_broker_that_is_away(broker: Broker, log_at: OpenLog) -> None:
    broker.kill()
    source: Subject[str] = Subject()
    came: list[Any] = []
    ended = threading.Event()
    source.pipe(to_log(log_at(broker), "run")).subscribe(came.append, came.append, ended.set)
    assert eventually(lambda: bool(source.observers))
    source.on_next("a")
    assert came == ["a"]
    broker.start()
    source.on_completed()
    assert ended.wait(BOUND)
    assert by_for(from_log(log_at(broker), "run")) == ["a"]


def test_what_was_written_but_not_answered_is_there_once(
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
        broker.resume()  # and reads what was sent to it
        for _ in range(2):
            log.append("run", "one", number, [encode_item(word)], ending)
    assert by_for(from_log(log, "run")) == ["a", "b"]


def test_a_stop_waits_for_the_broker_and_is_heard_after_the_outage(
    broker: Broker, log_at: OpenLog
) -> None:
    source: Subject[str] = Subject()
    came: list[Any] = []
    source.pipe(to_log(log_at(broker, lease=3.0), "run")).subscribe(came.append, came.append)
    assert eventually(lambda: bool(source.observers))
    source.on_next("a")
    assert from_log(log_at(broker), "run").take(1).run() == "a"
    broker.kill()
    stopping = threading.Thread(target=log_at(broker).stop, args=("run",))
    stopping.start()
    broker.start()
    stopping.join(BOUND)
    assert eventually(lambda: len(came) == 2)
    assert isinstance(came[1], StoppedError)
    assert not source.observers


def test_an_item_that_the_broker_refuses_is_an_error_for_both_sides(
    broker_kind: str, broker: Broker, log_at: OpenLog
) -> None:
    if broker_kind == "redis":
        pytest.skip("Redis takes items of 512 MB")
    log = log_at(broker)
    source = Stream.of(reactivex.of("a", "x" * 2_000_000, "c"))
    *items, error = by_for(source.pipe(to_log(log, "run")))
    assert items == ["a", "x" * 2_000_000, "c"]
    assert isinstance(error, LogError)
    item, same = by_for(from_log(log, "run"))
    assert item == "a"
    assert str(same) == str(error)


def test_a_closed_log_says_so(broker: Broker, log_at: OpenLog) -> None:
    log = log_at(broker)
    log.begin("run", "one")
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.append("run", "one", 1, [])


def test_an_answer_does_not_need_a_log_that_is_closed(broker: Broker, log_at: OpenLog) -> None:
    log = log_at(broker)
    log.close()
    *items, error = by_for(Stream.of(reactivex.of("a", "b")).pipe(to_log(log, "run")))
    assert items == ["a", "b"]
    assert "closed" in str(error)
