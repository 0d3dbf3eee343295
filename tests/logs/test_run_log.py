"""The guarantees of RunLog, tested with each log; the brokers are real servers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, by_for, eventually
from reactivex import Subject, operators

from rxmistral import (
    CodeBlock,
    CompletionChunk,
    CompletionEvent,
    CompletionResponseStreamChoice,
    DeltaMessage,
    FencedError,
    LaggedError,
    LogError,
    LostProducerError,
    MemoryLog,
    RunLog,
    ServerSentEvent,
    StatusError,
    StoppedError,
    Stream,
    UnknownRunError,
    UsageInfo,
    UserMessage,
    from_log,
    to_log,
)
from rxmistral.logs.encoding import encode_ending, encode_item
from rxmistral.logs.jetstream import NatsLog

OpenLog = Callable[..., Any]


def words(count: int) -> list[str]:
    return [f"word {number}" for number in range(1, count + 1)]


def write(log: RunLog, run_id: str, *items: Any, **more: Any) -> list[Any]:
    """Writes a run that completes; returns what its local subscriber receives."""
    return by_for(Stream.of(reactivex.of(*items)).pipe(to_log(log, run_id, **more)))


class Subscriber:
    """Collects the items of a stream, and its error, in the background."""

    def __init__(self, stream: Stream[Any]) -> None:
        self.received: list[Any] = []
        self.ended = threading.Event()
        self.subscription = stream.subscribe(self.received.append, self._fail, self.ended.set)

    def _fail(self, error: Exception) -> None:
        self.received.append(error)
        self.ended.set()

    def has(self, *items: Any) -> bool:
        return eventually(lambda: self.received == list(items))

    def end(self) -> list[Any]:
        assert self.ended.wait(BOUND)
        return self.received


class Producer(Subscriber):
    """The local subscriber of a run that is written from a source, which a test feeds."""

    def __init__(self, log: RunLog, run_id: str, **more: Any) -> None:
        self.source: Subject[Any] = Subject()
        self.subscribed = threading.Event()
        self.left = threading.Event()
        source = self.source.pipe(operators.finally_action(self.left.set))
        begun = reactivex.defer(lambda _: (self.subscribed.set(), source)[1])
        super().__init__(begun.pipe(to_log(log, run_id, **more)))

    def begin(self) -> Subject[Any]:
        assert self.subscribed.wait(BOUND)
        assert eventually(lambda: bool(self.source.observers))
        return self.source


class Reader(Subscriber):
    """A subscriber that reads a run from its log."""

    def __init__(self, log: RunLog, run_id: str) -> None:
        super().__init__(from_log(log, run_id))


# --- reading ---------------------------------------------------------------------


def test_ended_run_is_read_by_every_face(log: RunLog, read: Face) -> None:
    assert write(log, "run", "a", "b", "c") == ["a", "b", "c"]
    assert read(from_log(log, "run")) == ["a", "b", "c"]
    assert read(from_log(log, "run", after=2)) == ["c"]


def test_items_after_any_of_200_points_are_read_once_in_order(log: RunLog) -> None:
    items = words(1000)
    random_points = random.Random(6)
    producer = Producer(log, "run")
    source = producer.begin()
    for item in items:
        source.on_next(item)
        if random_points.random() < 0.1:  # so that there are short batches and long ones
            time.sleep(0.001)
    source.on_completed()
    producer.end()
    for _ in range(200):
        after = random_points.randint(0, 1000)
        entries = by_for(from_log(log, "run").entries(after))
        assert [entry.id for entry in entries] == list(range(after + 1, 1001))
        assert [entry.item for entry in entries] == items[after:]


def test_reader_that_returns_200_times_misses_nothing(open_log: OpenLog) -> None:
    items = words(2000)
    leaves = random.Random(7)
    producer = Producer(open_log(), "run")
    source = producer.begin()
    other = open_log()

    def produce() -> None:
        for item in items:
            source.on_next(item)
            time.sleep(0.0005)
        source.on_completed()

    writing = threading.Thread(target=produce)
    writing.start()
    received: list[Any] = []
    times = 0
    while len(received) < len(items):
        entries = from_log(other, "run").entries(len(received)).take(leaves.randint(1, 19))
        received += [entry.item for entry in entries]
        times += 1
    writing.join()
    assert times > 180
    assert received == items == producer.end()


def test_reader_may_subscribe_before_the_producer(open_log: OpenLog) -> None:
    reader = Reader(open_log(), "run")
    assert write(open_log(), "run", "a") == ["a"]
    assert reader.end() == ["a"]


def test_item_reaches_a_reader_during_the_run(open_log: OpenLog) -> None:
    producer, reader = Producer(open_log(), "run"), Reader(open_log(), "run")
    source = producer.begin()
    source.on_next("a")
    assert reader.has("a")
    source.on_next("b")
    assert reader.has("a", "b")
    source.on_completed()
    assert reader.end() == ["a", "b"] == producer.end()


def test_run_continues_when_a_reader_leaves(open_log: OpenLog) -> None:
    producer, reader, other = (
        Producer(open_log(), "run"),
        Reader(open_log(), "run"),
        Reader(open_log(), "run"),
    )
    source = producer.begin()
    source.on_next("a")
    assert reader.has("a")
    reader.subscription.dispose()
    source.on_next("b")
    source.on_completed()
    assert other.end() == ["a", "b"]
    assert reader.received == ["a"]
    assert not reader.ended.is_set()


def test_run_without_a_producer_is_unknown_after_a_lease(open_log: OpenLog, read: Face) -> None:
    (error,) = read(from_log(open_log(lease=0.3), "run"))
    assert error.args == UnknownRunError("run").args
    assert isinstance(error, UnknownRunError)


def test_reader_past_the_end_completes(log: RunLog) -> None:
    write(log, "run", "a")
    assert by_for(from_log(log, "run", after=1)) == []
    assert by_for(from_log(log, "run", after=1000)) == []


# --- items -----------------------------------------------------------------------

EVENT = CompletionEvent(
    data=CompletionChunk(
        id="1",
        choices=[CompletionResponseStreamChoice(index=0, delta=DeltaMessage(content="Hé\n\x00"))],
        usage=UsageInfo(prompt_tokens=1, completion_tokens=2, total_tokens=3),
    )
)
ITEMS: list[Any] = [
    "",
    "a\nb\r\u2028",
    EVENT,
    UserMessage(content="Hi"),
    CodeBlock(language="py", content="1\n"),
    ServerSentEvent(data="x"),
    {"a": [1, 2.5, True, None, {"value": "b"}]},
    None,
    0,
    [],
]


def test_items_are_read_equal(log: RunLog) -> None:
    write(log, "run", *ITEMS)
    received = by_for(from_log(log, "run"))
    assert received == ITEMS
    assert list(map(type, received)) == list(map(type, ITEMS))


def test_error_is_read_with_its_class_and_fields(log: RunLog, read: Face) -> None:
    error = StatusError(503, {"Retry-After": "1"}, '{"message": "busy"}')
    source = reactivex.concat(reactivex.of("a"), reactivex.throw(error))
    assert by_for(Stream.of(source).pipe(to_log(log, "run"))) == ["a", error]
    item, received = read(from_log(log, "run"))
    assert item == "a"
    assert type(received) is StatusError
    assert (received.status, received.headers, received.message) == (
        503,
        {"Retry-After": "1"},
        "busy",
    )


def test_unencodable_item_is_an_error_after_the_whole_answer(
    log: RunLog,
) -> None:
    *received, error = write(log, "run", "a", (1, 2), "c")
    assert received == ["a", (1, 2), "c"]
    assert isinstance(error, LogError)
    item, same = by_for(from_log(log, "run"))
    assert item == "a"
    assert (type(same), str(same)) == (LogError, str(error))


def test_entries_begin_after_the_position_of_the_stream(log: RunLog) -> None:
    write(log, "run", *"abcd")
    part = from_log(log, "run", after=2)
    assert [(entry.id, entry.item) for entry in part.entries()] == [(3, "c"), (4, "d")]
    assert [(entry.id, entry.item) for entry in part.entries(3)] == [(4, "d")]


# --- endings ---------------------------------------------------------------------


def test_stop_ends_the_run_for_all_and_disposes_the_source(open_log: OpenLog) -> None:
    producer, reader = Producer(open_log(), "run"), Reader(open_log(), "run")
    producer.begin().on_next("a")
    assert reader.has("a")
    open_log().stop("run")  # the source is silent
    assert producer.left.wait(BOUND)
    for received in (producer.end(), reader.end(), by_for(from_log(open_log(), "run"))):
        item, error = received
        assert item == "a"
        assert isinstance(error, StoppedError)


def test_stop_does_not_change_an_ended_run(log: RunLog) -> None:
    write(log, "run", "a")
    log.stop("run")
    assert by_for(from_log(log, "run")) == ["a"]


def test_stop_of_an_unknown_run_is_an_error(log: RunLog) -> None:
    with pytest.raises(UnknownRunError):
        log.stop("run")


def test_run_ends_when_the_local_subscriber_leaves(open_log: OpenLog) -> None:
    producer, reader = Producer(open_log(), "run"), Reader(open_log(), "run")
    producer.begin().on_next("a")
    producer.subscription.dispose()
    assert producer.left.wait(BOUND)
    item, error = reader.end()
    assert item == "a"
    assert isinstance(error, StoppedError)


def test_run_ends_when_the_local_subscriber_raises(log: RunLog) -> None:
    source: Subject[str] = Subject()
    received: list[Exception] = []

    def fail(item: str) -> None:
        raise ZeroDivisionError(item)

    source.pipe(to_log(log, "run")).subscribe(fail, received.append)
    assert eventually(lambda: bool(source.observers))
    source.on_next("a")
    assert str(received) == "[ZeroDivisionError('a')]"
    assert not source.observers
    item, error = by_for(from_log(log, "run"))
    assert item == "a"
    assert isinstance(error, StoppedError)


def test_exception_of_a_reader_goes_to_its_own_on_error(log: RunLog) -> None:
    write(log, "run", "a", "b")
    received: list[Exception] = []

    def fail(item: str) -> None:
        raise ZeroDivisionError(item)

    from_log(log, "run").subscribe(fail, received.append)
    assert eventually(lambda: bool(received))
    assert str(received) == "[ZeroDivisionError('a')]"


def test_reader_ends_when_the_log_raises_any_exception() -> None:
    class Broken(MemoryLog):
        def read(self, *args: Any, **more: Any) -> Any:
            raise ZeroDivisionError

    (error,) = by_for(from_log(Broken(), "run"))
    assert isinstance(error, ZeroDivisionError)


def test_nothing_follows_the_ending(log: RunLog) -> None:
    log.begin("run", "one")
    log.append("run", "one", 1, [encode_item("a")], encode_ending(None))
    log.append("run", "one", 2, [encode_item("b")])
    assert by_for(from_log(log, "run")) == ["a"]


# --- producers -------------------------------------------------------------------


def test_second_producer_is_fenced_out_before_its_request(open_log: OpenLog) -> None:
    first = Producer(open_log(), "run")
    source = first.begin()
    second = Producer(open_log(), "run")
    (error,) = second.end()
    assert isinstance(error, FencedError)
    assert error.run_id == "run"
    assert not second.subscribed.is_set()
    source.on_next("a")
    source.on_completed()
    assert first.end() == ["a"] == by_for(from_log(open_log(), "run"))


def test_ended_run_is_not_begun_again(log: RunLog) -> None:
    write(log, "run", "a")
    (error,) = write(log, "run", "b")
    assert isinstance(error, FencedError)
    assert by_for(from_log(log, "run")) == ["a"]


def test_superseded_producer_is_fenced_out(open_log: OpenLog) -> None:
    log = open_log(lease=0.5)
    log.begin("run", "one")
    log.append("run", "one", 1, [encode_item("a")])
    with pytest.raises(FencedError):  # its lease is valid
        log.begin("run", "two", 1)
    assert eventually(lambda: not is_fenced(lambda: log.begin("run", "two", 1)))
    for late in (
        lambda: log.append("run", "one", 2, [encode_item("x")]),
        lambda: log.append("run", "one", 2, [], encode_ending(None)),
        lambda: log.keep("run", "one", 0.1),
    ):
        assert is_fenced(late)
    log.append("run", "two", 2, [encode_item("b")], encode_ending(None))
    assert is_fenced(lambda: log.append("run", "one", 2, [encode_item("x")]))
    assert by_for(from_log(log, "run")) == ["a", "b"]


def is_fenced(call: Callable[[], None]) -> bool:
    try:
        call()
    except FencedError:
        return True
    return False


def test_run_is_taken_over_only_after_its_last_item(open_log: OpenLog) -> None:
    log = open_log(lease=0.5)
    log.begin("run", "one")
    log.append("run", "one", 1, [encode_item("a")])
    assert isinstance(by_for(from_log(log, "run"))[-1], LostProducerError)
    (error,) = write(log, "run", "x")
    assert isinstance(error, FencedError)
    assert write(log, "run", "b", after=1) == ["b"]
    assert by_for(from_log(log, "run")) == ["a", "b"]


def test_producer_is_lost_without_a_heartbeat(open_log: OpenLog, read: Face) -> None:
    log = open_log(lease=0.5)
    log.begin("run", "one")
    log.append("run", "one", 1, [encode_item("a")])
    item, error = read(from_log(log, "run"))
    assert item == "a"
    assert isinstance(error, LostProducerError)
    assert (error.run_id, error.seconds) == ("run", 0.5)


def test_silent_producer_with_heartbeats_is_not_lost(open_log: OpenLog) -> None:
    producer, reader = Producer(open_log(lease=1.5), "run"), Reader(open_log(lease=1.5), "run")
    source = producer.begin()
    assert not reader.ended.wait(3)
    source.on_next("a")
    source.on_completed()
    assert reader.end() == ["a"]


def test_repeated_writes_are_stored_once(log: RunLog) -> None:
    log.begin("run", "one")
    log.begin("run", "one")
    a, b, c, end = *map(encode_item, "abc"), encode_ending(None)
    log.append("run", "one", 1, [a])
    log.append("run", "one", 1, [a, b])
    log.append("run", "one", 1, [a, b])
    log.append("run", "one", 3, [c], end)
    log.append("run", "one", 3, [c], end)
    assert by_for(from_log(log, "run")) == ["a", "b", "c"]


def test_gap_is_refused(log: RunLog) -> None:
    log.begin("run", "one")
    with pytest.raises(LogError):
        log.append("run", "one", 2, [encode_item("b")])


def test_producer_that_never_began_is_refused(log: RunLog) -> None:
    with pytest.raises(UnknownRunError):
        log.append("run", "one", 1, [])
    with pytest.raises(UnknownRunError):
        log.keep("run", "one", 0.1)


# --- bounds ----------------------------------------------------------------------


def test_run_expires(open_log: OpenLog) -> None:
    log = open_log(ttl=1, lease=0.2)
    write(log, "run", "a")
    assert by_for(from_log(log, "run")) == ["a"]
    assert eventually(lambda: is_unknown(log), 30)


def is_unknown(log: RunLog) -> bool:
    try:
        log.stop("run")
    except UnknownRunError:
        return isinstance(by_for(from_log(log, "run"))[-1], UnknownRunError)
    return False


def test_reader_lags_when_its_items_are_no_longer_stored(open_log: OpenLog) -> None:
    log = open_log(max_items=10)
    log.begin("run", "one")
    for number, word in enumerate(words(100), 1):
        log.append("run", "one", number, [encode_item(word)])
    log.append("run", "one", 101, [], encode_ending(None))
    (error,) = by_for(from_log(log, "run"))
    assert isinstance(error, LaggedError)
    assert 80 <= error.missed <= 90
    assert by_for(from_log(log, "run", after=90)) == words(100)[90:]


# --- names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "run_id", ["a.b", "*", ">", "{x}", "}", " ", "é\n", "%2E", "a/b:c", "x" * 200]
)
def test_any_text_identifies_a_run(log: RunLog, run_id: str) -> None:
    write(log, run_id, "a")
    assert by_for(from_log(log, run_id)) == ["a"]
    with pytest.raises(UnknownRunError):
        log.stop(run_id + "y" if len(run_id) < 200 else "y")


@pytest.mark.parametrize(("run_id", "error"), [("", ValueError), ("x" * 201, ValueError),
                                               ("\ud800", ValueError), (1, TypeError)])  # fmt: skip
def test_invalid_run_id_is_refused_at_the_call(
    log: RunLog, run_id: Any, error: type[Exception]
) -> None:
    for call in (
        lambda: to_log(log, run_id),
        lambda: from_log(log, run_id),
        lambda: log.stop(run_id),
        lambda: log.read(run_id, 0, 0.1),
        lambda: log.begin(run_id, "token"),
    ):
        with pytest.raises(error):
            call()


def test_negative_item_id_is_refused_at_the_call(log: RunLog) -> None:
    for call in (
        lambda: from_log(log, "run", after=-1),
        lambda: from_log(log, "run").entries(-1),
        lambda: to_log(log, "run", after=-1),
    ):
        with pytest.raises(ValueError, match="after"):
            call()


@pytest.mark.parametrize("url", ["", "nats://", "nats://key@host:99999", "nats://host:port"])
def test_invalid_nats_url_is_refused_at_the_call(url: str) -> None:
    with pytest.raises(ValueError, match="url must have a host") as refused:
        NatsLog(url)
    assert "key" not in str(refused.value)


@pytest.mark.parametrize(
    "bounds",
    [{"ttl": 0}, {"max_items": 0}, {"lease": -1}, {"ttl": 1, "lease": 2}, {"ttl": float("nan")}],
)
def test_invalid_bounds_are_refused(open_log: OpenLog, bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bounds))):
        open_log(**bounds)
