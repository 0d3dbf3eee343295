"""An answer that is closed while an operator reads it among other sources."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import reactivex
from faces import BOUND, FACES, Face
from reactivex import operators as ops

from rxmistral import Conversation, Mistral, StoppedError, Stream, UserMessage, answer_each
from rxmistral.testing import Script, ScriptedServer, steps

BEGUN: Script = [steps.role(), "Hel", steps.hang()]

ANSWERS: dict[str, Callable[[Mistral], Any]] = {
    "chat.stream": lambda client: client.chat.stream(model="small", messages=MESSAGES),
    "chat.run": lambda client: client.chat.run(model="small", messages=MESSAGES),
    "Conversation.ask": lambda client: Conversation(client, model="small").ask("Hi"),
    "text": lambda client: client.chat.stream(model="small", messages=MESSAGES).text(),
}

MESSAGES = [UserMessage(content="Hi")]

soon = reactivex.timer(0.001)

READERS: dict[str, Callable[[Stream[Any]], Any]] = {
    "merge": lambda answer: reactivex.merge(reactivex.never(), answer),
    "merge of a pipe": lambda answer: reactivex.merge(answer.pipe(ops.map(id)), reactivex.never()),
    "concat": lambda answer: reactivex.concat(soon, answer),
    "flat_map": lambda answer: soon.pipe(ops.flat_map(lambda _: answer)),
    "flat_map at once": lambda answer: reactivex.just(1).pipe(ops.flat_map(lambda _: answer)),
    "switch_latest": lambda answer: soon.pipe(ops.map(lambda _: answer), ops.switch_latest()),
    "zip": lambda answer: reactivex.zip(answer, reactivex.never()),
    "take_until": lambda answer: reactivex.never().pipe(ops.take_until(answer.pipe(ops.skip(9)))),
    "answer_each": lambda answer: reactivex.just(1).pipe(answer_each(lambda _: answer)),
    "shared": lambda answer: reactivex.merge(answer.shared(), reactivex.never()),
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda _: BEGUN) as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Mistral]:
    with Mistral(server_url=server.url) as client:
        yield client


def ending_of(read: Face, stream: Stream[Any], stop: Callable[[], object]) -> Any:
    """Returns how reading ends if another thread calls `stop` meanwhile."""
    endings: list[Any] = []
    thread = threading.Thread(target=lambda: endings.append(read(stream)[-1]))
    thread.start()
    stop()
    thread.join(BOUND)
    return endings[0] if endings else "none"


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("face", ["subscribe", "for", "async for"])
@pytest.mark.parametrize("reader", READERS)
def test_operator_gets_an_error_when_its_answer_is_closed(
    reader: str, face: str, answer: str, client: Mistral, server: ScriptedServer
) -> None:
    closed = ANSWERS[answer](client)

    def close() -> None:
        server.wait_for_requests(1)
        closed.close()

    stream = Stream.of(READERS[reader](closed))
    assert isinstance(ending_of(FACES[face], stream, close), StoppedError)
    assert server.requests[0].wait_closed()


@pytest.mark.parametrize("answer", ANSWERS)
def test_operator_gets_an_error_at_the_end_of_the_block(
    answer: str, client: Mistral, server: ScriptedServer
) -> None:
    opened = ANSWERS[answer](client)
    opened.__enter__()

    def leave() -> None:
        server.wait_for_requests(1)
        opened.__exit__(None, None, None)

    stream = Stream.of(READERS["flat_map"](opened))
    assert isinstance(ending_of(FACES["for"], stream, leave), StoppedError)


def test_error_follows_the_item_that_is_being_emitted(client: Mistral) -> None:
    answer = ANSWERS["text"](client)
    received: list[Any] = []
    is_emitting, may_return, ended = threading.Event(), threading.Event(), threading.Event()

    def on_next(token: str) -> None:
        is_emitting.set()
        may_return.wait(BOUND)
        received.append(token)

    def on_error(error: Exception) -> None:
        received.append(type(error))
        ended.set()

    merged = reactivex.merge(answer, reactivex.never())
    Stream.of(merged).subscribe(on_next, on_error)
    assert is_emitting.wait(BOUND)
    answer.close()
    assert not ended.is_set()
    may_return.set()
    assert ended.wait(BOUND)
    assert received == ["Hel", StoppedError]


def test_callback_closes_the_answer_that_it_receives(client: Mistral) -> None:
    answer = ANSWERS["text"](client)
    received: list[Any] = []
    ended = threading.Event()

    def on_next(token: str) -> None:
        answer.close()
        received.append(token)

    def on_error(error: Exception) -> None:
        received.append(type(error))
        ended.set()

    Stream.of(reactivex.merge(answer, reactivex.never())).subscribe(on_next, on_error)
    assert ended.wait(BOUND)
    assert received == ["Hel", StoppedError]


def test_subscription_of_the_program_ends_without_a_terminal(
    client: Mistral, server: ScriptedServer
) -> None:
    answer = ANSWERS["chat.stream"](client)
    began = threading.Event()
    ends: list[Any] = []
    piped = answer.pipe(ops.merge(reactivex.never()), ops.retry(), ops.delay_subscription(0.001))
    subscription = piped.subscribe(lambda _: began.set(), ends.append, lambda: ends.append("|"))
    assert began.wait(BOUND)
    answer.close()
    assert subscription.is_stopped
    assert server.requests[0].wait_closed()
    assert server.wait_idle(BOUND)
    assert len(server.requests) == 1  # it is not asked again
    assert not ends


def test_close_ends_all_subscriptions_if_one_of_them_raises(
    client: Mistral, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_type))
    answer = ANSWERS["chat.stream"](client)
    piped = answer.pipe(ops.finally_action(lambda: 1 // 0))
    subscriptions = [piped.subscribe() for _ in range(3)]
    merged = Stream.of(reactivex.merge(answer, reactivex.never()))
    subscriptions += [merged.subscribe(on_error=lambda _: 1 // 0) for _ in range(3)]
    answer.close()
    assert all(each.is_stopped for each in subscriptions)
    assert reported == [ZeroDivisionError] * 6


def test_loop_over_a_delayed_pipe_of_the_answer_ends(
    client: Mistral, server: ScriptedServer
) -> None:
    answer = ANSWERS["chat.stream"](client)

    def close() -> None:
        server.wait_for_requests(1)
        answer.close()

    piped = answer.pipe(ops.delay_subscription(0.001), ops.map(lambda _: "token"))
    assert ending_of(lambda stream: ["|", *stream], piped, close) in ("|", "token")


def test_next_prompt_is_answered_after_an_answer_is_closed(
    client: Mistral, server: ScriptedServer
) -> None:
    chat = Conversation(client, model="small")
    answers: list[Any] = []
    failed: list[tuple[int, Exception]] = []

    def ask(prompt: int) -> Any:
        answers.append(chat.ask(str(prompt)))
        return answers[-1].text()

    def close_each() -> None:
        for number in (1, 2):
            server.wait_for_requests(number)
            answers[number - 1].close()

    def on_error(prompt: int, error: Exception) -> None:
        failed.append((prompt, error))

    stream = Stream.of(reactivex.of(1, 2)).pipe(answer_each(ask, "queue", on_error))
    assert ending_of(lambda stream: ["|", *stream], stream, close_each) in ("|", "Hel")
    assert [(prompt, type(error)) for prompt, error in failed] == [
        (1, StoppedError),
        (2, StoppedError),
    ]
