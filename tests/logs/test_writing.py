"""Who writes: his pace, his source, his threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import reactivex
from faces import BOUND, by_for, eventually
from reactivex import Subject

from rxmistral import LogError, MemoryLog, Stream, from_log, to_log
from rxmistral.logs import writing
from rxmistral.rx.backpressure import emitting


class Gated(MemoryLog):
    """A log that takes nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.batches: list[int] = []

    def append(
        self, run_id: str, token: str, first: int, items: Sequence[bytes], ending: Any = None
    ) -> None:
        assert self.gate.wait(BOUND)
        self.batches.append(len(items))
        super().append(run_id, token, first, items, ending)


def subscribed(stream: Stream[Any], source: Subject[Any]) -> list[Any]:
    came: list[Any] = []
    stream.subscribe(came.append, came.append, lambda: came.append("end"))
    assert eventually(lambda: bool(source.observers))
    return came


def test_an_item_does_not_wait_for_the_log_and_the_end_does() -> None:
    log, source = Gated(), Subject[str]()
    came = subscribed(Stream.of(source).pipe(to_log(log, "run")), source)
    for item in "abc":
        source.on_next(item)
    source.on_completed()
    assert came == ["a", "b", "c"]
    log.gate.set()
    assert eventually(lambda: came == ["a", "b", "c", "end"])
    assert by_for(from_log(log, "run")) == ["a", "b", "c"]


def test_what_comes_during_an_append_goes_together() -> None:
    log, source = Gated(), Subject[str]()
    came = subscribed(Stream.of(source).pipe(to_log(log, "run")), source)
    for number in range(3000):
        source.on_next(str(number))
    source.on_completed()
    log.gate.set()
    assert eventually(lambda: came[-1] == "end")
    assert max(log.batches) == 512
    assert len(log.batches) < 10


def test_a_source_that_is_faster_than_the_log_waits_when_enough_is_held() -> None:
    log = Gated()
    given: list[int] = []
    source = Stream.of(reactivex.range(0, 20_000).pipe(reactivex.operators.do_action(given.append)))
    came: list[Any] = []
    ended = threading.Event()
    source.pipe(to_log(log, "run")).subscribe(came.append, came.append, ended.set)
    assert eventually(lambda: len(given) >= 4096)
    assert not ended.wait(0.2)
    assert len(given) <= 4096 + 512 + 1
    log.gate.set()
    assert ended.wait(BOUND)
    assert came == list(range(20_000)) == by_for(from_log(log, "run"))


class Source:
    """A source whose thread may not wait."""

    def __init__(self) -> None:
        self.paused = threading.Event()
        self.resumed = threading.Event()

    def pause(self) -> None:
        self.paused.set()

    def resume(self) -> None:
        self.resumed.set()


def test_a_source_that_may_not_wait_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    log, source, pausable = Gated(), Subject[int](), Source()
    came = subscribed(Stream.of(source).pipe(to_log(log, "run")), source)
    monkeypatch.setattr(emitting, "source", pausable)
    for number in range(5000):
        source.on_next(number)
        if number < 4000:
            assert not pausable.paused.is_set()
    assert pausable.paused.is_set()
    assert not pausable.resumed.is_set()
    log.gate.set()
    assert pausable.resumed.wait(BOUND)
    source.on_completed()
    assert eventually(lambda: came[-1] == "end")
    assert by_for(from_log(log, "run")) == list(range(5000))


def test_who_leaves_while_the_log_is_slow_lets_the_source_go() -> None:
    log = Gated()
    subscription = (
        Stream.of(reactivex.range(0, 20_000)).pipe(to_log(log, "run")).subscribe(lambda _: None)
    )
    assert eventually(lambda: log._runs["run"].owner != "" if "run" in log._runs else False)
    subscription.dispose()
    log.gate.set()
    assert eventually(lambda: log._runs["run"].ending is not None)


def test_a_log_that_refuses_costs_the_completion_and_not_the_answer() -> None:
    class Refusing(MemoryLog):
        def append(self, *args: Any, **more: Any) -> None:
            raise LogError("full")

    source = Stream.of(reactivex.range(0, 20_000))
    *items, error = by_for(source.pipe(to_log(Refusing(), "run")))
    assert items == list(range(20_000))
    assert isinstance(error, LogError)


@pytest.mark.parametrize("refusal", [LogError("full"), ZeroDivisionError()])
def test_a_log_that_refuses_the_beginning_costs_the_completion_and_not_the_answer(
    refusal: Exception,
) -> None:
    class Refusing(MemoryLog):
        def begin(self, *args: Any, **more: Any) -> None:
            raise refusal

    source = Stream.of(reactivex.of("a", "b"))
    assert by_for(source.pipe(to_log(Refusing(), "run"))) == ["a", "b", refusal]


def test_an_error_of_the_source_is_not_hidden_by_one_of_the_log() -> None:
    class Refusing(MemoryLog):
        def append(self, *args: Any, **more: Any) -> None:
            raise LogError("full")

    broken = ZeroDivisionError()
    assert by_for(Stream.of(reactivex.throw(broken)).pipe(to_log(Refusing(), "run"))) == [broken]


def test_a_subscribe_that_raises_is_the_end_of_the_run() -> None:
    log, broken = MemoryLog(), ZeroDivisionError("no")

    def subscribe(*_: Any) -> Any:
        raise broken

    assert by_for(Stream(subscribe).pipe(to_log(log, "run"))) == [broken]
    (error,) = by_for(from_log(log, "run"))
    assert (error.message, error.type) == ("no", "ZeroDivisionError")


def test_a_batch_is_bounded_in_bytes() -> None:
    held = writing._WriteQueue()
    for _ in range(10):
        held.put(b"x" * 100_000)
    assert [len(held.take()) for _ in range(5)] == [2, 2, 2, 2, 2]
    held.put(b"x" * 10_000_000)
    assert len(held.take()) == 1
