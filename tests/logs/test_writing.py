"""Writing: batches, backpressure, and logs that fail."""

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


class BlockedLog(MemoryLog):
    """A log whose `append` blocks until the test releases it."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.batches: list[int] = []

    def append(
        self, run_id: str, token: str, first: int, items: Sequence[bytes], ending: Any = None
    ) -> None:
        assert self.released.wait(BOUND)
        self.batches.append(len(items))
        super().append(run_id, token, first, items, ending)


class RefusingLog(MemoryLog):
    """A log that refuses every append."""

    def append(self, *args: Any, **more: Any) -> None:
        raise LogError("full")


def subscribed(stream: Stream[Any], source: Subject[Any]) -> list[Any]:
    received: list[Any] = []
    stream.subscribe(received.append, received.append, lambda: received.append("end"))
    assert eventually(lambda: bool(source.observers))
    return received


def test_end_waits_for_the_log_and_items_do_not() -> None:
    log, source = BlockedLog(), Subject[str]()
    received = subscribed(Stream.of(source).pipe(to_log(log, "run")), source)
    for item in "abc":
        source.on_next(item)
    source.on_completed()
    assert received == ["a", "b", "c"]
    log.released.set()
    assert eventually(lambda: received == ["a", "b", "c", "end"])
    assert by_for(from_log(log, "run")) == ["a", "b", "c"]


def test_items_that_arrive_during_an_append_are_batched() -> None:
    log, source = BlockedLog(), Subject[str]()
    received = subscribed(Stream.of(source).pipe(to_log(log, "run")), source)
    for number in range(3000):
        source.on_next(str(number))
    source.on_completed()
    log.released.set()
    assert eventually(lambda: received[-1] == "end")
    assert max(log.batches) == 512
    assert len(log.batches) < 10


def test_source_waits_when_the_write_queue_is_full() -> None:
    log = BlockedLog()
    emitted: list[int] = []
    source = Stream.of(
        reactivex.range(0, 20_000).pipe(reactivex.operators.do_action(emitted.append))
    )
    received: list[Any] = []
    ended = threading.Event()
    source.pipe(to_log(log, "run")).subscribe(received.append, received.append, ended.set)
    assert eventually(lambda: len(emitted) >= 4096)
    assert not ended.wait(0.2)
    assert len(emitted) <= 4096 + 512 + 1
    log.released.set()
    assert ended.wait(BOUND)
    assert received == list(range(20_000)) == by_for(from_log(log, "run"))


class PausableSource:
    """A source whose thread must not block."""

    def __init__(self) -> None:
        self.paused = threading.Event()
        self.resumed = threading.Event()

    def pause(self) -> None:
        self.paused.set()

    def resume(self) -> None:
        self.resumed.set()


def test_pausable_source_is_paused_when_the_write_queue_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, source, pausable = BlockedLog(), Subject[int](), PausableSource()
    received = subscribed(Stream.of(source).pipe(to_log(log, "run")), source)
    monkeypatch.setattr(emitting, "source", pausable)
    for number in range(5000):
        source.on_next(number)
        if number < 4000:
            assert not pausable.paused.is_set()
    assert pausable.paused.is_set()
    assert not pausable.resumed.is_set()
    log.released.set()
    assert pausable.resumed.wait(BOUND)
    source.on_completed()
    assert eventually(lambda: received[-1] == "end")
    assert by_for(from_log(log, "run")) == list(range(5000))


def test_dispose_unblocks_the_source_when_the_log_is_slow() -> None:
    log = BlockedLog()
    subscription = (
        Stream.of(reactivex.range(0, 20_000)).pipe(to_log(log, "run")).subscribe(lambda _: None)
    )
    assert eventually(lambda: log._runs["run"].owner != "" if "run" in log._runs else False)
    subscription.dispose()
    log.released.set()
    assert eventually(lambda: log._runs["run"].ending is not None)


def test_answer_is_whole_when_the_log_refuses_an_append() -> None:
    source = Stream.of(reactivex.range(0, 20_000))
    *items, error = by_for(source.pipe(to_log(RefusingLog(), "run")))
    assert items == list(range(20_000))
    assert isinstance(error, LogError)


@pytest.mark.parametrize("refusal", [LogError("full"), ZeroDivisionError()])
def test_answer_is_whole_when_the_log_refuses_the_beginning(refusal: Exception) -> None:
    class NeverBeginning(MemoryLog):
        def begin(self, *args: Any, **more: Any) -> None:
            raise refusal

    source = Stream.of(reactivex.of("a", "b"))
    assert by_for(source.pipe(to_log(NeverBeginning(), "run"))) == ["a", "b", refusal]


def test_error_of_the_source_is_not_hidden_by_one_of_the_log() -> None:
    broken = ZeroDivisionError()
    assert by_for(Stream.of(reactivex.throw(broken)).pipe(to_log(RefusingLog(), "run"))) == [broken]


def test_run_ends_when_subscribe_raises() -> None:
    log, broken = MemoryLog(), ZeroDivisionError("no")

    def subscribe(*_: Any) -> Any:
        raise broken

    assert by_for(Stream(subscribe).pipe(to_log(log, "run"))) == [broken]
    (error,) = by_for(from_log(log, "run"))
    assert (error.message, error.type) == ("no", "ZeroDivisionError")


def test_batch_is_bounded_in_bytes() -> None:
    queue = writing._WriteQueue()
    for _ in range(10):
        queue.put(b"x" * 100_000)
    assert [len(queue.next_batch()) for _ in range(5)] == [2, 2, 2, 2, 2]
    queue.put(b"x" * 10_000_000)
    assert len(queue.next_batch()) == 1
