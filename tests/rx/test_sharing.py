"""One run, many viewers: one request, everything for everybody, and nobody waits for another."""

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
from rxmistral.rx import delivery as delivery_module
from rxmistral.rx.backpressure import emitting
from rxmistral.rx.history import Entry, History, all_entries, all_items, catch_up_policy
from rxmistral.testing import Script, ScriptedServer, steps

ANSWER: Script = [steps.role(), "One,", " two,", " three.", steps.finish(), steps.done()]
SILENT: Script = [steps.role(), "One,", steps.hang()]


def ask(server: ScriptedServer) -> EventStream:
    client = Mistral("key", server_url=server.url)
    return client.chat.stream(model="m", messages=[UserMessage(content="Hi")])


class Seen:
    """An observer that keeps what comes."""

    def __init__(self, stream: Observable[Any], on_next: Callable[[Any], object] = id) -> None:
        self.items: list[Any] = []
        self.error: Exception | None = None
        self.ended = threading.Event()
        self._also = on_next
        self.subscription = stream.subscribe(self._take, self._fail, self.ended.set)

    def _take(self, item: Any) -> None:
        self.items.append(item)
        self._also(item)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def all(self) -> list[Any]:
        assert self.ended.wait(BOUND)
        return self.items if self.error is None else [*self.items, type(self.error)]

    def has(self, *items: Any) -> bool:
        return eventually(lambda: self.items == [*items])


class Source:
    """A subject that knows whether it is subscribed to."""

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
        """On another thread: a loop begins with its first item."""

        def emit() -> None:
            assert self.began.wait(BOUND)
            self.emit(*items)

        threading.Thread(target=emit).start()

    async def begun(self) -> None:
        while not self.subscriptions:  # noqa: ASYNC110  # by a task of the same loop
            await asyncio.sleep(0)

    def emit(self, *items: Any) -> None:
        for item in items:
            self.subject.on_next(item)


# --- the history, by hand ---


@given(
    st.lists(st.one_of(st.integers(), st.text(max_size=2))),
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(0, 40),
)
def test_a_history_gives_exactly_what_came_after_or_says_what_is_gone(
    items: list[Any], max_items: int | None, place: int
) -> None:
    history: History[Any] = History(max_items)
    for item in items:
        history.append(item)
    place %= len(items) + 1
    gone = 0 if max_items is None else max(0, len(items) - max_items)
    assert history.last == len(items)
    if place < gone:
        with pytest.raises(LaggedError) as raised:
            history.after(place)
        assert raised.value.missed == gone - place
    else:
        assert history.after(place) == items[place:]


def of_items(*items: Any) -> History[Any]:
    history: History[Any] = History()
    for item in items:
        history.append(item)
    return history


def test_what_is_given_to_who_is_behind() -> None:
    history = of_items("a", "b", "c")
    assert all_items(history, 1, 0) == (2, ["b", "c"])
    assert all_entries(history, 1, 0) == (2, [Entry(2, "b"), Entry(3, "c")])
    assert catch_up_policy("merge", None)[0](history, 1, 0) == (3, ["bc"])
    assert catch_up_policy("merge", 2)[0](history, 1, 0) == (2, ["b", "c"])
    assert catch_up_policy("latest", None)[0](history, 0, 0) == (3, ["c"])
    assert catch_up_policy("latest", 3)[0](history, 0, 0) == (1, ["a", "b", "c"])
    assert catch_up_policy("fail", 3)[0](history, 0, 0) == (1, ["a", "b", "c"])
    assert catch_up_policy("fail", 1)[0](history, 0, 3) == (1, ["a", "b", "c"])
    with pytest.raises(LaggedError) as raised:
        catch_up_policy("fail", 1)[0](history, 0, 0)
    assert raised.value.missed == 2


def test_the_latest_is_there_whatever_is_gone() -> None:
    history: History[int] = History(max_items=1)
    for item in (1, 2, 3):
        history.append(item)
    assert catch_up_policy("latest", 5)[0](history, 0, 0) == (3, [3])


def test_what_is_no_text_cannot_be_merged() -> None:
    assert Seen(Stream.of(reactivex.of("a", 1)).shared().view("merge")).all()[-1] is TypeError


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


def test_nothing_is_sent_before_somebody_watches_and_then_once(read: Face) -> None:
    with ScriptedServer(ANSWER) as server:
        answer = ask(server).shared()
        tokens = answer.pipe(text())
        assert server.requests == []
        for _ in range(3):
            assert read(tokens)[-3:] == ["One,", " two,", " three."]
        assert len(server.requests) == 1


def test_viewers_on_threads_and_loops_see_the_same() -> None:
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


def test_the_operator_shares_any_observable(read: Face) -> None:
    source = Source()
    numbers = reactivex.defer(lambda _: source.stream).pipe(shared())
    assert isinstance(numbers, SharedStream)
    early = Seen(numbers)
    source.emit(1, 2)
    source.subject.on_completed()
    assert read(numbers)[-2:] == early.all() == [1, 2]
    assert source.subscriptions == 1


def test_who_comes_late_gets_everything_and_then_lives() -> None:
    source = Source()
    numbers = source.stream.shared()
    first = Seen(numbers)
    source.emit(1, 2)
    late = Seen(numbers)
    assert late.has(1, 2)
    source.emit(3)
    source.subject.on_completed()
    assert first.all() == late.all() == Seen(numbers).all() == [1, 2, 3]


def test_an_error_is_the_same_for_all_and_a_copy_for_each(read: Face) -> None:
    with ScriptedServer(["One,", steps.drop()]) as server:
        tokens = ask(server).pipe(text()).shared()
        one, other = read(tokens)[-1], read(tokens)[-1]
        assert isinstance(one, DroppedStreamError)
        assert (type(one), str(one), one.partial) == (type(other), str(other), other.partial)
        assert one.__cause__ is other.__cause__ is not None
        assert one is not other
        assert len(server.requests) == 1


def test_an_error_that_cannot_be_copied_is_given_as_it_is() -> None:
    class OddError(Exception):
        def __init__(self, *, reason: str) -> None:
            super().__init__(f"because of {reason}")

    error = OddError(reason="it")
    numbers = Stream.of(reactivex.throw(error)).shared()
    seen = Seen(numbers)
    assert seen.all() == [OddError]
    assert str(seen.error) == "because of it"


def test_a_source_that_cannot_be_subscribed_to_is_an_error_for_all() -> None:
    def subscribe(*_: Any) -> Any:
        raise OSError("no")

    numbers: SharedStream[Any] = Stream(subscribe).shared()
    assert Seen(numbers).all() == Seen(numbers).all() == [OSError]


def test_more_items_than_a_batch_come_in_order(read: Face) -> None:
    numbers = Stream.of(reactivex.range(0, 3000)).shared()
    assert read(numbers)[-3000:] == read(numbers)[-3000:] == [*range(3000)]


# --- leaving is not stopping ---


def test_the_run_goes_on_when_nobody_watches() -> None:
    source = Source()
    numbers = source.stream.shared()
    seen = Seen(numbers)
    source.emit(1)
    assert seen.has(1)
    seen.subscription.dispose()
    source.emit(2)
    assert not source.disposed.is_set()
    source.subject.on_completed()
    assert Seen(numbers).all() == [1, 2]
    assert seen.items == [1]


def test_breaking_a_loop_leaves_it(read: Face) -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)
    source.emit_when_begun(1)
    for number in numbers:
        assert number == 1
        break
    assert source.disposed.wait(BOUND)
    assert read(numbers)[-2:][0] == 1
    assert isinstance(read(numbers)[-1], StoppedError)


def test_a_cancelled_task_leaves_it() -> None:
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


def test_a_with_block_leaves_it_and_views_with_it() -> None:
    source = Source()
    with source.stream.shared(linger=0) as numbers:
        Seen(numbers)
        Seen(numbers.view("fail"))
        Seen(numbers.entries())
        Seen(numbers.pipe(ops.map(str)))
        assert not source.disposed.is_set()
    assert source.disposed.is_set()


def test_a_with_block_leaves_with_the_loops_of_its_thread() -> None:
    source = Source()
    with source.stream.shared(linger=0) as numbers:
        loops = iter(numbers), iter(numbers.pipe(ops.map(str)))
        source.emit_when_begun(1)
        assert [next(loop) for loop in loops] == [1, "1"]
        assert not source.disposed.is_set()
    assert source.disposed.wait(BOUND)


def test_leaving_a_with_block_does_not_stop_the_run_that_began_in_it() -> None:
    script: Script = [*"abc", steps.wait(0.2), "d", steps.finish()]
    with ScriptedServer(script) as server, Mistral(server_url=server.url) as client:
        answer = client.chat.stream(model="m", messages=[UserMessage(content="Hi")])
        shared = answer.pipe(text()).shared()
        with shared as opened:
            assert next(iter(opened)) == "a"
        assert by_for(shared) == [*"abcd"]


def test_a_with_block_of_one_thread_ends_no_viewer_of_another() -> None:
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


def test_a_with_block_of_one_task_ends_no_viewer_of_another() -> None:
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


def test_an_abandoned_loop_leaves_it() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)

    async def main() -> None:
        source.emit_when_begun(1)
        loop = aiter(numbers)
        assert await anext(loop) == 1
        del loop

    run(main())
    assert source.disposed.wait(BOUND)


def test_an_unwatched_run_is_stopped_after_its_linger() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0.05)
    seen = Seen(numbers)
    source.emit(1)
    assert seen.has(1)
    seen.subscription.dispose()
    assert source.disposed.wait(BOUND)
    assert Seen(numbers).all() == [1, StoppedError]


def test_who_comes_in_time_keeps_it_alive() -> None:
    source = Source()
    numbers = source.stream.shared(linger=5)
    Seen(numbers).subscription.dispose()
    seen = Seen(numbers)
    source.emit(1)
    source.subject.on_completed()
    assert seen.all() == [1]


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_no_timer_is_left_when_somebody_comes_or_it_is_over() -> None:
    numbers = Source().stream.shared(linger=60)
    Seen(numbers).subscription.dispose()
    assert eventually(lambda: len(timers()) == 1)
    seen = Seen(numbers)
    assert eventually(lambda: not timers())
    seen.subscription.dispose()
    assert eventually(lambda: len(timers()) == 1)
    numbers.stop()
    assert eventually(lambda: not timers())


def test_no_timer_is_left_when_a_viewer_joins_while_it_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined: list[Seen] = []
    schedule = TimeoutScheduler.schedule_relative

    def schedule_and_join(*arguments: Any) -> Any:
        timer = schedule(*arguments)
        joined.append(Seen(numbers))
        return timer

    monkeypatch.setattr(TimeoutScheduler, "schedule_relative", schedule_and_join)
    numbers = Source().stream.shared(linger=600)
    Seen(numbers).subscription.dispose()
    assert eventually(lambda: bool(joined))
    assert eventually(lambda: not timers())
    numbers.stop()


def test_a_timer_that_is_late_stops_nothing() -> None:
    """It may have fired in the moment in which somebody came."""
    run = Source().stream.shared(linger=60)._shared_run
    viewer = run.join(Subject(), all_items)
    run._lapse(1)
    assert not run.history.ended
    other = run.join(Subject(), all_items)
    viewer.dispose()
    other.dispose()
    run._lapse(1)
    assert not run.history.ended
    run._lapse(2)
    assert run.history.ended
    assert eventually(lambda: not timers())


def test_a_run_that_has_ended_does_not_linger() -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)
    seen = Seen(numbers)
    source.subject.on_completed()
    assert seen.all() == Seen(numbers).all() == []


# --- stopping ---


def test_stopping_is_an_error_for_all_and_closes_the_connection(read: Face) -> None:
    with ScriptedServer(SILENT) as server:
        tokens = ask(server).pipe(text()).shared()
        early = Seen(tokens)
        assert early.has("One,")
        tokens.stop()
        tokens.stop()
        assert early.all() == ["One,", StoppedError]
        assert eventually(lambda: server.open_connections == 0)
        assert isinstance(read(tokens)[-1], StoppedError)
        assert len(server.requests) == 1


def test_one_that_is_stopped_before_it_began_sends_nothing(read: Face) -> None:
    with ScriptedServer() as server:
        events = ask(server).shared()
        events.stop()
        assert isinstance(read(events)[-1], StoppedError)
        assert server.requests == []


def test_stopping_after_the_end_does_nothing() -> None:
    numbers = Stream.of(reactivex.of(1)).shared()
    assert numbers.run() == 1
    numbers.stop()
    assert Seen(numbers).all() == [1]


def test_what_comes_when_it_is_over_is_dropped() -> None:
    run = Source().stream.shared()._shared_run
    run.on_next(1)
    run.stop()
    run.on_next(2)
    run.on_completed()
    assert run.history.after(0) == [1]
    assert isinstance(run.history.error, StoppedError)


def test_an_interrupt_while_it_begins_stops_it() -> None:
    def subscribe(*_: Any) -> Any:
        raise KeyboardInterrupt

    numbers: SharedStream[Any] = Stream(subscribe).shared()
    with pytest.raises(KeyboardInterrupt):
        Seen(numbers)
    assert Seen(numbers).all() == [StoppedError]


def test_a_viewer_may_stop_it() -> None:
    source = Source()
    numbers = source.stream.shared()
    stopping = Seen(numbers, lambda _: numbers.stop())
    other = Seen(numbers)
    source.emit(1)
    assert stopping.all() == other.all() == [1, StoppedError]


def test_a_source_without_end_can_be_stopped() -> None:
    numbers = Stream.of(reactivex.repeat_value(1)).shared(max_items=10)
    loop = iter(numbers.view("latest"))
    assert next(loop) == 1
    numbers.stop()
    with pytest.raises(StoppedError):
        for _ in loop:
            pass


def test_closing_the_source_stops_it() -> None:
    with ScriptedServer(SILENT) as server:
        events = ask(server)
        tokens = events.pipe(text()).shared()
        seen = Seen(tokens)
        assert seen.has("One,")
        events.close()
        assert seen.all() == ["One,", StoppedError]


# --- nobody waits for another ---


def test_who_blocks_delays_nobody() -> None:
    source = Source()
    numbers = source.stream.shared()
    go_on = threading.Event()
    blocked = [Seen(numbers, lambda _: go_on.wait(BOUND)) for _ in range(3)]
    quick = [Seen(numbers) for _ in range(20)]
    source.emit(1, 2)
    for seen in quick:
        assert seen.has(1, 2)
    assert [seen.items for seen in blocked] == [[1]] * 3
    late = Seen(numbers)
    source.subject.on_completed()
    for seen in (*quick, late):
        assert seen.all() == [1, 2]
    go_on.set()
    for seen in blocked:
        assert seen.all() == [1, 2]


def threads(name: str = "rxmistral-delivery") -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_who_is_slow_again_and_again_gets_a_thread_for_good() -> None:
    source = Source()
    numbers = source.stream.shared()
    on: dict[str, set[int]] = {"slow": set(), "quick": set()}
    pause = threading.Event()

    def slowly(number: int) -> None:
        if number < 20:
            pause.wait(0.01)
        on["slow"].add(threading.get_ident())

    slow = Seen(numbers, slowly)
    quick = Seen(numbers, lambda _: on["quick"].add(threading.get_ident()))
    for number in range(20):  # one at a time: no step is so long that the guard sees it
        source.emit(number)
        assert slow.has(*range(number + 1))
    assert eventually(lambda: len(threads()) >= 2)  # more if the quick one was seen as slow, too
    for seen in on.values():
        seen.clear()
    source.emit(20, 21)
    assert slow.has(*range(22))
    assert quick.has(*range(22))
    assert len(on["slow"]) == len(on["quick"]) == 1
    assert on["slow"] != on["quick"]
    source.subject.on_completed()


class Stepped(delivery_module.Viewer):
    """A viewer that notes the threads which step it, and may hold one up."""

    def __init__(self, go_on: threading.Event | None = None) -> None:
        self.stepped_by: list[int] = []
        self._go_on = go_on

    def step(self) -> bool:
        self.stepped_by.append(threading.get_ident())
        if self._go_on is not None:
            self._go_on.wait(BOUND)
        return False


def test_who_was_taken_over_is_not_stepped_by_both() -> None:
    audience, go_on = delivery_module.RunViewers(), threading.Event()
    delivery = delivery_module.Delivery(daemon=False)
    stuck = Stepped()
    delivery.add(stuck, audience)
    others = [Stepped() for _ in range(5)]
    for each in others:
        delivery.add(each, audience)
    assert eventually(lambda: all(len(each.stepped_by) == 1 for each in (stuck, *others)))
    stuck._go_on = go_on
    audience.wake()  # the one that gets stuck stands first in this round
    assert eventually(lambda: all(len(each.stepped_by) == 2 for each in others))
    go_on.set()
    audience.wake()
    assert eventually(lambda: len(stuck.stepped_by) == 3)
    assert eventually(lambda: all(len(each.stepped_by) == 3 for each in others))
    for each in others:
        assert {*stuck.stepped_by[1:]}.isdisjoint(each.stepped_by[1:])
    for each in (stuck, *others):
        delivery_module.remove(each, lambda: None)


def test_who_is_paused_gets_nothing_until_it_is_resumed() -> None:
    source = Source()
    numbers = source.stream.shared()
    paused: list[Any] = []

    def pause(number: int) -> None:
        if number == 2:
            assert emitting.source is not None
            emitting.source.pause()
            paused.append(emitting.source)

    ahead = Seen(numbers)
    source.emit(1, 2, 3)
    seen = Seen(numbers, pause)
    assert eventually(lambda: paused != [])
    source.emit(4)
    source.subject.on_completed()
    assert ahead.all() == [1, 2, 3, 4]
    assert not eventually(lambda: seen.items != [1, 2], 0.05)
    paused[0].resume()
    assert seen.all() == [1, 2, 3, 4]


def test_many_quick_viewers_share_a_thread() -> None:
    source = Source()
    numbers = source.stream.shared()
    viewers = [Seen(numbers) for _ in range(100)]
    source.emit(*range(100))
    for seen in viewers:
        assert seen.has(*range(100))
    assert len(threads()) < 10  # one, where the machine itself does not stall
    for seen in viewers:
        seen.subscription.dispose()
    assert eventually(lambda: not threads())


def test_who_raises_hurts_nobody_else() -> None:
    source = Source()
    numbers = source.stream.shared()

    def fail(_: Any) -> None:
        raise ZeroDivisionError

    raising, other = Seen(numbers, fail), Seen(numbers)
    source.emit(1, 2)
    source.subject.on_completed()
    assert raising.all() == [1, ZeroDivisionError]
    assert other.all() == [1, 2]


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What went to the excepthook of threads."""
    errors: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_type))
    return errors


def test_what_nobody_is_told_of_goes_to_the_excepthook(reported: list[Any]) -> None:
    source = Source()
    numbers = source.stream.shared()

    def fail(error: Any) -> None:
        raise ZeroDivisionError

    numbers.subscribe(fail)  # and no on_error
    numbers.subscribe(lambda _: None, on_completed=lambda: fail(None))
    other = Seen(numbers)
    source.emit(1)
    assert eventually(lambda: reported == [ZeroDivisionError])
    source.subject.on_completed()
    assert other.all() == [1]
    assert eventually(lambda: reported == [ZeroDivisionError] * 2)


def test_leaving_the_interpreter_from_a_callback_ends_that_viewer(reported: list[Any]) -> None:
    source = Source()
    numbers = source.stream.shared()
    leaving, other = Seen(numbers, sys.exit), Seen(numbers)
    source.emit(1)
    assert leaving.all() == [1, RuntimeError]
    source.subject.on_completed()
    assert other.all() == [1]
    assert eventually(lambda: reported == [SystemExit])


def test_nobody_pauses_a_viewer_that_has_seen_the_end() -> None:
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


def test_no_item_comes_after_leaving_in_a_callback() -> None:
    source = Source()
    numbers = source.stream.shared()
    seen = Seen(numbers, lambda number: number == 2 and seen.subscription.dispose())
    source.emit(1)
    assert seen.has(1)
    source.emit(2, 3)
    source.subject.on_completed()
    assert Seen(numbers).all() == [1, 2, 3]
    assert seen.items == [1, 2]


# --- views ---


def test_a_slow_view_that_merges_gets_all_text_in_one_item() -> None:
    source = Source()
    texts = source.stream.shared()
    go_on = threading.Event()
    seen = Seen(texts.view("merge"), lambda _: go_on.wait(BOUND))
    source.emit("a")
    assert seen.has("a")
    source.emit("b", "c", "d")
    source.subject.on_completed()
    go_on.set()
    assert seen.all() == ["a", "bcd"]


def test_a_slow_view_of_the_latest_jumps_to_it() -> None:
    source = Source()
    numbers = source.stream.shared(max_items=1)
    go_on = threading.Event()
    seen = Seen(numbers.view("latest"), lambda _: go_on.wait(BOUND))
    source.emit(1)
    assert seen.has(1)
    source.emit(2, 3, 4)
    source.subject.on_completed()
    go_on.set()
    assert seen.all() == [1, 4]


def test_a_view_that_fails_does_so_when_it_is_too_far_behind() -> None:
    source = Source()
    numbers = source.stream.shared()
    go_on = threading.Event()
    source_is_ahead = Seen(numbers)
    source.emit(1, 2, 3)
    assert source_is_ahead.has(1, 2, 3)
    seen = Seen(numbers.view("fail", max_items=2), lambda n: n == 4 and go_on.wait(BOUND))
    assert seen.has(1, 2, 3)  # what was there does not count
    source.emit(4)
    assert seen.has(1, 2, 3, 4)
    source.emit(5, 6, 7, 8, 9)
    go_on.set()
    assert seen.all() == [1, 2, 3, 4, LaggedError]
    assert isinstance(seen.error, LaggedError)
    assert seen.error.missed == 3
    numbers.stop()


def test_who_needs_what_is_not_kept_is_told_how_much_is_gone() -> None:
    source = Source()
    numbers = source.stream.shared(max_items=2)
    first = Seen(numbers)
    source.emit(1, 2, 3, 4)
    source.subject.on_completed()
    assert first.ended.wait(BOUND)
    late = Seen(numbers)
    assert late.all() == [LaggedError]
    assert isinstance(late.error, LaggedError)
    assert late.error.missed == 2
    assert Seen(numbers.entries(after=2)).all() == [Entry(3, 3), Entry(4, 4)]


@pytest.mark.parametrize("view", [lambda run: run, lambda run: run.view("merge")])
def test_text_that_is_not_kept_is_missed(view: Any) -> None:
    source = Source()
    texts = source.stream.shared(max_items=2)
    first = Seen(texts)
    for letter in "abcd":
        source.emit(letter)
        assert first.has(*"abcd"[: "abcd".index(letter) + 1])
    source.subject.on_completed()
    late = Seen(view(texts))
    assert late.all() == [LaggedError]
    assert isinstance(late.error, LaggedError)
    assert late.error.missed == 2
    assert Seen(texts.view("latest")).all() == ["d"]


def test_run_of_text_without_end_has_bounded_memory() -> None:
    texts = Stream.of(reactivex.of(*"abcdef").pipe(ops.repeat())).shared(max_items=10)
    loop = iter(texts.view("latest"))
    next(loop)
    assert eventually(lambda: texts._shared_run.history.last > 1000)
    assert len(texts._shared_run.history._items) <= 11
    texts.stop()


def test_all_text_is_kept_without_max_items() -> None:
    texts = Stream.of(reactivex.of(*"abcdef")).shared()
    assert Seen(texts).all() == Seen(texts).all() == [*"abcdef"]
    assert "".join(texts.view("merge")) == "abcdef"


def test_entries_go_on_after_any_id() -> None:
    texts = Stream.of(reactivex.of(*"abc")).shared()
    for after in range(4):
        assert Seen(texts.entries(after)).all() == [
            Entry(number, letter) for number, letter in enumerate("abc", 1) if number > after
        ]
    assert Seen(texts.entries(after=9)).all() == []


def test_a_source_waits_for_a_view_that_wants_it() -> None:
    numbers: SharedStream[int] = Stream.of(reactivex.range(0, 100)).shared()
    go_on = threading.Semaphore(0)
    history = numbers._shared_run.history
    waited_for = numbers.view("wait", max_items=3)
    seen: list[Seen] = []
    subscriber = threading.Thread(
        target=lambda: seen.append(Seen(waited_for, lambda _: go_on.acquire(timeout=BOUND)))
    )
    subscriber.start()
    assert eventually(lambda: history.last >= 3)
    assert not eventually(lambda: history.last > 4, 0.05)
    for _ in range(100):
        go_on.release()
    subscriber.join(BOUND)
    assert seen[0].all() == [*range(100)]


@pytest.mark.parametrize("leave", ["dispose", "stop"])
def test_a_source_waits_no_more_for_who_has_left(leave: str) -> None:
    source = Source()
    numbers = source.stream.shared()
    go_on = threading.Event()
    seen = Seen(numbers.view("wait", max_items=1), lambda _: go_on.wait(BOUND))
    emitting_thread = threading.Thread(target=source.emit, args=range(10))
    emitting_thread.start()
    assert seen.has(0)
    assert emitting_thread.is_alive()
    seen.subscription.dispose() if leave == "dispose" else numbers.stop()
    emitting_thread.join(BOUND)
    assert not emitting_thread.is_alive()
    go_on.set()
    numbers.stop()


class Pump:
    """A source on a thread that may not wait."""

    def __init__(self) -> None:
        self.paused = False
        self.resumed = threading.Event()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self.resumed.set()


def test_a_source_that_may_not_wait_is_paused() -> None:
    source, pump = Source(), Pump()
    numbers = source.stream.shared()
    go_on = threading.Event()
    seen = Seen(numbers.view("wait", max_items=2), lambda _: go_on.wait(BOUND))
    emitting.source = pump
    try:
        source.emit(1)
        assert seen.has(1)
        source.emit(2)
        assert not pump.paused
        source.emit(3)
        assert pump.paused
    finally:
        emitting.source = None
    go_on.set()
    assert pump.resumed.wait(BOUND)
    source.subject.on_completed()
    assert seen.all() == [1, 2, 3]


def test_a_source_on_an_event_loop_is_not_made_to_wait() -> None:
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


def test_a_loop_that_is_not_read_pauses_its_viewer_and_no_other() -> None:
    source = Source()
    numbers = source.stream.shared()
    lazy = iter(numbers)
    source.emit_when_begun(0)
    assert next(lazy) == 0
    quick = Seen(numbers)
    source.emit(*range(1, 5000))
    source.subject.on_completed()
    assert quick.all() == [*range(5000)]
    assert [*lazy] == [*range(1, 5000)]


# --- with the rest of the library ---


def test_each_viewer_has_an_outcome_of_its_own() -> None:
    with ScriptedServer(ANSWER) as server:
        events = ask(server).shared()
        outcomes: list[Outcome] = []
        for _ in range(2):
            by_for(events.pipe(on_outcome(outcomes.append)))
        assert [(each.status, each.requests) for each in outcomes] == [("completed", 1)] * 2
        assert outcomes[0].response == outcomes[1].response


def test_an_opened_stream_can_be_shared() -> None:
    with ScriptedServer(ANSWER) as server:
        stream = ask(server)
        assert stream.response.status_code == 200
        tokens = stream.shared().pipe(text())
        assert by_subscribing(tokens) == by_for(tokens) == ["One,", " two,", " three."]
        assert len(server.requests) == 1
        assert stream.outcome is not None
        assert stream.outcome.status == "completed"


# --- threads ---


def test_where_no_thread_can_be_started_the_viewer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    numbers = source.stream.shared(linger=0)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert Seen(numbers).all() == [RequestError]
    assert source.subscriptions == 0
    seen = Seen(numbers)
    source.emit(1)
    assert seen.has(1)
    seen.subscription.dispose()
    assert source.disposed.is_set()  # nobody else is taken for a viewer


def test_where_no_thread_can_be_started_who_is_slow_is_borne_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Source()
    numbers = source.stream.shared()
    pause = threading.Event()
    slow, other = Seen(numbers, lambda _: pause.wait(0.05)), Seen(numbers)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    source.emit(*range(5))
    source.subject.on_completed()
    assert slow.all() == other.all() == [0, 1, 2, 3, 4]


def test_loops_are_served_by_a_daemon_and_subscriptions_by_none() -> None:
    source = Source()
    numbers = source.stream.shared()
    loop = iter(numbers)
    source.emit_when_begun(1)
    assert next(loop) == 1
    assert [thread.daemon for thread in threads()] == [True]
    seen = Seen(numbers)
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


READ = """
    import sys
    from rxmistral import Mistral, text
    with_key = Mistral("key", server_url=sys.argv[1])
    tokens = with_key.chat.stream(model="m", messages=[{"role": "user", "content": "Hi"}]).pipe(text()).shared()
"""


def test_a_script_that_ends_in_subscribing_prints_the_whole_answer() -> None:
    answer: Script = [steps.role(), "One,", steps.wait(0.2), " two.", steps.finish(), steps.done()]
    with ScriptedServer(answer) as server:
        code = READ + "    next(iter(tokens))\n    tokens.subscribe(print)\n"
        assert script(code, server.url) == "One,\n two.\n"


def test_a_script_that_ends_in_a_loop_it_left_does_not_wait() -> None:
    with ScriptedServer(SILENT) as server:
        code = READ + "    print(next(iter(tokens)))\n    sys.exit()\n"
        assert script(code, server.url) == "One,\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_can_view_what_has_ended() -> None:
    code = """
        import os, sys, threading, warnings
        import reactivex
        from rxmistral import Stream
        warnings.simplefilter("ignore")
        live = Stream.of(reactivex.never()).shared()
        live.subscribe(print)  # the parent has a thread
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


def test_many_who_come_and_go_while_it_runs_see_all_in_order() -> None:
    source = Source()
    texts: SharedStream[str] = source.stream.shared()
    stays = Seen(texts)
    sent = [f"{number} " for number in range(1, 3001)]
    seen: list[tuple[str, Seen]] = []

    def come_and_go() -> None:
        for name, view in VIEWS.items():
            Seen(view(texts)).subscription.dispose()
            seen.append((name, Seen(view(texts))))

    comers = [threading.Thread(target=come_and_go) for _ in range(8)]
    emitting_thread = threading.Thread(target=source.emit, args=sent)
    for thread in (emitting_thread, *comers):
        thread.start()
    for thread in (emitting_thread, *comers):
        thread.join(BOUND)
    source.subject.on_completed()
    assert stays.all() == sent
    assert len(seen) == 8 * len(VIEWS)
    for name, each in seen:
        assert each.ended.wait(BOUND)
        check(name, each, sent, None)


# --- all of it, in any order ---

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

DOINGS = st.lists(
    st.one_of(
        st.just("emit"),
        st.just("emit"),
        st.sampled_from(["complete", "fail", "stop", "leave", "settle"]),
        st.sampled_from([*VIEWS]).map(lambda name: f"join {name}"),
    ),
    max_size=40,
)


def check(name: str, seen: Seen, sent: list[str], ending: type[Exception] | None) -> None:
    """A viewer to the end has seen what its view promises."""
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


@given(DOINGS)
def test_whatever_happens_in_whatever_order_each_viewer_sees_what_it_was_promised(
    doings: list[str],
) -> None:
    source = Source()
    texts: SharedStream[str] = source.stream.shared()
    sent: list[str] = []
    viewers: list[tuple[str, Seen]] = []
    left: list[Seen] = []
    ending: Any = "none"
    for number, doing in enumerate(doings):
        if doing.startswith("join "):
            viewers.append((doing[5:], Seen(VIEWS[doing[5:]](texts))))
        elif doing == "leave" and viewers:
            left.append(viewers.pop(number % len(viewers))[1])
            left[-1].subscription.dispose()
        elif doing == "settle" and viewers:
            eventually(lambda: viewers[0][1].items != [], 0.005)
        elif doing == "stop" and ending == "none":
            ending = StoppedError
            texts.stop()
        elif source.subscriptions and ending == "none":
            if doing == "emit":
                sent.append(f"{len(sent) + 1} ")
                source.emit(sent[-1])
            elif doing == "complete":
                ending = None
                source.subject.on_completed()
            elif doing == "fail":
                ending = OSError
                source.subject.on_error(OSError())
    before = [[*seen.items] for seen in left if seen.ended.is_set()]
    if ending == "none":
        ending = StoppedError
        texts.stop()
    viewers.extend((name, Seen(view(texts))) for name, view in VIEWS.items())
    for name, seen in viewers:
        assert seen.ended.wait(BOUND)
        check(name, seen, sent, ending)
    assert before == [[*seen.items] for seen in left if seen.ended.is_set()]
    assert source.subscriptions <= 1
