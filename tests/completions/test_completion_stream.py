"""CompletionStream: the operators on completions as methods, and what they return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import reactivex
from faces import FACES, Face, run

from rxmistral import (
    EventStream,
    Mistral,
    Outcome,
    Stream,
    TextStream,
    UserMessage,
    completions,
    fallback,
    hedge,
    text,
    until_finished,
)
from rxmistral.completions.completion_stream import CompletionStream
from rxmistral.testing import ScriptedServer, steps
from rxmistral.wire import ServerSentEvent

HELLO = [steps.role(), "Hel", "lo. You", steps.finish(usage=(3, 2)), steps.done()]


ASK: dict[str, Any] = {"model": "m", "messages": [UserMessage(content="Hi")]}


@pytest.fixture
def client() -> Iterator[Mistral]:
    with ScriptedServer(lambda _: HELLO) as server, Mistral(server_url=server.url) as client:
        yield client


@pytest.fixture
def answer(client: Mistral) -> EventStream:
    return client.chat.stream(**ASK)


@pytest.mark.parametrize("read", FACES.values(), ids=FACES)
def test_methods_return_the_items_of_the_operators(answer: EventStream, read: Face) -> None:
    assert read(answer.text()) == ["Hel", "lo. You"]
    assert read(answer.text().sentences()) == ["Hello. ", "You"]
    assert [usage.total_tokens for usage in read(answer.usage())] == [5]


def test_each_method_emits_its_items(answer: EventStream) -> None:
    assert [delta.content for delta in answer.deltas()] == ["", "Hel", "lo. You", ""]
    assert list(answer.thinking()) == list(answer.tool_calls()) == []
    assert answer.finish_reason().run() == "stop"
    assert answer.snapshots().run().choices == answer.to_response().run().choices
    assert answer.to_response().run().choices[0].message.content == "Hello. You"


def test_methods_that_pass_completions_keep_their_methods(answer: EventStream) -> None:
    outcomes: list[Outcome] = []
    passed = answer.on_outcome(outcomes.append).until_finished()
    assert type(passed) is CompletionStream
    assert isinstance(passed.text(), TextStream)
    assert "".join(passed.text().words()) == "Hello. You"
    assert [outcome.status for outcome in outcomes] == ["completed"]


def test_pipes_return_the_same_types_as_methods(answer: EventStream) -> None:
    assert type(answer.pipe(until_finished())) is CompletionStream
    assert answer.pipe(until_finished(), text()).sentences().run() == "You"
    assert type(answer.map(id)) is Stream


def test_streams_of_an_answer_share_its_outcome(answer: EventStream) -> None:
    piped = answer.until_finished().text().words()
    assert piped.outcome is None
    piped.run()
    assert piped.outcome is answer.outcome is not None


def test_fallback_and_hedge_have_the_methods(answer: EventStream) -> None:
    assert fallback(answer, answer).text().run() == "lo. You"
    assert hedge(answer, delay=1).finish_reason().run() == "stop"


def test_decoded_completions_have_the_methods() -> None:
    hello = ServerSentEvent(data='{"choices": [{"delta": {"content": "Hi"}}]}')
    events = reactivex.of(hello, ServerSentEvent(data="[DONE]"))
    assert events.pipe(completions()).text().run() == "Hi"


def test_async_streams_have_the_methods(client: Mistral) -> None:
    async def read() -> str:
        return await client.chat.stream_async(**ASK).text().sentences()

    assert run(read()) == "You"
