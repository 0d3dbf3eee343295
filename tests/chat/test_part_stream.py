"""The fluent methods of a run, and of an answer of a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from faces import Face, eventually

from rxmistral import Answer, Conversation, Mistral, Outcome, RunStream, TextDelta, UserMessage
from rxmistral.testing import ReceivedRequest, Script, ScriptedServer, steps

Made = Callable[[str], RunStream | Answer]


def add(a: int) -> int:
    return a + 1


def script(request: ReceivedRequest) -> Script:
    """Returns a call, and then text; "hang" hangs and "drop" breaks."""
    first, last = request.json["messages"][0]["content"], request.json["messages"][-1]
    if last["role"] == "user":
        call = steps.tool_call(name="add", arguments='{"a": 1}')
        return [steps.thinking("Hm"), "Wait. ", call, *end("tool_calls")]
    if first in ("hang", "drop"):
        return ["It", steps.hang() if first == "hang" else steps.drop()]
    return ["It is 2.", *end("stop")]


def end(reason: str) -> Script:
    return [steps.finish(reason), steps.usage(10, 2), steps.done()]


@pytest.fixture(params=["run", "ask"])
def make(request: pytest.FixtureRequest) -> Iterator[Made]:
    def run(prompt: str) -> RunStream:
        return client.chat.run(model="m", messages=[UserMessage(content=prompt)], tools=[add])

    def ask(prompt: str) -> Answer:
        return Conversation(client, model="m", tools=[add]).ask(prompt)

    with ScriptedServer(script) as server, Mistral(server_url=server.url, api_key="k") as client:
        yield run if request.param == "run" else ask


def test_methods_return_the_texts_and_totals_of_the_parts(make: Made) -> None:
    with make("hi") as stream:
        assert stream.text().join().run() == "Wait. It is 2."
        assert list(stream.thinking()) == ["Hm"]
        assert [call.function.name for call in stream.tool_calls()] == ["add"]
        (usage,) = stream.usage()
        assert (usage.prompt_tokens, usage.total_tokens) == (20, 24)
        assert list(stream.finish_reason()) == ["stop"]
        assert stream.parts() is stream


def test_method_of_completions_is_refused_with_the_remedy(make: Made) -> None:
    with pytest.raises(AttributeError, match=r"has no deltas\(\): a run emits parts"):
        make("hi").deltas()  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("prompt", ["hi", "drop"])
def test_outcome_is_reported_once_at_the_end(make: Made, prompt: str, read: Face) -> None:
    outcomes: list[Outcome] = []
    stream = make(prompt)
    read(stream.on_outcome(outcomes.append))
    (outcome,) = outcomes
    assert outcome is stream.outcome
    assert (outcome.status, outcome.requests) == ("completed" if prompt == "hi" else "dropped", 2)


def test_outcome_is_reported_when_the_reader_leaves(make: Made) -> None:
    outcomes: list[Outcome] = []
    for part in make("hang").on_outcome(outcomes.append):
        if part == TextDelta("It"):
            break
    assert eventually(lambda: len(outcomes) == 1)
    assert outcomes[0].status == "cancelled"


def test_error_of_an_outcome_callback_is_that_of_the_stream(make: Made, read: Face) -> None:
    def fail(_: Outcome) -> None:
        raise LookupError

    assert isinstance(read(make("hi").on_outcome(fail).text())[-1], LookupError)
