"""Shared runs: one request, all items for each viewer, and no viewer delays another."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from faces import BOUND, FACES, Face, by_for, by_subscribing, eventually, run
from hypothesis import given
from hypothesis import strategies as st
from leftovers import threads_named
from reactivex import Observable, Subject, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.scheduler import TimeoutScheduler

from rxmistral import (
    DroppedStreamError,
    LaggedError,
    Mistral,
    Outcome,
    RequestError,
    SharedStream,
    StoppedError,
    Stream,
    UserMessage,
    on_outcome,
    shared,
    text,
)
from rxmistral.chat.event_stream import EventStream
from rxmistral.rx.backpressure import emitting
from rxmistral.rx.history import Entry, all_items
from rxmistral.rx.threads import SubscriptionScope, subscription_scope
from rxmistral.testing import Script, ScriptedServer, steps

ANSWER: Script = [steps.role(), "One,", " two,", " three.", steps.finish(), steps.done()]
SILENT: Script = [steps.role(), "One,", steps.hang()]


def ask(server: ScriptedServer) -> EventStream:
    client = Mistral("key", server_url=server.url)
    return client.chat.stream(model="m", messages=[UserMessage(content="Hi")])


class Recorder:
    """An observer that records items and the end."""

    def __init__(self, stream: Observable[Any], on_next: Callable[[Any], object] = id) -> None:
        self.items: list[Any] = []
        self.error: Exception | None = None
        self.ended = threading.Event()
        self._on_next = on_next
        self.subscription = stream.subscribe(self._record, self._fail, self.ended.set)

    def _record(self, item: Any) -> None:
        self.items.append(item)
        self._on_next(item)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def all(self) -> list[Any]:
        assert self.ended.wait(BOUND)
        return self.items if self.error is None else [*self.items, type(self.error)]

    def has(self, *items: Any) -> bool:
        return eventually(lambda: self.items == [*items])


class Source:
    """A subject that records its subscription and disposal."""

    def __init__(self) -> None:
        self.subject: Subject[Any] = Subject()
        self.subscriptions = 0
        self.began = threading.Event()
        self.disposed = threading.Event()
        self.stream = Stream(self._subscribe)

    def _subscribe(self, observer: Any, scheduler: Any = None) -> abc.DisposableBase:
        self.subscriptions += 1
        subscription = self.subject.subscribe(observer)
        self.began.set()

        def dispose() -> None:
            subscription.dispose()
            self.disposed.set()

        return Disposable(dispose)

    def emit_when_begun(self, *items: Any) -> None:
        """Emits on another thread, since a loop subscribes when it reads its first item."""

        def emit() -> None:
            assert self.began.wait(BOUND)
            self.emit(*items)

        threading.Thread(target=emit).start()

    async def begun(self) -> None:
        while not self.subscriptions:  # noqa: ASYNC110  # changed by a task of the same event loop
            await asyncio.sleep(0)

    def emit(self, *items: Any) -> None:
        for item in items:
            self.subject.on_next(item)


# --- arguments ---


def test_merge_raises_for_items_that_are_not_text() -> None:
    assert Recorder(Stream.of(reactivex.of("a", 1)).shared().view("merge")).all()[-1] is TypeError


def test_wrong_arguments_raise_at_the_call() -> None:
    stream = Stream.of(reactivex.of(1))
    for make in (stream.shared, shared):
        with pytest.raises(ValueError, match="linger"):
            make(linger=-1)
        with pytest.raises(TypeError, match="linger"):
            make(linger="1")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="max_items"):
            make(max_items=0)
    with pytest.raises(ValueError, match="after"):
        stream.shared().entries(-1)
    with pytest.raises(ValueError, match="when_behind"):
        stream.shared().view("drop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_items"):
        stream.shared().view("latest", max_items=0)


# --- one run ---


def test_shared_sends_one_request_with_its_first_viewer(read: Face) -> None:
    with ScriptedServer(ANSWER) as server:
        answer = ask(server).shared()
        tokens = answer.pipe(text())
        assert server.requests == []
        for _ in range(3):
            assert read(tokens)[-3:] == ["One,", " two,", " three."]
        assert len(server.requests) == 1


def test_viewers_on_threads_and_loops_receive_the_same() -> None:
    with ScriptedServer([*ANSWER[:2], steps.wait(0.05), *ANSWER[2:]]) as server:
        events = ask(server).shared()
        seen: list[list[Any]] = []
        threads = [
            threading.Thread(target=lambda face=face: seen.append(face(events.pipe(text()))[-3:]))  # type: ignore[misc]
            for face in FACES.values()
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        assert seen == [["One,", " two,", " three."]] * len(threads)
        assert len(server.requests) == 1


def test_shared_operator_accepts_any_observable(read: Face) -> None:
    source = Source()
    numbers = reactivex.defer(lambda _: source.stream).pipe(shared())
    assert isinstance(numbers, SharedStream)
    early = Recorder(numbers)
    source.emit(1, 2)
    source.subject.on_completed()
    assert read(numbers)[-2:] == early.all() == [1, 2]
    assert source.subscriptions == 1


def test_late_viewer_receives_everything_and_then_live_items() -> None:
    source = Source()
    numbers = source.stream.shared()
    first = Recorder(numbers)
    source.emit(1, 2)
    late = Recorder(numbers)
    assert late.has(1, 2)
    source.emit(3)
    source.subject.on_completed()
    assert first.all() == late.all() == Recorder(numbers).all() == [1, 2, 3]


def test_each_viewer_receives_a_copy_of_the_error(read: Face) -> None:
    with ScriptedServer(["One,", steps.drop()]) as server:
        tokens = ask(server).pipe(text()).shared()
        one, other = read(tokens)[-1], read(tokens)[-1]
        assert isinstance(one, DroppedStreamError)
        assert (type(one), str(one), one.partial) == (type(other), str(other), other.partial)
        assert one.__cause__ is other.__cause__ is not None
        assert one is not other
        assert len(server.requests) == 1


def test_error_that_cannot_be_copied_is_passed_unchanged() -> None:
    class OddError(Exception):
        def __init__(self, *, reason: str) -> None:
            super().__init__(f"because of {reason}")

    error = OddError(reason="it")
    numbers = Stream.of(reactivex.throw(error)).shared()
    seen = Recorder(numbers)
    assert seen.all() == [OddError]
    assert str(seen.error) == "because of it"


def test_every_viewer_receives_the_error_of_subscribe() -> None:
    def subscribe(*_: Any) -> Any:
        raise OSError("no")

    numbers: SharedStream[Any] = Stream(subscribe).shared()
    assert Recorder(numbers).all() == Recorder(numbers).all() == [OSError]


def test_more_items_than_a_batch_arrive_in_order(read: Face) -> None:
    numbers = Stream.of(reactivex.range(0, 3000)).shared()
    assert read(numbers)[-3000:] == read(numbers)[-3000:] == [*range(3000)]


# --- leaving does not stop the run ---


def test_run_continues_without_viewers() -> None:
    source = Source()
    numbers = source.stream.shared()
    seen = Recorder(numbers)
    source.emit(1)
    assert seen.has(1)
    seen.subscription.dispose()
    source.emit(2)
    assert not source.disposed.is_set()
    source.subject.on_completed()
    assert Recorder(numbers).all() == [1, 2]
    assert seen.items == [1]


def test_break_removes_the_viewer(read: Face) -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)
    source.emit_when_begun(1)
    for number in numbers:
        assert number == 1
        break
    assert source.disposed.wait(BOUND)
    assert read(numbers)[-2:][0] == 1
    assert isinstance(read(numbers)[-1], StoppedError)


def test_cancelling_a_task_removes_the_viewer() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)

    async def main() -> None:
        async def watch() -> None:
            async for _ in numbers:
                pass

        task = asyncio.create_task(watch())
        await source.begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.disposed.is_set()

    run(main())


def test_start_begins_the_run_once_without_a_viewer() -> None:
    source = Source()
    numbers = source.stream.shared()
    assert source.subscriptions == 0
    assert numbers.start() is numbers
    source.emit(1, 2)
    numbers.start()
    viewer = Recorder(numbers)
    source.subject.on_completed()
    assert viewer.all() == [1, 2]
    numbers.start()
    assert source.subscriptions == 1


def test_start_sends_the_request() -> None:
    with ScriptedServer(ANSWER) as server:
        answer = ask(server).pipe(text()).shared().start()
        assert server.wait_for_requests(1)[0].wait_answered()
        assert "".join(answer) == "One, two, three."
        assert len(server.requests) == 1


def test_start_has_no_effect_after_stop() -> None:
    source = Source()
    numbers = source.stream.shared()
    numbers.stop()
    numbers.start()
    assert source.subscriptions == 0


def test_started_run_stops_after_linger_without_a_viewer() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0.01).start()
    assert source.disposed.wait(BOUND)
    assert Recorder(numbers).all() == [StoppedError]


def test_started_run_with_linger_keeps_its_viewer() -> None:
    source = Source()
    numbers = source.stream.shared(linger=60).start()
    viewer = Recorder(numbers)
    source.emit(1)
    assert viewer.has(1)
    assert not source.disposed.is_set()
    numbers.stop()


def test_start_keeps_an_error_of_the_source_for_viewers() -> None:
    failed = Stream.of(reactivex.throw(KeyError("broke"))).shared().start()
    assert isinstance(by_for(failed)[0], KeyError)


def test_with_block_removes_its_viewers_and_views() -> None:
    source = Source()
    with source.stream.shared(linger=0) as numbers:
        Recorder(numbers)
        Recorder(numbers.view("fail"))
        Recorder(numbers.entries())
        Recorder(numbers.pipe(ops.map(str)))
        assert not source.disposed.is_set()
    assert source.disposed.is_set()


def test_with_block_removes_loops_of_its_thread() -> None:
    source = Source()
    with source.stream.shared(linger=0) as numbers:
        loops = iter(numbers), iter(numbers.pipe(ops.map(str)))
        source.emit_when_begun(1)
        assert [next(loop) for loop in loops] == [1, "1"]
        assert not source.disposed.is_set()
    assert source.disposed.wait(BOUND)


def test_with_block_does_not_stop_the_run_started_in_it() -> None:
    script: Script = [*"abc", steps.wait(0.2), "d", steps.finish()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        shared = answer.pipe(text()).shared()
        with shared as opened:
            assert next(iter(opened)) == "a"
        assert by_for(shared) == [*"abcd"]


def test_with_block_keeps_viewers_of_other_threads() -> None:
    source = Source()
    numbers = source.stream.shared()
    views = [numbers, numbers.view("wait"), numbers.entries(), numbers.pipe(ops.map(str))]
    numbers.subscribe()
    source.emit(1)
    had_one = [threading.Event() for _ in views]
    items: list[list[Any]] = [[] for _ in views]

    def watch(view: Stream[Any], seen: threading.Event, items: list[Any]) -> None:
        for item in view:
            items.append(item)
            seen.set()

    with numbers:
        watching = [
            threading.Thread(target=watch, args=each)
            for each in zip(views, had_one, items, strict=True)
        ]
        for thread in watching:
            thread.start()
        assert all(seen.wait(BOUND) for seen in had_one)
    source.emit(2)
    source.subject.on_completed()
    for thread in watching:
        thread.join()
    assert items == [[1, 2], [1, 2], [Entry(1, 1), Entry(2, 2)], ["1", "2"]]


def test_with_block_keeps_viewers_of_other_tasks() -> None:
    source = Source()
    numbers = source.stream.shared()
    numbers.subscribe()
    source.emit(1)

    async def main() -> None:
        async with numbers as opened:
            mine = aiter(opened)
            assert await anext(mine) == 1
            others = asyncio.create_task(all_items(had_one := asyncio.Event()))
            await asyncio.wait_for(had_one.wait(), BOUND)
        source.emit(2)
        source.subject.on_completed()
        assert await others == [1, 2]
        with pytest.raises(StopAsyncIteration):
            await anext(mine)

    async def all_items(had_one: asyncio.Event) -> list[int]:
        items = []
        async for item in numbers:
            items.append(item)
            had_one.set()
        return items

    run(main())


def test_abandoned_loop_removes_the_viewer() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)

    async def main() -> None:
        source.emit_when_begun(1)
        loop = aiter(numbers)
        assert await anext(loop) == 1
        del loop

    run(main())
    assert source.disposed.wait(BOUND)


def test_run_without_viewers_is_stopped_after_linger() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0.05)
    seen = Recorder(numbers)
    source.emit(1)
    assert seen.has(1)
    seen.subscription.dispose()
    assert source.disposed.wait(BOUND)
    assert Recorder(numbers).all() == [1, StoppedError]


def test_run_lingers_when_its_last_viewer_leaves_in_a_callback() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0.05)
    assert Recorder(numbers.take(1)).has()
    source.emit(1)
    assert source.disposed.wait(BOUND)


@pytest.mark.parametrize("linger", [0, 0.05])
def test_viewer_disposed_before_it_has_joined_leaves_nothing(linger: float) -> None:
    source = Source()
    scope = SubscriptionScope()
    scope.dispose()
    with subscription_scope(scope):
        source.stream.shared(linger=linger).subscribe()
    assert source.disposed.wait(BOUND)
    assert eventually(lambda: not threads_named("rxmistral-delivery"))


def test_run_that_begins_after_linger_without_its_viewer_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source()
    numbers = source.stream.shared(linger=0.001)
    run = numbers._shared_run
    begin, stop, expired = run._begin_once, run._stop_if_unwatched, threading.Event()

    def begin_late() -> bool:
        assert expired.wait(BOUND)
        return begin()

    def note_expiry(join_count: int) -> None:
        stop(join_count)
        expired.set()

    monkeypatch.setattr(run, "_begin_once", begin_late)
    monkeypatch.setattr(run, "_stop_if_unwatched", note_expiry)
    scope = SubscriptionScope()
    scope.dispose()
    with subscription_scope(scope):
        numbers.subscribe()
    assert source.disposed.wait(BOUND)


def test_viewer_that_joins_within_linger_keeps_the_run() -> None:
    source = Source()
    numbers = source.stream.shared(linger=5)
    Recorder(numbers).subscription.dispose()
    seen = Recorder(numbers)
    source.emit(1)
    source.subject.on_completed()
    assert seen.all() == [1]


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_linger_timer_is_cancelled_by_a_viewer_and_by_the_end() -> None:
    numbers = Source().stream.shared(linger=60)
    Recorder(numbers).subscription.dispose()
    assert eventually(lambda: len(timers()) == 1)
    seen = Recorder(numbers)
    assert eventually(lambda: not timers())
    seen.subscription.dispose()
    assert eventually(lambda: len(timers()) == 1)
    numbers.stop()
    assert eventually(lambda: not timers())


def test_linger_timer_is_cancelled_when_a_viewer_joins_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined: list[Recorder] = []
    schedule = TimeoutScheduler.schedule_relative

    def schedule_and_join(*arguments: Any) -> Any:
        timer = schedule(*arguments)
        joined.append(Recorder(numbers))
        return timer

    monkeypatch.setattr(TimeoutScheduler, "schedule_relative", schedule_and_join)
    numbers = Source().stream.shared(linger=600)
    Recorder(numbers).subscription.dispose()
    assert eventually(lambda: bool(joined))
    assert eventually(lambda: not timers())
    numbers.stop()


def test_late_linger_timer_stops_nothing() -> None:
    """A timer may fire at the moment when a viewer joins."""
    run = Source().stream.shared(linger=60)._shared_run
    viewer = run.join(Subject(), all_items)
    run._stop_if_unwatched(1)
    assert not run.history.ended
    other = run.join(Subject(), all_items)
    viewer.dispose()
    other.dispose()
    run._stop_if_unwatched(1)
    assert not run.history.ended
    run._stop_if_unwatched(2)
    assert run.history.ended
    assert eventually(lambda: not timers())


def test_ended_run_does_not_linger() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)
    seen = Recorder(numbers)
    source.subject.on_completed()
    assert seen.all() == Recorder(numbers).all() == []


# --- stopping ---


def test_stop_fails_all_viewers_and_closes_the_connection(read: Face) -> None:
    with ScriptedServer(SILENT) as server:
        tokens = ask(server).pipe(text()).shared()
        early = Recorder(tokens)
        assert early.has("One,")
        tokens.stop()
        tokens.stop()
        assert early.all() == ["One,", StoppedError]
        assert eventually(lambda: server.open_connections == 0)
        assert isinstance(read(tokens)[-1], StoppedError)
        assert len(server.requests) == 1


def test_stop_before_the_first_viewer_sends_nothing(read: Face) -> None:
    with ScriptedServer() as server:
        events = ask(server).shared()
        events.stop()
        assert isinstance(read(events)[-1], StoppedError)
        assert server.requests == []


def test_stop_after_the_end_has_no_effect() -> None:
    numbers = Stream.of(reactivex.of(1)).shared()
    assert numbers.run() == 1
    numbers.stop()
    assert Recorder(numbers).all() == [1]


def test_items_after_the_end_are_dropped() -> None:
    run = Source().stream.shared()._shared_run
    run.append(1)
    run.stop()
    run.append(2)
    run.end()
    assert run.history.items_after(0) == [1]
    assert isinstance(run.history.error, StoppedError)


def test_interrupt_during_subscribe_stops_the_run() -> None:
    def subscribe(*_: Any) -> Any:
        raise KeyboardInterrupt

    numbers: SharedStream[Any] = Stream(subscribe).shared()
    with pytest.raises(KeyboardInterrupt):
        Recorder(numbers)
    assert Recorder(numbers).all() == [StoppedError]


def test_viewer_may_stop_the_run() -> None:
    source = Source()
    numbers = source.stream.shared()
    stopping = Recorder(numbers, lambda _: numbers.stop())
    other = Recorder(numbers)
    source.emit(1)
    assert stopping.all() == other.all() == [1, StoppedError]


def test_endless_source_can_be_stopped() -> None:
    numbers = Stream.of(reactivex.repeat_value(1)).shared(max_items=10)
    loop = iter(numbers.view("latest"))
    assert next(loop) == 1
    numbers.stop()
    with pytest.raises(StoppedError):
        for _ in loop:
            pass


def test_closing_the_source_stops_the_run() -> None:
    with ScriptedServer(SILENT) as server:
        events = ask(server)
        tokens = events.pipe(text()).shared()
        seen = Recorder(tokens)
        assert seen.has("One,")
        events.close()
        assert seen.all() == ["One,", StoppedError]


# --- no viewer delays another ---


def test_blocked_viewer_does_not_delay_the_others() -> None:
    source = Source()
    numbers = source.stream.shared()
    proceed = threading.Event()
    blocked = [Recorder(numbers, lambda _: proceed.wait(BOUND)) for _ in range(3)]
    fast = [Recorder(numbers) for _ in range(20)]
    source.emit(1, 2)
    for seen in fast:
        assert seen.has(1, 2)
    assert [seen.items for seen in blocked] == [[1]] * 3
    late = Recorder(numbers)
    source.subject.on_completed()
    for seen in (*fast, late):
        assert seen.all() == [1, 2]
    proceed.set()
    for seen in blocked:
        assert seen.all() == [1, 2]


def threads(name: str = "rxmistral-delivery") -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_repeatedly_slow_viewer_gets_its_own_thread() -> None:
    source = Source()
    numbers = source.stream.shared()
    on: dict[str, set[int]] = {"slow": set(), "fast": set()}
    pause = threading.Event()

    def slowly(number: int) -> None:
        if number < 20:
            pause.wait(0.01)
        on["slow"].add(threading.get_ident())

    slow = Recorder(numbers, slowly)
    fast = Recorder(numbers, lambda _: on["fast"].add(threading.get_ident()))
    for number in range(20):  # one at a time: no step is long enough for the watchdog
        source.emit(number)
        assert slow.has(*range(number + 1))
    assert eventually(
        lambda: len(threads()) >= 2
    )  # more if the fast viewer was considered slow, too
    for seen in on.values():
        seen.clear()
    source.emit(20, 21)
    assert slow.has(*range(22))
    assert fast.has(*range(22))
    assert len(on["slow"]) == len(on["fast"]) == 1
    assert on["slow"] != on["fast"]
    source.subject.on_completed()


def test_paused_viewer_receives_nothing_until_resumed() -> None:
    source = Source()
    numbers = source.stream.shared()
    paused: list[Any] = []

    def pause(number: int) -> None:
        if number == 2:
            assert emitting.source is not None
            emitting.source.pause()
            paused.append(emitting.source)

    ahead = Recorder(numbers)
    source.emit(1, 2, 3)
    seen = Recorder(numbers, pause)
    assert eventually(lambda: paused != [])
    source.emit(4)
    source.subject.on_completed()
    assert ahead.all() == [1, 2, 3, 4]
    assert not eventually(lambda: seen.items != [1, 2], 0.05)
    paused[0].resume()
    assert seen.all() == [1, 2, 3, 4]


def test_fast_viewers_share_a_thread() -> None:
    source = Source()
    numbers = source.stream.shared()
    viewers = [Recorder(numbers) for _ in range(100)]
    source.emit(*range(100))
    for seen in viewers:
        assert seen.has(*range(100))
    assert len(threads()) < 10  # one, unless the machine stalls
    for seen in viewers:
        seen.subscription.dispose()
    assert eventually(lambda: not threads())


def test_viewer_that_raises_does_not_affect_the_others() -> None:
    source = Source()
    numbers = source.stream.shared()

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    raising, other = Recorder(numbers, fail), Recorder(numbers)
    source.emit(1, 2)
    source.subject.on_completed()
    assert raising.all() == [1, ZeroDivisionError]
    assert other.all() == [1, 2]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns the types of the errors that reached `threading.excepthook`."""
    errors: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_type))
    return errors


def test_unhandled_error_goes_to_the_excepthook(reported: list[Any]) -> None:
    source = Source()
    numbers = source.stream.shared()

    def fail(error: Any) -> None:
        raise ZeroDivisionError

    numbers.subscribe(fail)  # without on_error
    numbers.subscribe(lambda _: None, on_completed=lambda: fail(None))
    other = Recorder(numbers)
    source.emit(1)
    assert eventually(lambda: reported == [ZeroDivisionError])
    source.subject.on_completed()
    assert other.all() == [1]
    assert eventually(lambda: reported == [ZeroDivisionError] * 2)


def test_sys_exit_in_a_callback_ends_that_viewer_only(reported: list[Any]) -> None:
    source = Source()
    numbers = source.stream.shared()
    leaving, other = Recorder(numbers, sys.exit), Recorder(numbers)
    source.emit(1)
    assert leaving.all() == [1, RuntimeError]
    source.subject.on_completed()
    assert other.all() == [1]
    assert eventually(lambda: reported == [SystemExit])


def test_ended_viewer_is_not_paused() -> None:
    sources: list[Any] = []
    ended = threading.Event()

    def end() -> None:
        sources.append(emitting.source)
        ended.set()

    Stream.of(reactivex.of(1)).shared().subscribe(
        lambda _: sources.append(emitting.source), on_completed=end
    )
    assert ended.wait(BOUND)
    assert sources[0] is not None
    assert sources[1] is None


def test_no_item_follows_dispose_in_a_callback() -> None:
    source = Source()
    numbers = source.stream.shared()
    seen = Recorder(numbers, lambda number: number == 2 and seen.subscription.dispose())
    source.emit(1)
    assert seen.has(1)
    source.emit(2, 3)
    source.subject.on_completed()
    assert Recorder(numbers).all() == [1, 2, 3]
    assert seen.items == [1, 2]


# --- views ---


def test_slow_merge_view_receives_all_text_as_one_item() -> None:
    source = Source()
    texts = source.stream.shared()
    proceed = threading.Event()
    seen = Recorder(texts.view("merge"), lambda _: proceed.wait(BOUND))
    source.emit("a")
    assert seen.has("a")
    source.emit("b", "c", "d")
    source.subject.on_completed()
    proceed.set()
    assert seen.all() == ["a", "bcd"]


def test_slow_latest_view_skips_to_the_latest_item() -> None:
    source = Source()
    numbers = source.stream.shared(max_items=1)
    proceed = threading.Event()
    seen = Recorder(numbers.view("latest"), lambda _: proceed.wait(BOUND))
    source.emit(1)
    assert seen.has(1)
    source.emit(2, 3, 4)
    source.subject.on_completed()
    proceed.set()
    assert seen.all() == [1, 4]


def test_fail_view_raises_when_it_lags_too_far() -> None:
    source = Source()
    numbers = source.stream.shared()
    proceed = threading.Event()
    ahead = Recorder(numbers)
    source.emit(1, 2, 3)
    assert ahead.has(1, 2, 3)
    seen = Recorder(numbers.view("fail", max_items=2), lambda n: n == 4 and proceed.wait(BOUND))
    assert seen.has(1, 2, 3)  # items emitted before it joined do not count
    source.emit(4)
    assert seen.has(1, 2, 3, 4)
    source.emit(5, 6, 7, 8, 9)
    proceed.set()
    assert seen.all() == [1, 2, 3, 4, LaggedError]
    assert isinstance(seen.error, LaggedError)
    assert seen.error.missed == 3
    numbers.stop()


def test_late_viewer_fails_with_the_number_of_missed_items() -> None:
    source = Source()
    numbers = source.stream.shared(max_items=2)
    first = Recorder(numbers)
    source.emit(1, 2, 3, 4)
    source.subject.on_completed()
    assert first.ended.wait(BOUND)
    late = Recorder(numbers)
    assert late.all() == [LaggedError]
    assert isinstance(late.error, LaggedError)
    assert late.error.missed == 2
    assert Recorder(numbers.entries(after=2)).all() == [Entry(3, 3), Entry(4, 4)]


@pytest.mark.parametrize("view", [lambda run: run, lambda run: run.view("merge")])
def test_evicted_text_counts_as_missed(view: Any) -> None:
    source = Source()
    texts = source.stream.shared(max_items=2)
    first = Recorder(texts)
    for letter in "abcd":
        source.emit(letter)
        assert first.has(*"abcd"[: "abcd".index(letter) + 1])
    source.subject.on_completed()
    late = Recorder(view(texts))
    assert late.all() == [LaggedError]
    assert isinstance(late.error, LaggedError)
    assert late.error.missed == 2
    assert Recorder(texts.view("latest")).all() == ["d"]


def test_endless_run_of_text_has_bounded_memory() -> None:
    texts = Stream.of(reactivex.of(*"abcdef").pipe(ops.repeat())).shared(max_items=10)
    loop = iter(texts.view("latest"))
    next(loop)
    assert eventually(lambda: texts._shared_run.history.last_id > 1000)
    assert len(texts._shared_run.history._items) <= 11
    texts.stop()


def test_all_text_is_kept_without_max_items() -> None:
    texts = Stream.of(reactivex.of(*"abcdef")).shared()
    assert Recorder(texts).all() == Recorder(texts).all() == [*"abcdef"]
    assert "".join(texts.view("merge")) == "abcdef"


def test_entries_continue_after_any_id() -> None:
    texts = Stream.of(reactivex.of(*"abc")).shared()
    for after in range(4):
        assert Recorder(texts.entries(after)).all() == [
            Entry(number, letter) for number, letter in enumerate("abc", 1) if number > after
        ]
    assert Recorder(texts.entries(after=9)).all() == []


def test_source_waits_for_a_wait_view() -> None:
    numbers: SharedStream[int] = Stream.of(reactivex.range(0, 100)).shared()
    proceed = threading.Semaphore(0)
    history = numbers._shared_run.history
    waited_for = numbers.view("wait", max_items=3)
    seen: list[Recorder] = []
    subscriber = threading.Thread(
        target=lambda: seen.append(Recorder(waited_for, lambda _: proceed.acquire(timeout=BOUND)))
    )
    subscriber.start()
    assert eventually(lambda: history.last_id >= 3)
    assert not eventually(lambda: history.last_id > 4, 0.05)
    for _ in range(100):
        proceed.release()
    subscriber.join(BOUND)
    assert seen[0].all() == [*range(100)]


@pytest.mark.parametrize("leave", ["dispose", "stop"])
def test_source_does_not_wait_for_a_view_that_has_left(leave: str) -> None:
    source = Source()
    numbers = source.stream.shared()
    proceed = threading.Event()
    seen = Recorder(numbers.view("wait", max_items=1), lambda _: proceed.wait(BOUND))
    emitting_thread = threading.Thread(target=source.emit, args=range(10))
    emitting_thread.start()
    assert seen.has(0)
    assert emitting_thread.is_alive()
    seen.subscription.dispose() if leave == "dispose" else numbers.stop()
    emitting_thread.join(BOUND)
    assert not emitting_thread.is_alive()
    proceed.set()
    numbers.stop()


class PausableSource:
    """A source on a thread that must not wait."""

    def __init__(self) -> None:
        self.paused = False
        self.resumed = threading.Event()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self.resumed.set()


def test_source_that_must_not_wait_is_paused() -> None:
    source, pausable = Source(), PausableSource()
    numbers = source.stream.shared()
    proceed = threading.Event()
    seen = Recorder(numbers.view("wait", max_items=2), lambda _: proceed.wait(BOUND))
    emitting.source = pausable
    try:
        source.emit(1)
        assert seen.has(1)
        source.emit(2)
        assert not pausable.paused
        source.emit(3)
        assert pausable.paused
    finally:
        emitting.source = None
    proceed.set()
    assert pausable.resumed.wait(BOUND)
    source.subject.on_completed()
    assert seen.all() == [1, 2, 3]


def test_source_on_an_event_loop_does_not_wait() -> None:
    source = Source()
    numbers = source.stream.shared()

    async def main() -> list[int]:
        task = asyncio.create_task(collect())
        await source.begun()
        source.emit(*range(2000))
        source.subject.on_completed()
        return await task

    async def collect() -> list[int]:
        return [number async for number in numbers.view("wait", max_items=1)]

    assert run(main()) == [*range(2000)]


def test_unread_loop_pauses_its_own_viewer_only() -> None:
    source = Source()
    numbers = source.stream.shared()
    lazy = iter(numbers)
    source.emit_when_begun(0)
    assert next(lazy) == 0
    fast = Recorder(numbers)
    source.emit(*range(1, 5000))
    source.subject.on_completed()
    assert fast.all() == [*range(5000)]
    assert [*lazy] == [*range(1, 5000)]


# --- with other operators ---


def test_each_viewer_has_its_own_outcome() -> None:
    with ScriptedServer(ANSWER) as server:
        events = ask(server).shared()
        outcomes: list[Outcome] = []
        for _ in range(2):
            by_for(events.pipe(on_outcome(outcomes.append)))
        assert [(each.status, each.requests) for each in outcomes] == [("completed", 1)] * 2
        assert outcomes[0].response == outcomes[1].response


def test_opened_stream_can_be_shared() -> None:
    with ScriptedServer(ANSWER) as server:
        stream = ask(server)
        assert stream.response.status_code == 200
        tokens = stream.shared().pipe(text())
        assert by_subscribing(tokens) == by_for(tokens) == ["One,", " two,", " three."]
        assert len(server.requests) == 1
        assert stream.outcome is not None
        assert stream.outcome.status == "completed"


# --- threads ---


def test_viewer_fails_when_no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert Recorder(numbers).all() == [RequestError]
    assert source.subscriptions == 0
    seen = Recorder(numbers)
    source.emit(1)
    assert seen.has(1)
    seen.subscription.dispose()
    assert source.disposed.is_set()  # the failed viewer is not counted


def test_slow_viewer_stays_when_no_thread_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source()
    numbers = source.stream.shared()
    pause = threading.Event()
    slow, other = Recorder(numbers, lambda _: pause.wait(0.05)), Recorder(numbers)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    source.emit(*range(5))
    source.subject.on_completed()
    assert slow.all() == other.all() == [0, 1, 2, 3, 4]


def test_only_loops_are_served_by_a_daemon_thread() -> None:
    source = Source()
    numbers = source.stream.shared()
    loop = iter(numbers)
    source.emit_when_begun(1)
    assert next(loop) == 1
    assert [thread.daemon for thread in threads()] == [True]
    seen = Recorder(numbers)
    assert sorted(thread.daemon for thread in threads()) == [False, True]
    seen.subscription.dispose()
    loop.close()  # type: ignore[attr-defined]
    assert eventually(lambda: not threads())


def script(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stderr == ""
    return result.stdout


PREAMBLE = """
    import sys
    from rxmistral import Mistral, text
    with_key = Mistral("key", server_url=sys.argv[1])
    tokens = with_key.chat.stream(model="m", messages=[{"role": "user", "content": "Hi"}]).pipe(text()).shared()
"""


def test_script_ending_in_subscribe_prints_the_whole_answer() -> None:
    answer: Script = [steps.role(), "One,", steps.wait(0.2), " two.", steps.finish(), steps.done()]
    with ScriptedServer(answer) as server:
        code = PREAMBLE + "    next(iter(tokens))\n    tokens.subscribe(print)\n"
        assert script(code, server.url) == "One,\n two.\n"


def test_script_ending_in_an_unfinished_loop_exits() -> None:
    with ScriptedServer(SILENT) as server:
        code = PREAMBLE + "    print(next(iter(tokens)))\n    sys.exit()\n"
        assert script(code, server.url) == "One,\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_child_process_can_view_an_ended_run() -> None:
    code = """
        import os, sys, threading, warnings
        import reactivex
        from rxmistral import Stream
        warnings.simplefilter("ignore")
        live = Stream.of(reactivex.never()).shared()
        live.subscribe(print)  # the parent has a worker thread
        numbers = Stream.of(reactivex.of(1, 2)).shared()
        numbers.run()
        if os.fork() == 0:
            for number in numbers:
                print(number, flush=True)
            os._exit(0)
        os.wait()
        live.subscribe(print, lambda error: print("stopped", flush=True))
        os._exit(0)
    """
    assert script(code) == "1\n2\n"


def test_viewers_that_come_and_go_receive_all_in_order() -> None:
    source = Source()
    texts: SharedStream[str] = source.stream.shared()
    stays = Recorder(texts)
    sent = [f"{number} " for number in range(1, 3001)]
    seen: list[tuple[str, Recorder]] = []

    def join_and_leave() -> None:
        for name, view in VIEWS.items():
            Recorder(view(texts)).subscription.dispose()
            seen.append((name, Recorder(view(texts))))

    joiners = [threading.Thread(target=join_and_leave) for _ in range(8)]
    emitting_thread = threading.Thread(target=source.emit, args=sent)
    for thread in (emitting_thread, *joiners):
        thread.start()
    for thread in (emitting_thread, *joiners):
        thread.join(BOUND)
    source.subject.on_completed()
    assert stays.all() == sent
    assert len(seen) == 8 * len(VIEWS)
    for name, each in seen:
        assert each.ended.wait(BOUND)
        check_promise(name, each, sent, None)


# --- random sequences of actions ---

VIEWS: dict[str, Callable[[SharedStream[str]], Stream[Any]]] = {
    "all": lambda texts: texts,
    "wait": lambda texts: texts.view("wait"),
    "merge": lambda texts: texts.view("merge"),
    "merge 2": lambda texts: texts.view("merge", 2),
    "latest": lambda texts: texts.view("latest"),
    "latest 3": lambda texts: texts.view("latest", 3),
    "fail": lambda texts: texts.view("fail", 2),
    "entries": lambda texts: texts.entries(),
    "entries 3": lambda texts: texts.entries(3),
}

ACTIONS = st.lists(
    st.one_of(
        st.just("emit"),
        st.just("emit"),
        st.sampled_from(["complete", "fail", "stop", "leave", "settle"]),
        st.sampled_from([*VIEWS]).map(lambda name: f"join {name}"),
    ),
    max_size=40,
)


def check_promise(
    name: str, seen: Recorder, sent: list[str], ending: type[Exception] | None
) -> None:
    """Checks that a viewer has received everything that its view promises."""
    got = seen.items
    error = None if seen.error is None else type(seen.error)
    kind, _, number = name.partition(" ")
    if kind == "fail" and error is LaggedError:
        assert got == sent[: len(got)]
        assert len(got) < len(sent)
        return
    assert error is ending
    if kind in ("all", "wait", "fail"):
        assert got == sent
    elif kind == "merge":
        assert "".join(got) == "".join(sent)
    elif kind == "latest":
        numbers = [int(each) for each in got]
        assert numbers == sorted(set(numbers))
        assert got[-1:] == sent[-1:]
    else:
        after = int(number or 0)
        assert got == [Entry(at, each) for at, each in enumerate(sent, 1) if at > after]


@given(ACTIONS)
def test_random_histories_keep_the_promise_of_each_view(
    actions: list[str],
) -> None:
    source = Source()
    texts: SharedStream[str] = source.stream.shared()
    sent: list[str] = []
    viewers: list[tuple[str, Recorder]] = []
    left: list[Recorder] = []
    ending: Any = "none"
    for number, action in enumerate(actions):
        if action.startswith("join "):
            viewers.append((action[5:], Recorder(VIEWS[action[5:]](texts))))
        elif action == "leave" and viewers:
            left.append(viewers.pop(number % len(viewers))[1])
            left[-1].subscription.dispose()
        elif action == "settle" and viewers:
            eventually(lambda: viewers[0][1].items != [], 0.005)
        elif action == "stop" and ending == "none":
            ending = StoppedError
            texts.stop()
        elif source.subscriptions and ending == "none":
            if action == "emit":
                sent.append(f"{len(sent) + 1} ")
                source.emit(sent[-1])
            elif action == "complete":
                ending = None
                source.subject.on_completed()
            elif action == "fail":
                ending = OSError
                source.subject.on_error(OSError())
    before = [[*seen.items] for seen in left if seen.ended.is_set()]
    if ending == "none":
        ending = StoppedError
        texts.stop()
    viewers.extend((name, Recorder(view(texts))) for name, view in VIEWS.items())
    for name, seen in viewers:
        assert seen.ended.wait(BOUND)
        check_promise(name, seen, sent, ending)
    assert before == [[*seen.items] for seen in left if seen.ended.is_set()]
    assert source.subscriptions <= 1


def test_stop_ends_the_source_before_the_viewers() -> None:
    states: list[str] = []
    source: Stream[int] = Stream(lambda *_: Disposable(lambda: states.append(repr(viewed))))
    viewed = source.shared().start()
    viewed.stop()
    assert states == ["<SharedStream 0 items, 0 viewers, running>"]


def test_viewer_that_leaves_at_the_end_stops_nothing() -> None:
    """The source is left before the viewers end, and calls back."""
    source: Subject[int] = Subject()
    run = Stream.of(source).finally_action(lambda: viewer.dispose()).shared(linger=0)
    viewer = run.subscribe()
    source.on_next(1)
    source.on_completed()
    assert list(run) == [1]
