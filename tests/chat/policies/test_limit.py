"""The limits of concurrent streams and of requests per minute, and their queues."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from faces import BOUND, Face, eventually

from rxmistral import (
    DroppedStreamError,
    Limit,
    Mistral,
    RequestTimeoutError,
    Retry,
    StatusError,
    Timeouts,
    text,
)
from rxmistral.rx.cancellation import Cancellation, Cancelled, Waits, pause
from rxmistral.rx.clock import monotonic
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

MESSAGES = [{"role": "user", "content": "?"}]


class Waiting:
    """A thread that waits with a `Cancellation`."""

    def __init__(self, work: Callable[[Cancellation], Waits]) -> None:
        self.waiter = Cancellation()
        self.ended = threading.Event()
        self.cancelled = False
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.waiter.run(self._work(self.waiter))
        except Cancelled:
            self.cancelled = True
        self.ended.set()

    def join(self) -> None:
        self._thread.join(BOUND)
        assert not self._thread.is_alive()


def test_slot_goes_to_the_longest_waiting() -> None:
    limit = Limit(concurrent=1)
    assert list(limit.acquire(Cancellation())) == []
    order: list[int] = []
    runs: list[Waiting] = []
    for number in range(5):

        def work(waiter: Cancellation, number: int = number) -> Waits:
            yield from limit.acquire(waiter)
            order.append(number)
            limit.release()

        runs.append(Waiting(work))
        assert eventually(lambda: len(limit._waiting) == len(runs))
    limit.release()
    for run in runs:
        run.join()
    assert order == [0, 1, 2, 3, 4]


def test_cancelled_wait_takes_no_slot() -> None:
    limit = Limit(concurrent=1)
    assert list(limit.acquire(Cancellation())) == []
    first, second = Waiting(limit.acquire), Waiting(limit.acquire)
    assert eventually(lambda: len(limit._waiting) == 2)
    first.waiter.cancel()
    first.join()
    assert first.cancelled
    limit.release()
    second.join()
    assert not second.cancelled
    third = Waiting(limit.acquire)
    assert eventually(lambda: len(limit._waiting) == 1)
    limit.release()
    third.join()


def test_slot_handed_to_a_cancelled_wait_goes_to_the_next() -> None:
    """Both happen at the same moment, in either order."""
    for _ in range(200):
        limit = Limit(concurrent=1)
        assert list(limit.acquire(Cancellation())) == []
        first = Waiting(limit.acquire)
        assert eventually(lambda limit=limit: len(limit._waiting) == 1)
        both = [threading.Thread(target=act) for act in (limit.release, first.waiter.cancel)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(BOUND)
        first.join()
        if not first.cancelled:
            limit.release()
        last = Waiting(limit.acquire)
        last.join()


class Minute:
    def __init__(self, limit: int) -> None:
        self.now = 0.0
        self.limit = Limit(per_minute=limit, now=lambda: self.now)

    def left(self, waiter: Cancellation) -> float:
        self.limit._queue.append(waiter)
        try:
            return self.limit._seconds_to_wait(waiter)
        finally:
            self.limit._queue.remove(waiter)


def test_per_minute_counts_any_sixty_seconds() -> None:
    minute = Minute(2)
    assert minute.left(Cancellation()) <= 0
    minute.now = 10
    assert minute.left(Cancellation()) <= 0
    minute.now = 30
    assert minute.left(Cancellation()) == 30
    minute.now = 60
    assert minute.left(Cancellation()) <= 0
    assert minute.left(Cancellation()) == 10


def test_pause_delays_all_requests() -> None:
    minute = Minute(100)
    minute.limit.pause_for(5)
    minute.limit.pause_for(3)
    assert minute.left(Cancellation()) == 5
    minute.now = 5
    assert minute.left(Cancellation()) <= 0


def test_only_the_first_in_the_queue_waits_with_a_timeout() -> None:
    minute = Minute(1)
    first, next_one = Cancellation(), Cancellation()
    minute.limit._queue.append(first)
    assert minute.left(next_one) == math.inf


def test_wake_does_not_end_a_sleep() -> None:
    run = Waiting(lambda waiter: pause(waiter, 60))
    run.waiter.wake()
    assert not run.ended.wait(0.05)  # otherwise it would have ended at once
    run.waiter.cancel()
    run.join()
    assert run.cancelled


@pytest.mark.parametrize("wrong", [{"concurrent": 0}, {"per_minute": 1.5}, {"concurrent": True}])
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        Limit(**wrong)


def test_limit_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrent or per_minute"):
        Limit()


# --- with a server ------------------------------------------------------------------


def test_concurrent_bounds_the_streams_at_once() -> None:
    most = open_now = 0
    lock, pause = threading.Lock(), threading.Event()

    def count(change: int) -> None:
        nonlocal most, open_now
        with lock:
            open_now += change
            most = max(most, open_now)

    def answer(_: object) -> Script:
        count(1)
        pause.wait(0.01)  # so that others are served meanwhile, if they may be
        count(-1)
        return ["a", "b", steps.done()]

    with ScriptedServer(answer) as server:
        limit = Limit(concurrent=3)
        with (
            Mistral(server_url=server.url, limit=limit) as one,
            Mistral(server_url=server.url, limit=limit) as other,
        ):
            ended: list[threading.Event] = []
            for number in range(24):
                client = (one, other)[number % 2]
                event = threading.Event()
                ended.append(event)
                client.chat.stream(model="m", messages=MESSAGES).subscribe(
                    on_completed=event.set, on_error=lambda _: None
                )
            assert all(event.wait(BOUND) for event in ended)
        assert len(server.requests) == 24
    assert 1 < most <= 3


@pytest.mark.parametrize("how", ["completes", "fails", "is left", "is disposed"])
def test_slot_is_released_after_every_ending(how: str) -> None:
    last = {"completes": steps.done(), "fails": steps.drop()}.get(how, steps.hang())
    client_of = partial(Mistral, limit=Limit(concurrent=1))
    scripts: list[Script] = [["a", last], ["b", steps.done()]]
    with ScriptedServer(*scripts) as server, client_of(server_url=server.url) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES)
        if how == "is disposed":
            received = threading.Event()
            subscription = stream.subscribe(lambda _: received.set(), lambda _: None)
            assert received.wait(BOUND)
            subscription.dispose()
        elif how == "fails":
            with pytest.raises(DroppedStreamError):
                stream.run()
        else:
            for _ in stream:
                if how == "is left":
                    break
        again = client.chat.stream(model="m", messages=MESSAGES)
        assert list(again.pipe(text())) == ["b"]


def test_dispose_ends_the_wait_for_a_slot() -> None:
    with ScriptedServer(["a", steps.hang()]) as server:
        with Mistral(server_url=server.url, limit=Limit(concurrent=1)) as client:
            received = threading.Event()
            first = client.chat.stream(model="m", messages=MESSAGES).subscribe(
                lambda _: received.set()
            )
            assert received.wait(BOUND)
            second = client.chat.stream(model="m", messages=MESSAGES).subscribe()
            second.dispose()
            first.dispose()
        assert len(server.requests) == 1


def test_slot_is_kept_during_a_retry(read: Face) -> None:
    """Another stream waits for the slot while the first request fails."""
    limit, ended = Limit(concurrent=1), threading.Event()

    def answer(request: ReceivedRequest) -> Script:
        if request.number == 0:
            other = client.chat.stream(model="other", messages=MESSAGES)
            other.subscribe(on_error=lambda _: None, on_completed=ended.set)
            assert eventually(lambda: len(limit._waiting) == 1)
            return [steps.status(503, body={})]
        return ["a", steps.done()]

    with (
        ScriptedServer(answer) as server,
        Mistral(server_url=server.url, limit=limit, retry=Retry(initial=0.001)) as client,
    ):
        assert read(client.chat.stream(model="m", messages=MESSAGES).pipe(text())) == ["a"]
        assert ended.wait(BOUND)
        assert [request.json["model"] for request in server.requests] == ["m", "m", "other"]
    assert eventually(lambda: limit._free == 1)


def test_retry_after_pauses_all_calls_of_a_client() -> None:
    refused: Script = [steps.status(429, headers={"retry-after-ms": "200"}, body={})]
    with ScriptedServer(refused, ["a", steps.done()]) as server:
        with Mistral(server_url=server.url, limit=Limit(concurrent=5)) as client:
            with pytest.raises(StatusError):
                client.chat.stream(model="m", messages=MESSAGES).run()
            client.chat.stream(model="m", messages=MESSAGES).run()
        first, second = server.requests
        assert second.received - first.received >= 0.19


def test_total_timeout_includes_the_wait_for_a_slot(read: Face) -> None:
    limit = Limit(concurrent=1)
    assert list(limit.acquire(Cancellation())) == []
    with ScriptedServer() as server, Mistral(server_url=server.url, limit=limit) as client:
        stream = client.chat.stream(model="m", messages=MESSAGES, timeouts=Timeouts(total=0.1))
        (error,) = read(stream)
        assert isinstance(error, RequestTimeoutError)
        assert (error.clock, error.seconds) == ("total", 0.1)
    assert not limit._waiting


class RecordingLimit(Limit):
    """A limit that records its pauses."""

    def __init__(self) -> None:
        super().__init__(concurrent=5)
        self.pauses: list[float] = []

    def pause_for(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self.pauses.append(seconds)
        super().pause_for(seconds, clock)


def test_pause_is_bounded_by_maximum() -> None:
    refused: Script = [steps.status(429, headers={"Retry-After": "3600"}, body={})]
    scripts: list[Script] = [refused, ["a", steps.done()], ["b", steps.done()]]
    limit = RecordingLimit()
    with (
        ScriptedServer(*scripts) as server,
        Mistral(server_url=server.url, limit=limit, retry=Retry(maximum=0.05)) as client,
    ):
        for answer in "ab":
            stream = client.chat.stream(model="m", messages=MESSAGES)
            assert list(stream.pipe(text())) == [answer]
        assert limit.pauses == [0.05]
        first, second, _ = server.requests
        assert second.received - first.received >= 0.05
