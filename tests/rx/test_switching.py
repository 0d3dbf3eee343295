"""A stream of prompts: what happens to an answer when the next prompt arrives.

Over real sockets, the same tests run with the operators of RxPY and with `answer_each`, as long
as the subscriber is quick and the prompts arrive one after the other.
"""

from __future__ import annotations

import contextvars
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, eventually
from reactivex import Observable, Subject
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.subscription import Subscription

from rxmistral import Mistral, Outcome, Stream, UserMessage, answer_each, on_outcome, text
from rxmistral.chat.event_stream import EventStream
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

on_next, on_completed, on_error = (
    ReactiveTest.on_next,
    ReactiveTest.on_completed,
    ReactiveTest.on_error,
)

Operator = Callable[[Callable[[Any], Observable[Any]]], Callable[[Observable[Any]], Any]]
ERROR = RuntimeError("it broke")


def switch(ask: Any) -> Any:
    return answer_each(ask)


def queue(ask: Any) -> Any:
    return answer_each(ask, "queue")


def ignore(ask: Any) -> Any:
    return answer_each(ask, when_busy="ignore")


def exclusive(ask: Any) -> Any:
    return lambda source: source.pipe(ops.map(ask), ops.exclusive())


SWITCHES = {"answer_each": switch, "RxPY": ops.switch_map}
QUEUES = {"answer_each": queue, "RxPY": ops.concat_map}
IGNORES = {"answer_each": ignore, "RxPY": exclusive}
any_switch = pytest.mark.parametrize("operator", SWITCHES.values(), ids=SWITCHES.keys())
any_queue = pytest.mark.parametrize("operator", QUEUES.values(), ids=QUEUES.keys())
any_ignore = pytest.mark.parametrize("operator", IGNORES.values(), ids=IGNORES.keys())
EVERY = {"switch": switch, "queue": queue, "ignore": ignore}
every = pytest.mark.parametrize("operator", EVERY.values(), ids=EVERY.keys())


# --- in virtual time ---


class Timeline:
    """The output of an operator in virtual time, from 200; prompts are names of answers."""

    def __init__(
        self,
        operator: Operator,
        prompts: list[Any],
        disposed: float = 1000,
        **answers: list[Any],
    ) -> None:
        scheduler = TestScheduler()
        source: Any = scheduler.create_hot_observable(*prompts)
        cold: Any = {
            name: scheduler.create_cold_observable(*script) for name, script in answers.items()
        }
        observer = scheduler.start(
            lambda: source.pipe(operator(lambda prompt: cold[prompt])), disposed=disposed
        )
        self.messages = observer.messages
        self.prompts = source.subscriptions
        self.answers = {name: each.subscriptions for name, each in cold.items()}


def three_items(name: str) -> list[Any]:
    """Returns an answer of three items, at 10, 20 and 30, that completes at 40."""
    return [*(on_next(10 * at, f"{name}{at}") for at in (1, 2, 3)), on_completed(40)]


PROMPTS = [on_next(300, "a"), on_next(325, "b"), on_next(330, "c"), on_completed(400)]
ANSWERS: Any = {"a": three_items("a"), "b": three_items("b"), "c": three_items("c")}


@any_switch
def test_switch_cancels_the_current_answer(operator: Operator) -> None:
    played = Timeline(operator, PROMPTS, **ANSWERS)
    assert played.messages == [
        on_next(310, "a1"),
        on_next(320, "a2"),
        on_next(340, "c1"),
        on_next(350, "c2"),
        on_next(360, "c3"),
        on_completed(400),
    ]
    assert played.answers == {
        "a": [Subscription(300, 325)],
        "b": [Subscription(325, 330)],
        "c": [Subscription(330, 370)],
    }


@any_queue
def test_queue_keeps_prompts_until_the_answer_has_ended(operator: Operator) -> None:
    played = Timeline(operator, PROMPTS, **ANSWERS)
    assert [message.value.value for message in played.messages[:-1]] == [
        f"{name}{number}" for name in "abc" for number in (1, 2, 3)
    ]
    assert played.messages[-1] == on_completed(420)
    assert played.answers == {
        "a": [Subscription(300, 340)],
        "b": [Subscription(340, 380)],
        "c": [Subscription(380, 420)],
    }


@any_ignore
def test_ignore_drops_prompts_during_an_answer(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(325, "b"), on_next(350, "c"), on_completed(360)]
    played = Timeline(operator, prompts, **ANSWERS)
    assert [message.value.value for message in played.messages[:-1]] == [
        "a1", "a2", "a3", "c1", "c2", "c3",
    ]  # fmt: skip
    assert played.messages[-1] == on_completed(390)
    assert played.answers == {
        "a": [Subscription(300, 340)],
        "b": [],
        "c": [Subscription(350, 390)],
    }


@every
def test_no_prompts_produce_no_answers(operator: Operator) -> None:
    assert Timeline(operator, []).messages == []
    assert Timeline(operator, [on_completed(300)]).messages == [on_completed(300)]
    assert Timeline(operator, [on_error(300, ERROR)]).messages == [on_error(300, ERROR)]


@every
def test_completes_after_the_prompts_and_the_last_answer(operator: Operator) -> None:
    early = Timeline(operator, [on_next(300, "a"), on_completed(310)], a=three_items("a"))
    assert early.messages[-1] == on_completed(340)
    late = Timeline(operator, [on_next(300, "a"), on_completed(360)], a=three_items("a"))
    assert late.messages[-1] == on_completed(360)


@every
def test_empty_answer_counts_as_an_answer(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(350, "b"), on_completed(360)]
    played = Timeline(
        operator, prompts, a=[on_completed(10)], b=[on_next(10, "b"), on_completed(20)]
    )
    assert played.messages == [on_next(360, "b"), on_completed(370)]


@every
def test_error_of_an_answer_ends_everything(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(350, "b")]
    played = Timeline(
        operator, prompts, a=[on_next(10, "a"), on_error(20, ERROR)], b=three_items("b")
    )
    assert played.messages == [on_next(310, "a"), on_error(320, ERROR)]
    assert played.prompts == [Subscription(200, 320)]
    assert played.answers["b"] == []


@every
def test_caught_error_ends_its_answer_only(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(350, "b")]
    played = Timeline(
        lambda ask: operator(lambda prompt: ask(prompt).pipe(ops.catch(reactivex.of("sorry")))),
        prompts,
        a=[on_error(20, ERROR)],
        b=three_items("b"),
    )
    assert [message.value.value for message in played.messages] == ["sorry", "b1", "b2", "b3"]


@every
def test_error_of_the_prompts_cancels_the_current_answer(operator: Operator) -> None:
    played = Timeline(operator, [on_next(300, "a"), on_error(315, ERROR)], a=three_items("a"))
    assert played.messages == [on_next(310, "a1"), on_error(315, ERROR)]
    assert played.answers["a"] == [Subscription(300, 315)]


@every
def test_dispose_ends_prompts_and_answer_and_starts_nothing(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(312, "b"), on_next(320, "c")]
    played = Timeline(operator, prompts, disposed=315, **ANSWERS)
    assert played.messages == [on_next(310, "a1")]
    assert played.prompts == [Subscription(200, 315)]
    assert all(each.unsubscribe <= 315 for subs in played.answers.values() for each in subs)
    assert played.answers["c"] == []


@every
def test_each_subscription_has_its_own_answers(operator: Operator) -> None:
    prompts: Subject[str] = Subject()
    stream = prompts.pipe(operator(lambda prompt: reactivex.of(prompt)))
    one: list[Any] = []
    other: list[Any] = []
    stream.subscribe(one.append)
    prompts.on_next("a")
    stream.subscribe(other.append)
    prompts.on_next("b")
    assert (one, other) == (["a", "b"], ["b"])


# --- errors and odd answers ---


@every
def test_ask_that_raises_is_an_error(operator: Operator) -> None:
    def fail(_: Any) -> Any:
        raise ERROR

    errors: list[Exception] = []
    prompts: Subject[str] = Subject()
    prompts.pipe(operator(fail)).subscribe(on_error=errors.append)
    prompts.on_next("a")
    assert errors == [ERROR]
    assert not prompts.observers


def test_wrong_arguments_raise_at_the_call() -> None:
    with pytest.raises(TypeError, match="ask must be callable, got str"):
        answer_each("a")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match='when_busy must be "switch", "queue" or "ignore", got \'no\''
    ):
        answer_each(lambda _: Stream(), "no")  # type: ignore[arg-type]


@every
def test_answers_may_end_during_subscribe(operator: Operator, read: Face) -> None:
    prompts = reactivex.of("a", "b")
    received = read(Stream.of(prompts).pipe(operator(lambda each: reactivex.of(each, each * 2))))
    assert received[-2:] in (["b", "bb"], ["a", "aa"])


def test_synchronous_answers_do_not_deepen_the_stack() -> None:
    prompts: Subject[int] = Subject()
    received: list[int] = []

    def answer(prompt: int) -> Observable[int]:
        def subscribe(observer: Any, _: Any = None) -> Any:
            observer.on_next(prompt)
            observer.on_completed()
            return Disposable()

        return reactivex.create(subscribe)

    def on_item(item: int) -> None:
        received.append(item)
        if item < 2000:
            prompts.on_next(item + 1)

    limit = sys.getrecursionlimit()
    assert limit < 2000
    prompts.pipe(queue(answer)).subscribe(on_item)
    prompts.on_next(0)
    assert received == list(range(2001))


def at_once(*items: str) -> Observable[str]:
    """Returns an answer that emits and completes during subscribe."""

    def subscribe(observer: Any, _: Any = None) -> Any:
        for item in items:
            observer.on_next(item)
        observer.on_completed()
        return Disposable()

    return reactivex.create(subscribe)


def test_callback_may_send_the_next_prompt() -> None:
    """The answer to it then starts on the same thread, during the callback."""
    prompts: Subject[str] = Subject()
    received: list[str] = []

    def on_item(item: str) -> None:
        received.append(item)
        if item == "a":
            prompts.on_next("b")

    prompts.pipe(switch(lambda prompt: at_once(prompt, prompt * 2))).subscribe(on_item)
    prompts.on_next("a")
    assert received == ["a", "b", "bb"]


def test_answer_cancelled_during_ask_is_not_subscribed_to() -> None:
    prompts: Subject[str] = Subject()
    subscribed: list[str] = []

    def answer(prompt: str) -> Stream[str]:
        if prompt == "a":
            prompts.on_next("b")
        if prompt == "c":
            subscription.dispose()
        return Stream(lambda *_: subscribed.append(prompt) or Disposable())  # type: ignore[func-returns-value]

    subscription = prompts.pipe(switch(answer)).subscribe()
    prompts.on_next("a")
    prompts.on_next("c")
    assert subscribed == ["b"]


@every
def test_answers_receive_the_scheduler_of_the_subscription(operator: Operator) -> None:
    schedulers: list[Any] = []
    scheduler = TestScheduler()

    def answer(_: str) -> Stream[str]:
        return Stream(lambda _, scheduler: schedulers.append(scheduler) or Disposable())  # type: ignore[func-returns-value]

    prompts: Subject[str] = Subject()
    prompts.pipe(operator(answer)).subscribe(scheduler=scheduler)
    prompts.on_next("a")
    assert schedulers == [scheduler]


@every
def test_ask_is_not_called_after_an_error(operator: Operator) -> None:
    """Not even for a prompt that is sent during `on_error`."""
    prompts: Subject[str] = Subject()
    asked: list[str] = []
    ends: list[Any] = []

    def answer(prompt: str) -> Observable[Any]:
        asked.append(prompt)
        return reactivex.throw(ERROR)

    def fail(error: Exception) -> None:
        ends.append(error)
        prompts.on_next("b")

    prompts.pipe(operator(answer)).subscribe(on_error=fail)
    prompts.on_next("a")
    assert (asked, ends) == (["a"], [ERROR])


# --- a busy subscriber ---


class BusySubscriber:
    """A subscriber that is busy with an item, on a separate thread."""

    def __init__(self, operator: Operator, first: str = "old") -> None:
        self.first = first
        self.prompts: Subject[int] = Subject()
        self.answers: list[Subject[str]] = []
        self.received: list[str] = []
        self.is_busy, self.proceed = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self.subscription = self.prompts.pipe(operator(self.answer)).subscribe(
            self.on_item,
            lambda error: self.received.append(str(error)),
            lambda: self.received.append("|"),
        )
        self.prompts.on_next(0)
        self.emit(0, first)
        assert self.is_busy.wait(BOUND)

    def answer(self, prompt: int) -> Subject[str]:
        if prompt < 0:
            raise ERROR
        self.answers.append(Subject())
        return self.answers[-1]

    def on_item(self, item: str) -> None:
        if item.startswith("nest"):  # emitted during the callback of another item
            self.answers[0].on_next(item.removeprefix("nest "))
        if item == "switch":
            self.prompts.on_next(1)
        if item == self.first:
            self.is_busy.set()
            assert self.proceed.wait(BOUND)
        self.received.append(item)

    def emit(self, answer: int, *items: str) -> threading.Thread:
        """Emits items on a new thread; completes if there are none."""

        def work() -> None:
            for item in items:
                self.answers[answer].on_next(item)
            if not items:
                self.answers[answer].on_completed()

        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)
        return thread

    def finish(self) -> list[str]:
        self.proceed.set()
        for thread in self._threads:
            thread.join(BOUND)
            assert not thread.is_alive()
        return self.received


def test_new_answer_waits_for_a_subscriber_busy_with_the_old() -> None:
    case = BusySubscriber(switch)
    case.prompts.on_next(1)  # does not wait
    assert not case.answers[0].observers  # and disposes the old answer
    waiting = case.emit(1, "new", "newer")
    waiting.join(0.05)
    assert waiting.is_alive()
    assert case.finish() == ["old", "new", "newer"]


def test_answer_cancelled_while_it_waits_emits_nothing() -> None:
    case = BusySubscriber(switch)
    case.prompts.on_next(1)
    waiting = case.emit(1, "skipped")
    waiting.join(0.05)
    case.prompts.on_next(2)
    waiting.join(BOUND)
    assert not waiting.is_alive()
    case.emit(2, "new")
    assert case.finish() == ["old", "new"]


def test_nested_item_does_not_release_the_output() -> None:
    case = BusySubscriber(switch, "nest inner")
    case.prompts.on_next(1)
    case.emit(1, "new").join(0.05)
    assert case.finish() == ["inner", "nest inner", "new"]


def test_prompt_during_nested_items_waits_for_the_outer_one() -> None:
    case = BusySubscriber(switch, "nest switch")
    case.emit(1, "new").join(0.05)
    assert case.finish() == ["switch", "nest switch", "new"]


def test_dispose_wakes_an_answer_that_waits() -> None:
    case = BusySubscriber(switch)
    case.prompts.on_next(1)
    waiting = case.emit(1, "skipped")
    waiting.join(0.05)
    case.subscription.dispose()
    waiting.join(BOUND)
    assert not waiting.is_alive()
    assert case.finish() == ["old"]
    assert not case.prompts.observers


def test_completion_follows_the_busy_subscriber_without_waiting() -> None:
    case = BusySubscriber(switch)
    case.prompts.on_next(1)
    case.prompts.on_completed()
    case.emit(1).join(BOUND)  # the new answer is empty, and has completed
    assert case.received == []
    assert case.finish() == ["old", "|"]


@every
def test_error_of_the_prompts_follows_the_busy_subscriber(operator: Operator) -> None:
    case = BusySubscriber(operator)
    case.prompts.on_error(ERROR)
    assert not case.answers[0].observers
    assert case.received == []
    assert case.finish() == ["old", "it broke"]


def test_error_of_ask_follows_the_busy_subscriber() -> None:
    case = BusySubscriber(switch)
    case.prompts.on_next(-1)
    assert case.received == []
    assert case.finish() == ["old", "it broke"]


class RawAnswers:
    """Answers whose observers the test calls directly, without a Subscriber in between."""

    def __init__(self, operator: Operator) -> None:
        self.prompts: Subject[int] = Subject()
        self.observers: list[Any] = []
        self.received: list[Any] = []
        self.subscription = self.prompts.pipe(operator(self.answer)).subscribe(
            self.received.append, self.received.append, lambda: self.received.append("|")
        )

    def answer(self, _: int) -> Stream[str]:
        stream: Stream[str] = Stream()
        stream.subscribe = self.subscribe  # type: ignore[method-assign, assignment]
        return stream

    def subscribe(self, observer: Any, **_: Any) -> Any:
        self.observers.append(observer)
        return Disposable()


def test_events_of_a_cancelled_answer_are_dropped() -> None:
    case = RawAnswers(switch)
    case.prompts.on_next(0)
    case.prompts.on_next(1)
    old, new = case.observers
    old.on_next("old")
    old.on_error(ERROR)
    old.on_completed()
    new.on_next("new")
    case.prompts.on_completed()
    assert case.received == ["new"]
    new.on_completed()
    assert case.received == ["new", "|"]


@every
def test_events_after_dispose_start_nothing(operator: Operator) -> None:
    case = RawAnswers(operator)
    case.prompts.on_next(0)
    case.prompts.on_next(1)
    count = len(case.observers)
    case.subscription.dispose()
    case.observers[-1].on_completed()
    assert len(case.observers) == count


def test_prompt_at_the_end_of_an_answer_is_not_lost() -> None:
    """Each answer completes on a separate thread, at the moment of the next prompt."""
    for operator in (switch, queue):
        for _ in range(300):
            prompts: Subject[int] = Subject()
            answers: list[Subject[str]] = []
            received: list[str] = []

            def answer(_: int, answers: Any = answers) -> Subject[str]:
                answers.append(Subject())
                return answers[-1]

            def end(received: Any = received) -> None:
                received.append("|")

            prompts.pipe(operator(answer)).subscribe(received.append, on_completed=end)
            prompts.on_next(0)
            barrier = threading.Barrier(2)

            def complete(barrier: Any = barrier, answers: Any = answers) -> None:
                barrier.wait(BOUND)
                answers[0].on_completed()

            thread = threading.Thread(target=complete)
            thread.start()
            barrier.wait(BOUND)
            prompts.on_next(1)
            prompts.on_completed()
            thread.join(BOUND)
            assert received == []
            answers[1].on_next("b")
            answers[1].on_completed()
            assert received == ["b", "|"]


def test_switches_at_any_moment_keep_answers_apart_and_in_order() -> None:
    """Several threads send prompts at once; answers emit without a pause."""
    stop = threading.Event()
    busy = threading.Lock()
    prompts: Subject[int] = Subject()
    numbers = iter(range(100_000))
    numbering = threading.Lock()
    emitters: list[threading.Thread] = []
    received: list[int] = []
    overlaps: list[int] = []

    def answer(prompt: int) -> Observable[int]:
        def subscribe(observer: Any, _: Any = None) -> Any:
            disposed = threading.Event()

            def work() -> None:
                while not disposed.is_set() and not stop.is_set():
                    observer.on_next(prompt)

            thread = threading.Thread(target=work)
            emitters.append(thread)
            thread.start()
            return Disposable(disposed.set)

        return reactivex.create(subscribe)

    def on_item(item: int) -> None:
        if not busy.acquire(blocking=False):
            overlaps.append(item)
            return
        if not received or received[-1] != item:
            received.append(item)
        busy.release()

    def send() -> None:
        rng = random.Random(threading.get_ident())
        for _ in range(40):
            with numbering:
                number = next(numbers)
            prompts.on_next(number)
            time.sleep(rng.random() * 0.003)

    subscription = prompts.pipe(switch(answer)).subscribe(on_item)
    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(BOUND)
    stop.set()
    subscription.dispose()
    for emitter in emitters:
        emitter.join(BOUND)
    assert overlaps == []
    assert len(received) == len(set(received)), "an answer emitted again after another one"
    assert len(received) > 10


# --- over real sockets ---


def answer_with_number(request: ReceivedRequest) -> Script:
    """Answers with the number of the prompt, five times; then hangs if it is even."""
    number = int(request.json["messages"][-1]["content"])
    head = [steps.role(), *5 * [f"{number} "]]
    if number % 2:
        return [*head, steps.finish(), steps.done()]
    return [*head, steps.hang()]


class Chat:
    """Prompts to a server that answers with their number; records the numbers."""

    def __init__(self, client: Mistral, operator: Operator) -> None:
        self.client = client
        self.prompts: Subject[int] = Subject()
        self.received: list[int] = []
        self.outcomes: list[Outcome] = []
        self.ended = threading.Event()
        self._changed = threading.Condition()
        answers = self.prompts.pipe(operator(self.ask))
        self.subscription = Stream.of(answers).subscribe(
            self.on_item, lambda _: self.ended.set(), self.ended.set
        )

    def ask(self, prompt: int) -> Stream[str]:
        return ask(self.client, prompt).pipe(text())

    def on_item(self, item: str) -> None:
        with self._changed:
            self.received.append(int(item))
            self._changed.notify_all()

    def wait_for(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: number in self.received, BOUND)

    def send(self, number: int) -> None:
        """Sends a prompt from a new thread."""
        thread = threading.Thread(target=self.prompts.on_next, args=(number,))
        thread.start()
        thread.join(BOUND)
        assert not thread.is_alive()


def ask(client: Mistral, prompt: int) -> EventStream:
    return client.chat.stream(model="m", messages=[UserMessage(content=str(prompt))])


def prompt_of(request: ReceivedRequest) -> int:
    return int(request.json["messages"][-1]["content"])


@any_switch
def test_switch_closes_superseded_connections_at_once(
    operator: Operator,
) -> None:
    delays: list[float] = []
    with ScriptedServer(answer_with_number) as server, Mistral(server_url=server.url) as client:
        chat = Chat(client, operator)
        for number in range(0, 60, 2):
            switched = time.monotonic()
            chat.send(number)
            chat.wait_for(number)
            if number:
                old = server.requests[-2]
                assert prompt_of(old) == number - 2
                assert old.wait_closed(BOUND)
                assert old.closed is not None
                delays.append(old.closed - switched)
        chat.subscription.dispose()
        assert server.wait_idle(BOUND)
        assert len(server.requests) == 30
    assert chat.received == sorted(chat.received)
    assert sorted(delays)[len(delays) // 2] < BOUND / 10, delays  # about a millisecond


@any_switch
def test_switch_cancels_an_answer_before_its_first_token(operator: Operator) -> None:
    silent: Script = [steps.headers(), steps.hang()]
    scripts = {0: [steps.hang()], 2: silent, 4: [steps.role(), steps.hang()]}
    with (
        ScriptedServer(lambda r: scripts.get(prompt_of(r)) or answer_with_number(r)) as server,
        Mistral(server_url=server.url) as client,
    ):
        chat = Chat(client, operator)
        for count, number in enumerate((0, 2, 4, 5)):
            chat.send(number)
            server.wait_for_requests(count + 1)
        chat.prompts.on_completed()
        assert chat.ended.wait(BOUND)
        assert chat.received == 5 * [5]
        for request in server.requests[:3]:
            assert request.wait_closed(BOUND)


@any_queue
def test_queue_keeps_the_order_on_one_connection_at_a_time(operator: Operator) -> None:
    with ScriptedServer(answer_with_number) as server, Mistral(server_url=server.url) as client:
        chat = Chat(client, operator)
        for number in range(1, 40, 2):
            chat.send(number)
        chat.prompts.on_completed()
        assert chat.ended.wait(BOUND)
        assert chat.received == [number for number in range(1, 40, 2) for _ in range(5)]
        assert [prompt_of(request) for request in server.requests] == list(range(1, 40, 2))
        assert server.connections == 1


@any_ignore
def test_ignored_prompt_is_not_sent(operator: Operator) -> None:
    proceed = threading.Event()

    def answer(request: ReceivedRequest) -> Script:
        assert proceed.wait(BOUND)
        return answer_with_number(request)

    with ScriptedServer(answer) as server, Mistral(server_url=server.url) as client:
        chat = Chat(client, operator)
        chat.send(1)
        for number in (3, 5, 7):
            chat.send(number)
        proceed.set()
        chat.wait_for(1)
        assert eventually(lambda: not readers())
        chat.send(9)
        chat.prompts.on_completed()
        assert chat.ended.wait(BOUND)
        assert [prompt_of(request) for request in server.requests] == [1, 9]
        assert chat.received == [*5 * [1], *5 * [9]]


@every
def test_every_face_reads_the_answers(operator: Operator, read: Face) -> None:
    with ScriptedServer(answer_with_number) as server, Mistral(server_url=server.url) as client:
        prompts = Stream.of(reactivex.of(1))
        received = read(prompts.pipe(operator(lambda prompt: ask(client, prompt).pipe(text()))))
    assert received == 5 * ["1 "]


@every
def test_leaving_a_loop_closes_the_current_answer(operator: Operator) -> None:
    with ScriptedServer(answer_with_number) as server, Mistral(server_url=server.url) as client:
        prompts = Stream.of(reactivex.merge(reactivex.of(0), reactivex.never()))
        for _ in prompts.pipe(operator(lambda prompt: ask(client, prompt))):
            break
        (request,) = server.requests
        assert request.wait_closed(BOUND)


@every
def test_readers_of_later_prompts_are_daemons_of_the_loop(operator: Operator) -> None:
    """The readers of a loop are daemons, whichever thread sends the prompt."""
    prompts: Subject[int] = Subject()
    daemons: list[bool] = []
    with ScriptedServer(answer_with_number) as server, Mistral(server_url=server.url) as client:

        def note(_: Any) -> None:
            daemons.append(threading.current_thread().daemon)

        stream = Stream.of(prompts).pipe(
            operator(lambda prompt: ask(client, prompt).pipe(text(), ops.do_action(note)))
        )
        iterator = iter(stream)
        sender = threading.Thread(target=lambda: send_when_asked(prompts))
        sender.start()
        assert next(iterator) == "1 "
        sender.join(BOUND)
        iterator.close()  # type: ignore[attr-defined]
    assert set(daemons) == {True}


def send_when_asked(prompts: Subject[int]) -> None:
    assert eventually(lambda: bool(prompts.observers))
    prompts.on_next(1)


@every
def test_outcome_counts_the_requests_of_all_prompts(operator: Operator) -> None:
    outcomes: list[Outcome] = []
    prompts: Subject[int] = Subject()
    with ScriptedServer(answer_with_number) as server, Mistral(server_url=server.url) as client:
        ended = threading.Event()
        answers = Stream.of(prompts).pipe(operator(lambda prompt: ask(client, prompt)))
        answers.pipe(on_outcome(outcomes.append)).subscribe(on_completed=ended.set)
        context = contextvars.Context()
        for number in (1, 3):
            context.run(prompts.on_next, number)
            assert server.wait_for_requests(1 if number == 1 else 2)
            assert server.requests[-1].wait_answered(BOUND)
            if number == 1:
                assert eventually(lambda: not readers())
        prompts.on_completed()
        assert ended.wait(BOUND)
    assert outcomes[0].requests == 2


def readers() -> list[threading.Thread]:
    names = ("rxmistral-reader", "rxmistral-event-loop")
    return [each for each in threading.enumerate() if each.name in names]
