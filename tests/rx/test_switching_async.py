"""answer_each: async functions as `ask`, answers that fail, and what loops have not read yet."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import reactivex
from faces import BOUND, Face, eventually, run
from leftovers import our_threads
from reactivex import Subject
from reactivex import operators as ops

from rxmistral import Stream, answer_each
from rxmistral.rx.stream import AsyncResult

ERROR = RuntimeError("it broke")


async def one_item(prompt: str) -> str:
    await asyncio.sleep(0)
    return f"{prompt}1"


async def several_items(prompt: str) -> AsyncIterator[str]:
    for number in (1, 2):
        await asyncio.sleep(0)
        yield f"{prompt}{number}"


async def observable(prompt: str) -> Stream[str]:
    return Stream.of(reactivex.of(f"{prompt}1", f"{prompt}2"))


class Callable1:
    async def __call__(self, prompt: str) -> str:
        return await one_item(prompt)


ONE, TWO = ["a1", "b1"], ["a1", "a2", "b1", "b2"]
ASKS: dict[str, tuple[Any, list[str]]] = {
    "coroutine function": (one_item, ONE),
    "function that returns a coroutine": (lambda prompt: one_item(prompt), ONE),
    "async generator function": (several_items, TWO),
    "function that returns an async generator": (lambda prompt: several_items(prompt), TWO),
    "coroutine function that returns an Observable": (observable, TWO),
    "partial": (partial(one_item), ONE),
    "object with an async call": (Callable1(), ONE),
    "function that returns an item": (lambda prompt: f"{prompt}1", ONE),
}


@pytest.mark.parametrize(("ask", "expected"), ASKS.values(), ids=ASKS.keys())
def test_every_kind_of_ask_is_read_on_every_face(
    read: Face, ask: Callable[[str], AsyncResult[Any]], expected: list[str]
) -> None:
    stream = Stream.of(reactivex.of("a", "b")).pipe(answer_each(ask, "queue"))
    assert read(stream)[-len(expected) :] == expected


def test_generator_function_is_rejected_at_the_call() -> None:
    def items(_: str) -> Iterator[str]:
        yield "item"

    with pytest.raises(TypeError, match="ask must not be a generator function"):
        answer_each(items)  # type: ignore[arg-type]


@pytest.mark.parametrize("handler", ["f", one_item])
def test_handler_that_cannot_be_called_is_rejected(handler: Any) -> None:
    with pytest.raises(TypeError, match="on_error must be"):
        answer_each(one_item, on_error=handler)


class Answers:
    """A coroutine function that ends when it is cancelled."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def ask(self, prompt: str) -> AsyncIterator[str]:
        self.loops.add(asyncio.get_running_loop())
        self.started.append(prompt)
        try:
            yield f"{prompt}1"
            await asyncio.Event().wait()
        finally:
            self.cancelled.append(prompt)


def test_prompt_cancels_the_async_answer_before_it() -> None:
    answers, received = Answers(), list[str]()
    prompts: Subject[str] = Subject()
    subscription = prompts.pipe(answer_each(answers.ask)).subscribe(received.append)
    for prompt in "abc":
        prompts.on_next(prompt)
        assert eventually(lambda prompt=prompt: received[-1:] == [f"{prompt}1"])  # type: ignore[misc]
    assert eventually(lambda: answers.cancelled == ["a", "b"])
    assert len(answers.loops) == 1
    subscription.dispose()
    assert eventually(lambda: answers.cancelled == ["a", "b", "c"])
    assert eventually(lambda: not our_threads())
    (loop,) = answers.loops
    assert loop.is_closed()


def test_coroutine_that_never_starts_is_closed() -> None:
    """Python would warn of it, which fails the test."""
    prompts: Subject[str] = Subject()

    def ask(prompt: str) -> Awaitable[str]:
        if prompt == "nested":
            prompts.on_next("next")
        return one_item(prompt)

    for _ in range(20):
        subscription = prompts.pipe(answer_each(ask)).subscribe()
        for prompt in ("a", "b", "nested", "c"):
            prompts.on_next(prompt)
        subscription.dispose()
    assert eventually(lambda: not our_threads())
    gc.collect()


def test_async_answers_run_on_the_subscriber_s_loop() -> None:
    answers = Answers()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        prompts = Stream.of(reactivex.concat(reactivex.of("a"), reactivex.never()))
        async for _ in prompts.pipe(answer_each(answers.ask)):
            break
        for _ in range(5):
            await asyncio.sleep(0)
        assert (answers.loops, answers.cancelled) == ({loop}, ["a"])

    run(main())


NAME = contextvars.ContextVar("NAME", default="nobody")


def test_async_answers_run_in_the_context_of_the_subscriber() -> None:
    async def name(_: str) -> str:
        seen = NAME.get()
        NAME.set("changed")
        return seen

    handled: list[str] = []

    def fail(_: str, __: Exception) -> None:
        handled.append(NAME.get())

    prompts: Subject[str] = Subject()
    received: list[str] = []
    context = contextvars.copy_context()
    context.run(NAME.set, "subscriber")
    context.run(prompts.pipe(answer_each(name, "queue")).subscribe, received.append)
    answers = answer_each(lambda _: reactivex.throw(ERROR), "queue", fail)
    context.run(prompts.pipe(answers).subscribe)
    for prompt in "ab":
        prompts.on_next(prompt)
    prompts.on_completed()
    assert eventually(lambda: received == 2 * ["subscriber"])
    assert handled == 2 * ["subscriber"]


# --- answers that fail ---


def failing(prompt: str) -> Stream[str]:
    if prompt == "b":
        return Stream.of(reactivex.concat(reactivex.of("b1"), reactivex.throw(ERROR)))
    return Stream.of(reactivex.of(f"{prompt}1"))


def raising(prompt: str) -> Stream[str]:
    if prompt == "b":
        raise ERROR
    return failing(prompt)


async def failing_later(prompt: str) -> str:
    await asyncio.sleep(0)
    if prompt == "b":
        raise ERROR
    return f"{prompt}1"


@pytest.mark.parametrize("ask", [failing, raising, failing_later])
def test_handled_error_does_not_end_the_conversation(read: Face, ask: Any) -> None:
    handled: list[Any] = []
    prompts = Stream.of(reactivex.of("a", "b", "c"))
    stream = prompts.pipe(answer_each(ask, "queue", lambda *error: handled.append(error)))
    received = read(stream)
    assert [each for each in received if each in ("a1", "c1")] == ["a1", "c1"]
    assert ERROR not in received
    assert handled == [("b", ERROR)]


def test_error_of_the_handler_ends_the_conversation(read: Face) -> None:
    def handle(_: str, __: Exception) -> None:
        raise KeyError

    prompts = Stream.of(reactivex.of("a", "b", "c"))
    received = read(prompts.pipe(answer_each(raising, "queue", handle)))
    assert received[-2] == "a1"
    assert isinstance(received[-1], KeyError)


def test_handler_does_not_receive_errors_of_callbacks(read: Face) -> None:
    handled: list[Any] = []
    prompts = Stream.of(reactivex.of("a", "b"))
    for ask in (failing, one_item):

        def fail(_: str) -> str:
            raise KeyError

        answers: Any = answer_each(ask, "queue", lambda *error: handled.append(error))
        received = read(prompts.pipe(answers, ops.map(fail)))
        assert isinstance(received[-1], KeyError)
    assert handled == []


@pytest.mark.parametrize("ask", [failing, one_item])
def test_handler_does_not_receive_errors_of_on_next(ask: Any) -> None:
    handled: list[Any] = []
    errors: list[Exception] = []

    def on_next(_: str) -> None:
        raise KeyError

    stream = Stream.of(reactivex.of("a", "b")).pipe(
        answer_each(ask, "queue", lambda *error: handled.append(error))
    )
    stream.subscribe(on_next, errors.append)
    assert eventually(lambda: bool(errors))
    assert [type(error) for error in errors] == [KeyError]
    assert handled == []


def test_handler_does_not_receive_the_error_of_the_prompts() -> None:
    handled: list[Any] = []
    errors: list[Exception] = []
    answers = answer_each(failing, on_error=lambda *error: handled.append(error))
    prompts: Subject[str] = Subject()
    prompts.pipe(answers).subscribe(on_error=errors.append)
    prompts.on_error(ERROR)
    assert (errors, handled) == ([ERROR], [])


def test_handler_may_send_the_next_prompt() -> None:
    prompts: Subject[str] = Subject()
    received: list[str] = []
    prompts.pipe(answer_each(failing, on_error=lambda *_: prompts.on_next("c"))).subscribe(
        received.append
    )
    prompts.on_next("b")
    assert received == ["b1", "c1"]


# --- loops that lag ---


class Conversation:
    """Prompts, and answers that the test emits."""

    def __init__(self) -> None:
        self.prompts: Subject[str] = Subject()
        self.answers: dict[str, Subject[str]] = {}
        self.stream = Stream.of(self.prompts).pipe(answer_each(self.answer))

    def answer(self, prompt: str) -> Subject[str]:
        self.answers[prompt] = Subject()
        return self.answers[prompt]

    def begin(self) -> None:
        assert eventually(lambda: bool(self.prompts.observers))
        self.prompts.on_next("a")
        for number in (1, 2, 3):
            self.answers["a"].on_next(f"a{number}")

    def switch(self) -> None:
        self.prompts.on_next("b")
        self.answers["b"].on_next("b1")
        self.answers["b"].on_completed()
        self.prompts.on_completed()


@pytest.mark.parametrize("ends", [True, False])
def test_for_loop_drops_the_old_answer_at_a_switch(ends: bool) -> None:
    case = Conversation()
    thread = threading.Thread(target=case.begin)
    thread.start()
    iterator = iter(case.stream)
    assert next(iterator) == "a1"
    thread.join(BOUND)
    if ends:  # the old answer is complete, and the loop has not read all of it
        case.answers["a"].on_completed()
    case.switch()
    assert [*iterator] == ["b1"]


def test_async_for_loop_drops_the_old_answer_at_a_switch() -> None:
    case = Conversation()

    async def main() -> list[str]:
        iterator = aiter(case.stream.pipe(ops.map(str.upper)))
        first = asyncio.ensure_future(anext(iterator))
        await asyncio.sleep(0)
        case.begin()
        received = [await first]
        case.switch()
        return received + [each async for each in iterator]

    assert run(main()) == ["A1", "B1"]


def test_items_of_queued_answers_are_not_dropped() -> None:
    case = Conversation()
    stream = case.prompts.pipe(answer_each(case.answer, "queue"))
    thread = threading.Thread(target=case.begin)
    thread.start()
    iterator = iter(stream)
    assert next(iterator) == "a1"
    thread.join(BOUND)
    case.prompts.on_next("b")
    case.answers["a"].on_completed()
    case.answers["b"].on_completed()
    case.prompts.on_completed()
    assert [*iterator] == ["a2", "a3"]


def test_error_of_the_prompts_drops_nothing() -> None:
    case = Conversation()
    thread = threading.Thread(target=case.begin)
    thread.start()
    iterator = iter(case.stream)
    assert next(iterator) == "a1"
    thread.join(BOUND)
    case.prompts.on_error(ERROR)
    assert [next(iterator), next(iterator)] == ["a2", "a3"]
    with pytest.raises(RuntimeError, match="it broke"):
        next(iterator)


def test_item_on_its_way_to_the_loop_is_dropped_at_a_switch() -> None:
    case = Conversation()
    on_its_way, proceed = threading.Event(), threading.Event()

    def delay(item: str) -> None:
        if item == "a3":
            on_its_way.set()
            assert proceed.wait(BOUND)

    thread = threading.Thread(target=case.begin)
    thread.start()
    iterator = iter(case.stream.pipe(ops.do_action(delay)))
    assert next(iterator) == "a1"
    assert on_its_way.wait(BOUND)
    case.prompts.on_next("b")
    proceed.set()
    thread.join(BOUND)
    case.answers["b"].on_next("b1")
    case.prompts.on_completed()
    case.answers["b"].on_completed()
    assert [*iterator] == ["b1"]


def test_switch_frees_an_answer_that_waits_for_its_reader() -> None:
    case = Conversation()
    emitted: list[int] = []
    ended = threading.Event()

    def emit() -> None:
        case.begin()
        for number in range(1000):
            case.answers["a"].on_next(f"old {number}")
            emitted.append(number)
        ended.set()

    thread = threading.Thread(target=emit)
    thread.start()
    iterator = iter(case.stream)
    assert next(iterator) == "a1"
    assert eventually(lambda: len(emitted) > 500)
    case.switch()
    assert ended.wait(BOUND)
    thread.join(BOUND)
    assert [*iterator] == ["b1"]
