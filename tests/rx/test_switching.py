"""A stream of prompts: what becomes of a running answer when the next prompt comes.

Over real sockets RxPY's own operators are held to the same facts as `answer_each`, as long
as the subscriber is quick and the prompts come one after the other.
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


# --- in virtual time -------------------------------------------------------------


class Played:
    """Prompts are the letters of answers; what comes of them in virtual time, from 200."""

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


def three(name: str) -> list[Any]:
    """An answer of three items, from 10 to 30, that ends at 40."""
    return [*(on_next(10 * at, f"{name}{at}") for at in (1, 2, 3)), on_completed(40)]


PROMPTS = [on_next(300, "a"), on_next(325, "b"), on_next(330, "c"), on_completed(400)]
ANSWERS: Any = {"a": three("a"), "b": three("b"), "c": three("c")}


@any_switch
def test_a_new_prompt_ends_the_running_answer(operator: Operator) -> None:
    played = Played(operator, PROMPTS, **ANSWERS)
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
def test_a_new_prompt_waits_for_its_turn(operator: Operator) -> None:
    played = Played(operator, PROMPTS, **ANSWERS)
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
def test_a_new_prompt_is_not_asked_while_an_answer_is_running(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(325, "b"), on_next(350, "c"), on_completed(360)]
    played = Played(operator, prompts, **ANSWERS)
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
def test_no_prompts_no_answers(operator: Operator) -> None:
    assert Played(operator, []).messages == []
    assert Played(operator, [on_completed(300)]).messages == [on_completed(300)]
    assert Played(operator, [on_error(300, ERROR)]).messages == [on_error(300, ERROR)]


@every
def test_it_completes_when_the_prompts_and_the_last_answer_have(operator: Operator) -> None:
    early = Played(operator, [on_next(300, "a"), on_completed(310)], a=three("a"))
    assert early.messages[-1] == on_completed(340)
    late = Played(operator, [on_next(300, "a"), on_completed(360)], a=three("a"))
    assert late.messages[-1] == on_completed(360)


@every
def test_an_empty_answer_is_one(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(350, "b"), on_completed(360)]
    played = Played(operator, prompts, a=[on_completed(10)], b=[on_next(10, "b"), on_completed(20)])
    assert played.messages == [on_next(360, "b"), on_completed(370)]


@every
def test_an_error_of_an_answer_ends_it_all(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(350, "b")]
    played = Played(operator, prompts, a=[on_next(10, "a"), on_error(20, ERROR)], b=three("b"))
    assert played.messages == [on_next(310, "a"), on_error(320, ERROR)]
    assert played.prompts == [Subscription(200, 320)]
    assert played.answers["b"] == []


@every
def test_an_error_that_is_caught_ends_its_answer_only(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(350, "b")]
    played = Played(
        lambda ask: operator(lambda prompt: ask(prompt).pipe(ops.catch(reactivex.of("sorry")))),
        prompts,
        a=[on_error(20, ERROR)],
        b=three("b"),
    )
    assert [message.value.value for message in played.messages] == ["sorry", "b1", "b2", "b3"]


@every
def test_an_error_of_the_prompts_ends_the_running_answer(operator: Operator) -> None:
    played = Played(operator, [on_next(300, "a"), on_error(315, ERROR)], a=three("a"))
    assert played.messages == [on_next(310, "a1"), on_error(315, ERROR)]
    assert played.answers["a"] == [Subscription(300, 315)]


@every
def test_disposing_ends_the_prompts_and_the_answer_and_starts_none(operator: Operator) -> None:
    prompts = [on_next(300, "a"), on_next(312, "b"), on_next(320, "c")]
    played = Played(operator, prompts, disposed=315, **ANSWERS)
    assert played.messages == [on_next(310, "a1")]
    assert played.prompts == [Subscription(200, 315)]
    assert all(each.unsubscribe <= 315 for subs in played.answers.values() for each in subs)
    assert played.answers["c"] == []


@every
def test_each_reader_has_a_conversation_of_its_own(operator: Operator) -> None:
    prompts: Subject[str] = Subject()
    stream = prompts.pipe(operator(lambda prompt: reactivex.of(prompt)))
    one: list[Any] = []
    other: list[Any] = []
    stream.subscribe(one.append)
    prompts.on_next("a")
    stream.subscribe(other.append)
    prompts.on_next("b")
    assert (one, other) == (["a", "b"], ["b"])


# --- what can go wrong -----------------------------------------------------------


@every
def test_what_ask_raises_and_what_is_no_answer_are_errors(operator: Operator) -> None:
    def fail(_: Any) -> Any:
        raise ERROR

    for ask, says in ((fail, "it broke"), (lambda _: "text", "expected an Observable, got str")):
        errors: list[Exception] = []
        prompts: Subject[str] = Subject()
        prompts.pipe(operator(ask)).subscribe(on_error=errors.append)
        prompts.on_next("a")
        assert [str(error) for error in errors] == [says]
        assert not prompts.observers


def test_what_makes_no_sense_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="ask must be callable, got str"):
        answer_each("a")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match='when_busy must be "switch", "queue" or "ignore", got \'no\''
    ):
        answer_each(lambda _: Stream(), "no")  # type: ignore[arg-type]


@every
def test_answers_that_end_while_they_are_subscribed_to(operator: Operator, read: Face) -> None:
    prompts = reactivex.of("a", "b")
    came = read(Stream.of(prompts).pipe(operator(lambda each: reactivex.of(each, each * 2))))
    assert came[-2:] in (["b", "bb"], ["a", "aa"])


def test_prompts_that_are_answered_at_once_need_no_deep_stack() -> None:
    prompts: Subject[int] = Subject()
    came: list[int] = []

    def answer(prompt: int) -> Observable[int]:
        def subscribe(observer: Any, _: Any = None) -> Any:
            observer.on_next(prompt)
            observer.on_completed()
            return Disposable()

        return reactivex.create(subscribe)

    def take(item: int) -> None:
        came.append(item)
        if item < 2000:
            prompts.on_next(item + 1)

    limit = sys.getrecursionlimit()
    assert limit < 2000
    prompts.pipe(queue(answer)).subscribe(take)
    prompts.on_next(0)
    assert came == list(range(2001))


def at_once(*items: str) -> Observable[str]:
    """Emitted in the middle of the subscribe."""

    def subscribe(observer: Any, _: Any = None) -> Any:
        for item in items:
            observer.on_next(item)
        observer.on_completed()
        return Disposable()

    return reactivex.create(subscribe)


def test_a_callback_may_send_the_next_prompt() -> None:
    """Which is answer_each in the middle of it, on the same thread."""
    prompts: Subject[str] = Subject()
    came: list[str] = []

    def take(item: str) -> None:
        came.append(item)
        if item == "a":
            prompts.on_next("b")

    prompts.pipe(switch(lambda prompt: at_once(prompt, prompt * 2))).subscribe(take)
    prompts.on_next("a")
    assert came == ["a", "b", "bb"]


def test_what_is_left_while_it_is_asked_is_not_subscribed_to() -> None:
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
def test_the_answers_get_the_scheduler_of_the_subscription(operator: Operator) -> None:
    given: list[Any] = []
    scheduler = TestScheduler()

    def answer(_: str) -> Stream[str]:
        return Stream(lambda _, scheduler: given.append(scheduler) or Disposable())  # type: ignore[func-returns-value]

    prompts: Subject[str] = Subject()
    prompts.pipe(operator(answer)).subscribe(scheduler=scheduler)
    prompts.on_next("a")
    assert given == [scheduler]


@every
def test_after_an_error_nobody_is_asked(operator: Operator) -> None:
    """Not even by who sends a prompt in the middle of it."""
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


# --- a subscriber that is at work ------------------------------------------------


class AtWork:
    """A subscriber that is in the middle of an item, on a thread of its own."""

    def __init__(self, operator: Operator, first: str = "old") -> None:
        self.first = first
        self.prompts: Subject[int] = Subject()
        self.answers: list[Subject[str]] = []
        self.came: list[str] = []
        self.when_busy, self.go_on = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self.subscription = self.prompts.pipe(operator(self.answer)).subscribe(
            self.take, lambda error: self.came.append(str(error)), lambda: self.came.append("|")
        )
        self.prompts.on_next(0)
        self.emit(0, first)
        assert self.when_busy.wait(BOUND)

    def answer(self, prompt: int) -> Subject[str]:
        if prompt < 0:
            raise ERROR
        self.answers.append(Subject())
        return self.answers[-1]

    def take(self, item: str) -> None:
        if item.startswith("nest"):  # which comes in the middle of another one
            self.answers[0].on_next(item.removeprefix("nest "))
        if item == "switch":
            self.prompts.on_next(1)
        if item == self.first:
            self.when_busy.set()
            assert self.go_on.wait(BOUND)
        self.came.append(item)

    def emit(self, answer: int, *items: str) -> threading.Thread:
        """On a thread of its own, and the end if there is nothing else."""

        def work() -> None:
            for item in items:
                self.answers[answer].on_next(item)
            if not items:
                self.answers[answer].on_completed()

        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)
        return thread

    def let_go(self) -> list[str]:
        self.go_on.set()
        for thread in self._threads:
            thread.join(BOUND)
            assert not thread.is_alive()
        return self.came


def test_a_new_answer_waits_for_a_subscriber_at_work_on_the_old_one() -> None:
    at = AtWork(switch)
    at.prompts.on_next(1)  # does not wait
    assert not at.answers[0].observers  # and closes the old one's connection
    waiting = at.emit(1, "new", "newer")
    waiting.join(0.05)
    assert waiting.is_alive()
    assert at.let_go() == ["old", "new", "newer"]


def test_an_answer_that_waits_and_is_ended_itself_is_never_seen() -> None:
    at = AtWork(switch)
    at.prompts.on_next(1)
    waiting = at.emit(1, "skipped")
    waiting.join(0.05)
    at.prompts.on_next(2)
    waiting.join(BOUND)
    assert not waiting.is_alive()
    at.emit(2, "new")
    assert at.let_go() == ["old", "new"]


def test_an_item_in_the_middle_of_another_is_not_the_end_of_that() -> None:
    at = AtWork(switch, "nest inner")
    at.prompts.on_next(1)
    at.emit(1, "new").join(0.05)
    assert at.let_go() == ["inner", "nest inner", "new"]


def test_a_prompt_in_the_middle_of_two_items_waits_for_the_outer_one() -> None:
    at = AtWork(switch, "nest switch")
    at.emit(1, "new").join(0.05)
    assert at.let_go() == ["switch", "nest switch", "new"]


def test_disposing_wakes_an_answer_that_waits() -> None:
    at = AtWork(switch)
    at.prompts.on_next(1)
    waiting = at.emit(1, "skipped")
    waiting.join(0.05)
    at.subscription.dispose()
    waiting.join(BOUND)
    assert not waiting.is_alive()
    assert at.let_go() == ["old"]
    assert not at.prompts.observers


def test_the_end_comes_after_the_subscriber_s_work_and_nobody_waits_for_it() -> None:
    at = AtWork(switch)
    at.prompts.on_next(1)
    at.prompts.on_completed()
    at.emit(1).join(BOUND)  # the new answer is empty, and has ended
    assert at.came == []
    assert at.let_go() == ["old", "|"]


@every
def test_an_error_of_the_prompts_comes_after_the_subscriber_s_work(operator: Operator) -> None:
    at = AtWork(operator)
    at.prompts.on_error(ERROR)
    assert not at.answers[0].observers
    assert at.came == []
    assert at.let_go() == ["old", "it broke"]


def test_what_ask_raises_comes_after_the_subscriber_s_work() -> None:
    at = AtWork(switch)
    at.prompts.on_next(-1)
    assert at.came == []
    assert at.let_go() == ["old", "it broke"]


class Raw:
    """Answers whose observers the test holds, with nothing that stops them in between."""

    def __init__(self, operator: Operator) -> None:
        self.prompts: Subject[int] = Subject()
        self.observers: list[Any] = []
        self.came: list[Any] = []
        self.subscription = self.prompts.pipe(operator(self.answer)).subscribe(
            self.came.append, self.came.append, lambda: self.came.append("|")
        )

    def answer(self, _: int) -> Stream[str]:
        stream: Stream[str] = Stream()
        stream.subscribe = self.subscribe  # type: ignore[method-assign, assignment]
        return stream

    def subscribe(self, observer: Any, **_: Any) -> Any:
        self.observers.append(observer)
        return Disposable()


def test_what_was_on_its_way_when_the_next_prompt_came_is_nobody_s() -> None:
    at = Raw(switch)
    at.prompts.on_next(0)
    at.prompts.on_next(1)
    old, new = at.observers
    old.on_next("old")
    old.on_error(ERROR)
    old.on_completed()
    new.on_next("new")
    at.prompts.on_completed()
    assert at.came == ["new"]
    new.on_completed()
    assert at.came == ["new", "|"]


@every
def test_what_was_on_its_way_when_it_was_disposed_starts_nothing(operator: Operator) -> None:
    at = Raw(operator)
    at.prompts.on_next(0)
    at.prompts.on_next(1)
    count = len(at.observers)
    at.subscription.dispose()
    at.observers[-1].on_completed()
    assert len(at.observers) == count


def test_a_prompt_that_comes_at_the_end_of_an_answer_is_not_lost() -> None:
    """Each answer ends on a thread of its own, in the moment of the next prompt."""
    for operator in (switch, queue):
        for _ in range(300):
            prompts: Subject[int] = Subject()
            answers: list[Subject[str]] = []
            came: list[str] = []

            def answer(_: int, answers: Any = answers) -> Subject[str]:
                answers.append(Subject())
                return answers[-1]

            def end(came: Any = came) -> None:
                came.append("|")

            prompts.pipe(operator(answer)).subscribe(came.append, on_completed=end)
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
            assert came == []
            answers[1].on_next("b")
            answers[1].on_completed()
            assert came == ["b", "|"]


def test_switches_at_any_moment_never_let_two_in_nor_the_old_after_the_new() -> None:
    """Prompts from several threads at once, answers that emit without a pause."""
    stop = threading.Event()
    at_work = threading.Lock()
    prompts: Subject[int] = Subject()
    numbers = iter(range(100_000))
    numbering = threading.Lock()
    emitters: list[threading.Thread] = []
    came: list[int] = []
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

    def take(item: int) -> None:
        if not at_work.acquire(blocking=False):
            overlaps.append(item)
            return
        if not came or came[-1] != item:
            came.append(item)
        at_work.release()

    def send() -> None:
        dice = random.Random(threading.get_ident())
        for _ in range(40):
            with numbering:
                number = next(numbers)
            prompts.on_next(number)
            time.sleep(dice.random() * 0.003)

    subscription = prompts.pipe(switch(answer)).subscribe(take)
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
    assert len(came) == len(set(came)), "an answer came again after another one"
    assert len(came) > 10


# --- over real sockets -----------------------------------------------------------


def play(request: ReceivedRequest) -> Script:
    """Answers with the number of the prompt: a few times, or for ever if it is even."""
    number = int(request.json["messages"][-1]["content"])
    head = [steps.role(), *5 * [f"{number} "]]
    if number % 2:
        return [*head, steps.finish(), steps.done()]
    return [*head, steps.hang()]


class Chat:
    """Prompts of a server that answers with their number; what came, as numbers."""

    def __init__(self, client: Mistral, operator: Operator) -> None:
        self.client = client
        self.prompts: Subject[int] = Subject()
        self.came: list[int] = []
        self.outcomes: list[Outcome] = []
        self.ended = threading.Event()
        self._changed = threading.Condition()
        answers = self.prompts.pipe(operator(self.ask))
        self.subscription = Stream.of(answers).subscribe(
            self.take, lambda _: self.ended.set(), self.ended.set
        )

    def ask(self, prompt: int) -> Stream[str]:
        return ask(self.client, prompt).pipe(text())

    def take(self, item: str) -> None:
        with self._changed:
            self.came.append(int(item))
            self._changed.notify_all()

    def wait_for(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: number in self.came, BOUND)

    def send(self, number: int) -> None:
        """From a thread of its own."""
        thread = threading.Thread(target=self.prompts.on_next, args=(number,))
        thread.start()
        thread.join(BOUND)
        assert not thread.is_alive()


def ask(client: Mistral, prompt: int) -> EventStream:
    return client.chat.stream(model="m", messages=[UserMessage(content=str(prompt))])


def prompt_of(request: ReceivedRequest) -> int:
    return int(request.json["messages"][-1]["content"])


@any_switch
def test_the_latest_prompt_wins_and_the_others_connections_are_closed_at_once(
    operator: Operator,
) -> None:
    took: list[float] = []
    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:
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
                took.append(old.closed - switched)
        chat.subscription.dispose()
        assert server.wait_idle(BOUND)
        assert len(server.requests) == 30
    assert chat.came == sorted(chat.came)
    assert sorted(took)[len(took) // 2] < BOUND / 10, took  # about a millisecond


@any_switch
def test_a_prompt_before_the_first_token_ends_the_answer_too(operator: Operator) -> None:
    silent: Script = [steps.headers(), steps.hang()]
    scripts = {0: [steps.hang()], 2: silent, 4: [steps.role(), steps.hang()]}
    with (
        ScriptedServer(lambda r: scripts.get(prompt_of(r)) or play(r)) as server,
        Mistral(server_url=server.url) as client,
    ):
        chat = Chat(client, operator)
        for count, number in enumerate((0, 2, 4, 5)):
            chat.send(number)
            server.wait_for_requests(count + 1)
        chat.prompts.on_completed()
        assert chat.ended.wait(BOUND)
        assert chat.came == 5 * [5]
        for request in server.requests[:3]:
            assert request.wait_closed(BOUND)


@any_queue
def test_a_queue_keeps_the_order_with_one_connection_at_a_time(operator: Operator) -> None:
    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:
        chat = Chat(client, operator)
        for number in range(1, 40, 2):
            chat.send(number)
        chat.prompts.on_completed()
        assert chat.ended.wait(BOUND)
        assert chat.came == [number for number in range(1, 40, 2) for _ in range(5)]
        assert [prompt_of(request) for request in server.requests] == list(range(1, 40, 2))
        assert server.connections == 1


@any_ignore
def test_a_prompt_that_is_ignored_is_not_sent(operator: Operator) -> None:
    go_on = threading.Event()

    def answer(request: ReceivedRequest) -> Script:
        assert go_on.wait(BOUND)
        return play(request)

    with ScriptedServer(answer) as server, Mistral(server_url=server.url) as client:
        chat = Chat(client, operator)
        chat.send(1)
        for number in (3, 5, 7):
            chat.send(number)
        go_on.set()
        chat.wait_for(1)
        assert eventually(lambda: not readers())
        chat.send(9)
        chat.prompts.on_completed()
        assert chat.ended.wait(BOUND)
        assert [prompt_of(request) for request in server.requests] == [1, 9]
        assert chat.came == [*5 * [1], *5 * [9]]


@every
def test_every_face_reads_a_conversation(operator: Operator, read: Face) -> None:
    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:
        prompts = Stream.of(reactivex.of(1))
        came = read(prompts.pipe(operator(lambda prompt: ask(client, prompt).pipe(text()))))
    assert came == 5 * ["1 "]


@every
def test_leaving_a_loop_closes_the_running_answer(operator: Operator) -> None:
    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:
        prompts = Stream.of(reactivex.merge(reactivex.of(0), reactivex.never()))
        for _ in prompts.pipe(operator(lambda prompt: ask(client, prompt))):
            break
        (request,) = server.requests
        assert request.wait_closed(BOUND)


@every
def test_the_readers_of_later_prompts_belong_to_the_loop(operator: Operator) -> None:
    """A loop's readers are daemons, whoever sends the prompt."""
    prompts: Subject[int] = Subject()
    daemons: list[bool] = []
    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:

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
def test_an_outcome_counts_the_requests_of_all_prompts(operator: Operator) -> None:
    outcomes: list[Outcome] = []
    prompts: Subject[int] = Subject()
    with ScriptedServer(play) as server, Mistral(server_url=server.url) as client:
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
